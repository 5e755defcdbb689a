"""Job select: the best windows of each domain, mixed, as one selection; no model is needed."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longattn.etl import names
from longattn.etl.config import Config, SelectConfig
from longattn.etl.inputs.candidates import cached, considered, near_cut
from longattn.etl.inputs.current import selection_name
from longattn.etl.inputs.evaluation import without_contaminated
from longattn.etl.inputs.once import refuse_repeated
from longattn.etl.run.context import Context, Outcome
from longattn.etl.stages import mix as mixing
from longattn.etl.stages import rank
from longattn.etl.stages import selection as stage
from longattn.etl.tables.schema import SELECTIONS
from longattn.udfs.errors import NothingLeft


def run(context: Context) -> Outcome:
    """Write one selection; rows are windows scored by the config's scorer, and packed ones."""
    with cached(considered(context)) as rows:
        scored, distinct = rank.distinct_sizes(rows)
        refuse_repeated(sum(scored.values()), distinct, "scores with their windows and lengths")
        return _select(context, rows, scored)


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
        _refuse_nothing(config, scored, shares, mixed)
        context.tables.replace_where("selections", mixed, {"selection": name})
    selection = context.tables["selections"].read().where(F.col("selection") == name)
    packed = {s.domain: s.supply.windows for s in shares if s.domain not in scored}
    ranked = selection.where(F.col("lds").isNotNull())
    overlaps = _overlaps(config, rows, scored, ranked)
    return _outcome(scored, packed, selection, shares, overlaps)


def _refuse_nothing(
    config: Config, scored: dict[str, int], shares: list[mixing.Share], mixed: DataFrame
) -> None:
    """Raise NothingLeft, before anything is written, for a selection without a window."""
    if not any(share.supply.windows for share in shares):
        raise NothingLeft(
            f"select: no scores by {names.scoring(config)} of windows {names.windowing(config)}:"
            " run `longattn score` with this config"
        )
    if mixed.where("copies > 0").isEmpty():
        there = ", ".join(f"{s.domain} {s.supply.tokens:,} of {s.planned:,}" for s in shares)
        raise NothingLeft(
            f"select: no window fits into the mix; tokens selected of those planned: {there}"
            f" ({sum(scored.values()):,} windows scored): look at mix and select"
        )


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
