"""Job score: every pending window scored exactly once, committed batch by batch.

Which windows are pending is written down once, and a batch is a share of that list. A commit adds
the scores that nobody has added since the list was made, so a run that was killed, or two runs at
once, commit no window twice: what was committed is no longer pending, or is left out.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longattn.etl.ranking.candidates import settled
from longattn.etl.run.context import Context, Outcome
from longattn.etl.run.figures import Figures, ScorerFigures, summed
from longattn.etl.run.frames import slots
from longattn.etl.run.staging import Save, staging
from longattn.etl.run.views import to_score, windows_of
from longattn.etl.scoring import stage
from longattn.etl.scoring.batching import Batch, FileCount, Pace, batches, file_counts, numbered
from longattn.etl.scoring.fresh import FreshCommits
from longattn.etl.tables.schema import SCORES
from longattn.etl.windows.current import limit, query
from longattn.etl.windows.evaluation import contaminated, judged
from longattn.udfs.errors import NothingLeft
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.registry import PACKED, scorer_version

BATCHES_IN_FLIGHT = 2  # the next batch fills the slots that the last windows of one leave idle
COMPACT_AFTER = 8  # commits of one run from which their small files are merged
SHUFFLED_TOKENS = 1 << 28  # of a batch, up to which its token lists are spread over all slots
FIRST_WINDOWS = 16  # of the first batch, at least


@dataclass
class Tally:
    """What came of the batches scored so far."""

    refused: Counter[str] = field(default_factory=Counter)
    added: int = 0  # scores that were committed
    busy_seconds: float = 0.0  # of `seconds` that tasks ran, their start included, spent scoring
    seconds: float = 0.0
    commits: int = 0

    def add(self, batch: "Scored") -> None:
        self.refused.update(batch.rows["reason"].drop_null().to_pylist())
        if batch.elsewhere:
            self.refused["scored_by_another_run"] += batch.elsewhere
        self.added += batch.added
        self.busy_seconds += pc.sum(batch.rows["busy_seconds"]).as_py() or 0.0
        self.seconds += pc.sum(batch.rows["seconds"]).as_py() or 0.0
        self.commits += 1

    @property
    def busy_share(self) -> float:
        return self.busy_seconds / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Scored:
    """A batch that was scored: a row a window, and what its commit added."""

    rows: pa.Table
    added: int
    elsewhere: int  # windows that another run had scored by then


@dataclass(frozen=True)
class Pending:
    """Windows to be scored: their list, as staged, and how many each data file holds."""

    rows: DataFrame  # window_id, file, n_tokens, nth
    files: list[FileCount]
    scores_version: int | None  # at which none of them was scored

    @property
    def n_windows(self) -> int:
        return sum(file.n_windows for file in self.files)

    @property
    def n_tokens(self) -> int:
        return sum(file.n_tokens for file in self.files)


def run(context: Context) -> Outcome:
    """Score what the config's scorers have not seen; rows are windows, once for each scorer."""
    if not context.recipe.asked:
        context.progress.say("score: every domain is packed: there is nothing to score")
        return Outcome(rows_in=0, rows_out=0)
    outcomes: dict[str, Outcome] = {}
    with staging(context, "score") as save:
        for spec in context.recipe.asked:
            arrived, left_out = refuse_contaminated(context, spec)
            windows = pending(context, spec, save)
            if not windows.n_windows and not left_out:
                refuse_no_windows(context, spec)
            outcome = score_pending(context, spec, windows)
            if arrived is not None:
                outcome = replace(outcome, rows_in=arrived)
            outcomes[spec.scorer] = _refused_too(outcome, left_out)
        outcome = _together(outcomes)
        if context.config.score.cascade is None:
            return outcome
        exact = settle_cut(context, save)
        spent = _added_up([outcome, exact])
        return replace(outcome, metrics=outcome.metrics | exact.metrics, figures=spent)


def refuse_no_windows(context: Context, spec: ScorerSpec) -> None:
    """Raise NothingLeft where a scorer has no windows at all; scored ones are windows too."""
    recipe, packed = context.recipe, spec.scorer in PACKED
    mine = recipe.packing if packed else recipe.windowing
    domains = context.config.pack.domains if packed else recipe.scored_domains
    windows = context.tables.read("windows")
    if query(context, f"SELECT * FROM {windows_of(spec.scorer)}").isEmpty():
        pairs = windows.select("windowing", "domain").distinct().orderBy("windowing", "domain")
        there = ", ".join(f"{row.domain} by {row.windowing}" for row in pairs.collect())
        if not packed:
            _refuse_too_long(context, domains)
        raise NothingLeft(
            f"score: no windows of {', '.join(domains)} by {mine} (there are: {there or 'none'}):"
            " run `longattn windows` with this config"
        )


