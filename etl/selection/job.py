"""Job select: the best windows of each domain, mixed, as one selection; no model is needed."""

from collections import Counter
from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from longattn.etl.config import Config
from longattn.etl.ranking import contenders as stage
from longattn.etl.ranking import rank, strata
from longattn.etl.ranking.candidates import (
    arrivals,
    cached,
    considered,
    contending,
    near_cut,
    ranked_by_each,
    with_packed,
)
from longattn.etl.ranking.scorers import labelled, refuse_refused, scored_versions, version_of
from longattn.etl.run.context import Context, Outcome, Selected
from longattn.etl.run.figures import DomainFigures, Figures
from longattn.etl.run.frames import in_columns_of, refuse_repeated
from longattn.etl.run.recipe import Recipe
from longattn.etl.selection import compare
from longattn.etl.selection import mix as mixing
from longattn.etl.selection.current import selection_name, settings_of
from longattn.etl.tables.schema import SELECTIONS
from longattn.udfs.errors import NothingLeft
from longattn.udfs.scorers.identity import ScorerId
from longattn.udfs.scorers.registry import known_scorers


def run(context: Context) -> Outcome:
    """Write one selection; rows are windows scored by the config's scorer, and packed ones."""
    with cached(considered(context)) as rows:
        scored, distinct = rank.distinct_sizes(rows)
        refuse_repeated(sum(scored.values()), distinct, "scores with their windows and lengths")
        return _select(context, rows, scored)


def _select(context: Context, rows: DataFrame, scored: dict[str, int]) -> Outcome:
    """Choose among `rows`, of which each domain has as many as `scored` says, and write it down."""
    config = context.config
    _refuse_unscored(context)
    name = selection_name(context, rows)
    if near := near_cut(config, rows):
        context.progress.say(
            f"select: {len(near):,} windows are too near the cut for sampled scores to place them;"
            " `longattn score` scores them exactly"
        )
    select = strata.settings(config)
    left = contending(context, rows, scored, select)
    cuts, best = left.cuts(select), with_packed(context, left.best(select))
    with cached(strata.apart(best, config)) as kept:
        shares = mixing.planned(kept, config)
        mixed = _as_table(mixing.mix(kept, shares, config.seed), name, context.recipe)
        selected, planned = _by_stratum(shares, config)
        _refuse_all_below(left.rows, left.scored, selected)
        _refuse_nothing(context, left.scored, shares, mixed)
        commit = context.tables.replace_where("selections", mixed, {"selection": name})
    written = context.tables["selections"].read().where(F.col("selection") == name)
    selection = strata.of_selection(written, config)
    of_one = written.where(~F.col("domain").isin(*config.pack.domains))
    n_kept = {domain: of.windows for domain, of in selected.items()}
    overlaps = _overlaps(context, rows, scored, n_kept, strata.of_selection(of_one, config))
    nothing = mixing.Supply(windows=0, tokens=0)
    last_ranks = {domain: selected.get(domain, nothing).last_rank for domain in cuts}
    inside = sum(cut.inside(last_ranks[domain]) for domain, cut in cuts.items())
    arrived, contaminated = arrivals(context, sum(scored.values()))
    refused = {
        **({"contaminated": contaminated} if contaminated else {}),
        **_not_ranked(rows, sum(left.scored.values()) - sum(left.ranked.values())),
        "below_cut": sum(left.ranked.values()) - inside,
    }
    made = {row["domain"]: row for row in _made(selection).collect()}
    in_mix = sum(row["mixed"] for row in made.values())
    return Outcome(
        rows_in=arrived,
        rows_out=in_mix,
        refused=refused | {"no_room_in_mix": commit.rows - in_mix},
        metrics={"tokens": sum(row["tokens"] for row in made.values())},
        figures=Figures(domains=_by_domain(left.scored, planned, made), overlaps=overlaps),
        selected=Selected(id=name, settings=settings_of(context)),
    )


def _refuse_unscored(context: Context) -> None:
    """Raise TableError, before anything is written, if a scorer to compare with has no scores."""
    named = [name for name in context.config.select.compare if compare.names_scorer(name)]
    versions = scored_versions(context) if named else []
    for name in named:
        version_of(context, name, versions, "select.compare")


def _by_stratum(
    shares: list[mixing.Share], config: Config
) -> tuple[dict[str, mixing.Supply], dict[str, int]]:
    """What was selected of each domain, or stratum, and its tokens planned: sums of its parts."""
    selected: dict[str, mixing.Supply] = {}
    planned: Counter[str] = Counter()
    for share in shares:
        stratum, of = strata.part_of(share.domain, config)[0], share.supply
        known = selected.get(stratum, mixing.Supply(windows=0, tokens=0))
        selected[stratum] = mixing.Supply(
            windows=known.windows + of.windows,
            tokens=known.tokens + of.tokens,
            last_rank=max(known.last_rank, of.last_rank),
        )
        planned[stratum] += share.planned
    return selected, dict(planned)


