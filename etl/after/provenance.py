"""From a window back to its source: file, record, characters; and forward to exported samples."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from longattn.etl.export.files import Folder
from longattn.etl.export.job import targets_of
from longattn.etl.export.jsonl import data_id
from longattn.etl.export.samples import copies
from longattn.etl.run.context import Context
from longattn.udfs.errors import UserError
from longattn.udfs.scorers.meaning import meaning_of

EXCERPT = 300  # characters of the text shown


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A window's way: where it came from and what became of it."""

    window: Row
    documents: list[Row]  # one, or those of a packed window in order
    scores: list[Row]
    selections: list[Row]
    samples: list[str]  # where exports hold it


def trace(context: Context, window_id: str) -> list[str]:
    """The chain as lines for people. Raises UserError for an id that no window has."""
    return list(_lines(follow(context, window_id)))


def follow(context: Context, window_id: str) -> Trace:
    """The chain as rows."""
    tables = context.tables
    mine = F.col("window_id") == window_id
    window = tables.read("windows").drop("token_ids").where(mine).first()
    if window is None:
        raise UserError(f"trace {window_id}: no window has this id")
    return Trace(
        window=window,
        documents=_documents(tables.read("documents"), window),
        scores=tables.read("scores").drop("head_s1", "head_s2").where(mine).collect(),
        selections=tables.read("selections").where(mine).collect(),
        samples=list(_samples(context, window_id)),
    )


def _documents(documents: DataFrame, window: Row) -> list[Row]:
    ids = [s["doc_id"] for s in window["segments"]] if window["segments"] else [window["doc_id"]]
    begin = int(window["start_char"] or 0) + 1
    rows = (
        documents.where(F.col("doc_id").isin(*ids))
        .withColumn("beginning", F.substring("text", begin, EXCERPT))
        .drop("text")
        .collect()
    )
    return sorted(rows, key=lambda row: ids.index(row["doc_id"]))


def _samples(context: Context, window_id: str) -> Iterator[str]:
    """Where each export holds the window: its number there follows from its place in the mix."""
    for name, target in targets_of(context).items():
        manifest = Folder.at(target.path).manifest()
        if manifest is None:
            continue
        rows = context.tables.read("selections").where(F.col("selection") == manifest["selection"])
        for number in _numbers(copies(rows), window_id):
            file = _file_of(manifest["files"], number)
            label = f" ({data_id(target.prefix, number)})" if name == "jsonl" else ""
            yield f"{name} {target.path}/{file['name']} sample {number}{label}"


def _numbers(each: DataFrame, window_id: str) -> list[int]:
    mine = each.where(F.col("window_id") == window_id).select(F.col("order").alias("mine"))
    before = each.join(F.broadcast(mine), F.col("order") < F.col("mine")).groupBy("mine").count()
    found = mine.join(before, "mine", "left").orderBy("mine").collect()
    return [row["count"] or 0 for row in found]


def _file_of(files: list[dict[str, Any]], number: int) -> dict[str, Any]:
    return next(f for f in files if f["first_sample"] <= number < f["first_sample"] + f["samples"])


def _lines(found: Trace) -> Iterator[str]:
    window = found.window
    yield f"window     {window['window_id']}  {window['domain']}  {window['n_tokens']:,} tokens"
    yield f"  cut by   {window['windowing']}, number {window['window_index']} of its document"
    if not window["segments"]:
        yield f"  tokens   {window['start_token']:,} to {window['end_token']:,} of the document"
        yield f"  chars    {window['start_char']:,} to {window['end_char']:,} of its text"
    for row in found.documents:
        yield f"document   {row['doc_id']}  {row['source']}  {row['n_chars']:,} characters"
        yield f"  record   {row['source_id']}"
        yield f"  file     {row['source_uri']}, record {row['source_row']}"
        yield f"  text     {' '.join(row['beginning'].split())}"
    yield from (_score_line(row) for row in found.scores)
    yield from (_selection_line(row) for row in found.selections)
    yield from (f"exported   {sample}" for sample in found.samples)


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
