"""Documents deleted with all that came of them, so that no run brings them back.

What is forgotten is written down first, by ids alone: from then on no job takes these documents for
current, and whatever is interrupted is finished by forgetting them again. Rows are deleted from the
newest versions of the tables; versions of before keep them until they are vacuumed. The jobs from
dedup on then make selections and exports anew, and a copy that had lost to a forgotten document is
promoted.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longattn.etl.after.remains import sketches
from longattn.etl.ingest.current import inputs_now, query, with_text
from longattn.etl.ingest.stage import SAME_AS, record_hash, text_hash
from longattn.etl.run.context import Context, Outcome
from longattn.etl.run.ledger import record
from longattn.etl.tables.schema import DOCUMENTS, FORGOTTEN, ORIGINS
from longattn.udfs.errors import UserError, first_line

SKETCH_DDL = "doc_id string, ngrams array<bigint>"


@dataclass(frozen=True, kw_only=True)
class Step:
    """Rows of a table that are to go: those whose column is one of the values."""

    table: str
    column: str
    values: Collection[str]


def ids_in(path: str) -> list[str]:
    """The ids of a file, one to a line."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"forget: --ids {path}: {first_line(error)}") from None
    if not lines:
        raise UserError(f"forget: --ids {path}: no id is in it")
    return lines


def documents_where(context: Context, condition: str) -> list[str]:
    """Ids of the documents for which a condition over the columns of `documents` holds.

    As they were first read, as any file gave them later, or as the config has them now.
    """
    try:
        rows = _described(context).where(condition).select("doc_id").distinct().collect()
    except (AnalysisException, ParseException) as error:
        raise UserError(f"forget: --where {condition}: {first_line(error)}") from None
    if not rows:
        raise UserError(f"forget: --where {condition}: no document meets this condition")
    return [row["doc_id"] for row in rows]


def _described(context: Context) -> DataFrame:
    """Rows of `documents`, once for each way in which a document was ever read or is named."""
    first, places = context.tables.read("documents"), context.tables.read("origins")
    later = first.select("doc_id", *(c for c in DOCUMENTS.columns if c not in ORIGINS.columns))
    every = first.unionByName(later.join(places.drop("fingerprint"), "doc_id"))
    if inputs_now(context) is None:
        return every
    return every.unionByName(with_text(context, query(context, "SELECT * FROM sourced")))


def known_ids(context: Context, ids: Collection[str]) -> list[str]:
    """Those of the ids that a document or an origin has; raises UserError where there is none."""
    wanted = _frame(context, "doc_id", ids)
    tables = ("documents", "origins", "forgotten")
    known = [context.tables.read(table).select("doc_id") for table in tables]
    every = known[0].union(known[1]).union(known[2]).distinct()
    rows = every.join(wanted, "doc_id", "left_semi").collect()
    if not rows:
        raise UserError(f"forget: no document has any of the {len(ids):,} ids, {min(ids)} for one")
    return sorted(row["doc_id"] for row in rows)


def count(context: Context, ids: Collection[str]) -> dict[str, int]:
    """How many rows of each table would go."""
    return rows_of(context, steps(context, ids))


def forget(context: Context, ids: Collection[str]) -> dict[str, int]:
    """Delete the documents and all that came of them; returns the rows deleted by table."""

    def work() -> Iterator[Step]:
        _remember(context, ids)
        yield from steps(context, ids)

    return take(context, "forget", work)


def rows_of(context: Context, taken: Iterable[Step]) -> dict[str, int]:
    """How many rows of each table the steps would take."""
    keys: dict[str, list[DataFrame]] = {}
    for step in taken:
        rows = _rows(context, step).select(*context.tables[step.table].spec.key)
        keys.setdefault(step.table, []).append(rows)
    return {
        table: reduce(DataFrame.union, rows).distinct().count()  # two steps may take one row
        for table, rows in keys.items()
    }


def take(context: Context, name: str, work: Callable[[], Iterable[Step]]) -> dict[str, int]:
    """Delete the rows of the steps, as a run of this name that holds the root; returns how many.

    All steps are worked out first. The ledger has the run, so that what it says of tables is true.
    """
    deleted = Counter[str]()

    def job(context: Context) -> Outcome:
        taken = list(work())
        there = rows_of(context, taken)
        for step in taken:
            if step.values:
                rows = context.tables.delete(step.table, step.column, step.values)
                deleted[step.table] += rows
        return Outcome(rows_in=sum(there.values()), rows_out=deleted.total())

    record(name, context, job)
    return deleted


