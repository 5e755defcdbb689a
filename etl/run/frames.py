"""DataFrames as jobs hold them: asked by SQL, worked out now, hashed whatever their order."""

from collections.abc import Mapping

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from longattn.etl.tables.schema import TableSpec
from longattn.udfs.errors import TableError

WIDE = "decimal(20,0)"  # holds 64 bits; Spark widens it by ten digits when it adds up
FEW = 4_000_000  # ids that are broadcast: some half a gigabyte of the driver and of each executor


def by_sql(spark: SparkSession, sql: str, tables: Mapping[str, DataFrame]) -> DataFrame:
    """The rows of a query, in the SQL that Spark and DataFusion have in common, over these tables.

    Views of the session by the same names are neither read nor made.
    """
    text = spark_sql(sql).replace("{", "{{").replace("}", "}}")
    bound = ", ".join(f"{name} AS (SELECT * FROM {{{name}}})" for name in tables)
    return spark.sql(f"WITH {bound} SELECT * FROM ({text})", None, **tables)


def spark_sql(sql: str) -> str:
    """That SQL as Spark reads it: a backslash in a literal is one in DataFusion, and two here."""
    return sql.replace("\\", "\\\\")


def setting(spark: SparkSession, key: str) -> str | None:
    """A setting of the session; None where it is not set, or where serverless does not tell it."""
    try:
        return spark.conf.get(key, None)
    except PySparkException:
        return None


def slots(spark: SparkSession) -> int:
    """How many tasks a stage has; Spark's own 200 where the platform decides (`auto`)."""
    said = setting(spark, "spark.sql.shuffle.partitions") or ""
    return int(said) if said.isdecimal() else 200


def cut_lineage(frame: DataFrame) -> DataFrame:
    """Compute the rows now and keep them; later plans start from these.

    Kept under spark.checkpoint.dir where that is set, else on the executors. Rows that are lost
    with an executor are an error of the job that needs them, never recomputed or left out.
    """
    reliable = setting(frame.sparkSession, "spark.checkpoint.dir")
    return _without_estimates(frame.checkpoint() if reliable else frame.localCheckpoint())


def _without_estimates(frame: DataFrame) -> DataFrame:
    """The same rows, of a size that Spark does not claim to know.

    A checkpoint keeps what Spark had estimated, and the estimate of a join is the product of its
    sides: after some rounds of joins and checkpoints it has millions of digits, and planning never
    ends. Spark Connect gives no way in, and keeps its estimates.
    """
    if not hasattr(frame, "_jdf"):
        return frame
    session, rows = frame.sparkSession, frame._jdf.queryExecution().toRdd()
    java_frame = session._jsparkSession.internalCreateDataFrame(rows, frame._jdf.schema(), False)
    return type(frame)(java_frame, session)


def with_ids(documents: DataFrame, ids: DataFrame) -> DataFrame:
    """The documents whose doc_id is among the ids."""
    # A new name of Spark's own: ids that were made of the documents would conflict.
    return documents.join(light(ids.select(F.col("doc_id").alias("doc_id"))), "doc_id", "left_semi")


def light(rows: DataFrame) -> DataFrame:
    """Rows to be joined with texts: broadcast where they are few, as shuffling texts takes long."""
    return F.broadcast(rows) if rows.count() <= FEW else rows


def in_columns_of(spec: TableSpec, rows: DataFrame, **given: Column) -> DataFrame:
    """Rows in a table's columns and types; a column that is in neither is null."""
    known = {name: F.col(name) for name in rows.columns} | given
    return rows.select(
        *(
            known.get(name, F.lit(None)).cast(type_).alias(name)
            for name, (type_, _) in spec.columns.items()
        )
    )


def refuse_repeated(rows: int, distinct: int, where: str) -> None:
    """Raise TableError when there are fewer distinct keys than rows."""
    if rows != distinct:
        raise TableError(
            f"{where}: {rows - distinct} of {rows} rows are duplicates, so later results would be"
            " wrong; `longattn status --check` says which, and how to mend it"
        )


def multiset_hash(*columns: str) -> Column:
    """The sum of the rows' hashes, in digits; "0" of no rows.

    Equal rows add up, where an xor would cancel them in pairs. A null changes no hash of Spark's,
    so each column is hashed with whether it is null: (null, a) and (a, null) differ.
    """
    values = [value for name in columns for value in (F.col(name), F.isnull(F.col(name)))]
    total = F.sum(F.xxhash64(*values).cast(WIDE))
    return F.coalesce(total.cast("string"), F.lit("0"))
