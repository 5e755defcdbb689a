"""The ledger: every job started is a row of `runs`, and a job that does not balance has failed.

The row is entered as `running` before the job begins and replaced when it has ended. What a killed
run left `running`, or a restored table has so again, is closed by the next job that holds the root.
"""

import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import Column, Row
from pyspark.sql import functions as F

from longattn.etl.run.context import NOT_ENTERED, Context, Outcome
from longattn.etl.run.figures import Figures
from longattn.etl.run.holding import Predecessor, hold
from longattn.etl.run.reasons import one_line
from longattn.udfs.errors import LedgerError

READERS = {"report"}  # write to no table but the ledger, and wait for nobody


@dataclass(frozen=True, kw_only=True)
class Run:
    """One job's row in the ledger."""

    run_id: str
    job: str
    started: datetime
    seconds: float
    outcome: Outcome | None
    error: str | None
    status: str = "running"  # running, done or failed


def record(name: str, context: Context, job: Callable[[Context], Outcome]) -> Run:
    """Hold the root, run a job and enter it in `runs`, also when it fails; then raise its error.

    Raises LedgerError when rows in are not rows out plus rows refused, or a table has other rows
    than the job had for it; ConcurrentWriteError when another run holds the root for longer than
    `tables.wait`.
    """
    run_id = uuid.uuid4().hex
    if name in READERS:
        return _record(name, context, job, run_id)
    with holding(context, name, run_id):
        return _record(name, context, job, run_id)


@contextmanager
def holding(context: Context, name: str, run_id: str) -> Iterator[None]:
    """Hold the root while the block runs, once what others left open is closed."""
    with hold(context, name, run_id) as dead:
        if dead or context.tables.rewritten("runs"):
            _close_killed(context, dead)
        yield


def _record(name: str, context: Context, job: Callable[[Context], Outcome], run_id: str) -> Run:
    started, clock = datetime.now(UTC), time.monotonic()

    def entry(status: str, outcome: Outcome | None = None, error: str | None = None) -> Run:
        run = Run(
            run_id=run_id,
            job=name,
            started=started,
            seconds=time.monotonic() - clock,
            outcome=outcome,
            error=error,
            status=status,
        )
        context.tables.put_run(_row(run, context))
        return run

    entry("running")
    context.tables.ledger_version = NOT_ENTERED  # until the end is entered
    try:
        with context.tables.steady():
            outcome = job(context)
    except BaseException as error:
        reason = one_line(error)
        with suppress(Exception):  # Java may be what has failed, or the root be another's by now
            context.tables.note_unseen()
        _enter_failure(lambda: entry("failed", error=reason), context, name)
        raise
    try:
        outcome.refuse_imbalance(name)
    except LedgerError as error:
        entry("failed", outcome, str(error))
        raise
    return entry("done", outcome)


def _enter_failure(enter: Callable[[], Run], context: Context, name: str) -> None:
    """Enter a failure; where that fails too, say so and leave the first error to be raised."""
    try:
        enter()
    except Exception as second:
        context.progress.say(f"{name}: nor could this be entered in the ledger: {one_line(second)}")


def last_run(context: Context, job: str, condition: Column) -> Row | None:
    """The newest run of a job for which a condition on `runs` holds."""
    runs = context.tables["runs"].read().where((F.col("job") == job) & condition)
    row: Row | None = runs.orderBy(F.desc("started")).first()
    return row


def done() -> Column:
    """The condition that a run has ended well."""
    return F.col("status") == "done"


def unchanged(context: Context, job: str, settings: str, tables: Collection[str]) -> bool:
    """Whether the last run of a job went by these settings, and left the tables as they are now."""
    last = last_run(context, job, done())
    as_now = are_as_left(context, last, tables)
    return last is not None and last["settings"] == settings and as_now


def are_as_left(context: Context, run: Row | None, tables: Collection[str]) -> bool:
    """Whether tables have the rows that a run left.

    They count as read, so that the ledger says which versions this run went by.
    """
    for table in tables:
        context.tables.read(table)
    left = {**run["versions_read"], **run["versions_written"]} if run else {}
    versions = ((table, left.get(table), context.tables.version(table)) for table in tables)
    return all(context.tables[table].same_rows(before, now) for table, before, now in versions)


def in_utc(moment: datetime) -> datetime:
    """A timestamp as a session collects it: Spark gives this machine's local time, without a zone.

    >>> in_utc(datetime.fromtimestamp(1e9)).isoformat()
    '2001-09-09T01:46:40+00:00'
    """
    return moment.astimezone(UTC)


def _row(run: Run, context: Context) -> dict[str, Any]:
    outcome = run.outcome or Outcome(rows_in=0, rows_out=0)
    return {
        "run_id": run.run_id,
        "job": run.job,
        "config": context.config.hash,
        "started": run.started,
        "seconds": run.seconds,
        "status": run.status,
        "error": run.error,
        "rows_in": outcome.rows_in,
        "rows_out": outcome.rows_out,
        "refused": outcome.refused,
        "versions_read": context.tables.versions_before,
        "versions_written": context.tables.versions_written,
        "metrics": outcome.stored_metrics | Figures(added=context.tables.rows_added).encode(),
        "selection": outcome.selected and outcome.selected.id,
        "settings": outcome.selected.settings if outcome.selected else outcome.settings,
        "config_json": context.config.to_json(),
    }


def _close_killed(context: Context, dead: Predecessor | None) -> None:
    """Close what is `running` though nobody is, with the rows that the last of them had added."""
    runs = context.tables["runs"].read()
    for row in runs.where("status = 'running'").collect():
        if row["job"] not in READERS:
            context.tables.put_run(_killed(row.asDict(), dead))
    if dead:
        dead.closed = True


def _killed(row: dict[str, Any], dead: Predecessor | None) -> dict[str, Any]:
    why = f"ended without a word: {dead.holder}" if dead else "the ledger does not have its end"
    closed: dict[str, Any] = {"status": "killed", "error": why}
    row["started"] = in_utc(row["started"])
    if dead and row["run_id"] == dead.holder.run_id:
        closed |= {
            "seconds": max(0.0, dead.holder.beat - row["started"].timestamp()),
            "versions_written": dead.written,
            "metrics": Figures(added=dead.rows_added).encode(),
        }
    return row | closed
