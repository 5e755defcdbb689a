"""What it costs to know which rows are current.

`python -m benchmarks.tables.current [DOCUMENTS ...]`

prints the table of docs/performance.md. For each number of documents it writes tables as the jobs
leave them, without texts and tokens: 1,000 documents a file, a window a document, one document in
ten a duplicate. Then it times, each as a process of its own: current documents, and current
windows of kept documents, counted by Spark with a driver of 4 GB as every job reads them; and
`status`, which has no Spark.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from benchmarks.tables.rows import MILLIONS, named, rows_of
from benchmarks.usage import watch
from longattn.etl import config as config_module
from longattn.etl.after.status import status_of_logs
from longattn.etl.config import Config
from longattn.etl.console import open_context
from longattn.etl.ingest.current import current_documents
from longattn.etl.ingest.sources import inputs_of
from longattn.etl.run.context import Context
from longattn.etl.tables.schema import TABLES
from longattn.etl.windows.current import natural_windows

OF_A_FILE, OF_ONE_COPY = 1000, 10  # documents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("documents", nargs="*", type=int, default=[1_000_000, 10_000_000])
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--root", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        print(STEPS[given.step](config_of(given.root)))
        return
    print("| documents | counted | s | CPU s | peak memory, MB |\n|--:|---|--:|--:|--:|")
    for count in given.documents:
        root = tempfile.mkdtemp(prefix="current-")
        try:
            timings(root, count)
        finally:
            shutil.rmtree(root)


def timings(root: str, count: int) -> None:
    """Print a line for each step on tables of so many documents."""
    fill(open_context(config_of(root), quiet=True), count)
    SparkSession.getActiveSession().stop()  # type: ignore[union-attr]
    kept = count - count // OF_ONE_COPY
    for step in STEPS:
        log = Path(root, f"{step.strip('`')}.log")
        with log.open("w") as file:
            command = [sys.executable, "-m", __spec__.name, "--step", step, "--root", root]
            usage = watch(command, file)
        counted, expected = int(log.read_text().split()[-1]), count if step == FIRST else kept
        assert counted == expected, (step, counted, expected)
        print(
            f"| {count:,} | {step} | {usage.wall:.0f} | {usage.cpu:.0f} | {usage.peak:,.0f} |",
            flush=True,
        )


def config_of(root: str) -> Config:
    return config_module.validate(
        {
            "tables": {"root": root, "connector": "delta-rs"},
            "sources": {"web": [{"path": ["/corpus/*.jsonl"], "id": "id"}]},
            "tokenizer": "words",
            "score": {"scorer": "recall"},
            "spark": {"master": "local[2]", "conf": MILLIONS},
        }
    )


def fill(context: Context, count: int) -> None:
    """Write what ingest, dedup and windows would leave of so many documents."""
    documents = context.spark.range(count)
    names = ("documents", "origins", "lengths", "windows")
    frames = dict.fromkeys(names, documents) | {
        "listings": context.spark.range(-(-count // OF_A_FILE)).select(
            (F.col("id") * OF_A_FILE).alias("id")
        ),
        "duplicates": documents.where(F.col("id") % OF_ONE_COPY == 0),
    }
    for name, frame in frames.items():
        context.tables.append(name, rows_of(TABLES[name], frame, columns(context)))


def columns(context: Context) -> dict[str, Column]:
    """What is known of a row whose document has the number `id`; other columns are null."""
    number, inputs = F.col("id"), inputs_of(context.config)
    file = (number / OF_A_FILE).cast("bigint").cast("string")
    return {
        "doc_id": named("d", number),
        "window_id": named("w", number),
        "domain": F.lit("web"),
        "source_uri": F.concat(F.lit("/corpus/"), file, F.lit(".jsonl")),
        "source_row": number % OF_A_FILE + 1,
        "source_id": number.cast("string"),
        "fingerprint": F.concat(F.lit("f"), file),
        "inputs": F.lit(inputs.name),
        "listing": F.lit(inputs.sources[0][0]),
        "windowing": F.lit(context.recipe.windowing),
        "n_tokens": F.lit(context.config.window.length),
        "n_windows": F.lit(1),
    }


def documents(config: Config) -> int:
    """Current documents, as job dedup reads them."""
    return current_documents(open_context(config, quiet=True)).count()


def windows(config: Config) -> int:
    """Current windows of kept documents, as jobs read them."""
    return natural_windows(open_context(config, quiet=True)).count()


def by_status(config: Config) -> int:
    """Windows that recall has still to score: all current ones."""
    status = status_of_logs(config)
    assert status is not None
    return int(status.pending["score"]["rows"])


FIRST = "documents"
STEPS: dict[str, Callable[[Config], int]] = {
    FIRST: documents,
    "windows": windows,
    "`status`": by_status,
}


if __name__ == "__main__":
    main()
