"""Background: in how many documents of a corpus each n-gram stands, counted by Spark.

What is counted are current windows that are cut from one document; udfs.text.counts says what the
numbers mean, udfs.scorers.background what a scorer makes of them.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longattn.etl.run.context import Context, Outcome
from longattn.etl.run.staging import staging
from longattn.etl.windows.current import natural_windows
from longattn.udfs.ddl import ddl
from longattn.udfs.errors import NothingLeft
from longattn.udfs.scorers.background import write_ngrams
from longattn.udfs.text.counts import (
    COUNTED_SCHEMA,
    MOST,
    Ngrams,
    count_batches,
    from_table,
    threshold,
    top_key,
)
from longattn.udfs.text.tokens import tokenizer_name

TASK_TOKENS = 1 << 22  # of the documents that one task counts
SLICE_NGRAMS = 1 << 22  # that pass through the driver at a time: some 100 MB
SHARES = 1 << 20  # documents are drawn by a hash of their id, of so many values


@dataclass
class Result:
    """Where a background was written, beside its row in the ledger."""

    folder: Path | None = None


def run(context: Context, out: Path, most_tokens: int, result: Result, most: int = MOST) -> Outcome:
    """Count documents, about `most_tokens` tokens of them; rows are documents that have windows."""
    windows = natural_windows(context, "token_ids").select("doc_id", "n_tokens", "token_ids")
    every, n_tokens = _documents(windows)
    if not every:
        raise NothingLeft("background: there are no windows: run `longattn windows` first")
    drawn = windows.where(_is_drawn(most_tokens / n_tokens, context.config.seed))
    counted, counted_tokens = _documents(drawn)
    if not counted:
        raise NothingLeft(
            f"background: {most_tokens:,} of {n_tokens:,} tokens are too few: none of"
            f" {every:,} documents was drawn; raise --tokens"
        )
    with staging(context, "background") as save:
        ngrams = save("ngrams", ngrams_of(drawn, math.ceil(counted_tokens / TASK_TOKENS)))
        kept = besides_one(ngrams, most)
    result.folder = write_ngrams(
        out, kept, documents=counted, tokenizer=tokenizer_name(context.config.tokenizer_path)
    )
    return Outcome(
        rows_in=every,
        rows_out=counted,
        refused={"not_drawn": every - counted} if every > counted else {},
        metrics={"tokens": counted_tokens, "ngrams": len(kept.key_G)},
    )


def _documents(windows: DataFrame) -> tuple[int, int]:
    """How many documents, and the tokens of their windows."""
    tokens = F.coalesce(F.sum(F.col("n_tokens").cast("bigint")), F.lit(0))
    row = windows.agg(F.count_distinct("doc_id"), tokens).collect()[0]
    return row[0], row[1]


def _is_drawn(share: float, seed: int) -> Column:
    return F.pmod(F.xxhash64("doc_id", F.lit(seed)), F.lit(SHARES)) < share * SHARES


def ngrams_of(windows: DataFrame, n_tasks: int) -> DataFrame:
    """N-grams that two documents hold or more (COUNTED_SCHEMA); number is of documents."""
    rows = windows.select("doc_id", "token_ids").repartition(max(1, n_tasks), "doc_id")
    counted = rows.sortWithinPartitions("doc_id").mapInArrow(count_batches, ddl(COUNTED_SCHEMA))
    summed = counted.groupBy("key").agg(
        F.first("above").alias("above"), F.sum("number").alias("number")
    )
    return summed.where("number > 1")


def besides_one(ngrams: DataFrame, most: int) -> Ngrams:
    """As udfs.text.counts.besides_one, of counted rows that are read a slice at a time."""
    sizes = ngrams.groupBy("number").count().toPandas()
    by_n = np.zeros(int(sizes["number"].max() or 1) if len(sizes) else 1, np.int64)
    by_n[sizes["number"] - 1] = sizes["count"]
    single = F.col("above") == int(top_key().view(np.int64)[0])
    kept = ngrams.where((F.col("number") > threshold(by_n, most)) | single)
    n_slices = 1 + int(sizes["count"].sum()) // SLICE_NGRAMS
    slices = [
        kept.where(F.pmod("key", F.lit(n_slices)) == part).toArrow() for part in range(n_slices)
    ]
    counts = from_table(pa.concat_tables(slices))
    return Ngrams(counts.key_G, counts.above_G, counts.number_G - 1)
