"""Turn records into documents or refusals: field mapping, checks, identities, batches by bytes."""

import ast
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from longattn.udfs.digest import hex_digest
from longattn.udfs.documents.bytes import EXCERPT
from longattn.udfs.documents.formats import Digits, Item, SourceSpec, loads
from longattn.udfs.text.tokens import count_tokens, load_tokenizer

if TYPE_CHECKING:
    import pyarrow as pa

STAGED_DDL = (
    "domain string, source string, source_uri string, source_row bigint, source_id string, "
    "reading string, file_name string, "  # with the uri they say which file, read how
    "doc_id string, priority int, n_chars bigint, meta string, text string, "
    "reason string, detail string, excerpt string"
)
BATCH_BYTES = 16 << 20  # a batch is sent on at this size; a larger document is sent alone
BATCH_ROWS = 4096
LITERAL_LIMIT = 1 << 16  # characters of a string that is tried as a Python dict
DETAIL = 1000  # characters of a refusal's detail that are kept; a record may have any names
LONG_BITS = 14_000  # of an integer; of some more on Python writes no digits
EXACT = 2.0**53  # from here on a float is not every integer
MISSING = object()

Row = dict[str, Any]


class Refused(Exception):
    """A record that is no document: a short stable reason, and what exactly was wrong."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def to_row(item: Item, uri: str, name: str, spec: SourceSpec) -> Row:
    """The staged row of an item: a document with `text`, or a refusal with `reason`.

    Columns as in STAGED_DDL; `text` is UTF-8. `name` with the row makes the source_id of a record
    that has none.
    """
    row: Row = {"domain": spec.domain, "source": spec.source, "source_uri": uri}
    row |= {"source_row": item.row, "priority": spec.priority}
    row |= {"reading": spec.reading, "file_name": name}
    try:
        row["source_id"] = _own_id(item, spec)
        return row | _document(item, row["source_id"], name, spec)
    except Refused as refused:
        return row | _refusal(item, refused.reason, refused.detail)
    except RecursionError:
        return row | _refusal(item, "bad_value", "a field is nested deeper than Python goes")


def _refusal(item: Item, reason: str, detail: str) -> Row:
    excerpt = item.excerpt if item.excerpt is not None else _excerpt(item.record)
    detail = detail[:DETAIL]
    return {"reason": reason, "detail": _printable(detail), "excerpt": _printable(excerpt)}


def _document(item: Item, own_id: str | None, name: str, spec: SourceSpec) -> Row:
    if item.record is None:
        raise Refused(item.reason or "unreadable", item.detail or "")
    _check_where(item.record, spec)
    text = _text(item.record, spec)
    data = utf8(text)
    _check_size(text, data, spec)
    _check_tokens(text, spec)
    source_id = own_id or f"{name}#{item.row or hex_digest(data)[:16]}"
    return {
        "source_id": source_id,
        "doc_id": doc_id(spec.source, source_id, data),
        "n_chars": len(text),
        "meta": _meta(item.record, spec.meta),
        "text": data,
    }


def doc_id(source: str, source_id: str, text: bytes) -> str:
    """32 hex digits of SHA-256; lengths are hashed too, so that no two triples run together."""
    names = b"".join(b"%d:%b" % (len(n), n) for n in (source.encode(), source_id.encode()))
    return hex_digest(names, text)[:32]


def lookup(record: dict[str, Any], path: str) -> Any:
    """The field at a dotted path, or MISSING; a string on the way is read as JSON or as Python.

    A name may have dots itself: the longest that is there is tried first.

    >>> lookup({"meta": "{'arxiv_id': '2101.1'}"}, "meta.arxiv_id")
    '2101.1'
    """
    if path in record:
        return as_text(record[path])
    dots = (place for place, letter in enumerate(path) if letter == ".")
    for dot in sorted(dots, reverse=True):
        inner = as_text(record.get(path[:dot], MISSING))
        if isinstance(inner, str):
            inner = _as_object(inner)
        value = lookup(inner, path[dot + 1 :]) if isinstance(inner, dict) else MISSING
        if value is not MISSING:
            return value
    return MISSING


def as_text(value: Any) -> Any:
    """Bytes that are UTF-8 as text, as some writers of Parquet have no other; all else as it is."""
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


def _as_object(text: str) -> Any:
    """RedPajama's mirrors hold `meta` as a string of JSON or of a Python dict."""
    if not text.lstrip().startswith("{"):
        return MISSING
    with suppress(ValueError, RecursionError):
        return loads(text)
    if len(text) > LITERAL_LIMIT:
        return MISSING
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return MISSING


