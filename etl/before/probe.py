"""What the sources hold: their files as ingest lists them, and records from any part of them."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from longattn.etl.config import SourceConfig
from longattn.etl.ingest.delta_files import delta_files, refuse_tables
from longattn.etl.ingest.local_files import Listed, list_local
from longattn.etl.ingest.own import OwnFiles
from longattn.etl.ingest.sources import partition_values, wanted_by
from longattn.etl.tables.locations import is_table_name
from longattn.udfs.documents.bytes import (
    DECODERS,
    BrokenStream,
    Split,
    compression,
    decompressed,
)
from longattn.udfs.documents.formats import Item, SourceSpec, read
from longattn.udfs.documents.records import MISSING, lookup, to_row
from longattn.udfs.errors import SourceError
from longattn.udfs.storage import file_name, local_path

F = TypeVar("F")
RECORDS = 20  # of a source that are looked at
MOST = 1000  # where what is asked for is in none of these
PACKED = 5  # bytes of text in a byte of a compressed file or of Parquet, at most
SAMPLE_BYTES = 16 << 20  # of text, after which a look ends
FILES = 1000  # of a source that a sample reads, at most
PIECES = 8  # of a large plain file that a sample reads, and files at least
PARQUET = b"PAR1"  # the first bytes of a Parquet file


@dataclass(frozen=True)
class File:
    """A local file that a source names."""

    uri: str  # as ingest names it
    name: str  # below the folder, or the glob, that the config names
    n_bytes: int
    constants: str | None = None

    @property
    def path(self) -> str:
        """By which Python opens it."""
        return os.fsdecode(file_name(self.uri) or b"")

    def split(self, start: int, end: int) -> Split:
        """Its bytes [start, end)."""
        return Split(self.uri, start, end, self.n_bytes, 1, self.name, self.constants)


@dataclass
class Look:
    """The first records of a source, and what they say about all of it."""

    label: str  # sources.book[0]
    domain: str
    source: SourceConfig
    files: list[File] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)  # paths that Python cannot list
    fields: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)  # of the first records that have one
    n_records: int = 0
    n_parsed: int = 0  # of these
    whole: bool = False  # whether all records were looked at
    refused: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)  # of the first record of each reason
    missing: Counter[str] = field(default_factory=Counter)  # records without a field asked for

    @property
    def has_all(self) -> bool:
        """Whether a text, and each field asked for, was in some record."""
        return bool(self.texts) and not any(map(self.lacks, self.missing))

    def lacks(self, path: str) -> bool:
        """Whether none of the records looked at has a field; broken ones tell nothing."""
        return 0 < self.n_parsed == self.missing[path]

    @property
    def text_bytes(self) -> int:
        """Bytes of text, at most: compressed files hold some times their size."""
        packed = self.source.format in ("parquet", "delta")
        return sum(f.n_bytes * (PACKED if packed or compression(f.path) else 1) for f in self.files)

    @property
    def n_bytes(self) -> int:
        return sum(file.n_bytes for file in self.files)


def look_at(label: str, source: SourceConfig, spec: SourceSpec, own: OwnFiles) -> Look:
    """List a source's files and read its first records. Raises SourceError where it has no file."""
    local = [path for path in source.path if is_local(path, spec)]
    unread = [path for path in source.path if path not in local]
    look = Look(label=label, domain=spec.domain, source=source, unread=unread)
    look.files = _files(look, local, spec, own)
    _read_first(look, spec)
    return look


# --- files


def is_local(path: str, spec: SourceSpec) -> bool:
    """Whether Python can list and read what a source names; else only Spark can."""
    table = spec.format == "delta" and is_table_name(path)
    return not table and local_path(path) is not None


def _files(look: Look, paths: list[str], spec: SourceSpec, own: OwnFiles) -> list[File]:
    """The files that ingest will read, each once. Raises SourceError where it has none to read."""
    before = own.left_out.copy()
    listed = {file.uri: file for file in _listed(look, paths, spec) if not own.has(file.uri)}
    refuse_tables(listed, spec)
    files = [_file(listed[uri], spec) for uri in sorted(listed) if not listed[uri].refusal]
    if not files and not look.unread:
        why = _why_none(look.source, list(listed.values()), own.lines(before))
        raise SourceError(f"{look.label}: {why}")
    return files


