"""A corpus of gigabytes through ingest, dedup and windows, and the memory that it takes.

`python -m benchmarks.ingest data/scorer FOLDER... [--gigabytes 2] [--driver-memory 2g]` writes the
text files below the folders (of installed packages, say) in the formats users have, runs the three
jobs in local mode, and prints the table of docs/performance.md.
"""

import argparse
import gzip
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.usage import Usage, watch
from longattn.etl.config import load
from longattn.etl.console import open_context

DOMAIN_OF = {
    **dict.fromkeys((".py", ".pyi", ".c", ".h", ".hpp", ".cpp", ".js", ".ts", ".rs"), "code"),
    **dict.fromkeys((".html", ".xml"), "book"),
    **dict.fromkeys((".tex", ".rst", ".md", ".txt"), "arxiv"),
}
SMALLEST, LARGEST = 1 << 10, 64 << 20  # bytes of a file that becomes a document
PARQUET_ROWS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizer")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--driver-memory", default="2g")
    parser.add_argument("--work", type=Path, help="keep corpus and tables here")
    given = parser.parse_args()
    work = given.work or Path(tempfile.mkdtemp(prefix="ingest-"))
    sizes = write_corpus(given.folders, work / "corpus", int(given.gigabytes * 1e9))
    config = write_config(work, given.tokenizer, given.driver_memory)
    print(f"{', '.join(f'{name} {size / 1e6:,.0f} MB' for name, size in sizes.items())}\n")
    run_jobs(config, work, sum(sizes.values()) / 1e6)
    if given.work is None:
        shutil.rmtree(work)


def run_jobs(config: Path, work: Path, megabytes: float) -> None:
    print("| job | rows in | out | seconds | CPU s | MB/s | peak memory, MB |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for job in ("ingest", "dedup", "windows"):
        with (work / f"{job}.log").open("w") as log:
            command = [sys.executable, "-m", "longattn.etl.cli", job, "--config", str(config)]
            usage = watch(command, log)
        print(line(job, usage, megabytes, *ledger(config, job)), flush=True)


def line(job: str, usage: Usage, megabytes: float, rows_in: int, rows_out: int) -> str:
    return (
        f"| {job} | {rows_in:,} | {rows_out:,} | {usage.wall:.0f} | {usage.cpu:.0f} "
        f"| {megabytes / usage.wall:.1f} | {usage.peak:,.0f} |"
    )


def ledger(config: Path, job: str) -> tuple[int, int]:
    """Rows in and out of the job's last run."""
    context = open_context(load(config), quiet=True)
    run = context.tables["runs"].read().where(f"job = '{job}'").orderBy("started").tail(1)[0]
    context.spark.stop()
    return run["rows_in"], run["rows_out"]


def write_corpus(folders: list[Path], out: Path, n_bytes: int) -> dict[str, int]:
    """Write files of text, one document each, until there are enough bytes; bytes per domain."""
    if (out / "sizes.json").exists():
        made: dict[str, int] = json.loads((out / "sizes.json").read_text())
        return made
    out.mkdir(parents=True)
    sizes = dict.fromkeys(("arxiv", "book", "code"), 0)
    code: list[tuple[str, str]] = []
    with (
        (out / "arxiv.jsonl").open("w") as plain,
        gzip.open(out / "book.json.gz", "wt", 1) as zipped,
    ):
        writers = {"arxiv": plain, "book": zipped}
        for path in documents(folders):
            if sum(sizes.values()) >= n_bytes:
                break
            domain, text = DOMAIN_OF[path.suffix], path.read_text(errors="replace")
            sizes[domain] += len(text.encode())
            if domain == "code":
                code.append((text, str(path)))
                if len(code) == PARQUET_ROWS:
                    write_parquet(out, code)
            else:
                writers[domain].write(json.dumps({"id": str(path), "text": text}) + "\n")
    write_parquet(out, code)
    (out / "sizes.json").write_text(json.dumps(sizes))
    return sizes


def documents(folders: list[Path]) -> Iterator[Path]:
    """Text files below the folders, in the order of their paths."""
    for folder, _, names in sorted(chain.from_iterable(map(os.walk, folders))):
        yield from filter(is_document, (Path(folder, name) for name in sorted(names)))


def is_document(path: Path) -> bool:
    known = path.suffix in DOMAIN_OF and not path.is_symlink()
    return known and SMALLEST <= path.stat().st_size <= LARGEST


def write_parquet(out: Path, rows: list[tuple[str, str]]) -> None:
    """Write rows to the next file, and empty the list."""
    (out / "code").mkdir(exist_ok=True)
    texts, paths = ([row[i] for row in rows] for i in (0, 1))
    name = f"train-{len(list((out / 'code').iterdir())):05}.parquet"
    pq.write_table(pa.table({"content": texts, "path": paths}), out / "code" / name)
    rows.clear()


def write_config(work: Path, tokenizer: str, driver_memory: str) -> Path:
    corpus = work / "corpus"
    settings = {
        "sources": {
            "arxiv": [{"path": f"{corpus}/arxiv.jsonl", "id": "id"}],
            "book": [{"path": f"{corpus}/book.json.gz", "id": "id"}],
            "code": [{"path": f"{corpus}/code", "format": "parquet", "text": "content"}],
        },
        "tables": {"root": str(work / "tables")},
        "tokenizer": tokenizer,
        "window": {"length": 8192},
        "spark": {"conf": {"spark.driver.memory": driver_memory}},
    }
    path = work / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


if __name__ == "__main__":
    main()
