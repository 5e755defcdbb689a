"""Materialise a DataFrame and forget how it came about."""

from pyspark.sql import DataFrame


def cut_lineage(frame: DataFrame) -> DataFrame:
    """Compute the rows now and keep them; later plans start from these.

    Kept under spark.checkpoint.dir where that is set, else on the executors. Rows that are lost
    with an executor are an error of the job that needs them, never recomputed or left out.
    """
    reliable = frame.sparkSession.conf.get("spark.checkpoint.dir", None)
    return frame.checkpoint() if reliable else frame.localCheckpoint()
