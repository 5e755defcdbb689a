"""Job export: the current selection in each format the config names; rows are samples."""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any

from pyspark.sql import DataFrame

from longattn import udfs
from longattn.etl.config import Config, ExportTarget
from longattn.etl.config.identity import decisive
from longattn.etl.export import FORMATS
from longattn.etl.export import samples as stage
from longattn.etl.export.card import CARD, dataset_card
from longattn.etl.export.files import MANIFEST, SUMS, Folder, described, files_of
from longattn.etl.export.formats import Format, Options
from longattn.etl.export.places import refuse
from longattn.etl.export.write import Written, targets_by_context, write_shards
from longattn.etl.ranking.contenders import fingerprint
from longattn.etl.ranking.far import far_gain
from longattn.etl.ranking.strata import bound
from longattn.etl.run.context import Context, Outcome, TableSet
from longattn.etl.run.figures import Figures, FormatFigures
from longattn.etl.selection.current import current_selection, recall_of, scored_by
from longattn.etl.tables.locations import is_catalog_name
from longattn.udfs.digest import fields_digest, hex_digest
from longattn.udfs.errors import ExportError, LedgerError
from longattn.udfs.storage import resolved
from longattn.udfs.text.tokens import separator_id, vocabulary
from longattn.udfs.text.words import NAME as WORDS
from longattn.udfs.windows.segments import balanced_weights

NO_IDS = f"tokenizer {WORDS}: its ids are hashes that no model knows"
LAYOUT = 5  # of the files and their fields: an export of another is written again


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A selection, and what the manifests of its exports say of it."""

    name: str
    rows: DataFrame  # of `selections`
    scorer: str  # what gave the exported score
    packed_scorer: str | None  # what gave that of packed windows
    recall: str | None  # the version of recall that was asked
    scores: DataFrame  # the table
    windowing: str
    settings: dict[str, Any]  # of select and mix, those that are no defaults
    sources: dict[str, list[dict[str, Any]]]  # of each domain

    @cached_property
    def far_gain(self) -> dict[str, float]:
        """Shares of the mix's far gain by distance, as JSON has them; counted once for a run."""
        shares = far_gain(self.scores, self.recall, self.rows)
        return {str(distance): round(share, 4) for distance, share in shares.items()}


def run(context: Context) -> Outcome:
    """Export to every target configured; one that is there already is left as it is."""
    targets = context.config.export.targets
    if not targets:
        context.progress.say("export: no format is configured; set export.parquet.path, for one")
        return Outcome(rows_in=0, rows_out=0)
    refuse(context.config)
    if not knows_ids(context.config):
        context.progress.say(f"export: {NO_IDS}: input_ids are left out")
    chosen = chosen_by(context)
    n_samples = stage.count(chosen.rows)
    counts: dict[str, FormatFigures] = {}
    for format_name, target in targets.items():
        manifest = export(context, chosen, format_name, target)
        sums = {key: manifest[key] for key in SUMS}
        counts[format_name] = FormatFigures(**sums)
    return Outcome(
        rows_in=n_samples * len(targets),
        rows_out=int(sum(count.samples for count in counts.values())),
        figures=Figures(formats=counts),
    )


def chosen_by(context: Context) -> Chosen:
    """The selection that the config and the scores of now give."""
    config, (name, rows) = context.config, current_selection(context)
    sections = {"select": config.select, "mix": config.mix}
    own = scored_by(context.recipe, rows)
    return Chosen(
        name=name,
        rows=rows,
        scorer=own or context.recipe.ranker,
        packed_scorer=context.recipe.packed_ranker,
        recall=recall_of(context.recipe, own),
        scores=context.tables.read("scores"),
        windowing=context.recipe.windowing,
        settings={
            f"{section}.{key}": value
            for section, settings in sections.items()
            for key, value in settings.model_dump(exclude_defaults=True).items()
            if key in decisive(settings)
        },
        sources={
            domain: [{"name": s.name or domain, "license": s.license, "path": s.path} for s in each]
            for domain, each in config.sources.items()
        },
    )


