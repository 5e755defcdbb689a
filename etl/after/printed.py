"""A status as tables for people."""

from typing import Any

from rich.table import Table
from rich.text import Text

from longattn.etl.after.status import Status
from longattn.etl.run.figures import Figures
from longattn.etl.run.jobs import JOBS
from longattn.etl.run.progress import in_words
from longattn.etl.run.show import contamination_words, human_bytes, new_table
from longattn.udfs.scorers.meaning import meaning_of

COLOURS = {"done": "green", "running": "yellow"}  # of a run; all others are red


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
        mark = Text.assemble((run["status"], COLOURS.get(run["status"], "red")), so_far_words(run))
        if run["status"] not in COLOURS:
            mark.append(f" {run['error']}")
        counts = (f"{run['rows_in']:,}", f"{run['rows_out']:,}", refused, balance, waiting)
        table.add_row(name, mark, run["started"], f"{run['seconds']:.1f}", *counts)
    return table


def ledger_words(run: dict[str, Any]) -> Text:
    """Whether a run's counts agree; of one that was stopped or killed, what it had added before."""
    if run["status"] not in ("failed", "killed") or run["rows_in"]:
        balances = run["balances"]
        return Text("balances", "green") if balances else Text("does not balance", "red")
    counts = Figures.decode(run["metrics"]).added.items()
    added = ", ".join(f"{n:,.0f} {name}" for name, n in counts)
    if run["status"] == "killed":  # of all but the last one it is not known what it had added
        return Text.assemble(("killed", "yellow"), f", {added} added" if added else "")
    return Text.assemble(("stopped", "yellow"), f", {added or 'nothing'} added")


def so_far_words(run: dict[str, Any]) -> Text:
    """For example ` 1,024 of 4,096 windows, 17.1 a second, 3 min left` of a running job."""
    words = Text(f" {in_words(run['progress'])}" if run.get("progress") else "")
    return words.append(" its process is gone", "red") if run.get("gone") else words


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
