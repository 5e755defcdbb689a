"""What the sources hold: their files, and the first records of each, read as ingest reads them."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from longattn.etl.config import Config, SourceConfig
from longattn.etl.ingest.listing import spec_of, wanted_by
from longattn.etl.ingest.local_files import list_local
from longattn.etl.tables.locations import is_table_name
from longattn.udfs.documents.bytes import Split, compression
from longattn.udfs.documents.formats import Item, SourceSpec, read
from longattn.udfs.documents.records import MISSING, lookup, to_row
from longattn.udfs.errors import SourceError, first_line
from longattn.udfs.storage import local_path

RECORDS = 20  # of a source that are looked at
PACKED = 5  # bytes of text in a byte of a compressed file or of Parquet, at most
SAMPLE_BYTES = 16 << 20  # of text, after which a look ends


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
    spec = spec_of(domain, source, config)
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
    split = Split(file.path, 0, file.n_bytes, file.n_bytes, 1, file.name)
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
