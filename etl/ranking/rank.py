"""Exact ranks and cuts within each domain, at any size."""

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from decimal import ROUND_HALF_UP, Decimal

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from longattn.etl.config import SelectConfig, of_domain
from longattn.udfs.errors import ConfigError

PER_SPLIT = 64  # sampled rows between two splits; more make the buckets more even
SPLITS = 127  # per domain: a task sorts about 1/128 of one
ONE_TASK = 50_000  # rows of a domain that one task sorts sooner than a sample is drawn
UNBOUNDED = (1 << 63) - 1


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Where one domain of n_scored windows is cut; all bounds hold at once, ends included."""

    n_scored: int
    first_rank: int = 1
    last_rank: int = UNBOUNDED
    max_tokens: int = UNBOUNDED  # of all windows down to the cut
    min_score: float = -math.inf

    def inside(self, last_reached: int) -> int:
        """How many windows it keeps, where the last of them has this rank.

        A cut by rank alone says it itself.
        """
        by_rank = self.max_tokens == UNBOUNDED and self.min_score == -math.inf
        last = min(self.last_rank, self.n_scored) if by_rank else last_reached
        return last - self.first_rank + 1


def sizes(rows: DataFrame) -> dict[str, int]:
    """Windows per domain."""
    counts = rows.groupBy("domain").agg(F.count("*").alias("n")).collect()
    return {row["domain"]: row["n"] for row in sorted(counts)}


def distinct_sizes(rows: DataFrame) -> tuple[dict[str, int], int]:
    """`sizes`, and how many distinct windows there are."""
    columns = (F.count("*").alias("n"), F.count_distinct("window_id").alias("ids"))
    counts = sorted(rows.groupBy("domain").agg(*columns).collect())
    return {row["domain"]: row["n"] for row in counts}, sum(row["ids"] for row in counts)


def cut_of(domain: str, n_scored: int, config: SelectConfig, total: int | None = None) -> Cut:
    """The cut that the settings make in a domain: threshold, percentile, tokens, else fraction.

    n_scored windows stand in its ranking, of `total` that might (None: as many). fraction: of the
    total, rounded half up, one window at least. percentile [from, to]: from < percentile <= to,
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
    whole = n_scored if total is None else total
    return Cut(n_scored=n_scored, last_rank=max(1, _rounded_share(fraction, whole)))


def _rounded_share(fraction: float, whole: int) -> int:
    """Half up, of the fraction as it is written: in binary 0.29 of 50 is a little below 14.5.

    >>> _rounded_share(0.29, 50), _rounded_share(0.125, 20)
    (15, 3)
    """
    share = Decimal(repr(fraction)) * whole
    return int(share.to_integral_value(ROUND_HALF_UP))


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


def cuts_of(
    scored: Mapping[str, int], config: SelectConfig, totals: Mapping[str, int] | None = None
) -> dict[str, Cut]:
    """The cut of every domain that has windows in its ranking; sizes and totals as in cut_of."""
    total_of = scored if totals is None else totals
    return {domain: cut_of(domain, n, config, total_of[domain]) for domain, n in scored.items()}


CUT_DDL = (
    "domain string, n_scored bigint, first_rank bigint, last_rank bigint, max_tokens bigint,"
    " min_score double"
)
_BEFORE = ("domain", "bucket", "rows_before", "tokens_before")
_WORKING_COLUMNS = (
    *("sort_key", "bucket", "rows_before", "tokens_before", "end"),
    *("n_scored", "first_rank", "last_rank", "max_tokens", "min_score"),
)


def _ranks_below(percentile: list[float], n: int) -> tuple[int, int]:
    """How many of n windows have a percentile of at most each of the two bounds."""
    low, high = (math.floor(round(bound * n / 100, 9)) for bound in percentile)
    return low, high


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
    placed = rows.withColumn("bucket", F.lit(0))
    for step in reversed([1 << bit for bit in range(8)]):
        # get() is null past the end, which is no reason to step
        passed = F.get("splits", F.col("bucket") + (step - 1)) <= F.col("sort_key")
        placed = placed.withColumn("bucket", F.col("bucket") + F.when(passed, step).otherwise(0))
    return placed.drop("splits")


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
    joined = last.join(splits, "domain", "left")
    return joined.select("domain", "splits", F.get("splits", F.col("last")).alias("end"))


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
