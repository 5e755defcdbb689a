"""How the selected windows of the domains make one training mix, and in which order."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longattn.etl.config import Config, MixConfig
from longattn.etl.ranking import strata
from longattn.udfs.errors import ConfigError

Weights = dict[str, Fraction]


@dataclass(frozen=True, kw_only=True)
class Supply:
    """What was selected of a domain."""

    windows: int
    tokens: int
    tokens_above: int = 0  # tokens_to of the window just above the first selected one
    last_rank: int = 0  # of the windows selected


@dataclass(frozen=True, kw_only=True)
class Share:
    """A domain's part of the mix, or a stratum's, in tokens."""

    domain: str
    supply: Supply
    planned: int
    rounds: int  # times every selected window is taken
    extra: int  # tokens that the best windows are taken for once more


def supplies(selected: DataFrame) -> dict[str, Supply]:
    """Windows and tokens selected per domain."""
    rows = (
        selected.groupBy("domain")
        .agg(
            F.count("*").alias("windows"),
            F.sum("window_tokens").alias("tokens"),
            F.min(F.col("tokens_to") - F.col("window_tokens")).alias("tokens_above"),
            F.max("rank").alias("last_rank"),
        )
        .collect()
    )
    names = ("windows", "tokens", "tokens_above", "last_rank")
    return {row["domain"]: Supply(**{n: row[n] for n in names}) for row in sorted(rows)}


def plan(
    supply: Mapping[str, Supply], config: MixConfig, within: Mapping[str, Weights] | None = None
) -> list[Share]:
    """Tokens planned per domain and how often its windows are taken.

    Weights need not sum to 1; without them domains are mixed as selected. Without a total the mix
    is as large as keeps the weights with what there is (max_copies of it under `repeat`). Of
    domains in strata `supply` is by stratum, and so are the shares; see `strata_of`. Raises
    ConfigError when one is short and mix.short is `error`.
    """
    alone = {d: {d: Fraction(1)} for d in (*supply, *config.weights)}
    weights = _weights(supply, config, within or alone)
    empty = Supply(windows=0, tokens=0)
    copies = config.max_copies if config.short == "repeat" else 1
    total = config.tokens or _largest_total(weights, supply, copies)
    whole = sum(weights.values()) or 1
    every = dict.fromkeys(supply, Fraction(0)) | weights
    return [
        _share(domain, supply.get(domain, empty), round(total * every[domain] / whole), config)
        for domain in dict.fromkeys([*weights, *supply])
    ]


def planned(kept: DataFrame, config: Config) -> list[Share]:
    """`plan` for the selected windows of all strata, or of their parts (`strata.apart`)."""
    supply = supplies(kept)
    return plan(supply, config.mix, strata_of(supply, config))


def strata_of(supply: Mapping[str, Supply], config: Config) -> dict[str, Weights]:
    """The strata of each domain, or their parts, and the share of its tokens of each in the mix.

    Strata have the shares of mix.buckets, which a bucket keeps that has nothing, else as selected,
    and parts as selected; there long documents count as often as mix.upsample_long says.
    """
    parts: dict[str, dict[str, Weights]] = defaultdict(lambda: defaultdict(dict))
    for part, there in supply.items():
        stratum, factor = strata.part_of(part, config)
        parts[strata.domain_of(stratum, config)][stratum][part] = factor * there.tokens
    domains = dict.fromkeys([*parts, *config.mix.weights])  # one that is asked for may have nothing
    return {domain: dict(_shares(domain, parts[domain], config)) for domain in domains}


def _shares(
    domain: str, parts: Mapping[str, Weights], config: Config
) -> Iterator[tuple[str, Fraction]]:
    """The share of every part of a domain, whose parts are given by stratum."""
    weights = {stratum: sum(own.values(), Fraction(0)) for stratum, own in parts.items()}
    weights = weights or {domain: Fraction(1)}
    if config.mix.buckets and domain not in config.pack.domains:
        shares = config.mix.buckets.items()
        weights = {f"{domain}/{b}": Fraction(repr(share)) for b, share in shares}
    for stratum, share in _normalised(weights).items():
        own = _normalised(parts.get(stratum) or {strata.first_part(stratum, config): Fraction(1)})
        yield from ((part, share * of_stratum) for part, of_stratum in own.items())


def mix(selected: DataFrame, shares: list[Share], seed: int) -> DataFrame:
    """Add copies and mix_order, a seeded hash; drops tokens_to.

    The best windows of a domain go first, as long as they fit: the window that would cross the
    planned tokens is left out. Copy c of a window stands at `copy_order` in the shuffle.
    """
    rows = [(s.domain, s.supply.tokens_above, s.rounds, s.extra) for s in shares]
    ddl = "domain string, tokens_above bigint, rounds int, extra bigint"
    table = F.broadcast(selected.sparkSession.createDataFrame(rows, ddl))
    fits = F.col("tokens_to") - F.col("tokens_above") <= F.col("extra")
    return (
        selected.join(table, "domain")
        .withColumn("copies", F.col("rounds") + F.when(fits, 1).otherwise(0))
        .withColumn("mix_order", F.xxhash64(F.lit(seed), F.lit("mix"), "window_id"))
        .drop("tokens_above", "rounds", "extra", "tokens_to")
    )


def copy_order(mix_order: Column, copy: Column) -> Column:
    """Shuffle key of a window's copy (1, 2, ...): mix_order for the first, a hash of it after."""
    return F.when(copy == 1, mix_order).otherwise(F.xxhash64(mix_order, copy))


def _weights(
    supply: Mapping[str, Supply], config: MixConfig, within: Mapping[str, Weights]
) -> Weights:
    """The weight of every part: its domain's, as given or as selected, by its share of it."""
    # as they are written, so that a domain that limits the mix is planned to its last token
    given = {d: Fraction(repr(w)) for d, w in config.weights.items()}
    weights = given or {d: _largest_total(w, supply, 1) for d, w in within.items()}
    return {
        part: weight * share
        for domain, weight in weights.items()
        for part, share in within[domain].items()
    }


def _normalised(weights: Weights) -> Weights:
    """The weights as shares that sum to 1."""
    whole = sum(weights.values()) or Fraction(1)
    return {name: weight / whole for name, weight in weights.items()}


def _largest_total(
    weights: Mapping[str, Fraction], supply: Mapping[str, Supply], copies: int
) -> Fraction:
    """The most tokens whose weights all domains can meet; domains with nothing do not count."""
    whole = sum(weights.values())
    reach = [
        supply[domain].tokens * copies * whole / weight
        for domain, weight in weights.items()
        if weight and domain in supply
    ]
    return min(reach, default=Fraction(0))


def _share(domain: str, supply: Supply, planned: int, config: MixConfig) -> Share:
    if planned > supply.tokens and config.short == "error":
        raise ConfigError(
            f"mix: {domain} has {supply.tokens:,} tokens selected and the mix asks for {planned:,};"
            " select more of it, lower mix.tokens, or set mix.short to shortfall or repeat"
        )
    copies = config.max_copies if config.short == "repeat" else 1
    rounds = min(planned // supply.tokens, copies) if supply.tokens else 0
    extra = planned - rounds * supply.tokens if rounds < copies else 0
    return Share(domain=domain, supply=supply, planned=planned, rounds=rounds, extra=extra)