def _refuse_too_long(context: Context, domains: list[str]) -> None:
    """Raise NothingLeft where `windows` has run and no document within limits is long enough."""
    lengths, cuttings = context.tables.read("lengths"), context.recipe.cuttings
    cut = F.col("windowing").isin(*cuttings.values())
    mine = lengths.where(cut & F.col("domain").isin(*domains))
    within = F.when(limit(context.config).isNull(), F.col("n_tokens"))
    longest, longest_within = mine.agg(F.max("n_tokens"), F.max(within)).collect()[0]
    window, none = context.config.window, f"score: no document of {', '.join(domains)}"
    least = 1 if window.strategy == "whole" else min(cuttings) - window.bos
    if longest is not None and longest < least:
        raise NothingLeft(
            f"{none} fills a window of {min(cuttings):,} tokens; the longest has {longest:,}:"
            " take a smaller window.length"
        )
    if longest is not None and (longest_within or 0) < least:
        raise NothingLeft(
            f"{none} that fills a window is within window.min_tokens and window.max_tokens; the"
            f" longest has {longest:,} tokens: take other limits"
        )


def _together(outcomes: dict[str, Outcome]) -> Outcome:
    """The outcome of several scorers: sums, with the main scorer's rates, and figures of each."""
    main, *others = outcomes.values()
    if not others:
        return main
    refused = sum((Counter(outcome.refused) for outcome in outcomes.values()), Counter[str]())
    sums = {m: sum(o.metrics[m] for o in outcomes.values()) for m in ("tokens", "commits")}
    return Outcome(
        rows_in=sum(outcome.rows_in for outcome in outcomes.values()),
        rows_out=sum(outcome.rows_out for outcome in outcomes.values()),
        refused=dict(refused),
        metrics={**main.metrics, **sums},
        figures=_added_up(outcomes.values()),
    )


def _added_up(outcomes: Iterable[Outcome]) -> Figures:
    return Figures(scorers=summed(outcome.figures.scorers for outcome in outcomes))


def settle_cut(context: Context, save: Save) -> Outcome:
    """Score exactly what stands near the selection's cut, until every window is on one side.

    Each round narrows it: exact scores move the cut a little, and may bring other windows near it.
    A window that cannot be scored exactly keeps its sampled score and is not tried again.
    """
    spec, outcomes = context.recipe.exact, list[Outcome]()

    def score_exactly(wanted: set[str]) -> None:
        outcomes.append(score_pending(context, spec, pending(context, spec, save, wanted)))
        outcomes[-1].refuse_imbalance("score: exact scores near the cut")

    settled(context, score_exactly)
    scored = float(sum(outcome.rows_out for outcome in outcomes))
    metrics = {"exact_windows": scored, "cascade_rounds": float(len(outcomes))}
    return Outcome(rows_in=0, rows_out=0, metrics=metrics, figures=_added_up(outcomes))


def pending(
    context: Context, spec: ScorerSpec, save: Save, wanted: Iterable[str] | None = None
) -> Pending:
    """Windows still to be scored, of those wanted; their list is staged, not collected."""
    version = context.tables.version("scores")
    windows = unscored(context, spec, judged(context))
    if wanted is not None:
        ids = pa.table({"window_id": sorted(wanted)})
        chosen = context.spark.createDataFrame(ids)
        windows = windows.join(F.broadcast(chosen), "window_id", "left_semi")
    rows = save(f"pending_{uuid.uuid4().hex}", numbered(windows))
    return Pending(rows, file_counts(rows), version)


def unscored(context: Context, spec: ScorerSpec, evaluations: Collection[str] = ()) -> DataFrame:
    """Windows that the scorer has not seen, less those that one of the evaluations names.

    With the file that each is in.
    """
    return query(context, to_score(scorer_version(spec), evaluations), stage.FILE)


def refuse_contaminated(context: Context, spec: ScorerSpec) -> tuple[int | None, int]:
    """Enter windows that share words with an evaluation set into `rejects`.

    Returns how many windows are to be decided on, those among them, and how many were entered;
    None where nothing is looked for, and those to be scored are all.
    """
    if not context.config.decontaminate.sources:
        return None, 0
    windows = unscored(context, spec)
    bad = stage.contaminated_windows(windows, contaminated(context))
    refused = stage.as_rejects(bad.withColumn("scorer", F.lit(scorer_version(spec))))
    entered_before = context.tables.there("rejects", refused)
    return windows.count() - entered_before, context.reject(refused)


def _refused_too(outcome: Outcome, contaminated_windows: int) -> Outcome:
    """The outcome with windows that were left out before scoring."""
    if not contaminated_windows:
        return outcome
    return replace(outcome, refused=outcome.refused | {"contaminated": contaminated_windows})


