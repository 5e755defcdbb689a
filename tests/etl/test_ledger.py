"""The ledger: what a run leaves behind when it balances, when it does not, and when it fails."""

from collections.abc import Callable
from typing import Any

import pytest

from longattn.etl.run.context import Context, Outcome
from longattn.etl.run.ledger import record
from longattn.etl.views.status import status
from longattn.udfs.errors import ConfigError, LedgerError

pytestmark = pytest.mark.spark

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
    assert row["refused"] == {"empty_text": 2} and row["metrics"] == {"bytes": 7.0}
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
    assert (row["status"], row["error"]) == ("failed", "first line")


def test_wrong_settings_leave_no_run(make_context: MakeContext) -> None:
    context = make_context()

    def refused(_: Context) -> Outcome:
        raise ConfigError("config: no")

    with pytest.raises(ConfigError):
        record("score", context, refused)
    assert runs(context) == []


def test_rejects_are_entered_once(make_context: MakeContext) -> None:
    context = make_context()
    columns = "job string, domain string, source_uri string, source_row bigint, source_id string,"
    columns += " reason string, detail string, excerpt string"
    bad = [("ingest", "book", "a.jsonl", 3, None, "broken_json", "x", "{")]
    frame = context.spark.createDataFrame(bad, columns)
    assert context.reject(frame) == 1
    assert context.fresh().reject(frame) == 0
    assert context.tables["rejects"].read().count() == 1
