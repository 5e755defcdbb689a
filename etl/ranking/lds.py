"""What windows are ranked by: DS and DU from the stored sums, LDS, and the baselines.

Legend: S1, S2 sums of the far block and of its squares, per head; L tokens of the matrix; k the
minimum distance; N the entries that the variance is taken over.
"""

import math
from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from longattn.etl.config import RANKINGS, SelectConfig
from longattn.udfs.attention.formula import strength, variance
from longattn.udfs.errors import ConfigError
from longattn.udfs.scorers.identity import ScorerId
from longattn.udfs.scorers.registry import plugin

SORT_BY = {"ds": "ds", "du": "du", "length": "doc_tokens"}  # select.by -> column


def dependency(rows: DataFrame, config: SelectConfig) -> DataFrame:
    """Set ds and du as configured: means over heads of S1 / L and of -(S2 - S1^2/N) / (N - 1).

    N = L^2 for `matrix` support (the published code), (L - k)^2 for `block` (paper eq. 6-7). The
    stored columns are the matrix form over all heads and are taken as they are; every other choice
    is worked out from the statistics of the heads. The formula: udfs.attention.formula.
    """
    if config.support == "matrix" and not config.heads:
        return rows
    s1, s2 = (_heads(name, config.heads) for name in ("head_s1", "head_s2"))
    length = F.col("n_tokens").cast("double")
    side = length if config.support == "matrix" else length - F.col("k")
    entries = side * side
    freedom = F.greatest(entries - 1, F.lit(1.0))  # at L - k = 1 the block has one entry
    variances = F.zip_with(s1, s2, lambda a, b: variance(a, b, entries, freedom))
    return rows.withColumns({"ds": strength(_mean(s1), length), "du": -_mean(variances)})


def score_by(
    rows: DataFrame, config: SelectConfig, seed: int, known: DataFrame | None = None
) -> DataFrame:
    """Add `lds`, the number to select by: LDS, a column, or what the scorer in select.by says.

    Rows are those of that scorer; for weights of several they have a column `weighted`. `known` is
    `moments(rows, config)`, where the caller has it. A distance is of recall's scores alone.
    """
    config = ranking(config)
    if isinstance(config.by, dict):
        return rows.withColumn("lds", F.col("weighted"))
    if config.by == "ds" and config.distance:
        return rows.withColumn("lds", gain_from(config.distance))
    if config.by == "lds":
        return long_dependency_score(rows, config, known)
    if config.by == "random":
        # 53 bits, so that no two hashes become one double
        uniform = F.xxhash64(F.lit(seed), "window_id").bitwiseAND((1 << 53) - 1) / 2.0**53
        return rows.withColumn("lds", uniform)
    column = SORT_BY.get(config.by) or config.column
    if (name := measure(config)) and "measures" in rows.columns:
        return rows.withColumn("lds", F.col("measures")[name])
    if column is None or column not in rows.columns:
        raise ConfigError(f"select.column: scores have no column {column!r}: {rows.columns}")
    return rows.withColumn("lds", F.col(column).cast("double"))


def ranking(config: SelectConfig) -> SelectConfig:
    """The settings with what a scorer ranks by in the place of its name, where `by` is one."""
    if isinstance(config.by, dict) or config.by in RANKINGS:
        return config
    name = ScorerId.of(config.by).name
    own = {"by": plugin(name).ranks_by} | ({} if name == "recall" else {"distance": None})
    return ranking(config.model_copy(update=own))


def measure(config: SelectConfig) -> str:
    """The measure that windows are ranked by; empty where that is no measure."""
    column = (config.by == "column" and config.column) or ""
    return column.removeprefix("measures.") if column.startswith("measures.") else ""


def gain_from(distance: int | Mapping[int, float]) -> Column:
    """Of recall's measures, the gain from so far back and farther, or octaves by their weights."""
    return F.aggregate(
        F.map_entries("measures"),
        F.lit(0.0),
        lambda total, one: total + _weight(one["key"], distance) * one["value"],
    )


def _weight(measure: Column, distance: int | Mapping[int, float]) -> Column:
    """Of a measure by its name, 0 for one that is no octave."""
    begins = octave(measure)
    if isinstance(distance, int):
        return F.when(begins >= distance, 1.0).otherwise(0.0)
    weight = F.lit(0.0)
    for octave_from, given in distance.items():
        weight = F.when(begins == octave_from, given).otherwise(weight)
    return weight


def octave(measure: Column) -> Column:
    """Where the octave of recall's gain begins that a measure has, in tokens; null of another."""
    return F.regexp_extract(measure, r"^gain_from_(\d+)$", 1).try_cast("int")


def long_dependency_score(
    rows: DataFrame, config: SelectConfig, known: DataFrame | None = None
) -> DataFrame:
    """Add lds = Std(DS) + alpha * Std(DU), standardised within each domain (paper eq. 8).

    `zscore`: (x - mean) / sample standard deviation. `minmax`, of the published code:
    minmax(DS) - alpha * minmax(Var), where Var = -DU, so that DU is measured down from its
    largest value. A domain whose values are all equal gets 0 for them.
    """
    scaled = rows.join(F.broadcast(moments(rows, config) if known is None else known), "domain")
    ds, du = ((F.col(x) - F.col(f"{x}_origin")) / F.col(f"{x}_unit") for x in ("ds", "du"))
    return scaled.withColumn("lds", ds + config.alpha * du).drop(*_MOMENTS)


def moments(rows: DataFrame, config: SelectConfig) -> DataFrame:
    """What DS and DU are standardised with: domain, ds_origin, ds_unit, du_origin, du_unit."""
    measured = {
        "zscore": (F.mean("ds"), F.stddev("ds"), F.mean("du"), F.stddev("du")),
        "minmax": (F.min("ds"), _span("ds"), F.max("du"), _span("du")),
    }[config.normalize]
    named = [moment.alias(name) for moment, name in zip(measured, _MOMENTS, strict=True)]
    per_domain = rows.groupBy("domain").agg(*named).collect()
    records = [(row["domain"], *_reproducible(row)) for row in per_domain]
    ddl = "domain string, " + ", ".join(f"{name} double" for name in _MOMENTS)
    return rows.sparkSession.createDataFrame(records, ddl)


def units(rows: DataFrame, column: str) -> DataFrame:
    """What a column is standardised with: domain, origin (its mean), unit (its deviation)."""
    paired = rows.select("domain", F.col(column).alias("ds"), F.col(column).alias("du"))
    per_domain = moments(paired, SelectConfig(normalize="zscore"))
    return per_domain.select(
        "domain", F.col("ds_origin").alias("origin"), F.col("ds_unit").alias("unit")
    )


_MOMENTS = ("ds_origin", "ds_unit", "du_origin", "du_unit")


def _heads(column: str, heads: list[int]) -> Column:
    if not heads:
        return F.col(column)
    return F.array(*(F.element_at(column, head + 1) for head in heads))


def _mean(values: Column) -> Column:
    return F.aggregate(values, F.lit(0.0), lambda total, x: total + x) / F.size(values)


def _span(column: str) -> Column:
    return F.max(column) - F.min(column)


def _reproducible(row: Row) -> list[float]:
    """Moments to 12 digits: partial sums meet in any order, and the last bits say in which.

    A unit of 0 becomes infinite, which makes every standardised value 0.
    """
    ds_origin, ds_unit, du_origin, du_unit = (float(f"{x or 0.0:.12g}") for x in tuple(row)[1:])
    return [ds_origin, ds_unit or math.inf, du_origin, du_unit or math.inf]
