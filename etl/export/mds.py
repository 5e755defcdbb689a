"""Mosaic MDS shards, byte for byte as mosaicml-streaming's MDSWriter makes them.

Written here because that package pins numpy below 2.2 and transformers below 5, and because an
executor needs nothing of it but these few lines. The tests compare with its writer and read with
its reader.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from longattn.etl.export.formats import Format, Options, Part, part, token_arrays
from longattn.udfs.errors import ExportError

COLUMNS = {"domain": "str", "sample": "int", "tokens": "ndarray:int32", "window_id": "str"}
SIZES = {"int": 8}  # bytes of fixed-size encodings; the others store their size with each sample
SIZE_LIMIT = 1 << 26  # bytes of a shard, MDSWriter's default; its offsets are uint32
SHARD: dict[str, Any] = {
    "column_encodings": list(COLUMNS.values()),
    "column_names": list(COLUMNS),
    "column_sizes": [SIZES.get(encoding) for encoding in COLUMNS.values()],
    "compression": None,
    "format": "mds",
    "hashes": [],
    "size_limit": SIZE_LIMIT,
    "version": 2,
}
HEADER = json.dumps(SHARD, sort_keys=True).encode()


def encode_sample(domain: str, sample: int, tokens: Any, window_id: str) -> bytes:
    """Sizes of the columns without a fixed one (uint32 each), then all columns in name order."""
    texts = domain.encode(), window_id.encode()
    array = _array(tokens)
    sizes = np.array([len(texts[0]), len(array), len(texts[1])], dtype="<u4")
    number = np.array([sample], dtype="<i8")
    return sizes.tobytes() + texts[0] + number.tobytes() + array + texts[1]


def encode_shard(samples: Sequence[bytes]) -> bytes:
    """A shard: how many samples (uint32), their offsets and the end (uint32), header, samples."""
    start = 4 + 4 * (len(samples) + 1) + len(HEADER)
    ends = np.cumsum([start, *map(len, samples)])
    if ends[-1] >= 1 << 32:
        raise ExportError(f"mds: a shard of {ends[-1]:,} bytes; its offsets must fit 32 bits")
    count = np.array([len(samples)], dtype="<u4")
    return b"".join((count.tobytes(), ends.astype("<u4").tobytes(), HEADER, *samples))


class MdsWriter:
    """Holds the samples of one 64 MiB shard, because offsets come before them in the file."""

    def __init__(self, options: Options) -> None:
        self.folder = options.folder
        self.parts: list[Part] = []
        self._start_shard()

    def write(self, batch: pa.RecordBatch) -> None:
        names, windows = (batch.column(c).to_pylist() for c in ("domain", "window_id"))
        numbers = batch.column("sample").to_pylist()
        for row in zip(names, numbers, token_arrays(batch), windows, strict=True):
            self._add(encode_sample(*row), len(row[2]))

    def close(self) -> list[Part]:
        if self.samples:
            self._finish_shard()
        return self.parts

    def _start_shard(self) -> None:
        self.samples: list[bytes] = []
        self.tokens, self.size = 0, 4 + 4 + len(HEADER)

    def _add(self, sample: bytes, tokens: int) -> None:
        size = len(sample) + 4
        if self.samples and self.size + size > SIZE_LIMIT:
            self._finish_shard()
        self.samples.append(sample)
        self.tokens += tokens
        self.size += size

    def _finish_shard(self) -> None:
        name, file = self.folder.new_file()
        file.write(encode_shard(self.samples))
        file.close()
        self.parts.append(part(name, file, ".mds", len(self.samples), self.tokens))
        self._start_shard()


def _array(tokens: Any) -> bytes:
    """An `ndarray:int32` of one axis: axes and width of the length, the length, the values."""
    width = next(w for w in (1, 2, 4) if len(tokens) < 1 << (8 * w))
    axes = 1 << 2 | {1: 0, 2: 1, 4: 2}[width]
    values: bytes = tokens.astype("<i4").tobytes()
    return bytes([axes]) + len(tokens).to_bytes(width, "little") + values


def _index(path: str, files: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The merged `index.json` of all tasks' shards."""
    shards = [
        SHARD
        | {
            "raw_data": {"basename": file["name"], "bytes": file["bytes"], "hashes": {}},
            "samples": file["samples"],
            "zip_data": None,
        }
        for file in files
    ]
    return {"index.json": json.dumps({"shards": shards, "version": 2}, sort_keys=True)}


def _name(prefix: str, suffix: str, number: int, count: int) -> str:
    return f"shard.{number:05d}{suffix}"


MDS = Format(
    columns=("domain", "window_id", "token_ids"),
    writer=MdsWriter,
    file_name=_name,
    extras=_index,
)
