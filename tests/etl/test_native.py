"""The native connector: what it says to Delta, checked against delta-spark's own signatures.

Delta's jar cannot be had from a Python index, so stand-ins made with autospec take the place of its
Python API: a call the real one does not know raises TypeError here too. test_tables.py runs the
connector for real where LONGATTN_DELTA_JARS names the jar.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, call, create_autospec

import pytest
from pyspark.sql import DataFrameReader, DataFrameWriter, Row

pytest.importorskip("delta")
from delta.exceptions import ConcurrentAppendException, ConcurrentTransactionException
from delta.tables import DeltaMergeBuilder, DeltaTable, DeltaTableBuilder

from longattn.etl.tables.base import Txn
from longattn.etl.tables.native import NativeTable
from longattn.etl.tables.schema import TableSpec
from longattn.udfs.errors import ConcurrentWriteError, TableError

SPEC = TableSpec(
    name="scores",
    key=("id",),
    partition_by=("domain",),
    unindexed=("ids",),
    columns={
        "id": ("bigint", "the key"),
        "domain": ("string", "the partition"),
        "ids": ("array<int>", "tokens"),
    },
)
PATH, NAME = "/lake/scores", "main.longattn.scores"
WHEN = datetime(2026, 1, 1, tzinfo=UTC)


class FakeDelta:
    """A session with Delta whose one table is a list of commits."""

    def __init__(self) -> None:
        self.log: list[Row] = []
        self.statements: list[str] = []
        self.conf = Mock()
        self.catalog = Mock()
        self.catalog.tableExists.side_effect = lambda name: bool(self.log)
        self.api = create_autospec(DeltaTable)
        self.api.isDeltaTable.side_effect = lambda spark, path: bool(self.log)
        self.handle = create_autospec(DeltaTable, instance=True)
        self.handle.history.side_effect = self._history
        self.api.forPath.return_value = self.api.forName.return_value = self.handle
        self.builder = fluent(DeltaTableBuilder)
        self.builder.execute.side_effect = self._create
        self.api.createIfNotExists.return_value = self.builder
        self.merging = fluent(DeltaMergeBuilder)
        self.merging.execute.side_effect = self._merge
        self.handle.alias.return_value = self.handle
        self.grouped = Mock()
        self.repeated = self.grouped.count.return_value.where.return_value.first
        self.repeated.return_value = None
        self.handle.merge.return_value = self.merging
        self.read = fluent(DataFrameReader)
        self.writer = fluent(DataFrameWriter)
        self.writer.save.side_effect = self.writer.saveAsTable.side_effect = self.commit

    def sql(self, statement: str) -> Any:
        self.statements.append(statement)
        rows = {"OPTIMIZE": [Row(metrics=Row(numFilesAdded=1, numFilesRemoved=4))]}
        found = rows.get(statement.split()[0], [Row(path="old.parquet")])
        return SimpleNamespace(collect=lambda: found)

    def frame(self) -> Any:
        """A DataFrame of the table's columns whose writer is the recorded one."""
        schema = SimpleNamespace(fields=[column(*item) for item in SPEC.columns.items()])
        frame = SimpleNamespace(schema=schema, columns=list(SPEC.columns), write=self.writer)
        frame.select = Mock(return_value=frame)
        frame.alias = Mock(side_effect=lambda name: f"rows as {name}")
        frame.groupBy = Mock(return_value=self.grouped)
        return frame

    def options(self) -> dict[str, Any]:
        return {c.args[0]: c.args[1] for c in self.writer.option.call_args_list}

    def commit(self, target: str | None = None) -> None:
        mark = self.options().get("userMetadata")
        metrics = {"numOutputRows": "3", "numOutputBytes": "70"}
        self.log.insert(0, entry(len(self.log), "WRITE", mark, metrics))

    def _merge(self) -> Any:
        self.log.insert(0, entry(len(self.log), "MERGE", None, {}))
        counted = Row(num_affected_rows=2, num_inserted_rows=2)
        return SimpleNamespace(collect=lambda: [counted])

    def _create(self) -> None:
        if not self.log:
            self.log.append(entry(0, "CREATE TABLE", None, {}))

    def _history(self, limit: int | None = None) -> Any:
        return SimpleNamespace(collect=lambda: self.log[:limit])


