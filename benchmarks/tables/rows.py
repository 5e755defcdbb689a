"""Rows of tables that are made up, by the million."""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longattn.etl.tables.schema import TableSpec

# Spark's settings for them: the local session trades the compiler's best code for a fast start.
MILLIONS = {"spark.driver.memory": "4g", "spark.driver.extraJavaOptions": "-XX:+UseParallelGC"}


def rows_of(spec: TableSpec, frame: DataFrame, known: Mapping[str, Column]) -> DataFrame:
    """Rows of a table, one for each of a frame's; columns that are not known are null."""
    columns = (
        (name, known.get(name, F.lit(None)), kind) for name, (kind, _) in spec.columns.items()
    )
    return frame.select(*(column.cast(kind).alias(name) for name, column, kind in columns))


def named(kind: str, number: Column) -> Column:
    """An id, as documents and windows have it, of a kind of thing and its number."""
    return F.substring(F.sha2(F.concat(F.lit(kind), number.cast("string")), 256), 1, 32)
