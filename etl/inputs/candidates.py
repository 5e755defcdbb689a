"""The windows that a config selects from, and those too near its cut."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from longattn.etl import names
from longattn.etl.config import Config
from longattn.etl.inputs.evaluation import without_contaminated
from longattn.etl.run.context import Context
from longattn.etl.stages import lds
from longattn.etl.stages import selection as stage
from longattn.etl.stages.cascade import best_known, straddlers
from longattn.udfs.scorers.registry import scorer_version


def considered(context: Context) -> DataFrame:
    """All windows to select from, ds and du as configured, without the statistics per head."""
    tables, config = context.tables, context.config
    scores = tables.read("scores")
    if config.score.cascade:
        exact = scorer_version(names.exact_scorer_spec(config))
        scores = best_known(scores, names.scorer(config), exact)
    rows = stage.candidates(
        scores,
        *(tables.read(name) for name in ("windows", "duplicates", "lengths")),
        scorer=names.scorer(config),
        windowing=names.windowing(config),
    )
    rows = without_contaminated(context, rows)
    return lds.dependency(rows, config.select).drop("head_s1", "head_s2")


def near_cut(config: Config, rows: DataFrame) -> set[str]:
    """Windows that their sampled scores cannot place on one side of the cut; none when exact."""
    if not config.score.cascade:
        return set()
    near = straddlers(rows, config.select, config.seed, config.score.cascade)
    return {row["window_id"] for row in near.collect()}


@contextmanager
def cached(rows: DataFrame) -> Iterator[DataFrame]:
    """Keep rows in memory while the block reads them again and again, where that is allowed."""
    try:
        rows.persist()
    except PySparkException:  # Databricks serverless has no cache; the passes then read the tables
        yield rows
        return
    try:
        yield rows
    finally:
        rows.unpersist()
