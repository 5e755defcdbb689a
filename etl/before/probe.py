"""What the sources hold: their files as ingest lists them, and records from any part of them."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import pyarrow.parquet as pq

from longattn.etl.config import Config, SourceConfig
from longattn.etl.ingest.local_files import list_local
from longattn.etl.ingest.sources import limited, partition_values, spec_of, wanted_by
from longattn.etl.tables.locations import is_table_name
from longattn.udfs.documents.bytes import DECODERS, Split, compression, decompressed
from longattn.udfs.documents.formats import Item, SourceSpec, read
from longattn.udfs.documents.records import MISSING, lookup, to_row
from longattn.udfs.errors import SourceError, first_line
from longattn.udfs.storage import local_path

F = TypeVar("F")
RECORDS = 20  # of a source that are looked at
PACKED = 5  # bytes of text in a byte of a compressed file or of Parquet, at most
SAMPLE_BYTES = 16 << 20  # of text, after which a look ends
FILES = 1000  # of a source that a sample reads, at most
PIECES = 8  # of a large plain file that a sample reads, and files at least
PARQUET = b"PAR1"  # the first bytes of a Parquet file


@dataclass(frozen=True)
class File:
    """A local file that a source names."""

    path: str
    name: str  # below the folder, or the glob, that the config names
    n_bytes: int

    @property
    def uri(self) -> str:
        """As ingest names it."""
        return f"file:{os.path.abspath(self.path)}"


@dataclass
class Look:
    """The first records of a source, and what they say about all of it."""

    label: str  # sources.book[0]
    domain: str
    source: SourceConfig
    files: list[File] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)  # paths that Python cannot list
    fields: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)  # of the first record of each reason
    missing: Counter[str] = field(default_factory=Counter)  # records without a field asked for

    @property
    def n_records(self) -> int:
        return len(self.texts) + self.refused.total()

    @property
    def text_bytes(self) -> int:
        """Bytes of text, at most: compressed files hold some times their size."""
        packed = self.source.format in ("parquet", "delta")
        return sum(f.n_bytes * (PACKED if packed or compression(f.path) else 1) for f in self.files)

    @property
    def n_bytes(self) -> int:
        return sum(file.n_bytes for file in self.files)


def look_at(label: str, domain: str, source: SourceConfig, config: Config) -> Look:
    """List a source's files and read its first records. Raises SourceError where it has no file."""
    look = Look(label=label, domain=domain, source=source)
    spec = limited(spec_of(domain, source, config), config)
    for path in source.path:
        _list(look, path)
    if not look.files and not look.unread:
        raise SourceError(f"{label}: no file at {', '.join(source.path)}")
    _read_first(look, spec)
    return look


# --- files


def _list(look: Look, path: str) -> None:
    local = None if is_table_name(path) and look.source.format == "delta" else local_path(path)
    if local is None:
        look.unread.append(path)
        return
    try:
        files = _delta_files(look, local) if look.source.format == "delta" else _files(local)
    except FileNotFoundError:
        files = []
    wanted = [file for file in files if wanted_by(look.source, file.uri, file.name)]
    if not files:
        raise SourceError(f"{look.label}: no such file or folder: {path}")
    if not wanted:
        raise SourceError(f"{look.label}: include and exclude leave no file of {path}")
    look.files += sorted(wanted, key=lambda file: file.path)


def _files(path: str) -> list[File]:
    """Files at a path, in a folder or of a glob, less those that ingest will refuse."""
    listed = list_local([path], lambda _uri, _name: True)
    return [
        File(file.uri.removeprefix("file:"), file.name, file.n_bytes)
        for file in listed
        if file.refusal is None
    ]


def _delta_files(look: Look, path: str) -> list[File]:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    if not look.source.id:
        raise SourceError(
            f"{look.label}: {path}: a table's rows have no place of their own; set id"
        )
    try:
        table = DeltaTable(path)
    except DeltaError as error:
        reason = first_line(error)
        raise SourceError(f"{look.label}: no Delta table at {path}: {reason}") from None
    paths = [local_path(uri) or uri for uri in table.file_uris()]
    return [File(one, os.path.relpath(one, path), os.path.getsize(one)) for one in paths]


# --- records


def _read_first(look: Look, spec: SourceSpec) -> None:
    """Read records from the front of the files until there are enough, one file after the other."""
    text_bytes = 0
    for file in look.files:
        n_file = 0
        for item in islice(_items(file, spec), RECORDS - look.n_records):
            n_file += _take(look, item, file, spec)
            if text_bytes + n_file > SAMPLE_BYTES:
                break
        text_bytes += n_file
        if look.n_records >= RECORDS or text_bytes > SAMPLE_BYTES:
            break


