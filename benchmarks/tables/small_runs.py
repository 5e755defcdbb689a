"""What a run costs beside its work: seconds and Spark jobs of each job, on a few documents.

    python -m benchmarks.tables.small_runs

One session with the product's own settings runs all jobs on a new root, again with nothing to do,
and with one more document at a time; of the last the median is printed.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import longattn
from longattn.etl.config import Config, validate
from longattn.etl.console import open_context
from longattn.etl.run.context import Context
from longattn.etl.run.jobs import JOBS, run_job
from longattn.etl.session.few_rows import fitted

DOCUMENTS, WORDS = 24, 3000
Cost = tuple[float, int]  # seconds, Spark jobs


def text(number: int) -> str:
    draw = random.Random(number)
    vocabulary = [f"w{draw.randrange(10**6)}" for _ in range(400)]
    return " ".join(draw.choices(vocabulary, k=WORDS))


def add(folder: Path, number: int) -> None:
    row = {"id": str(number), "text": text(number)}
    (folder / f"{number}.jsonl").write_text(json.dumps(row) + "\n")


def config_of(folder: Path) -> Config:
    return validate(
        {
            "sources": {"book": [{"path": str(folder / "in" / "*.jsonl"), "id": "id"}]},
            "tokenizer": "words",
            "tables": {"root": str(folder / "tables")},
            "window": {"length": 1024},
            "score": {"scorer": "recall", "k": 128},
            "select": {"fraction": 0.5},
            "export": {"jsonl": {"path": str(folder / "out")}},
            "report": {"path": str(folder / "report.html")},
            "spark": {"master": "local[2]"},
        }
    )


def run_all(context: Context, n_jobs: Any) -> dict[str, Cost]:
    """All jobs once: what each took."""
    costs = {}
    for job in JOBS:
        started, before = time.monotonic(), n_jobs()
        with fitted(context.spark, context.config, job):
            run_job(job, context.fresh(same_run=True))
        costs[job] = time.monotonic() - started, n_jobs() - before
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--more", type=int, default=3, help="documents added, one at a time")
    more = parser.parse_args().more
    folder = Path(tempfile.mkdtemp())
    (folder / "in").mkdir()
    for number in range(DOCUMENTS):
        add(folder / "in", number)
    config = config_of(folder)
    context = open_context(config, quiet=True)
    store = context.spark.sparkContext._jsc.sc().statusStore()

    def n_jobs() -> int:
        return int(store.jobsList(None).size())

    first, again = (run_all(context.fresh(), n_jobs) for _ in range(2))
    grown: dict[str, list[Cost]] = defaultdict(list)
    for number in range(DOCUMENTS, DOCUMENTS + more):
        add(folder / "in", number)
        for job, cost in run_all(context.fresh(), n_jobs).items():
            grown[job].append(cost)
    print(f"longattn {longattn.__version__}, {DOCUMENTS} documents of {WORDS:,} words\n")
    show(first, again, {job: medians(costs) for job, costs in grown.items()})


def medians(costs: list[Cost]) -> Cost:
    seconds, jobs = zip(*costs, strict=True)
    return statistics.median(seconds), int(statistics.median(jobs))


def show(*columns: dict[str, Cost]) -> None:
    print("| job | first run, s (Spark jobs) | nothing new | one more document |")
    print("|---|--:|--:|--:|")
    for job in JOBS:
        print(f"| {job} | {' | '.join(cell(column[job]) for column in columns)} |")
    sums = [tuple(map(sum, zip(*column.values(), strict=True))) for column in columns]
    print(f"| all | {' | '.join(cell(total) for total in sums)} |")


def cell(cost: tuple[float, ...]) -> str:
    return f"{cost[0]:.1f} ({cost[1]:.0f})"


if __name__ == "__main__":
    main()
