"""The selection that a config and the scores of now give."""

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longattn.etl.ranking import contenders as stage
from longattn.etl.ranking import rank
from longattn.etl.ranking.candidates import cached, considered
from longattn.etl.run.context import Context
from longattn.etl.run.recipe import Recipe
from longattn.etl.windows.evaluation import evaluations
from longattn.udfs.digest import json_digest
from longattn.udfs.errors import TableError

INPUTS = ("scores", "windows", "duplicates", "lengths")  # what `considered` reads


def selection_name(recipe: Recipe, rows: DataFrame) -> str:
    """select.name, or a hash of all the selection depends on: settings, seed, names and scores."""
    config = recipe.config
    if config.select.name:
        return config.select.name
    print_ = stage.fingerprint(rows).first()
    unused = {name for name in ("where", "per_document") if not getattr(config.select, name)}
    ignored = {"name", "compare", "ablate_alpha", *unused}  # unused: ids are what they always were
    depends = {
        "select": config.select.model_dump(exclude=ignored),
        "mix": config.mix.model_dump(),
        "seed": config.seed,
        # rows name the scorers of select.by themselves, and need no model of score.scorer
        "scorer": config.select.by_scorers or recipe.scoring,
        "windowing": recipe.windowing,
        "scores": list(print_ or ()),
    }
    return json_digest(depends)[:16]


def name_of_now(context: Context, rows: DataFrame | None = None) -> str:
    """The name of the selection of now, worked out once for each state of the tables it is of.

    `rows` is `considered(context)`, where the caller has it.
    """
    sets = tuple(evaluations(context)) if context.config.decontaminate.sources else ()
    inputs = (*INPUTS, "contamination") if sets else INPUTS
    for table in inputs:
        context.tables.read(table)  # so that the ledger says what the name depends on
    versions = tuple(context.tables[table].version() for table in inputs)
    return context.once(
        ("selection", context.config.hash, versions, sets),
        lambda: selection_name(context.recipe, considered(context) if rows is None else rows),
    )


def current_selection(context: Context, rows: DataFrame | None = None) -> tuple[str, DataFrame]:
    """Name and rows of the selection that the config and the scores of now give.

    `rows` is `considered(context)`, where the caller has it. Raises TableError when the selection
    has not been made.
    """
    name = name_of_now(context, rows)
    selection = context.tables.read("selections").where(F.col("selection") == name)
    if selection.isEmpty():
        raise TableError(
            f"selections: none named {name} for this config and these scores: run `longattn select`"
        )
    return name, selection


def selection_summary(context: Context) -> list[dict[str, Any]]:
    """Per scored domain, of the windows in the mix: windows, scored (of how many), tokens, lds_min,
    lds_max, best (its id)."""
    with cached(considered(context)) as rows:
        scored = rank.sizes(rows)
        _, selection = current_selection(context, rows)
    found = (
        selection.where(F.col("domain").isin(*scored) & (F.col("copies") > 0))
        .groupBy("domain")
        .agg(
            F.count("*").alias("windows"),
            F.sum(F.col("n_tokens").cast("bigint")).alias("tokens"),
            F.min(stage.score()).alias("lds_min"),
            F.max(stage.score()).alias("lds_max"),
            F.min_by("window_id", "rank").alias("best"),
        )
    )
    return [row.asDict() | {"scored": scored[row["domain"]]} for row in sorted(found.collect())]
