"""What configs are known by: the settings that change rows or bytes, each named here.

A setting that is not named changes no identity, so a new one makes nothing be done again. One that
decides is named here too; while it is None, False or empty it is as if it were not there.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from longattn.udfs.digest import is_set

_SCORER = (
    "model",
    "k",
    "sample_rows",
    "sample_keys",
    "layers",
    "dtype",
    "rope_theta",
    "bos",
    "pairs",
    "stride",
    "variant",
    "background",
    "options",
)
_SELECT = (
    "by",
    "column",
    "distance",
    "where",
    "per_document",
    "fraction",
    "tokens",
    "percentile",
    "threshold",
    "alpha",
    "normalize",
    "support",
    "heads",
)
_SOURCE = ("path", "format", "text", "id", "meta", "name", "license", "where", "include", "exclude")

# model of settings -> its settings that decide
DECIDES: Mapping[str, tuple[str, ...]] = {
    "SourceConfig": (*_SOURCE, "priority"),
    "IngestConfig": ("min_chars", "min_tokens", "max_tokens", "max_bytes"),
    "DedupConfig": ("enabled", "scope", "ngram", "threshold", "permutations", "verify"),
    "WindowConfig": ("length", "k", "strategy", "min_tokens", "max_tokens", "bos"),
    "PackConfig": (
        "domains",
        "strategy",
        "order",
        "repository",
        "path",
        "verify",
        "score",
        "separator",
        "attend_across",
    ),
    "DecontaminateConfig": ("sources", "ngram"),
    "ScorerSettings": _SCORER,
    "ScoreConfig": ("scorer", *_SCORER, "also", "cascade", "domains"),
    "WhereConfig": ("scorer", "measure", "percentile"),
    "SelectConfig": ("name", *_SELECT),
    "MixConfig": ("tokens", "weights", "buckets", "upsample_long", "short", "max_copies"),
    "ExportTarget": (
        "compression",
        "shard_tokens",
        "by_domain",
        "prefix",
        "position_ids",
        "target_weights",
        "token_column",
        "text_key",
    ),
    "ExportConfig": ("parquet", "jsonl", "megatron", "megatron_bridge", "mds", "numpy"),
    "Config": (
        *("sources", "tokenizer", "ingest", "dedup", "window", "pack", "decontaminate", "score"),
        *("select", "mix", "export", "seed"),
    ),
}
# of select.name, a selection's id is no hash
SELECTS = _SELECT


def decisive(settings: BaseModel, names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """The settings of a model that decide, or those named, as plain values; all that are set."""
    names = _names(type(settings)) if names is None else names
    values = {name: _plain(getattr(settings, name)) for name in names}
    return {name: value for name, value in values.items() if is_set(value)}


def _names(model: type[BaseModel]) -> tuple[str, ...]:
    """Those of the model, or of the one that it extends."""
    return next(DECIDES[one.__name__] for one in model.__mro__ if one.__name__ in DECIDES)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return decisive(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
