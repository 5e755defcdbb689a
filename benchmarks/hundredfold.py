"""What check and estimate say of a corpus, and what the run then takes: the demo's, a hundredfold.

`python -m benchmarks.hundredfold [--times 100] [--scorer recall]` prints the tables of
docs/performance.md. Needs `make demo-data`. Each document is as long as one of the
demo's and made of passages of its domain's documents in an order of its own; one in ten is a copy
of another one, exact or with passages exchanged. The config is the demo's but for the scorer, the
places and `score.commit`, which the demo has for a small corpus.
"""

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.usage import REPO, watch
from longattn.etl.before.probe import look_at
from longattn.etl.config import Config, load
from longattn.etl.ingest.own import OwnFiles
from longattn.etl.ingest.sources import spec_of
from longattn.udfs.documents.bytes import Split
from longattn.udfs.documents.formats import read
from longattn.udfs.documents.records import to_row

DEMO = REPO / "conf" / "demo.yaml"
FILES = 20  # of a domain
PASSAGE = 2_000  # characters, at least
COPIED, EXACT = 0.1, 0.25  # share of documents that are copies, and of these that are exact
EXCHANGED = 0.03  # share of its passages that a near copy has of its own
SEED = 22

Documents = list[str]


# --- the corpus


def demo_documents() -> dict[str, Documents]:
    """The texts that ingest would take from the demo's sources, by domain."""
    config = load(DEMO)
    documents: dict[str, Documents] = {domain: [] for domain in config.sources}
    for domain, text in _texts(config):
        documents[domain].append(text)
    return documents


def _texts(config: Config) -> Iterator[tuple[str, str]]:
    for domain, sources in config.sources.items():
        for source in sources:
            spec = spec_of(domain, source, config)
            for file in look_at(domain, source, spec, OwnFiles(config)).files:
                whole = Split(file.path, 0, file.n_bytes, file.n_bytes, 1, file.name)
                for item in read(whole, spec):
                    text = to_row(item, file.path, file.name, spec).get("text")
                    if text is not None:
                        yield domain, text.decode()


def multiplied(documents: Documents, times: int, rng: random.Random) -> Iterator[str]:
    """So many times as many documents of the same lengths, one in ten of them a copy."""
    pool = [passage for text in documents for passage in passages(text)]
    made: list[list[str]] = []
    for text in documents * times:
        if made and rng.random() < COPIED:
            yield "\n".join(_copied(rng.choice(made), pool, rng))
        else:
            made.append(_drawn(pool, len(text), rng))
            yield "\n".join(made[-1])


def passages(text: str) -> Iterator[str]:
    """A text in pieces that begin and end with its lines."""
    piece: list[str] = []
    for line in text.split("\n"):
        piece.append(line)
        if sum(map(len, piece)) >= PASSAGE:
            yield "\n".join(piece)
            piece = []
    yield "\n".join(piece)


def _drawn(pool: list[str], length: int, rng: random.Random) -> list[str]:
    """Different passages, of so many characters together or a little more."""
    drawn, left = [], length
    for passage in rng.sample(pool, len(pool)):
        if left <= 0:
            break
        drawn.append(passage)
        left -= len(passage)
    return drawn


def _copied(original: list[str], pool: list[str], rng: random.Random) -> list[str]:
    if rng.random() < EXACT:
        return original
    return [rng.choice(pool) if rng.random() < EXCHANGED else passage for passage in original]


def write_corpus(folder: Path, times: int) -> int:
    """Write the demo's domains in the demo's formats; the characters written."""
    rng, written = random.Random(SEED), 0
    for domain, documents in demo_documents().items():
        (folder / domain).mkdir(parents=True)
        texts = list(multiplied(documents, times, rng))
        rng.shuffle(texts)
        written += sum(map(len, texts))
        for number in range(FILES):
            WRITERS[domain](folder / domain / f"part-{number:05}", texts[number::FILES], number)
    return written


def _arxiv(place: Path, texts: Documents, number: int) -> None:
    metas = [
        {"arxiv_id": f"{number}.{i}", "url": f"{number}/{i}", "yymm": "2601"}
        for i in range(len(texts))
    ]
    rows = [{"text": text, "meta": meta} for text, meta in zip(texts, metas, strict=True)]
    place.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _book(place: Path, texts: Documents, number: int) -> None:
    with gzip.open(f"{place}.json.gz", "wt") as out:
        for i, text in enumerate(texts):
            row = {"id": f"{number}-{i}", "text": text, "created": "2026"}
            out.write(json.dumps(row | {"metadata": {"url": f"{number}/{i}"}}) + "\n")


def _code(place: Path, texts: Documents, number: int) -> None:
    names = [f"{number}/{i}" for i in range(len(texts))]
    columns = {"content": texts, "max_stars_repo_name": names, "max_stars_repo_path": names}
    pq.write_table(pa.table(columns), place.with_suffix(".parquet"))


