"""The executor that cuts documents, and the rows that tables get of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longattn.etl.run.frames import in_columns_of, multiset_hash
from longattn.etl.tables.schema import LENGTHS, WINDOWS
from longattn.udfs.ddl import ddl
from longattn.udfs.text.tokens import tokenizer_name
from longattn.udfs.windows.cut import CUT_SCHEMA, WindowSpec, cut_batches

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Count:
    """How many documents are pending, their ids, those measured, their windows; a hash of ids."""

    documents: int
    ids: int
    measured: int
    windows: int
    digest: str


def count_and_digest(pending: DataFrame) -> Count:
    """The counts of `current.unfinished`, whatever their order."""
    row = pending.agg(
        F.count("*").alias("documents"),
        F.count_distinct("doc_id").alias("ids"),
        F.count("known").alias("measured"),
        F.coalesce(F.sum("n_there"), F.lit(0)).alias("windows"),
        multiset_hash("doc_id").alias("digest"),
    )
    return Count(**row.collect()[0].asDict())


def cut_documents(documents: DataFrame, spec: WindowSpec) -> DataFrame:
    """Tokenise and cut: a row per window and one per document, as udfs.windows.cut says."""

    def cut(batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        return cut_batches(batches, spec)

    return documents.select("doc_id", "domain", "text").mapInArrow(cut, ddl(CUT_SCHEMA))


def is_window() -> Column:
    """True for the rows of cut_documents that are windows."""
    return F.col("window_index").isNotNull()


def as_windows(rows: DataFrame, spec: WindowSpec) -> DataFrame:
    """Window rows, cut or packed, in the columns of `windows`; absent columns are null."""
    tokenizer, windowing = F.lit(tokenizer_name(spec.tokenizer)), F.lit(spec.windowing)
    return in_columns_of(WINDOWS, rows, tokenizer=tokenizer, windowing=windowing)


def as_lengths(cut: DataFrame, spec: WindowSpec) -> DataFrame:
    """The documents' rows in the columns of `lengths`."""
    return in_columns_of(LENGTHS, cut.where(~is_window()), windowing=F.lit(spec.windowing))


def summary(lengths: DataFrame, limit: Column) -> DataFrame:
    """Documents, their windows, tokens and soft cuts by reason (null for documents kept).

    `limit` says why a document of a domain and of so many tokens is not wanted.
    """
    return lengths.groupBy(F.coalesce("reason", limit).alias("reason")).agg(
        F.count("*").alias("documents"),
        F.sum("n_windows").alias("windows"),
        F.sum("n_tokens").alias("tokens"),
        F.sum("soft_cuts").alias("soft_cuts"),
    )
