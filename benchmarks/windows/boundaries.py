"""What saying where documents end, and counting context, add to writing a shard.

    python -m benchmarks.windows.boundaries [--windows 256] [--length 8192]

Windows of random tokens, each packed of documents of some 500, through the Parquet writer: seconds
of CPU for `segments` and `seq_lens`, for the octaves of context, and for the file.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from longattn.etl.export import FORMATS
from longattn.etl.export.files import Folder
from longattn.etl.export.formats import Options
from longattn.etl.export.write import Context, as_samples
from longattn.udfs.windows.segments import SEGMENTS

BATCH = 64  # windows
DOCUMENT = 500  # tokens of a packed document
GIVEN = {"start_char": 0, "end_char": 0, "source": "s", "copy": 1, "text": "", "scorer": "recall"}
GIVEN |= {"score": 1.0, "lds": 1.0, "percentile": 50.0, "doc_id": "", "start_token": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=256)
    parser.add_argument("--length", type=int, default=8192)
    arguments = parser.parse_args()
    seconds = {"segments": 0.0, "context": 0.0, "file": 0.0}
    with tempfile.TemporaryDirectory() as place:
        folder = Folder.at(f"{place}/out")
        folder.begin()
        options = Options(
            folder=folder, compression="zstd", prefix="x", tokenizer="", largest_id=50_000
        )
        writer, context = FORMATS["parquet"].writer(options), Context()
        for windows in batches(arguments.windows, arguments.length):
            with timed(seconds, "segments"):
                samples = as_samples(windows, 0, options)
            with timed(seconds, "context"):
                context.add(samples)
            with timed(seconds, "file"):
                writer.write(samples)
        with timed(seconds, "file"):
            writer.close()
    total = sum(seconds.values())
    for what, taken in seconds.items():
        print(f"{what:<10} {taken:8.3f} s  {taken / total:6.2%}")


def batches(n_windows: int, length: int) -> Iterator[pa.RecordBatch]:
    rng = np.random.default_rng(0)
    parts = [DOCUMENT] * (length // DOCUMENT) + [length % DOCUMENT] * (length % DOCUMENT > 0)
    segments = [{"doc_id": "d" * 32, "start_token": 0, "n_tokens": size} for size in parts]
    for first in range(0, n_windows, BATCH):
        count = min(BATCH, n_windows - first)
        flat = pa.array(rng.integers(0, 50_000, count * length, dtype=np.int32))
        offsets = pa.array(np.arange(count + 1, dtype=np.int32) * length)
        columns = {name: pa.array([value] * count) for name, value in GIVEN.items()}
        columns |= {
            "window_id": pa.array([f"{first + n:032}" for n in range(count)]),
            "domain": pa.array(["web"] * count),
            "n_tokens": pa.array([length] * count, pa.int32()),
            "segments": pa.array([segments] * count, SEGMENTS),
            "token_ids": pa.ListArray.from_arrays(offsets, flat),
        }
        yield pa.RecordBatch.from_pydict(columns)


@contextmanager
def timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    started = time.process_time()
    yield
    seconds[what] += time.process_time() - started


if __name__ == "__main__":
    main()
