"""A small world to break: sources with everything in them, a config, and what the tables hold.

The tables are read by deltalake alone, so that nothing that may be broken looks at itself. What is
to be killed is a process of its own; what comes before and after it runs in this one, where Spark
is warm: starting Java anew for each command was most of the time that a case took.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from deltalake import DeltaTable
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.commands import longattn
from tests.conftest import jars
from tests.few_rows import FEW_ROWS

REPO = Path(__file__).resolve().parents[2]
JOBS = ["ingest", "dedup", "windows", "score", "select", "export"]
WORDS = [f"w{number}" for number in range(400)]
# Differ from run to run; all else must not.
PASSING = {"read_at", "rejected_at", "scored_at", "forgotten_at"}
LEDGER = "runs"
ALL = ("run", "--to", "export")
SECONDS = 300  # after which a command hangs
SCORE_COMMIT = 16  # windows


class Sources:
    """A folder of documents and the tokenizer that cuts them; worlds that share it are alike."""

    def __init__(self, folder: Path, seed: int = 0, files: str = "ab") -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._write_tokenizer()
        for number, name in enumerate(files):
            self.add(name, seed + number)

    def _write_tokenizer(self) -> None:
        words = {word: number for number, word in enumerate(["?", *WORDS])}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.save(str(self.folder / "tokenizer.json"))

    def add(self, name: str, seed: int, documents: int = 12) -> None:
        """A file of documents, one of them repeated, one near another, one line broken."""
        draw = random.Random(seed)
        texts = [" ".join(draw.choices(WORDS, k=draw.randint(20, 160))) for _ in range(documents)]
        texts[3] = " ".join([*texts[2].split()[:-1], "w0"])
        rows = [{"id": f"{name}{n}", "text": text} for n, text in enumerate(texts)]
        lines = [json.dumps(row) for row in [*rows, rows[0], rows[1]]]
        lines.insert(5, '{"id": "broken", "text": ')
        part = self.folder / f"{name}.part"
        part.write_text("\n".join(lines) + "\n")
        part.rename(self.folder / f"{name}.jsonl")


class World:
    """A config over sources, and a root of tables and an export of its own."""

    def __init__(self, folder: Path, sources: Sources, files: str = "*") -> None:
        self.folder, self.sources = folder, sources
        self.root = folder / "tables"
        self.export = folder / "export"
        self.config = folder / "config.yaml"
        self.connector = "delta-rs"
        folder.mkdir(parents=True)
        self.sees(files)

    def sees(self, files: str) -> None:
        """Configure the sources' files of these names, as a glob."""
        self.config.write_text(yaml.safe_dump(self._settings(files)))

    def copy(self, folder: Path, files: str = "*") -> "World":
        """A world with the same tables and export in another place."""
        other = World(folder, self.sources, files)
        for place in ("tables", "export"):
            if (self.folder / place).exists():
                shutil.copytree(self.folder / place, folder / place)
        return other

    def _settings(self, files: str) -> dict[str, Any]:
        source = {"path": str(self.sources.folder / f"{files}.jsonl"), "id": "id"}
        local = {**FEW_ROWS, "spark.driver.memory": "1g"}
        if self.connector == "native":
            local["spark.jars"] = jars("delta")
        return {
            "tables": {"root": str(self.root), "wait": 240, "connector": self.connector},
            "sources": {"book": [source]},
            "tokenizer": str(self.sources.folder / "tokenizer.json"),
            "window": {"length": 32},
            "score": {"scorer": "random", "commit": SCORE_COMMIT},
            "select": {"fraction": 0.5, "compare": ["random"], "ablate_alpha": [0.0]},
            "export": {"parquet": {"path": str(self.export), "shard_tokens": 512}},
            "spark": {"master": "local[2]", "conf": local},
        }

    def start(self, *argv: str, fault: str = "") -> subprocess.Popen[str]:
        """Start a command on this world's config; its output is kept."""
        command = ["tests.faults.points", fault] if fault else ["longattn"]
        return subprocess.Popen(
            [sys.executable, "-m", *command, *argv, "--config", str(self.config)],
            cwd=REPO,
            env=os.environ | {"PYTHONPATH": str(REPO)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run_alone(self, *argv: str, fault: str = "") -> tuple[int, str]:
        """Run a command to its end in a process of its own: exit code and output."""
        process = self.start(*argv, fault=fault)
        try:
            out, _ = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
        return process.returncode, out

    def run(self, *argv: str) -> tuple[int, str]:
        """Run a command to its end in this process: exit code and output."""
        return longattn(*argv, "--config", str(self.config))

    def rows(self, table: str) -> list[str]:
        """All rows of a table but for times, sorted."""
        if not DeltaTable.is_deltatable(str(self.root / table)):
            return []
        rows = DeltaTable(str(self.root / table)).to_pyarrow_table().to_pylist()
        kept = [{k: v for k, v in row.items() if k not in PASSING} for row in rows]
        return sorted(json.dumps(row, sort_keys=True, default=str) for row in kept)

    def tables(self) -> dict[str, list[str]]:
        """The rows of every table but the ledger, and the exported samples."""
        names = sorted(p.name for p in self.root.iterdir() if p.name[0] != "_")
        found = {name: self.rows(name) for name in names if name != LEDGER}
        shards = sorted(self.export.rglob("*.parquet"))
        samples = [row for shard in shards for row in pq.read_table(shard).to_pylist()]
        return found | {"export": [json.dumps(row, default=str) for row in samples]}

    def versions(self) -> dict[str, int]:
        """The version of each table that is made."""
        places = {path.name: str(path) for path in self.root.glob("[!_]*")}
        made = {name: place for name, place in places.items() if DeltaTable.is_deltatable(place)}
        return {name: DeltaTable(place).version() for name, place in made.items()}

    def statuses(self) -> list[tuple[str, str]]:
        """Job and status of each run in the ledger, in order."""
        rows = [json.loads(row) for row in self.rows(LEDGER)]
        return [(r["job"], r["status"]) for r in sorted(rows, key=lambda r: r["started"])]


class Stages:
    """A world as it is before each job, and after the last; made once, copied by each test."""

    def __init__(self, folder: Path, start: World, files: str) -> None:
        self.folder, self.files = folder, files
        self.worlds = [start.copy(folder / "0", files)]
        for number, job in enumerate(JOBS, 1):
            self.worlds.append(self.worlds[-1].copy(folder / str(number), files))
            code, out = self.worlds[-1].run(job)
            assert code == 0, out

    def before(self, job: str) -> World:
        return self.worlds[JOBS.index(job)]

    def after(self, job: str) -> World:
        return self.worlds[JOBS.index(job) + 1]

    @property
    def done(self) -> World:
        """What every disturbed world must come to."""
        return self.worlds[-1]

    def commits(self, job: str) -> dict[str, int]:
        """How often a job commits to each table; the first commit of a table is its version 1."""
        before, after = self.before(job).versions(), self.after(job).versions()
        turns = {name: version - before.get(name, 0) for name, version in after.items()}
        return {name: n for name, n in turns.items() if n and name != LEDGER}


def wait_for(path: Path, seconds: float = SECONDS) -> None:
    """Wait until a file is there."""
    give_up = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < give_up, f"{path} did not come"
        time.sleep(0.05)


def run_to_the_end(world: World, *argv: str) -> None:
    """Run all jobs, or a command; the check agrees."""
    for words in (argv or ALL, ("status", "--check")):
        code, out = world.run(*words)
        assert code == 0, out