def _listed(look: Look, paths: list[str], spec: SourceSpec) -> list[Listed]:
    wanted = partial(wanted_by, look.source)
    if spec.format == "delta":
        files = (file for path in paths for file in delta_files(path, spec))
        return [file for file in files if wanted(file.uri, file.name)]
    try:
        return list_local(paths, wanted)
    except FileNotFoundError as error:
        raise SourceError(f"{look.label}: no such file or folder: {error}") from None


def _file(listed: Listed, spec: SourceSpec) -> File:
    constants = listed.constants or partition_values(listed.name, spec)
    return File(listed.uri, listed.name, listed.n_bytes, constants)


def _why_none(source: SourceConfig, refused: list[Listed], left_out: list[str]) -> str:
    """Why nothing of a source can be read, in one line."""
    paths = ", ".join(source.path)
    if reasons := [f"{file.name}: {file.refusal[1]}" for file in refused if file.refusal]:
        return f"no file of {paths} can be read: {reasons[0]}"
    if left_out:
        return f"no file of {paths} is a source: {'; '.join(left_out)}"
    if source.include or source.exclude:
        return f"include and exclude leave no file of {paths}"
    return f"no file in {paths}"


# --- records


def _read_first(look: Look, spec: SourceSpec) -> None:
    """Read records from the front of the files until there are enough, one file after the other.

    Enough are RECORDS, or MOST where something that is asked for was in none of them.
    """
    text_bytes = 0
    for file in look.files:
        for item in read(file.split(0, file.n_bytes), spec):
            text_bytes += _take(look, item, file, spec)
            enough = look.n_records >= (RECORDS if look.has_all else MOST)
            if enough or text_bytes > SAMPLE_BYTES:
                return
    look.whole = not look.unread


def _take(look: Look, item: Item, file: File, spec: SourceSpec) -> int:
    """Note one record; bytes of its text."""
    row = to_row(item, file.uri, file.name, spec)
    look.n_records += 1
    if item.record is not None:
        look.n_parsed += 1
        look.fields = look.fields or list(item.record)
        asked = [*spec.meta, *spec.where, *([spec.id] if spec.id else [])]
        look.missing.update(path for path in asked if lookup(item.record, path) is MISSING)
    if reason := row.get("reason"):
        look.refused[reason] += 1
        look.details.setdefault(reason, row["detail"] or reason)
        return 0
    if len(look.texts) < RECORDS:
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
        yield Part(file, list(read(file.split(0, file.n_bytes), spec)), file.n_bytes)
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
        yield Part(file, list(read(file.split(start, end), spec)), end - start)


def _rows(file: File, spec: SourceSpec, budget: int) -> Part:
    n_bytes, items = 0, []
    for item in read(file.split(0, file.n_bytes), spec):
        items.append(item)
        n_bytes += sum(len(str(value)) for value in (item.record or {}).values())
        if n_bytes > budget:
            break
    return Part(file, items, file.n_bytes * len(items) / max(_n_rows(file), len(items), 1))


def _n_rows(file: File) -> int:
    """Rows of a Parquet file; 0 of a damaged one, of which ingest refuses what it cannot read."""
    try:
        with open(file.path, "rb") as opened:
            return int(pq.read_metadata(opened).num_rows)
    except (pa.ArrowException, OSError):
        return 0


def _decompressed(file: File, spec: SourceSpec, ending: str, budget: int) -> Part:
    """Whole lines of what the front of a compressed file holds."""
    held = bytearray()
    with open(file.path, "rb") as stream:
        with suppress(BrokenStream):  # what is before the fault is read
            for chunk in decompressed(stream, DECODERS[ending]):
                held += chunk
                if len(held) > budget:
                    break
        taken = min(file.n_bytes, stream.tell())
    data = bytes(held) if taken == file.n_bytes else bytes(held[: held.rfind(b"\n") + 1])
    split = Split("sample", 0, len(data), len(data), 1, file.name, content=data)
    return Part(file, list(read(split, spec)), taken)
