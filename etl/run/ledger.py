"""The ledger: every job started is a row of `runs`, and a job that does not balance has failed."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from longattn.etl.run.context import Context, Outcome
from longattn.etl.tables.schema import RUNS
from longattn.udfs.errors import LedgerError, UserError


@dataclass(frozen=True, kw_only=True)
class Run:
    """One job's row in the ledger."""

    run_id: str
    job: str
    started: datetime
    seconds: float
    outcome: Outcome | None
    error: str | None


def record(name: str, context: Context, job: Callable[[Context], Outcome]) -> Run:
    """Run a job and enter it in `runs`, also when it fails; then raise what it raised.

    Raises LedgerError when rows in are not rows out plus rows refused.
    """
    run_id, started, clock = uuid.uuid4().hex, datetime.now(UTC), time.monotonic()

    def entry(outcome: Outcome | None, error: str | None = None) -> Run:
        run = Run(
            run_id=run_id,
            job=name,
            started=started,
            seconds=time.monotonic() - clock,
            outcome=outcome,
            error=error,
        )
        _enter(run, context)
        return run

    try:
        outcome = job(context)
    except UserError:
        raise  # nothing has been run, so there is nothing to enter
    except BaseException as error:
        entry(None, first_line(error))
        raise
    if not outcome.balances:
        message = f"{name}: {outcome.rows_in} rows in are not {_sum(outcome)}"
        entry(outcome, message)
        raise LedgerError(message)
    return entry(outcome)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type when it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _sum(outcome: Outcome) -> str:
    refused = " + ".join(f"{count} {reason}" for reason, count in outcome.refused.items())
    return f"{outcome.rows_out} out + refused ({refused or 'none'})"


def _enter(run: Run, context: Context) -> None:
    outcome = run.outcome or Outcome(rows_in=0, rows_out=0)
    row = (
        run.run_id,
        run.job,
        context.config.hash,
        run.started,
        run.seconds,
        "failed" if run.error else "done",
        run.error,
        outcome.rows_in,
        outcome.rows_out,
        outcome.refused,
        context.tables.versions_read,
        context.tables.versions_written,
        {name: float(value) for name, value in outcome.metrics.items()},
        context.config.to_json(),
    )
    frame = context.spark.createDataFrame([row], RUNS.schema)
    context.tables["runs"].append(frame.coalesce(1))
