"""Tables: what both connectors promise, and what the delta-rs one checks itself.

The native connector runs the same tests where LONGATTN_DELTA_JARS names its jars.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from etl.tables.base import Table, Txn
from etl.tables.delta_rs import DeltaRsTable
from etl.tables.native import NativeTable
from etl.tables.schema import TABLES, TableSpec
from udfs.errors import TableError, UnsupportedTableFeature

pytestmark = pytest.mark.spark

SPEC = TableSpec(
    name="probe",
    key=("id",),
    partition_by=("domain",),
    unindexed=("text", "ids"),
    columns={
        "id": ("bigint", "key"),
        "domain": ("string", "partition"),
        "score": ("double", "a number"),
        "text": ("string", "long"),
        "ids": ("array<int>", "tokens"),
    },
)
Rows = list[tuple[Any, ...]]

native = pytest.param(
    NativeTable,
    id="native",
    marks=pytest.mark.skipif(
        not os.environ.get("LONGATTN_DELTA_JARS"), reason="LONGATTN_DELTA_JARS is not set"
    ),
)


@pytest.fixture(params=[pytest.param(DeltaRsTable, id="delta-rs"), native])
def table(request: pytest.FixtureRequest, spark: Any, tmp_path: Path) -> Table:
    return request.param(spark, SPEC, str(tmp_path / "probe"))


@pytest.fixture
def frame(spark: Any) -> Callable[[Rows], Any]:
    return lambda rows: spark.createDataFrame(rows, SPEC.schema).coalesce(1)


def row(key: int, domain: str | None = "a", text: str = "t") -> tuple[Any, ...]:
    return (key, domain, key / 2, text, [key, key + 1])


def keys(table: Table, version: int | None = None) -> list[int]:
    return sorted(r["id"] for r in table.read(version).collect())


def test_a_table_not_yet_made_is_empty_and_has_no_version(table: Table) -> None:
    assert table.version() is None and table.detail() is None and table.history() == []
    assert table.read().columns == list(SPEC.columns) and table.read().count() == 0


def test_appends_add_up_and_old_versions_stay_readable(table: Table, frame: Any) -> None:
    first = table.append(frame([row(1), row(2, "b")]))
    second = table.append(frame([row(3)]))
    assert (first.rows, second.rows) == (2, 1)
    assert keys(table) == [1, 2, 3] and keys(table, first.version) == [1, 2]
    detail = table.detail()
    assert detail is not None and (detail.rows, detail.version) == (3, second.version)
    assert len(table.history()) >= 2


def test_rows_come_back_as_they_went_in(table: Table, frame: Any) -> None:
    rows = [
        (1, "a", 0.5, "x" * 100_000, [1, 2**31 - 1]),
        (2, None, None, None, None),
        row(3, "ü /=%"),
    ]
    table.append(frame(rows))
    back = {tuple(r)[:1] + (tuple(r)[1:],) for r in table.read().collect() if r["ids"] is None}
    assert back == {(2, (None, None, None, None))}
    assert {
        (r["domain"], r["text"], tuple(r["ids"])) for r in table.read().where("id <> 2").collect()
    } == {
        ("a", "x" * 100_000, (1, 2**31 - 1)),
        ("ü /=%", "t", (3, 4)),
    }


def test_an_append_of_no_rows_makes_the_table(table: Table, frame: Any) -> None:
    assert table.append(frame([])).rows == 0
    assert table.version() is not None and table.read().count() == 0


def test_a_transaction_id_adds_its_rows_once(table: Table, frame: Any) -> None:
    txn = Txn(app_id="batch-1", version=1)
    table.append(frame([row(1)]), txn)
    again = table.append(frame([row(1)]), txn)
    assert again.skipped and again.rows == 0 and keys(table) == [1]
    table.append(frame([row(2)]), Txn(app_id="batch-2", version=1))
    assert keys(table) == [1, 2]


def test_overwrite_and_replace_where(table: Table, frame: Any) -> None:
    table.append(frame([row(1, "a"), row(2, "b")]))
    table.replace_where(frame([row(3, "a"), row(4, "a")]), {"domain": "a"})
    assert keys(table) == [2, 3, 4]
    table.replace_where(frame([]), {"domain": "a"})
    assert keys(table) == [2]
    table.overwrite(frame([row(9, "c")]))
    assert keys(table) == [9]


def test_concurrent_appends_lose_nothing(table: Table, frame: Any) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: table.append(frame([row(key)])), range(8)))
    assert keys(table) == list(range(8))


def test_optimize_and_vacuum_change_no_row(table: Table, frame: Any) -> None:
    for key in range(4):
        table.append(frame([row(key)]))
    table.optimize()
    detail = table.detail()
    assert detail is not None and detail.files == 1
    table.vacuum(retention_hours=0)
    assert keys(table) == [0, 1, 2, 3]


@pytest.fixture
def rs(spark: Any, tmp_path: Path) -> DeltaRsTable:
    return DeltaRsTable(spark, SPEC, str(tmp_path / "rs"))


def test_deltalake_reads_the_same_rows(rs: DeltaRsTable, frame: Any) -> None:
    rs.append(frame([row(1), row(2, "ü /=%"), row(3, None)]))
    theirs = DeltaTable(rs.location).to_pyarrow_table().to_pylist()
    ours = [r.asDict() for r in rs.read().collect()]
    assert sorted(theirs, key=lambda r: r["id"]) == sorted(ours, key=lambda r: r["id"])


def test_rows_written_by_deltalake_are_read(rs: DeltaRsTable, frame: Any) -> None:
    rs.append(frame([row(1)]))
    other = pa.table(
        {
            "id": pa.array([2], pa.int64()),
            "domain": ["b"],
            "score": [0.5],
            "text": ["t"],
            "ids": pa.array([[1]], pa.list_(pa.int32())),
        }
    )
    write_deltalake(rs.location, other, mode="append")
    assert keys(rs) == [1, 2]


def test_statistics_bound_the_values_and_skip_long_columns(rs: DeltaRsTable, frame: Any) -> None:
    rs.append(frame([row(1), row(7)]))
    action = DeltaTable(rs.location).get_add_actions(flatten=True)
    names = set(action.schema.names)
    assert "max.text" not in names or action["max.text"].to_pylist() == [None]
    assert (action["min.id"].to_pylist(), action["max.id"].to_pylist()) == ([1], [7])
    assert DeltaTable(rs.location).file_uris(file_pruning_predicate=[("id", ">", 7)]) == []


def test_columns_other_than_the_tables_are_refused(rs: DeltaRsTable, spark: Any) -> None:
    wrong = spark.createDataFrame(
        [(1, "a", "x", 3)], "id bigint, domain string, score string, z int"
    )
    with pytest.raises(TableError) as caught:
        rs.append(wrong)
    for part in ("text is missing", "z is unknown", "score is string, not double"):
        assert part in str(caught.value)
    assert rs.version() is None


def test_replace_refuses_rows_of_another_partition(rs: DeltaRsTable, frame: Any) -> None:
    rs.append(frame([row(1, "a")]))
    with pytest.raises(TableError, match="was given rows of"):
        rs.replace_where(frame([row(2, "b")]), {"domain": "a"})
    assert keys(rs) == [1]


def test_a_write_that_fails_shows_no_row(rs: DeltaRsTable, spark: Any) -> None:
    rs.append(spark.createDataFrame([row(1)], SPEC.schema))
    broken = rs.read().selectExpr("id", "domain", "score", "raise_error('no') as text", "ids")
    with pytest.raises(Exception, match="no"):
        rs.append(broken)
    assert keys(rs) == [1]


@pytest.mark.parametrize(
    ("configuration", "feature"),
    [
        ({"delta.enableDeletionVectors": "true"}, "deletionVectors"),
        ({"delta.columnMapping.mode": "name"}, "columnMapping"),
    ],
)
def test_features_that_would_mislead_are_refused_by_name(
    rs: DeltaRsTable, configuration: dict[str, str], feature: str
) -> None:
    schema = pa.schema([("id", pa.int64())])
    DeltaTable.create(rs.location, schema, configuration=configuration)
    with pytest.raises(UnsupportedTableFeature, match=feature):
        rs.read()


def test_every_table_of_the_schema_can_be_made(spark: Any, tmp_path: Path) -> None:
    for name in ("documents", "windows", "runs"):
        made = DeltaRsTable(spark, TABLES[name], str(tmp_path / name))
        made.append(made.read())
        assert made.read().schema.simpleString() == TABLES[name].schema.simpleString()