def _items(file: File, spec: SourceSpec) -> Iterator[Item]:
    constants = partition_values(file.name, spec)
    split = Split(file.path, 0, file.n_bytes, file.n_bytes, 1, file.name, constants)
    return read(split, spec)


def _take(look: Look, item: Item, file: File, spec: SourceSpec) -> int:
    """Note one record; bytes of its text."""
    row = to_row(item, file.path, file.name, spec)
    if item.record is not None:
        look.fields = look.fields or list(item.record)
        asked = [*spec.meta, *([spec.id] if spec.id else [])]
        look.missing.update(path for path in asked if lookup(item.record, path) is MISSING)
    if reason := row.get("reason"):
        look.refused[reason] += 1
        look.details.setdefault(reason, row["detail"] or reason)
        return 0
    look.texts.append(row["text"].decode())
    return len(row["text"])


def wrong_format(look: Look) -> str | None:
    """What the first file is, where it is none of the format that the config names."""
    with open(look.files[0].path, "rb") as file:
        parquet = file.read(len(PARQUET)) == PARQUET
    if parquet and look.source.format not in ("parquet", "delta"):
        return f"{look.files[0].path} is a Parquet file, not {look.source.format}: say parquet"
    return None


# --- a sample of all files


@dataclass(frozen=True)
class Part:
    """Some of a file's records, and about how many of its bytes they are."""

    file: File
    items: list[Item]
    n_bytes: float


def parts_of(look: Look, spec: SourceSpec, budget: int) -> Iterator[Part]:
    """About `budget` bytes of text from all over a source; all of a source that is smaller.

    Of many files some are read, evenly spread over the list; of a large plain file some pieces; of
    a compressed one, or of Parquet, the front.
    """
    whole = look.text_bytes <= budget
    wanted = max(PIECES, len(look.files) * budget // max(look.text_bytes, 1))
    files = look.files if whole else spread(look.files, min(FILES, wanted))
    for file in files:
        yield from _parts(file, spec, look.text_bytes if whole else budget // len(files))


def spread(files: list[F], count: int) -> list[F]:
    """So many of the files, evenly over the list; all where there are no more.

    >>> spread([1, 2, 3, 4, 5], 2), spread([1], 2)
    ([1, 3], [1])
    """
    count = min(len(files), count)
    return [files[number * len(files) // count] for number in range(count)]


def _parts(file: File, spec: SourceSpec, budget: int) -> Iterator[Part]:
    if spec.format in ("parquet", "delta"):
        yield _rows(file, spec, budget)
    elif spec.format == "text":
        yield Part(file, list(_items(file, spec)), file.n_bytes)
    elif ending := compression(file.path):
        yield _decompressed(file, spec, ending, budget)
    else:
        yield from _pieces(file, spec, budget)


def _pieces(file: File, spec: SourceSpec, budget: int) -> Iterator[Part]:
    """Lines from several places of a plain file, or all of them."""
    count = 1 if file.n_bytes <= budget else PIECES
    for number in range(count):
        start = number * file.n_bytes // count
        end = min(file.n_bytes, start + -(-budget // count))
        split = Split(file.path, start, end, file.n_bytes, 1, file.name)
        yield Part(file, list(read(split, spec)), end - start)


def _rows(file: File, spec: SourceSpec, budget: int) -> Part:
    there = pq.ParquetFile(file.path).metadata.num_rows
    n_bytes, items = 0, []
    for item in _items(file, spec):
        items.append(item)
        n_bytes += sum(len(str(value)) for value in (item.record or {}).values())
        if n_bytes > budget:
            break
    return Part(file, items, file.n_bytes * len(items) / max(there, 1))


def _decompressed(file: File, spec: SourceSpec, ending: str, budget: int) -> Part:
    """Whole lines of what the front of a compressed file holds."""
    held = bytearray()
    with open(file.path, "rb") as stream:
        for chunk in decompressed(stream, DECODERS[ending]):
            held += chunk
            if len(held) > budget:
                break
        taken = min(file.n_bytes, stream.tell())
    data = bytes(held) if taken == file.n_bytes else bytes(held[: held.rfind(b"\n") + 1])
    split = Split("sample", 0, len(data), len(data), 1, file.name, content=data)
    return Part(file, list(read(split, spec)), taken)
