"""Windows that share a long run of words with an evaluation set."""

from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longattn.udfs.text.ngrams import Hashes, distinct_ngrams, judged_batches

JUDGED_DDL = "window_id string, domain string, contaminated boolean"


def evaluation_ngrams(items: DataFrame, n: int) -> Hashes:
    """Hashes of every n words in a row of evaluation items (text), for `judged`.

    Evaluation sets are small: they are read on the driver, 8 bytes a word. Words are those of
    udfs.text.ngrams; items of fewer than n words cannot be looked for and add nothing of their own.
    """
    texts = (row["text"] for row in items.select("text").toLocalIterator())
    return distinct_ngrams(texts, n)


def judged(windows: DataFrame, documents: DataFrame, evaluation: Hashes, n: int) -> DataFrame:
    """Rows (window_id, domain, contaminated): whether a window shares n words in a row.

    A packed window is contaminated when any of its documents is, wherever in the document.
    """
    places = _places(windows).groupBy("doc_id").agg(F.collect_list("place").alias("places"))
    texts = documents.select("doc_id", "text").join(places, "doc_id").select("text", "places")
    judge = partial(judged_batches, known=evaluation, n=n)
    found = texts.mapInArrow(judge, JUDGED_DDL)
    return found.groupBy("window_id", "domain").agg(F.max("contaminated").alias("contaminated"))


def clean(rows: DataFrame, contamination: DataFrame, evaluation: str) -> DataFrame:
    """Rows whose window is not contaminated by the named evaluation."""
    bad = contamination.where((F.col("evaluation") == evaluation) & F.col("contaminated"))
    return rows.join(bad.select("window_id"), "window_id", "left_anti").select(*rows.columns)


def unjudged(windows: DataFrame, contamination: DataFrame, evaluation: str) -> DataFrame:
    """Windows of which it is not known yet."""
    done = contamination.where(F.col("evaluation") == evaluation).select("window_id")
    return windows.join(done, "window_id", "left_anti")


def _places(windows: DataFrame) -> DataFrame:
    """Rows (doc_id, place): the stretch of a document that a window holds, or all of it."""
    start, end = (F.col(name).cast("bigint").alias(name) for name in ("start_char", "end_char"))
    whole = F.array(F.struct("doc_id", start, end))
    packed = F.transform(
        "segments",
        lambda segment: F.struct(
            segment["doc_id"].alias("doc_id"),
            F.lit(0).cast("bigint").alias("start_char"),
            F.lit(None).cast("bigint").alias("end_char"),
        ),
    )
    stretches = windows.select(
        "window_id", "domain", F.explode(F.coalesce(packed, whole)).alias("stretch")
    )
    place = F.struct("window_id", "domain", "stretch.start_char", "stretch.end_char")
    return stretches.select("stretch.doc_id", place.alias("place"))
