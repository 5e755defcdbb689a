"""Read source files in executors: bytes, then lines or rows, then items with exact row numbers.

Nothing here fails on bad input: an item is a record, or says why there is none. Memory is bounded
by the longest line, and that by `line_limit`; a file is never loaded whole.
"""

import codecs
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from longattn.udfs.digest import fields_digest
from longattn.udfs.documents.bytes import (
    CHUNK,
    EXCERPT,
    BrokenStream,
    Line,
    Split,
    beginning,
    chunks,
    is_lfs_pointer,
    open_split,
    split_lines,
)
from longattn.udfs.errors import whole_message

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Characters that no text is a quarter of; UTF-16 read as UTF-8 is, in many scripts. Manual pages
# have backspaces, printers' files form feeds, and those of terminals escapes.
CONTROLS = bytes(n for n in range(32) if n not in b"\b\t\n\f\r\x1b")
GARBLED = "a quarter is control characters"
SHORT_DIGITS = 640  # of an integer that Python reads, however it is set
LINE_LIMIT = 1 << 31  # bytes; no line longer than this is ever held


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """How the files of one source become documents; see longattn.etl.config.SourceConfig."""

    domain: str
    source: str
    format: str = "jsonl"
    text: str = "text"
    id: str | None = None
    meta: tuple[str, ...] = ()
    where: dict[str, tuple[str, ...]] = field(default_factory=dict)
    priority: int = 0
    min_chars: int = 1
    max_bytes: int = 256 << 20
    tokenizer: str | None = None  # counts tokens; None where no number of tokens is asked for
    min_tokens: int = 0
    max_tokens: int | None = None

    @cached_property
    def reading(self) -> str:
        """Names all that decides which documents a file's records become.

        The source's name is part of a document's id. Domain, priority and licence are not: what a
        source says of documents is no part of what they are.
        """
        return fields_digest(
            source=self.source,
            format=self.format,
            text=self.text,
            id=self.id,
            meta=self.meta,
            where={field: sorted(values) for field, values in self.where.items()},
            min_chars=self.min_chars,
            max_bytes=self.max_bytes,
        )[:16]

    @property
    def line_limit(self) -> int:
        """Bytes of the longest line read: JSON escapes make at most 6 bytes of one, fields more."""
        return min(LINE_LIMIT, 8 * self.max_bytes)

    @property
    def paths(self) -> list[str]:
        """The fields it maps."""
        return [self.text, *([self.id] if self.id else []), *self.meta, *self.where]

    def columns_in(self, names: Iterable[str]) -> list[str]:
        """Those of a file's columns that the fields it maps lie in; a name may have dots itself."""
        return [name for name in names if any(_lies_in(path, name) for path in self.paths)]

    def missing_in(self, names: Collection[str]) -> list[str]:
        """Fields it maps that lie in none of a file's columns."""
        return [path for path in self.paths if not any(_lies_in(path, name) for name in names)]


def _lies_in(path: str, column: str) -> bool:
    return path == column or path.startswith(f"{column}.")


class Item(NamedTuple):
    """One record, or the reason why there is none."""

    row: int | None  # 1-based
    record: dict[str, Any] | None
    excerpt: str | None = None
    reason: str | None = None
    detail: str | None = None
    id: str | None = None  # where the format itself gives one


Parser = Callable[[int | None, str], Item]


def read(split: Split, spec: SourceSpec) -> Iterator[Item]:
    """Items of a split in the order of the file; blank lines are no items.

    Raises OSError when the file cannot be read at all: that is not the file's fault.
    """
    if is_lfs_pointer(split):
        detail = "the file is not here, only git-lfs's note of it: run `git lfs pull`"
        return iter([Item(1, None, None, "git_lfs_pointer", detail, split.name)])
    return READERS[spec.format](split, spec)


def _read_lines(split: Split, spec: SourceSpec) -> Iterator[Item]:
    """A record to a line, as PARSERS reads it."""
    parse = PARSERS[spec.format]
    row = split.first_row - 1
    try:
        for line in split_lines(chunks(split), spec.line_limit):
            row += 1
            item = line_item(row, line, parse)
            del line  # while its document is made, which is as long
            if item:
                yield item
    except BrokenStream as error:
        yield Item(row + 1, None, reason="truncated_file", detail=str(error))


