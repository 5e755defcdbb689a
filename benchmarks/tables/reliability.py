"""What safety costs on large tables: `python -m benchmarks.tables.reliability [ROWS ...]`.

Prints the table of docs/performance.md. For each number of windows it writes documents,
lengths, windows and scores as the jobs leave them, ten windows a document and without tokens, which
is not timed. Then it times 256 more scores by append with a transaction id, and by merge with the
whole table, as rejects are; and `status --check` of all the tables.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.tables.rows import MILLIONS, named, rows_of
from longattn.etl import config as config_module
from longattn.etl.after.check import check
from longattn.etl.console import open_context
from longattn.etl.run.context import Context
from longattn.etl.tables.base import Txn
from longattn.etl.tables.schema import TABLES, TableSpec

BATCH = 256  # scores of a commit
WINDOWS_OF_A_DOCUMENT = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=[1_000_000, 10_000_000])
    print("| windows | step | seconds |\n|--:|---|--:|")
    for rows in parser.parse_args().rows:
        folder = Path(tempfile.mkdtemp(prefix="reliability-"))
        try:
            for line in timings(folder, rows):
                print(line, flush=True)
        finally:
            shutil.rmtree(folder)
    print(f"\nlocal[2] of {os.cpu_count()} cores, {sys.version.split()[0]}")


def timings(folder: Path, rows: int) -> Iterator[str]:
    """A line a step."""
    context = filled(folder, rows)
    for name, step in steps(context):
        started = time.monotonic()
        step()
        yield f"| {rows:,} | {name} | {time.monotonic() - started:.1f} |"


def filled(folder: Path, rows: int) -> Context:
    """Tables of so many windows, each scored."""
    config = config_module.validate(
        {
            "tables": {"root": str(folder), "connector": "delta-rs"},
            "spark": {"master": "local[2]", "conf": MILLIONS},
        }
    )
    context = open_context(config, quiet=True)
    spark, tables = context.spark, context.tables
    documents = rows // WINDOWS_OF_A_DOCUMENT
    tables.append("documents", table_rows(spark, TABLES["documents"], 0, documents))
    tables.append("lengths", table_rows(spark, TABLES["lengths"], 0, documents))
    for name in ("windows", "scores"):
        tables.append(name, table_rows(spark, TABLES[name], 0, rows))
    return context


def table_rows(spark: SparkSession, spec: TableSpec, first: int, count: int) -> DataFrame:
    """Rows of a table whose keys follow from their numbers; other columns are null."""
    number = F.col("id")
    of_document = number if "window_id" not in spec.columns else number / WINDOWS_OF_A_DOCUMENT
    known = {
        "doc_id": named("d", of_document.cast("bigint")),
        "window_id": named("w", number),
        "domain": F.lit("book"),
        "windowing": F.lit("tokenizer-0123456789abcdef-cut-32768"),
        "scorer": F.lit("longattn-0123456789abcdef"),
        "n_windows": F.lit(WINDOWS_OF_A_DOCUMENT),
        "ds": F.rand(1),
    }
    return rows_of(spec, spark.range(first, first + count), known)


def steps(context: Context) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is timed; the append comes first and pays for the first job of a session."""
    tables, spec = context.tables, TABLES["scores"]

    def more(turn: int) -> DataFrame:
        """Scores of windows that are there, by another scorer: new keys, and no stranger."""
        frame = table_rows(context.spark, spec, 0, BATCH)
        return frame.withColumn("scorer", F.lit(f"scorer {turn}")).coalesce(1)

    for turn in range(2):
        txn = Txn(app_id="benchmark", version=turn)
        yield f"append {BATCH} scores", lambda t=turn, x=txn: tables.append("scores", more(t), x)
    yield f"merge {BATCH} new scores", lambda: tables.merge("scores", more(2))
    yield f"merge {BATCH} scores that are there", lambda: tables.merge("scores", more(2))
    yield "status --check", lambda: sound(context)


def sound(context: Context) -> None:
    """Look for damage, of which there is none."""
    if faults := check(context).faults:
        raise SystemExit("\n".join(faults))


if __name__ == "__main__":
    main()
