"""Windows that share a long run of words with an evaluation set."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longattn.udfs.ddl import ddl
from longattn.udfs.text.ngrams import JUDGED_SCHEMA, Hashes, distinct_ngrams, judged_batches


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is looked for of an evaluation set."""

    ngrams: Hashes
    items: int
    short: int  # of them have fewer than n words, and cannot be looked for


def evaluation_ngrams(items: DataFrame, n: int) -> Evaluation:
    """Hashes of every n words in a row of evaluation items (text), for `judged`.

    Evaluation sets are small: they are read on the driver, 8 bytes a word. Words are those of
    udfs.text.ngrams.
    """
    texts = (row["text"] for row in items.select("text").toLocalIterator())
    of_texts = [distinct_ngrams([text], n) for text in texts]
    return Evaluation(
        ngrams=np.unique(np.concatenate([*of_texts, np.empty(0, np.uint64)])),
        items=len(of_texts),
        short=sum(not len(ngrams) for ngrams in of_texts),
    )


def judged(
    windows: DataFrame, documents: DataFrame, known: Mapping[str, Hashes], n: int
) -> DataFrame:
    """Rows (window_id, domain, evaluation, contaminated): whether they share n words in a row.

    `known`: hashes of each evaluation. A packed window is contaminated when any of its documents
    is, wherever in the document.
    """
    places = _places(windows).groupBy("doc_id").agg(F.collect_list("place").alias("places"))
    texts = documents.select("doc_id", "text").join(places, "doc_id").select("text", "places")
    windows = texts.mapInArrow(partial(judged_batches, known=known, n=n), ddl(JUDGED_SCHEMA))
    keys = ("window_id", "domain", "evaluation")
    return windows.groupBy(*keys).agg(F.max("contaminated").alias("contaminated"))


def contaminated(contamination: DataFrame, evaluations: Collection[str]) -> DataFrame:
    """Rows (window_id, domain, evaluation) of the windows that one of the evaluations names."""
    mine = F.col("evaluation").isin(*evaluations) & F.col("contaminated")
    return contamination.where(mine).select("window_id", "domain", "evaluation")


def clean(rows: DataFrame, bad: DataFrame) -> DataFrame:
    """Rows whose window is not one of `contaminated`."""
    return rows.join(bad.select("window_id"), "window_id", "left_anti").select(*rows.columns)


def unjudged(
    windows: DataFrame, contamination: DataFrame, evaluations: Collection[str]
) -> DataFrame:
    """Windows that were not compared with every one of the evaluations yet."""
    done = (
        contamination.where(F.col("evaluation").isin(*evaluations))
        .groupBy("window_id")
        .agg(F.count("*").alias("judged"))
        .where(F.col("judged") == len(evaluations))
    )
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
