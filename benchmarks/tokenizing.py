"""Time job windows' tokenising against bare tokenizers on the same text and cores.

`python -m benchmarks.tokenizing TOKENIZER [--megabytes 64] [--slots 2]` prints the tables of
docs/performance.md. The text is the Python files of the running environment, joined to
documents of about 400 KB; TOKENIZER is a folder, a tokenizer.json or a hub id.
"""

import argparse
import base64
import os
import random
import resource
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from benchmarks.usage import seconds_of, stat_of

DOCUMENT_CHARS = 400_000
HOSTILE_CHARS = 16_000_000

T = TypeVar("T")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("tokenizer")
    arguments.add_argument("--megabytes", type=int, default=64)
    arguments.add_argument("--slots", type=int, default=2)
    arguments.add_argument("--length", type=int, default=32_768)
    arguments.add_argument("--characters", type=int, default=HOSTILE_CHARS, help="without a cut")
    given = arguments.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(given.slots)  # read when the library first needs it
    documents = list(corpus(given.megabytes << 20))
    print(f"{len(documents)} documents, {sum(map(len, documents)) / 1e6:.0f} M characters\n")
    rates(given.tokenizer, documents, given.slots, given.length)
    print()
    hostile(given.tokenizer, given.characters)


def corpus(n_bytes: int) -> Iterator[str]:
    """Documents of about DOCUMENT_CHARS made of whole source files, up to n_bytes in all."""
    texts: list[str] = []
    for file in sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.py")):
        texts.append(file.read_text(encoding="utf-8", errors="replace"))
        if sum(map(len, texts)) >= DOCUMENT_CHARS:
            yield (document := "".join(texts))
            texts, n_bytes = [], n_bytes - len(document)
        if n_bytes <= 0:
            return


def rates(tokenizer: str, documents: list[str], slots: int, length: int) -> None:
    """Print tokens per second of encode_batch and of the stage, and their ratios.

    CPU seconds are of the whole process tree, JVM and Python workers included: unlike wall clock
    they can be compared on a machine that does other work, too.
    """
    print(f"| what, on {slots} cores | seconds | CPU s | tokens/s | of encode_batch, by CPU |")
    print("|---|--:|--:|--:|--:|")
    n_tokens, bare = 0, 0.0
    for name, work in works(tokenizer, documents, slots, length):
        before = cpu_seconds()
        result, took = seconds(work)
        cpu = cpu_seconds() - before
        n_tokens, bare = n_tokens or result or 0, bare or cpu
        print(f"| {name} | {took:.1f} | {cpu:.1f} | {n_tokens / took:,.0f} | {bare / cpu:.0%} |")


def cpu_seconds() -> float:
    """CPU time of this process and all below it that still live (Linux)."""
    pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    stats = {pid: stat for pid in pids if (stat := stat_of(pid))}

    def is_ours(process: int) -> bool:
        return process == os.getpid() or (process in stats and is_ours(int(stats[process][1])))

    return sum(seconds_of(stat) for process, stat in stats.items() if is_ours(process))


def encode_batch(tokenizer: str, documents: list[str]) -> int:
    """Tokens of all documents, encoded 16 at a time so that the encodings fit in memory."""
    from longattn.udfs.text.tokens import load_tokenizer

    bare = load_tokenizer(tokenizer).tokenizer
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    n_tokens = 0
    for start in range(0, len(documents), 16):
        batch = bare.encode_batch(documents[start : start + 16], add_special_tokens=False)
        n_tokens += sum(map(len, batch))
    return n_tokens


def works(
    tokenizer: str, documents: list[str], slots: int, length: int
) -> Iterator[tuple[str, Callable[[], int | None]]]:
    """What is timed, by name; a second run has warm workers, as a long job has."""
    for name in ("`encode_batch`", "`encode_batch`, again"):
        yield name, lambda: encode_batch(tokenizer, documents)
    from longattn.etl.config import SparkConfig
    from longattn.etl.session import get_spark
    from longattn.etl.windows.stage import cut_documents
    from longattn.udfs.windows.cut import WindowSpec

    spark = get_spark(SparkConfig(master=f"local[{slots}]"))
    rows = [(str(i), "code", text) for i, text in enumerate(documents)]
    frame = spark.createDataFrame(rows, "doc_id string, domain string, text string")
    frame = frame.repartition(4 * slots).persist()
    frame.count()
    spec = WindowSpec(
        windowing="benchmark", strategy="longattn", tokenizer=tokenizer, length=length
    )
    cut = cut_documents(frame, spec)
    for name in ("windows stage, cold workers", "windows stage, again"):
        yield name, lambda: cut.write.format("noop").mode("overwrite").save()
    spark.stop()


def hostile(tokenizer: str, characters: int) -> None:
    """Print the time and memory for so many characters of text that has no place to cut."""
    from longattn.udfs.text.tokens import encode_long, load_tokenizer

    loaded = load_tokenizer(tokenizer)
    encode_long(loaded, "warm up " * 1000)
    print(f"| {characters:,} characters of | an eighth, s | all, s | tokens | soft cuts |")
    print("|---|--:|--:|--:|--:|")
    for name, text in hostile_texts(characters).items():
        _, small = seconds(lambda text=text: encode_long(loaded, text[: characters // 8]))
        tokens, took = seconds(lambda text=text: encode_long(loaded, text))
        print(f"| {name} | {small:.1f} | {took:.1f} | {len(tokens):,} | {tokens.soft_cuts} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nPeak memory of the process: {peak:,.0f} MiB", file=sys.stderr)


def hostile_texts(characters: int) -> dict[str, str]:
    """One text of each kind."""
    wall = base64.b64encode(random.Random(0).randbytes(characters * 3 // 4)).decode()
    units = {
        "one letter": "a",
        "spaces": " ",
        "mixed newlines": "\r\n\n\r",
        "NUL": "\0",
        "digits": "0123456789",
        "emoji": "\U0001f600",
        "Chinese without spaces": "\u6211\u4eec\u4eca\u5929\u53bb\u5317\u4eac\u3002",
    }
    long = {name: unit * (characters // len(unit)) for name, unit in units.items()}
    return {**long, "base64": wall}


def seconds(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


if __name__ == "__main__":
    main()
