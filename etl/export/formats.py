"""What an exporter is: the columns it needs, a writer for one shard, and files of the whole."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from longattn.etl.export.files import Folder, HashedFile
from longattn.udfs.errors import ExportError


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a shard's writer needs to know; picklable."""

    folder: Folder
    compression: str
    prefix: str
    tokenizer: str  # to read the text of packed windows from their tokens
    largest_id: int  # of the vocabulary; it decides how wide a token is stored
    with_ids: bool = True  # False where ids are of no model's vocabulary
    attend_across: bool = False  # whether documents of a packed window attend to those before
    separator: int | None = None  # the token between packed documents; None where none are packed
    longest: int = 0  # tokens of the longest sample; shorter ones are filled up by some formats
    position_ids: bool = False  # of parquet and jsonl, as those below
    target_weights: tuple[float, ...] = ()  # by octave of context; none where not asked
    token_column: str = "tokens"  # of mds
    text_key: str = "text"  # of jsonl


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file that a task wrote: where it is staged and what is in it."""

    staged: str
    suffix: str
    samples: int
    tokens: int
    bytes: int
    sha256: str


Decode = Callable[[Sequence[int]], str]  # token ids to text
Texts = Iterator[tuple[int, str]]  # a sample's place in its file, and its text
Row = Mapping[str, Any]


class Writer(Protocol):
    """Writes the samples of one shard, in the order given."""

    def write(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> list[Part]: ...


def numbered(prefix: str, suffix: str, number: int, count: int) -> str:
    """For example `train-00003-of-00012.parquet`."""
    return f"{prefix}-{number:05d}-of-{count:05d}{suffix}"


def as_split(prefix: str, suffix: str, number: int, count: int) -> str:
    """Names that `datasets` takes for its train split; it then reads no other file beside them."""
    return numbered("train", suffix, number, count)


def no_extras(path: str, files: Sequence[dict[str, Any]], options: Options) -> dict[str, str]:
    """For formats whose data files are all there is."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Format:
    """An export format."""

    columns: tuple[str, ...]  # of `samples` beside those of every format
    writer: Callable[[Options], Writer]
    # an open file, its name -> rows as READ of the samples in it; None for files without any
    read: Callable[[Any, str], Iterator[dict[str, Any]] | None]
    # an open file with samples, its entry in the manifest, tokens of a sample, decode -> texts
    texts: Callable[[Any, Mapping[str, Any], int, Decode], Texts]
    # prefix, suffix, number, count -> name
    file_name: Callable[[str, str, int, int], str] = numbered
    # a file beside one with samples, its name, their rows as READ, how many tokens each of them is
    # filled up to, how one is stored -> whether the file is what these give
    fits: Callable[[Any, str, Sequence[Row], Sequence[int], np.dtype[Any]], bool] | None = None
    # path, files, options -> small files beside the data
    extras: Callable[[str, Sequence[dict[str, Any]], Options], dict[str, str]] = no_extras
    # largest id -> how a token is stored in files of tokens alone, whose separators matter too
    dtype: Callable[[int], np.dtype[Any]] | None = None
    names_place: bool = False  # extras name the export's folder, so that one moved is written anew
    # of what `datasets` loads; with one there is a dataset card
    schema: Callable[[Options], pa.Schema] | None = None


# What every file with samples gives back: where a sample is and what it is made of. `n_ids` is
# how many tokens are there; `segments` is null where the format keeps `seq_lens` alone;
# `seq_start_id` is what the format keeps beside them.
READ = (
    *("sample", "window_id", "domain", "n_tokens", "n_ids"),
    *("seq_lens", "segments", "seq_start_id"),
)


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


def arrays(batch: pa.RecordBatch, column: str) -> list[Any]:
    """A column of lists, such as the token ids of each sample, as int32 arrays, not copied."""
    lists = batch.column(column)
    values, offsets = lists.values.to_numpy(), lists.offsets.to_numpy()
    return [values[a:b] for a, b in pairwise(offsets)]


