"""How many windows a second the driver can feed, and what select, export and report need:
`python -m benchmarks.fleet [--windows N] [--sizes N ...]`.

Prints the tables of docs/performance.md. Windows say that they have 32,768 tokens and hold
eight, so that the tables stay small; ids, files, statistics of 32 heads and the jobs are real. The
scorer sleeps for each window, in two executors of a standalone cluster on this machine.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.tables.reading import columns_of
from benchmarks.usage import REPO, seconds_of, stat_of
from longattn.udfs.scorers.base import Score, ScorerSpec, TokenIds, one_head
from longattn.udfs.scorers.registry import Plugin

LENGTH, HEADS, HELD = 32_768, 32, 8  # tokens that a window says it has, and holds
WINDOWS = 1_100_000  # 36 billion tokens
SIZES = (100_000, 1_000_000)
PER_FILE = 2_048  # windows of a data file, some 256 MB at their full length
DOMAINS = ("arxiv", "book", "code")
CLUSTER = "local-cluster[2,2,1024]"  # two executors of two slots and a GB
COMMITS_BEFORE_KILL = 3
POLL = 0.5  # seconds
PLUGIN = Plugin(
    "benchmarks.fleet:StandIn",
    "benchmarks.fleet:stand_in_version",
    settings=frozenset({"ms", "run"}),
    model=False,
)


def stand_in_version(spec: ScorerSpec) -> str:
    """`run` keeps the scores of two measurements apart."""
    return f"stand_in:{spec.option('run', 'a')}"


class StandIn:
    """Sleeps `ms` milliseconds for each window, as a GPU would let the processor wait."""

    def __init__(self, spec: ScorerSpec) -> None:
        self.version = stand_in_version(spec)
        self.seconds = float(spec.option("ms", 0.0)) / 1000

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        return None

    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        time.sleep(self.seconds * len(token_ids))
        return [self._score(ids) for ids in token_ids]

    def _score(self, token_ids: TokenIds) -> Score:
        far, near = (float(x) for x in token_ids[:2] % 9973 / 9973)
        score = one_head(LENGTH, LENGTH // 4, ds=far, du=-1e-9 * near)
        for name in ("head_s1", "head_s2"):
            score[name] = score[name] * HEADS
        return score


@dataclass
class Driver:
    """What the Python process and the JVM of a driver used; executors are not of it."""

    wall: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)  # seconds, of `python` and `java`
    peak: dict[str, float] = field(default_factory=dict)  # MB of resident memory

    def look(self, python: int) -> None:
        """Sample the process and its JVM while they run."""
        for name, pid in {"python": python, "java": _jvm_of(python)}.items():
            if pid and (used := _used(pid)):
                self.cpu[name], self.peak[name] = used

    def __str__(self) -> str:
        used = (
            f"{name} {self.peak.get(name, 0):,.0f} MB, {self.cpu.get(name, 0):.0f} s of CPU"
            for name in ("python", "java")
        )
        return "; ".join(used)


def _jvm_of(python: int) -> int | None:
    """The child of a process that is a JVM."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = entry.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if name == "java" and int(rest.split()[1]) == python:
            return int(entry.parent.name)
    return None


def _used(pid: int) -> tuple[float, float] | None:
    """CPU seconds so far and peak resident MB of a process; None when it is gone."""
    stat = stat_of(pid)
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    peak = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
    return (seconds_of(stat), int(peak.split()[1]) / 1e3) if stat else None


