"""Size and read speed of token ids as list<int32> and as packed binary in Parquet.

`python -m benchmarks.tables.token_storage TOKENIZER [--windows 500]` prints the table of
docs/performance.md. Reading means: from Parquet to one numpy array per window.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.tokenizing import corpus
from longattn.udfs.text.tokens import encode_long, load_tokenizer

LENGTH = 32_768

Windows = list[Any]  # of int32 [LENGTH]
Layout = tuple[Callable[[Windows], pa.Array], Callable[[pa.Array], Windows], dict[str, Any]]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("tokenizer")
    arguments.add_argument("--windows", type=int, default=500)
    given = arguments.parse_args()
    windows = windows_of(given.tokenizer, given.windows)
    raw = sum(window.nbytes for window in windows) / 1e6
    print(f"{len(windows)} windows of {LENGTH} tokens, {raw:.1f} MB as int32\n")
    print("| column, codec | MB | write MB/s | read MB/s |\n|---|--:|--:|--:|")
    for name, layout in LAYOUTS.items():
        size, write, read = measure(windows, layout)
        print(f"| {name} | {size / 1e6:.1f} | {raw / write:.0f} | {raw / read:.0f} |")


def windows_of(tokenizer: str, n_windows: int) -> Windows:
    loaded = load_tokenizer(tokenizer)
    ids = np.concatenate([encode_long(loaded, text).ids for text in corpus(n_windows * LENGTH * 4)])
    return list(ids[: len(ids) // LENGTH * LENGTH].reshape(-1, LENGTH)[:n_windows])


def measure(windows: Windows, layout: Layout) -> tuple[int, float, float]:
    """Bytes, seconds to write and seconds to read; the best of three of each."""
    pack, unpack, options = layout
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "windows.parquet"

        def write() -> None:
            table = pa.table({"token_ids": pack(windows)})
            pq.write_table(table, file, row_group_size=100, **options)

        def read() -> Windows:
            chunks = pq.read_table(file, use_threads=False)["token_ids"].chunks
            return [window for chunk in chunks for window in unpack(chunk)]

        writing, reading = best(write), best(read)
        assert all(np.array_equal(a, b) for a, b in zip(read(), windows, strict=True))
        return file.stat().st_size, writing, reading


def best(work: Callable[[], Any]) -> float:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def to_lists(windows: Windows) -> pa.Array:
    ends = np.arange(0, (len(windows) + 1) * LENGTH, LENGTH, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(np.concatenate(windows)))


def from_lists(chunk: pa.Array) -> Windows:
    return [np.asarray(window.values) for window in chunk]


def to_binary(windows: Windows) -> pa.Array:
    return pa.array([window.tobytes() for window in windows], pa.binary())


def from_binary(chunk: pa.Array) -> Windows:
    return [np.frombuffer(window.as_buffer(), dtype=np.int32) for window in chunk]


DELTA = {
    "use_dictionary": False,
    "column_encoding": {"token_ids.list.element": "DELTA_BINARY_PACKED"},
}
LAYOUTS: dict[str, Layout] = {
    "list<int32>, snappy (Spark's default)": (to_lists, from_lists, {"compression": "snappy"}),
    "list<int32>, zstd": (to_lists, from_lists, {"compression": "zstd"}),
    "list<int32>, delta-packed, zstd": (to_lists, from_lists, {"compression": "zstd", **DELTA}),
    "packed binary, uncompressed": (
        to_binary,
        from_binary,
        {"compression": "none", "use_dictionary": False},
    ),
    "packed binary, zstd": (
        to_binary,
        from_binary,
        {"compression": "zstd", "use_dictionary": False},
    ),
}

if __name__ == "__main__":
    main()
