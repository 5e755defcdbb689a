"""From a window back to its source: file, record, characters; and forward to exported samples."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longattn.etl.after.reading import Reader, Row
from longattn.etl.after.status import views_of
from longattn.etl.config import Config
from longattn.etl.export.files import Folder
from longattn.etl.export.read import holds, sample_in
from longattn.etl.export.writers.jsonl import data_id
from longattn.etl.run.views import among, with_views
from longattn.udfs.ddl import literal
from longattn.udfs.errors import LongAttnError, UserError
from longattn.udfs.scorers.meaning import meaning_of

EXCERPT = 300  # characters of the text shown
WINDOW = (
    "window_id, doc_id, domain, windowing, window_index, n_tokens, start_token, end_token,"
    " start_char, end_char, segments"
)


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A window's way: where it came from and what became of it."""

    window: Row
    documents: list[Row]  # one, or those of a packed window in order
    scores: list[Row]
    selections: list[Row]
    samples: list[str]  # where exports hold it


def trace(reader: Reader, config: Config, window_id: str) -> list[str]:
    """The chain as lines for people. Raises UserError for an id that no window has."""
    return list(_lines(follow(reader, config, window_id)))


def follow(reader: Reader, config: Config, window_id: str) -> Trace:
    """The chain as rows, by SQL that Spark and DataFusion read alike."""
    mine = f"WHERE window_id = {literal(window_id)}"
    windows = _rows(reader, "windows", f"SELECT {WINDOW} FROM windows {mine}")
    if not windows:
        raise UserError(f"trace {window_id}: no window has this id")
    scores = f"SELECT scorer, ds, du FROM scores {mine} ORDER BY scorer"
    selections = (
        "SELECT selection, lds, score, rank, percentile, copies FROM selections"
        f" {mine} ORDER BY selection"
    )
    return Trace(
        window=windows[0],
        documents=_documents(reader, config, windows[0]),
        scores=_rows(reader, "scores", scores),
        selections=_rows(reader, "selections", selections),
        samples=list(_samples(reader, config, window_id)),
    )


def _rows(reader: Reader, table: str, sql: str) -> list[Row]:
    """The rows of a query; none of a table that has not been made."""
    return reader.rows(sql) if table in reader.made else []


def _documents(reader: Reader, config: Config, window: Row) -> list[Row]:
    ids = [s["doc_id"] for s in window["segments"]] if window["segments"] else [window["doc_id"]]
    return documents_of(reader, config, ids, int(window["start_char"] or 0) + 1)


def documents_of(reader: Reader, config: Config, ids: list[str], begin: int) -> list[Row]:
    """The documents, in this order, with their text from a character on.

    Each with the file and the record that have it now; `current` is False where no source has it.
    """
    columns = "doc_id, source, source_id, source_uri, source_row, n_chars"
    rows = reader.rows(
        f"SELECT {columns}, substr(text, {begin}, {EXCERPT}) AS beginning FROM documents"
        f" WHERE {among('doc_id', ids)}"
    )
    views = views_of(reader, config)
    now = "SELECT doc_id, source_uri, source_row FROM sourced WHERE " + among("doc_id", ids)
    rows_now = reader.rows(with_views(now, views)) if views.inputs else []
    places = {row["doc_id"]: row for row in rows_now}
    for row in rows:
        row["current"] = views.inputs is None or row["doc_id"] in places
        row |= places.get(row["doc_id"], {})
    return sorted(rows, key=lambda row: ids.index(row["doc_id"]))


def _samples(reader: Reader, config: Config, window_id: str) -> Iterator[str]:
    """Where each export holds the window: its number there follows from its place in the mix."""
    for name, target in config.export.targets.items():
        folder = Folder.at(target.path)
        manifest = folder.manifest()
        if manifest is None:
            continue
        for number in _numbers(reader, manifest, window_id):
            if not _is_at(folder, manifest, number, window_id):
                continue
            file = next(file for file in manifest["files"] if holds(file, number))
            label = f" ({data_id(target.prefix, number)})" if name == "jsonl" else ""
            yield f"{name} {target.path}/{file['name']} sample {number}{label}"


def _is_at(folder: Folder, manifest: Row, number: int, window_id: str) -> bool:
    """Whether the export's own files have the window there; False where they cannot be read."""
    try:
        row = sample_in(folder, manifest, number)
        return row is not None and row["window_id"] == window_id
    except (LongAttnError, KeyError, ValueError, OSError):  # `longattn verify` says what is wrong
        return False