def folders_of(config: Config) -> list[Folder]:
    """The places of the configured exports."""
    name = owner(config.tables.root)
    return [Folder.at(target.path, name) for target in config.export.targets.values()]


def export(
    context: Context, chosen: Chosen, format_name: str, target: ExportTarget
) -> dict[str, Any]:
    """Write one format and return its manifest; the same selection again is not rewritten.

    Raises LedgerError, and shows nothing of it, when other samples were written than there are.
    """
    config, tables, format_ = context.config, context.tables, FORMATS[format_name]
    folder = Folder.at(target.path, owner(config.tables.root))
    identity = identity_of(config, chosen, format_name, target)
    if present := _still_there(folder, identity, target.path, context.progress.say):
        context.progress.say(f"export: {format_name} in {target.path} is up to date")
        return present
    length = bound(config) if config.bounds else None
    plan = stage.plan(chosen.rows, target.shard_tokens, target.by_domain, length)
    if not plan.samples:
        raise ExportError(
            f"export {format_name}: selection {chosen.name} has no samples; what is in"
            f" {target.path} stays"
        )
    tables.refuse_overtaken()  # before another's staging is deleted as a dead run's
    with folder.filling():
        written, options = _written(context, chosen, plan, format_name, target, folder)
        contents = {"identity": identity, **_contents(chosen, plan, written, format_, options)}
        manifest = _manifest(context, chosen, format_name, contents)
        texts = extras_of(format_, target.path, written.files, options)
        texts |= _card(chosen, format_, options, manifest)
        manifest["extras"] = described(texts)
        tables.refuse_overtaken()
        folder.publish(written.names, texts | {MANIFEST: json.dumps(manifest, indent=2)})
    return manifest


def _written(
    context: Context,
    chosen: Chosen,
    plan: stage.Plan,
    format_name: str,
    target: ExportTarget,
    folder: Folder,
) -> tuple[Written, Options]:
    """The files that were staged, and the options of their writers."""
    config, tables, format_ = context.config, context.tables, FORMATS[format_name]
    bare = format_.dtype is not None
    largest_id = max(vocabulary(config.tokenizer_path).values()) if bare else 0
    separator = _separator(config) if bare else None
    options = options_of(config, target, folder, largest_id, plan.longest, separator)
    if target.target_weights:
        options = replace(options, target_weights=_target_weights(tables, chosen, plan, options))
    written = _write(tables, chosen, plan, format_, options)
    if written.samples != plan.samples:
        raise LedgerError(
            f"export {format_name}: wrote {written.samples} samples of {plan.samples};"
            " are windows of the selection missing?"
        )
    return written, options


def _target_weights(
    tables: TableSet, chosen: Chosen, plan: stage.Plan, options: Options
) -> tuple[float, ...]:
    """What a target counts in the loss, by octave of its context."""
    counts = targets_by_context(stage.bounds(chosen.rows, tables.read("windows")), options)
    return tuple(balanced_weights(counts, plan.longest).tolist())


def _manifest(
    context: Context, chosen: Chosen, format_name: str, contents: dict[str, Any]
) -> dict[str, Any]:
    """What an export came of, and its contents."""
    return {
        "format": format_name,
        "selection": chosen.name,
        "longattn": udfs.__version__,
        "config": context.config.hash,
        "scorer": chosen.scorer,
        **({"packed_scorer": chosen.packed_scorer} if chosen.packed_scorer else {}),
        "windowing": chosen.windowing,
        "tables": dict(context.tables.versions_read),
        "far_gain": chosen.far_gain,
        **contents,
    }


