"""What the commands show: a session and its tables opened, jobs run in order, tables printed.

Spark is imported where a session is opened: most views need none.
"""

import json
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ContextDecorator, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from longattn.etl.after import selections
from longattn.etl.after.reading import Reader, SessionReader, read_logs
from longattn.etl.config import Config
from longattn.etl.run.jobs import run_job
from longattn.etl.run.progress import LogFormat, Progress
from longattn.etl.run.show import contamination_words, new_table, print_table
from longattn.udfs.storage import local_path, refuse_unreachable

if TYPE_CHECKING:
    from longattn.etl.run.context import Context
    from longattn.etl.run.ledger import Run
    from longattn.udfs.scorers.kinds.calibrated import Calibration, Cost

COUNTED = (">windows", ">samples", ">tokens", ">score from", ">to")


def open_context(
    config: Config, quiet: bool = False, log_format: LogFormat | None = None
) -> "Context":
    """A session and the config's tables; says which connector is used, and why, unless quiet."""
    from longattn.etl.run.context import Context, TableSet
    from longattn.etl.session import get_spark
    from longattn.etl.tables.open import choose_connector, open_tables

    spark, progress = get_spark(config.spark), Progress(log_format=log_format)
    if not quiet:
        connector, why = choose_connector(spark, config.tables)
        progress.say(f"tables: {config.tables.root}, connector {connector}: {why}")
    for place in _places(config):
        refuse_unreachable(place)
    tables = TableSet(open_tables(spark, config.tables))
    return Context(spark=spark, config=config, tables=tables, progress=progress)


@contextmanager
def started(config: Config) -> Iterator[tuple[ContextDecorator, Callable[[], bool]]]:
    """Keep a session while the block runs; yields a decorator of commands that leave its settings
    as they were, and what says whether it still answers.
    """
    from longattn.etl.session import restored

    context = open_context(config)

    def sound() -> bool:
        try:
            return len(context.spark.sql("SELECT 1").collect()) == 1
        except Exception:
            return False

    sound()  # the first query loads most of Spark
    context.progress.say("session: commands started in this folder run here; Ctrl-C ends it")
    try:
        yield restored(context.spark), sound
    finally:
        context.spark.stop()


def _places(config: Config) -> list[str]:
    """Where the jobs write: an export must not find out after all the work."""
    exports = [target.path for target in config.export.targets.values()]
    return [config.tables.root, *exports, config.report.path]


def run_jobs(
    config: Config, jobs: Sequence[str], log_format: LogFormat | None = None
) -> "list[Run]":
    """Run jobs in order, a line each; stops at the first that fails. Says what was selected."""
    from longattn.etl.session.few_rows import fitted

    context = open_context(config, log_format=log_format)
    runs = run_in_order(context, jobs)
    if "select" in jobs:
        with fitted(context.spark, config, "select"):
            print_table(selected_table(context))
    if "report" in jobs:
        print(f"report: {_shown(config.report.path)}")
    return runs


def run_in_order(context: "Context", jobs: Sequence[str]) -> "list[Run]":
    """Run jobs in order and say a line for each; stops at the first that fails."""
    from longattn.etl.session.few_rows import fitted

    runs = []
    for job in jobs:
        with fitted(context.spark, context.config, job):
            runs.append(run_job(job, context.fresh(same_run=True)))
        context.progress.say(run_line(runs[-1]))
    return runs


def run_line(run: "Run") -> str:
    """For example `dedup     44 in, 40 out, 3 exact, 1 near   2.1 s`."""
    outcome = run.outcome
    assert outcome is not None  # a failed job has raised
    refused = "".join(f", {count:,} {reason}" for reason, count in outcome.refused.items() if count)
    hits = contamination_words(outcome.figures.contaminated)
    counts = f"{outcome.rows_in:,} in, {outcome.rows_out:,} out{refused}{hits}"
    return f"{run.job:<8} {counts:<60} {run.seconds:6.1f} s"


