"""Which windows to keep: DS, DU and LDS from the stored statistics, and exact ranks at any size.

Legend: S1, S2 sums of the far block and of its squares, per head; L tokens of the matrix; k the
minimum distance; N the entries that the variance is taken over.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longattn.etl.config import SelectConfig
from longattn.etl.ranking.filters import best_of_documents, not_refused
from longattn.etl.ranking.lds import score_by
from longattn.etl.ranking.rank import Cut, cuts_of, keep_best, sizes
from longattn.etl.run.frames import multiset_hash


def candidates(scores: DataFrame, windows: DataFrame, *scorers: str) -> DataFrame:
    """The scores to select from: these scorers', of these windows, by the windows' domains.

    Adds doc_id, window_tokens (the window's own tokens, BOS not counted) and doc_tokens (those of
    the whole document).
    """
    cut = windows.select(
        *("window_id", "doc_id", "domain", "doc_tokens"), F.col("n_tokens").alias("window_tokens")
    )
    mine = scores.where(F.col("scorer").isin(*scorers))
    return mine.drop("domain").join(cut, "window_id")


def packed_windows(windows: DataFrame, seed: int) -> DataFrame:
    """Packed windows that are not scored, all kept in a seeded random order.

    They have the columns of `select`'s result; ds, du, lds and percentile are null.
    """
    rows = windows.select("window_id", "domain", F.col("n_tokens").alias("window_tokens"))
    every = select(rows, SelectConfig(by="random", fraction=1.0), seed)
    absent = F.lit(None).cast("double")
    return every.withColumns(dict.fromkeys(("ds", "du", "lds", "percentile"), absent))


def by_cross_gain(windows: DataFrame, config: SelectConfig, seed: int) -> DataFrame:
    """Packed windows (window_id, domain, n_tokens, ds, du) to be ranked, with lds.

    That is ds, their cross gain; a number at random where select ranks by that.
    """
    rows = windows.withColumnRenamed("n_tokens", "window_tokens")
    by = "random" if config.by == "random" else "ds"
    return score_by(rows, SelectConfig(by=by), seed)


def select(rows: DataFrame, config: SelectConfig, seed: int) -> DataFrame:
    """The windows kept of `candidates` whose ds and du are as configured (see `dependency`)."""
    return contending(rows, config, seed, sizes(rows)).best(config)


@dataclass(frozen=True, kw_only=True)
class Contenders:
    """Windows to be ranked, and by domain how many they are, of how many that have a score."""

    rows: DataFrame
    ranked: dict[str, int]
    scored: dict[str, int]

    def cuts(self, config: SelectConfig) -> dict[str, Cut]:
        """The cut of each domain."""
        return cuts_of(self.ranked, config, self.scored)

    def best(self, config: SelectConfig) -> DataFrame:
        """The windows inside the cuts."""
        return keep_best(self.rows, self.cuts(config))


def contending(
    rows: DataFrame, config: SelectConfig, seed: int, scored: Mapping[str, int]
) -> Contenders:
    """The `contenders` of rows of which each domain has as many as `scored` says."""
    left = contenders(rows, config, seed)
    ranked = sizes(left) if narrows(rows, config) else dict(scored)
    return Contenders(rows=left, ranked=ranked, scored=dict(scored))


def contenders(rows: DataFrame, config: SelectConfig, seed: int) -> DataFrame:
    """What is ranked, with lds: windows that no filter keeps out, so many of each document.

    lds is standardised over all rows.
    """
    return best_of_documents(not_refused(score_by(rows, config, seed)), config.per_document)


def score() -> Column:
    """The score of rows of `selections`; tables of older versions have it as `lds` alone."""
    return F.coalesce("score", "lds")


def refusals(rows: DataFrame) -> dict[str, int]:
    """How many rows filters keep out, by reason."""
    if "refused" not in rows.columns:
        return {}
    counts = rows.where(F.col("refused").isNotNull()).groupBy("refused").count().collect()
    return {row["refused"]: row["count"] for row in sorted(counts)}


def narrows(rows: DataFrame, config: SelectConfig) -> bool:
    """Whether windows may be kept out before they are ranked."""
    return bool(config.per_document) or "refused" in rows.columns


def fingerprint(rows: DataFrame) -> DataFrame:
    """Row count and a hash of what selections depend on; the order of rows does not matter."""
    columns = [c for c, kind in rows.dtypes if kind in _HASHED_TYPES and c != "scored_at"]
    return rows.agg(F.count("*").alias("n"), multiset_hash(*columns).alias("hash"))


_HASHED_TYPES = ("string", "int", "bigint", "float", "double")
