"""Near-duplicate removal: this project, datatrove 0.10 and text-dedup 0.4 on the same documents.

`python -m benchmarks.dedup [--families 500] [--only ours]` prints the tables of
docs/performance.md. The documents are modules of two releases of sympy and edited copies with
similarities from 0.5 to 0.95. Peers get environments of their own under --cache, made with pip.
Needs scipy, for the exact similarity of all pairs.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.usage import Usage, watch

RELEASES = ("1.13.3", "1.14.0")
REQUIREMENTS = {
    "datatrove": ["datatrove[io,processing]==0.10.1", "spacy", "orjson"],
    "text-dedup": ["text-dedup==0.4.0"],
}
THRESHOLD, NGRAM, PERMUTATIONS = 0.8, 5, 128
SCALES = (1, 2, 4, 8)
CORES = 2
HERE = Path(__file__).resolve()

Pairs = set[tuple[str, str]]


@dataclass(frozen=True)
class Truth:
    """Exact similarities of all pairs that share a shingle."""

    similar: Pairs
    clusters: list[set[str]]

    def of_removed(self, removed: set[str]) -> tuple[float, float]:
        """Recall and precision of a set of removed documents; any survivor of a cluster will do."""
        right = sum(min(len(c & removed), len(c) - 1) for c in self.clusters)
        return right / sum(len(c) - 1 for c in self.clusters), right / max(1, len(removed))

    def scaled(self, times: int) -> "Truth":
        """Pairs and clusters of `scaled` documents within each copy; none across copies."""
        copies = [f"{copy}-" for copy in range(times)]
        pairs = {(c + a, c + b) for c in copies for a, b in self.similar}
        return Truth(
            pairs, [{c + name for name in names} for c in copies for names in self.clusters]
        )


def main() -> None:
    given = arguments()
    if given.contestant:
        CONTESTANTS[given.contestant](given.corpus, given.out)
        return
    given.cache.mkdir(parents=True, exist_ok=True)
    documents = corpus(given.cache, given.families)
    truth = brute_force(documents)
    size = megabytes(documents)
    print(
        f"{len(documents)} documents, {size:.1f} MB, {len(truth.similar)} pairs of similarity "
        f"{THRESHOLD} or more in {len(truth.clusters)} clusters; {CORES} cores\n"
    )
    usage = scaling(given.cache, documents)
    print()
    comparison(given.cache, documents, truth, usage, given.only)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--families", type=int, default=500, help="modules taken of each release")
    parser.add_argument("--cache", type=Path, default=Path("data/bench-dedup"))
    parser.add_argument("--only", choices=["ours"], help="leave the peers out")
    parser.add_argument("--contestant", choices=list(CONTESTANTS), help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


# Documents and what is true of them


def corpus(cache: Path, families: int) -> dict[str, str]:
    """Modules of both releases under the same names, and three edited copies of the small ones."""
    rng = random.Random(0)
    old, new = (modules(cache, release) for release in RELEASES)
    names = rng.sample(sorted(set(old) & set(new)), families)
    documents = {f"{i}/{name}": m[name] for name in names for i, m in enumerate((old, new))}
    for name in names:
        if len(old[name]) < 12_000:
            documents |= {f"edit{i}/{name}": edited(rng, old[name]) for i in range(3)}
    return documents


def modules(cache: Path, release: str) -> dict[str, str]:
    """Texts of a release's Python files of at least 2 kB."""
    wheel = cache / f"sympy-{release}-py3-none-any.whl"
    if not wheel.exists():
        pip(sys.executable, "download", "--no-deps", "--dest", str(cache), f"sympy=={release}")
    with zipfile.ZipFile(wheel) as archive:
        files = [i for i in archive.infolist() if i.filename.endswith(".py")]
        return {i.filename: archive.read(i).decode() for i in files if i.file_size >= 2000}


def edited(rng: random.Random, text: str) -> str:
    """Replace single words so that the expected similarity is uniform between 0.5 and 0.95."""
    similarity = rng.uniform(0.5, 0.95)
    rate = 1 - (2 * similarity / (1 + similarity)) ** (1 / NGRAM)
    return re.sub(
        r"\w+", lambda m: f"w{rng.getrandbits(40)}" if rng.random() < rate else m[0], text
    )


def scaled(documents: dict[str, str], times: int) -> Iterator[tuple[str, str]]:
    """The documents, and again with their letters moved along the alphabet: no name in common.

    Numbers stay, so that a module of nothing else is alike in all copies.
    """
    letters = "abcdefghijklmnopqrstuvwxyz"
    for copy in range(times):
        moved = letters[copy:] + letters[:copy]
        table = str.maketrans(letters + letters.upper(), moved + moved.upper())
        yield from ((f"{copy}-{name}", text.translate(table)) for name, text in documents.items())


