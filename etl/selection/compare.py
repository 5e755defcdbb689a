"""How much of a selection other choices would have kept too: all of them ranked in one pass.

A plan for each of ten choices is work for the driver however few windows there are, and reads the
windows ten times over.
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longattn.etl.config import RANKINGS, SelectConfig
from longattn.etl.ranking.contenders import narrows
from longattn.etl.ranking.filters import best_of_documents, not_refused
from longattn.etl.ranking.lds import SORT_BY, moments, score_by
from longattn.etl.ranking.rank import Cut, cut_of, keep_best, sizes
from longattn.udfs.scorers.identity import ScorerId
from longattn.udfs.scorers.registry import known_scorers

SHARES_DDL = "name string, domain string, windows bigint, common bigint, share double"


@dataclass(frozen=True)
class Rankings:
    """Windows as several choices rank them: rows of (name, of_domain, domain, window_id,
    window_tokens, lds), where `domain` names one choice's ranking of one domain, and its cut.
    """

    names: tuple[str, ...]
    rows: DataFrame
    cuts: dict[str, Cut]


def variants(config: SelectConfig) -> dict[str, SelectConfig]:
    """The selections to compare with, by name: baselines, then an LDS with other alphas.

    Scorers are none of them: all that have scores are compared with, named or not.
    """
    baselines = {name: _by(config, name) for name in config.compare if not names_scorer(name)}
    alphas = config.ablate_alpha if config.by == "lds" else []
    ablations = {f"alpha={a:g}": config.model_copy(update={"alpha": a}) for a in alphas}
    return baselines | ablations


def comparable(
    config: SelectConfig, kept: Mapping[str, int], scored: Mapping[str, int]
) -> SelectConfig:
    """A threshold belongs to one score: by others as many windows count as it has kept.

    `kept` and `scored` are windows by domain.
    """
    if config.threshold is None:
        return config
    fraction = {domain: kept.get(domain, 0) / n for domain, n in scored.items()}
    cut = {"threshold": None, "percentile": None, "tokens": None, "fraction": fraction}
    return config.model_copy(update=cut)


def by_settings(
    rows: DataFrame,
    others: Mapping[str, SelectConfig],
    seed: int,
    scored: Mapping[str, int] | None = None,
) -> Rankings:
    """The rows of `select` as other settings rank them; they differ in what they rank by.

    `scored` is `sizes(rows)`, where the caller has it.
    """
    counts = sizes(rows) if scored is None else scored
    config = next(iter(others.values()))
    left = best_of_documents(not_refused(_scored_by_each(rows, others, seed)), config.per_document)
    every = {_ranking(name, domain): n for name in others for domain, n in counts.items()}
    ranked = sizes(left) if narrows(rows, config) else every
    cuts = {
        ranking: cut_of(domain, ranked[ranking], settings, n)
        for name, settings in others.items()
        for domain, n in counts.items()
        if (ranking := _ranking(name, domain)) in ranked
    }
    return Rankings(tuple(others), left.select(*_COLUMNS), cuts)


def by_scores(
    scores: Mapping[str, DataFrame], config: SelectConfig, domains: Collection[str]
) -> Rankings:
    """Windows (window_id, domain, window_tokens, lds) as other scorers rank them, by name.

    Of these domains: of others nothing is selected.
    """
    rows = functools.reduce(
        DataFrame.unionAll,
        (_named(frame, [(name, F.col("lds"))]).select(*_COLUMNS) for name, frame in scores.items()),
    )
    counts = rows.groupBy("name", "of_domain", "domain").agg(F.count("*").alias("n")).collect()
    cuts = {
        row["domain"]: cut_of(row["of_domain"], row["n"], config)
        for row in counts
        if row["of_domain"] in domains
    }
    return Rankings(tuple(sorted({row["name"] for row in counts})), rows, cuts)


def shares(main: DataFrame, rankings: Sequence[Rankings]) -> DataFrame:
    """How much of `main` each other choice has too: (name, domain, windows, common, share).

    windows counts main's windows of the domain; share is common / windows.
    """
    spark, names = main.sparkSession, [(name,) for ranked in rankings for name in ranked.names]
    if not names:
        return spark.createDataFrame([], SHARES_DDL)
    rows = functools.reduce(DataFrame.unionAll, (ranked.rows for ranked in rankings))
    cuts = {domain: cut for ranked in rankings for domain, cut in ranked.cuts.items()}
    both = keep_best(rows, cuts).join(main.select("window_id"), "window_id", "left_semi")
    of_domain = F.col("of_domain").alias("domain")
    common = both.groupBy("name", of_domain).agg(F.count("*").alias("common"))
    windows = main.groupBy("domain").agg(F.count("*").alias("windows"))
    every = windows.crossJoin(F.broadcast(spark.createDataFrame(names, "name string")))
    counts = every.join(F.broadcast(common), ["name", "domain"], "left").fillna(0, ["common"])
    share = (F.col("common") / F.col("windows")).alias("share")
    return counts.select("name", "domain", "windows", "common", share)


_COLUMNS = ("name", "of_domain", "domain", "window_id", "window_tokens", "lds")


def names_scorer(name: str) -> bool:
    """Whether select.compare names a scorer, and no ranking that is called so too."""
    return name not in RANKINGS and ScorerId.of(name).name in known_scorers()


def _by(config: SelectConfig, name: str) -> SelectConfig:
    known = name in ("lds", "random", *SORT_BY)
    how: dict[str, Any] = {"by": name} if known else {"by": "column", "column": name}
    return config.model_copy(update=how)


def _scored_by_each(rows: DataFrame, others: Mapping[str, SelectConfig], seed: int) -> DataFrame:
    """A row per window and choice, with the choice's name and ranking, and its lds."""
    by_method: dict[str, DataFrame] = {}  # moments, which alpha does not change
    scored = rows
    for place, settings in enumerate(others.values()):
        if settings.by == "lds" and settings.normalize not in by_method:
            by_method[settings.normalize] = moments(rows, settings)
        known = by_method.get(settings.normalize)
        scored = score_by(scored, settings, seed, known).withColumnRenamed("lds", f"lds_{place}")
    return _named(scored, [(name, F.col(f"lds_{i}")) for i, name in enumerate(others)])


def _named(rows: DataFrame, choices: Sequence[tuple[str, Column]]) -> DataFrame:
    """A row per window and (name, lds) of the choices; `domain` becomes the ranking's."""
    each = [
        F.struct(
            F.lit(name).alias("name"),
            F.concat(F.lit(_ranking(name, "")), "domain").alias("ranking"),
            lds.alias("lds"),
        )
        for name, lds in choices
    ]
    carried = [c for c in ("window_id", "window_tokens", "doc_id", "refused") if c in rows.columns]
    kept = rows.select(*carried, F.col("domain").alias("of_domain"), F.inline(F.array(*each)))
    return kept.withColumnRenamed("ranking", "domain")


def _ranking(name: str, domain: str) -> str:
    """A string for a choice and a domain and no others: the name's length says where it ends."""
    return f"{len(name)}:{name}{domain}"
