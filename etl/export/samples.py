"""The samples of a selection: every copy of every window, in the order of the mix, by shard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longattn.etl.ranking.contenders import score
from longattn.etl.selection.mix import copy_order

if TYPE_CHECKING:
    import pandas as pd

# What every format needs of a sample: to number it, to say where documents lie in it, and why it
# was selected.
NEEDED = (
    *("window_id", "domain", "doc_id", "start_token", "n_tokens", "segments"),
    *("score", "scorer", "percentile"),
)
ORDERS = 2.0**64  # how many shuffle keys there are


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a selection falls into shards; sample numbers count through them in mix order."""

    shards: dict[str | None, range]  # of each domain, or of all; some may get no sample
    first_sample: dict[int, int]  # of each shard that has samples
    samples: int
    tokens: int
    longest: int  # tokens of the longest sample
    domains: dict[str, dict[str, int]]  # samples and tokens of each
    lengths: dict[str, dict[str, int]]  # the same by what `length` names; empty where it is None

    @property
    def n_shards(self) -> int:
        return sum(map(len, self.shards.values()))

    def domain_of(self, shard: int) -> str | None:
        """The one domain whose samples a shard has; None where domains are not apart."""
        return next(domain for domain, shards in self.shards.items() if shard in shards)


def copies(selection: DataFrame) -> DataFrame:
    """A row per copy that the mix takes: adds `copy` (1, 2, ...) and `order`, its shuffle key."""
    taken = selection.where("copies > 0")
    each = taken.withColumn("copy", F.explode(F.sequence(F.lit(1), F.col("copies"))))
    return each.withColumn("order", copy_order(F.col("mix_order"), F.col("copy")))


def count(selection: DataFrame) -> int:
    """Samples of a selection, copies counted."""
    row = selection.agg(F.sum("copies")).first()
    return int((row and row[0]) or 0)


def plan(
    selection: DataFrame,
    shard_tokens: int,
    by_domain: bool = False,
    length: Column | None = None,
) -> Plan:
    """Divide a selection, or each of its domains, into shards of about shard_tokens tokens.

    Shards are equal ranges of the shuffle key, a hash, so they are about equal and no sort of the
    whole is needed to know which samples a shard holds.
    """
    shards = _shards(selection, shard_tokens, by_domain)
    named = F.lit(None).cast("string") if length is None else length
    keys = (shard_of(shards).alias("shard"), "domain", named.alias("length"))
    counted = copies(selection).groupBy(*keys)
    rows = counted.agg(
        F.count("*").alias("samples"),
        F.sum("n_tokens").alias("tokens"),
        F.max("n_tokens").alias("longest"),
    ).toPandas()
    in_shards = rows.groupby("shard")["samples"].sum()  # sorted by shard
    starts = (in_shards.cumsum() - in_shards).tolist()
    return Plan(
        shards=shards,
        first_sample=dict(zip(in_shards.index.tolist(), starts, strict=True)),
        samples=int(in_shards.sum()),
        tokens=int(rows["tokens"].sum()),
        longest=int(rows["longest"].max()) if len(rows) else 0,
        domains=_sums(rows, "domain"),
        lengths=dict(sorted(_sums(rows, "length").items(), key=lambda item: int(item[0]))),
    )


def _sums(rows: "pd.DataFrame", key: str) -> dict[str, dict[str, int]]:
    """Samples and tokens by a column."""
    return {
        str(name): {"samples": int(row["samples"]), "tokens": int(row["tokens"])}
        for name, row in rows.groupby(key)[["samples", "tokens"]].sum().iterrows()
    }


def _shards(selection: DataFrame, shard_tokens: int, by_domain: bool) -> dict[str | None, range]:
    """The numbers of the shards of each domain, in the order of names; of None, of all domains."""
    sums = selection.where("copies > 0").groupBy("domain")
    of_windows = F.col("copies") * F.col("n_tokens").cast("bigint")
    rows = sums.agg(F.sum(of_windows).alias("tokens")).collect()
    tokens: dict[str | None, int] = {row["domain"]: row["tokens"] for row in rows}
    if not by_domain or not tokens:
        tokens = {None: sum(tokens.values())}
    domains = sorted(tokens, key=str)
    ends = accumulate((max(1, -(-tokens[d] // shard_tokens)) for d in domains), initial=0)
    return {d: range(*bounds) for d, bounds in zip(domains, pairwise(ends), strict=True)}


def samples(
    selection: DataFrame,
    windows: DataFrame,
    documents: DataFrame,
    *,
    columns: Sequence[str],
    scorer: str,
    packed_scorer: str | None = None,
    plan: Plan,
) -> DataFrame:
    """The mix with `shard`, `order`, what is needed of every sample and the columns asked for, each
    shard sorted in one task.

    text is documents.text[start_char:end_char] in code points, null for a packed window, and so are
    score and scorer where packed windows have none. Rows of `selections` say what gave their score;
    those of older versions do not, and have it of `scorer`. Columns not asked for are not read.
    """
    mix = copies(selection).join(windows.drop("domain", "n_tokens"), "window_id")
    # texts of documents that no sample is of never meet the shuffle of the join
    sources = documents.select("doc_id", "source", "text").join(
        mix.select("doc_id").distinct(), "doc_id", "left_semi"
    )
    length = F.col("end_char") - F.col("start_char")
    by = F.when(F.col("segments").isNull(), F.lit(scorer)).otherwise(packed_scorer or scorer)
    derived = {
        "shard": shard_of(plan.shards),
        "score": score(),
        "lds": score(),
        "scorer": F.when(score().isNotNull(), F.coalesce("scorer", by)),
        "text": F.substring("text", (F.col("start_char") + 1).cast("int"), length.cast("int")),
    }
    rows = (
        mix.join(sources, "doc_id", "left")
        .withColumns(derived)
        .select("shard", "order", *dict.fromkeys((*NEEDED, *columns)))
    )
    return rows.repartition(plan.n_shards, "shard").sortWithinPartitions("shard", "order")


def bounds(selection: DataFrame, windows: DataFrame) -> DataFrame:
    """Every copy of every window, in any order: no more than says where documents lie in it."""
    mix = copies(selection).join(windows.drop("domain", "n_tokens"), "window_id")
    return mix.select("window_id", "doc_id", "start_token", "n_tokens", "segments")


def shard_of(shards: Mapping[str | None, range]) -> Column:
    """The shard of a sample: its `order`, as a share of all orders, among those of its domain."""
    share = F.col("order").cast("double") / ORDERS + 0.5

    def among(numbers: range) -> Column:
        # the largest orders round to 1.0
        within = F.least(F.floor(share * len(numbers)), F.lit(len(numbers) - 1))
        return (within + numbers.start).cast("int")

    if None in shards:
        return among(shards[None])
    mine = (F.when(F.col("domain") == F.lit(d), among(numbers)) for d, numbers in shards.items())
    return F.coalesce(*mine)
