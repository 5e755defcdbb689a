"""What other scorers say of windows: filters by percentile, and sums of standardised scores.

Scores of another scorer are rows of (window_id, domain, lds), lds being what it ranks by.
"""

import functools
from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from longattn.etl.config import SelectConfig
from longattn.etl.ranking.lds import units
from longattn.etl.ranking.rank import cuts_of, keep_best, sizes
from longattn.udfs.scorers.identity import ScorerId

Named = Mapping[str, DataFrame]  # scores of other scorers by their names


def add_weighted(rows: DataFrame, scores: Named, weights: Mapping[str, float]) -> DataFrame:
    """Add `weighted`: the sum of weight times score less its domain's mean over its deviation.

    Means and deviations are those of all windows that the scorer has scored. Null, and `refused` as
    no_NAME_score, where a scorer has none of the window.
    """
    columns = {name: F.col(f"score_{i}") for i, name in enumerate(weights)}
    for i, name in enumerate(weights):
        standard = _standardised(scores[name]).withColumnRenamed("standard", f"score_{i}")
        rows = rows.join(standard, "window_id", "left")
    total = functools.reduce(
        lambda one, other: one + other, (weights[name] * columns[name] for name in weights)
    )
    missing = F.coalesce(*(_reason(columns[name].isNull(), _no_score(name)) for name in weights))
    return rows.withColumns({"weighted": total, "refused": F.coalesce("refused", missing)}).drop(
        *(f"score_{i}" for i in range(len(weights)))
    )


def refuse_outside(rows: DataFrame, scores: DataFrame, name: str, band: list[float]) -> DataFrame:
    """Set `refused` of windows outside a band of percentiles of another score: where_NAME.

    Percentiles are those of all windows of the domain that the scorer has scored, 100 the best;
    from < percentile <= to. Windows without such a score are refused as no_NAME_score.
    """
    ranked = scores.withColumn("window_tokens", F.lit(1))
    inside = keep_best(ranked, cuts_of(sizes(scores), SelectConfig(percentile=band)))
    known = scores.select("window_id", F.lit(True).alias("known"))
    passed = inside.select("window_id", F.lit(True).alias("passed"))
    marked = rows.join(known, "window_id", "left").join(passed, "window_id", "left")
    reason = F.coalesce(
        F.col("refused"),
        _reason(F.col("known").isNull(), _no_score(name)),
        _reason(F.col("passed").isNull(), f"where_{ScorerId.of(name).name}"),
    )
    return marked.withColumn("refused", reason).drop("known", "passed")


def by_measure(scores: DataFrame, measure: str) -> DataFrame:
    """The scores that have a measure of that name, with it as lds."""
    value = F.col("measures")[measure]
    return scores.withColumn("lds", value).where(value.isNotNull())


def refuse_without(rows: DataFrame, measure: str) -> DataFrame:
    """Set `refused` of windows whose score has no measure of that name."""
    before = F.col("refused") if "refused" in rows.columns else F.lit(None).cast("string")
    reason = _reason(F.col("measures")[measure].isNull(), "no_measure")
    return rows.withColumn("refused", F.coalesce(before, reason))


def not_refused(rows: DataFrame) -> DataFrame:
    """The rows that no filter keeps out; all where there is no filter."""
    return rows.where(F.col("refused").isNull()) if "refused" in rows.columns else rows


def best_of_documents(rows: DataFrame, at_most: int | None) -> DataFrame:
    """The best rows of each document by lds, ties by window_id; all where at_most is None."""
    if at_most is None:
        return rows
    document = F.coalesce("doc_id", "window_id")  # a window packed of several is its own
    best_first = Window.partitionBy("domain", document).orderBy(F.desc("lds"), "window_id")
    numbered = rows.withColumn("of_document", F.row_number().over(best_first))
    return numbered.where(F.col("of_document") <= at_most).drop("of_document")


def _standardised(scores: DataFrame) -> DataFrame:
    """window_id and `standard`, the score in deviations from its domain's mean."""
    scaled = scores.join(F.broadcast(units(scores, "lds")), "domain")
    return scaled.select(
        "window_id", ((F.col("lds") - F.col("origin")) / F.col("unit")).alias("standard")
    )


def _reason(holds: Column, word: str) -> Column:
    return F.when(holds, F.lit(word))


def _no_score(name: str) -> str:
    return f"no_{ScorerId.of(name).name}_score"
