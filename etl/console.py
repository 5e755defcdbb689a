"""What the commands show: a session and its tables opened, jobs run in order, tables printed."""

import json
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable

from longattn.etl.config import Config
from longattn.etl.jobs import run_job
from longattn.etl.progress import Progress
from longattn.etl.run.context import Context, TableSet
from longattn.etl.run.ledger import Run
from longattn.etl.session import get_spark
from longattn.etl.show import human_bytes, new_table, print_table
from longattn.etl.tables.open import choose_connector, open_tables
from longattn.etl.views.status import Status, status


def open_context(config: Config, quiet: bool = False) -> Context:
    """A session and the config's tables; says which connector is used, and why, unless quiet."""
    spark, progress = get_spark(config.spark), Progress()
    if not quiet:
        connector, why = choose_connector(spark, config.tables)
        progress.say(f"tables: {config.tables.root}, connector {connector}: {why}")
    tables = TableSet(open_tables(spark, config.tables))
    return Context(spark=spark, config=config, tables=tables, progress=progress)


def run_jobs(config: Config, jobs: Sequence[str]) -> list[Run]:
    """Run jobs in order, a line each; stops at the first that fails."""
    context, runs = open_context(config), []
    for job in jobs:
        runs.append(run_job(job, context.fresh()))
        context.progress.say(run_line(runs[-1]))
    if "select" in jobs:
        print_table(selected_table(context))
    if "report" in jobs:
        print(f"report: {Path(config.report.path).resolve()}")
    return runs


def run_line(run: Run) -> str:
    """For example `dedup     44 in, 40 out, 3 exact, 1 near   2.1 s`."""
    outcome = run.outcome
    assert outcome is not None  # a failed job has raised
    refused = "".join(f", {count:,} {reason}" for reason, count in outcome.refused.items() if count)
    counts = f"{outcome.rows_in:,} in, {outcome.rows_out:,} out{refused}"
    return f"{run.job:<8} {counts:<60} {run.seconds:6.1f} s"


def show_status(config: Config, as_json: bool) -> None:
    """Print tables and last runs, for people or as JSON."""
    found = status(open_context(config, quiet=True))
    if as_json:
        print(json.dumps(found.as_dict(), indent=2, sort_keys=True, default=str))
        return
    print_table(tables_table(found))
    print_table(jobs_table(found))


def show_trace(config: Config, window_id: str) -> None:
    """Print a window's way back to its source."""
    from longattn.etl.views.provenance import trace

    for line in trace(open_context(config, quiet=True), window_id):
        print(line)


def open_report(config: Config) -> None:
    """Open the report in the user's browser."""
    webbrowser.open(Path(config.report.path).resolve().as_uri())


def tables_table(found: Status) -> RichTable:
    """Tables with version, rows, bytes and rows per domain."""
    table = new_table("Tables", "table", ">version", ">rows", ">size", "domains")
    for name, size in found.tables.items():
        domains = "  ".join(f"{domain} {rows:,}" for domain, rows in size["domains"].items())
        cells = (str(size["version"]), f"{size['rows']:,}", human_bytes(size["bytes"]), domains)
        table.add_row(name, *cells)
    return table


def jobs_table(found: Status) -> RichTable:
    """Last run of every job and its ledger."""
    table = new_table(
        "Last runs", "job", "status", "started", ">seconds", ">in", ">out", "refused", "ledger"
    )
    for name, run in found.jobs.items():
        refused = "  ".join(f"{reason} {rows:,}" for reason, rows in run["refused"].items())
        balance = "[green]balances[/]" if run["balances"] else "[red]does not balance[/]"
        mark = "[green]done[/]" if run["status"] == "done" else f"[red]failed[/] {run['error']}"
        counts = (f"{run['rows_in']:,}", f"{run['rows_out']:,}", refused, balance)
        table.add_row(name, mark, run["started"], f"{run['seconds']:.1f}", *counts)
    return table


def selected_table(context: Context) -> RichTable:
    """The current selection: windows and tokens per domain, and its best window."""
    from longattn.etl.inputs.current import selection_summary

    table = new_table(
        "Selected windows",
        "domain",
        ">windows",
        ">of",
        ">tokens",
        ">LDS from",
        ">to",
        "best window",
    )
    for row in selection_summary(context):
        table.add_row(*_cells(row))
    return table


def _cells(row: dict[str, Any]) -> list[str]:
    counts = [row["domain"], f"{row['windows']:,}", f"{row['scored']:,}", f"{row['tokens']:,}"]
    return [*counts, f"{row['lds_min']:.3f}", f"{row['lds_max']:.3f}", row["best"]]