def entry(version: int, operation: str, mark: str | None, metrics: dict[str, str]) -> Row:
    return Row(
        version=version,
        timestamp=WHEN,
        operation=operation,
        operationParameters={"mode": "Append"},
        userMetadata=mark,
        operationMetrics=metrics,
    )


def column(name: str, kind: tuple[str, str]) -> Any:
    return SimpleNamespace(name=name, dataType=SimpleNamespace(simpleString=lambda: kind[0]))


def fluent(cls: type) -> Any:
    """A stand-in of a builder: every method checks its arguments and returns the builder."""
    made = create_autospec(cls, instance=True)
    for name in dir(cls):
        if not name.startswith("_") and callable(getattr(cls, name)):
            getattr(made, name).return_value = made
    return made


@pytest.fixture
def delta(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDelta]:
    fake = FakeDelta()
    monkeypatch.setattr("delta.tables.DeltaTable", fake.api)
    monkeypatch.setattr(TableSpec, "schema", property(lambda self: fake.frame().schema))
    yield fake


def table(delta: Any, location: str = PATH) -> NativeTable:
    return NativeTable(delta, SPEC, location)


@pytest.mark.parametrize(("location", "by"), [(PATH, "location"), (NAME, "tableName")])
def test_a_table_is_made_with_comments_partitions_and_properties(
    delta: FakeDelta, location: str, by: str
) -> None:
    table(delta, location).append(delta.frame())
    assert getattr(delta.builder, by).call_args == call(location)
    assert delta.builder.addColumn.call_args_list == [
        call("id", "bigint", comment="the key"),
        call("domain", "string", comment="the partition"),
        call("ids", "array<int>", comment="tokens"),
    ]
    assert delta.builder.partitionedBy.call_args == call("domain")
    assert delta.builder.property.call_args == call("delta.dataSkippingStatsColumns", "id")


def test_paths_are_saved_and_names_are_saved_as_tables(delta: FakeDelta) -> None:
    table(delta, PATH).append(delta.frame())
    assert delta.writer.save.call_args == call(PATH) and not delta.writer.saveAsTable.called
    table(delta, NAME).overwrite(delta.frame())
    assert delta.writer.saveAsTable.call_args == call(NAME)
    assert delta.writer.format.call_args == call("delta")
    assert [c.args for c in delta.writer.mode.call_args_list] == [("append",), ("overwrite",)]


def test_a_commit_is_found_by_its_mark_among_those_of_others(delta: FakeDelta) -> None:
    def with_neighbours(target: str) -> None:
        delta.log.insert(0, entry(1, "WRITE", "somebody", {"numOutputRows": "9"}))
        delta.commit()
        delta.log.insert(0, entry(3, "WRITE", None, {"numOutputRows": "9"}))

    delta.writer.save.side_effect = with_neighbours
    commit = table(delta).append(delta.frame())
    assert (commit.version, commit.rows, commit.bytes, commit.skipped) == (2, 3, 70, False)


def test_a_transaction_id_is_given_to_delta_and_a_skip_is_seen(delta: FakeDelta) -> None:
    txn = Txn(app_id="run-1", version=4)
    assert not table(delta).append(delta.frame(), txn).skipped
    assert {"txnAppId": "run-1", "txnVersion": 4}.items() <= delta.options().items()
    delta.writer.save.side_effect = None  # Delta makes no commit of an id it has seen
    again = table(delta).append(delta.frame(), txn)
    assert again.skipped and (again.rows, again.version) == (0, 1)


def test_a_transaction_committed_by_somebody_else_meanwhile_is_a_skip(delta: FakeDelta) -> None:
    delta.writer.save.side_effect = ConcurrentTransactionException("same id")
    assert table(delta).append(delta.frame(), Txn(app_id="a", version=1)).skipped


def test_a_conflict_is_told_apart_from_other_failures(delta: FakeDelta) -> None:
    delta.writer.save.side_effect = ConcurrentAppendException("files were added")
    with pytest.raises(ConcurrentWriteError, match="/lake/scores: files were added"):
        table(delta).overwrite(delta.frame())


@pytest.mark.parametrize(
    ("value", "literal"), [("book", "'book'"), ("it's", r"'it\'s'"), ("a\\b", r"'a\\b'")]
)
def test_replace_where_quotes_its_value(delta: FakeDelta, value: str, literal: str) -> None:
    table(delta).replace_where(delta.frame(), {"domain": value})
    assert delta.options()["replaceWhere"] == f"`domain` = {literal}"