def _refuse_all_below(
    left: DataFrame, scored: dict[str, int], selected: Mapping[str, mixing.Supply]
) -> None:
    """Raise NothingLeft where windows have scores, and filters or the cut keep none of them."""
    if not scored or any(of.windows for domain, of in selected.items() if domain in scored):
        return
    best = left.groupBy("domain").agg(F.max("lds").alias("best")).orderBy("domain").collect()
    count = f"{sum(scored.values()):,} scored windows"
    if not best:
        raise NothingLeft(f"select: select.where leaves none of {count}")
    highest = ", ".join(f"{row['domain']} {row['best']:.4g}" for row in best)
    raise NothingLeft(
        f"select: the cut keeps none of {count}; the highest scores are {highest}: lower"
        " select.threshold, or let select.tokens hold one window"
    )


def _refuse_nothing(
    context: Context, scored: dict[str, int], shares: list[mixing.Share], mixed: DataFrame
) -> None:
    """Raise NothingLeft, before anything is written, for a selection without a window."""
    if not any(share.supply.windows for share in shares):
        recipe = context.recipe
        if recipe.scorer.version not in scored_versions(context):
            refuse_refused(context, recipe.scorer.version, "select")
        by = ", ".join(recipe.config.select.by_scorers) or recipe.scoring
        raise NothingLeft(
            f"select: no scores by {by} of windows {recipe.windowing}:"
            " run `longattn score` with this config"
        )
    if mixed.where("copies > 0").isEmpty():
        there = ", ".join(f"{s.domain} {s.supply.tokens:,} of {s.planned:,}" for s in shares)
        raise NothingLeft(
            f"select: no window fits into the mix; tokens selected of those planned: {there}"
            f" ({sum(scored.values()):,} windows scored): look at mix and select"
        )


def _not_ranked(rows: DataFrame, count: int) -> dict[str, int]:
    """Windows that are not ranked, `count` in all, by reason: filters, then per_document."""
    if not count:
        return {}
    by_reason = stage.refusals(rows)
    return {**by_reason, "per_document": count - sum(by_reason.values())}


def _as_table(mixed: DataFrame, name: str, recipe: Recipe) -> DataFrame:
    """The mix as rows of `selections`."""
    rows = strata.as_domains(mixed, recipe.config)
    packed = F.col("domain").isin(*recipe.config.pack.domains)
    ranker = F.when(packed, F.lit(recipe.packed_ranker)).otherwise(_ranker(recipe))
    given = {"selection": F.lit(name), "n_tokens": F.col("window_tokens"), "score": F.col("lds")}
    return in_columns_of(SELECTIONS, rows, **given, scorer=ranker)


def _ranker(recipe: Recipe) -> Column:
    """What gave the scores of windows that are not packed: of one scorer the rows say it."""
    return F.col("scorer") if recipe.ranked_as_scored else F.lit(recipe.ranker)


def _overlaps(
    context: Context,
    rows: DataFrame,
    scored: dict[str, int],
    n_kept: dict[str, int],
    selection: DataFrame,
) -> dict[tuple[str, str], float]:
    """By choice and domain, the share of the selection that the other choice has too."""
    config = context.config
    comparable = compare.comparable(strata.settings(config), n_kept, scored)
    scorers = _other_scorers(context, rows)
    others = {n: how for n, how in compare.variants(comparable).items() if n not in scorers}
    rankings = [compare.by_settings(rows, others, config.seed, scored)] if others else []
    if not scorers:
        return _shares(selection, rankings)
    with ranked_by_each(context, scorers) as scores:
        return _shares(selection, [*rankings, compare.by_scores(scores, comparable, scored)])


def _shares(selection: DataFrame, rankings: list[compare.Rankings]) -> dict[tuple[str, str], float]:
    shares = compare.shares(selection, rankings).collect()
    return {(row["name"], row["domain"]): row["share"] for row in shares}


def _other_scorers(context: Context, rows: DataFrame) -> dict[str, str]:
    """Versions of all other scorers of the root by what to call them; no filter is theirs."""
    mine = {row["scorer"] for row in rows.select("scorer").distinct().collect()}
    mine.add(context.recipe.near_cut)
    known = known_scorers()
    versions = [
        version
        for version in scored_versions(context)
        if version not in mine and ScorerId.of(version).name in known
    ]
    return labelled(versions)


def _by_domain(
    scored: Mapping[str, int], planned: Mapping[str, int], made: Mapping[str, Row]
) -> dict[str, DomainFigures]:
    """Figures of every domain, or stratum, that has been scored or has a share in the mix."""
    return {
        domain: DomainFigures(
            scored=scored.get(domain),
            selected=made[domain]["selected"] if domain in made else None,
            cut=made[domain]["cut"] if domain in made else None,
            planned=planned.get(domain),
            made=made[domain]["tokens"] if domain in made else 0,
        )
        for domain in dict.fromkeys([*scored, *planned])
    }


def _made(selection: DataFrame) -> DataFrame:
    taken = F.col("copies") > 0
    return selection.groupBy("domain").agg(
        F.count("*").alias("selected"),
        F.count_if(taken).alias("mixed"),
        F.sum(F.col("copies") * F.col("n_tokens").cast("bigint")).alias("tokens"),
        F.min(stage.score()).alias("cut"),
    )
