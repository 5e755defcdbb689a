"""The jobs from Python: `longattn.run`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from longattn.etl import config as config_module
from longattn.etl.config import Config
from longattn.etl.run.jobs import between
from longattn.udfs.errors import ConfigError, UserError, did_you_mean, extras_named

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from longattn.etl.run.context import Context
    from longattn.etl.run.ledger import Run


@dataclass(frozen=True)
class Result:
    """What a run of jobs did, and the tables that it left."""

    config: Config
    runs: "list[Run]"
    context: "Context"

    @property
    def ledger(self) -> pd.DataFrame:
        """A row for each job that ran: job, rows_in, rows_out, refused (a dict), seconds."""
        outcomes = [(run.job, run.outcome, run.seconds) for run in self.runs]
        rows = [(j, o.rows_in, o.rows_out, dict(o.refused), s) for j, o, s in outcomes if o]
        return pd.DataFrame(rows, columns=["job", "rows_in", "rows_out", "refused", "seconds"])

    @property
    def sizes(self) -> pd.DataFrame:
        """A row for each table that there is: version, rows, bytes, files, domains (a dict)."""
        from longattn.etl.after.status import status

        return pd.DataFrame.from_dict(status(self.context.fresh()).tables, orient="index")

    def table(self, name: str) -> "DataFrame":
        """A table of the root as a Spark DataFrame; ARCHITECTURE.md lists them."""
        tables = self.context.fresh().tables
        if name not in tables:
            raise UserError(f"table: there is no {name}{did_you_mean(str(name), tables)}")
        return tables.read(name)

    def pandas(self, name: str) -> pd.DataFrame:
        """A table of the root in memory."""
        return self.table(name).toPandas()

    @property
    def selection(self) -> pd.DataFrame:
        """The selection that the config names, best windows first within each domain."""
        from longattn.etl.selection.current import current_selection

        _, rows = current_selection(self.context.fresh())
        return rows.toPandas().sort_values(["domain", "rank"]).reset_index(drop=True)

    def __str__(self) -> str:
        from longattn.etl.console import run_line

        return "\n".join(map(run_line, self.runs))


def run(
    config: Config | Mapping[str, Any] | str | Path,
    *,
    first: str | None = None,
    to: str | None = None,
    settings: Iterable[str] = (),
) -> Result:
    """Run jobs in order, from `first` to `to`, and return what they did: `longattn run` in Python.

    `config` is a YAML file, nested dicts or a Config; `settings` are overrides of a file's, as
    `--set` takes them: `["window.length=4096"]`. A Spark session that is there is used. Raises
    ConfigError, before anything runs, for each thing that `longattn check` finds wrong, and what a
    job raises.
    """
    from longattn.etl.before.findings import faults
    from longattn.etl.console import open_context, run_in_order

    with extras_named():
        from longattn.etl.before.check import check

    given, jobs = config_of(config, settings), between(first, to)
    if bad := faults(check(given, jobs)):
        raise ConfigError("; ".join(map(str, bad)))
    context = open_context(given)
    return Result(given, run_in_order(context, jobs), context)


def config_of(config: Config | Mapping[str, Any] | str | Path, settings: Iterable[str]) -> Config:
    """A config from a file with overrides, from nested dicts, or as it is."""
    if isinstance(config, str | PathLike):
        return config_module.load(config, settings)
    if list(settings):
        raise ConfigError("settings: overrides are of a file; change the config itself")
    return config if isinstance(config, Config) else config_module.validate(config)
