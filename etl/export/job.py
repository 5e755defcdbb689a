"""Job export: the current selection in each format the config names; rows are samples."""

import json
import os
import uuid
from itertools import groupby
from typing import Any

from pyspark.sql import DataFrame

from longattn import udfs
from longattn.etl.config import Config, ExportTarget
from longattn.etl.config.identity import decisive
from longattn.etl.export import FORMATS
from longattn.etl.export import samples as stage
from longattn.etl.export.card import CARD, dataset_card
from longattn.etl.export.files import MANIFEST, Folder, described, files_of
from longattn.etl.export.formats import Format, Options
from longattn.etl.export.places import refuse
from longattn.etl.export.write import Written, write_shards
from longattn.etl.ranking.contenders import fingerprint
from longattn.etl.ranking.far import far_gain
from longattn.etl.ranking.strata import bound
from longattn.etl.run.context import Context, Outcome
from longattn.etl.run.figures import Figures, FormatFigures
from longattn.etl.run.recipe import Recipe
from longattn.etl.selection.current import current_selection
from longattn.etl.tables.locations import is_catalog_name
from longattn.udfs.digest import fields_digest, hex_digest
from longattn.udfs.errors import ExportError, LedgerError
from longattn.udfs.scorers.registry import scorer_version
from longattn.udfs.text.tokens import separator_id
from longattn.udfs.text.words import NAME as WORDS

NO_IDS = f"tokenizer {WORDS}: its ids are hashes that no model knows"
LAYOUT = 4  # of the files and their fields: an export of another is written again


def run(context: Context) -> Outcome:
    """Export to every target configured; one that is there already is left as it is."""
    targets = context.config.export.targets
    if not targets:
        context.progress.say("export: no format is configured; set export.parquet.path, for one")
        return Outcome(rows_in=0, rows_out=0)
    refuse(context.config)
    if not knows_ids(context.config):
        context.progress.say(f"export: {NO_IDS}: input_ids are left out")
    name, selection = current_selection(context)
    n_samples = stage.count(selection)
    counts: dict[str, FormatFigures] = {}
    for format_name, target in targets.items():
        manifest = export(context, name, selection, format_name, target)
        sums = {key: manifest[key] for key in ("samples", "tokens", "bytes")}
        counts[format_name] = FormatFigures(**sums)
    return Outcome(
        rows_in=n_samples * len(targets),
        rows_out=int(sum(count.samples for count in counts.values())),
        figures=Figures(formats=counts),
    )


def folders_of(context: Context) -> list[Folder]:
    """The places of the configured exports."""
    targets = context.config.export.targets.values()
    return [Folder.at(target.path, owner(context)) for target in targets]


def export(
    context: Context, name: str, selection: DataFrame, format_name: str, target: ExportTarget
) -> dict[str, Any]:
    """Write one format and return its manifest; the same selection again is not rewritten.

    Raises LedgerError, and shows nothing of it, when other samples were written than there are.
    """
    folder = Folder.at(target.path, owner(context))
    identity = identity_of(context, selection, format_name, target)
    present = folder.manifest()
    if present and present["identity"] == identity:
        damage = folder.faults(files_of(present))
        if not damage:
            context.progress.say(f"export: {format_name} in {target.path} is up to date")
            return present
        more = f" and {len(damage) - 1} more" if len(damage) > 1 else ""
        context.progress.say(f"export: {target.path}: {damage[0]}{more}; it is written again")
    length = bound(context.config) if context.config.bounds else None
    plan = stage.plan(selection, target.shard_tokens, target.by_domain, length)
    if not plan.samples:
        raise ExportError(
            f"export {format_name}: selection {name} has no samples; what is in {target.path} stays"
        )
    context.tables.refuse_overtaken()  # before another's staging is deleted as a dead run's
    folder.begin()
    options = _options(context, selection, plan, format_name, target, folder)
    written = _write(context, selection, plan, FORMATS[format_name], options)
    if written.samples != plan.samples:
        raise LedgerError(
            f"export {format_name}: wrote {written.samples} samples of {plan.samples};"
            " are windows of the selection missing?"
        )
    head = {"format": format_name, "identity": identity, "selection": name}
    manifest = head | _manifest(context, plan, written, options)
    manifest["far_gain"] = {str(d): round(of, 4) for d, of in far_gain(context, selection).items()}
    texts = extras_of(FORMATS[format_name], target.path, written.files, options)
    texts |= _card(context, FORMATS[format_name], options, manifest)
    manifest["extras"] = described(texts)
    context.tables.refuse_overtaken()
    folder.publish(written.names, texts | {MANIFEST: json.dumps(manifest, indent=2)})
    return manifest


def extras_of(
    format_: Format, path: str, files: list[dict[str, Any]], options: Options
) -> dict[str, str]:
    """Small files of each folder of data, which a trainer may read alone, by their names."""
    texts: dict[str, str] = {}
    for folder, inside in groupby(files, key=lambda file: file["name"].rpartition("/")[0]):
        here = folder and f"{folder}/"
        named = [file | {"name": file["name"].removeprefix(here)} for file in inside]
        made = format_.extras(f"{path}/{here}".rstrip("/"), named, options)
        texts |= {here + name: text for name, text in made.items()}
    return texts


