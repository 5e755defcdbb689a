"""Job score: every pending window scored exactly once, committed batch by batch.

The windows of a batch and its transaction id follow from what is pending, so a run that was killed,
or two runs at once, commit no window twice: what was committed is no longer pending, and a batch
committed elsewhere meanwhile carries the same id and is skipped.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import pandas as pd
from pyspark.sql import functions as F

from longattn.etl import names
from longattn.etl.inputs.candidates import cached, considered, near_cut
from longattn.etl.inputs.evaluation import without_contaminated
from longattn.etl.progress import Tick
from longattn.etl.run.context import Context, Outcome
from longattn.etl.stages import score as stage
from longattn.etl.tables.base import Txn
from longattn.etl.tables.schema import SCORES
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.registry import scorer_version

BATCHES_IN_FLIGHT = 2  # the next batch fills the slots that the last windows of one leave idle
COMPACT_AFTER = 8  # commits of one run from which their small files are merged


@dataclass
class Tally:
    """What came of the batches scored so far."""

    refused: Counter[str] = field(default_factory=Counter)
    busy_seconds: float = 0.0  # of `seconds` that tasks ran, spent scoring
    seconds: float = 0.0

    def add(self, scored: pd.DataFrame) -> None:
        self.refused.update(scored["reason"].dropna())
        self.busy_seconds += float(scored["busy_seconds"].sum())
        self.seconds += float(scored["seconds"].sum())

    @property
    def busy_share(self) -> float:
        return self.busy_seconds / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Windows scored and committed together."""

    window_ids: list[str]
    files: list[str]
    n_tokens: int

    def txn(self, scorer: str) -> Txn:
        """The same id for the same windows and scorer, whichever run commits them."""
        digest = hashlib.sha256("\n".join([scorer, *self.window_ids]).encode()).hexdigest()
        return Txn(app_id=f"score-{digest[:32]}", version=1)


def run(context: Context) -> Outcome:
    """Score what this scorer has not seen; rows are windows."""
    spec = names.scorer_spec(context.config)
    outcome = score_pending(context, spec, pending(context, spec))
    if context.config.score.cascade is None:
        return outcome
    return replace(outcome, metrics=outcome.metrics | settle_cut(context))


def settle_cut(context: Context) -> dict[str, float]:
    """Score exactly what stands near the selection's cut, until every window is on one side.

    Each round narrows it: exact scores move the cut a little, and may bring other windows near it.
    A window that cannot be scored exactly keeps its sampled score and is not tried again.
    """
    spec, tried, rounds = names.exact_scorer_spec(context.config), set[str](), 0
    scored = 0
    while wanted := _near_cut(context) - tried:
        windows = pending(context, spec)
        chosen = windows[windows["window_id"].isin(wanted)]
        scored += score_pending(context, spec, chosen).rows_out
        tried, rounds = tried | wanted, rounds + 1
    return {"exact_windows": scored, "cascade_rounds": rounds}


def _near_cut(context: Context) -> set[str]:
    with cached(considered(context)) as rows:
        return near_cut(context.config, rows)


def pending(context: Context, spec: ScorerSpec) -> pd.DataFrame:
    """Windows still to be scored (window_id, domain, n_tokens, file), sorted by file."""
    tables, config = context.tables, context.config
    windows = stage.pending_windows(
        tables.read("windows"),
        tables.read("scores"),
        tables.read("duplicates"),
        windowing=names.windowing(config),
        scorer=scorer_version(spec),
    )
    wanted = config.score.domains or [d for d in config.sources if d not in config.pack.domains]
    windows = without_contaminated(context, windows.where(F.col("domain").isin(*wanted)))
    rows: pd.DataFrame = windows.toPandas()
    return rows.sort_values(["file", "window_id"], ignore_index=True)


def score_pending(context: Context, spec: ScorerSpec, windows: pd.DataFrame) -> Outcome:
    """Score the given windows batch by batch and commit each batch as it is done."""
    started = time.monotonic()
    batches = list(batches_of(windows, context.config.score.commit))
    with context.progress.task("score", total=len(windows), unit="windows") as tick:
        tally = _score_all(context, spec, batches, tick)
    if len(batches) > COMPACT_AFTER:
        context.tables["scores"].optimize()
    seconds, tokens = time.monotonic() - started, int(windows["n_tokens"].sum())
    return Outcome(
        rows_in=len(windows),
        rows_out=len(windows) - tally.refused.total(),
        refused=dict(tally.refused),
        metrics={
            "tokens": tokens,
            "tokens_per_second": tokens / seconds,
            "busy_share": tally.busy_share,
            "commits": len(batches),
        },
    )


def batches_of(windows: pd.DataFrame, size: int) -> Iterator[Batch]:
    """Cut the list of windows into batches; neighbours share files, so each batch opens few."""
    for start in range(0, len(windows), size):
        rows = windows.iloc[start : start + size]
        yield Batch(
            window_ids=rows["window_id"].tolist(),
            files=sorted(set(rows["file"])),
            n_tokens=int(rows["n_tokens"].sum()),
        )


def _score_all(context: Context, spec: ScorerSpec, batches: list[Batch], tick: Tick) -> Tally:
    """Score all batches, two at a time."""
    tally = Tally()
    with ThreadPoolExecutor(BATCHES_IN_FLIGHT) as pool:
        for scored in pool.map(partial(_score_batch, context, spec), batches):
            tally.add(scored)
            tick(len(scored))
    return tally


def _score_batch(context: Context, spec: ScorerSpec, batch: Batch) -> pd.DataFrame:
    """Score one batch and commit its scores and its rejects; a row a window."""
    pinned = context.tables.versions_read.get("windows")  # the version that named the files
    windows = context.tables["windows"].read(pinned, batch.files)
    windows = windows.where(F.col("window_id").isin(*batch.window_ids))
    profile = stage.gpu_profile(context.spark, context.config.score.gpu_per_task)
    slots = int(context.spark.conf.get("spark.sql.shuffle.partitions") or 1)
    spread = windows.repartition(min(slots, len(batch.window_ids)))
    scored: pd.DataFrame = stage.score_windows(spread, spec, profile).toPandas()
    good = scored["reason"].isna()
    _commit(context, scored[good], batch.txn(scorer_version(spec)))
    _reject(context, scored[~good])
    return scored


def _commit(context: Context, scored: pd.DataFrame, txn: Txn) -> None:
    """Append statistics; a batch is a few hundred rows, so it passes through the driver."""
    frame = context.spark.createDataFrame(scored[list(stage.STATISTICS)], stage.STATISTICS_DDL)
    stamped = frame.withColumn("scored_at", F.current_timestamp()).select(*SCORES.columns)
    context.tables.append("scores", stamped.coalesce(1), txn)


def _reject(context: Context, refused: pd.DataFrame) -> None:
    """Enter windows that could not be scored into `rejects`."""
    if len(refused):
        frame = context.spark.createDataFrame(
            refused[["domain", "window_id", "scorer", "reason", "detail"]],
            "domain string, window_id string, scorer string, reason string, detail string",
        )
        context.reject(stage.as_rejects(frame))
