"""The dataset card beside an export that Hugging Face's `datasets` loads: README.md.

Its YAML head is what the hub and `load_dataset(FOLDER)` read: the files of the split, so that no
other file is taken for data; features, so that types are not guessed; rows, which are checked. The
text below says where the samples come from and how they were chosen.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml

CARD = "README.md"
# Of the hub's identifiers those whose licence permits training on the text; others are `other`.
LICENSES = ("apache-2.0", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "mit", "odc-by")
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}

Manifest = Mapping[str, Any]


def dataset_card(
    manifest: Manifest, schema: pa.Schema, settings: Mapping[str, Any], notes: Sequence[str] = ()
) -> str:
    """README.md of an export: `manifest` is its _manifest.json, `settings` how it was selected,
    `notes` what a reader would miss."""
    head = yaml.safe_dump(_head(manifest, schema), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n{_body(manifest, settings, notes)}"


def _head(manifest: Manifest, schema: pa.Schema) -> dict[str, Any]:
    names = [file["name"] for file in manifest["files"]]
    suffix = names[0].rpartition("/")[2].partition(".")[2] if names else "*"
    split = {"name": "train", "num_bytes": manifest["bytes"], "num_examples": manifest["samples"]}
    return {
        **card_license(manifest),
        "tags": ["longattn", "long-context"],
        "task_categories": ["text-generation"],
        "size_categories": [_size(manifest["samples"])],
        "configs": _configs(sorted({name.rpartition("/")[0] for name in names}), suffix),
        "dataset_info": {
            "features": features(schema),
            "splits": [split],
            "download_size": manifest["bytes"],
            "dataset_size": manifest["bytes"],
        },
    }


def _configs(folders: Sequence[str], suffix: str) -> list[dict[str, Any]]:
    """What `load_dataset` may be asked for: all samples, and those of each domain's folder."""
    apart = [folder for folder in folders if folder]
    places = {"default": "*/" if apart else ""}
    places |= {f"{folder} alone" if folder in places else folder: f"{folder}/" for folder in apart}
    return [
        {
            "config_name": name,
            "data_files": [{"split": "train", "path": f"{place}train-*.{suffix}"}],
        }
        for name, place in places.items()
    ]


def features(schema: pa.Schema) -> list[dict[str, Any]]:
    """Columns as the hub writes them.

    >>> features(pa.schema([("n", pa.int64()), ("ids", pa.list_(pa.int32()))]))
    [{'name': 'n', 'dtype': 'int64'}, {'name': 'ids', 'list': 'int32'}]
    """
    return [{"name": field.name, **_type(field.type)} for field in schema]


def _type(type_: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(type_):
        inner = _type(type_.value_type)
        return {"list": inner.get("dtype") or inner["struct"]}
    if pa.types.is_struct(type_):
        return {"struct": features(pa.schema(list(type_)))}
    return {"dtype": {"double": "float64"}.get(str(type_), str(type_))}


def card_license(manifest: Manifest) -> dict[str, Any]:
    """The one licence of all sources if the hub has a name for it."""
    licenses = {source["license"] for _, source in _sources(manifest)}
    only = str(next(iter(licenses))).lower() if len(licenses) == 1 else ""
    return {"license": only if only in LICENSES else "other"}


def _sources(manifest: Manifest) -> list[tuple[str, dict[str, Any]]]:
    return [(d, source) for d, entry in manifest["domains"].items() for source in entry["sources"]]


def _size(samples: int) -> str:
    return next((name for below, name in SIZES.items() if samples < below), "n>1M")


def _context(manifest: Manifest) -> list[str]:
    """How far back the tokens see: exports of packed short text see less than their length."""
    masked, unmasked = manifest["context"]["masked"], manifest["context"]["unmasked"]
    rows = [
        f"| {int(least):,} to {2 * int(least) - 1:,} | {_share(masked, least)}"
        f" | {_share(unmasked, least)} |"
        for least in unmasked["octaves"]
    ]
    return [
        "## Context",
        "",
        f"Half of the target tokens have fewer than {masked['half_below']:,} tokens before them to"
        f" attend to, where attention stays within the stretches of `seq_lens`; without such masks"
        f" fewer than {unmasked['half_below']:,}.",
        "",
        "| tokens before | share of targets, with masks | without |",
        "|---|---|---|",
        *rows,
        "",
        *_far_gain(manifest),
    ]


def _far_gain(manifest: Manifest) -> list[str]:
    """How much of what recall counts a shorter context would lose."""
    shares = manifest.get("far_gain")
    if not shares:
        return []
    listed = ", ".join(f"{of:.0%} from {int(d):,}" for d, of in shares.items())
    words = "Of what counts of n-grams gain from far context, by tokens back and farther"
    return [f"{words}: {listed}.", ""]


def _lengths(manifest: Manifest) -> list[str]:
    """Samples by the most tokens that they have, where they are of several lengths."""
    if "lengths" not in manifest:
        return []
    rows = [
        f"| {int(most):,} | {of['samples']:,} | {of['tokens']:,} |"
        for most, of in manifest["lengths"].items()
    ]
    return ["| tokens, at most | samples | tokens in all |", "|---|---|---|", *rows, ""]


def _packed_scorer(manifest: Manifest) -> list[str]:
    packed = manifest.get("packed_scorer")
    return [f"- scorer of packed windows: `{packed}`"] if packed else []


def _share(counted: Manifest, octave: str) -> str:
    return f"{counted['octaves'].get(octave, 0) / max(counted['targets'], 1):.1%}"


def _cell(text: str) -> str:
    """A text in a table of Markdown."""
    return text.replace("|", "\\|")


def _body(manifest: Manifest, settings: Mapping[str, Any], notes: Sequence[str]) -> str:
    domains = [
        f"| {_cell(name)} | {entry['samples']:,} | {entry['tokens']:,} |"
        for name, entry in manifest["domains"].items()
    ]
    sources = [
        f"| {_cell(domain)} | {_cell(source['name'])} | {_cell(source['license'] or 'not given')} |"
        f" {_cell(', '.join(f'`{path}`' for path in source['path']))} |"
        for domain, source in _sources(manifest)
    ]
    chosen = [f"| `{name}` | {_cell(f'`{value}`')} |" for name, value in settings.items()]
    apart = ", one domain after the other" if manifest.get("by_domain") else ""
    tables = [f"{name} {version}" for name, version in sorted(manifest["tables"].items())]
    lines = [
        f"# {manifest['selection']}",
        "",
        f"{manifest['samples']:,} long windows of {manifest['tokens']:,} tokens, selected and mixed"
        f" by LongAttn on Spark {manifest['longattn']}. Rows are in the order of the mix{apart}.",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        'samples = load_dataset("FOLDER_OR_REPOSITORY", split="train")',
        "```",
        "",
        *(f"{note}.\n" for note in notes),
        "| domain | samples | tokens |",
        "|---|---|---|",
        *domains,
        "",
        *_lengths(manifest),
        *_context(manifest),
        "## Sources",
        "",
        "| domain | source | licence | files |",
        "|---|---|---|---|",
        *sources,
        "",
        "## How they were chosen",
        "",
        f"- scorer: `{manifest['scorer']}`",
        *_packed_scorer(manifest),
        f"- windows and tokenizer: `{manifest['windowing']}`",
        f"- config: `{manifest['config']}`; versions of the tables read: {', '.join(tables)}",
        "",
        "| setting | value |",
        "|---|---|",
        *chosen,
        "",
        "Every file's SHA-256 is in `_manifest.json`.",
        "",
    ]
    return "\n".join(lines)
