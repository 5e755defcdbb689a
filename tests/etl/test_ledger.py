"""The ledger: what a run leaves behind when it balances, when it does not, and when it fails."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from longattn.etl.after.check import check
from longattn.etl.after.status import status
from longattn.etl.run.context import Context, Outcome
from longattn.etl.run.ledger import record
from longattn.etl.tables.base import Commit
from longattn.etl.tables.lease import DeltaRegister, Holder, register_location, this_process
from longattn.etl.tables.schema import REJECTS, RUNS
from longattn.udfs.errors import ConcurrentWriteError, ConfigError, LedgerError, LostLogError

pytestmark = pytest.mark.spark

REJECT_OF_ID = [
    f"CAST(id AS {kind}) AS {name}" if kind in ("string", "bigint") else f"now() AS {name}"
    for name, (kind, _) in REJECTS.columns.items()
]
MakeContext = Callable[..., Context]


def runs(context: Context) -> list[Any]:
    return context.tables["runs"].read().orderBy("started").collect()


def test_a_balanced_run_is_entered_with_what_it_read_and_wrote(make_context: MakeContext) -> None:
    context = make_context()

    def job(context: Context) -> Outcome:
        rejects = context.tables.read("rejects")
        context.tables.append("rejects", rejects)
        context.tables.read("rejects")
        return Outcome(rows_in=5, rows_out=3, refused={"empty_text": 2}, metrics={"bytes": 7})

    record("ingest", context, job)
    (row,) = runs(context)
    assert (row["job"], row["status"], row["rows_in"], row["rows_out"]) == ("ingest", "done", 5, 3)
    assert row["refused"] == {"empty_text": 2} and row["metrics"] == {
        "bytes": 7.0,
        "added/rejects": 0.0,
    }
    assert row["versions_written"] == {"rejects": context.tables["rejects"].version()}
    assert row["config"] == context.config.hash
    found = status(context)
    assert found.balances and found.jobs["ingest"]["balances"]
    assert found.tables["runs"]["rows"] == 1


def test_a_run_that_does_not_balance_fails_and_says_the_sum(make_context: MakeContext) -> None:
    context = make_context()
    with pytest.raises(LedgerError, match=r"dedup: 5 rows in are not 3 out \+ refused \(1 near\)"):
        record("dedup", context, lambda _: Outcome(rows_in=5, rows_out=3, refused={"near": 1}))
    (row,) = runs(context)
    assert row["status"] == "failed" and not status(context).balances


def test_a_run_that_raises_is_entered_as_failed(make_context: MakeContext) -> None:
    context = make_context()

    def broken(_: Context) -> Outcome:
        raise ValueError("first line\nsecond line")

    with pytest.raises(ValueError, match="first line"):
        record("score", context, broken)
    (row,) = runs(context)
    assert (row["status"], row["error"]) == ("failed", "ValueError: first line")


def test_wrong_settings_are_entered_as_failed(make_context: MakeContext) -> None:
    context = make_context()

    def refused(_: Context) -> Outcome:
        raise ConfigError("config: no")

    with pytest.raises(ConfigError):
        record("score", context, refused)
    assert [(row["status"], row["error"]) for row in runs(context)] == [("failed", "config: no")]


def test_a_run_is_running_until_it_has_ended(make_context: MakeContext) -> None:
    context, seen = make_context(), []

    def job(context: Context) -> Outcome:
        seen.extend(row["status"] for row in runs(context))
        return Outcome(rows_in=0, rows_out=0)

    record("dedup", context, job)
    assert seen == ["running"]
    assert [row["status"] for row in runs(context)] == ["done"]


def test_an_interrupt_right_after_a_commit_hides_no_row_of_it(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is there and nobody has noted it; `status --check` would miss its rows."""
    context, commit = make_context(), DeltaTable.create_write_transaction

    def job(context: Context) -> Outcome:
        for number in (1, 2):
            if number == 2:
                monkeypatch.setattr(DeltaTable, "create_write_transaction", interrupted)
            rows = context.spark.range(10 * number, 11 * number).selectExpr(*REJECT_OF_ID)
            context.tables.append("rejects", rows)
        raise AssertionError("went on")

    def interrupted(*args: Any, **settings: Any) -> None:
        commit(*args, **settings)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record("ingest", context, job)
    monkeypatch.undo()
    (row,) = runs(context)
    assert row["status"] == "failed" and row["metrics"] == {"added/rejects": 3.0}
    assert row["versions_written"] == {"rejects": context.tables["rejects"].version()}
    assert check(context).faults == []


def test_of_two_commits_at_once_the_later_is_noted(make_context: MakeContext) -> None:
    """The earlier one, noted last, was then the version that the run read and said it had left."""
    tables = make_context().tables
    with tables.steady():
        for version in (2, 1):  # as two threads do, of which one is slow to note its commit
            tables._added("rejects", Commit(version=version, rows=3))
        assert tables.version("rejects") == 2
    assert tables.versions_written == {"rejects": 2} and tables.rows_added["rejects"] == 6