class World:
    """A folder with a config, tables of some size, and the stand-in scorer as a package."""

    def __init__(self, folder: Path, spark_conf: dict[str, str] | None = None) -> None:
        self.folder, self.root = folder, folder / "tables"
        folder.mkdir(parents=True, exist_ok=True)
        info = folder / "packages" / "stand_in-1.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stand-in\nVersion: 1\n")
        (info / "entry_points.txt").write_text(
            "[longattn.scorers]\nstand_in = benchmarks.fleet:PLUGIN\n"
        )
        self.config = folder / "fleet.yaml"
        self.config.write_text(json.dumps(self.settings(spark_conf or {})))  # JSON is YAML
        path = f"{REPO}:{info.parent}"
        self.env = {**os.environ, "PYTHONPATH": path, "PYSPARK_PYTHON": sys.executable}
        sys.path.append(str(info.parent))  # for the names that this process works out

    def settings(self, spark_conf: dict[str, str]) -> dict[str, Any]:
        return {
            "tables": {"root": str(self.root), "connector": "delta-rs"},
            "tokenizer": "words",
            "sources": {domain: [{"path": f"{domain}.jsonl"}] for domain in DOMAINS},
            "window": {"length": LENGTH},
            "score": {"scorer": "stand_in", "options": {"ms": 0.0}},
            "export": {"parquet": {"path": str(self.folder / "export")}},
            "report": {"path": str(self.folder / "report.html")},
            "spark": {"conf": spark_conf},
        }

    def argv(self, job: str, **settings: str) -> list[str]:
        argv = [sys.executable, "-m", "longattn", job, "--config", str(self.config)]
        return argv + [part for key, v in settings.items() for part in ("--set", _set(key, v))]

    def start(self, job: str, **settings: str) -> "subprocess.Popen[bytes]":
        log = (self.folder / f"{job}.log").open("ab")
        return subprocess.Popen(
            self.argv(job, **settings),
            env=self.env,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=self.folder,
        )

    def run(self, job: str, **settings: str) -> Driver:
        """Run a job to its end and watch its driver."""
        driver, started = Driver(), time.monotonic()
        process = self.start(job, **settings)
        while process.poll() is None:
            driver.look(process.pid)
            time.sleep(POLL)
        driver.wall = time.monotonic() - started
        if process.returncode:
            tail = (self.folder / f"{job}.log").read_text().splitlines()[-5:]
            raise SystemExit("\n".join([f"{job}: exit {process.returncode}", *tail]))
        return driver

    def last_run(self, job: str) -> dict[str, Any]:
        """The job's last row in the ledger."""
        rows = columns_of(self.root, "runs", "*").to_pylist()
        return max((row for row in rows if row["job"] == job), key=lambda row: row["started"])

    def commits(self) -> list[float]:
        """When each commit of `scores` was made, the one that made the table left out."""
        logs = sorted((self.root / "scores" / "_delta_log").glob("*.json"))
        return [log.stat().st_mtime for log in logs if int(log.stem)]


def _set(key: str, value: str) -> str:
    return f"{key.replace('__', '.')}={value}"


def make_tables(world: World, n_windows: int, scorer: str | None = None) -> None:
    """Fill documents, lengths and windows, a document a window; scores too, of a scorer given."""
    from longattn.etl import config
    from longattn.etl.run.recipe import Recipe
    from longattn.etl.session import get_spark
    from longattn.etl.tables.open import open_tables

    settings = config.load(world.config)
    spark = get_spark(config.SparkConfig(master="local[2]"))
    try:
        tables = open_tables(spark, settings.tables)
        for name, rows in _tables(spark, n_windows, Recipe(settings).windowing, scorer):
            tables[name].append(rows)
    finally:
        spark.stop()


