"""The windows that a config selects from, and those too near its cut."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longattn.etl.config import Config, SelectConfig, WhereConfig
from longattn.etl.ranking import contenders as stage
from longattn.etl.ranking import filters, lds, rank
from longattn.etl.ranking.cascade import best_known, straddlers
from longattn.etl.ranking.scorers import scored_versions, version_of
from longattn.etl.ranking.strata import as_packed, by_length, settings
from longattn.etl.run.context import Context
from longattn.etl.windows.current import packed_windows, scored_windows
from longattn.etl.windows.evaluation import contaminated, without_contaminated
from longattn.udfs.errors import ConfigError, did_you_mean
from longattn.udfs.scorers.identity import ScorerId
from longattn.udfs.scorers.registry import scorer_version


def considered(context: Context, exact: Collection[str] | None = None) -> DataFrame:
    """All windows to select from, ds and du as configured, without the statistics per head.

    Where select filters by other scorers, weighs several or ranks by a measure, `refused` says
    which windows it keeps out, and why; it is null for the others. With score.cascade the exact
    scores of the windows `exact` count; of those that `settled` gives where it is None.
    """
    rows = _considered(context, exact)
    if not (measure := lds.measure(context.config.select)):
        return rows
    with_it = filters.by_measure(rows, measure)
    _refuse_unknown(with_it, rows, measure, "select.column: the scorer")
    return filters.refuse_without(rows, measure)


def _considered(context: Context, exact: Collection[str] | None) -> DataFrame:
    context.recipe.refuse_other_distances()
    select = context.config.select
    exact = settled(context) if exact is None else exact
    if not context.recipe.cuts_windows:  # nor can any scorer that select names have scores
        none = _candidates(context, context.recipe.scorer.version, exact)
        return none.withColumn("weighted", F.lit(None).cast("double"))
    if not select.by_scorers and not select.where:
        return _candidates(context, context.recipe.scorer.version, exact)
    versions = scored_versions(context)
    by = _ranking_scorers(context, versions)
    rows = _candidates(context, by[0], exact)
    rows = rows.withColumn("refused", F.lit(None).cast("string"))
    if isinstance(select.by, dict):
        named = zip(select.by, by, strict=True)
        scores = {name: ranked_by(context, version, exact) for name, version in named}
        rows = filters.add_weighted(rows, scores, select.by)
    for wanted in select.where:
        version = version_of(context, wanted.scorer, versions, "select.where")
        other = _by_measure(ranked_by(context, version, exact), wanted)
        rows = filters.refuse_outside(rows, other, wanted.label, wanted.percentile)
    return rows


def _by_measure(scores: DataFrame, wanted: WhereConfig) -> DataFrame:
    """The scores with what a filter asks for as lds; ConfigError where none has such a measure."""
    if not wanted.measure:
        return scores
    rows = filters.by_measure(scores, wanted.measure)
    _refuse_unknown(rows, scores, wanted.measure, f"select.where: {wanted.scorer}")
    return rows


def _refuse_unknown(rows: DataFrame, scores: DataFrame, measure: str, said: str) -> None:
    """Raise ConfigError for a measure that none of the scores has; another may be meant."""
    if rows.isEmpty() and not scores.isEmpty():
        keys = scores.select(F.explode(F.map_keys("measures")).alias("key")).distinct().collect()
        hint = did_you_mean(measure, [row["key"] for row in keys]) if keys else ""
        raise ConfigError(f"{said} has no measure {measure}{hint}")


def _ranking_scorers(context: Context, versions: list[str]) -> list[str]:
    """The scorers that select.by names; the config's own where it names none."""
    named = context.config.select.by_scorers if context.recipe.cuts_windows else ()
    scorers = [version_of(context, name, versions, "select.by") for name in named]
    return scorers or [context.recipe.scorer.version]


def ranked_by(context: Context, version: str, exact: Collection[str] = ()) -> DataFrame:
    """A scorer's candidates (window_id, domain, lds, ...), lds being what it ranks by."""
    return _ranked(context, version, _candidates(context, version, exact))


@contextmanager
def ranked_by_each(context: Context, versions: Mapping[str, str]) -> Iterator[dict[str, DataFrame]]:
    """`ranked_by` of several scorers, by the keys of `versions`; windows are joined once for all.

    The rows hold while the block runs.
    """
    scores, windows = context.tables.read("scores"), scored_windows(context)
    select = context.config.select
    if select.support == "matrix" and not select.heads:  # nothing is worked out from heads
        scores = scores.drop("head_s1", "head_s2")
    every = stage.candidates(scores, by_length(windows, context.config), *versions.values())
    with cached(without_contaminated(context, every)) as rows:
        yield {key: _one_of(context, rows, version) for key, version in versions.items()}


def _one_of(context: Context, rows: DataFrame, version: str) -> DataFrame:
    if _is_sampled(context, version):
        return ranked_by(context, version)
    mine = rows.where(F.col("scorer") == version)
    return _ranked(context, version, _as_configured(context, version, mine))


def _ranked(context: Context, version: str, rows: DataFrame) -> DataFrame:
    config = context.config.select.model_copy(update={"by": version})
    return lds.score_by(rows, config, context.config.seed)


