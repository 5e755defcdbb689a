"""Near-duplicate pairs: texts that share a band, then verified.

Works on `texts`: one document for each distinct text, with columns doc_id, scope, first (its place
in survivor order), is_new, bands and signature.
"""

from functools import partial

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType

from etl.stages.lineage import cut_lineage
from udfs.minhash import estimate, measure, sketch_batches


def candidates(texts: DataFrame, max_band_size: int) -> DataFrame:
    """Pairs (doc_a < doc_b) that share a band and of which at least one is new.

    A band of at most `max_band_size` texts gives all its pairs. A larger one (a licence header, a
    boilerplate page) gives a star: each text with the first of them in survivor order. So a band
    shared by a million texts costs a million pairs, not half a billion million. What a star can
    miss: two texts that are alike, are both unlike the first, and share large bands only.
    """
    rows = texts.select("scope", F.explode("bands").alias("band"), "doc_id", "is_new", "first")
    # Few bands are shared, and both kinds of pairs start from those: they are worked out once.
    shared = cut_lineage(rows.drop("first").join(_shared_bands(rows), ["scope", "band"]))
    small = F.col("texts") <= max_band_size
    return _all_pairs(shared.where(small)).union(_stars(shared.where(~small))).distinct()


def estimated(pairs: DataFrame, texts: DataFrame, at_least: float) -> DataFrame:
    """Pairs whose signatures agree in this share of permutations or more; adds similarity."""
    signatures = texts.select("doc_id", "signature")
    return _compare(pairs, signatures, "signature", _estimate, at_least)


def verified(pairs: DataFrame, documents: DataFrame, ngram: int, at_least: float) -> DataFrame:
    """Pairs whose true Jaccard is this or more; adds similarity.

    Reads the text of the paired documents again, and of no others; their sketches take at most
    half a megabyte each (see udfs.minhash.jaccard for what that means for books).
    """
    wanted = pairs.select(F.explode(F.array("doc_a", "doc_b")).alias("doc_id")).distinct()
    texts = only(documents, wanted).select("doc_id", "text")
    sketch = partial(sketch_batches, ngram=ngram)
    # Read by both sides of a join: without the cut every text would be worked through twice.
    sketches = cut_lineage(texts.mapInArrow(sketch, "doc_id string, sketch binary"))
    return _compare(pairs, sketches, "sketch", _measure, at_least)


def only(documents: DataFrame, ids: DataFrame) -> DataFrame:
    """The documents with these ids, which are broadcast so that no text is shuffled."""
    return documents.join(F.broadcast(ids.select("doc_id")), "doc_id", "left_semi")


def _shared_bands(rows: DataFrame) -> DataFrame:
    """Bands of two texts or more, one of them new: how many texts, and the first of them."""
    sizes = rows.groupBy("scope", "band").agg(
        F.count("*").alias("texts"),
        F.min(F.struct("first", "doc_id", "is_new")).alias("centre"),
        F.max("is_new").alias("any_new"),
    )
    return sizes.where((F.col("texts") > 1) & F.col("any_new")).drop("any_new")


def _all_pairs(rows: DataFrame) -> DataFrame:
    """Every pair within a band, unless both texts have been compared before."""
    band = ["scope", "band"]
    a = rows.select(*band, F.col("doc_id").alias("doc_a"), F.col("is_new").alias("new_a"))
    b = rows.select(*band, F.col("doc_id").alias("doc_b"), F.col("is_new").alias("new_b"))
    pairs = a.join(b, band).where(F.col("doc_a") < F.col("doc_b"))
    return pairs.where(F.col("new_a") | F.col("new_b")).select("doc_a", "doc_b")


def _stars(rows: DataFrame) -> DataFrame:
    """Every text of a band paired with the band's centre, on the same condition."""
    centre = F.col("centre.doc_id")
    leaves = rows.where(F.col("doc_id") != centre).where(F.col("is_new") | F.col("centre.is_new"))
    return leaves.select(
        F.least("doc_id", centre).alias("doc_a"), F.greatest("doc_id", centre).alias("doc_b")
    )


def _compare(
    pairs: DataFrame, values: DataFrame, value: str, similarity: Column, at_least: float
) -> DataFrame:
    """Put the values of both documents beside each pair and keep the pairs that are alike."""
    a = values.select(F.col("doc_id").alias("doc_a"), F.col(value).alias("value_a"))
    b = values.select(F.col("doc_id").alias("doc_b"), F.col(value).alias("value_b"))
    both = pairs.select("doc_a", "doc_b").join(a, "doc_a").join(b, "doc_b")
    alike = both.select("doc_a", "doc_b", similarity("value_a", "value_b").alias("similarity"))
    return alike.where(F.col("similarity") >= at_least)


@F.pandas_udf(DoubleType())  # type: ignore[untyped-decorator]
def _estimate(a: pd.Series, b: pd.Series) -> pd.Series:
    return pd.Series(estimate(list(a), list(b)))


@F.pandas_udf(DoubleType())  # type: ignore[untyped-decorator]
def _measure(a: pd.Series, b: pd.Series) -> pd.Series:
    return pd.Series(measure(list(a), list(b)))