def line_item(row: int | None, line: Line, parse: Parser) -> Item | None:
    """What a line holds, by `parse`; None for a blank line. A byte-order mark before it is no text.

    Files that were joined have such marks inside.
    """
    if line.n_bytes > len(line.data):
        detail = f"a line of {line.n_bytes:,} bytes"
        return Item(row, None, _decoded(line.data), "line_too_long", detail)
    data = line.data.removeprefix(codecs.BOM_UTF8)
    if not data or data.isspace():
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        fault = _as_utf_16(data) or _where(error)
        return Item(row, None, _decoded(data), "invalid_utf8", fault)
    item = parse(row, text)
    other = _as_utf_16(data) if item.reason == "broken_json" else None
    return item._replace(reason="invalid_utf8", detail=other) if other else item


def _as_utf_16(data: bytes) -> str | None:
    """What to do about a line that looks like UTF-16, by its beginning; None where it does not."""
    if data.startswith(UTF_16):
        return "UTF-16: convert the file to UTF-8"
    garbled = _is_garbled(data[: 4 * EXCERPT])
    return f"{GARBLED}: UTF-16? convert the file to UTF-8" if garbled else None


def _is_garbled(data: bytes) -> bool:
    return 4 * (len(data) - len(data.translate(None, CONTROLS))) > len(data)


def parse_json(row: int | None, text: str) -> Item:
    """One JSON object to a line: RedPajama, Dolma and most others."""
    excerpt = text[:EXCERPT]
    try:
        record = loads(text)
    except (ValueError, RecursionError) as error:
        return Item(row, None, excerpt, "broken_json", str(error))
    if not isinstance(record, dict):
        return Item(row, None, excerpt, "not_an_object", f"a {type(record).__name__}")
    return Item(row, record, excerpt)


def loads(text: str) -> Any:
    """JSON; an integer of more digits than Python reads stays the text that it is."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return json.loads(text, parse_int=_int)


class Digits(str):
    """An integer of more digits than Python reads."""


def _int(digits: str) -> int | Digits:
    return int(digits) if len(digits) <= SHORT_DIGITS else Digits(digits)


def parse_prefixed(row: int | None, text: str) -> Item:
    """`<id><tab><JSON object>` to a line, as LongAttn published its data."""
    prefix, tab, body = text.partition("\t")
    if not tab:
        return Item(row, None, text[:EXCERPT], "broken_json", "no tab before the object")
    return parse_json(row, body)._replace(id=prefix, excerpt=text[:EXCERPT])


PARSERS: dict[str, Parser] = {"jsonl": parse_json, "longattn": parse_prefixed}


def _read_text(split: Split, spec: SourceSpec) -> Iterator[Item]:
    """The whole file as one document."""
    yield _whole_file(split, spec)


def _whole_file(split: Split, spec: SourceSpec) -> Item:
    pieces: list[bytes] = []
    n_bytes = 0
    try:
        for chunk in chunks(split):
            pieces.append(chunk)
            n_bytes += len(chunk)
            if n_bytes > spec.max_bytes:
                detail = f"more than {spec.max_bytes:,} bytes"
                return Item(1, None, _decoded(beginning(pieces)), "too_long", detail, split.name)
    except BrokenStream as error:
        return Item(1, None, None, "truncated_file", str(error), split.name)
    return text_item(b"".join(pieces), spec, split.name)


def text_item(data: bytes, spec: SourceSpec, name: str) -> Item:
    """A file's bytes as a record with one field: UTF-8, or UTF-16 with a byte-order mark.

    A byte-order mark is no text. UTF-16 without one passes for UTF-8 full of control characters:
    refused.
    """
    encoding = "utf-16" if data.startswith(UTF_16) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        return Item(1, None, _decoded(data[: 4 * EXCERPT]), "invalid_utf8", _where(error), name)
    if _is_garbled(text.encode() if encoding == "utf-16" else data):
        return Item(1, None, repr(text[:EXCERPT]), "binary_text", GARBLED, name)
    return Item(1, {spec.text: text}, text[:EXCERPT], id=name)


def _read_parquet(split: Split, spec: SourceSpec) -> Iterator[Item]:
    """Rows of the split's row groups; damage is refused at the row reached.

    A damaged footer is met by every split, and told by the first.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 1 if split.start == 0 else None
    constants = json.loads(split.constants or "{}")
    try:
        with open_split(split) as opened:
            file = pq.ParquetFile(opened)
            columns = _columns_of(file, spec)
            for number, row in _groups_of(file, split):
                for record in _rows_of(file, number, columns):
                    yield record_item(row, record, constants)
                    row += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of columns' names
        if isinstance(error, OSError) and error.errno:
            raise
        if row is not None:
            yield Item(row, None, reason="corrupt_file", detail=whole_message(error))


def _columns_of(file: Any, spec: SourceSpec) -> list[str]:
    """The columns to read. Raises ArrowInvalid for a file with one of them twice, or with none."""
    import pyarrow as pa

    names = file.schema_arrow.names
    columns = spec.columns_in(names)
    if not names:
        raise pa.ArrowInvalid("it has no columns")
    if twice := [name for name, n in Counter(columns).items() if n > 1]:
        raise pa.ArrowInvalid(f"column {twice[0]!r} twice")
    return columns


