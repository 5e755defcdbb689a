"""Many short documents through job windows, packed in order and by likeness: how fast, and the
memory that it takes.

    python -m benchmarks.windows.many [--documents 25000 100000] [--words 50 350]
                                      [--driver-memory 1g]

Prints a table. Documents are made: of 50 to 350 words, most of them from a vocabulary that all
share and whose frequencies are Zipf's, one in eight from the few names of a topic of some twenty
documents, which stand anywhere in the files. Groups are of some 16 million tokens and two are
packed at a time, so memory should not grow with the documents once there are more groups than that.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from benchmarks.usage import watch

FILE = 10_000  # documents of a file
VOCABULARY, NAMES = 50_000, 30  # words that all share, and names of a topic
TOPIC = 20  # documents of one, about
NAMED = 0.125  # of a document's words
ORDERS = ("source", "similar")
LENGTH = 8192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, nargs="+", default=[25_000, 100_000])
    parser.add_argument("--words", type=int, nargs=2, default=[50, 350], help="of a document")
    parser.add_argument("--driver-memory", default="1g")
    given = parser.parse_args()
    print("| order | documents | tokens | s | documents a second | CPU s | peak memory, MB |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for count in given.documents:
        with tempfile.TemporaryDirectory(prefix="many-") as folder:
            for line in timings(Path(folder), count, given.words, given.driver_memory):
                print(line, flush=True)


def timings(work: Path, count: int, words: list[int], memory: str) -> Iterator[str]:
    """A line of the table for each order of so many documents, ingested once."""
    n_tokens = write_corpus(work / "corpus", count, words)
    write_tokenizer(work / "tokenizer.json", count)
    usage = None
    for order in ORDERS:
        config = write_config(work, order, memory)
        for job in ("windows",) if usage else ("ingest", "windows"):
            with (work / f"{job}.log").open("w") as log:
                command = [sys.executable, "-m", "longattn.etl.cli", job, "--config", str(config)]
                usage = watch(command, log)
        assert usage is not None  # some job has run
        yield (
            f"| {order} | {count:,} | {n_tokens / 1e6:,.0f} M | {usage.wall:.0f}"
            f" | {count / usage.wall:,.0f} | {usage.cpu:.0f} | {usage.peak:,.0f} |"
        )


def write_corpus(folder: Path, count: int, words: list[int]) -> int:
    """Write files of documents of so many words each; returns how many they have together."""
    folder.mkdir()
    rng, total = np.random.default_rng(0), 0
    least, most = words
    for first in range(0, count, FILE):
        sizes = rng.integers(least, most, size=min(FILE, count - first))
        texts = [document(rng, size, topics(count)) for size in sizes]
        rows = (json.dumps({"text": " ".join(text)}) + "\n" for text in texts)
        (folder / f"{first:09}.jsonl").write_text("".join(rows))
        total += sum(map(len, texts))
    return total


def document(rng: np.random.Generator, size: int, n_topics: int) -> list[str]:
    topic = rng.integers(n_topics)
    shared = (VOCABULARY ** rng.random(size)).astype(int)  # as frequent as one over their rank
    name = rng.integers(NAMES, size=size)
    named = rng.random(size) < NAMED
    return [
        f"n{topic}x{n}" if is_name else f"w{w}"
        for w, n, is_name in zip(shared, name, named, strict=True)
    ]


def write_tokenizer(path: Path, count: int) -> None:
    """One token a word; whatever the corpus has of words."""
    names = (f"n{topic}x{n}" for topic in range(topics(count)) for n in range(NAMES))
    words = ["end", *(f"w{n}" for n in range(VOCABULARY + 1)), *names]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="end"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(path))


def topics(count: int) -> int:
    return max(count // TOPIC, 1)


def write_config(work: Path, order: str, memory: str) -> Path:
    settings: dict[str, Any] = {
        "sources": {"short": [{"path": f"{work}/corpus/*.jsonl"}]},
        "tables": {"root": str(work / "tables")},
        "tokenizer": str(work / "tokenizer.json"),
        "window": {"length": LENGTH},
        "dedup": {"enabled": False},
        "pack": {
            "domains": ["short"],
            "strategy": "concat",
            "order": order,
            "separator": "end",
        },
        "spark": {"master": "local[2]", "conf": {"spark.driver.memory": memory}},
    }
    path = work / f"{order}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


if __name__ == "__main__":
    main()
