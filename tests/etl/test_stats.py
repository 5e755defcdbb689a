"""Column statistics of the log: bounds must bound, whatever is in the file."""

import math
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from longattn.etl.tables.stats import MAX_STRING, file_stats

ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.floats(allow_nan=True),
        st.none() | st.text(alphabet=st.sampled_from("az€\U0010ffff"), max_size=70),
        st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),
    ),
    max_size=12,
)
TYPES = {
    "number": pa.int64(),
    "score": pa.float64(),
    "text": pa.string(),
    "at": pa.timestamp("us", "UTC"),
}


def stats_of(columns: dict[str, Any], **options: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "file.parquet")
        pq.write_table(pa.table(columns), path, row_group_size=3)
        return file_stats(pafs.LocalFileSystem(), path, **options)


def as_value(bound: Any) -> Any:
    """A bound of the log as a value to compare with; timestamps are ISO 8601 there."""
    is_time = isinstance(bound, str) and bound.endswith("Z")
    return datetime.fromisoformat(bound) if is_time else bound


@given(ROWS)
@settings(max_examples=150, deadline=None)
def test_no_value_lies_outside_its_bounds(rows: list[tuple[Any, ...]]) -> None:
    rows = [(*row[:3], row[3].replace(tzinfo=UTC) if row[3] else None) for row in rows]
    columns = {
        name: pa.array([row[i] for row in rows], type_)
        for i, (name, type_) in enumerate(TYPES.items())
    }
    found = stats_of(columns)
    assert found["numRecords"] == len(rows)
    for i, name in enumerate(TYPES):
        values = [row[i] for row in rows if row[i] is not None]
        assert found["nullCount"].get(name, len(rows) - len(values)) == len(rows) - len(values)
        low, high = (as_value(found[side].get(name)) for side in ("minValues", "maxValues"))
        numbers = [v for v in values if not (isinstance(v, float) and math.isnan(v))]
        assert low is None or all(low <= v for v in numbers)
        assert high is None or all(v <= high for v in numbers)


def test_bounds_of_long_strings_are_short() -> None:
    found = stats_of({"text": ["a" * 1000, "b" * 1000]})
    assert found["minValues"]["text"] == "a" * MAX_STRING
    assert found["maxValues"]["text"] == "b" * MAX_STRING + "\U0010ffff"


def test_bounds_are_there_where_they_can_be() -> None:
    """The property above holds for no bounds at all: so these must be given."""
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    found = stats_of({"number": [3, None, 1, 2], "at": pa.array([at] * 4, TYPES["at"])})
    assert (found["minValues"]["number"], found["maxValues"]["number"]) == (1, 3)
    assert found["nullCount"] == {"number": 1, "at": 0}
    assert found["maxValues"]["at"] == "2026-01-02T03:04:05.678901Z"


def test_long_and_nested_columns_have_none() -> None:
    found = stats_of({"id": [1], "text": ["t"], "ids": [[1, 2]]}, indexed=["id", "ids"])
    assert found["maxValues"] == {"id": 1} and set(found["nullCount"]) == {"id"}
