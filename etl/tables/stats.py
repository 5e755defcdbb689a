"""Statistics of a Parquet file, as Delta's log keeps them: row count, null counts, bounds."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow.fs as pafs
import pyarrow.parquet as pq

MAX_STRING = 32  # characters of a bound; longer ones would fill the log (delta-io/delta-rs#2427)
AFTER_ANY_CHARACTER = "\U0010ffff"  # makes a shortened maximum an upper bound again


@dataclass(frozen=True)
class ColumnStats:
    """Nulls of a column, and its least and greatest value where the file knows them."""

    nulls: int
    low: Any = None
    high: Any = None


def file_stats(
    fs: pafs.FileSystem, path: str, indexed: Collection[str] | None = None
) -> dict[str, Any]:
    """numRecords, nullCount, minValues and maxValues from the file's footer.

    Of the columns `indexed`, or of all but nested ones; a bound that JSON cannot hold is left out.
    """
    footer = pq.read_metadata(path, filesystem=fs)
    merged = {name: _merge(chunks) for name, chunks in _chunks(footer, indexed).items()}
    known = {name: stats for name, stats in merged.items() if stats}
    return {
        "numRecords": footer.num_rows,
        "nullCount": {name: stats.nulls for name, stats in known.items()},
        "minValues": _present({name: _lower_bound(stats.low) for name, stats in known.items()}),
        "maxValues": _present({name: _upper_bound(stats.high) for name, stats in known.items()}),
    }


def _chunks(footer: pq.FileMetaData, indexed: Collection[str] | None) -> dict[str, list[Any]]:
    """Statistics of every flat column, one per row group; None where a group has none."""
    statistics: dict[str, list[Any]] = {}
    for group in map(footer.row_group, range(footer.num_row_groups)):
        for column in map(group.column, range(footer.num_columns)):
            name = column.path_in_schema
            if "." not in name and (indexed is None or name in indexed):
                statistics.setdefault(name, []).append(column.statistics)
    return statistics


def _merge(chunks: Sequence[Any]) -> ColumnStats | None:
    """One column over all row groups; None when a group does not know its nulls."""
    if any(chunk is None or not chunk.has_null_count for chunk in chunks):
        return None
    nulls = sum(chunk.null_count for chunk in chunks)
    filled = [chunk for chunk in chunks if chunk.num_values]
    if not filled or not all(chunk.has_min_max for chunk in filled):
        return ColumnStats(nulls)
    return ColumnStats(nulls, min(c.min for c in filled), max(c.max for c in filled))


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _lower_bound(value: Any) -> Any:
    return value[:MAX_STRING] if isinstance(value, str) else _json(value)


def _upper_bound(value: Any) -> Any:
    if not isinstance(value, str):
        return _json(value)
    if len(value) <= MAX_STRING:
        return value
    bound = value[:MAX_STRING] + AFTER_ANY_CHARACTER
    return bound if bound >= value else None  # the next character may be U+10FFFF itself


def _json(value: Any) -> Any:
    """A bound as JSON; None where JSON has no such value."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # cut to ms, a maximum would be no bound
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return None if isinstance(value, (bytes, Decimal)) else value
