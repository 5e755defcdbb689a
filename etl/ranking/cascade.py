"""The cascade: which windows a sampled score cannot place on one side of the selection's cut.

Sampled scores come with standard errors. Where the interval of a window's LDS does not hold the
cut, its exact score could not change whether it is kept; only the others are worth an exact score.
When none is left, the windows kept are those that exact scores of all windows would keep, as far as
the intervals hold and the spreads of DS and DU are those of all exact scores.

The scorer calibrated does the same with estimates of fargain: there the intervals are wide, and
half of all windows lie outside of one error on either side, so that the width sets cost and loss.
"""

from collections.abc import Collection, Sequence

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longattn.etl.config import SelectConfig
from longattn.etl.ranking import lds, rank
from longattn.etl.ranking.contenders import contenders

# domain, the first estimate and the one after the last, intercept, slope, error
Line = tuple[str, float, float, float, float, float]


def best_known(
    scores: DataFrame, sampled: str, exact: str, of: Collection[str], lines: Sequence[Line] = ()
) -> DataFrame:
    """Sampled scores, for the windows `of` the exact ones that there are, all under one name.

    `lines` turn estimates into the exact score's unit, domain by domain; see `as_exact`.
    """
    names = pa.table({"window_id": pa.array(sorted(of), pa.string())})
    ids = scores.sparkSession.createDataFrame(names)
    known = scores.where(F.col("scorer") == exact).join(F.broadcast(ids), "window_id", "left_semi")
    rest = scores.where(F.col("scorer") == sampled)
    if lines:
        rest = as_exact(rest, lines)
    rest = rest.join(known.select("window_id"), "window_id", "left_anti").select(*scores.columns)
    return known.select(*scores.columns).withColumn("scorer", F.lit(sampled)).unionByName(rest)


def as_exact(estimates: DataFrame, lines: Sequence[Line]) -> DataFrame:
    """Estimates with ds = intercept + slope ds and ds_se = error, by the line that ds lies on.

    Lines of the domain "" serve those that have none of their own.
    """
    ddl = "of string, start double, stop double, intercept double, slope double, error double"
    table = F.broadcast(estimates.sparkSession.createDataFrame(list(lines), ddl))
    known = F.col("domain").isin(*{line[0] for line in lines})
    ds, of = F.col("ds"), F.when(known, F.col("domain")).otherwise("")
    mine = (F.col("of") == of) & (F.col("start") <= ds) & (ds < F.col("stop"))
    moved = {"ds": F.col("intercept") + F.col("slope") * ds, "ds_se": F.col("error")}
    return estimates.join(table, mine).withColumns(moved).select(*estimates.columns)


def straddlers(rows: DataFrame, config: SelectConfig, seed: int, width: float) -> DataFrame:
    """window_id and domain of sampled windows that lie within `width` standard errors of a cut.

    `rows` are `candidates` with the best known scores. A cut lies midway between the last window
    kept and the first one not kept.
    """
    scored = with_error(contenders(rows, config, seed), config, rows)
    cuts = rank.cuts_of(rank.sizes(scored), config, rank.sizes(rows))
    best = rank.keep_best(scored, cuts)
    kept = best.select("window_id", F.lit(True).alias("kept"))
    marked = scored.join(kept, "window_id", "left").fillna(False, ["kept"])
    near = F.least(*(F.abs(F.col("lds") - F.col(cut)) for cut in ("cut", "upper_cut")))
    reach = width * F.col("lds_se")
    return (
        marked.join(F.broadcast(_cuts(marked)), "domain")
        .where((F.col("lds_se") > 0) & (near <= reach))
        .select("window_id", "domain")
    )


def with_error(scored: DataFrame, config: SelectConfig, rows: DataFrame) -> DataFrame:
    """Add lds_se, at least the standard error of lds, which is standardised over `rows`.

    What a sample misses of far attention is missed in DS and, with the sign turned, in DU: they err
    against each other (measured: a correlation of -0.3 to -0.5), so that for alpha > 0 the root of
    squares is a bound. For alpha < 0 errors add up.
    """
    ds, du = F.col("ds_se"), F.col("du_se")
    by = lds.ranking(config).by
    if by in ("ds", "du"):
        return scored.withColumn("lds_se", ds if by == "ds" else du)
    if by != "lds":
        return scored.withColumn("lds_se", F.lit(0.0))
    of_ds, of_du = ds / F.col("ds_unit"), abs(config.alpha) * du / F.col("du_unit")
    error = F.hypot(of_ds, of_du) if config.alpha > 0 else of_ds + of_du
    moments = F.broadcast(lds.moments(rows, config))
    return scored.join(moments, "domain").withColumn("lds_se", error)


def _cuts(marked: DataFrame) -> DataFrame:
    """Per domain (cut, upper_cut): null where no window lies beyond, so that none is near it."""
    kept = F.when(F.col("kept"), F.col("lds"))
    ends = marked.groupBy("domain").agg(F.min(kept).alias("lowest"), F.max(kept).alias("highest"))
    left_out = marked.where(~F.col("kept")).join(F.broadcast(ends), "domain", "right")
    lds = F.col("lds")
    beyond = left_out.groupBy("domain", "lowest", "highest").agg(
        F.max(F.when(lds <= F.col("lowest"), lds)).alias("below"),
        F.min(F.when(lds >= F.col("highest"), lds)).alias("above"),
    )
    return beyond.select(
        "domain",
        _midway("lowest", "below").alias("cut"),
        _midway("highest", "above").alias("upper_cut"),
    )


def _midway(one: str, other: str) -> Column:
    return (F.col(one) + F.col(other)) / 2