def _numbers(reader: Reader, manifest: Row, window_id: str) -> list[int]:
    """The places of a window's copies among all copies of a selection, in the mix's order.

    An export by domain has one domain after the other. One that was made before the selection was
    tells no place: it may have as many samples, in another order.
    """
    taken = f"FROM selections WHERE selection = {literal(manifest['selection'])} AND copies > 0"
    mine = f"SELECT domain, copies, mix_order {taken} AND window_id = {literal(window_id)}"
    found = _rows(reader, "selections", mine)
    if not found or _count(reader, "sum(copies)", taken) != manifest["samples"]:
        return []
    domain, first = found[0]["domain"], 0
    if manifest.get("by_domain"):
        first = sum(n["samples"] for d, n in manifest["domains"].items() if d < domain)
        taken += f" AND domain = {literal(domain)}"
    # Windows that are taken once are counted where they lie: there may be millions.
    several = _rows(reader, "selections", f"SELECT mix_order, copies {taken} AND copies > 1")
    keys = np.sort(np.concatenate([np.empty(0, np.int64), *(orders_of(**row) for row in several)]))
    single = f"{taken} AND copies = 1 AND mix_order <"
    return sorted(
        first + _count(reader, "count(*)", f"{single} {key}") + int(np.searchsorted(keys, key))
        for key in orders_of(found[0]["mix_order"], found[0]["copies"])
    )


def _count(reader: Reader, what: str, taken: str) -> int:
    (row,) = _rows(reader, "selections", f"SELECT {what} AS n {taken}")
    return int(row["n"] or 0)


# --- the order of copies as etl.selection.mix.copy_order has it: Spark's xxhash64

PRIMES = (
    *(0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9),
    *(0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5),
)
P1, P2, P3, P4, P5 = map(np.uint64, PRIMES)
SEED = np.uint64(42)
Words = NDArray[np.uint64]


def orders_of(mix_order: int, copies: int) -> NDArray[np.int64]:
    """Shuffle keys of a window's copies: mix_order for the first, a hash of it and of 2, 3, ..."""
    first = np.array([mix_order], np.int64)
    seed = _of_long(first.view(np.uint64))
    others = _of_int(np.arange(2, copies + 1, dtype=np.uint64), seed)
    return np.concatenate([first, others.view(np.int64)])


def _of_long(value: Words) -> Words:
    mixed = (SEED + P5 + np.uint64(8)) ^ (_rotated(value * P2, 31) * P1)
    return _finished(_rotated(mixed, 27) * P1 + P4)


def _of_int(value: Words, seed: Words) -> Words:
    mixed = (seed + P5 + np.uint64(4)) ^ (value * P1)
    return _finished(_rotated(mixed, 23) * P2 + P3)


def _rotated(value: Words, by: int) -> Words:
    return (value << np.uint64(by)) | (value >> np.uint64(64 - by))


def _finished(value: Words) -> Words:
    value = (value ^ (value >> np.uint64(33))) * P2
    value = (value ^ (value >> np.uint64(29))) * P3
    return value ^ (value >> np.uint64(32))


def _lines(trace: Trace) -> Iterator[str]:
    window = trace.window
    yield f"window     {window['window_id']}  {window['domain']}  {window['n_tokens']:,} tokens"
    yield f"  cut by   {window['windowing']}, number {window['window_index']} of its document"
    if not window["segments"]:
        yield f"  tokens   {window['start_token']:,} to {window['end_token']:,} of the document"
        yield f"  chars    {window['start_char']:,} to {window['end_char']:,} of its text"
    for row in trace.documents:
        yield f"document   {row['doc_id']}  {row['source']}  {row['n_chars']:,} characters"
        yield f"  record   {row['source_id']}"
        gone = "" if row["current"] else " (no longer in sources)"
        yield f"  file     {row['source_uri']}, record {row['source_row']}{gone}"
        yield f"  text     {' '.join(row['beginning'].split())}"
    yield from (_score_line(row) for row in trace.scores)
    yield from (_selection_line(row) for row in trace.selections)
    yield from (f"exported   {sample}" for sample in trace.samples)


def _score_line(row: Row) -> str:
    """LongAttn's are DS and DU; of another scorer, its number by its own name."""
    if row["scorer"].startswith("longattn:"):
        return f"score      DS {row['ds']:.6g}, DU {row['du']:.6g} by {row['scorer']}"
    meaning = meaning_of(row["scorer"])
    return f"score      {meaning.name} {row['ds']:.6g} ({meaning.unit}) by {row['scorer']}"


def _selection_line(row: Row) -> str:
    score = row["lds"] if row["score"] is None else row["score"]
    if score is None:
        return f"selection  {row['selection']}: packed, {row['copies']} copies"
    place = f"rank {row['rank']:,}, percentile {row['percentile']:.2f}, {row['copies']} copies"
    return f"selection  {row['selection']}: score {score:.4f}, {place}"
