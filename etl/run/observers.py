"""Tells OpenLineage and MLflow of each job, by their own clients, where the environment asks.

OpenLineage: OPENLINEAGE_URL, OPENLINEAGE_CONFIG or OPENLINEAGE__TRANSPORT__TYPE. MLflow:
MLFLOW_TRACKING_URI or MLFLOW_RUN_ID. Neither package is needed, and none can fail a job.
"""

import importlib
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from longattn.udfs import __version__
from longattn.udfs.digest import hex_digest
from longattn.udfs.storage import local_path

if TYPE_CHECKING:
    from longattn.etl.run.context import Context
    from longattn.etl.run.ledger import Run

LINEAGE = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT__TYPE")
TRACKING = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID")
REFUSED = re.compile(r"[^\w\-. :/]")  # by MLflow, in the names of metrics
PRODUCER = f"pkg:pypi/longattn-spark@{__version__}"  # OpenLineage wants a URI


@dataclass(frozen=True)
class Job:
    """A job that is run, and where."""

    name: str
    id: str
    root: str
    config: str  # its hash
    read: Mapping[str, int]  # table -> version, as far as the job is
    written: Mapping[str, int]
    sources: tuple[str, ...]  # places that the job reads beside tables, as the config names them
    exports: Mapping[str, str]  # format -> place that the job writes


Observer = Callable[[Job, str, "Run | None"], None]  # a job, its state, and its run at the end


@contextmanager
def observed(name: str, context: "Context") -> Iterator[Callable[["Run"], None]]:
    """Report a job's start and end; yields what is to be called with its run when it is done."""
    observers = [tell for keys, tell in KNOWN if any(os.environ.get(key) for key in keys)]
    job = _job(name, context)

    def tell(state: str, run: "Run | None" = None) -> None:
        for observer in observers:
            try:
                observer(job, state, run)
            except Exception as error:  # theirs, of any kind: a lost event, not a lost job
                said = f"{name}: an observer could not be notified"
                context.progress.say(f"{said}: {type(error).__name__}: {error}")

    tell("START")
    try:
        yield lambda run: tell("COMPLETE", run)
    except BaseException:
        tell("FAIL")
        raise


def _job(name: str, context: "Context") -> Job:
    config, tables = context.config, context.tables
    documents = [source for sources in config.sources.values() for source in sources]
    listed = {"ingest": documents, "windows": config.decontaminate.sources}.get(name, [])
    exports = {format_: target.path for format_, target in config.export.targets.items()}
    return Job(
        name=name,
        id=str(uuid.uuid4()),
        root=config.tables.root,
        config=config.hash,
        read=tables.versions_read,
        written=tables.versions_written,
        sources=tuple(path for source in listed for path in source.path),
        exports=exports if name == "export" else {},
    )


def to_openlineage(job: Job, state: str, run: "Run | None") -> None:
    """One event a state; tables are datasets of the root with their versions, files of their store.

    Names are those of OpenLineage's naming conventions (openlineage.io/docs/spec/naming).
    """
    client = importlib.import_module("openlineage.client")
    event = importlib.import_module("openlineage.client.event_v2")

    def datasets(kind: Any, places: Iterable[str], tables: Mapping[str, int]) -> list[Any]:
        versions = ((name, _version(version)) for name, version in sorted(tables.items()))
        return [
            *(kind(*_named(place)) for place in places),
            *(kind(job.root, name, facets=facets) for name, facets in versions),
        ]

    client.OpenLineageClient().emit(
        event.RunEvent(
            eventType=getattr(event.RunState, state),
            eventTime=datetime.now(UTC).isoformat(),
            run=event.Run(runId=job.id),
            job=event.Job(namespace="longattn", name=job.name),
            producer=PRODUCER,
            inputs=datasets(event.InputDataset, job.sources, job.read),
            outputs=datasets(event.OutputDataset, job.exports.values(), job.written),
        )
    )


def _named(place: str) -> tuple[str, str]:
    """Namespace and name of files.

    >>> _named("/data/books/*.jsonl"), _named("s3a://lake/books")
    (('file', '/data/books/*.jsonl'), ('s3://lake', 'books'))
    """
    local = local_path(place)
    if local is not None:
        return "file", os.path.abspath(local)
    scheme, _, rest = place.partition("://")
    authority, _, name = rest.partition("/")
    return f"{'s3' if scheme == 's3a' else scheme}://{authority}", name


def _version(version: int) -> dict[str, Any]:
    facets = importlib.import_module("openlineage.client.facet_v2").dataset_version_dataset
    return {"version": facets.DatasetVersionDatasetFacet(datasetVersion=str(version))}


def to_mlflow(job: Job, state: str, run: "Run | None") -> None:
    """A finished job's counts as metrics of a run named after it, or of MLFLOW_RUN_ID's; what was
    selected and exported as its datasets."""
    if state == "START":
        return
    mlflow: Any = importlib.import_module("mlflow")
    outcome = run.outcome if run else None
    given = os.environ.get("MLFLOW_RUN_ID")  # mlflow would take it from the jobs after this one
    with mlflow.start_run(run_id=given, run_name=f"longattn {job.name}"):
        mlflow.set_tags({"longattn.job": job.name, "longattn.state": state})
        mlflow.log_params({f"{job.name}.config": job.config, f"{job.name}.root": job.root})
        if run and outcome:
            counts = {"rows_in": outcome.rows_in, "rows_out": outcome.rows_out}
            values = {**counts, "seconds": run.seconds, **outcome.stored_metrics}
            metrics = {f"{job.name}.{key}": value for key, value in values.items()}
            # its names have no commas and the like, and domains may
            mlflow.log_metrics({REFUSED.sub("_", name): value for name, value in metrics.items()})
            for dataset in _datasets(job):
                mlflow.log_input(dataset)
        if state == "FAIL":
            mlflow.end_run("FAILED")


def _datasets(job: Job) -> Iterator[Any]:
    """The selection, at the version read or written, and exports, as MLflow has them."""
    meta = importlib.import_module("mlflow.data.meta_dataset").MetaDataset
    version = job.written.get("selections", job.read.get("selections"))
    if version is not None and job.name in ("select", "export"):
        delta = importlib.import_module("mlflow.data.delta_dataset_source").DeltaDatasetSource
        place = f"{job.root.rstrip('/')}/selections"
        source = delta(path=place, delta_table_version=version)
        yield meta(source, name="selections", digest=_digest(place, version))
    sources = importlib.import_module("mlflow.data.dataset_source_registry")
    for name, place in job.exports.items():
        source = sources.resolve_dataset_source(place)
        yield meta(source, name=name, digest=_digest(place, version))


def _digest(place: str, version: int | None) -> str:
    """Of 36 characters at most."""
    return hex_digest(f"{place}@{version}")[:16]


KNOWN: tuple[tuple[tuple[str, ...], Observer], ...] = (
    (LINEAGE, to_openlineage),
    (TRACKING, to_mlflow),
)
