"""Near-duplicate pairs: texts that share a band, then verified.

Works on `texts`: one document for each distinct text, with columns doc_id, scope, first (its place
in survivor order), is_new, live (whether a current document carries it), bands and signature.
"""

from functools import partial

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType

from longattn.etl.dedup.recipe import MAX_BAND_SIZE
from longattn.etl.run.frames import cut_lineage, with_ids
from longattn.udfs.text.minhash import estimate, measure_pairs, sketch_batches

BLOCK = 8 << 20  # bytes of sketches that a task holds twice while it compares two blocks


def candidates(
    texts: DataFrame, max_band_size: int = MAX_BAND_SIZE, some_left: bool = True
) -> DataFrame:
    """Pairs (scope, doc_a < doc_b) that share a band and of which at least one is new.

    A band of at most `max_band_size` texts gives all its pairs. A larger one (a licence header, a
    boilerplate page) gives a star: each text with the first of them in survivor order. So a band
    shared by a million texts costs a million pairs, not half a billion million. What a star can
    miss: two texts that are alike, are both unlike the first, and share large bands only.

    Where `some_left` of the texts are not live, the live ones of a large band that has such are
    looked at once more, as a band of their own: they may have been compared with none but one that
    has left.
    """
    bands = F.explode("bands").alias("band")
    rows = texts.select("scope", bands, "doc_id", "is_new", "first", "live")
    pairs = _within_bands(rows, max_band_size)
    if some_left:
        pairs = pairs.union(_within_bands(_left(rows, max_band_size), max_band_size))
    return pairs.distinct()


def estimated(pairs: DataFrame, texts: DataFrame, at_least: float) -> DataFrame:
    """Pairs whose signatures agree in this share of permutations or more; adds similarity."""
    named = texts.select("scope", "doc_id", "signature")
    a = named.toDF("scope", "doc_a", "signature_a")
    b = named.toDF("scope", "doc_b", "signature_b")
    both = pairs.join(a, ["scope", "doc_a"]).join(b, ["scope", "doc_b"])
    agreement = _estimate("signature_a", "signature_b").alias("similarity")
    rows = both.select("scope", "doc_a", "doc_b", agreement)
    return rows.where(F.col("similarity") >= at_least)


def verified(pairs: DataFrame, documents: DataFrame, ngram: int, at_least: float) -> DataFrame:
    """Pairs whose true Jaccard is this or more; adds similarity.

    Reads the text of the paired documents again, and of no others; their sketches take at most
    half a megabyte each (udfs.text.minhash says what that means for books). A sketch travels once
    to each pair of blocks that compares it, not once for each pair: pages made from one template
    are alike by the thousand.
    """
    wanted = cut_lineage(_ends(pairs).select("doc_id").distinct())
    texts = with_ids(documents, wanted).select("doc_id", "text")
    sketch = partial(sketch_batches, ngram=ngram)
    # Read several times below: without the cut every text would be worked through as often.
    sketches = cut_lineage(texts.mapInArrow(sketch, "doc_id string, sketch binary"))
    placed = cut_lineage(_placed(pairs, _blocks(pairs, sketches)))
    return _measured(placed, sketches).where(F.col("similarity") >= at_least)


def _within_bands(rows: DataFrame, max_band_size: int) -> DataFrame:
    # Few bands are shared, and both kinds of pairs start from those: they are worked out once.
    shared = cut_lineage(rows.drop("first").join(_shared_bands(rows), ["scope", "band"]))
    small = F.col("texts") <= max_band_size
    return _all_pairs(shared.where(small)).union(_stars(shared.where(~small)))


def _left(rows: DataFrame, max_band_size: int) -> DataFrame:
    """The live texts, as new ones, of bands that had too many for all pairs and have lost some."""
    sizes = rows.groupBy("scope", "band").agg(
        F.count("*").alias("texts"), F.count_if("live").alias("live")
    )
    bands = sizes.where((F.col("texts") > max_band_size) & (F.col("live") < F.col("texts")))
    left = rows.where("live").join(bands.select("scope", "band"), ["scope", "band"])
    return left.withColumn("is_new", F.lit(True))


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
    return pairs.where(F.col("new_a") | F.col("new_b")).select("scope", "doc_a", "doc_b")


def _stars(rows: DataFrame) -> DataFrame:
    """Every text of a band paired with the band's centre, on the same condition."""
    centre = F.col("centre.doc_id")
    leaves = rows.where(F.col("doc_id") != centre).where(F.col("is_new") | F.col("centre.is_new"))
    ends = F.least("doc_id", centre).alias("doc_a"), F.greatest("doc_id", centre).alias("doc_b")
    return leaves.select("scope", *ends)


def _ends(pairs: DataFrame) -> DataFrame:
    """Both documents of every pair, each with the other: doc_id, other."""
    a, b = F.col("doc_a"), F.col("doc_b")
    return pairs.select(a.alias("doc_id"), b.alias("other")).union(pairs.select(b, a))


def _blocks(pairs: DataFrame, sketches: DataFrame) -> DataFrame:
    """A block for each document, about BLOCK bytes of sketches to each: doc_id, block.

    Documents that have their least relation in common share a block where it has room for them.
    Any blocks give the same answer; these need few sketches in more than one.
    """
    relations = _ends(pairs).groupBy("doc_id").agg(F.least(F.min("other"), "doc_id").alias("least"))
    sized = relations.join(
        sketches.select("doc_id", F.octet_length("sketch").alias("bytes")), "doc_id"
    )
    rooms = sized.groupBy("least").agg(F.ceil(F.sum("bytes") / BLOCK).alias("rooms"))
    n_blocks = 1 + (sized.agg(F.sum("bytes")).collect()[0][0] or 0) // BLOCK
    room = F.pmod(F.xxhash64("doc_id"), "rooms")
    block = F.pmod(F.xxhash64("least", room), F.lit(n_blocks))
    return sized.join(rooms, "least").select("doc_id", block.alias("block"))


def _placed(pairs: DataFrame, blocks: DataFrame) -> DataFrame:
    """Pairs with the two blocks of their documents: low <= high, doc_a, doc_b."""
    a = blocks.select(F.col("doc_id").alias("doc_a"), F.col("block").alias("block_a"))
    b = blocks.select(F.col("doc_id").alias("doc_b"), F.col("block").alias("block_b"))
    low, high = (end("block_a", "block_b") for end in (F.least, F.greatest))
    both = pairs.select("doc_a", "doc_b").join(a, "doc_a").join(b, "doc_b")
    return both.select(low.alias("low"), high.alias("high"), "doc_a", "doc_b")


def _measured(placed: DataFrame, sketches: DataFrame) -> DataFrame:
    """True Jaccard of pairs, one pair of blocks at a time: doc_a, doc_b, similarity."""
    members = placed.select("low", "high", F.explode(F.array("doc_a", "doc_b"))).distinct()
    # Under names of their own: Spark cannot tell the two sides' columns apart otherwise.
    needed = members.toDF("of_low", "of_high", "doc_id").join(sketches, "doc_id")
    groups = placed.groupBy("low", "high").cogroup(needed.groupBy("of_low", "of_high"))
    return groups.applyInArrow(measure_pairs, "doc_a string, doc_b string, similarity double")


@F.pandas_udf(DoubleType())  # type: ignore[untyped-decorator,attr-defined]
def _estimate(a: pd.Series, b: pd.Series) -> pd.Series:
    return pd.Series(estimate(list(a), list(b)))
