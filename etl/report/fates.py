"""What became of every document and of every window under a config, counted with its tokens."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

KEPT, UNMEASURED = "kept", "not measured yet"
IN_MIX, NO_ROOM, BELOW_CUT = "in the mix", "no room in the mix", "below the cut"
CONTAMINATED, NOT_SCORED, NOT_RANKED = "contaminated", "not scored", "not ranked"


def documents_by_fate(documents: DataFrame, duplicates: DataFrame, lengths: DataFrame) -> DataFrame:
    """Rows (domain, fate, documents, chars, tokens); tokens is null where none were counted.

    fate: the method of a duplicate (exact, near), the reason of a refusal (too_short, ...), kept,
    or not measured yet. `lengths` are those of one windowing.
    """
    removed = duplicates.select("doc_id", "method")
    measured = lengths.select("doc_id", "n_tokens", "reason")
    known = documents.select("doc_id", "domain", "n_chars")
    joined = known.join(removed, "doc_id", "left").join(measured, "doc_id", "left")
    there = F.when(F.col("n_tokens").isNull(), UNMEASURED).otherwise(KEPT)
    fate = F.coalesce("method", "reason", there)
    return joined.groupBy("domain", fate.alias("fate")).agg(
        F.count("*").alias("documents"),
        F.sum("n_chars").alias("chars"),
        F.sum("n_tokens").alias("tokens"),
    )


def windows_by_fate(
    windows: DataFrame, contaminated: DataFrame, considered: DataFrame, selection: DataFrame
) -> DataFrame:
    """Rows (domain, fate, windows, tokens, overlap): what became of the windows of one windowing.

    `overlap` counts the tokens that stand in the document's window before, too. `seen`, where
    `considered` has it, is 0 of windows that select refuses before it ranks.
    """
    marks = {
        "bad": contaminated.select("window_id").distinct(),
        "seen": considered,
        "copies": selection.select("window_id", "copies"),
    }
    rows = windows.select("window_id", "domain", "n_tokens", "overlap_tokens")
    for name, mark in marks.items():
        marked = mark if name in mark.columns else mark.withColumn(name, F.lit(1))
        rows = rows.join(marked, "window_id", "left")
    fate = (
        F.when(F.col("bad").isNotNull(), CONTAMINATED)
        .when(F.col("copies") > 0, IN_MIX)
        .when(F.col("copies") == 0, NO_ROOM)
        .when(F.col("seen") == 0, NOT_RANKED)
        .when(F.col("seen") == 1, BELOW_CUT)
        .otherwise(NOT_SCORED)
    )
    return rows.groupBy("domain", fate.alias("fate")).agg(
        F.count("*").alias("windows"),
        F.sum(F.col("n_tokens").cast("bigint")).alias("tokens"),
        F.sum(F.coalesce("overlap_tokens", F.lit(0))).alias("overlap"),
    )