def _groups_of(file: Any, split: Split) -> Iterator[tuple[int, int]]:
    """The split's row groups, each with the number of its first row.

    By their order alone. Where its bytes start a damaged footer may say wrongly, so that a group is
    in no split, and pyarrow, asked for it, may end the process.
    """
    first_row = 1
    for number in range(file.num_row_groups):
        if split.start <= split.size * number // file.num_row_groups < split.end:
            yield number, first_row
        first_row += file.metadata.row_group(number).num_rows


def _rows_of(file: Any, number: int, columns: list[str]) -> "Iterator[Record]":
    """A row group's rows. Raises ArrowInvalid where it ends early, which pyarrow does not say."""
    import pyarrow as pa

    group, n_rows = file.metadata.row_group(number), 0
    for batch in file.iter_batches(_rows_at_once(group), row_groups=[number], columns=columns):
        yield from batch_records(batch)
        n_rows += batch.num_rows
    if n_rows != group.num_rows:
        raise pa.ArrowInvalid(f"{n_rows:,} of the {group.num_rows:,} rows of a row group are there")


Maps = Any  # where a type holds maps, as `_has_maps` says it; None where it holds none


class Refusal(NamedTuple):
    """Why a row is no record."""

    reason: str
    detail: str


Record = dict[str, Any] | Refusal


def batch_records(batch: Any) -> Iterator[Record]:
    """Rows of an Arrow batch as dicts; the refusal in place of a row that Python cannot hold.

    A map is a dict, and the last of two equal keys in it counts.
    """
    columns = [(name, batch.column(name)) for name in batch.schema.names]
    maps = {name: _has_maps(column.type) for name, column in columns}
    for index in range(batch.num_rows):
        yield _row_of(columns, maps, index)


def _row_of(columns: list[tuple[str, Any]], maps: dict[str, Maps], index: int) -> Record:
    """Dates after the year 9999 and times of unknown zones are among what Python cannot hold."""
    import pyarrow as pa

    row: dict[str, Any] = {}
    for name, column in columns:
        try:
            row[name] = _with_dicts(column[index].as_py(), maps[name])
        except UnicodeDecodeError as error:
            return Refusal("invalid_utf8", _where(error))
        except (OverflowError, ValueError, LookupError, pa.ArrowException) as error:
            return Refusal("bad_value", f"column {name}: {column.type}: {whole_message(error)}")
    return row


def _has_maps(kind: Any) -> Maps:
    """Where in an Arrow type there are maps, for `_with_dicts`; None where there are none."""
    import pyarrow.types as types

    if types.is_map(kind):
        return ("map", _has_maps(kind.item_type))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = _has_maps(kind.value_type)
        return inner and ("list", inner)
    if types.is_struct(kind):
        fields = {field.name: nested for field in kind if (nested := _has_maps(field.type))}
        return ("struct", fields) if fields else None
    return None


def _with_dicts(value: Any, maps: Maps) -> Any:
    """A value in which Arrow gave maps as lists of pairs, with dicts in their place."""
    if maps is None or value is None:
        return value
    kind, inner = maps
    if kind == "map":
        return {_key(key): _with_dicts(item, inner) for key, item in value}
    if kind == "list":
        return [_with_dicts(item, inner) for item in value]
    return value | {name: _with_dicts(value[name], nested) for name, nested in inner.items()}


def _key(key: Any) -> str:
    """A map's key as a field's name."""
    return key if isinstance(key, str) else str(key)


def record_item(row: int | None, record: Record, constants: dict[str, Any]) -> Item:
    """The item for what batch_records gave."""
    if isinstance(record, Refusal):
        return Item(row, None, None, *record)
    return Item(row, {**constants, **record})


def _rows_at_once(group: Any) -> int:
    """Rows that make about 16 MB, if all are alike."""
    return int(max(1, min(256, 16 * CHUNK * group.num_rows // max(1, group.total_byte_size))))


READERS: dict[str, Callable[[Split, SourceSpec], Iterator[Item]]] = {
    "jsonl": _read_lines,
    "longattn": _read_lines,
    "text": _read_text,
    "parquet": _read_parquet,
    "delta": _read_parquet,
}


def _decoded(data: bytes) -> str:
    return data.decode(errors="replace")[:EXCERPT]


def _where(error: UnicodeDecodeError) -> str:
    return f"byte 0x{error.object[error.start]:02x} at offset {error.start:,}: {error.reason}"
