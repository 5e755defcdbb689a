"""What is ranked, cut and mixed together: the windows of a domain, or those of it of one length.

Scores of unlike lengths do not compare. Where a config has windows of several, those of a domain
that belong to one of `Config.bounds` are a stratum, `book/8192`, and what is packed is another,
`wiki/packed`; ranking and mix take strata for domains. Elsewhere a domain is its only stratum.

Where long documents are to be in the mix more often, a stratum has a part for these and one for the
others, `book/8192 from 32768` and `book/8192 from 0`, which the mix plans one by one.
"""

from fractions import Fraction

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longattn.etl.config import Config, SelectConfig
from longattn.etl.ranking import rank

PACKED, FROM = "packed", " from "


def by_length(windows: DataFrame, config: Config) -> DataFrame:
    """Windows of one document (domain, n_tokens), with the name of their stratum as the domain."""
    return _named(windows, bound(config), config)


def as_packed(windows: DataFrame, config: Config) -> DataFrame:
    """The same of windows that are packed of several documents, whatever their length."""
    return _named(windows, F.lit(PACKED), config)


def of_selection(rows: DataFrame, config: Config) -> DataFrame:
    """The same of rows of `selections`, cut or packed."""
    name = F.when(F.col("domain").isin(*config.pack.domains), PACKED).otherwise(bound(config))
    return _named(rows, name, config)


def as_domains(rows: DataFrame, config: Config) -> DataFrame:
    """Rows of strata, or of their parts, with the domain itself as the domain again."""
    after = {f"{FROM}[0-9]+$": config.mix.upsample_long, "/[^/]*$": config.bounds}
    for pattern, used in after.items():
        if used:
            rows = rows.withColumn("domain", F.regexp_replace("domain", pattern, ""))
    return rows


def apart(kept: DataFrame, config: Config) -> DataFrame:
    """Selected windows with the name of their part as the domain, and tokens_to within the part."""
    least = sorted(config.mix.upsample_long, reverse=True)
    if not least:
        return kept
    doc_tokens = F.col("doc_tokens")  # null of windows packed of several
    first = F.coalesce(*(F.when(doc_tokens >= n, str(n)) for n in least), F.lit("0"))
    named = kept.withColumn("domain", F.concat_ws(FROM, "domain", first)).drop("tokens_to")
    in_order = named.select("window_id", "domain", "window_tokens", (-F.col("rank")).alias("lds"))
    cuts = {part: rank.Cut(n_scored=n) for part, n in rank.sizes(in_order).items()}
    return named.join(rank.keep_best(in_order, cuts).select("window_id", "tokens_to"), "window_id")


def part_of(part: str, config: Config) -> tuple[str, Fraction]:
    """The stratum of a part, and how often its documents count: once where they are not long."""
    if not config.mix.upsample_long:
        return part, Fraction(1)
    stratum, _, least = part.rpartition(FROM)
    return stratum, Fraction(repr(config.mix.upsample_long.get(int(least), 1.0)))


def first_part(stratum: str, config: Config) -> str:
    """The part of a stratum that is not of long documents; the stratum where there are no parts."""
    return f"{stratum}{FROM}0" if config.mix.upsample_long else stratum


def bound(config: Config) -> Column:
    """The one of Config.bounds that a window of n_tokens belongs to, as text; null of none."""
    length = F.col("n_tokens") + int(config.window.bos)
    return F.coalesce(F.lit(None), *(F.when(length <= b, str(b)) for b in config.bounds))


def domain_of(stratum: str, config: Config) -> str:
    """The domain of a stratum."""
    return stratum.rpartition("/")[0] if config.bounds else stratum


def settings(config: Config) -> SelectConfig:
    """`select`, where what is set by domain is set for each of its strata."""
    select = config.select
    each = {name: getattr(select, name) for name in ("fraction", "percentile", "threshold")}
    by_domain = {name: value for name, value in each.items() if isinstance(value, dict)}
    if not (config.bounds and by_domain):
        return select
    names = (*config.bounds, PACKED)
    return select.model_copy(
        update={
            name: {f"{d}/{n}": setting for d, setting in value.items() for n in names}
            for name, value in by_domain.items()
        }
    )


def _named(rows: DataFrame, name: Column, config: Config) -> DataFrame:
    return rows.withColumn("domain", F.concat_ws("/", "domain", name)) if config.bounds else rows
