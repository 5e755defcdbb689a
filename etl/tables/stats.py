"""Statistics of a Parquet file, as Delta's log keeps them: row count, null counts, bounds."""

import math
from collections.abc import Collection, Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow.fs as pafs
import pyarrow.parquet as pq

MAX_STRING = 32  # characters of a bound; longer ones would fill the log (delta-io/delta-rs#2427)
AFTER_ANY_CHARACTER = "\U0010ffff"  # makes a shortened maximum an upper bound again


def file_stats(fs: pafs.FileSystem, path: str, skip: Collection[str] = ()) -> dict[str, Any]:
    """numRecords, nullCount, minValues and maxValues from the file's footer.

    Nested columns and those in `skip` have none.
    """
    footer = pq.read_metadata(path, filesystem=fs)
    bounds: dict[str, tuple[Any, Any]] = {}
    nulls: dict[str, int] = {}
    unknown: set[str] = set()
    for name, column in _columns(footer, skip):
        known = column.statistics
        if known is None or not known.has_null_count:
            unknown.add(name)
            continue
        nulls[name] = nulls.get(name, 0) + known.null_count
        if known.has_min_max:
            bounds[name] = _wider(bounds.get(name), (known.min, known.max))
        elif known.num_values:
            unknown.add(name)
    return {
        "numRecords": footer.num_rows,
        "nullCount": {name: count for name, count in nulls.items() if name not in unknown},
        "minValues": _known(((n, _low(b[0])) for n, b in bounds.items()), unknown),
        "maxValues": _known(((n, _high(b[1])) for n, b in bounds.items()), unknown),
    }


def _columns(footer: pq.FileMetaData, skip: Collection[str]) -> Iterator[tuple[str, Any]]:
    for group in range(footer.num_row_groups):
        for index in range(footer.num_columns):
            column = footer.row_group(group).column(index)
            if "." not in column.path_in_schema and column.path_in_schema not in skip:
                yield column.path_in_schema, column


def _wider(one: tuple[Any, Any] | None, other: tuple[Any, Any]) -> tuple[Any, Any]:
    return other if one is None else (min(one[0], other[0]), max(one[1], other[1]))


def _known(values: Any, unknown: set[str]) -> dict[str, Any]:
    return {name: value for name, value in values if value is not None and name not in unknown}


def _low(value: Any) -> Any:
    return value[:MAX_STRING] if isinstance(value, str) else _json(value)


def _high(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_STRING:
        return value[:MAX_STRING] + AFTER_ANY_CHARACTER
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> Any:
    """A bound as JSON; None where JSON has no such value."""
    if isinstance(value, datetime):
        return None  # the log keeps milliseconds: a bound cut to them would be none
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return None if isinstance(value, (bytes, Decimal)) else value