WRITERS = {"arxiv": _arxiv, "book": _book, "code": _code}


def write_config(folder: Path, scorer: str) -> Path:
    """The demo's config on the corpus."""
    settings = yaml.safe_load(DEMO.read_text())
    for domain, (source,) in settings["sources"].items():
        source["path"] = str(folder / "corpus" / domain / Path(source["path"]).name)
    settings["tables"]["root"] = str(folder / "tables")
    for name, target in settings["export"].items():
        target["path"] = str(folder / "export" / name)
    settings["report"]["path"] = str(folder / "report.html")
    settings["score"] = {"scorer": scorer, "model": str(REPO / settings["score"]["model"])}
    path = folder / f"{scorer}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


# --- what is said, and what is so


def longattn(command: str, config: Path, *words: str) -> tuple[str, float]:
    """A command's output and the seconds it took; ends this program when it fails."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "longattn", command, *words, "--config", str(config)],
        capture_output=True,
        text=True,
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
    )
    if done.returncode:
        raise SystemExit(f"{command}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout, time.monotonic() - started


def facts(status: dict[str, Any], cpu: float) -> dict[str, float]:
    """Of a run that has ended, what an estimate foretells, under the same names."""
    jobs, tables = status["jobs"], status["tables"]
    exports = jobs["export"]["metrics"]
    figures = {
        "documents": jobs["ingest"]["rows_out"],
        "duplicates": sum(jobs["dedup"]["refused"].values()) / jobs["dedup"]["rows_in"],
        "tokens": jobs["windows"]["metrics"]["tokens"],
        "windows": jobs["score"]["rows_in"],
        "CPU hours": cpu / 3600,
    }
    figures |= {f"bytes of {name}": tables[name]["bytes"] for name in ("documents", "windows")}
    figures["bytes of scores"] = tables["scores"]["bytes"]
    return figures | {
        f"bytes of export.{key.partition('/')[0]}": size
        for key, size in exports.items()
        if key.endswith("/bytes")
    }


def foretold(estimate: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The figures of an estimate, each with its range."""
    figures = {name: estimate[name] for name in ("documents", "duplicates", "tokens", "windows")}
    figures |= {f"bytes of {name}": size for name, size in estimate["bytes"].items()}
    hours = estimate["cpu_hours"].values()
    keys = ("value", "low", "high")
    return figures | {"CPU hours": {key: sum(part[key] for part in hours) for key in keys}}


def compared(said: dict[str, dict[str, float]], so: dict[str, float]) -> Iterator[str]:
    """A line for each figure: estimated, its range, what came of it, and the ratio of the two."""
    yield "| what | estimated | range | the run | estimated / run |\n|---|--:|--:|--:|--:|"
    for name, value in so.items():
        one = said[name]
        low, high = _shown(one["low"]), _shown(one["high"])
        ratio = f"{one['value'] / value:.2f}" if value else ""
        yield f"| {name} | {_shown(one['value'])} | {low} to {high} | {_shown(value)} | {ratio} |"


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def of_jobs(status: dict[str, Any]) -> Iterator[str]:
    yield "| job | rows in | rows out | seconds |\n|---|--:|--:|--:|"
    for name, job in status["jobs"].items():
        yield f"| {name} | {job['rows_in']:,} | {job['rows_out']:,} | {job['seconds']:.0f} |"


def table(folder: Path, times: int, scorer: str) -> Iterator[str]:
    """Type check, estimate and run, and say how the three agree."""
    size = write_corpus(folder / "corpus", times)
    config = write_config(folder, scorer)
    yield f"{size / 1e6:,.0f} million characters, {times} times the demo's\n"
    yield f"check: {longattn('check', config)[1]:.0f} s"
    said, seconds = longattn("estimate", config, "--json")
    yield f"estimate: {seconds:.0f} s"
    with (folder / "run.log").open("w") as log:
        usage = watch([sys.executable, "-m", "longattn", "run", "--config", str(config)], log)
    status = json.loads(longattn("status", config, "--json")[0])
    yield f"run: {usage.wall:.0f} s, {usage.cpu:.0f} s of CPU, {usage.peak:,.0f} MB at the peak\n"
    yield from compared(foretold(json.loads(said)), facts(status, usage.cpu))
    yield ""
    yield from of_jobs(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--scorer", default="recall")
    parser.add_argument("--work", type=Path, help="an empty folder to keep corpus and tables in")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hundredfold-") as temporary:
        for line in table(given.work or Path(temporary), given.times, given.scorer):
            print(line, flush=True)
    print(f"\n{os.cpu_count()} cores, load {os.getloadavg()[1]:.1f}")


if __name__ == "__main__":
    main()