def brute_force(documents: dict[str, str]) -> Truth:
    """Jaccard of the word n-grams of every pair, by one product of sparse matrices."""
    import numpy as np
    from scipy.sparse import csr_matrix

    names, sets = list(documents), [shingles(text) for text in documents.values()]
    columns: dict[tuple[str, ...], int] = {}
    indices = [columns.setdefault(gram, len(columns)) for grams in sets for gram in grams]
    sizes = np.array([len(grams) for grams in sets])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    matrix = csr_matrix((np.ones(len(indices), np.int32), indices, starts))
    shared = (matrix @ matrix.T).tocoo()
    upper = shared.row < shared.col
    row, col, count = shared.row[upper], shared.col[upper], shared.data[upper]
    alike = count / (sizes[row] + sizes[col] - count) >= THRESHOLD
    pairs = {ordered(names[a], names[b]) for a, b in zip(row[alike], col[alike], strict=True)}
    return Truth(pairs, clusters_of(pairs))


def shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return set(zip(*(words[i:] for i in range(NGRAM)), strict=False))


def clusters_of(pairs: Iterable[tuple[str, str]]) -> list[set[str]]:
    cluster: dict[str, set[str]] = {}
    for a, b in pairs:
        merged = cluster.get(a, {a}) | cluster.get(b, {b})
        cluster.update(dict.fromkeys(merged, merged))
    return list({id(c): c for c in cluster.values()}.values())


