"""Windows with their files, the executor that scores them, and what becomes of refused ones."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from longattn.etl.run.frames import setting
from longattn.etl.tables.schema import REJECTED_BY, SCORES
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.registry import PACKED
from longattn.udfs.scorers.worker import TIMES, score_batches

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.resource import ResourceProfile

STATISTICS = {name: type_ for name, (type_, _) in SCORES.columns.items() if name != "scored_at"}
STATISTICS_DDL = ", ".join(f"{name} {type_}" for name, type_ in STATISTICS.items())
TIMES_DDL = ", ".join(f"{name} double" for name in TIMES)
FILE = "substring_index(input_file_name(), '/', -1) AS file"  # a row's, without its folder
SCORED_DDL = f"{STATISTICS_DDL}, reason string, detail string, {TIMES_DDL}"


def score_windows(
    windows: DataFrame, spec: ScorerSpec, profile: "ResourceProfile | None" = None
) -> DataFrame:
    """Score rows of (window_id, domain, token_ids) to SCORED_DDL; a reject has a reason.

    Rows of packed windows have `segments` too. busy_seconds and seconds of all rows add up to what
    the workers spent, scoring and in all.
    """

    def score(batches: "Iterator[pd.DataFrame]") -> "Iterator[pd.DataFrame]":
        return score_batches(batches, spec, gpu_address=_gpu_address())

    lengths = F.transform("segments", lambda segment: segment["n_tokens"]).alias("segment_tokens")
    more = [lengths] if spec.scorer in PACKED else []
    columns = windows.select("window_id", "domain", "token_ids", *more)
    return columns.mapInPandas(score, SCORED_DDL, profile=profile)


def gpu_profile(spark: SparkSession) -> "ResourceProfile | None":
    """Ask for a GPU per task where the executors have GPUs; None in local mode, which refuses it.

    Spark: "TaskResourceProfiles are only supported for Standalone, Yarn and Kubernetes".
    """
    master = setting(spark, "spark.master") or ""
    amount = float(setting(spark, "spark.executor.resource.gpu.amount") or 0)
    if amount == 0 or master.startswith("local"):
        return None
    from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

    request = TaskResourceRequests().resource("gpu", 1)
    return ResourceProfileBuilder().require(request).build


def contaminated_windows(windows: DataFrame, bad: DataFrame) -> DataFrame:
    """Windows that are in `bad` (window_id, evaluation), with the reason and the evaluations."""
    sets = F.array_join(F.array_sort(F.collect_list("evaluation")), ", ").alias("detail")
    named = bad.groupBy("window_id").agg(sets)
    return windows.join(named, "window_id").withColumn("reason", F.lit("contaminated"))


def as_rejects(refused: DataFrame) -> DataFrame:
    """Refused windows (domain, window_id, scorer, reason, detail) as rows of `rejects`."""
    return refused.select(
        F.lit("score").alias("job"),
        "domain",
        F.concat(F.lit(REJECTED_BY), "scorer").alias("source_uri"),
        F.lit(None).cast("bigint").alias("source_row"),
        F.col("window_id").alias("source_id"),
        "reason",
        "detail",
        F.lit(None).cast("string").alias("excerpt"),
    )


def _gpu_address() -> str | None:
    """The GPU that Spark gave this task; None where it gave none."""
    from pyspark import TaskContext

    context = TaskContext.get()
    resources = context.resources() if context else {}
    return resources["gpu"].addresses[0] if "gpu" in resources else None