def show_check(config: Config, as_json: bool) -> int:
    """Print a line for each fault of the tables and exports; 1 when there is any, else 0."""
    from longattn.etl.after.check import check

    result = check(open_context(config, quiet=True))
    if as_json:
        print(json.dumps(asdict(result), indent=2))
        return int(bool(result.faults))
    for line in [*result.faults, *(f"note: {note}" for note in result.notes)]:
        print(line)
    if not result.faults:
        print(f"{result.tables} tables, {result.rows:,} rows: nothing is wrong")
    return int(bool(result.faults))


def show_vacuum(
    config: Config, hours: float, rows: bool, names: Sequence[str], apply: bool
) -> None:
    """Print what nothing names any more, and these selections; delete it when it is to apply."""
    from longattn.etl.after.vacuum import list_garbage, vacuum, vacuum_rows, vacuum_selections
    from longattn.etl.export.job import folders_of

    context = open_context(config, quiet=True)
    if names:
        for name, windows in vacuum_selections(context.fresh(), names, apply).items():
            print(f"{windows:10,} windows of selection {name}")
    if rows:
        _print_rows(vacuum_rows(context.fresh(), apply))
    kinds = (vacuum if apply else list_garbage)(context, folders_of(config), hours)
    for garbage in kinds:
        print(f"{len(garbage.paths):6,} {garbage.what}")
        for path in garbage.paths:
            print(f"       {path}")
    print("deleted" if apply else "nothing was deleted; --apply deletes it")


def _print_rows(counts: Mapping[str, int]) -> None:
    for table, n_rows in counts.items():
        if n_rows:
            print(f"{n_rows:10,} rows of {table}")


def show_forget(config: Config, ids: str | None, where: str | None, dry_run: bool) -> None:
    """Print what is forgotten, or would be, by table, and what still has it."""
    from longattn.etl.after import forget
    from longattn.etl.export.places import refuse

    if not dry_run:  # or the jobs that follow would refuse it, after the rows are gone
        refuse(config)
    context = open_context(config, quiet=True)
    named = forget.ids_in(ids) if ids else forget.documents_where(context, str(where))
    doc_ids = forget.known_ids(context, named)
    if unknown := set(named) - set(doc_ids):
        said = f"{len(unknown):,} of {len(set(named)):,} ids belong to no document of these tables"
        print(f"{said}, for example {min(unknown)}")
    counts = (forget.count if dry_run else forget.forget)(context, doc_ids)
    _print_rows(counts)
    if dry_run:
        print(f"{len(doc_ids):,} documents would be forgotten; nothing was changed")
        return
    print(
        f"{len(doc_ids):,} documents are forgotten; versions of before still hold them until"
        " `longattn vacuum --apply --hours 0`, after which time travel to these is lost"
    )


def show_remains(config: Config, export: str) -> int:
    """Print a line for each forgotten document that an export has words of; 1 if there is any."""
    from longattn.etl.after.remains import remains, remembered
    from longattn.etl.export.job import knows_ids
    from longattn.udfs.text.tokens import load_tokenizer

    ids_are_known = knows_ids(config)
    decode = load_tokenizer(config.tokenizer_path).tokenizer.decode if ids_are_known else None
    known = remembered(reader_of(config))
    lines = remains(known, export, decode)
    for line in lines:
        print(line)
    if count := sum(not len(hashes) for hashes in known.values()):
        print(f"note: {count:,} forgotten documents cannot be looked for: no words are remembered")
    if not lines:
        print(f"{export}: nothing of the documents that were forgotten is in it")
    return int(bool(lines))


def calibrate_scorer(config: Config, out: Path, per_domain: int) -> None:
    """Calibrate on a sample and print the model, its errors and what cascades would cost."""
    from longattn.etl.run.ledger import record
    from longattn.etl.scoring import calibrate

    context, result = open_context(config), calibrate.Result()
    run = record(
        "calibrate", context, partial(calibrate.run, out=out, per_domain=per_domain, result=result)
    )
    context.progress.say(run_line(run))
    for table in calibration_tables(result.made, result.costs):
        print_table(table)
    print(f"calibrated: {out}: score.scorer=calibrated score.model={out} score.cascade=WIDTH")


