"""The jobs, by name and in order: what the CLI, spark-submit, Airflow and notebooks all run."""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from longattn.udfs.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from longattn.etl.run.context import Context, Outcome
    from longattn.etl.run.ledger import Run

JOBS: dict[str, str] = {
    "ingest": "read sources into documents; refuse bad records by name",
    "dedup": "find exact and near duplicates; say who lost to whom",
    "windows": "tokenise documents and cut windows of equal length",
    "score": "score each window by one scorer or several",
    "select": "keep the best windows of each domain and mix them",
    "export": "write the selection in the formats of trainers",
    "report": "draw one HTML page of what the jobs did and chose",
}
# Each job's room is called as the job, but for these; a module `select` would shadow Python's own.
ROOMS = {"score": "scoring", "select": "selection"}


def between(first: str | None, last: str | None) -> list[str]:
    """The jobs from `first` to `last`, both included; raises UserError where none lies between."""
    for name in (first, last):
        if name is not None and name not in JOBS:
            raise UserError(f"no job is called {name}{did_you_mean(name, JOBS)}")
    jobs = list(JOBS)
    start = jobs.index(first) if first else 0
    stop = jobs.index(last) + 1 if last else len(jobs)
    if start >= stop:
        raise UserError(f"from {first} to {last}: no job lies between; the order is {jobs}")
    return jobs[start:stop]


def load_job(name: str) -> "Callable[[Context], Outcome]":
    """The job's `run`, imported when it is needed and not before."""
    module = importlib.import_module(f"longattn.etl.{ROOMS.get(name, name)}.job")
    return cast("Callable[[Context], Outcome]", module.run)


def run_job(name: str, context: "Context") -> "Run":
    """Run a job and enter it in the ledger; see `etl.run.ledger.record`. Observers hear of it."""
    from longattn.etl.run.ledger import record
    from longattn.etl.run.observers import observed

    with observed(name, context) as finish:
        run = record(name, context, load_job(name))
        finish(run)
    return run