def test_a_ledger_that_cannot_be_written_hides_no_error(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    context = make_context()

    def job(context: Context) -> Outcome:
        monkeypatch.setattr(type(context.tables["runs"]), "put", unwritable)
        raise ValueError("the first")

    def unwritable(*_: Any) -> None:
        raise OSError(28, "No space left on device", "/lake/runs")

    with pytest.raises(ValueError, match="the first"):
        record("score", context, job)
    monkeypatch.undo()
    record("dedup", context.fresh(), lambda _: Outcome(rows_in=0, rows_out=0))
    assert [row["status"] for row in runs(context)] == ["killed", "done"]


def test_a_second_run_waits_and_then_says_who_holds_the_root(make_context: MakeContext) -> None:
    context = make_context(tables={"wait": 0.5})

    def job(_: Context) -> Outcome:
        with pytest.raises(ConcurrentWriteError, match=r"held by score \(process \d+ on .*wait"):
            record("dedup", context.fresh(), lambda _: pytest.fail("it has run"))
        return Outcome(rows_in=0, rows_out=0)

    record("score", context, job)
    assert record("dedup", context.fresh(), lambda _: Outcome(rows_in=0, rows_out=0)).job == "dedup"


@pytest.fixture
def far_west(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A driver whose clock shows New York's time."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


def test_what_a_dead_run_left_is_entered_by_the_next(
    make_context: MakeContext, far_west: None
) -> None:
    """The dead run is a process that has ended: its row, its lease and its rows are there."""
    context = make_context()
    record("ingest", context, lambda _: Outcome(rows_in=0, rows_out=0))
    root, started = context.config.tables.root, time.time() - 60
    here = this_process() | {"born": "1"}  # as this process started later, it is another
    dead = Holder(token="t", job="score", run_id="r", since=started, beat=started + 40, **here)
    register = DeltaRegister(register_location(root))
    version, last = register.read()
    assert last and last.free and register.write(version, replace(dead, versions=last.versions))
    row = dict.fromkeys(RUNS.columns) | {"run_id": "r", "job": "score", "status": "running"}
    row |= {"rows_in": 0, "rows_out": 0}
    begun = datetime.fromtimestamp(started, UTC)
    context.tables["runs"].put(row | {"started": begun, "seconds": 0.0, "versions_read": {}})
    rejects = context.spark.range(3).selectExpr(*REJECT_OF_ID)
    context.tables["rejects"].append(rejects)

    record("dedup", context.fresh(), lambda _: Outcome(rows_in=0, rows_out=0))
    killed = next(row for row in runs(context) if row["run_id"] == "r")
    assert killed["status"] == "killed" and "score (process" in killed["error"]
    assert killed["metrics"] == {"added/rejects": 3.0}
    assert killed["versions_written"] == {"rejects": 1}
    assert killed["seconds"] == pytest.approx(40, abs=0.1)
    assert killed["started"].timestamp() == pytest.approx(started, abs=1)
    shown = datetime.fromisoformat(status(context).jobs["dedup"]["started"]).replace(tzinfo=UTC)
    assert 0 <= time.time() - shown.timestamp() < 600


def test_a_ledger_that_was_put_back_is_closed_by_the_next_job(make_context: MakeContext) -> None:
    """To when a run had begun; the report, which holds no root, is nobody's to close."""
    context = make_context()
    record("ingest", context, lambda _: Outcome(rows_in=0, rows_out=0))
    table = DeltaTable(context.tables["runs"].location)
    table.restore(table.version() - 1)
    (fault,) = check(context.fresh()).faults
    assert "ingest was killed; the next job enters" in fault
    record("dedup", context.fresh(), lambda _: Outcome(rows_in=0, rows_out=0))
    assert [row["status"] for row in runs(context)] == ["killed", "done"]
    begun = dict.fromkeys(RUNS.columns) | {"run_id": "r", "job": "report", "status": "running"}
    context.tables["runs"].put(begun | {"started": datetime.now(UTC), "seconds": 0.0})
    record("dedup", context.fresh(), lambda _: Outcome(rows_in=0, rows_out=0))
    assert [row["status"] for row in runs(context)][2] == "running"
    assert check(context.fresh()).faults == []


def test_a_table_that_lost_its_log_is_not_taken_for_a_new_one(make_context: MakeContext) -> None:
    context = make_context()
    root = Path(context.config.tables.root)

    def fill(context: Context) -> Outcome:
        for _ in range(2):
            context.tables.append("rejects", context.spark.range(1).selectExpr(*REJECT_OF_ID))
        return Outcome(rows_in=0, rows_out=0)

    def read(context: Context) -> Outcome:
        context.tables.read("rejects")
        return Outcome(rows_in=0, rows_out=0)

    record("ingest", context, fill)
    (root / "rejects/_delta_log/00000000000000000002.json").unlink()
    with pytest.raises(LostLogError, match="ends at version 1, and version 2 was written"):
        record("dedup", context.fresh(), read)
    shutil.rmtree(root / "rejects/_delta_log")
    with pytest.raises(LostLogError, match="log is gone, and it was at version 2"):
        record("dedup", context.fresh(), read)
    shutil.rmtree(root / "_lease")
    with pytest.raises(LostLogError, match="data files and no log"):
        record("dedup", context.fresh(), fill)


def test_rejects_are_entered_once(make_context: MakeContext) -> None:
    context = make_context()
    columns = "job string, domain string, source_uri string, source_row bigint, source_id string,"
    columns += " reason string, detail string, excerpt string"
    bad = [("ingest", "book", "a.jsonl", 3, None, "broken_json", "x", "{")]
    frame = context.spark.createDataFrame(bad, columns)
    assert context.reject(frame) == 1
    assert context.fresh().reject(frame) == 0
    assert context.tables["rejects"].read().count() == 1
