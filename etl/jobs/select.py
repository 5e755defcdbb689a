"""Job select: the best windows of each domain, mixed, as one selection; no model is needed."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from etl import names
from etl.config import Config, SelectConfig
from etl.jobs.base import Context, Outcome
from etl.jobs.decontaminate import without_contaminated
from etl.stages import mix as mixing
from etl.stages import select as stage
from etl.stages.cascade import best_known, straddlers
from etl.tables.schema import SELECTIONS
from udfs.errors import TableError
from udfs.scorers import scorer_version


def run(context: Context) -> Outcome:
    """Write one selection; rows are windows scored by the config's scorer, and packed ones."""
    with cached(considered(context)) as rows:
        return _select(context, rows, stage.sizes(rows))


def considered(context: Context) -> DataFrame:
    """All windows to select from, ds and du as configured, without the statistics per head."""
    tables, config = context.tables, context.config
    scores = tables.read("scores")
    if config.score.cascade:
        exact = scorer_version(names.exact_scorer_spec(config))
        scores = best_known(scores, names.scorer(config), exact)
    rows = stage.candidates(
        scores,
        *(tables.read(name) for name in ("windows", "duplicates", "lengths")),
        scorer=names.scorer(config),
        windowing=names.windowing(config),
    )
    rows = without_contaminated(context, rows)
    return stage.dependency(rows, config.select).drop("head_s1", "head_s2")


def selection_name(config: Config, rows: DataFrame) -> str:
    """select.name, or a hash of all the selection depends on: settings, seed, names and scores."""
    if config.select.name:
        return config.select.name
    print_ = stage.fingerprint(rows).first()
    depends = {
        "select": config.select.model_dump(exclude={"name", "compare", "ablate_alpha"}),
        "mix": config.mix.model_dump(),
        "seed": config.seed,
        "scorer": names.scoring(config),
        "windowing": names.windowing(config),
        "scores": list(print_ or ()),
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]


def near_cut(config: Config, rows: DataFrame) -> set[str]:
    """Windows that their sampled scores cannot place on one side of the cut; none when exact."""
    if not config.score.cascade:
        return set()
    near = straddlers(rows, config.select, config.seed, config.score.cascade)
    return {row["window_id"] for row in near.collect()}


def current_selection(context: Context, rows: DataFrame | None = None) -> tuple[str, DataFrame]:
    """Name and rows of the selection that the config and the scores of now give.

    `rows` is `considered(context)`, where the caller has it. Raises TableError when the selection
    has not been made.
    """
    name = selection_name(context.config, considered(context) if rows is None else rows)
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
        scored = stage.sizes(rows)
        _, selection = current_selection(context, rows)
    found = (
        selection.where(F.col("domain").isin(*scored) & (F.col("copies") > 0))
        .groupBy("domain")
        .agg(
            F.count("*").alias("windows"),
            F.sum(F.col("n_tokens").cast("bigint")).alias("tokens"),
            F.min("lds").alias("lds_min"),
            F.max("lds").alias("lds_max"),
            F.min_by("window_id", "rank").alias("best"),
        )
    )
    return [row.asDict() | {"scored": scored[row["domain"]]} for row in sorted(found.collect())]


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


def _select(context: Context, rows: DataFrame, scored: dict[str, int]) -> Outcome:
    """Choose among `rows`, of which each domain has as many as `scored` says, and write it down."""
    config = context.config
    name = selection_name(config, rows)
    if near := near_cut(config, rows):
        context.progress.say(
            f"select: {len(near):,} windows are too near the cut for sampled scores to place them;"
            " `longattn score` scores them exactly"
        )
    with cached(_kept(context, rows, scored)) as kept:
        shares = mixing.plan(mixing.supplies(kept), config.mix)
        mixed = _as_table(mixing.mix(kept, shares, config.seed), name)
        context.tables.replace_where("selections", mixed, {"selection": name})
    selection = context.tables["selections"].read().where(F.col("selection") == name)
    packed = {s.domain: s.supply.windows for s in shares if s.domain not in scored}
    ranked = selection.where(F.col("lds").isNotNull())
    overlaps = _overlaps(config, rows, scored, ranked)
    return _outcome(scored, packed, selection, shares, overlaps)


def _kept(context: Context, rows: DataFrame, scored: dict[str, int]) -> DataFrame:
    """The windows inside the cut, and all windows of the packed domains."""
    config = context.config
    kept = stage.select(rows, config.select, config.seed, scored)
    if not config.pack.domains:
        return kept
    windows = context.tables.read("windows").where(F.col("domain").isin(*config.pack.domains))
    windows = without_contaminated(context, windows)
    packed = stage.packed_windows(windows, config.seed, packing=names.packing(config))
    return kept.unionByName(packed, allowMissingColumns=True)


def _as_table(mixed: DataFrame, name: str) -> DataFrame:
    named = mixed.withColumns({"selection": F.lit(name), "n_tokens": F.col("window_tokens")})
    return named.select(
        *(F.col(c).cast(kind).alias(c) for c, (kind, _) in SELECTIONS.columns.items())
    )


def _overlaps(
    config: Config, rows: DataFrame, scored: dict[str, int], selection: DataFrame
) -> dict[str, float]:
    """`overlap/NAME/DOMAIN`: share of the selection that the compared one has too."""
    others = {
        name: stage.select(rows, settings, config.seed, scored)
        for name, settings in stage.variants(_comparable(config.select)).items()
    }
    shares = stage.overlaps(selection, others).collect()
    return {f"overlap/{row['name']}/{row['domain']}": row["share"] for row in shares}


def _comparable(config: SelectConfig) -> SelectConfig:
    """A threshold belongs to one score and means nothing for another."""
    return config.model_copy(update={"threshold": None})


def _outcome(
    scored: dict[str, int],
    packed: dict[str, int],
    selection: DataFrame,
    shares: list[mixing.Share],
    overlaps: dict[str, float],
) -> Outcome:
    made = {row["domain"]: row for row in _made(selection).collect()}
    selected = sum(row["selected"] for row in made.values())
    mixed = sum(row["mixed"] for row in made.values())
    metrics: dict[str, float] = {"tokens": sum(row["tokens"] for row in made.values())}
    metrics |= {f"scored/{domain}": n for domain, n in scored.items()}
    for share in shares:
        tokens = made[share.domain]["tokens"] if share.domain in made else 0
        metrics |= {f"planned/{share.domain}": share.planned, f"made/{share.domain}": tokens}
    for domain, row in made.items():
        metrics |= {f"selected/{domain}": row["selected"]}
        if row["cut"] is not None:
            metrics |= {f"cut/{domain}": row["cut"]}
    rows_in = sum(scored.values()) + sum(packed.values())
    refused = {"below_cut": rows_in - selected, "no_room_in_mix": selected - mixed}
    return Outcome(rows_in=rows_in, rows_out=mixed, refused=refused, metrics=metrics | overlaps)


def _made(selection: DataFrame) -> DataFrame:
    taken = F.col("copies") > 0
    return selection.groupBy("domain").agg(
        F.count("*").alias("selected"),
        F.count_if(taken).alias("mixed"),
        F.sum(F.col("copies") * F.col("n_tokens").cast("bigint")).alias("tokens"),
        F.min("lds").alias("cut"),
    )
