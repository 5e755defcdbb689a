"""What is wrong with the tables and the exports: a line for each fault, and how to mend it.

Counts come from the logs and keys from the columns of the keys; no text and no tokens are read.
Exported files are hashed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from pyspark.sql import Row
from pyspark.sql import functions as F

from longattn.etl.after.status import not_exported
from longattn.etl.after.unused import Stranger, strangers
from longattn.etl.config import Config
from longattn.etl.dedup.kept import read_by
from longattn.etl.export.files import Folder
from longattn.etl.export.read import faults as export_faults
from longattn.etl.ingest.current import query
from longattn.etl.run.context import Context
from longattn.etl.run.figures import Figures
from longattn.etl.run.holding import last_holder
from longattn.etl.run.ledger import READERS
from longattn.etl.tables.base import Table
from longattn.etl.tables.lease import Holder, is_gone
from longattn.etl.tables.lost import damaged_files, refuse_lost
from longattn.udfs.errors import LongAttnError, ModelError, TableError
from longattn.udfs.models.artefact import read_manifest, refuse_changed

REWRITTEN = {"duplicates", "selections", "runs"}  # a run replaces rows: their sums say nothing
RESTORE = (
    "restore a version from before (RESTORE, or deltalake's DeltaTable.restore), then run again"
)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check looked at and what it found."""

    faults: list[str]
    tables: int
    rows: int
    notes: list[str]  # what could not be looked at, and why; rows that nothing reads


def check(context: Context) -> Checked:
    """Look at the tables, the ledger, the scorers and the exports that the config names."""
    holder = last_holder(context.spark, context.config.tables)
    lost = dict(_lost(context, _known_versions(context, holder)))
    tables = {name: table for name, table in context.tables.items() if name not in lost}
    counts = {name: d.rows for name, table in tables.items() if (d := table.detail())}
    made = {name: tables[name] for name in counts}
    damaged = {name: lines for name, table in made.items() if (lines := _damage(table))}
    whole = {name: table for name, table in made.items() if name not in damaged}
    faults = [*lost.values(), *chain(*damaged.values()), *_of_keys(whole)]
    unreadable = lost.keys() | damaged.keys()
    if {"windows", "lengths"} <= set(whole) and unreadable.isdisjoint(read_by(context.config)):
        faults += _of_lengths(context)
    at_work = _at_work(holder)
    notes = [at_work] if at_work else []
    if "runs" in whole and not at_work:
        runs = whole["runs"].read().orderBy("started").collect()
        faults += _of_ledger(runs, whole, counts)
        notes += _behind(runs, context.config)
    faults += [*_of_scorers(context.config), *_of_exports(context.config)]
    notes += map(_stranger, strangers(whole))
    return Checked(faults=faults, tables=len(made), rows=sum(counts.values()), notes=notes)


def _at_work(holder: Holder | None) -> str | None:
    if holder is None or holder.free or is_gone(holder):
        return None
    return f"{holder} is at work: its rows are not in the ledger yet, so these are not compared"


def _known_versions(context: Context, holder: Holder | None) -> Mapping[str, int]:
    """The versions that runs have left: what the register knows, or else the ledger."""
    if holder:
        return holder.versions
    rows = context.tables["runs"].read().select(F.explode("versions_written")).groupBy("key")
    return {
        row["key"]: row["version"] for row in rows.agg(F.max("value").alias("version")).collect()
    }


