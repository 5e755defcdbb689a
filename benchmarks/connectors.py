"""The two connectors side by side: the demo's jobs, and single operations on a small table.

`python -m benchmarks.connectors [--demo] [--rounds 3]` prints the tables of
docs/performance.md: CPU seconds of the JVM and Spark jobs for each operation, or with
--demo seconds of each job and CPU seconds of the whole run. Needs the jars of `make jars`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.usage import REPO, seconds_of, stat_of, watch
from longattn.etl.config import SparkConfig
from longattn.etl.session import get_spark
from longattn.etl.tables.base import Table
from longattn.etl.tables.open import CONNECTORS
from longattn.etl.tables.schema import TableSpec

JARS = ",".join(map(str, sorted((REPO / "jars" / "delta").glob("*.jar"))))
SPEC = TableSpec(
    name="probe",
    key=("id",),
    partition_by=("domain",),
    unindexed=("ids",),
    columns={
        "id": ("bigint", "key"),
        "domain": ("string", "partition"),
        "ids": ("array<int>", "tokens"),
    },
)


@dataclass(frozen=True)
class Cost:
    """What one operation took."""

    cpu: float  # seconds of the JVM
    jobs: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=CONNECTORS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps([[n, c.cpu, c.jobs] for n, c in costs(arguments.one, arguments.rounds)]))
        return
    for line in demo() if arguments.demo else operations(arguments.rounds):
        print(line, flush=True)


def operations(rounds: int) -> Iterator[str]:
    """A row an operation; each connector in a JVM of its own, its last round counted."""
    costs_of = {name: _in_own_process(name, rounds) for name in CONNECTORS}
    yield "| operation | " + " | ".join(f"{name}, CPU s | jobs" for name in costs_of) + " |"
    yield "|---|" + "--:|--:|" * len(costs_of)
    for operation in costs_of["native"]:
        cells = (f"{f[operation].cpu:.2f} | {f[operation].jobs}" for f in costs_of.values())
        yield f"| {operation} | {' | '.join(cells)} |"


def _in_own_process(connector: str, rounds: int) -> dict[str, Cost]:
    command = [sys.executable, "-m", "benchmarks.connectors"]
    command += ["--one", connector, "--rounds", str(rounds)]
    done = subprocess.run(command, cwd=REPO, check=True, capture_output=True, text=True)
    return {name: Cost(cpu, jobs) for name, cpu, jobs in json.loads(done.stdout.splitlines()[-1])}


def costs(connector: str, rounds: int) -> Iterator[tuple[str, Cost]]:
    """What each operation cost in the first round, and then in the last."""
    spark = get_spark(SparkConfig(master="local[2]", conf={"spark.jars": JARS}))
    with tempfile.TemporaryDirectory() as folder:
        table = CONNECTORS[connector](spark, SPEC, f"{folder}/probe")
        for number in range(rounds):
            for name, run in _round(spark, table, 10 * number):
                cost = _measured(spark, run)
                if number in (0, rounds - 1):
                    yield f"{name}, the first" if number == 0 else name, cost


def _round(spark: Any, table: Table, start: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    def rows(first: int) -> Any:
        data = [(first + i, "ab"[i % 2], [1]) for i in range(4)]
        return spark.createDataFrame(data, SPEC.schema).coalesce(1)

    yield "append", lambda: table.append(rows(start))
    yield "read", lambda: table.read().collect()
    yield "merge", lambda: table.merge(rows(start + 1000))
    replaced = rows(start + 2000).where("domain = 'a'")
    yield "replace a partition", lambda: table.replace_where(replaced, {"domain": "a"})
    yield "version", table.version
    yield "detail", table.detail


def _measured(spark: Any, run: Callable[[], Any]) -> Cost:
    pid = spark._jvm.java.lang.ProcessHandle.current().pid()
    tracker = spark.sparkContext.statusTracker()

    def now() -> tuple[float, int]:
        stat = stat_of(pid)
        assert stat  # of the JVM that answers here
        return seconds_of(stat), len(tracker.getJobIdsForGroup(None))

    cpu, jobs = now()
    run()
    later_cpu, later_jobs = now()
    return Cost(later_cpu - cpu, later_jobs - jobs)


def demo() -> Iterator[str]:
    """Seconds of the demo's jobs by their own ledger, and CPU seconds of the whole command."""
    seconds_of_jobs = {name: _demo(name) for name in CONNECTORS}
    yield "| job | " + " | ".join(f"{name}, s" for name in seconds_of_jobs) + " |"
    yield "|---|" + "--:|" * len(seconds_of_jobs)
    for job in seconds_of_jobs["native"]:
        yield f"| {job} | " + " | ".join(f"{f[job]:.1f}" for f in seconds_of_jobs.values()) + " |"


def _demo(connector: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/log", "w") as log:
        settings = [
            f"tables.root={folder}/tables",
            f"tables.connector={connector}",
            f"report.path={folder}/report.html",
            f"export={{jsonl: {{path: {folder}/jsonl}}}}",
            f"spark.conf={{spark.jars: '{JARS}'}}" if connector == "native" else "seed=42",
        ]
        config = ["--config", "conf/demo.yaml", "--set", *settings]
        command = [sys.executable, "-m", "longattn"]
        usage = watch([*command, "run", *config], log)
        status = subprocess.run(
            [*command, "status", "--json", *config],
            cwd=REPO,
            check=True,
            capture_output=True,
            text=True,
        )
        jobs = json.loads(status.stdout)["jobs"]
    return {job: run["seconds"] for job, run in jobs.items()} | {"CPU, all": usage.cpu}


if __name__ == "__main__":
    main()