def _still_there(
    folder: Folder, identity: str, path: str, say: Callable[[str], None]
) -> dict[str, Any] | None:
    """The manifest of the export that is there, where it is the same one and its files are whole.

    Says what is wrong with its files.
    """
    present = folder.manifest()
    if present is None or present.get("identity") != identity:
        return None
    files = present.get("files", [])
    damage = [
        f"{MANIFEST}: {key} is not the sum over its files"
        for key in SUMS
        if present.get(key) != sum(file.get(key, 0) for file in files)
    ]
    damage += folder.faults(files_of(present))
    if not damage:
        return present
    more = f" and {len(damage) - 1} more" if len(damage) > 1 else ""
    say(f"export: {path}: {damage[0]}{more}; it is written again")
    return None


def _write(
    tables: TableSet, chosen: Chosen, plan: stage.Plan, format_: Format, options: Options
) -> Written:
    rows = stage.samples(
        chosen.rows,
        tables.read("windows"),
        tables.read("documents"),
        columns=[c for c in format_.columns if options.with_ids or c != "token_ids"],
        scorer=chosen.scorer,
        packed_scorer=chosen.packed_scorer,
        plan=plan,
    )
    return write_shards(rows, plan, format_, options)


def _card(
    chosen: Chosen, format_: Format, options: Options, manifest: dict[str, Any]
) -> dict[str, str]:
    """The dataset card, by its name, where `datasets` reads the format."""
    if format_.schema is None:
        return {}
    notes = [] if options.with_ids else [f"{NO_IDS}: `input_ids` are left out"]
    return {CARD: dataset_card(manifest, format_.schema(options), chosen.settings, notes)}


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


def options_of(
    config: Config,
    target: ExportTarget,
    folder: Folder,
    largest_id: int,
    longest: int = 0,
    separator: int | None = None,
) -> Options:
    """What the writer of a target needs to know."""
    return Options(
        folder=folder,
        compression=target.compression,
        prefix=target.prefix,
        tokenizer=config.tokenizer_path,
        largest_id=largest_id,
        with_ids=knows_ids(config),
        attend_across=config.pack.attend_across,
        separator=separator,
        longest=longest,
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


def owner(root: str) -> str:
    """Runs that hold one root in turn share a name; without a lease each has its own."""
    return hex_digest(uuid.uuid4().hex if is_catalog_name(root) else resolved(root))[:8]


def identity_of(config: Config, chosen: Chosen, format_name: str, target: ExportTarget) -> str:
    """A hash of everything that is written into an export: its data, its manifest and its card."""
    return fields_digest(
        version=udfs.__version__,
        layout=LAYOUT,
        format=format_name,
        target=decisive(target),
        place=target.path if FORMATS[format_name].names_place else None,
        attend_across=config.pack.attend_across,
        rows=list(fingerprint(chosen.rows).first() or ()),
        scorer=chosen.scorer,
        packed_scorer=chosen.packed_scorer,
        far_gain=chosen.far_gain,
        windowing=chosen.windowing,
        sources=chosen.sources,
        choices=chosen.settings if FORMATS[format_name].schema else None,  # only cards have them
    )[:16]


def _contents(
    chosen: Chosen, plan: stage.Plan, written: Written, format_: Format, options: Options
) -> dict[str, Any]:
    """What the manifest says of the samples and their files."""
    sources = {domain: {"sources": chosen.sources.get(domain, [])} for domain in plan.domains}
    return {
        "samples": written.samples,
        "tokens": written.tokens,
        "bytes": sum(file["bytes"] for file in written.files),
        "sequence_length": plan.longest,
        **for_readers(format_, options),
        "context": written.context,
        "by_domain": None not in plan.shards,
        "domains": {domain: counts | sources[domain] for domain, counts in plan.domains.items()},
        **({"lengths": plan.lengths} if plan.lengths else {}),
        "files": written.files,
    }


def for_readers(format_: Format, options: Options) -> dict[str, Any]:
    """What the manifest says of what a trainer is to be told."""
    dtype = format_.dtype(options.largest_id).name if format_.dtype else None
    return {
        "separator": options.separator,
        "attend_across": options.attend_across,
        **({"dtype": dtype} if dtype else {}),
    }
