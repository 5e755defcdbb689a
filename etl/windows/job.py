"""Job windows: every kept document measured once, and cut into windows or packed with others.

Windows are committed before lengths, and a document is done when it has a length: a run that was
killed between the two is taken up where it stood, and commits no window twice.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from pyspark import StorageLevel
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longattn.etl.config import Config
from longattn.etl.dedup.stage import kept_documents
from longattn.etl.run.context import Context, Outcome
from longattn.etl.run.once import refuse_repeated
from longattn.etl.run.recipe import Recipe
from longattn.etl.tables.base import Txn
from longattn.etl.windows import pack, stage
from longattn.etl.windows.evaluation import judge_windows
from longattn.udfs.errors import NothingLeft
from longattn.udfs.text.tokens import separator_id
from longattn.udfs.windows.cut import PackSpec, WindowSpec

REFUSED, ELSEWHERE = "refused ", "measured_by_another_run"
Tally = Counter[str]
Commit = Callable[[Context, DataFrame, WindowSpec, Txn], Tally]


def run(context: Context) -> Outcome:
    """Window and pack what has no length yet, and decontaminate; rows are documents."""
    config, recipe, started = context.config, context.recipe, time.monotonic()
    documents = kept_documents(context.tables.read("documents"), context.tables.read("duplicates"))
    packed = F.col("domain").isin(*config.pack.domains)
    with context.progress.task("windows", unit="documents"):
        parts = [_measure(context, documents.where(~packed), window_spec(recipe), _cut)]
        if config.pack.domains:
            parts += [_measure(context, documents.where(packed), packed_spec(recipe), _pack)]
        hits, hits_by_set = judge_windows(context)
    nothing_new = not any(part["rows_in"] for part in parts)
    if nothing_new and context.tables.read("documents").isEmpty():
        raise NothingLeft("windows: there are no documents: run `longattn ingest` with this config")
    outcome = _outcome(parts, content_length(config), time.monotonic() - started)
    return replace(outcome, metrics=outcome.metrics | hits, figures=hits_by_set)


def content_length(config: Config) -> int:
    """Tokens of text in a window: one less than its length where BOS is one of the tokens."""
    return config.window.length - config.window.bos


def window_spec(recipe: Recipe) -> WindowSpec:
    """How the domains that are not packed are cut."""
    config, window = recipe.config, recipe.config.window
    least, most = window.min_tokens, window.max_tokens
    return WindowSpec(
        windowing=recipe.windowing,
        tokenizer=config.tokenizer_path,
        length=content_length(config),
        strategy=window.strategy,
        default_min=least if isinstance(least, int) else 1,
        default_max=most if isinstance(most, int) else None,
        min_tokens=least if isinstance(least, dict) else {},
        max_tokens=most if isinstance(most, dict) else {},
    )


def packed_spec(recipe: Recipe) -> WindowSpec:
    """How the packed domains are tokenised; only limits given by domain hold for them."""
    config, window = recipe.config, recipe.config.window
    return WindowSpec(
        windowing=recipe.packing,
        tokenizer=config.tokenizer_path,
        length=content_length(config),
        strategy=None,
        min_tokens=window.min_tokens if isinstance(window.min_tokens, dict) else {},
        max_tokens=window.max_tokens if isinstance(window.max_tokens, dict) else {},
    )


def _measure(context: Context, documents: DataFrame, spec: WindowSpec, commit: Commit) -> Tally:
    """Tokenise the documents without a length; commit their windows, then their lengths."""
    version = context.tables["windows"].version()
    lengths = context.tables.read("lengths")
    pending = stage.pending_documents(documents, lengths, spec.windowing)
    n_pending, n_ids, digest = stage.count_and_digest(pending)
    refuse_repeated(n_pending, n_ids, "documents to cut")
    tally = Counter(rows_in=n_pending)
    if not n_pending:
        return tally
    # The same for two runs that started at once: what one has committed, the other skips.
    txn = Txn(app_id=f"windows-{spec.windowing}-{version}-{n_pending}-{digest}", version=1)
    before = context.tables.read("windows").where(F.col("windowing") == spec.windowing)
    done = F.broadcast(stage.half_done(before, lengths, spec.windowing))
    with _on_disk(context, stage.cut_documents(pending, spec)) as cut:
        tally += commit(context, cut.join(done, "doc_id", "left_anti"), spec, txn)
        measured = stage.as_lengths(cut, spec)
        lengths_commit = context.tables.append("lengths", measured, txn)
        tally += _tally(stage.summary(measured))
        if lengths_commit.skipped:  # by a run that measured these documents at the same time
            n_elsewhere = context.tables.there("lengths", measured)
            return _measured_elsewhere(tally, n_elsewhere)
    if tally["windows"] != tally["due"]:  # the windows of half-done documents were there before
        tally["windows"] += before.join(done, "doc_id", "left_semi").count()
    tally["lengths"] = lengths_commit.rows
    return tally


def _measured_elsewhere(tally: Tally, n_lengths: int) -> Tally:
    """The tally of a run whose documents another one has measured meanwhile."""
    mine = {key: n for key, n in tally.items() if not key.startswith(REFUSED)}
    return Counter(mine | {f"{REFUSED}{ELSEWHERE}": n_lengths, "lengths": n_lengths})


def _cut(context: Context, cut: DataFrame, spec: WindowSpec, txn: Txn) -> Tally:
    windows = cut.where(stage.is_window())
    commit = context.tables.append("windows", stage.as_windows(windows, spec), txn)
    sums = _sums(windows, windows="1", window_tokens="n_tokens", overlap_tokens="overlap_tokens")
    if not commit.skipped:
        sums["windows"] = commit.rows
    return sums


def _pack(context: Context, cut: DataFrame, spec: WindowSpec, txn: Txn) -> Tally:
    config, kept = context.config.pack, cut.where(F.col("token_ids").isNotNull())
    recipe = PackSpec(
        windowing=spec.windowing,
        strategy=config.strategy,
        length=spec.length,
        separator=separator_id(spec.tokenizer, config.separator),
        seed=context.config.seed,
    )
    sums = (F.sum("n_tokens").alias("tokens"), F.count("*").alias("documents"))
    totals = kept.groupBy("domain").agg(*sums).collect()
    tokens = {row.domain: row.tokens for row in totals}
    groups = pack.group_counts(tokens, spec.length)
    with _on_disk(context, pack.pack_documents(kept, recipe, groups)) as windows:
        commit = context.tables.append("windows", stage.as_windows(windows, spec), txn)
        made = _sums(windows, due="1", packed_tokens="n_tokens", packed=pack.BEGUN)
    made["packed_windows"] = made["due"] if commit.skipped else commit.rows
    made["to_pack"] = sum(row.documents for row in totals)
    return made


@contextmanager
def _on_disk(context: Context, rows: DataFrame) -> Iterator[DataFrame]:
    """Keep rows on the executors' disks while the block runs, as each is read several times.

    Databricks serverless has no such store: there the rows are worked out again for each reading.
    """
    try:
        kept = rows.persist(StorageLevel.DISK_ONLY)
    except AnalysisException:
        context.progress.say("windows: this session keeps no rows on disk; text is read again")
        yield rows
        return
    try:
        yield kept
    finally:
        kept.unpersist()


def _sums(rows: DataFrame, **columns: str) -> Tally:
    """Sums of columns or constants over all rows, by the names given."""
    sums = rows.agg(*(F.sum(F.expr(column)).alias(name) for name, column in columns.items()))
    return Counter({name: total or 0 for name, total in sums.collect()[0].asDict().items()})


def _tally(summary: DataFrame) -> Tally:
    """Documents refused by reason, windows due, tokens of the documents kept and of all."""
    tally: Tally = Counter()
    for row in summary.collect():
        if row.reason is not None:
            tally[f"{REFUSED}{row.reason}"] += row.documents
        tally["due"] += row.windows or 0
        tally["tokens"] += row.tokens
        tally["kept_tokens"] += row.tokens if row.reason is None else 0
        tally["soft_cuts"] += row.soft_cuts
    return tally


def _outcome(parts: list[Tally], length: int, seconds: float) -> Outcome:
    counts = sum(parts, Counter())
    metrics = {
        "windows": counts["windows"],
        "tokens": counts["tokens"],
        "tokens_per_second": counts["tokens"] / seconds,
        "overlap_tokens": counts["overlap_tokens"],
        "left_over_tokens": parts[0]["kept_tokens"]
        - parts[0]["window_tokens"]
        + parts[0]["overlap_tokens"],
        "soft_cuts": counts["soft_cuts"],
    }
    if counts["packed_windows"]:
        room = counts["packed_windows"] * length
        metrics["packed_windows"] = counts["packed_windows"]
        metrics["packed_waste"] = 1 - counts["packed_tokens"] / room
    refused = {k.removeprefix(REFUSED): n for k, n in counts.items() if k.startswith(REFUSED)}
    return Outcome(
        rows_in=counts["rows_in"],
        rows_out=counts["lengths"] - sum(refused.values()),
        refused=refused,
        metrics=metrics,
        committed={
            "windows": (counts["due"], counts["windows"] + counts["packed_windows"]),
            "documents to pack": (counts["to_pack"], counts["packed"]),
        },
    )
