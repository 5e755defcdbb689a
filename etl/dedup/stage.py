"""Exact and near duplicates: fingerprints of documents, and who of a cluster is kept.

The unit of comparison is a text: all documents of one scope whose normalised texts are equal.
A text is compared once, however many documents carry it, and text is shuffled only where ids are
too many to broadcast.
"""

from functools import partial

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longattn.etl.tables.schema import PAIRS
from longattn.udfs.text.minhash import MinHash, fingerprint_batches

FINGERPRINT_DDL = (
    "doc_id string, domain string, priority int, n_chars bigint,"
    " text_hash string, n_shingles bigint, bands array<bigint>, signature binary"
)
EXACT, NEAR, SELF = "exact", "near", "self"


def fingerprints(documents: DataFrame, minhash: MinHash) -> DataFrame:
    """Rows of `signatures` for rows of `documents`, in one pass over the text."""
    columns = documents.select("doc_id", "domain", "priority", "n_chars", "text")
    hashed = columns.mapInArrow(partial(fingerprint_batches, minhash=minhash), FINGERPRINT_DDL)
    return hashed.withColumn("recipe", F.lit(minhash.recipe))


def named_texts(signatures: DataFrame, scope: str) -> DataFrame:
    """Signatures, one row per document, with the scope and the text that the document carries.

    Adds scope (the domain, or '' when `scope` is global) and text_id.
    """
    named = signatures.dropDuplicates(["doc_id"])
    named = named.withColumn("scope", F.col("domain") if scope == "domain" else F.lit(""))
    return with_text_ids(named)


def with_text_ids(signatures: DataFrame) -> DataFrame:
    """Signatures that have a scope, with text_id, which names a text within its scope."""
    return signatures.withColumn("text_id", F.concat_ws(":", "scope", "text_hash"))


def ever(live: DataFrame, compared: DataFrame) -> DataFrame:
    """Rows of named_texts of all that is current, or was compared in some scope, each once.

    Adds `live`: whether it is current.
    """
    gone = compared.join(live.select("doc_id", "scope"), ["doc_id", "scope"], "left_anti")
    rows = live.withColumn("live", F.lit(True))
    return rows.unionByName(gone.select(*live.columns, F.lit(False).alias("live")))


def undecided(live: DataFrame, pairs: DataFrame) -> DataFrame:
    """Documents (doc_id, n_chars) that no row of `pairs` says have been compared in their scope."""
    done = compared(pairs)
    return live.select("doc_id", "scope", "n_chars").join(done, ["doc_id", "scope"], "left_anti")


def compared(pairs: DataFrame) -> DataFrame:
    """The documents (doc_id, scope) that `pairs` says have been compared with all before them."""
    return pairs.where(F.col("method") == SELF).select(F.col("doc_a").alias("doc_id"), "scope")


def pair_rows(near: DataFrame, new: DataFrame) -> DataFrame:
    """Rows of `pairs`: near pairs, and each new document with itself: it has been compared.

    `near` and `new` (doc_id, recipe) say in which scope.
    """
    itself = new.select(F.col("doc_id").alias("doc_a"), F.col("doc_id").alias("doc_b"), "recipe")
    rows = near.withColumn("method", F.lit(NEAR)).unionByName(
        itself.withColumns({"similarity": F.lit(1.0), "method": F.lit(SELF)})
    )
    return rows.select(*PAIRS.columns)


def distinct_texts(documents: DataFrame, new: DataFrame) -> DataFrame:
    """One document for each text: the first in survivor order; new when all its documents are.

    `documents` are rows of `ever`, `new` (doc_id, scope) those not compared yet. Returns doc_id,
    scope, first, is_new, live, bands and signature; texts too short for shingles have no bands.
    """
    marked = documents.join(new.withColumn("new", F.lit(True)), ["doc_id", "scope"], "left")
    return (
        marked.groupBy("text_id", "scope")
        .agg(
            F.min(_survivor_order()).alias("first"),
            F.every(F.col("new").isNotNull()).alias("is_new"),
            F.max("live").alias("live"),
            F.first("bands").alias("bands"),  # equal for equal texts
            F.first("signature").alias("signature"),
        )
        .withColumn("doc_id", F.col("first.doc_id"))
        .drop("text_id")
    )


def near_edges(pairs: DataFrame, documents: DataFrame, signatures: DataFrame) -> DataFrame:
    """Near pairs between texts that some document still carries: a < b (text_id), similarity.

    A pair names one document of each text; when that one is gone, another may carry the text.
    """
    texts = signatures.select("doc_id", "text_hash").dropDuplicates(["doc_id"])
    a, b = (texts.toDF(f"doc_{end}", f"text_{end}") for end in "ab")
    near = pairs.where(F.col("method") == NEAR).join(a, "doc_a").join(b, "doc_b")
    one, other = (F.concat_ws(":", "scope", f"text_{end}") for end in "ab")
    ends = F.least(one, other).alias("a"), F.greatest(one, other).alias("b")
    edges = near.groupBy(*ends).agg(F.max("similarity").alias("similarity"))
    carried = documents.select("text_id").distinct()
    for end in "ab":
        edges = edges.join(carried.withColumnRenamed("text_id", end), end, "left_semi")
    return edges.select("a", "b", "similarity")


def removed(documents: DataFrame, edges: DataFrame, labels: DataFrame) -> DataFrame:
    """Rows of `duplicates`: every document of a cluster but the first in survivor order.

    `labels` (node, component) are the components of `edges`. similarity is that to the kept
    document where the two were compared, else that of the document's closest relation: clusters are
    chains, and what is like something like the kept document is removed with it.
    """
    clusters = _with_cluster(documents, labels)
    kept = clusters.groupBy("cluster").agg(F.min(_survivor_order()).alias("kept"))
    lost = clusters.join(kept, "cluster").where(F.col("doc_id") != F.col("kept.doc_id"))
    same = F.col("text_id") == F.col("kept.text_id")
    return _with_similarity(lost, edges).select(
        "doc_id",
        F.col("kept.doc_id").alias("kept_id"),
        F.when(same, EXACT).otherwise(NEAR).alias("method"),
        F.when(same, 1.0).otherwise(F.coalesce("to_kept", "closest")).alias("similarity"),
        "domain",
    )


def _survivor_order() -> Column:
    """Who is kept sorts first: source priority, then length, longest first, then doc_id."""
    longest_first = (-F.col("n_chars")).alias("minus_chars")
    return F.struct("priority", longest_first, "doc_id", "text_id")


def _with_cluster(documents: DataFrame, labels: DataFrame) -> DataFrame:
    """A text without near duplicates is a cluster of its own."""
    named = documents.join(labels.withColumnRenamed("node", "text_id"), "text_id", "left")
    return named.withColumn("cluster", F.coalesce("component", "text_id"))


def _with_similarity(lost: DataFrame, edges: DataFrame) -> DataFrame:
    """Add to_kept and closest, the similarities of a document's text; null where there is none."""
    both = edges.union(edges.select("b", "a", "similarity")).toDF("text_id", "other", "similarity")
    to_kept = both.select("text_id", F.col("other").alias("kept_text"), "similarity")
    closest = both.groupBy("text_id").agg(F.max("similarity").alias("closest"))
    return (
        lost.withColumn("kept_text", F.col("kept.text_id"))
        .join(to_kept.withColumnRenamed("similarity", "to_kept"), ["text_id", "kept_text"], "left")
        .join(closest, "text_id", "left")
    )
