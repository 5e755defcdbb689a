"""Mosaic MDS shards, byte for byte as mosaicml-streaming's MDSWriter makes them.

Written here because that package pins numpy below 2.2 and transformers below 5, and because an
executor needs nothing of it but these few lines. The tests compare with its writer and read with
its reader.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from longattn.etl.export.formats import Decode, Format, Options, Part, Texts, arrays, part
from longattn.udfs.errors import ExportError

COLUMNS = {
    "domain": "str",
    "indices": "ndarray:int32",  # [sequences, 2]: where each begins and ends, as ProLong reads it
    "n_tokens": "int",
    "percentile": "float64",
    "sample": "int",
    "score": "float64",  # NaN for a packed window that was not scored
    "scorer": "str",  # empty for it
    "seq_lens": "ndarray:int32",
    "window_id": "str",
}
# Bytes of fixed-size encodings; the others store their size with each sample.
SIZES = {"float64": 8, "int": 8}
SIZE_LIMIT = 1 << 26  # bytes of a shard, MDSWriter's default; its offsets are uint32


def encodings(token_column: str) -> dict[str, str]:
    """Column -> encoding, in the order of their names, which is that of the file."""
    return dict(sorted({**COLUMNS, token_column: "ndarray:int32"}.items()))


def shard_head(token_column: str) -> dict[str, Any]:
    """What is the same for all shards, in the index and in each of them."""
    columns = encodings(token_column)
    return {
        "column_encodings": list(columns.values()),
        "column_names": list(columns),
        "column_sizes": [SIZES.get(encoding) for encoding in columns.values()],
        "compression": None,
        "format": "mds",
        "hashes": [],
        "size_limit": SIZE_LIMIT,
        "version": 2,
    }


def header(token_column: str) -> bytes:
    return json.dumps(shard_head(token_column), sort_keys=True).encode()


def encode_sample(values: Mapping[str, Any], columns: Mapping[str, str]) -> bytes:
    """Sizes of the columns without a fixed one (uint32 each), then all columns in name order."""
    encoded = {name: ENCODERS[kind](values[name]) for name, kind in columns.items()}
    sizes = [len(encoded[name]) for name, kind in columns.items() if kind not in SIZES]
    return np.array(sizes, dtype="<u4").tobytes() + b"".join(encoded.values())


def encode_shard(samples: Sequence[bytes], head: bytes) -> bytes:
    """A shard: how many samples (uint32), their offsets and the end (uint32), header, samples."""
    start = 4 + 4 * (len(samples) + 1) + len(head)
    ends = np.cumsum([start, *map(len, samples)])
    if ends[-1] >= 1 << 32:
        raise ExportError(f"mds: a shard of {ends[-1]:,} bytes; its offsets must fit 32 bits")
    count = np.array([len(samples)], dtype="<u4")
    return b"".join((count.tobytes(), ends.astype("<u4").tobytes(), head, *samples))


class MdsWriter:
    """Holds the samples of one 64 MiB shard, because offsets come before them in the file."""

    def __init__(self, options: Options) -> None:
        self.folder = options.folder
        self.tokens_as = options.token_column
        self.columns, self.head = encodings(self.tokens_as), header(self.tokens_as)
        self.parts: list[Part] = []
        self._start_shard()

    def write(self, batch: pa.RecordBatch) -> None:
        plain = [name for name, kind in COLUMNS.items() if kind != "ndarray:int32"]
        rows = batch.select(plain).to_pylist()
        token_ids, lengths = arrays(batch, "token_ids"), arrays(batch, "seq_lens")
        for row, ids, seq_lens in zip(rows, token_ids, lengths, strict=True):
            ends = np.cumsum(seq_lens)
            row |= {"indices": np.stack([ends - seq_lens, ends], 1), "seq_lens": seq_lens}
            self._add(encode_sample({**row, self.tokens_as: ids}, self.columns), len(ids))

    def close(self) -> list[Part]:
        if self.samples:
            self._finish_shard()
        return self.parts

    def _start_shard(self) -> None:
        self.samples: list[bytes] = []
        self.tokens, self.size = 0, 4 + 4 + len(self.head)

    def _add(self, sample: bytes, tokens: int) -> None:
        size = len(sample) + 4
        if self.samples and self.size + size > SIZE_LIMIT:
            self._finish_shard()
        self.samples.append(sample)
        self.tokens += tokens
        self.size += size

    def _finish_shard(self) -> None:
        name, file = self.folder.new_file()
        file.write(encode_shard(self.samples, self.head))
        file.close()
        self.parts.append(part(name, file, ".mds", len(self.samples), self.tokens))
        self._start_shard()


def _array(values: Any) -> bytes:
    """An `ndarray:int32`: axes and width of their lengths, the lengths, the values."""
    width = next(w for w in (1, 2, 4) if max(values.shape) < 1 << (8 * w))
    axes = values.ndim << 2 | {1: 0, 2: 1, 4: 2}[width]
    shape = b"".join(length.to_bytes(width, "little") for length in values.shape)
    data: bytes = values.astype("<i4").tobytes()
    return bytes([axes]) + shape + data


ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "float64": lambda number: np.array(number, "<f8").tobytes(),  # None is NaN
    "int": lambda number: int(number).to_bytes(8, "little", signed=True),
    "ndarray:int32": _array,
    "str": lambda text: (text or "").encode(),
}


def _read(stream: Any, name: str) -> Iterator[dict[str, Any]] | None:
    return map(_as_read, decode_shard(stream.read())) if name.endswith(".mds") else None


def _texts(stream: Any, entry: Mapping[str, Any], length: int, decode: Decode) -> Texts:
    rows = decode_shard(stream.read())
    yield from enumerate(decode(_token_ids(row).tolist()) for row in rows)


def _token_ids(row: Mapping[str, Any]) -> Any:
    return row["tokens"] if "tokens" in row else row["input_ids"]


def decode_shard(data: bytes) -> Iterator[dict[str, Any]]:
    """The samples of a shard, by column."""
    count = int.from_bytes(data[:4], "little")
    ends = np.frombuffer(data, "<u4", count + 1, offset=4).tolist()
    head = json.loads(data[4 + 4 * (count + 1) : ends[0]])
    columns = dict(zip(head["column_names"], head["column_encodings"], strict=True))
    for begin, end in pairwise(ends):
        yield _decoded(data[begin:end], columns)


def _decoded(data: bytes, columns: Mapping[str, str]) -> dict[str, Any]:
    varying = [name for name, kind in columns.items() if kind not in SIZES]
    sizes = dict(zip(varying, np.frombuffer(data, "<u4", len(varying)).tolist(), strict=True))
    row: dict[str, Any] = {}
    begin = 4 * len(varying)
    for name, kind in columns.items():
        end = begin + sizes.get(name, 8)
        row[name] = _value(data[begin:end], kind)
        begin = end
    return row


def _value(data: bytes, kind: str) -> Any:
    if kind == "int":
        return int.from_bytes(data, "little", signed=True)
    if kind == "float64":
        return float(np.frombuffer(data, "<f8")[0])
    if kind == "str":
        return data.decode()
    axes, width = data[0] >> 2, 1 << (data[0] & 3)
    shape = [int.from_bytes(data[1 + i * width :][:width], "little") for i in range(axes)]
    return np.frombuffer(data, "<i4", offset=1 + axes * width).reshape(shape)


def _as_read(row: dict[str, Any]) -> dict[str, Any]:
    same = {name: row[name] for name in ("sample", "window_id", "domain", "n_tokens")}
    return same | {"n_ids": len(_token_ids(row)), "seq_lens": row["seq_lens"].tolist()}


def _index(path: str, files: Sequence[dict[str, Any]], options: Options) -> dict[str, str]:
    """The merged `index.json` of all tasks' shards."""
    shards = [
        shard_head(options.token_column)
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
    columns=("token_ids",),
    writer=MdsWriter,
    file_name=_name,
    extras=_index,
    read=_read,
    texts=_texts,
)