def score_pending(context: Context, spec: ScorerSpec, windows: Pending) -> Outcome:
    """Score the given windows batch by batch and commit each batch as it is done."""
    started = time.monotonic()
    tally = _score_all(context, spec, windows)
    if tally.commits > COMPACT_AFTER:
        context.tables.optimize("scores")
    seconds = time.monotonic() - started
    return Outcome(
        rows_in=windows.n_windows,
        rows_out=tally.added,
        refused=dict(tally.refused),
        metrics={
            "tokens": windows.n_tokens,
            "tokens_per_second": windows.n_tokens / seconds,
            "busy_share": tally.busy_share,
            "commits": tally.commits,
        },
        figures=Figures(scorers={spec.scorer: ScorerFigures(windows=tally.added, seconds=seconds)}),
    )


def pace_of(context: Context) -> Pace:
    """How large batches are: by the clock, and at most score.commit windows."""
    config = context.config.score
    pace = Pace(max(slots(context.spark), FIRST_WINDOWS), config.commit_seconds)
    return replace(pace, most=min(config.commit or pace.most, pace.most))


def _score_all(context: Context, spec: ScorerSpec, windows: Pending) -> Tally:
    """Score all batches, two at a time, each as large as the ones before say."""
    tally, pace = Tally(), pace_of(context)
    commits = FreshCommits(context, "scores", windows.scores_version)
    total = windows.n_windows
    with context.progress.task("score", total=total, unit="windows") as tick:

        def score(batch: Batch) -> Scored:
            started = time.monotonic()
            scored = _score_batch(context, spec, windows, batch, commits)
            alone = Tally()
            alone.add(scored)
            pace.note(batch.n_windows, (time.monotonic() - started) * alone.busy_share)
            return scored

        def take(scored: Scored) -> None:
            tally.add(scored)
            tick(scored.rows.num_rows)

        _in_flight(score, batches(windows.files, pace), take)
    return tally


def _in_flight(
    work: Callable[[Batch], Scored],
    coming: Iterable[Batch],
    take: Callable[[Scored], None],
) -> None:
    """Work on some batches at a time; the next one is asked for when there is room for it."""
    pool, running = ThreadPoolExecutor(BATCHES_IN_FLIGHT), set[Future[Scored]]()
    try:
        for batch in coming:
            running.add(pool.submit(work, batch))
            if len(running) == BATCHES_IN_FLIGHT:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for one in done:
                    take(one.result())
        for one in running:
            take(one.result())
    finally:
        _end(pool)


def _end(pool: ThreadPoolExecutor) -> None:
    """Wait for the batches under way, however often one is interrupted: they may be committing."""
    while True:
        try:
            return pool.shutdown()
        except KeyboardInterrupt:  # Spark's jobs have been cancelled once more, so they end soon
            continue


def _score_batch(
    context: Context, spec: ScorerSpec, windows: Pending, batch: Batch, commits: FreshCommits
) -> Scored:
    """Score one batch and commit its scores and its rejects."""
    profile = stage.gpu_profile(context.spark)
    rows = _rows_of(context, windows, batch)
    scored: pa.Table = stage.score_windows(rows, spec, profile).toArrow()
    good = pc.is_null(scored["reason"])
    added, elsewhere = _commit(context, scored.filter(good), commits)
    _reject(context, scored.filter(pc.invert(good)))
    return Scored(scored, added, elsewhere)


def _rows_of(context: Context, windows: Pending, batch: Batch) -> DataFrame:
    """The batch's windows with their tokens, spread over the slots.

    Where there are many the files spread them: a shuffle would carry every token list.
    """
    pinned = context.tables.versions_read.get("windows")  # the version that named the files
    rows = context.tables["windows"].read(pinned, batch.files)
    mine = F.broadcast(windows.rows.where(batch.holds()).select("window_id"))
    rows = rows.join(mine, "window_id", "left_semi")
    if batch.n_tokens > SHUFFLED_TOKENS:
        return rows
    return rows.repartition(min(slots(context.spark), batch.n_windows))


def _commit(context: Context, scored: pa.Table, commits: FreshCommits) -> tuple[int, int]:
    """Add the statistics; a batch's are some megabytes, so they pass through the driver.

    Returns what FreshCommits.commit does; nothing of a batch of which no window could be scored.
    """
    if not scored.num_rows:
        return 0, 0
    frame = context.spark.createDataFrame(scored.select(list(stage.STATISTICS)))
    stamped = frame.withColumn("scored_at", F.current_timestamp()).select(*SCORES.columns)
    return commits.commit(stamped.coalesce(1))


def _reject(context: Context, refused: pa.Table) -> None:
    """Enter windows that could not be scored into `rejects`."""
    if refused.num_rows:
        columns = ["domain", "window_id", "scorer", "reason", "detail"]
        frame = context.spark.createDataFrame(refused.select(columns))
        context.reject(stage.as_rejects(frame))
