"""Documents that are met by ids alone, with no shuffle of their text where that can be helped."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

FEW = 4_000_000  # ids that are broadcast: some half a gigabyte of the driver and of each executor


def with_ids(documents: DataFrame, ids: DataFrame) -> DataFrame:
    """The documents whose doc_id is among the ids."""
    return documents.join(_light(ids), "doc_id", "left_semi")


def without_ids(documents: DataFrame, ids: DataFrame) -> DataFrame:
    """The documents whose doc_id is not among the ids."""
    return documents.join(_light(ids), "doc_id", "left_anti")


def _light(ids: DataFrame) -> DataFrame:
    """Broadcast where they are few; else texts are shuffled, which takes long and always works.

    The column gets a new name of Spark's own: ids that were made of the documents would conflict.
    """
    alone = ids.select(F.col("doc_id").alias("doc_id"))
    return F.broadcast(alone) if alone.count() <= FEW else alone
