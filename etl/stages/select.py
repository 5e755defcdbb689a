"""Which windows to keep: DS, DU and LDS from the stored statistics, and exact ranks at any size.

Legend: S1, S2 sums of the far block and of its squares, per head; L tokens of the matrix; k the
minimum distance; N the entries that the variance is taken over.
"""

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from etl.config import SelectConfig, of_domain
from udfs.errors import ConfigError

PER_SPLIT = 64  # sampled rows between two splits; more make the buckets more even
SPLITS = 127  # per domain: a task sorts about 1/128 of one
ONE_TASK = 50_000  # rows of a domain that one task sorts sooner than a sample is drawn
SORT_BY = {"ds": "ds", "du": "du", "length": "doc_tokens"}  # select.by -> column
UNBOUNDED = (1 << 63) - 1


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Where one domain of n_scored windows is cut; all bounds hold at once, ends included."""

    n_scored: int
    first_rank: int = 1
    last_rank: int = UNBOUNDED
    max_tokens: int = UNBOUNDED  # of all windows down to the cut
    min_score: float = -math.inf


def candidates(
    scores: DataFrame,
    windows: DataFrame,
    duplicates: DataFrame,
    lengths: DataFrame,
    *,
    scorer: str,
    windowing: str,
) -> DataFrame:
    """The scores to select from: this scorer's, of this windowing, of documents that were kept.

    Adds doc_id, window_tokens (the window's own tokens, BOS not counted) and doc_tokens (those of
    the whole document; of the window where it was packed from several).
    """
    cut = windows.where(F.col("windowing") == windowing).select(
        "window_id", "doc_id", F.col("n_tokens").alias("window_tokens")
    )
    whole = lengths.where(F.col("windowing") == windowing).select(
        "doc_id", F.col("n_tokens").alias("doc_tokens")
    )
    return (
        scores.where(F.col("scorer") == scorer)
        .join(cut, "window_id")
        .join(duplicates.select("doc_id"), "doc_id", "left_anti")
        .join(whole, "doc_id", "left")
        .withColumn("doc_tokens", F.coalesce("doc_tokens", F.col("window_tokens").cast("bigint")))
    )


def packed_windows(windows: DataFrame, seed: int, *, packing: str) -> DataFrame:
    """Windows of short text, packed and not scored, all kept in a seeded random order.

    They have the columns of `select`'s result; ds, du, lds and percentile are null.
    """
    rows = windows.where(F.col("windowing") == packing).select(
        "window_id", "domain", F.col("n_tokens").alias("window_tokens")
    )
    every = select(rows, SelectConfig(by="random", fraction=1.0), seed)
    absent = F.lit(None).cast("double")
    return every.withColumns(dict.fromkeys(("ds", "du", "lds", "percentile"), absent))


def dependency(rows: DataFrame, config: SelectConfig) -> DataFrame:
    """Set ds and du as configured: means over heads of S1 / L and of -(S2 - S1^2/N) / (N - 1).

    N = L^2 for `matrix` support (the published code), (L - k)^2 for `block` (paper eq. 6-7). The
    stored columns are the matrix form over all heads and are taken as they are; every other choice
    is worked out from the statistics of the heads. udfs.attention.dependency is its torch twin.
    """
    if config.support == "matrix" and not config.heads:
        return rows
    s1, s2 = (_heads(name, config.heads) for name in ("head_s1", "head_s2"))
    length = F.col("n_tokens").cast("double")
    side = length if config.support == "matrix" else length - F.col("k")
    entries = side * side
    variance = F.zip_with(s1, s2, lambda a, b: (b - a * a / entries) / (entries - 1))
    return rows.withColumns({"ds": _mean(s1) / length, "du": -_mean(variance)})


def score_by(rows: DataFrame, config: SelectConfig, seed: int) -> DataFrame:
    """Add `lds`, the number to select by: LDS, or the baseline that select.by names."""
    if config.by == "lds":
        return long_dependency_score(rows, config)
    if config.by == "random":
        # 53 bits, so that no two hashes become one double
        uniform = F.xxhash64(F.lit(seed), "window_id").bitwiseAND((1 << 53) - 1) / 2.0**53
        return rows.withColumn("lds", uniform)
    column = SORT_BY.get(config.by) or config.column
    if column is None or column not in rows.columns:
        raise ConfigError(f"select.column: scores have no column {column!r}: {rows.columns}")
    return rows.withColumn("lds", F.col(column).cast("double"))


def long_dependency_score(rows: DataFrame, config: SelectConfig) -> DataFrame:
    """Add lds = Std(DS) + alpha * Std(DU), standardised within each domain (paper eq. 8).

    `zscore`: (x - mean) / sample standard deviation. `minmax`, of the published code:
    minmax(DS) - alpha * minmax(Var), where Var = -DU, so that DU is measured down from its
    largest value. A domain whose values are all equal gets 0 for them.
    """
    scaled = rows.join(F.broadcast(moments(rows, config)), "domain")
    ds, du = ((F.col(x) - F.col(f"{x}_origin")) / F.col(f"{x}_unit") for x in ("ds", "du"))
    return scaled.withColumn("lds", ds + config.alpha * du).drop(*_MOMENTS)


def moments(rows: DataFrame, config: SelectConfig) -> DataFrame:
    """What DS and DU are standardised with: domain, ds_origin, ds_unit, du_origin, du_unit."""
    found = {
        "zscore": (F.mean("ds"), F.stddev("ds"), F.mean("du"), F.stddev("du")),
        "minmax": (F.min("ds"), _span("ds"), F.max("du"), _span("du")),
    }[config.normalize]
    named = [moment.alias(name) for moment, name in zip(found, _MOMENTS, strict=True)]
    per_domain = rows.groupBy("domain").agg(*named).collect()
    units = [(row["domain"], *_reproducible(row)) for row in per_domain]
    ddl = "domain string, " + ", ".join(f"{name} double" for name in _MOMENTS)
    return rows.sparkSession.createDataFrame(units, ddl)


def sizes(rows: DataFrame) -> dict[str, int]:
    """Windows per domain."""
    counts = rows.groupBy("domain").agg(F.count("*").alias("n")).collect()
    return {row["domain"]: row["n"] for row in sorted(counts)}


def cut_of(domain: str, n_scored: int, config: SelectConfig) -> Cut:
    """The cut that the settings make in a domain: threshold, percentile, tokens, else fraction.

    fraction: rounded half up, one window at least. percentile [from, to]: from < percentile <= to,
    where rank r of n has percentile 100 (n - r + 1) / n, so the best has 100. tokens: the best
    windows as long as they fit; the window that would cross the budget is left out, and so is all
    below it. Raises ConfigError when no setting covers the domain.
    """
    if (threshold := of_domain(domain, config.threshold)) is not None:
        return Cut(n_scored=n_scored, min_score=threshold)
    if (percentile := of_domain(domain, config.percentile)) is not None:
        low, high = _ranks_below(percentile, n_scored)
        return Cut(n_scored=n_scored, first_rank=n_scored - high + 1, last_rank=n_scored - low)
    if (tokens := of_domain(domain, config.tokens)) is not None:
        return Cut(n_scored=n_scored, max_tokens=tokens)
    if (fraction := of_domain(domain, config.fraction)) is None:
        raise ConfigError(f"select.fraction: no cut for domain {domain!r}; give it a fraction")
    return Cut(n_scored=n_scored, last_rank=max(1, math.floor(fraction * n_scored + 0.5)))


def keep_best(rows: DataFrame, cuts: Mapping[str, Cut]) -> DataFrame:
    """Rows inside their domain's cut, with rank, percentile and tokens_to.

    rank is exact: best `lds` first, ties by window_id, itself a hash. tokens_to counts the tokens
    of the domain's windows down to and including this one.

    No task sorts a large domain: see `_in_buckets`.
    """
    keyed = rows.withColumn("sort_key", F.struct((-F.col("lds")).alias("down"), "window_id"))
    cut_table = _cut_table(rows, cuts)
    bounded = keyed.join(F.broadcast(cut_table), "domain").where("lds >= min_score")
    if any(cut.n_scored > ONE_TASK for cut in cuts.values()):
        return _ranked(_in_buckets(bounded, cut_table)).drop(*_WORKING_COLUMNS)
    whole = dict.fromkeys(("bucket", "rows_before", "tokens_before"), F.lit(0))
    return _ranked(bounded.withColumns(whole)).drop(*_WORKING_COLUMNS)


def select(
    rows: DataFrame, config: SelectConfig, seed: int, scored: Mapping[str, int] | None = None
) -> DataFrame:
    """The windows kept of `candidates` whose ds and du are as configured (see `dependency`).

    `scored` is `sizes(rows)`, where the caller has it.
    """
    counts = sizes(rows) if scored is None else scored
    return keep_best(score_by(rows, config, seed), cuts_of(counts, config))


def cuts_of(scored: Mapping[str, int], config: SelectConfig) -> dict[str, Cut]:
    """The cut of every domain that has windows."""
    return {domain: cut_of(domain, n, config) for domain, n in scored.items()}


def overlaps(main: DataFrame, others: Mapping[str, DataFrame]) -> DataFrame:
    """How much of `main` each other selection has too: (name, domain, windows, common, share).

    windows counts main's windows of the domain; share is common / windows.
    """
    counted = [_overlap(main, other, name) for name, other in others.items()]
    if not counted:
        return main.sparkSession.createDataFrame([], OVERLAP_DDL)
    union = counted[0]
    for more in counted[1:]:
        union = union.unionAll(more)
    return union


def variants(config: SelectConfig) -> dict[str, SelectConfig]:
    """The selections to compare with, by name: baselines, then LDS with other alphas."""
    baselines = {name: _by(config, name) for name in config.compare}
    ablations = {
        f"alpha={alpha:g}": config.model_copy(update={"by": "lds", "alpha": alpha})
        for alpha in config.ablate_alpha
    }
    return baselines | ablations


def fingerprint(rows: DataFrame) -> DataFrame:
    """Row count and a hash of what selections depend on; the order of rows does not matter."""
    columns = [F.col(c) for c, kind in rows.dtypes if kind in _HASHED_TYPES and c != "scored_at"]
    return rows.agg(F.count("*").alias("n"), F.bit_xor(F.xxhash64(*columns)).alias("hash"))


CUT_DDL = (
    "domain string, n_scored bigint, first_rank bigint, last_rank bigint, max_tokens bigint,"
    " min_score double"
)
OVERLAP_DDL = "name string, domain string, windows bigint, common bigint, share double"
_MOMENTS = ("ds_origin", "ds_unit", "du_origin", "du_unit")
_HASHED_TYPES = ("string", "int", "bigint", "float", "double")
_BEFORE = ("domain", "bucket", "rows_before", "tokens_before")
_WORKING_COLUMNS = (
    *("sort_key", "bucket", "rows_before", "tokens_before", "end"),
    *("n_scored", "first_rank", "last_rank", "max_tokens", "min_score"),
)


def _heads(column: str, heads: list[int]) -> Column:
    if not heads:
        return F.col(column)
    return F.array(*(F.element_at(column, head + 1) for head in heads))


def _mean(values: Column) -> Column:
    return F.aggregate(values, F.lit(0.0), lambda total, x: total + x) / F.size(values)


def _span(column: str) -> Column:
    return F.max(column) - F.min(column)


def _reproducible(found: Row) -> list[float]:
    """Moments to 12 digits: partial sums meet in any order, and the last bits say in which.

    A unit of 0 becomes infinite, which makes every standardised value 0.
    """
    ds_origin, ds_unit, du_origin, du_unit = (float(f"{x or 0.0:.12g}") for x in tuple(found)[1:])
    return [ds_origin, ds_unit or math.inf, du_origin, du_unit or math.inf]


def _ranks_below(percentile: list[float], n: int) -> tuple[int, int]:
    """How many of n windows have a percentile of at most each of the two bounds."""
    if len(percentile) != 2 or not 0 <= percentile[0] < percentile[1] <= 100:
        raise ConfigError(f"select.percentile: expected [from, to] within 0 to 100: {percentile}")
    low, high = (math.floor(round(bound * n / 100, 9)) for bound in percentile)
    return low, high


def _by(config: SelectConfig, name: str) -> SelectConfig:
    known = name in ("lds", "random", *SORT_BY)
    how: dict[str, Any] = {"by": name} if known else {"by": "column", "column": name}
    return config.model_copy(update=how)


def _cut_table(rows: DataFrame, cuts: Mapping[str, Cut]) -> DataFrame:
    table = [(domain, *astuple(cut)) for domain, cut in cuts.items()]
    return rows.sparkSession.createDataFrame(table, CUT_DDL)


def _in_buckets(bounded: DataFrame, cut_table: DataFrame) -> DataFrame:
    """The rows of the buckets that the cut reaches, with `bucket` and what lies before it.

    A sample splits each domain into about 128 buckets, and counts per bucket give every bucket its
    first rank. However uneven the sample is, ranks stay exact: splits only decide who sorts what.
    """
    splits = _local(_splits(bounded))
    placed = _placed(bounded.join(F.broadcast(splits), "domain", "left"))
    before = _local(_before(placed).join(cut_table, "domain").where(_reached()))
    ends = F.broadcast(_ends(before, splits))
    near = bounded.join(ends, "domain").where("end is null or sort_key < end")
    counts = F.broadcast(before.select(*_BEFORE))
    return _placed(near).join(counts, ["domain", "bucket"])


def _splits(rows: DataFrame) -> DataFrame:
    """Per domain every 64th sort key of a sample of about 8,192 rows, chosen by hash."""
    share = F.lit(float(PER_SPLIT * (SPLITS + 1))) / F.col("n_scored")
    drawn = F.xxhash64("window_id", F.lit("sample")).bitwiseAND((1 << 53) - 1) / 2.0**53 < share
    every = F.filter("keys", lambda _, i: (i + 1) % PER_SPLIT == 0)
    keys = F.sort_array(F.collect_list("sort_key")).alias("keys")
    return rows.where(drawn).groupBy("domain").agg(keys).select("domain", every.alias("splits"))


def _placed(rows: DataFrame) -> DataFrame:
    """Add `bucket`, how many splits are at or before the sort key, by binary search.

    A projection per step, because Spark compiles those and interprets higher-order functions.
    """
    found = rows.withColumn("bucket", F.lit(0))
    for step in reversed([1 << bit for bit in range(8)]):
        # get() is null past the end, which is no reason to step
        passed = F.get("splits", F.col("bucket") + (step - 1)) <= F.col("sort_key")
        found = found.withColumn("bucket", F.col("bucket") + F.when(passed, step).otherwise(0))
    return found.drop("splits")


def _before(placed: DataFrame) -> DataFrame:
    """Per bucket: its rows and tokens, and those of all better buckets of its domain."""
    counts = placed.groupBy("domain", "bucket").agg(
        F.count("*").alias("bucket_rows"), F.sum("window_tokens").alias("bucket_tokens")
    )
    better = Window.partitionBy("domain").orderBy("bucket")
    return counts.withColumns(
        {
            "rows_before": F.sum("bucket_rows").over(better) - F.col("bucket_rows"),
            "tokens_before": F.sum("bucket_tokens").over(better) - F.col("bucket_tokens"),
        }
    )


def _reached() -> Column:
    """True for buckets that the cut may reach."""
    return (
        (F.col("rows_before") < F.col("last_rank"))
        & (F.col("rows_before") + F.col("bucket_rows") >= F.col("first_rank"))
        & (F.col("tokens_before") <= F.col("max_tokens"))
    )


def _ends(before: DataFrame, splits: DataFrame) -> DataFrame:
    """Per domain its splits and where its last bucket ends; null where that is the very last."""
    last = before.groupBy("domain").agg(F.max("bucket").alias("last"))
    found = last.join(splits, "domain", "left")
    return found.select("domain", "splits", F.get("splits", F.col("last")).alias("end"))


def _local(small: DataFrame) -> DataFrame:
    """The rows, brought to the driver and sent out again, so that no later job repeats the work."""
    return small.sparkSession.createDataFrame(small.collect(), small.schema)


def _ranked(placed: DataFrame) -> DataFrame:
    """The rows inside the cut with rank, tokens_to and percentile; one task sorts one bucket."""
    within = Window.partitionBy("domain", "bucket").orderBy("sort_key")
    running = within.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    n = F.col("n_scored")
    ranked = placed.withColumns(
        {
            "rank": F.col("rows_before") + F.row_number().over(within),
            "tokens_to": F.col("tokens_before") + F.sum("window_tokens").over(running),
        }
    )
    inside = ranked.where("rank between first_rank and last_rank and tokens_to <= max_tokens")
    return inside.withColumn("percentile", 100.0 * (n - F.col("rank") + 1) / n)


def _overlap(main: DataFrame, other: DataFrame, name: str) -> DataFrame:
    both = main.select("domain", "window_id").join(
        other.select("window_id", F.lit(1).alias("found")), "window_id", "left"
    )
    counts = both.groupBy("domain").agg(
        F.count("*").alias("windows"), F.count("found").alias("common")
    )
    share = F.col("common") / F.col("windows")
    return counts.select(F.lit(name).alias("name"), "*", share.alias("share"))