def _check_where(record: dict[str, Any], spec: SourceSpec) -> None:
    for path, accepted in spec.where.items():
        value = lookup(record, path)
        if value is MISSING:
            raise Refused("filtered", _no_field(path, record))
        if not _is_among(value, accepted):
            raise Refused("filtered", f"{path} is {_words(value)[0]}")


def _is_among(value: Any, accepted: tuple[str, ...]) -> bool:
    """Whether a config's words say a value; of a list, any of its values.

    Numbers and times are compared by value, texts as they stand:

    >>> _is_among(Decimal("0.500"), ("0.5",)), _is_among([7], ("7.0",)), _is_among("7", ("7.0",))
    (True, True, False)
    """
    if isinstance(value, list | tuple) and any(_is_among(as_text(v), accepted) for v in value):
        return True
    if any(word in accepted for word in _words(value)):
        return True
    return not _quantities(value).isdisjoint(_quantities_said(accepted))


def _words(value: Any) -> list[str]:
    """A value as a config may write it.

    >>> _words(True), _words(["en", 1.5]), _words(None)
    (['true', 'True'], ['["en", 1.5]'], ['null'])
    """
    value = _plain(value)
    if isinstance(value, str):
        return [value]
    if isinstance(value, bool):
        return [str(value).lower(), str(value)]
    of_json = value is None or isinstance(value, int | float | dict | list)
    return [_json(value)] if of_json else [str(value)]  # dates, decimals and all that JSON lacks


def _quantities(value: Any) -> set[Decimal | datetime]:
    """What a number or a time is equal to; nothing for all else."""
    if isinstance(value, float):
        return {Decimal(word) for word in _digits(value)} if math.isfinite(value) else set()
    if isinstance(value, datetime):
        return {value}
    is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    return {Decimal(value)} if is_number else set()


def _digits(value: float) -> list[str]:
    """The shortest digits of a float, and of the one of 32 bits that it may have been in Parquet.

    >>> _digits(0.10000000149011612), _digits(0.25)
    (['0.10000000149011612', '0.1'], ['0.25', '0.25'])
    """
    import numpy as np

    with np.errstate(over="ignore"):
        single = np.float32(value)
    # of larger whole numbers of 32 bits the shortest digits are those of others
    narrow = float(single) == value and not value.is_integer()
    return [repr(value), str(single)] if narrow else [repr(value)]


@cache
def _quantities_said(words: tuple[str, ...]) -> frozenset[Decimal | datetime]:
    """The numbers and times among a config's words; a date is the midnight that it begins with."""
    said: set[Decimal | datetime] = set()
    for word in words:
        for read in (Decimal, datetime.fromisoformat):
            with suppress(ValueError, TypeError, ArithmeticError):
                said.add(read(word))
    return frozenset(said)


def _text(record: dict[str, Any], spec: SourceSpec) -> str:
    value = lookup(record, spec.text)
    if value is MISSING:
        raise Refused("missing_text", _no_field(spec.text, record))
    if value is None:
        raise Refused("null_text", f"field {spec.text} is null")
    if isinstance(value, bytes):
        return _decode(value)
    if not isinstance(value, str) or isinstance(value, Digits):
        kind = "int" if isinstance(value, Digits) else type(value).__name__
        raise Refused("text_not_string", f"field {spec.text} is a {kind}")
    return value


def _no_field(path: str, record: dict[str, Any]) -> str:
    return f"no field {path} (there are: {', '.join(map(str, record))})"