def _card(
    context: Context, format_: Format, options: Options, manifest: dict[str, Any]
) -> dict[str, str]:
    """The dataset card, by its name, where `datasets` reads the format."""
    if format_.schema is None:
        return {}
    settings = _choices(context)
    notes = [] if options.with_ids else [f"{NO_IDS}: `input_ids` are left out"]
    return {CARD: dataset_card(manifest, format_.schema(options), settings, notes)}


def _options(
    context: Context,
    selection: DataFrame,
    plan: stage.Plan,
    format_name: str,
    target: ExportTarget,
    folder: Folder,
) -> Options:
    config, windows = context.config, context.tables.read("windows")
    bare = FORMATS[format_name].bare
    return Options(
        folder=folder,
        compression=target.compression,
        prefix=target.prefix,
        tokenizer=config.tokenizer_path,
        largest_id=stage.largest_id(selection, windows) if bare else 0,
        with_ids=knows_ids(config),
        attend_across=config.pack.attend_across,
        separator=_separator(config) if bare else None,
        longest=plan.longest,
        position_ids=target.position_ids,
        token_column=target.token_column,
        text_key=target.text_key,
    )


def _separator(config: Config) -> int | None:
    """The token that stands between documents; None where none are packed."""
    if not config.pack.domains:
        return None
    return separator_id(config.tokenizer_path, config.pack.separator)


def knows_ids(config: Config) -> bool:
    """Whether token ids are of a vocabulary, so that a model can be trained on them."""
    return config.tokenizer_path != WORDS


def ranker(recipe: Recipe) -> str:
    """What the exported score is of: a scorer's version, several with weights, or `length`."""
    select = recipe.config.select
    if select.distance:
        return f"{scorer_version(recipe.spec('recall'))}: {recipe.ranking}"
    if len(select.by_scorers) == 1 and not isinstance(select.by, dict):
        (name,) = select.by_scorers
        return name if ":" in name else scorer_version(recipe.spec(name))
    return recipe.scoring if select.by in (None, "lds", "ds", "du") else recipe.ranking


def packed_ranker(recipe: Recipe) -> str | None:
    """What the score of packed windows is of; None where they have none."""
    if recipe.cross_gain is None:
        return None
    at_random = recipe.config.select.by == "random"
    return ranker(recipe) if at_random else scorer_version(recipe.cross_gain)


def _write(
    context: Context, selection: DataFrame, plan: stage.Plan, format_: Format, options: Options
) -> Written:
    rows = stage.samples(
        selection,
        context.tables.read("windows"),
        context.tables.read("documents"),
        columns=[c for c in format_.columns if options.with_ids or c != "token_ids"],
        scorer=ranker(context.recipe),
        packed_scorer=packed_ranker(context.recipe),
        plan=plan,
    )
    return write_shards(rows, plan, format_, options)


def owner(context: Context) -> str:
    """Runs that hold one root in turn share a name; without a lease each has its own."""
    root = context.config.tables.root
    name = uuid.uuid4().hex if is_catalog_name(root) else os.path.abspath(root)
    return hex_digest(name)[:8]


def _choices(context: Context) -> dict[str, Any]:
    """How the samples were chosen: the settings of select and mix that are no defaults."""
    return {
        f"{section}.{key}": value
        for section in ("select", "mix")
        for key, value in getattr(context.config, section).model_dump(exclude_defaults=True).items()
    }


def identity_of(
    context: Context, selection: DataFrame, format_name: str, target: ExportTarget
) -> str:
    """A hash of everything that is written into an export: its data, its manifest and its card."""
    config = context.config
    return fields_digest(
        version=udfs.__version__,
        layout=LAYOUT,
        format=format_name,
        target=decisive(target),
        place=target.path if FORMATS[format_name].names_place else None,
        attend_across=config.pack.attend_across,
        rows=list(fingerprint(selection).first() or ()),
        scorer=ranker(context.recipe),
        packed_scorer=packed_ranker(context.recipe),
        far_gain=context.recipe.recall,
        windowing=context.recipe.windowing,
        sources=_sources(config),
        choices=_choices(context),
    )[:16]


def _sources(config: Config) -> dict[str, list[dict[str, Any]]]:
    """What the manifest says of the sources of each domain."""
    return {
        domain: [{"name": s.name or domain, "license": s.license, "path": s.path} for s in sources]
        for domain, sources in config.sources.items()
    }


def _manifest(
    context: Context, plan: stage.Plan, written: Written, options: Options
) -> dict[str, Any]:
    config, sources = context.config, _sources(context.config)
    packed = packed_ranker(context.recipe)
    return {
        "longattn": udfs.__version__,
        "config": config.hash,
        "scorer": ranker(context.recipe),
        **({"packed_scorer": packed} if packed else {}),
        "windowing": context.recipe.windowing,
        "tables": dict(context.tables.versions_read),
        "samples": written.samples,
        "tokens": written.tokens,
        "bytes": sum(file["bytes"] for file in written.files),
        "sequence_length": plan.longest,
        "separator": options.separator,
        "context": written.context,
        "by_domain": None not in plan.shards,
        "domains": {d: n | {"sources": sources.get(d, [])} for d, n in plan.domains.items()},
        **({"lengths": plan.lengths} if plan.lengths else {}),
        "files": written.files,
    }
