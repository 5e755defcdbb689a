"""Calibration: an expensive scorer on a sample of windows, and what cheap ones say of it.

All scores of the sample are rows of `scores` like any others, so nothing is scored twice, by a
second calibration or by the cascade after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
from pyspark.sql import functions as F

from longattn.etl.config import Config, SelectConfig
from longattn.etl.ranking import lds, rank
from longattn.etl.ranking.scorers import scored_versions
from longattn.etl.run.context import Context, Outcome
from longattn.etl.run.staging import staging
from longattn.etl.scoring.job import pending, score_pending
from longattn.etl.windows.current import scored_windows
from longattn.etl.windows.evaluation import without_contaminated
from longattn.udfs.scorers.base import Score, ScorerSpec
from longattn.udfs.scorers.kinds.calibrated import (
    Calibration,
    Cost,
    Sample,
    calibrate,
    costs,
    refuse_taken,
    statistics,
)
from longattn.udfs.scorers.registry import SCORERS, scorer_version

TRUTH = "fargain"
CHEAP = ("recall", "compress", "recurrence", "cohesion")  # always used, where they are known
FRACTION = 0.125  # of each domain, kept in the table of costs where select.fraction names no one


@dataclass
class Result:
    """What a calibration found, beside its row in the ledger."""

    calibration: Calibration | None = None
    costs: Sequence[Cost] = ()

    @property
    def made(self) -> Calibration:
        assert self.calibration is not None  # a job that failed has raised
        return self.calibration


def run(context: Context, out: Path, per_domain: int, result: Result) -> Outcome:
    """Score a sample, fit and write a calibration; rows are windows of the sample."""
    refuse_taken(out)  # before hours of scoring
    truth, cheap = context.recipe.readable(context.recipe.spec(TRUTH)), cheap_specs(context)
    windows = draw(context, per_domain)
    with staging(context, "calibrate") as save:
        for spec in (truth, *cheap):
            score_pending(context, spec, pending(context, spec, save, windows["window_id"]))
    sample, refused = sample_of(context, windows, truth, cheap)
    made, u_N = calibrate(
        sample,
        truth=truth,
        version=scorer_version(truth),
        cheap=cheap,
        tokenizer=context.config.tokenizer_path,
    )
    made.write(out)
    result.calibration, result.costs = made, costs(sample, u_N, _fraction(context.config))
    counts = {reason: count for reason, count in refused.items() if count}
    return Outcome(rows_in=len(windows), rows_out=len(sample), refused=counts)


def cheap_specs(context: Context) -> list[ScorerSpec]:
    """CHEAP, what score.also names, and longattn where the config's own has scores."""
    recipe, known = context.recipe, scored_versions(context)
    wanted = [name for name in CHEAP if name in SCORERS]
    others = (TRUTH, "calibrated", *wanted)
    wanted += [name for name in context.config.score.also if name not in others]
    if "longattn" not in wanted and recipe.version_of("longattn") in known:
        wanted.append("longattn")
    return [recipe.readable(recipe.spec(name)) for name in wanted]


def draw(context: Context, per_domain: int) -> pd.DataFrame:
    """Windows (window_id, domain, doc_id) of kept documents, drawn by hash: so many a domain."""
    ids = scored_windows(context).select("window_id", "domain", "doc_id")
    kept = without_contaminated(context, ids.withColumn("window_tokens", F.lit(1)))
    shuffled = lds.score_by(kept, SelectConfig(by="random"), context.config.seed)
    cuts = {d: rank.Cut(n_scored=n, last_rank=per_domain) for d, n in rank.sizes(kept).items()}
    drawn = rank.keep_best(shuffled, cuts).select("window_id", "domain", "doc_id")
    rows: pd.DataFrame = drawn.toPandas()
    return rows.sort_values("window_id", ignore_index=True)


def sample_of(
    context: Context, windows: pd.DataFrame, truth: ScorerSpec, cheap: Sequence[ScorerSpec]
) -> tuple[Sample, dict[str, int]]:
    """The windows that all scorers scored, and how many each of the others, in order, did not."""
    left, refused = windows.set_index("window_id"), {}
    true_values = _statistics(context, windows, truth).reindex(columns=[f"{TRUTH}.ds"])
    for spec in (truth, *cheap):
        mine = true_values if spec is truth else _statistics(context, windows, spec)
        joined = left.join(mine, how="inner")
        refused[f"no_{spec.scorer}_score"] = len(left) - len(joined)
        left = joined
    columns = [name for name in left.columns if "." in name and name != f"{TRUTH}.ds"]
    varying = [name for name in columns if left[name].nunique() > 1]
    sample = Sample(
        statistics={name: left[name].to_numpy(dtype=float) for name in varying},
        truth_N=left[f"{TRUTH}.ds"].to_numpy(dtype=float),
        domain_N=left["domain"].to_numpy(dtype=str),
        document_N=left["doc_id"].to_numpy(dtype=str),
    )
    return sample, refused


def _statistics(context: Context, windows: pd.DataFrame, spec: ScorerSpec) -> pd.DataFrame:
    """One row a window that the scorer has scored, columns as `statistics` names them."""
    mine = context.tables["scores"].read().where(F.col("scorer") == scorer_version(spec))
    chosen = context.spark.createDataFrame(windows[["window_id"]])
    rows = mine.join(F.broadcast(chosen), "window_id").collect()
    by_window = {row["window_id"]: statistics(spec.scorer, _score(row.asDict())) for row in rows}
    return pd.DataFrame.from_dict(by_window, orient="index")


def _score(row: dict[str, Any]) -> Score:
    return cast(Score, {name: row[name] for name in Score.__annotations__ if name in row})


def _fraction(config: Config) -> float:
    fraction = config.select.fraction
    return fraction if isinstance(fraction, float) else FRACTION
