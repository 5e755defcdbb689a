"""Tells OpenLineage and MLflow of each job, by their own clients, where the environment asks.

OpenLineage: OPENLINEAGE_URL, OPENLINEAGE_CONFIG or OPENLINEAGE__TRANSPORT__TYPE. MLflow:
MLFLOW_TRACKING_URI or MLFLOW_RUN_ID. Neither package is needed, and none can fail a job.
"""

import importlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from longattn.udfs import __version__

if TYPE_CHECKING:
    from longattn.etl.run.context import Context
    from longattn.etl.run.ledger import Run

LINEAGE = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT__TYPE")
TRACKING = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID")
PRODUCER = f"longattn-spark/{__version__}"


@dataclass(frozen=True)
class Job:
    """A job that is run, and where."""

    name: str
    id: str
    root: str
    config: str  # its hash
    read: Mapping[str, int]  # table -> version, as far as the job is
    written: Mapping[str, int]


Observer = Callable[[Job, str, "Run | None"], None]  # a job, its state, and its run at the end


@contextmanager
def observed(name: str, context: "Context") -> Iterator[Callable[["Run"], None]]:
    """Tell of a job's start and end; yields what is to be called with its run when it is done."""
    observers = [tell for keys, tell in KNOWN if any(os.environ.get(key) for key in keys)]
    tables = context.tables
    job = Job(
        name=name,
        id=str(uuid.uuid4()),
        root=context.config.tables.root,
        config=context.config.hash,
        read=tables.versions_read,
        written=tables.versions_written,
    )

    def tell(state: str, run: "Run | None" = None) -> None:
        for observer in observers:
            try:
                observer(job, state, run)
            except Exception as error:  # theirs, of any kind: a lost event, not a lost job
                context.progress.say(f"{name}: not told of: {type(error).__name__}: {error}")

    tell("START")
    try:
        yield lambda run: tell("COMPLETE", run)
    except BaseException:
        tell("FAIL")
        raise


def to_openlineage(job: Job, state: str, run: "Run | None") -> None:
    """One event a state; tables are datasets of the root, their versions part of the name."""
    client = importlib.import_module("openlineage.client")
    event = importlib.import_module("openlineage.client.event_v2")
    client.OpenLineageClient().emit(
        event.RunEvent(
            eventType=getattr(event.RunState, state),
            eventTime=datetime.now(UTC).isoformat(),
            run=event.Run(runId=job.id),
            job=event.Job(namespace="longattn", name=job.name),
            producer=PRODUCER,
            inputs=[event.InputDataset(job.root, table) for table in sorted(job.read)],
            outputs=[event.OutputDataset(job.root, table) for table in sorted(job.written)],
        )
    )


def to_mlflow(job: Job, state: str, run: "Run | None") -> None:
    """A finished job's counts as metrics of a run named after it, or of MLFLOW_RUN_ID's."""
    if state == "START":
        return
    mlflow: Any = importlib.import_module("mlflow")
    outcome = run.outcome if run else None
    with mlflow.start_run(run_name=f"longattn {job.name}"):
        mlflow.set_tags({"longattn.job": job.name, "longattn.state": state})
        mlflow.log_params({f"{job.name}.config": job.config, f"{job.name}.root": job.root})
        if run and outcome:
            counts = {"rows_in": outcome.rows_in, "rows_out": outcome.rows_out}
            values = {**counts, "seconds": run.seconds, **outcome.stored_metrics}
            mlflow.log_metrics({f"{job.name}.{key}": v for key, v in values.items()})


KNOWN: tuple[tuple[tuple[str, ...], Observer], ...] = (
    (LINEAGE, to_openlineage),
    (TRACKING, to_mlflow),
)
