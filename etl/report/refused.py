"""Some of what was refused and removed, so that a reader sees whether it should have been."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F

EACH = 2  # records of a reason, pairs of a domain
BEFORE, EXCERPT = 60, 300  # characters shown before two texts part, and in all


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A record that a job refused."""

    reason: str
    place: str  # file and record, or the id
    detail: str
    excerpt: str


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A document that was removed beside the one that was kept, from where their texts part."""

    domain: str
    similarity: float
    names: tuple[str, str]  # of the removed and the kept one
    texts: tuple[str, str]


def refused_records(rejects: DataFrame, domains: Collection[str]) -> list[Refused]:
    """The first records of each reason, of these domains."""
    mine = rejects.where(F.col("domain").isin(*domains))
    rows = _first(mine, "reason", "source_uri", "source_row", "source_id")
    return [
        Refused(
            reason=row["reason"].replace("_", " "),
            place=_place(row),
            detail=row["detail"] or "",
            excerpt=row["excerpt"] or "",
        )
        for row in rows
    ]


def near_pairs(duplicates: DataFrame, documents: DataFrame, texts: DataFrame) -> list[Pair]:
    """The least similar near duplicates of each domain: those that were nearest to staying.

    `documents` are the current ones, `texts` all rows of the table.
    """
    near = duplicates.where("method = 'near'").drop("domain")
    removed = near.join(documents.select("doc_id", "domain"), "doc_id")
    rows = _first(removed, "domain", "similarity", "doc_id")
    known = _texts(texts, [row[name] for row in rows for name in ("doc_id", "kept_id")])
    return [
        _pair(row, known[row["doc_id"]], known[row["kept_id"]])
        for row in rows
        if {row["doc_id"], row["kept_id"]} <= set(known)
    ]


def _first(rows: DataFrame, by: str, *order: str) -> list[Row]:
    """The first EACH rows of each value of a column."""
    number = F.row_number().over(Window.partitionBy(by).orderBy(*order))
    first = rows.withColumn("number", number).where(F.col("number") <= EACH)
    return list(first.orderBy(by, "number").collect())


def _place(row: Row) -> str:
    if not row["source_uri"]:
        return str(row["source_id"])
    record = f", record {row['source_row']}" if row["source_row"] is not None else ""
    return f"{row['source_uri']}{record}"


def _texts(documents: DataFrame, doc_ids: list[str]) -> Mapping[str, Row]:
    wanted = documents.where(F.col("doc_id").isin(*doc_ids))
    rows = wanted.select("doc_id", "source_id", "source_uri", "text").collect()
    return {row["doc_id"]: row for row in rows}


def _pair(row: Row, removed: Row, kept: Row) -> Pair:
    both = zip(removed["text"], kept["text"], strict=False)
    parts = next((place for place, (a, b) in enumerate(both) if a != b), 0)
    begin = max(0, parts - BEFORE)
    return Pair(
        domain=row["domain"],
        similarity=row["similarity"],
        names=(_name(removed), _name(kept)),
        texts=(_excerpt(removed, begin), _excerpt(kept, begin)),
    )


def _excerpt(document: Row, begin: int) -> str:
    text: str = document["text"]
    return text[begin : begin + EXCERPT]


def _name(document: Row) -> str:
    file = os.path.basename(document["source_uri"] or "")
    return " ".join(filter(None, (file, document["source_id"])))