class SampleIndex:
    """Parquet beside shards of bare tokens: which window a sample is, what it was selected by, and
    where documents lie in it.

    Trainers do not read it; `longattn verify` and `longattn trace` do.
    """

    SUFFIX = ".samples.parquet"
    FIELDS = (
        *("sample", "window_id", "domain", "n_tokens", "segments", "seq_lens"),
        *("score", "scorer", "percentile"),
    )

    def __init__(self, folder: Folder) -> None:
        self.staged, self.file = folder.new_file()
        self.writer: pq.ParquetWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        rows = batch.select(list(self.FIELDS))
        if self.writer is None:
            self.writer = pq.ParquetWriter(self.file, rows.schema, compression="zstd")
        self.writer.write_batch(rows)

    def close(self) -> Part:
        if self.writer:
            self.writer.close()
        self.file.close()
        return part(self.staged, self.file, self.SUFFIX, 0, 0)


def read_parquet(stream: Any, name: str) -> Iterator[dict[str, Any]]:
    """Rows as READ of a Parquet file of samples."""
    file = pq.ParquetFile(stream)
    names = [field for field in (*READ, "input_ids") if field in file.schema_arrow.names]
    for batch in file.iter_batches(1024, columns=names):
        if "input_ids" in names:
            batch = batch.append_column("n_ids", pc.list_value_length(batch["input_ids"]))
            batch = batch.drop_columns(["input_ids"])
        yield from batch.to_pylist()


def read_index(stream: Any, name: str) -> Iterator[dict[str, Any]] | None:
    """Rows of a SampleIndex; None of the files beside it."""
    return read_parquet(stream, name) if name.endswith(SampleIndex.SUFFIX) else None


def texts_of_parquet(stream: Any, entry: Mapping[str, Any], length: int, decode: Decode) -> Texts:
    """The text that is there, or the tokens decoded."""
    file = pq.ParquetFile(stream)
    names = [name for name in ("text", "input_ids") if name in file.schema_arrow.names]
    rows = (row for batch in file.iter_batches(256, columns=names) for row in batch.to_pylist())
    for place, row in enumerate(rows):
        yield place, row.get("text") or decode(row.get("input_ids") or [])


def texts_of_tokens(stream: Any, entry: Mapping[str, Any], length: int, decode: Decode) -> Texts:
    """A file of tokens alone: `length` of every sample, each of as many bytes as the file tells."""
    width = entry["bytes"] // (entry["samples"] * length)
    ids = np.frombuffer(stream.read(), "<u2" if width == 2 else "<i4").reshape(-1, length)
    yield from enumerate(decode(row.tolist()) for row in ids)


def whole_sequences(
    batch: pa.RecordBatch, options: Options, format_name: str
) -> Iterator[tuple[str, Any, Any]]:
    """Of each sample the window, the lengths of its stretches, and its token ids filled up.

    For formats whose readers know by the tokens alone where documents end. Raises ExportError for a
    sample whose separators do not say it.
    """
    names, seq_lens = batch["window_id"].to_pylist(), arrays(batch, "seq_lens")
    for name, ids, lengths in zip(names, arrays(batch, "token_ids"), seq_lens, strict=True):
        sample = f"{format_name}: window {name}"
        refuse_other_boundaries(ids, lengths, options, sample)
        yield name, lengths, filled(ids, options, sample)


def filled(ids: Any, options: Options, sample: str) -> Any:
    """Token ids filled up to the longest sample by separators, each a document of its own."""
    missing = options.longest - len(ids)
    if missing <= 0:
        return ids
    if options.separator is None:
        raise ExportError(
            f"{sample}: {len(ids):,} tokens, and others have {options.longest:,}; the tokenizer has"
            " no EOS to fill it up with"
        )
    return np.concatenate([ids, np.full(missing, options.separator, ids.dtype)])


def refuse_other_boundaries(ids: Any, lengths: Any, options: Options, sample: str) -> None:
    """Raise ExportError where a reader that looks for separators finds other boundaries.

    Only formats need this whose readers know boundaries by the tokens alone.
    """
    if options.separator is None or options.attend_across:
        return
    ends = np.flatnonzero(ids == options.separator) + 1
    inside = ends[ends < len(ids)]
    if not np.array_equal(inside, np.cumsum(lengths)[:-1]):
        raise ExportError(
            f"{sample}: the separator, token {options.separator}, does not stand at the ends of"
            " documents alone, and this format has no other mark of them: leave pack.separator"
            " out, or export parquet, jsonl, mds or megatron_bridge"
        )
