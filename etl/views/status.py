"""What the tables hold and how each job's last run ended."""

from dataclasses import asdict, dataclass
from typing import Any

from pyspark.sql import Row
from pyspark.sql import functions as F

from longattn.etl.jobs import JOBS
from longattn.etl.run.context import Context
from longattn.etl.tables.base import Table


@dataclass(frozen=True)
class Status:
    """Sizes by table and last runs by job."""

    root: str
    tables: dict[str, dict[str, Any]]
    jobs: dict[str, dict[str, Any]]

    @property
    def balances(self) -> bool:
        """True when every job's last run balances."""
        return all(run["balances"] for run in self.jobs.values())

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "balances": self.balances}


def status(context: Context) -> Status:
    """Read sizes from the tables' logs and the last run of each job from `runs`."""
    sizes = {name: _size(table) for name, table in context.tables.items()}
    made = {name: size for name, size in sizes.items() if size is not None}
    return Status(context.config.tables.root, made, _last_runs(context))


def _size(table: Table) -> dict[str, Any] | None:
    detail = table.detail()
    if detail is None:
        return None
    return {**asdict(detail), "domains": _domains(table)}


def _domains(table: Table) -> dict[str, int]:
    """Rows per domain, for the tables that have domains; reads the partition column only."""
    if "domain" not in table.spec.columns:
        return {}
    counts = table.read().groupBy("domain").count().collect()
    return {row["domain"]: row["count"] for row in sorted(counts)}


def _last_runs(context: Context) -> dict[str, dict[str, Any]]:
    last = (
        context.tables["runs"]
        .read()
        .groupBy("job")
        .agg(F.max_by(F.struct("*"), "started").alias("run"))
        .collect()
    )
    runs = {row["job"]: _run(row["run"]) for row in last}
    return {job: runs[job] for job in JOBS if job in runs}


def _run(row: Row) -> dict[str, Any]:
    run: dict[str, Any] = row.asDict(recursive=True)
    del run["config_json"]
    run["started"] = run["started"].isoformat(sep=" ", timespec="seconds")
    refused = sum(run["refused"].values())
    run["balances"] = run["rows_in"] == run["rows_out"] + refused and run["status"] == "done"
    return run