def ordered(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a < b else (b, a)


def megabytes(documents: dict[str, str]) -> float:
    return sum(len(text.encode()) for text in documents.values()) / 1e6


# The tables


def scaling(cache: Path, documents: dict[str, str]) -> Usage:
    """Run ours on growing copies of the corpus; return the last run's usage."""
    print("| documents | MB | wall s | CPU s | MB per CPU s | peak MB |")
    print("|---|---|---|---|---|---|")
    usages, sizes = [], []
    for times in SCALES:
        path = write(cache / f"corpus-{times}.jsonl", scaled(documents, times))
        usage, _ = contest(sys.executable, "ours", path, cache / f"ours-{times}")
        usages.append(usage)
        sizes.append(megabytes(documents) * times)
        print(
            f"| {len(documents) * times} | {sizes[-1]:.0f} | {usage.wall:.0f} | {usage.cpu:.0f} "
            f"| {sizes[-1] / usage.cpu:.2f} | {usage.peak:.0f} |",
            flush=True,
        )
    marginal = (sizes[-1] - sizes[0]) / (usages[-1].cpu - usages[0].cpu)
    print(f"\nBeyond start-up: {marginal:.1f} MB per CPU second (from the first to the last row).")
    return usages[-1]


def comparison(
    cache: Path, documents: dict[str, str], truth: Truth, ours: Usage, only: str | None
) -> None:
    """Print usage and quality of each contestant on the largest corpus."""
    print("| | wall s | CPU s | MB per CPU s | peak MB | removed | recall | precision |")
    print("|---|---|---|---|---|---|---|---|")
    times = SCALES[-1]
    size, path = megabytes(documents) * times, cache / f"corpus-{times}.jsonl"
    ids, whole = {name for name, _ in scaled(documents, times)}, truth.scaled(times)
    show("ours", ours, size, removed(cache / f"ours-{times}", ids), whole)
    for name in () if only else REQUIREMENTS:
        usage, out = contest(environment(cache, name), name, path, cache / name)
        show(name, usage, size, removed(out, ids), whole)


def show(name: str, usage: Usage, size: float, gone: set[str], truth: Truth) -> None:
    recall, precision = truth.of_removed(gone)
    print(
        f"| {name} | {usage.wall:.0f} | {usage.cpu:.0f} | {size / usage.cpu:.2f} "
        f"| {usage.peak:.0f} | {len(gone)} | {recall:.4f} | {precision:.4f} |",
        flush=True,
    )


def removed(out: Path, ids: set[str]) -> set[str]:
    return ids - set((out / "kept.txt").read_text().splitlines())


# Running a contestant


def contest(python: str, name: str, path: Path, out: Path) -> tuple[Usage, Path]:
    """Run one contestant in a process of its own and watch it and all it starts."""
    out.mkdir(parents=True, exist_ok=True)
    # -P: else this folder's select.py would stand in for the standard library's
    script = [python, "-P", str(HERE), "--contestant", name]
    command = [*script, "--corpus", str(path), "--out", str(out)]
    with (out / "log.txt").open("w") as log:
        return watch(command, log), out


def environment(cache: Path, name: str) -> str:
    """Python of a virtual environment with the peer in it; made on first use."""
    folder = cache / f"venv-{name}"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip(str(python), "install", *REQUIREMENTS[name])
    return str(python.absolute())


def pip(python: str, *words: str) -> None:
    subprocess.run([python, "-m", "pip", "--quiet", *words], check=True)


def write(path: Path, documents: Iterable[tuple[str, str]]) -> Path:
    with path.open("w") as file:
        for name, text in documents:
            file.write(json.dumps({"id": name, "text": text}) + "\n")
    return path


# The contestants; each reads --corpus and writes the ids it keeps


def run_ours(path: Path, out: Path) -> None:
    import shutil

    from pyspark.sql import functions as F

    from benchmarks.tables.rows import rows_of
    from longattn.etl import config
    from longattn.etl.console import open_context
    from longattn.etl.dedup import job as dedup
    from longattn.etl.dedup.kept import kept_documents
    from longattn.etl.tables.schema import DOCUMENTS

    shutil.rmtree(out / "tables", ignore_errors=True)
    settings = config.validate(
        {"tables": {"root": str(out / "tables")}, "spark": {"master": f"local[{CORES}]"}}
    )
    context = open_context(settings, quiet=True)
    lines = context.spark.read.schema("id string, text string").json(str(path))
    records = lines.repartition(2 * CORES)
    known = {
        "doc_id": F.col("id"),
        "domain": F.lit("code"),
        "priority": F.lit(0),
        "n_chars": F.length("text"),
        "text": F.col("text"),
    }
    context.tables.append("documents", rows_of(DOCUMENTS, records, known))
    dedup.run(context)
    kept = kept_documents(context)
    save(out, (row["doc_id"] for row in kept.select("doc_id").collect()))


def run_datatrove(path: Path, out: Path) -> None:
    """Its four stages with its own defaults (14 buckets of 8 hashes)."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    config = MinhashConfig(n_grams=NGRAM)
    work, shards = out / "work", out / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines(keepends=True)
    for shard in range(CORES):
        (shards / f"{shard}.jsonl").write_text("".join(lines[shard::CORES]))
    read = JsonlReader(str(shards))
    folder = {name: str(work / name) for name in ("signatures", "buckets", "removed", "kept")}
    buckets = MinhashDedupBuckets(folder["signatures"], folder["buckets"], config=config)
    stages: list[tuple[int, list[Any]]] = [
        (CORES, [read, MinhashDedupSignature(folder["signatures"], config=config)]),
        (config.num_buckets, [buckets]),
        (1, [MinhashDedupCluster(folder["buckets"], folder["removed"], config=config)]),
        (
            CORES,
            [
                read,
                MinhashDedupFilter(folder["removed"]),
                JsonlWriter(folder["kept"], compression=None),
            ],
        ),
    ]
    for number, (tasks, pipeline) in enumerate(stages):
        LocalPipelineExecutor(
            pipeline,
            tasks=tasks,
            workers=CORES,
            logging_dir=str(work / f"log{number}"),
            skip_completed=False,
        ).run()
    kept = [json.loads(x)["id"] for p in (work / "kept").iterdir() for x in p.open()]
    save(out, kept)


def run_text_dedup(path: Path, out: Path) -> None:
    """Its one-process MinHash with its own defaults; bands and rows follow from the threshold."""
    import datasets
    from text_dedup.minhash import main as text_dedup

    options = {
        "path": "json",
        "data_files": str(path),
        "split": "train",
        "column": "text",
        "cache_dir": str(out / "cache"),
        "output": str(out / "kept"),
        "ngram": NGRAM,
        "num_perm": PERMUTATIONS,
        "threshold": THRESHOLD,
        "num_proc": CORES,
    }
    text_dedup([f"--{k}={v}" for k, v in options.items()], standalone_mode=False)
    save(out, datasets.load_from_disk(str(out / "kept"))["id"])


def save(out: Path, kept: Iterable[str]) -> None:
    (out / "kept.txt").write_text("\n".join(kept))


CONTESTANTS: dict[str, Callable[[Path, Path], None]] = {
    "ours": run_ours,
    "datatrove": run_datatrove,
    "text-dedup": run_text_dedup,
}

if __name__ == "__main__":
    main()
