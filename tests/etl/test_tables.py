"""Tables: what both connectors promise, and what the delta-rs one checks itself.

The native connector runs the same tests where `make jars` has fetched Delta's.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from longattn.etl.config import TablesConfig
from longattn.etl.tables import base
from longattn.etl.tables.base import Table, Txn
from longattn.etl.tables.delta_rs import DeltaRsTable
from longattn.etl.tables.native import NativeTable
from longattn.etl.tables.open import (
    EXTENSION,
    choose_connector,
    is_catalog_name,
    location,
    open_tables,
)
from longattn.etl.tables.schema import RUNS, TABLES, TableSpec
from longattn.udfs.errors import (
    ConcurrentWriteError,
    ConfigError,
    TableError,
    UnsupportedTableFeature,
)

FILE_NAME = "substring_index(input_file_name(), '/', -1) AS file"
LONG = "long text " * 50
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
ODD_DOMAINS = ["ü /=%", "it's", "a%2Fb", "{x}[y]*?", "__x", "1"]
Rows = list[tuple[Any, ...]]

LATER = replace(
    SPEC,
    added=("named",),
    unindexed=(*SPEC.unindexed, "named"),
    columns={**SPEC.columns, "named": ("map<string,double>", "measures")},
)
native = pytest.param(NativeTable, id="native", marks=pytest.mark.jars)


CONNECTORS = [pytest.param(DeltaRsTable, id="delta-rs"), native]


@pytest.fixture(params=CONNECTORS)
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
    assert table.version() is None and table.detail() is None
    assert table.read().columns == list(SPEC.columns) and table.read().count() == 0


def test_appends_add_up_and_old_versions_stay_readable(table: Table, frame: Any) -> None:
    first = table.append(frame([row(1), row(2, "b")]))
    second = table.append(frame([row(3)]))
    assert (first.rows, second.rows) == (2, 1)
    assert keys(table) == [1, 2, 3] and keys(table, first.version) == [1, 2]
    detail = table.detail()
    assert detail is not None and (detail.rows, detail.version) == (3, second.version)


def test_rows_come_back_as_they_went_in(table: Table, frame: Any) -> None:
    rows = [
        (1, "a", 0.5, "x" * 100_000, [1, 2**31 - 1]),
        (2, None, None, None, None),
        *(row(3 + i, domain) for i, domain in enumerate(ODD_DOMAINS)),
    ]
    table.append(frame(rows))
    assert [tuple(r) for r in table.read().orderBy("id").collect()] == rows


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


def noted_in(log: Path) -> Callable[[Iterator[pd.DataFrame]], Iterator[pd.DataFrame]]:
    """Passes rows on, and writes down the id of every row that is evaluated."""

    def noted(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            with log.open("a") as file:
                file.writelines(f"{key}\n" for key in batch["id"])
            yield batch

    return noted


def test_an_append_evaluates_its_rows_once(table: Table, frame: Any, tmp_path: Path) -> None:
    log = tmp_path / "evaluated"
    table.append(frame([row(1), row(2, "b")]).mapInPandas(noted_in(log), SPEC.ddl))
    assert sorted(log.read_text().split()) == ["1", "2"]


def test_a_replaced_partition_may_have_an_odd_name(table: Table, frame: Any) -> None:
    table.append(frame([row(i, domain) for i, domain in enumerate(ODD_DOMAINS)]))
    for i, domain in enumerate(ODD_DOMAINS):
        table.replace_where(frame([row(100 + i, domain)]), {"domain": domain})
    assert keys(table) == [100 + i for i in range(len(ODD_DOMAINS))]


def test_rows_of_named_files_only(table: Table, frame: Any) -> None:
    for rows in ([row(1)], [row(2)], [row(3, "b")]):
        table.append(frame(rows))
    files = {r["id"]: r["file"] for r in table.read().selectExpr("id", FILE_NAME).collect()}
    found = table.read(file_names=[files[1], files[3]]).collect()
    assert sorted(r["id"] for r in found) == [1, 3]
    assert table.read(file_names=[]).count() == 0


def test_overwrite_and_replace_where(table: Table, frame: Any) -> None:
    table.append(frame([row(1, "a"), row(2, "b")]))
    table.replace_where(frame([row(3, "a"), row(4, "a")]), {"domain": "a"})
    assert keys(table) == [2, 3, 4]
    table.replace_where(frame([]), {"domain": "a"})
    assert keys(table) == [2]
    table.overwrite(frame([row(9, "c")]))
    assert keys(table) == [9]


def test_versions_that_move_no_row_have_the_same_rows(table: Table, frame: Any) -> None:
    """A vacuum, a merging of small files and a fence: what was made of the rows is still so."""
    assert table.same_rows(None, None) and not table.same_rows(None, 0)
    table.append(frame([row(1)]))
    left = table.append(frame([row(2)])).version
    table.optimize()
    table.vacuum(retention_hours=0)
    table.fence()
    now = table.version()
    assert now is not None and now >= left + 3
    assert table.same_rows(left, now) and not table.same_rows(left - 1, now)
    assert not table.same_rows(now, left), "a log that has lost its end"
    assert not table.same_rows(now, table.append(frame([row(3)])).version)


@pytest.mark.parametrize(("at_once", "many"), [(2, 100), (2, 3)], ids=["in parts", "all again"])
def test_rows_are_deleted_by_values_however_many(
    table: Table, frame: Any, monkeypatch: pytest.MonkeyPatch, at_once: int, many: int
) -> None:
    monkeypatch.setattr(base, "AT_ONCE", at_once)
    monkeypatch.setattr(base, "MANY", many)
    table.number = iter(range(1, 9)).__next__  # as of one who holds the root
    table.append(frame([row(i, "ab"[i % 2], text=f"it's {i}") for i in range(6)]))
    table.append(frame([row(6, None)]))
    commit = table.delete("text", ["it's 1", "it's 4", "none", "it's 0"])
    assert (commit.rows, commit.version) == (-3, table.version())
    assert keys(table) == [2, 3, 5, 6] and keys(table, 1)[:2] == [0, 1]
    assert table.delete("text", ["it's 1", "none", "nobody"]).rows == 0


def test_concurrent_appends_lose_nothing_and_know_their_versions(table: Table, frame: Any) -> None:
    with ThreadPoolExecutor(4) as pool:
        commits = list(pool.map(lambda key: table.append(frame([row(key)])), range(8)))
    assert keys(table) == list(range(8))
    for key, commit in enumerate(commits):
        assert key in keys(table, commit.version) and key not in keys(table, commit.version - 1)


def test_rows_put_at_once_are_all_there(table: Table, frame: Any, spark: Any) -> None:
    """As two jobs enter theirs in the ledger, which has no partitions that keep them apart."""
    runs = type(table)(spark, RUNS, f"{table.location}-runs")
    rows = [dict.fromkeys(RUNS.columns) | {"run_id": f"r{n}", "job": "score"} for n in range(6)]
    runs.put(rows[0])
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(runs.put, rows[1:]))
    assert sorted(r["run_id"] for r in runs.read().collect()) == [f"r{n}" for n in range(6)]


def texts(table: Table) -> dict[int, str]:
    return {r["id"]: r["text"] for r in table.read().collect()}


def test_a_merge_adds_the_keys_that_are_not_there_and_changes_none(
    table: Table, frame: Any
) -> None:
    assert table.merge(frame([row(1, "a", "first"), row(2, "b", "first")])).rows == 2
    again = table.merge(frame([row(2, "b", "second"), row(3, None, "second")]))
    assert again.rows == 1 and table.version() == again.version
    assert texts(table) == {1: "first", 2: "first", 3: "second"}
    assert table.merge(frame([row(1, "a", "third"), row(3, "a", "third")])).rows == 0
    assert table.merge(frame([])).rows == 0
    assert texts(table) == {1: "first", 2: "first", 3: "second"}


def test_a_merge_keeps_partitions_of_odd_names_and_equal_nulls(
    table: Table, frame: Any, spark: Any
) -> None:
    rows = [row(i, domain) for i, domain in enumerate(ODD_DOMAINS)] + [(None, *row(0)[1:])]
    table.merge(frame(rows))
    assert table.merge(frame([*rows, row(9)])).rows == 1
    found = {tuple(r) for r in table.read().select("id", "domain").collect()}
    assert found == {r[:2] for r in [*rows, row(9)]}


@pytest.mark.parametrize("later", CONNECTORS)
@pytest.mark.parametrize("first", CONNECTORS)
def test_a_column_of_a_later_version_is_null_before_it_is_written(
    first: type[Table], later: type[Table], spark: Any, tmp_path: Path, frame: Any
) -> None:
    """The table goes from one connector to the other with the version, and back."""
    old, new = first(spark, SPEC, str(tmp_path / "t")), later(spark, LATER, str(tmp_path / "t"))
    old.append(frame([row(1)]))
    assert [(r["id"], r["named"]) for r in new.read().collect()] == [(1, None)]
    new.append(spark.createDataFrame([(*row(2), {"a": 0.5})], LATER.schema))
    assert dict(new.read().select("id", "named").collect()) == {1: None, 2: {"a": 0.5}}
    assert keys(new, version=1) == [1] and keys(old) == [1, 2]
    old.append(frame([row(3)]))
    assert {r["id"]: r["named"] for r in new.read().collect()} == {1: None, 2: {"a": 0.5}, 3: None}
    columns = {
        f["name"]: f for f in json.loads(DeltaTable(new.location).schema().to_json())["fields"]
    }
    assert columns["named"]["metadata"]["comment"] == "measures" and columns["named"]["nullable"]


def test_no_table_asks_for_statistics_that_delta_refuses() -> None:
    """Delta's own list: numbers, strings, dates and timestamps (StatisticsCollection.scala)."""
    allowed = {"bigint", "int", "double", "string", "timestamp"}
    for spec in TABLES.values():
        assert {spec.columns[name][0] for name in spec.indexed} <= allowed
    assert "bands" not in TABLES["signatures"].indexed
    assert TABLES["contamination"].indexed == ["window_id", "evaluation"]