@pytest.mark.parametrize(("location", "opened"), [(PATH, "forPath"), (NAME, "forName")])
def test_a_merge_inserts_by_null_safe_key_and_has_no_other_arm(
    delta: FakeDelta, location: str, opened: str
) -> None:
    commit = table(delta, location).merge(delta.frame())
    assert getattr(delta.api, opened).call_args == call(delta, location)
    assert delta.handle.alias.call_args == call("kept")
    assert delta.handle.merge.call_args == call("rows as new", "kept.`id` <=> new.`id`")
    assert delta.merging.method_calls == [call.whenNotMatchedInsertAll(), call.execute()]
    assert (commit.version, commit.rows, commit.skipped) == (1, 2, False)


def test_a_merge_that_another_one_overtakes_is_tried_again(delta: FakeDelta) -> None:
    counted = delta._merge
    delta.merging.execute.side_effect = [ConcurrentAppendException("a merge"), counted()]
    assert table(delta).merge(delta.frame()).rows == 2
    assert delta.merging.execute.call_count == 2


def test_a_merge_overtaken_every_time_gives_up(
    delta: FakeDelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longattn.etl.tables.base.ATTEMPTS", 2)
    delta.merging.execute.side_effect = ConcurrentAppendException("a merge")
    with pytest.raises(ConcurrentWriteError, match="/lake/scores: other writers won 2 times"):
        table(delta).merge(delta.frame())


def test_a_merge_refuses_a_key_given_twice(delta: FakeDelta) -> None:
    frame = delta.frame()
    delta.repeated.return_value = Row(id=7, count=2)
    with pytest.raises(TableError, match="merge was given id=7 2 times"):
        table(delta).merge(frame)
    assert frame.groupBy.call_args == call("id") and not delta.log


@pytest.mark.parametrize(("location", "name"), [(PATH, f"delta.`{PATH}`"), (NAME, NAME)])
def test_optimize_and_vacuum(delta: FakeDelta, location: str, name: str) -> None:
    delta.commit()
    assert table(delta, location).optimize() == {"files_added": 1, "files_removed": 4}
    assert table(delta, location).vacuum() == ["old.parquet"]
    table(delta, location).vacuum(retention_hours=200.5, dry_run=True)
    assert delta.statements == [
        f"OPTIMIZE {name}",
        f"VACUUM {name} RETAIN 168 HOURS DRY RUN",
        f"VACUUM {name} RETAIN 168 HOURS",
        f"VACUUM {name} RETAIN 200.5 HOURS DRY RUN",
    ]
    assert not delta.conf.mock_calls


def test_a_short_retention_lifts_deltas_check_for_that_one_statement(delta: FakeDelta) -> None:
    delta.commit()
    table(delta).vacuum(retention_hours=0)
    key = "spark.databricks.delta.retentionDurationCheck.enabled"
    assert delta.conf.mock_calls == [call.set(key, "false"), call.unset(key)]


def test_reads_pin_a_version_by_path_and_by_name(delta: FakeDelta) -> None:
    delta.commit()
    delta.read.load.return_value = delta.read.table.return_value = delta.frame()
    table(delta, PATH).read(version=3)
    assert delta.read.option.call_args == call("versionAsOf", 3)
    assert delta.read.load.call_args == call(PATH)
    table(delta, NAME).read()
    assert delta.read.table.call_args == call(NAME)


def test_history_and_detail(delta: FakeDelta) -> None:
    assert table(delta).history() == [] and table(delta).detail() is None
    delta.commit()
    assert table(delta, NAME).history(limit=1) == [
        {
            "version": 0,
            "timestamp": WHEN,
            "operation": "WRITE",
            "parameters": {"mode": "Append"},
        }
    ]
    size = Row(sizeInBytes=70, numFiles=2)
    delta.handle.detail.return_value = SimpleNamespace(collect=lambda: [size])
    counted = SimpleNamespace(select=lambda *columns: SimpleNamespace(count=lambda: 3))
    delta.read.load.return_value = counted
    found = table(delta).detail()
    assert found is not None
    assert (found.version, found.rows, found.bytes, found.files) == (0, 3, 70, 2)
