"""A status as tables for people."""

from typing import Any

from rich.table import Table

from longattn.etl.after.status import Status
from longattn.etl.run.figures import Figures
from longattn.etl.run.jobs import JOBS
from longattn.etl.run.progress import in_words
from longattn.etl.run.show import contamination_words, human_bytes, new_table
from longattn.udfs.scorers.meaning import meaning_of

MARKS = {"done": "[green]done[/]", "running": "[yellow]running[/]"}


def tables_table(status: Status) -> Table:
    """Tables with version, rows, bytes and rows per domain."""
    table = new_table("Tables", "table", ">version", ">rows", ">size", "domains")
    for name, size in status.tables.items():
        domains = _by_domain(size["domains"])
        if name == "documents" and status.not_in_sources:
            domains += f"  (no longer in sources: {_by_domain(status.not_in_sources)})"
        cells = (str(size["version"]), f"{size['rows']:,}", human_bytes(size["bytes"]), domains)
        table.add_row(name, *cells)
    return table


def _by_domain(rows: dict[str, int]) -> str:
    return "  ".join(f"{domain} {count:,}" for domain, count in rows.items())


def jobs_table(status: Status) -> Table:
    """Last run of every job and its ledger."""
    table = new_table(
        "Last runs",
        *("job", "status", "started", ">seconds", ">in", ">out", "refused", "ledger", "pending"),
    )
    for name in [job for job in JOBS if job in status.jobs or job in status.pending]:
        waiting = pending_words(status.pending.get(name, {}))
        if name not in status.jobs:
            table.add_row(name, "not run", *[""] * 6, waiting)
            continue
        run = status.jobs[name]
        refused = "  ".join(f"{reason} {n:,}" for reason, n in run["refused"].items() if n)
        hits = Figures.decode(run["metrics"]).contaminated
        refused += contamination_words(hits).replace(", ", "  ")
        balance = ledger_words(run)
        mark = MARKS.get(run["status"], f"[red]{run['status']}[/] {run['error']}")
        mark += so_far_words(run)
        counts = (f"{run['rows_in']:,}", f"{run['rows_out']:,}", refused, balance, waiting)
        table.add_row(name, mark, run["started"], f"{run['seconds']:.1f}", *counts)
    return table


def ledger_words(run: dict[str, Any]) -> str:
    """Whether a run's counts agree; of one that was stopped or killed, what it had added before."""
    if run["status"] not in ("failed", "killed") or run["rows_in"]:
        return "[green]balances[/]" if run["balances"] else "[red]does not balance[/]"
    counts = Figures.decode(run["metrics"]).added.items()
    added = ", ".join(f"{n:,.0f} {name}" for name, n in counts)
    if run["status"] == "killed":  # of all but the last one it is not known what it had added
        return f"[yellow]killed[/], {added} added" if added else "[yellow]killed[/]"
    return f"[yellow]stopped[/], {added or 'nothing'} added"


def so_far_words(run: dict[str, Any]) -> str:
    """For example ` 1,024 of 4,096 windows, 17.1 a second, 3 min left` of a running job."""
    gone = " [red]its process is gone[/]" if run.get("gone") else ""
    return f" {in_words(run['progress'])}{gone}" if run.get("progress") else gone


def pending_words(pending: dict[str, Any]) -> str:
    """For example `136 windows`, or `scores changed`."""
    if "rows" in pending:
        return f"{pending['rows']:,} to do"
    return f"{', '.join(pending['changed'])} changed" if pending else ""


def scorers_table(status: Status) -> Table:
    """What each scorer measures, and has scored."""
    table = new_table("Scorers", "scorer", ">windows", ">tokens", "first", "last", "measures")
    for name, row in status.scorers.items():
        counts = f"{row['windows']:,}", f"{row['tokens']:,}", row["first"], row["last"]
        table.add_row(name, *counts, meaning_of(name).measures)
    return table