def _candidates(context: Context, scorer: str, exact: Collection[str]) -> DataFrame:
    rows = without_contaminated(context, _scored_windows(context, scorer, exact))
    return _as_configured(context, scorer, rows)


def _as_configured(context: Context, scorer: str, rows: DataFrame) -> DataFrame:
    """A scorer's rows with ds and du of the heads and the support that select names."""
    config = context.config
    if ScorerId.of(scorer).name == config.score.scorer:
        own = scorer == context.recipe.scorer.version  # another version may have other heads
        select = config.select if own else config.select.model_copy(update={"heads": []})
        rows = lds.dependency(rows, select)
    return rows.drop("head_s1", "head_s2")


def _scored_windows(context: Context, scorer: str, exact: Collection[str] = ()) -> DataFrame:
    """Scores of kept documents' windows by a scorer, those of contaminated windows too."""
    recipe, windows = context.recipe, scored_windows(context)
    scores = context.tables.read("scores")
    if _is_sampled(context, scorer):
        lines = recipe.calibration.lines if recipe.calibration else ()
        if lines:  # of the domains of now, by which scores are not written
            now = windows.select("window_id", "domain")
            scores = scores.drop("domain").join(now, "window_id")
        scores = best_known(scores, scorer, scorer_version(recipe.exact), exact, lines)
    return stage.candidates(scores, by_length(windows, context.config), scorer)


def _is_sampled(context: Context, scorer: str) -> bool:
    """Whether a scorer's scores are those that the cascade puts exact ones in the place of."""
    return bool(context.config.score.cascade) and scorer == context.recipe.scorer.version


def packed_candidates(context: Context) -> DataFrame:
    """Packed windows to select from, contaminated ones too: window_id, domain, n_tokens.

    With pack.score those that have been scored, with ds and du.
    """
    windows, spec = packed_windows(context), context.recipe.cross_gain
    if spec is None:
        return windows
    scores = context.tables.read("scores").where(F.col("scorer") == scorer_version(spec))
    return windows.join(scores.select("window_id", "ds", "du"), "window_id")


def arrivals(context: Context, n_considered: int) -> tuple[int, int]:
    """Windows that select decides on, scored or packed, and how many of them are contaminated.

    n_considered is the number of rows of `considered`, all that was scored and not packed where
    nothing is looked for; else the scores are counted once more, contaminated windows with them.
    """
    packed = packed_candidates(context).select("window_id")
    if not context.config.decontaminate.sources:
        return n_considered + (packed.count() if context.config.pack.domains else 0), 0
    versions = scored_versions(context) if context.config.select.by_scorers else []
    scored = _scored_windows(context, _ranking_scorers(context, versions)[0])
    every = scored.select("window_id").union(packed)
    return every.count(), every.join(contaminated(context), "window_id", "left_semi").count()


def contending(
    context: Context, rows: DataFrame, scored: Mapping[str, int], select: SelectConfig
) -> stage.Contenders:
    """Windows that no filter keeps out, and with pack.score the packed ones, by cross gain."""
    seed = context.config.seed
    left = stage.contending(rows, select, seed, scored)
    if context.recipe.cross_gain is None:
        return left
    packed = stage.by_cross_gain(_packed(context), select, seed)
    sizes = rank.sizes(packed)
    return stage.Contenders(
        rows=left.rows.unionByName(packed, allowMissingColumns=True),
        ranked={**left.ranked, **sizes},
        scored={**scored, **sizes},
    )


def with_packed(context: Context, kept: DataFrame) -> DataFrame:
    """The windows inside the cut, and all of the packed domains where they are not scored."""
    if context.recipe.cross_gain or not context.config.pack.domains:
        return kept
    packed = stage.packed_windows(_packed(context), context.config.seed)
    return kept.unionByName(packed, allowMissingColumns=True)


def _packed(context: Context) -> DataFrame:
    """Packed windows to select from, with the name of their stratum as the domain."""
    windows = without_contaminated(context, packed_candidates(context))
    return as_packed(windows, context.config)


def settled(context: Context, refine: Callable[[set[str]], None] = lambda wanted: None) -> set[str]:
    """Windows whose exact scores count in the cascade, found round by round; none without one.

    In each round those that stand near the cut are given to `refine`, and join them. They follow
    from sampled scores and this cut: what was scored exactly for another cut does not count.
    """
    exact = set[str]()
    while wanted := _near_cut(context, exact) - exact:
        refine(wanted)
        exact |= wanted
    return exact


def _near_cut(context: Context, exact: set[str]) -> set[str]:
    if not context.config.score.cascade:
        return set()
    with cached(considered(context, exact)) as rows:
        return near_cut(context.config, rows)


def near_cut(config: Config, rows: DataFrame) -> set[str]:
    """Windows that their sampled scores cannot place on one side of the cut; none when exact."""
    if not config.score.cascade:
        return set()
    near = straddlers(rows, settings(config), config.seed, config.score.cascade)
    return {row["window_id"] for row in near.collect()}


@contextmanager
def cached(rows: DataFrame) -> Iterator[DataFrame]:
    """Keep rows in memory while the block reads them again and again, where that is allowed."""
    try:
        rows.persist()
    except PySparkException:  # Databricks serverless has no cache; the passes then read the tables
        yield rows
        return
    try:
        yield rows
    finally:
        rows.unpersist()
