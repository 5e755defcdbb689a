"""OLMo-core's token arrays: bare `.npy` memmaps, lengths of documents and a mask of labels.

NumpyFSLDataset cuts an array every `sequence_length` tokens: all samples have that length, shorter
windows being filled up with separators. It finds documents by EOS, or, where a dataset packs them
itself, by the `.csv.gz` beside the array.
"""

import gzip
import io
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
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


def token_dtype(largest_id: int) -> np.dtype[Any]:
    """uint16 where every id fits, else uint32: the dtypes that the reader has."""
    return np.dtype("<u2" if largest_id < 1 << 16 else "<u4")


class MemmapWriter:
    """An array of tokens, and beside it the documents' ends and which tokens are targets.

    The `.csv.gz` has a line START,END,,WINDOW_ID,SEQUENCE for each stretch of attention, in tokens
    of the array. The `.mask` has a byte for each token, 0 where it is no target: the first of a
    stretch, which nothing foretells, and what fills a sample up. Where documents attend across, the
    sample is one stretch, and the first token of a later document is a target like any other.
    """

    def __init__(self, options: Options) -> None:
        self.folder, self.options = options.folder, options
        self.dtype = token_dtype(options.largest_id)
        self.staged, self.file = self.folder.new_file()
        self.mask_staged, self.mask = self.folder.new_file()
        self.index = SampleIndex(options.folder)
        self.ends = io.StringIO()
        self.samples = self.tokens = self.place = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self.index.write(batch)
        for name, lengths, ids in whole_sequences(batch, self.options, "numpy"):
            self.file.write(ids.astype(self.dtype).tobytes())
            self.mask.write(targets(lengths, len(ids)).tobytes())
            self._add(name, lengths, len(ids))

    def _add(self, name: str, lengths: Any, length: int) -> None:
        self.ends.writelines(stretches(name, lengths, self.place))
        self.place += length
        self.samples += 1
        self.tokens += int(sum(lengths))

    def close(self) -> list[Part]:
        self.file.close()
        self.mask.close()
        name, ends = self.folder.new_file()
        ends.write(gzip.compress(self.ends.getvalue().encode(), mtime=0))
        ends.close()
        return [
            part(self.staged, self.file, ".npy", self.samples, self.tokens),
            part(self.mask_staged, self.mask, ".mask", 0, 0),
            part(name, ends, ".csv.gz", 0, 0),
            self.index.close(),
        ]


def stretches(name: str, lengths: Any, place: int) -> Iterator[str]:
    """Lines of the `.csv.gz` for a sample that begins at this place of the array."""
    ends = place + np.cumsum(lengths)
    for number, (start, end) in enumerate(zip(ends - lengths, ends, strict=True)):
        yield f"{start},{end},,{name},{number}\n"


def targets(lengths: Sequence[int], length: int) -> Any:
    """Which of a sample's tokens something foretells, bool [length]."""
    mask = np.zeros(length, bool)
    ends = np.cumsum(lengths)
    mask[: ends[-1]] = True
    mask[ends - lengths] = False
    return mask


def _fits(
    stream: Any, name: str, rows: Sequence[Row], lengths: Sequence[int], dtype: np.dtype[Any]
) -> bool:
    """Whether an array has as many tokens as these samples, and the ends and targets are theirs."""
    if name.endswith(".npy"):
        return bool(stream.size() == sum(lengths) * dtype.itemsize)
    samples = [*zip(rows, lengths, np.cumsum(lengths) - lengths, strict=True)]
    if name.endswith(".mask"):
        masks = (targets(row["seq_lens"], length).tobytes() for row, length, _ in samples)
        return all(stream.read(len(mask)) == mask for mask in masks) and not stream.read(1)
    lines = (stretches(row["window_id"], row["seq_lens"], place) for row, _, place in samples)
    return gzip.decompress(stream.read()).decode() == "".join(chain(*lines))


NUMPY = Format(
    columns=("token_ids",),
    writer=MemmapWriter,
    read=read_index,
    texts=texts_of_tokens,
    fits=_fits,
    dtype=token_dtype,
)