def _tables(spark: Any, n: int, windowing: str, scorer: str | None) -> Iterator[tuple[str, Any]]:
    """Tables by name; columns that no job looks at are null or constant."""
    from pyspark.sql import functions as F

    from benchmarks.tables.rows import named, rows_of
    from longattn.etl.tables.schema import TABLES

    number, files = F.col("id"), max(1, n // PER_FILE)
    domain = F.element_at(F.array(*map(F.lit, DOMAINS)), (number % 3 + 1).cast("int"))
    ids = F.transform(
        F.sequence(F.lit(1), F.lit(HELD)), lambda i: F.hash(number, i).bitwiseAND(0xFFFF)
    )
    known = {
        "domain": domain,
        "doc_id": named("d", number),
        "window_id": named("w", number),
        "windowing": F.lit(windowing),
        "tokenizer": F.lit("words"),
        "n_tokens": F.lit(LENGTH),
        "end_token": F.lit(LENGTH),
        "end_char": F.lit(40),
        "token_ids": ids,
        "n_windows": F.lit(1),
        "source": domain,
        "source_uri": F.concat(domain, F.lit(".jsonl")),
        "source_row": number,
        "source_id": number,
        "n_chars": F.lit(40),
        "text": F.substring(F.sha2(number.cast("string"), 256), 1, 40),
    }
    zero = ("window_index", "start_token", "start_char", "overlap_tokens", "soft_cuts", "priority")
    known |= dict.fromkeys(zero, F.lit(0))
    by_file = F.floor(number / (3 * PER_FILE))
    many, few = spark.range(n), spark.range(n, numPartitions=max(2, files // 64))
    yield "windows", rows_of(TABLES["windows"], many.repartition(files, domain, by_file), known)
    for name in ("lengths", "documents"):
        yield name, rows_of(TABLES[name], few, known)
    if scorer:
        yield "scores", rows_of(TABLES["scores"], few, known | _score(F, scorer))


def _score(F: Any, scorer: str) -> dict[str, Any]:
    return {
        "scorer": F.lit(scorer),
        "k": F.lit(LENGTH // 4),
        "ds": F.exp(F.randn(1) / 4 - 2),
        "du": -F.exp(F.randn(2) - 20),
        "ds_se": F.lit(0.0),
        "du_se": F.lit(0.0),
        "rows_sampled": F.lit(LENGTH),
        "scored_at": F.current_timestamp(),
        "head_s1": F.array_repeat(F.rand(3) * LENGTH, HEADS),
        "head_s2": F.array_repeat(F.rand(4), HEADS),
    }


def scoring(world: World, n_windows: int, master: str, ms: float) -> Iterator[str]:
    """Score all windows, then kill a second scorer's run and start it again."""
    settings = {"spark__master": master, "score__options": f"{{ms: {ms}, run: a}}"}
    driver = world.run("score", **settings)
    run, commits = world.last_run("score"), world.commits()
    metrics = dict(run["metrics"])
    rate, cpu = n_windows / run["seconds"], sum(driver.cpu.values())
    yield f"| windows a second, the whole job | {rate:,.0f} |"
    yield f"| seconds of the job; with Spark's start | {run['seconds']:.0f}; {driver.wall:.0f} |"
    yield f"| commits | {int(metrics['commits'])} |"
    yield f"| share of the slots' time spent scoring | {metrics['busy_share']:.0%} |"
    yield f"| the driver at its peak | {driver} |"
    yield f"| windows for each second of the driver's CPU | {n_windows / cpu:,.0f} |"
    settings["score__options"] = f"{{ms: {ms}, run: b}}"
    before = len(commits)
    _until(world, settings, lambda: len(world.commits()) >= before + COMMITS_BEFORE_KILL)
    left = len(world.commits())
    seconds = _until(world, settings, lambda: len(world.commits()) > left)
    yield f"| first commit after a kill -9, from the start of the process | {seconds:.0f} s |"
    yield f"| keys in `scores` twice | {_repeated(world)} |"


def _until(world: World, settings: dict[str, str], reached: Callable[[], bool]) -> float:
    """Start a score run and kill all of it once something is reached; the seconds until then.

    A run that ends before that ends the wait too.
    """
    started = time.monotonic()
    process = world.start("score", **settings)
    while not reached() and process.poll() is None:
        time.sleep(POLL)
    seconds = time.monotonic() - started
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return seconds


def _repeated(world: World) -> int:
    keys = columns_of(world.root, "scores", "window_id", "scorer")
    return int(keys.num_rows - keys.group_by(["window_id", "scorer"]).aggregate([]).num_rows)


def choosing(world: World, n_windows: int) -> Iterator[str]:
    """select, export and report over scores that are there."""
    make_tables(world, n_windows, scorer="stand_in:a")
    for job in ("select", "export", "report"):
        driver = world.run(job, spark__master="local[2]")
        run = world.last_run(job)
        peak = sum(driver.peak.values())
        yield f"| {job} | {n_windows:,} | {run['seconds']:.0f} | {peak:,.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=WINDOWS, help="to score; 0: none")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="to select from")
    parser.add_argument("--master", default=CLUSTER)
    parser.add_argument("--ms", type=float, default=0.2, help="that a window takes")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fleet-"))
    try:
        for line in _lines(folder, arguments):
            print(line, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{os.cpu_count()} cores, load {os.getloadavg()[1]:.1f}, {arguments.master}")


def _lines(folder: Path, arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.windows:
        world = World(folder / "score")
        make_tables(world, arguments.windows)
        n, ms = arguments.windows, arguments.ms
        yield f"| {n:,} windows of {ms:g} ms | |\n|---|---:|"
        yield from scoring(world, n, arguments.master, ms)
        shutil.rmtree(world.folder)
    if arguments.sizes:
        yield "\n| job | windows | seconds | driver's peak, MB |\n|---|---:|---:|---:|"
    for n in arguments.sizes:
        world = World(folder / str(n))
        yield from choosing(world, n)
        shutil.rmtree(world.folder)


if __name__ == "__main__":
    main()