def test_a_merge_refuses_a_key_given_twice(table: Table, frame: Any) -> None:
    table.append(frame([row(1)]))
    with pytest.raises(TableError, match="merge was given id=7 2 times"):
        table.merge(frame([row(7), row(8), row(7, "b")]))
    assert keys(table) == [1]


def test_merges_at_once_add_every_key_once(table: Table, frame: Any) -> None:
    batches = [[row(key) for key in range(start, start + 4)] for start in (0, 2, 4, 0)]
    with ThreadPoolExecutor(4) as pool:
        commits = list(pool.map(lambda rows: table.merge(frame(rows)), batches))
    assert keys(table) == list(range(8)) and sum(commit.rows for commit in commits) == 8


def test_optimize_and_vacuum_change_no_row(table: Table, frame: Any) -> None:
    for key in range(4):
        table.append(frame([row(key, text=LONG)]))
    before = [tuple(r) for r in table.read().orderBy("id").collect()]
    assert table.optimize() == {"files_added": 1, "files_removed": 4}
    detail = table.detail()
    assert detail is not None and detail.files == 1
    assert len(table.vacuum(retention_hours=0, dry_run=True)) >= 4
    assert len(table.vacuum(retention_hours=0)) >= 4
    assert [tuple(r) for r in table.read().orderBy("id").collect()] == before
    assert table.read().schema.simpleString() == SPEC.schema.simpleString()