def _lost(context: Context, known: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Tables that cannot be read because of their logs, and why."""
    for name, table in context.tables.items():
        try:
            refuse_lost(table.location, table.version(), known.get(name))
        except LongAttnError as error:
            yield name, str(error)


def _damage(table: Table) -> list[str]:
    mend = f"restore the file from a backup, or {RESTORE}"
    return [f"table {table.location}: {fault}; {mend}" for fault in damaged_files(table.location)]


def _of_keys(tables: Mapping[str, Table]) -> Iterator[str]:
    for table in tables.values():
        if repeated := _repeated(table):
            count, example = repeated
            yield f"table {table.location}: {count} rows repeat a key, as {example}; {RESTORE}"


def _repeated(table: Table) -> tuple[int, str] | None:
    """How many rows repeat the key of another, and one such key."""
    key = list(table.spec.key)
    again = table.read().groupBy(*key).count().where("count > 1")
    row = again.agg(
        F.sum(F.col("count") - 1).alias("n"), F.first(F.struct(*key)).alias("key")
    ).first()
    if row is None or row["n"] is None:
        return None
    return row["n"], ", ".join(f"{name}={row['key'][name]}" for name in key)


def _of_lengths(context: Context) -> Iterator[str]:
    """`lengths` says how many windows each document has; what no run asks for may lack."""
    windows, lengths = (context.tables[name].read() for name in ("windows", "lengths"))
    cut = windows.where("doc_id IS NOT NULL").groupBy("doc_id", "windowing").count()
    said = lengths.groupBy("doc_id", "windowing").agg(F.max("n_windows").alias("n_windows"))
    kept = query(context, "SELECT doc_id, true AS kept FROM kept")
    both = cut.join(said, ["doc_id", "windowing"], "full").join(kept, "doc_id", "left")
    wrong = F.coalesce("count", F.lit(0)) != F.coalesce("n_windows", F.lit(0))
    asked_for = F.col("kept") & F.col("windowing").isin(*context.recipe.cuttings.values())
    differing = both.where(wrong & (asked_for | (F.col("count") != F.col("n_windows"))))
    if row := differing.select("doc_id", "windowing", "count", "n_windows").first():
        yield (
            f"table windows: {differing.count()} documents have other numbers of windows than"
            f" lengths says, as doc_id={row['doc_id']}: {row['count'] or 0}, not"
            f" {row['n_windows'] or 0}; run windows again, which finishes what was cut off; if that"
            f" changes nothing, {RESTORE}"
        )


def _stranger(stranger: Stranger) -> str:
    return (
        f"table {stranger.table}: {stranger.count} of its {stranger.column}s are not in"
        f" {stranger.of}, for example {stranger.example}: no job reads these rows;"
        " `longattn vacuum --rows --apply` deletes them"
    )


def _of_ledger(
    runs: list[Row], tables: Mapping[str, Table], counts: Mapping[str, int]
) -> Iterator[str]:
    """Runs that do not balance or did not end, and tables with other rows than runs added."""
    killed = [run for run in runs if run["status"] == "running" and run["job"] not in READERS]
    for run in killed:
        yield f"run {run['run_id']}: {run['job']} was killed; the next job enters what it had done"
    for run in runs:
        refused = sum((run["refused"] or {}).values())
        if run["status"] == "done" and run["rows_in"] != run["rows_out"] + refused:
            yield f"run {run['run_id']}: {run['job']} does not balance; run it again"
    if not killed:
        yield from _sums(runs, tables, counts)


def _behind(runs: list[Row], config: Config) -> Iterator[str]:
    """Why the exports are not what the config asks for, which is no damage."""
    last = {run["job"]: run.asDict() for run in runs if run["status"] == "done"}
    mend = "`longattn status` says what is to be done"
    if "export" in last and last["export"]["config"] != config.hash:
        yield f"the config is not that of the last export; {mend}"
    elif others := not_exported(last.get("select"), config):
        yield f"{', '.join(others)}: another selection than the last one is there, or none; {mend}"


def _sums(runs: list[Row], tables: Mapping[str, Table], counts: Mapping[str, int]) -> Iterator[str]:
    """Tables that have other rows than runs have added to them."""
    written = {name for run in runs for name in run["versions_written"] or {}}
    for name in sorted(written - REWRITTEN):
        expected = _expected_rows(runs, name, tables.get(name))
        if expected is not None and counts.get(name, 0) != expected:
            yield (
                f"table {name}: {counts.get(name, 0)} rows, but the runs left {expected};"
                " something else has written to it; run again, which makes what is missing; if that"
                f" changes nothing, {RESTORE}"
            )


def _expected_rows(runs: list[Row], name: str, table: Table | None) -> int | None:
    """The rows that runs have left in a table.

    None where a run did not record how many it added, or a version has left the log. What stood
    there before the first run that is known, or was written by somebody else between two, is
    counted as the later run has found it; what a run has read after its own commit tells nothing.
    """
    rows, version, counted = 0, None, False
    for run in runs:
        read = (run["versions_read"] or {}).get(name)
        written = (run["versions_written"] or {}).get(name)
        before = read if written is None or read is None or read < written else None
        if table and before is not None and (version is None or before > version):
            try:
                rows, version, counted = table.read(before).count(), before, True
            except TableError:
                return None
        if written is not None:
            added = Figures.decode(run["metrics"]).added.get(name)
            if added is None:
                return None
            # A run that slept may have read a later run's rows, which then count already, or have
            # found its work done, and taken the later run's version for its own.
            later = version is None or written > version or (written == version and not counted)
            if added and later:
                rows, version, counted = rows + int(added), written, False
    return rows


def _of_scorers(config: Config) -> Iterator[str]:
    """Files of scorers' own that are not as they were written."""
    models = (scorer.model for scorer in (config.score, *config.score.also.values()))
    for folder in map(Path, dict.fromkeys(filter(None, models))):
        if (folder / "scorer.json").exists():
            try:
                refuse_changed(folder, read_manifest(folder))
            except ModelError as error:
                yield str(error)


def _of_exports(config: Config) -> Iterator[str]:
    for target in config.export.targets.values():
        try:
            faults = list(export_faults(target.path)) if Folder.at(target.path).manifest() else []
        except LongAttnError as error:
            yield str(error)
            continue
        for fault in faults:
            yield f"export {target.path}: {fault}; delete {target.path} and run export again"