def count_background(config: Config, out: Path, most_tokens: int) -> None:
    """Count the config's documents into a background and print where it is."""
    from longattn.etl.run.ledger import record
    from longattn.etl.scoring import background

    context, result = open_context(config), background.Result()
    count = partial(background.run, out=out, most_tokens=most_tokens, result=result)
    context.progress.say(run_line(record("background", context, count)))
    print(f"counted: score.background={result.folder}")


def reader_of(config: Config) -> Reader:
    """The tables by their logs, in a second; by a session where only that can open them."""
    reader = read_logs(config.tables)
    if reader is not None:
        return reader
    return SessionReader(dict(open_context(config, quiet=True).tables), None)


def show_selections(config: Config, names: Sequence[str]) -> None:
    """Print all selections of the root; one by domain; or what two have in common and alone."""
    reader = reader_of(config)
    if len(names) == 2:
        _print_difference(reader, *names)
    else:
        _print_totals(reader, *names)


def _print_totals(reader: Reader, name: str | None = None) -> None:
    totals = selections.shown(reader, name) if name else selections.listed(reader)
    if not totals:
        print(selections.NONE_YET)
        return
    table = new_table(name or "Selections", "domain" if name else "selection", *COUNTED)
    for of, one in totals.items():
        ends = ("" if x is None else f"{x:.4f}" for x in (one.lowest, one.highest))
        counts = (f"{n:,}" for n in (one.windows, one.samples, one.tokens))
        table.add_row(of, *counts, *ends)
    print_table(table)


def _print_difference(reader: Reader, first: str, second: str) -> None:
    difference = selections.differing(reader, first, second)
    sides, whats = ("in both", "in A", "in B"), (">windows", ">tokens")
    heads = [f"{what} {side}" for side in sides for what in whats]
    table = new_table(f"A {first}, B {second}", "domain", *heads)
    for domain, windows in difference.domains.items():
        pairs = zip(windows, difference.tokens[domain], strict=True)
        table.add_row(domain, *(f"{n:,}" for pair in pairs for n in pair))
    print_table(table)
    for line in selections.lines_of(difference, first, second):
        print(line)


def open_report(config: Config) -> None:
    """Open the report in the user's browser."""
    local = local_path(config.report.path)
    webbrowser.open(Path(local).resolve().as_uri() if local else config.report.path)


def _shown(path: str) -> str:
    """A path that a terminal or a browser opens from anywhere."""
    local = local_path(path)
    return path if local is None else str(Path(local).resolve())


def calibration_tables(made: "Calibration", costs: "Sequence[Cost]") -> list[Table]:
    """The model's columns, its agreement with the truth by domain, and cascades by width."""
    columns = new_table("Weights of normal scores", "column", ">weight")
    for column in sorted(made.columns, key=lambda column: -abs(column.weight)):
        columns.add_row(column.name, f"{column.weight:+.3f}")
    domains = new_table(
        "On documents left out", "domain", ">windows", ">documents", ">Spearman", ">error"
    )
    for name, line in made.domains.items():
        counts = f"{line.windows:,}", f"{line.documents:,}"
        domains.add_row(name or "all", *counts, f"{line.spearman:.2f}", f"{line.error:.4g}")
    cascades = new_table(
        "Cascades", ">score.cascade", ">scored exactly", ">of the exact selection", ">of its gain"
    )
    for cost in costs:
        shares = (f"{share:.0%}" for share in (cost.exact, cost.common, cost.lift))
        cascades.add_row(f"{cost.width:g}", *shares)
    return [columns, domains, cascades]


def selected_table(context: "Context") -> Table:
    """The current selection: windows and tokens per domain, and its best window."""
    from longattn.etl.selection.current import selection_summary

    score = f">{context.recipe.ranking} from"
    columns = ("domain", ">windows", ">of", ">tokens", score, ">to", "best window")
    table = new_table("Selected windows", *columns)
    for row in selection_summary(context):
        table.add_row(*_cells(row))
    return table


def _cells(row: dict[str, Any]) -> list[str]:
    counts = [row["domain"], f"{row['windows']:,}", f"{row['scored']:,}", f"{row['tokens']:,}"]
    return [*counts, f"{row['lds_min']:.3f}", f"{row['lds_max']:.3f}", row["best"]]