def _remember(context: Context, ids: Collection[str]) -> None:
    """Write down the ids, the files that held the documents, and hashes of their words."""
    wanted, rows = _frame(context, "doc_id", ids), _places(context, ids)
    texts = context.tables.read("documents").join(wanted, "doc_id", "left_semi")
    hashed = texts.select("doc_id", "text").mapInArrow(sketches, SKETCH_DDL)
    named = texts.select("doc_id", record_hash(), text_hash())
    rows = rows.distinct().join(hashed, "doc_id", "left").join(named, "doc_id", "left")
    stamped = rows.withColumn("forgotten_at", F.current_timestamp())
    context.tables.merge("forgotten", stamped.select(*FORGOTTEN.columns))


def _places(context: Context, ids: Collection[str]) -> DataFrame:
    """The files that hold the documents; an id of no file stands alone, unless it is noted."""
    files = context.tables.read("origins").select("doc_id", "source_uri", "fingerprint")
    noted = context.tables.read("forgotten").select("doc_id", F.lit(True).alias("noted")).distinct()
    held = _frame(context, "doc_id", ids).join(files, "doc_id", "left")
    rows = held.join(noted, "doc_id", "left").where("source_uri IS NOT NULL OR noted IS NULL")
    return rows.drop("noted").fillna("", ["source_uri", "fingerprint"])


def steps(context: Context, ids: Collection[str]) -> Iterator[Step]:
    """What is to go, windows last of what names them, documents last of all."""
    windows = _windows_of(context, ids)
    for table in ("selections", "scores", "contamination", "windows"):
        yield Step(table=table, column="window_id", values=windows)
    yield Step(table="rejects", column="source_id", values=windows)
    yield Step(table="rejects", column="detail", values=[SAME_AS + doc_id for doc_id in ids])
    yield Step(table="pairs", column="doc_a", values=_to_compare_again(context, ids))
    yield Step(table="pairs", column="doc_b", values=ids)
    yield Step(table="duplicates", column="kept_id", values=ids)
    for table in ("duplicates", "signatures", "lengths", "origins", "documents"):
        yield Step(table=table, column="doc_id", values=ids)


def _windows_of(context: Context, ids: Collection[str]) -> list[str]:
    """Windows of the documents, and all of a group of packed ones of which one holds a piece.

    A group is there as a whole or not at all, or the next run would take it for packed.
    """
    group = F.coalesce("packed_from", "window_id").alias("group")
    members = F.explode(F.coalesce("segments.doc_id", F.array("doc_id"))).alias("doc_id")
    windows = context.tables.read("windows")
    gone = windows.select(group, members).join(
        _frame(context, "doc_id", ids), "doc_id", "left_semi"
    )
    mine = windows.select("window_id", group).join(gone, "group", "left_semi")
    return sorted(row["window_id"] for row in mine.collect())


def _to_compare_again(context: Context, ids: Collection[str]) -> list[str]:
    """The documents, and those that were compared with one of them or carry the text of one.

    A pair names one document for each text; without it what its text is like must be found again.
    """
    gone = _frame(context, "doc_id", ids)
    pairs = context.tables.read("pairs").select("doc_a", "doc_b")
    both = pairs.union(pairs.select("doc_b", "doc_a")).toDF("doc_id", "other")
    related = both.join(gone, "doc_id", "left_semi").select(F.col("other").alias("doc_id"))
    signatures = context.tables.read("signatures").select("doc_id", "text_hash")
    texts = signatures.join(gone, "doc_id", "left_semi").select("text_hash").distinct()
    alike = signatures.join(texts, "text_hash", "left_semi").select("doc_id")
    rows = related.union(alike).union(gone).distinct().collect()
    return sorted(row["doc_id"] for row in rows)


def _rows(context: Context, step: Step) -> DataFrame:
    values = _frame(context, step.column, step.values)
    return context.tables.read(step.table).join(values, step.column, "left_semi")


def _frame(context: Context, column: str, values: Collection[str]) -> DataFrame:
    rows = [(value,) for value in sorted(set(values))]
    return context.spark.createDataFrame(rows, f"{column} string")