@pytest.mark.jars
def test_a_folder_may_be_relative(
    spark: Any, frame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    NativeTable(spark, SPEC, "data/tables/native").append(frame([row(1)]))
    assert keys(NativeTable(spark, SPEC, str(tmp_path / "data/tables/native"))) == [1]


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
    by_deltalake(rs, 2, "ü /=%")
    assert {r["id"]: r["domain"] for r in rs.read().collect()} == {1: "a", 2: "ü /=%"}


def by_deltalake(rs: DeltaRsTable, key: int, domain: str = "a") -> None:
    """Another program appends a row."""
    other = pa.table(
        {
            "id": pa.array([key], pa.int64()),
            "domain": [domain],
            "score": [0.5],
            "text": ["t"],
            "ids": pa.array([[1]], pa.list_(pa.int32())),
        }
    )
    write_deltalake(rs.location, other, mode="append")


def test_partition_values_come_from_the_log_not_from_folders(rs: DeltaRsTable, frame: Any) -> None:
    """Other writers put files where they like, in folders that say nothing or something else."""
    rs.append(frame([row(1, "a")]))
    log = Path(rs.location) / "_delta_log" / "00000000000000000001.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    (add,) = (action["add"] for action in actions if "add" in action)
    moved = Path(rs.location) / "domain=wrong" / "x y.parquet"
    moved.parent.mkdir()
    (Path(rs.location) / add["path"]).rename(moved)
    add["path"] = "domain=wrong/x%20y.parquet"
    log.write_text("\n".join(map(json.dumps, actions)))
    assert [tuple(r) for r in rs.read().collect()] == [row(1, "a")]


def test_reading_goes_on_after_a_checkpoint(rs: DeltaRsTable, frame: Any) -> None:
    rs.append(frame([row(1, "ü /=%"), row(2, None)]))
    DeltaTable(rs.location).create_checkpoint()
    rs.append(frame([row(3)]))
    assert keys(rs) == [1, 2, 3]


@pytest.mark.parametrize("name", ["my tables", "{x}[1]*"])
def test_a_root_may_be_a_uri_and_have_an_odd_name(
    spark: Any, frame: Any, tmp_path: Path, name: str
) -> None:
    folder = str(tmp_path / name / "probe")
    by_path, by_uri = (DeltaRsTable(spark, SPEC, root) for root in (folder, f"file://{folder}"))
    by_path.append(frame([row(1)]))
    by_uri.append(frame([row(2)]))
    assert keys(by_uri) == keys(by_path) == [1, 2]
    assert {path.name for path in tmp_path.iterdir()} == {name}


def test_a_version_that_is_not_there_is_named(rs: DeltaRsTable, frame: Any) -> None:
    latest = rs.append(frame([row(1)])).version
    with pytest.raises(TableError, match=f"no version 99; the latest is {latest}"):
        rs.read(99)


def test_columns_carry_their_comments(rs: DeltaRsTable, frame: Any) -> None:
    rs.append(frame([row(1)]))
    fields = json.loads(DeltaTable(rs.location).schema().to_json())["fields"]
    comments = {field["name"]: field["metadata"]["comment"] for field in fields}
    assert comments == {name: comment for name, (_, comment) in SPEC.columns.items()}


def test_a_transaction_id_written_twice_at_once_adds_its_rows_once(
    rs: DeltaRsTable, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have looked, and seen nothing, before either commits."""
    rs.append(frame([row(0)]))
    both_have_written, write = threading.Barrier(2), rs._write

    def write_and_wait(df: Any) -> Any:
        files = write(df)
        both_have_written.wait(timeout=60)
        return files

    monkeypatch.setattr(rs, "_write", write_and_wait)
    txn = Txn(app_id="batch", version=1)
    with ThreadPoolExecutor(2) as pool:
        commits = list(pool.map(lambda key: rs.append(frame([row(key)]), txn), (1, 2)))
    assert sorted(commit.skipped for commit in commits) == [False, True]
    assert len(keys(rs)) == 2


def test_a_transaction_id_committed_while_its_rows_were_written_adds_none(
    rs: DeltaRsTable, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other commit is over when ours begins, so deltalake sees no two at a time."""
    rs.append(frame([row(0)]))
    txn, write = Txn(app_id="batch", version=1), rs._write

    def write_late(df: Any) -> Any:
        monkeypatch.setattr(rs, "_write", write)
        assert not rs.append(frame([row(1)]), txn).skipped
        return write(df)

    monkeypatch.setattr(rs, "_write", write_late)
    assert rs.append(frame([row(1)]), txn).skipped
    assert keys(rs) == [0, 1]


def overtaken(
    rs: DeltaRsTable, monkeypatch: pytest.MonkeyPatch, times: int, domain: str = "a"
) -> None:
    """Another program appends to the table just before each of our next `times` commits."""
    commit, left = DeltaTable.create_write_transaction, iter(range(times))

    def late(table: DeltaTable, *arguments: Any, **options: Any) -> None:
        if (key := next(left, None)) is not None:
            by_deltalake(rs, 50 + key, domain)
        commit(table, *arguments, **options)

    monkeypatch.setattr(DeltaTable, "create_write_transaction", late)


def test_an_overwrite_that_is_overtaken_removes_those_rows_too(
    rs: DeltaRsTable, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rs.append(frame([row(1)]))
    overtaken(rs, monkeypatch, times=2)
    rs.overwrite(frame([row(9)]))
    assert keys(rs) == [9]


def test_a_replace_that_is_overtaken_removes_its_partition_whole(
    rs: DeltaRsTable, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rs.append(frame([row(1, "a"), row(2, "b")]))
    overtaken(rs, monkeypatch, times=1, domain="a")
    rs.replace_where(frame([row(9, "a")]), {"domain": "a"})
    assert keys(rs) == [2, 9]


def test_a_replace_overtaken_in_another_partition_keeps_that(
    rs: DeltaRsTable, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rs.append(frame([row(1, "a"), row(2, "b")]))
    overtaken(rs, monkeypatch, times=1, domain="b")
    rs.replace_where(frame([row(9, "a")]), {"domain": "a"})
    assert keys(rs) == [2, 9, 50]


def test_a_replace_overtaken_every_time_gives_up_and_changes_nothing(
    rs: DeltaRsTable, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rs.append(frame([row(1)]))
    monkeypatch.setattr("longattn.etl.tables.base.ATTEMPTS", 3)
    overtaken(rs, monkeypatch, times=3)
    with pytest.raises(ConcurrentWriteError, match="3 times in a row"):
        rs.overwrite(frame([row(9)]))
    assert keys(rs) == [1, 50, 51, 52]


def test_a_merge_overtaken_by_its_own_key_adds_the_others(
    rs: DeltaRsTable, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """deltalake's own retry would commit both: appends do not conflict."""
    rs.append(frame([row(1)]))
    overtaken(rs, monkeypatch, times=2)
    commit = rs.merge(frame([row(50), row(51), row(52), row(1)]))
    assert commit.rows == 1 and keys(rs) == [1, 50, 51, 52]


def test_a_merge_evaluates_its_rows_once(rs: DeltaRsTable, frame: Any, tmp_path: Path) -> None:
    log = tmp_path / "evaluated"
    rs.append(frame([row(1)]))
    rs.merge(frame([row(1), row(2, "b")]).mapInPandas(noted_in(log), SPEC.ddl))
    assert sorted(log.read_text().split()) == ["1", "2"]


def test_spark_and_another_program_append_at_once(rs: DeltaRsTable, frame: Any) -> None:
    rs.append(frame([row(0)]))
    with ThreadPoolExecutor(3) as pool:
        ours = [pool.submit(rs.append, frame([row(key)])) for key in range(1, 5)]
        theirs = [pool.submit(by_deltalake, rs, key) for key in range(100, 110)]
        for done in [*ours, *theirs]:
            done.result()
    assert keys(rs) == [*range(5), *range(100, 110)]


def test_vacuum_takes_old_orphans_and_leaves_what_a_job_is_writing(
    rs: DeltaRsTable, frame: Any
) -> None:
    rs.append(frame([row(1)]))
    old, fresh = (Path(rs.location) / name / "domain=a" / "x.parquet" for name in ("0ld", "new"))
    for file in (old, fresh):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"rows that were never committed")
    days_ago = time.time() - 3 * 24 * 3600
    os.utime(old, (days_ago, days_ago))
    assert rs.vacuum(retention_hours=0, dry_run=True) == ["0ld/domain=a/x.parquet"]
    assert old.exists()
    rs.vacuum(retention_hours=0)
    assert fresh.exists() and not old.exists() and keys(rs) == [1]


def test_compacted_files_have_statistics_of_the_same_columns(rs: DeltaRsTable, frame: Any) -> None:
    for key in (1, 7):
        rs.append(frame([row(key, text=LONG)]))
    rs.optimize()
    action = DeltaTable(rs.location).get_add_actions(flatten=True)
    assert (action["min.id"].to_pylist(), action["max.id"].to_pylist()) == ([1], [7])
    assert "max.text" not in action.schema.names or action["max.text"].to_pylist() == [None]


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


def make_raw(rs: DeltaRsTable, protocol: dict[str, Any], **properties: str) -> None:
    """A table that another writer made, with this protocol and these properties; no rows."""
    schema = {
        "type": "struct",
        "fields": [*map(_field, range(5), SPEC.schema.jsonValue()["fields"])],
    }
    metadata = {
        "id": "0",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps(schema),
        "partitionColumns": ["domain"],
        "configuration": {key.replace("_", "."): value for key, value in properties.items()},
    }
    log = Path(rs.location) / "_delta_log"
    log.mkdir(parents=True)
    actions = [{"protocol": protocol}, {"metaData": metadata}]
    (log / "00000000000000000000.json").write_text("\n".join(map(json.dumps, actions)))


def _field(number: int, field: dict[str, Any]) -> dict[str, Any]:
    names = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": field["name"]}
    return {**field, "metadata": names}


def features(*both: str, writer: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": list(both),
        "writerFeatures": [*both, *writer],
    }


CLASSIC = {"minReaderVersion": 1, "minWriterVersion": 2}


@pytest.mark.parametrize(
    ("protocol", "properties", "feature"),
    [
        (features("deletionVectors"), {}, "deletionVectors"),
        (features("columnMapping"), {}, "columnMapping"),
        (features("typeWidening"), {}, "typeWidening"),
        (features("fromTheFuture"), {}, "fromTheFuture"),
        (
            {"minReaderVersion": 2, "minWriterVersion": 5},
            {"delta_columnMapping_mode": "name"},
            "columnMapping",
        ),
    ],
)
def test_features_that_would_be_misread_are_refused_by_name(
    rs: DeltaRsTable, protocol: dict[str, Any], properties: dict[str, str], feature: str
) -> None:
    make_raw(rs, protocol, **properties)
    for use in (rs.read, rs.version, rs.detail, rs.optimize, rs.vacuum):
        with pytest.raises(UnsupportedTableFeature, match=feature):
            use()


@pytest.mark.parametrize(
    ("protocol", "properties", "feature"),
    [
        (features(writer=("rowTracking",)), {}, "rowTracking"),
        (features(writer=("fromTheFuture",)), {}, "fromTheFuture"),
        (
            {"minReaderVersion": 1, "minWriterVersion": 3},
            {"delta_constraints_positive": "id > 0"},
            "checkConstraints",
        ),
    ],
)
def test_features_that_a_write_would_violate_leave_a_table_readable(
    rs: DeltaRsTable, frame: Any, protocol: Any, properties: dict[str, str], feature: str
) -> None:
    make_raw(rs, protocol, **properties)
    assert rs.read().count() == 0
    for write in (rs.append, rs.overwrite):
        with pytest.raises(UnsupportedTableFeature, match=feature):
            write(frame([row(1)]))
    assert rs.version() == 0


@pytest.mark.parametrize("protocol", [CLASSIC, features("v2Checkpoint", writer=("appendOnly",))])
def test_harmless_features_are_accepted(rs: DeltaRsTable, frame: Any, protocol: Any) -> None:
    make_raw(rs, protocol)
    rs.append(frame([row(1)]))
    assert keys(rs) == [1]


def test_a_table_of_another_schema_is_refused_naming_the_columns(
    rs: DeltaRsTable, frame: Any
) -> None:
    other = pa.table({"id": ["one"], "domain": ["a"], "score": [0.5], "text": ["t"]})
    write_deltalake(rs.location, other)
    for use in (rs.read, lambda: rs.append(frame([row(1)]))):
        with pytest.raises(TableError) as caught:
            use()
        for part in ("id is string, not bigint", "ids is missing", "partitioned by [], not"):
            assert part in str(caught.value)


class TestConnector:
    """Which connector a session gets, and why."""

    @staticmethod
    def choose(spark: Any, connector: str = "auto", root: str = "/t") -> Any:
        return choose_connector(spark, TablesConfig(root=root, connector=connector))

    @pytest.fixture(autouse=True)
    def off_databricks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("DATABRICKS_RUNTIME_VERSION", raising=False)

    @staticmethod
    def session(extensions: str, source_exists: bool) -> Any:
        """A stand-in of a session with these extensions, with or without the classes."""
        known = FileNotFoundError("no such table") if source_exists else DATA_SOURCE_NOT_FOUND
        spark = MagicMock()
        spark.conf.get.return_value = extensions
        spark.read.format.return_value.load.side_effect = known
        return spark

    def test_a_session_gets_the_connector_that_it_has(self, spark: Any) -> None:
        has_delta = EXTENSION in spark.conf.get("spark.sql.extensions", "")
        assert self.choose(spark).name == ("native" if has_delta else "delta-rs")
        assert "no Delta extension" in str(self.choose(self.session("", False)))

    def test_the_extension_with_its_classes_gets_native(self) -> None:
        assert self.choose(self.session(EXTENSION, True)).name == "native"

    def test_the_extension_without_its_jar_does_not(self) -> None:
        found = self.choose(self.session(f"x.Y,{EXTENSION}", False))
        assert found.name == "delta-rs" and "jar is missing" in found.reason

    def test_spark_says_what_the_stand_in_says(self, spark: Any) -> None:
        with pytest.raises(Exception, match="DATA_SOURCE_NOT_FOUND"):
            spark.read.format("no-such-source").load("/")

    def test_databricks_gets_native(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
        assert self.choose(self.session("", False)).name == "native"

    def test_the_config_wins(self) -> None:
        assert self.choose(self.session(EXTENSION, True), "delta-rs").name == "delta-rs"

    def test_native_without_delta_says_how_to_get_it(self) -> None:
        with pytest.raises(ConfigError, match=r"--packages io\.delta:delta-spark_4\.2_2\.13:4"):
            self.choose(self.session("", False), "native")

    def test_catalog_names_need_native(self) -> None:
        with pytest.raises(ConfigError, match="catalog name"):
            open_tables(self.session("", False), TablesConfig(root="main.longattn"))
        named = open_tables(self.session(EXTENSION, True), TablesConfig(root="my-cat.longattn"))
        assert named["scores"].location == "`my-cat`.longattn.scores"

    def test_a_percent_sign_in_the_root_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="holds a %"):
            open_tables(self.session("", False), TablesConfig(root="/data/a%20b"))

    @pytest.mark.parametrize("root", ["data/tables", "./main.longattn", "/a.b", "s3://b/c.d", "d"])
    def test_paths_are_no_catalog_names(self, root: str) -> None:
        assert not is_catalog_name(root) and location(root, "runs") == f"{root}/runs"


DATA_SOURCE_NOT_FOUND = RuntimeError("[DATA_SOURCE_NOT_FOUND] Failed to find the source: delta")


def test_every_table_of_the_schema_can_be_made(spark: Any, tmp_path: Path) -> None:
    for name in ("documents", "windows", "runs"):
        made = DeltaRsTable(spark, TABLES[name], str(tmp_path / name))
        made.append(made.read())
        assert made.read().schema.simpleString() == TABLES[name].schema.simpleString()
