"""Megatron-LM's indexed dataset: tokens in a .bin, where each sequence starts in an .idx.

A window is one sequence and one document. GPTDataset shuffles sequences, joins them and cuts the
row every `sequence_length` tokens: all sequences have that length, shorter windows being filled up
with separators, so that each sample is one whole window. Documents of a packed window as sequences
of their own would be scattered over samples. Their boundaries arrive by the separators: GPTDataset
resets positions and masks after each EOD. See docs/adr/0023-boundaries.md.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from longattn.etl.export.formats import (
    Format,
    Options,
    Part,
    Row,
    SampleIndex,
    part,
    read_index,
    texts_of_tokens,
    whole_sequences,
)
from longattn.udfs.errors import ExportError

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
DTYPE_CODES = {"int32": 4, "uint16": 8}
SMALL_VOCABULARY = 65_500  # Megatron's own bound for uint16, short of 65,536 (DType.optimal_dtype)


def token_dtype(largest_id: int) -> np.dtype[Any]:
    """uint16 where every id fits by Megatron's rule, else int32."""
    return np.dtype("uint16" if largest_id < SMALL_VOCABULARY else "int32")


def index_bytes(lengths: npt.ArrayLike, dtype: np.dtype[Any]) -> bytes:
    """The .idx file for sequences of these lengths in tokens; D = S + 1 for S sequences.

        offset       bytes  content
        0                9  b"MMIDIDX\\0\\0"
        9                8  version 1, uint64
        17               1  code of the token dtype: 4 int32, 8 uint16
        18               8  S, number of sequences, uint64
        26               8  D, entries of the document index, uint64
        34             4 S  tokens of each sequence, int32
        34 + 4 S       8 S  byte offset of each sequence in the .bin, int64
        34 + 12 S      8 D  document index: first sequence of each document, then S, int64

    All little endian. Offsets are summed in int64: int32 overflows at 2^31 bytes, which silently
    spoiled merged data sets (NVIDIA/Megatron-LM#1672).
    """
    sizes = np.asarray(lengths, dtype="<i8")
    if sizes.size and sizes.max() >= 1 << 31:
        raise ExportError(f"megatron: a sequence of {sizes.max():,} tokens; an int32 must hold it")
    ends = np.cumsum(sizes) * dtype.itemsize
    header = np.array([len(sizes), len(sizes) + 1], dtype="<u8")
    return b"".join(
        (
            MAGIC,
            np.array([VERSION], dtype="<u8").tobytes(),
            bytes([DTYPE_CODES[dtype.name]]),
            header.tobytes(),
            sizes.astype("<i4").tobytes(),
            (ends - sizes * dtype.itemsize).astype("<i8").tobytes(),
            np.arange(len(sizes) + 1, dtype="<i8").tobytes(),
        )
    )


class MegatronWriter:
    """Streams tokens into a .bin and keeps only the sequences' lengths for the .idx."""

    def __init__(self, options: Options) -> None:
        self.folder, self.options = options.folder, options
        self.dtype = token_dtype(options.largest_id)
        self.samples = SampleIndex(options.folder)
        self.tokens = 0
        self.staged, self.file = self.folder.new_file()
        self.lengths: list[int] = []

    def write(self, batch: pa.RecordBatch) -> None:
        self.samples.write(batch)
        for _, _, ids in whole_sequences(batch, self.options, "megatron"):
            self.file.write(ids.astype(self.dtype).tobytes())
            self.lengths.append(len(ids))
        self.tokens += sum(batch["n_tokens"].to_pylist())

    def close(self) -> list[Part]:
        self.file.close()
        name, index = self.folder.new_file()
        index.write(index_bytes(self.lengths, self.dtype))
        index.close()
        return [
            part(self.staged, self.file, ".bin", len(self.lengths), self.tokens),
            part(name, index, ".idx", 0, 0),
            self.samples.close(),
        ]


def _fits(
    stream: Any, name: str, rows: Sequence[Row], lengths: Sequence[int], dtype: np.dtype[Any]
) -> bool:
    """Whether a .bin is as large as sequences of these lengths, and an .idx is theirs."""
    if name.endswith(".bin"):
        return bool(stream.size() == sum(lengths) * dtype.itemsize)
    return bool(stream.read() == index_bytes(lengths, dtype))


def _blend(path: str, files: Sequence[dict[str, Any]], options: Options) -> dict[str, str]:
    """`blend.txt`, for Megatron's --data-args-path: the shards, weighted by their tokens."""
    bins = [file for file in files if file["name"].endswith(".bin")]
    lines = [f"{file['tokens']} {path}/{file['name'].removesuffix('.bin')}" for file in bins]
    return {"blend.txt": "\n".join(lines) + "\n"}


MEGATRON = Format(
    columns=("token_ids",),
    writer=MegatronWriter,
    extras=_blend,
    read=read_index,
    texts=texts_of_tokens,
    fits=_fits,
    dtype=token_dtype,
    names_place=True,
)
