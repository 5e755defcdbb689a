"""Job windows: every kept document measured once, and cut into windows or packed with others.

Windows are committed before lengths, and a document is done when it has a length and as many
windows as that says: whatever was killed, restored or emptied in between is made again, and no
window is committed twice. Windows and lengths do not depend on limits, which are looked at whenever
windows are read (`current`). Documents are packed group by group, and a group that has another
member is packed anew.
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
from longattn.etl.ingest import stage as ingest
from longattn.etl.ingest.current import with_text
from longattn.etl.run.context import Context, Outcome, TableSet
from longattn.etl.run.frames import cut_lineage, refuse_repeated
from longattn.etl.run.recipe import Recipe
from longattn.etl.tables.base import Txn
from longattn.etl.windows import current, pack, stage
from longattn.etl.windows.evaluation import judge_windows
from longattn.udfs.errors import NothingLeft
from longattn.udfs.scorers.kinds.recall import cross_gain
from longattn.udfs.text.tokens import separator_id
from longattn.udfs.windows.cut import PackSpec, WindowSpec

REFUSED, ELSEWHERE = "refused ", "measured_by_another_run"
Tally = Counter[str]


def run(context: Context) -> Outcome:
    """Window and pack what has not been, and decontaminate; rows are documents."""
    config, started = context.config, time.monotonic()
    with context.progress.task("windows", unit="documents"):
        parts = _cut_all(context)
        if config.pack.domains:
            parts += [_pack(context)]
        hits, hits_by_set = judge_windows(context)
    nothing_new = not any(part["rows_in"] for part in parts)
    if nothing_new and context.tables.read("documents").isEmpty():
        raise NothingLeft("windows: there are no documents: run `longattn ingest` with this config")
    length = current.content_length(config)
    outcome = _outcome(parts, length, time.monotonic() - started)
    return replace(outcome, metrics=outcome.metrics | hits, figures=hits_by_set)


def cut_specs(recipe: Recipe) -> list[WindowSpec]:
    """How the domains that are not packed are cut, at each of the config's lengths."""
    config = recipe.config
    return [
        WindowSpec(
            windowing=windowing,
            tokenizer=config.tokenizer_path,
            length=length - config.window.bos,
            strategy=config.window.strategy,
        )
        for length, windowing in recipe.cuttings.items()
    ]


def pack_spec(recipe: Recipe) -> WindowSpec:
    """How the domains that are packed are tokenised."""
    config = recipe.config
    return WindowSpec(
        windowing=recipe.packing,
        tokenizer=config.tokenizer_path,
        length=current.content_length(config),
        strategy=None,
        order=config.pack.order,
    )


def _cut_all(context: Context) -> list[Tally]:
    """Cut documents, each at one length; which of several it is depends on the tokens of all."""
    specs = cut_specs(context.recipe)
    if len(specs) > 1:
        _count_tokens(context)
        _refuse_unfilled(context)
    return [_cut(context, spec) for spec in specs]


def _count_tokens(context: Context) -> None:
    """Count the tokens of documents that were never measured, as `ingest` does for its limits."""
    texts = with_text(context, current.uncounted(context))
    counted = ingest.token_counts(texts, context.config)
    with _on_disk(counted, context.progress.say) as rows:
        if not rows.isEmpty():
            context.tables.merge("lengths", ingest.as_lengths(rows, context.config))


def _refuse_unfilled(context: Context) -> None:
    """Raise NothingLeft for a length that no document fills."""
    longest = current.longest(context)
    if longest is not None and longest < current.content_length(context.config):
        raise NothingLeft(
            f"mix.buckets: no document fills a window of {context.config.window.length:,} tokens;"
            f" the longest has {longest:,}: leave that length out"
        )


def _cut(context: Context, spec: WindowSpec) -> Tally:
    """Cut the documents that have no windows yet; commit these, then the documents' lengths."""
    with _tokenised(context, spec) as (tally, cut, txn):
        if tally["rows_in"]:
            windows = cut.where(stage.is_window())
            before = _of(context.tables, spec).select("window_id")
            new = windows.join(before, "window_id", "left_anti")
            commit = context.tables.append("windows", stage.as_windows(new, spec), txn)
            tally.update(_commit_lengths(context, cut, spec, tally["known"]))
            tally.update(_wanted_tokens(cut, context.config))
            tally["cut_tokens"] = tally["kept_tokens"]
            tally["windows"] = tally["due"] if commit.skipped else commit.rows + tally["there"]
    return tally


