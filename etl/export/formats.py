"""What an exporter is: the columns it needs, a writer for one shard, and files of the whole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import pyarrow as pa

from longattn.etl.export.files import Folder, HashedFile


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a shard's writer is told; picklable."""

    folder: Folder
    compression: str
    prefix: str
    tokenizer: str  # to read the text of packed windows from their tokens
    largest_id: int
    with_ids: bool = True  # False where ids are of no model's vocabulary


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file that a task wrote: where it is staged and what is in it."""

    staged: str
    suffix: str
    samples: int
    tokens: int
    bytes: int
    sha256: str


class Writer(Protocol):
    """Writes the samples of one shard, in the order given."""

    def write(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> list[Part]: ...


@dataclass(frozen=True, kw_only=True)
class Format:
    """An export format."""

    columns: tuple[str, ...]  # of `samples` beside shard and sample
    writer: Callable[[Options], Writer]
    file_name: Callable[[str, str, int, int], str]  # prefix, suffix, number, count -> name
    extras: Callable[[str, Sequence[dict[str, Any]]], dict[str, str]]  # path, files -> texts
    needs_largest_id: bool = False
    # of what `datasets` loads; with one there is a dataset card
    schema: Callable[[Options], pa.Schema] | None = None


def part(staged: str, file: HashedFile, suffix: str, samples: int, tokens: int) -> Part:
    """Describe a file that has been closed."""
    return Part(
        staged=staged,
        suffix=suffix,
        samples=samples,
        tokens=tokens,
        bytes=file.bytes,
        sha256=file.sha256,
    )


def numbered(prefix: str, suffix: str, number: int, count: int) -> str:
    """For example `train-00003-of-00012.parquet`."""
    return f"{prefix}-{number:05d}-of-{count:05d}{suffix}"


def as_split(prefix: str, suffix: str, number: int, count: int) -> str:
    """Names that `datasets` takes for its train split; it then reads no other file beside them."""
    return numbered("train", suffix, number, count)


def no_extras(path: str, files: Sequence[dict[str, Any]]) -> dict[str, str]:
    """For formats whose data files are all there is."""
    return {}


def token_arrays(batch: pa.RecordBatch) -> list[Any]:
    """The token ids of each sample as int32 arrays, not copied."""
    lists = batch.column("token_ids")
    values, offsets = lists.values.to_numpy(), lists.offsets.to_numpy()
    return [values[a:b] for a, b in pairwise(offsets)]
