"""The selection that a config and the tables of now give: the ledger's, or worked out anew."""

from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from longattn.etl.config.identity import SELECTS, decisive
from longattn.etl.ranking import contenders as stage
from longattn.etl.ranking import rank, strata
from longattn.etl.ranking.candidates import considered, packed_candidates
from longattn.etl.run.context import Context
from longattn.etl.run.figures import Figures
from longattn.etl.run.ledger import are_as_left, done, last_run
from longattn.etl.run.recipe import Recipe
from longattn.etl.windows.evaluation import evaluations
from longattn.udfs.digest import fields_digest
from longattn.udfs.errors import TableError
from longattn.udfs.scorers.identity import ScorerId


def selection_name(context: Context, rows: DataFrame) -> str:
    """select.name, or a hash of all that the selection depends on: settings, names and scores.

    `rows` is `considered(context)`.
    """
    config, recipe = context.config, context.recipe
    if config.select.name:
        return config.select.name
    return fields_digest(
        select=decisive(config.select, SELECTS),
        mix=decisive(config.mix),
        seed=config.seed,
        # rows name the scorers of select.by themselves, and need no model of score.scorer
        scorer=config.select.by_scorers or recipe.scoring,
        windowing=recipe.windowing,
        scores=list(stage.fingerprint(rows).first() or ()),
        packed=_packed(context),
    )[:16]


def _packed(context: Context) -> list[Any] | None:
    """Names the windows of the packed domains, and their scores."""
    if not context.config.pack.domains:
        return None
    return list(stage.fingerprint(packed_candidates(context)).first() or ())


def settings_of(context: Context) -> str:
    """16 hex digits that name all that a selection depends on but the rows of tables."""
    sets = evaluations(context) if context.config.decontaminate.sources else ()
    return context.recipe.selects(sets)


def name_of_now(context: Context) -> str:
    """The name of the selection of now, worked out where no run of select can tell it.

    Raises TableError for select.name where that is not the selection of now: a name tells nothing
    of the settings and scores that the rows under it were made with.
    """
    made = _made(context)
    if made is not None:
        return str(made["selection"])
    if name := context.config.select.name:
        raise TableError(
            f"selections: what {name} (select.name) has was made with other settings, or of other"
            " tables, than those of now: run `longattn select`"
        )
    return selection_name(context, considered(context))


def _made(context: Context) -> Row | None:
    """The last run of select with these settings, if the tables that it read are as they were.

    And if no run has made a selection of the same name since; one that failed may have.
    """
    run = last_run(context, "select", (F.col("settings") == settings_of(context)) & done())
    if run is None:
        return None
    same = F.col("selection").isNull() | (F.col("selection") == run["selection"])
    if last_run(context, "select", same) != run:
        return None
    read = sorted(run["versions_read"].keys() - run["versions_written"].keys())
    return run if are_as_left(context, run, read) else None


def current_selection(context: Context) -> tuple[str, DataFrame]:
    """Name and rows of the selection that the config and the scores of now give.

    Raises TableError when the selection has not been made.
    """
    name = name_of_now(context)
    selection = context.tables.read("selections").where(F.col("selection") == name)
    if selection.isEmpty():
        raise TableError(
            f"selections: none named {name} for this config and these scores: run `longattn select`"
        )
    return name, selection


def scored_by(recipe: Recipe, selection: DataFrame) -> str | None:
    """The version of the scorer that select.by names, which may be another than the config gives
    it; None where the config says it all, and of rows that are too old to say it.
    """
    if not recipe.ranked_as_scored:
        return None
    own = selection.where(~F.col("domain").isin(*recipe.config.pack.domains))
    first = own.select("scorer").first()
    return first["scorer"] if first else None


def recall_of(recipe: Recipe, scored: str | None) -> str | None:
    """The version of recall that was asked, given `scored_by`; None where none was."""
    return scored if scored and ScorerId.of(scored).name == "recall" else recipe.recall


def figures_of(context: Context, name: str) -> Figures:
    """What the last run of select that made a selection counted; none where no run tells."""
    run = last_run(context, "select", (F.col("selection") == name) & done())
    return Figures.decode(run["metrics"]) if run else Figures()


def selection_summary(context: Context) -> list[dict[str, Any]]:
    """Per scored domain, or stratum: windows and tokens in the mix, scored (of how many), lds_min
    and lds_max of all that was selected, best (its id).
    """
    name, rows = current_selection(context)
    selection = strata.of_selection(rows, context.config)
    domains = figures_of(context, name).domains
    recorded = {domain: int(of.scored) for domain, of in domains.items() if of.scored is not None}
    scored = recorded or rank.sizes(considered(context))  # of a selection by an earlier version
    taken = F.col("copies") > 0
    tokens = F.sum(F.when(taken, F.col("n_tokens").cast("bigint")))
    by_domain = selection.where(stage.score().isNotNull()).groupBy("domain")
    sums = by_domain.agg(
        F.count_if(taken).alias("windows"),
        F.coalesce(tokens, F.lit(0)).alias("tokens"),
        F.min(stage.score()).alias("lds_min"),
        F.max(stage.score()).alias("lds_max"),
        F.min_by("window_id", "rank").alias("best"),
    )
    return [row.asDict() | {"scored": scored[row["domain"]]} for row in sorted(sums.collect())]