def _decode(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Refused("invalid_utf8", str(error)) from None


def utf8(text: str) -> bytes:
    """Raises Refused for a lone surrogate, which JSON can write and UTF-8 cannot."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Refused("invalid_text", f"lone surrogate at character {error.start:,}") from None


def _check_size(text: str, data: bytes, spec: SourceSpec) -> None:
    if not text or text.isspace():
        raise Refused("empty_text", f"{len(text):,} characters, none of them visible")
    if len(text) < spec.min_chars:
        raise Refused("too_short", f"{len(text):,} characters, fewer than {spec.min_chars:,}")
    if len(data) > spec.max_bytes:
        raise Refused("too_long", f"{len(data):,} bytes, more than {spec.max_bytes:,}")


def _check_tokens(text: str, spec: SourceSpec) -> None:
    """Counts no further than it takes to decide."""
    if spec.tokenizer is None:
        return
    least, most = spec.min_tokens, spec.max_tokens
    enough = least if most is None else most + 1
    n_tokens = count_tokens(load_tokenizer(spec.tokenizer), text, enough)
    if n_tokens < least:
        raise Refused("too_short", f"{n_tokens:,} tokens, fewer than {least:,}")
    if most is not None and n_tokens > most:
        raise Refused("too_long", f"more than {most:,} tokens")


def _own_id(item: Item, spec: SourceSpec) -> str | None:
    """The record's own id: a string, a whole number or a UUID; None when it has none to go by.

    Bytes that are no text, as digests and UUIDs in columns that do not call them so, are in hex.
    """
    value = _whole(lookup(item.record or {}, spec.id) if spec.id else item.id)
    value = value.hex() if isinstance(value, bytes) else value
    is_name = isinstance(value, str | int | UUID) and not isinstance(value, bool)
    return (_printable(str(_plain(value))) or None) if is_name else None


def _whole(value: Any) -> Any:
    """Numbers of columns that once had gaps are floats, those of databases decimals.

    >>> _whole(7.0), _whole(Decimal("7.00")), _whole(7.5), _whole("7.0")
    (7, 7, 7.5, '7.0')
    """
    known = isinstance(value, float) and abs(value) < EXACT
    known |= isinstance(value, Decimal) and value.is_finite()
    return int(value) if known and value == int(value) else value


def _meta(record: dict[str, Any], paths: Iterable[str]) -> str | None:
    """The fields asked for that the record has, as ASCII JSON; None when none was asked for."""
    values = {path: lookup(record, path) for path in paths}
    present = {path: value for path, value in values.items() if value is not MISSING}
    return _json(present) if values else None


def _json(value: Any) -> str:
    """JSON that every reader takes; NaN and the infinities, which it lacks, as words."""
    try:
        return json.dumps(value, default=_in_words, allow_nan=False)
    except (ValueError, TypeError):  # such a number, one too long, or a key that is none of JSON's
        return json.dumps(_plain(value), default=_in_words)


def _in_words(value: Any) -> str:
    return str(as_text(value))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, int) and value.bit_length() > LONG_BITS:
        return hex(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _excerpt(record: dict[str, Any] | None) -> str | None:
    if record is None:
        return None
    return " ".join(f"{name}={str(value)[:80]!r}" for name, value in record.items())[:EXCERPT]


def _printable(text: str | None) -> str | None:
    return text and text.encode(errors="backslashreplace").decode()


def to_batches(rows: Iterable[Row]) -> "Iterator[pa.RecordBatch]":
    """Arrow batches of STAGED_DDL, bounded by bytes of text; a document above that goes alone."""
    held: list[Row] = []
    n_bytes = 0
    for row in rows:
        size = len(row.get("text") or b"") + len(row.get("meta") or "")
        if held and (n_bytes + size > BATCH_BYTES or len(held) == BATCH_ROWS):
            yield _batch(held)
            held, n_bytes = [], 0
        held.append(row)
        n_bytes += size
    if held:
        yield _batch(held)


def _batch(rows: list[Row]) -> "pa.RecordBatch":
    import pyarrow as pa

    types = {"string": pa.string(), "bigint": pa.int64(), "int": pa.int32()}
    names = [column.split() for column in STAGED_DDL.split(", ")]
    schema = pa.schema([(name, types[type_]) for name, type_ in names])
    return pa.RecordBatch.from_pylist(rows, schema)
