"""The jobs, by name and in order: what the CLI, spark-submit, Airflow and notebooks all run."""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from etl.jobs.base import Context, Outcome

JOBS: dict[str, str] = {
    "ingest": "read sources into documents; refuse bad records by name",
    "dedup": "find exact and near duplicates; say who lost to whom",
    "windows": "tokenise documents and cut windows of equal length",
    "score": "measure each window's long-range attention",
    "select": "keep the best windows of each domain and mix them",
    "export": "write the selection as Parquet, JSONL, Megatron or MDS",
    "report": "draw one HTML page of what the jobs did and chose",
}


def load_job(name: str) -> "Callable[[Context], Outcome]":
    """The job's `run`, imported when it is needed and not before."""
    module = importlib.import_module(f"etl.jobs.{name}")
    return cast("Callable[[Context], Outcome]", module.run)