def _pack(context: Context) -> Tally:
    """Measure the documents to be packed, then pack the groups that have not been packed so."""
    spec = pack_spec(context.recipe)
    with _tokenised(context, spec) as (tally, cut, txn):
        if tally["rows_in"]:
            tally.update(_commit_lengths(context, cut, spec, tally["known"]))
        done = _of(context.tables, spec).select("packed_from").distinct()
        groups = current.packed_documents(context)
        missing = cut_lineage(groups.join(done, "packed_from", "left_anti"))
        if not missing.isEmpty():
            tally.update(_pack_groups(context, missing, cut, spec, txn))
    return tally


def _pack_groups(
    context: Context, missing: DataFrame, cut: DataFrame, spec: WindowSpec, txn: Txn
) -> Tally:
    """Pack documents that have a group and a place; tokenise those that were not just now."""
    config = context.config
    recipe = PackSpec(
        strategy=config.pack.strategy,
        length=spec.length,
        separator=separator_id(spec.tokenizer, config.pack.separator),
        order=config.pack.order,
    )
    gain = cross_gain if config.pack.verify else None
    others = missing.join(cut.select("doc_id"), "doc_id", "left_anti")
    again = stage.cut_documents(with_text(context, others), spec)
    tokens = cut.select("doc_id", "token_ids").union(again.select("doc_id", "token_ids"))
    packed = pack.pack_documents(missing.join(tokens, "doc_id"), recipe, gain)
    with _on_disk(packed, context.progress.say) as windows:
        commit = context.tables.append("windows", stage.as_windows(windows, spec), txn)
        made = _sums(windows, due="1", packed_tokens="n_tokens", packed=pack.BEGUN)
    made["packed_windows"] = made["due"] if commit.skipped else commit.rows
    made["to_pack"] = missing.count()
    return made


@contextmanager
def _tokenised(context: Context, spec: WindowSpec) -> Iterator[tuple[Tally, DataFrame, Txn]]:
    """The documents that are not measured, or not cut, tokenised and kept for the block.

    Yields how many they are, their rows as cut_documents gives them, and a transaction id that is
    the same for two runs that began at once: what one has committed the other skips.
    """
    pending = cut_lineage(current.unfinished(context, spec.windowing))
    count = stage.count_and_digest(pending)
    refuse_repeated(count.documents, count.ids, "documents to cut")
    version = context.tables.versions_read.get("windows")
    name = f"windows-{spec.windowing}-{version}-{count.documents}-{count.digest}"
    tokenised = stage.cut_documents(with_text(context, pending), spec)
    with _on_disk(tokenised, context.progress.say) as cut:
        tally = Counter(rows_in=count.documents, known=count.measured, there=count.windows)
        yield tally, cut, Txn(app_id=name, version=1)


def _commit_lengths(context: Context, cut: DataFrame, spec: WindowSpec, n_known: int) -> Tally:
    """Add the lengths of documents that have none, and say what became of the documents.

    n_known of them had a length when this run began.
    """
    measured = stage.as_lengths(cut, spec)
    commit = context.tables.merge("lengths", measured)
    tally = _tally(stage.summary(measured, current.limit(context.config)))
    tally["lengths"] = commit.rows + n_known
    if tally["lengths"] == tally["documents"]:
        return tally
    tally["lengths"] = context.tables.there("lengths", measured)
    elsewhere = tally["lengths"] - n_known - commit.rows
    if elsewhere <= 0:
        return tally
    mine = {key: n for key, n in tally.items() if not key.startswith(REFUSED)}
    return Counter(mine | {f"{REFUSED}{ELSEWHERE}": tally["lengths"]})


def _wanted_tokens(cut: DataFrame, config: Config) -> Tally:
    """Tokens of the windows of documents within the limits, and those that overlap."""
    windows = cut.where(stage.is_window())
    if config.window.min_tokens is not None or config.window.max_tokens is not None:
        beyond = cut.where(~stage.is_window() & current.limit(config).isNotNull())
        windows = windows.join(beyond.select("doc_id"), "doc_id", "left_anti")
    return _sums(windows, window_tokens="n_tokens", overlap_tokens="overlap_tokens")


def _of(tables: TableSet, spec: WindowSpec) -> DataFrame:
    return tables.read("windows").where(F.col("windowing") == spec.windowing)


@contextmanager
def _on_disk(rows: DataFrame, say: Callable[[str], None]) -> Iterator[DataFrame]:
    """Keep rows on the executors' disks while the block runs, as each is read several times.

    Databricks serverless has no such store: there the rows are worked out again for each reading.
    """
    try:
        kept = rows.persist(StorageLevel.DISK_ONLY)
    except AnalysisException:
        say("windows: this session keeps no rows on disk; text is read again")
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
        tally["documents"] += row.documents
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
        "left_over_tokens": counts["cut_tokens"]
        - counts["window_tokens"]
        + counts["overlap_tokens"],
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
