"""Job report: one HTML page of what the jobs did and what was chosen; rows are windows shown."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longattn.etl.ingest.current import current_documents
from longattn.etl.ranking import lds, rank
from longattn.etl.ranking.candidates import cached, considered
from longattn.etl.ranking.cascade import with_error
from longattn.etl.report import fates as flow
from longattn.etl.report import samples, scorers
from longattn.etl.report.build import Facts, build
from longattn.etl.report.page import Page, render, samples_on
from longattn.etl.report.refused import near_pairs, refused_records
from longattn.etl.report.shown import AttentionMap, attention_maps, shown_windows
from longattn.etl.run.context import Context, Outcome
from longattn.etl.run.figures import Figures, summed
from longattn.etl.run.jobs import JOBS
from longattn.etl.selection.current import current_selection, figures_of
from longattn.etl.windows.current import current_windows, judged_lengths
from longattn.etl.windows.evaluation import contaminated
from longattn.udfs.storage import write_text

MAX_WINDOWS = 200_000  # brought to the driver to be drawn; more are sampled by hash
BINS_PER_OCTAVE = 2  # of document lengths
LAST_RUNS = 6  # of each job, side by side


def run(context: Context) -> Outcome:
    """Write the page to report.path."""
    page = make_page(context, attention_maps(context))
    html = render(page)
    size = write_text(context.config.report.path, html)
    return Outcome(rows_in=page.wanted, rows_out=samples_on(html), metrics={"bytes": size})


def make_page(context: Context, attention: AttentionMap | None = None) -> Page:
    """Read the tables and draw all there is."""
    with cached(considered(context)) as rows:
        facts = gather(context, rows)
    wanted = samples.to_show(facts.points, context.config.report.examples)
    shown = shown_windows(context, facts.points, facts.scorer, attention)
    return replace(build(facts, shown), wanted=len(wanted))


def gather(context: Context, rows: DataFrame) -> Facts:
    """What the page says of the windows that were there to select from."""
    config = context.config
    name, selection = current_selection(context)
    total = sum(rank.sizes(rows).values())
    documents = documents_by_fate(context)
    own, done = selected_by(context, rows), runs_done(context)
    return Facts(
        config=config,
        selection=name,
        scorer=own,
        windowing=context.recipe.windowing,
        score=context.recipe.meaning,
        points=all_points(context, rows, selection, total, own),
        total=total,
        samples=samples_mixed(selection),
        documents=documents,
        windows=windows_by_fate(context, rows, selection),
        lengths=document_lengths(context),
        contamination=contamination(context),
        runs=job_runs(done, config.hash),
        last_runs=last_runs(done),
        counted=figures_of(context, name),
        formats=exported_formats(context),
        seconds=seconds_a_window(context),
        refused=refused_records(context),
        near_pairs=near_pairs(context),
        versions=dict(context.tables.versions_read),
    )


def selected_by(context: Context, rows: DataFrame) -> str:
    """The version of the scorer that the selection ranks by, or the names of several."""
    select = context.config.select
    if not select.by_scorers:
        return context.recipe.scoring
    first = None if isinstance(select.by, dict) else rows.select("scorer").first()
    return str(first["scorer"]) if first else context.recipe.ranking


def runs_done(context: Context) -> list[dict[str, Any]]:
    """All runs of jobs that are done, in the order of time."""
    columns = ("job", "config", "started", "seconds", "rows_in", "rows_out", "refused")
    done = context.tables.read("runs").where("status = 'done'").select(*columns)
    return [row.asDict() for row in done.orderBy("started").collect()]


def job_runs(runs: list[dict[str, Any]], config: str) -> pd.DataFrame:
    """A row per job that has run: job, started, seconds, rows_in, rows_out, refused.

    Runs of this config count, or all where none had it. ingest to score take up only what is new,
    so that their runs add up; select and export do all anew, so that the last one counts.
    """
    rows = [_added_up(job, runs, config) for job in JOBS if job != "report"]
    return pd.DataFrame([row for row in rows if row])


def last_runs(runs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The last LAST_RUNS of each job, of any config, the latest first."""
    by_job = {job: [run for run in runs if run["job"] == job] for job in JOBS}
    return {job: mine[: -LAST_RUNS - 1 : -1] for job, mine in by_job.items() if mine}


def _added_up(job: str, runs: list[dict[str, Any]], config: str) -> dict[str, Any] | None:
    every = [run for run in runs if run["job"] == job]
    mine = [run for run in every if run["config"] == config] or every
    if not mine:
        return None
    counted = mine[-1:] if job in ("select", "export") else mine
    refused = Counter[str]()
    for run in counted:
        refused.update(run["refused"])
    sums = {key: sum(run[key] for run in counted) for key in ("seconds", "rows_in", "rows_out")}
    return {"job": job, "started": mine[-1]["started"], "refused": dict(refused)} | sums


def exported_formats(context: Context) -> list[str]:
    """Formats of the last export of this config; else of the last one."""
    done = context.tables.read("runs").where("status = 'done' and job = 'export'")
    mine = F.col("config") == context.config.hash
    row = done.orderBy(F.desc(mine), F.desc("started")).select("metrics").first()
    return list(Figures.decode(row["metrics"]).formats) if row else []


def seconds_a_window(context: Context) -> dict[str, float]:
    """Seconds for each window that score runs have spent, by the name of the scorer."""
    done = context.tables.read("runs").where("status = 'done' and job = 'score'")
    runs = [Figures.decode(row["metrics"]).scorers for row in done.select("metrics").collect()]
    spent = {name: of for name, of in summed(runs).items() if of.windows and of.seconds}
    return {name: of.seconds / of.windows for name, of in spent.items()}


def samples_mixed(selection: DataFrame) -> int:
    """Samples in the mix; every copy of a window is one."""
    row = selection.agg(F.sum(F.col("copies").cast("bigint"))).first()
    return int(row[0] or 0) if row else 0


def all_points(
    context: Context, rows: DataFrame, selection: DataFrame, total: int, scorer: str
) -> pd.DataFrame:
    """window_id, domain, scorer, ds, du, value, selected of all windows by every scorer they have,
    and `error`, of the value selected by.

    Or of an even sample of too many. `value` is what a scorer ranks by, and other scorers select
    as many windows of each domain as the selection has.
    """
    config = context.config
    if total > MAX_WINDOWS:
        rows = rows.where(F.pmod(F.xxhash64("window_id"), F.lit(total)) < MAX_WINDOWS)
    own = own_points(context, rows, selection, scorer)
    theirs = (
        context.tables.read("scores")
        .where(F.col("scorer") != scorer.partition("+")[0])
        .drop("domain")
        .join(rows.select("window_id", "domain"), "window_id")
        .select("window_id", "domain", "scorer", "ds", "du")
        .toPandas()
    )
    others = scorers.ranked(theirs, config.select.alpha)
    others["selected"] = scorers.chosen(others, own.groupby("domain")["selected"].sum())
    return pd.concat([own, others], ignore_index=True)


def own_points(
    context: Context, rows: DataFrame, selection: DataFrame, scorer: str
) -> pd.DataFrame:
    """The points of the scorer selected by, in an order that is random and always the same."""
    select = context.config.select
    scored = with_error(lds.score_by(rows, select, context.config.seed), select)
    chosen = selection.select("window_id", F.lit(True).alias("selected"))
    points = scored.join(chosen, "window_id", "left").select(
        "window_id",
        "domain",
        F.lit(scorer).alias("scorer"),
        "ds",
        "du",
        F.col("lds").alias("value"),
        F.coalesce("lds_se", F.lit(0.0)).alias("error"),
        F.coalesce("selected", F.lit(False)).alias("selected"),
    )
    shuffled: pd.DataFrame = points.orderBy(F.xxhash64("ds", "du")).toPandas()
    return shuffled


def document_lengths(context: Context) -> pd.DataFrame:
    """Documents per domain and bin of length: domain, n_tokens (lower edge), documents."""
    mine = judged_lengths(context, packed=False).where(F.col("n_tokens") > 0)
    octave = F.floor(F.log2("n_tokens") * BINS_PER_OCTAVE) / BINS_PER_OCTAVE
    binned = mine.groupBy("domain", F.pow(F.lit(2.0), octave).alias("n_tokens"))
    counts: pd.DataFrame = binned.agg(F.count("*").alias("documents")).toPandas()
    return counts if counts.empty else _with_empty_bins(counts)


def _with_empty_bins(counts: pd.DataFrame) -> pd.DataFrame:
    """Every domain with all bins from the first to the last and one more, where lines end."""
    place = (np.log2(counts["n_tokens"]) * BINS_PER_OCTAVE).round().astype(int)
    table = counts.assign(place=place).pivot_table(
        index="place", columns="domain", values="documents", fill_value=0
    )
    filled = table.reindex(range(place.min(), place.max() + 2), fill_value=0)
    filled.index = pd.Index(2.0 ** (filled.index / BINS_PER_OCTAVE), name="n_tokens")
    bins: pd.DataFrame = filled.reset_index().melt("n_tokens", value_name="documents")
    return bins


def documents_by_fate(context: Context) -> pd.DataFrame:
    """What became of the current documents."""
    documents, duplicates = current_documents(context), context.tables.read("duplicates")
    lengths = judged_lengths(context, False).union(judged_lengths(context, True))
    fates = flow.documents_by_fate(documents, duplicates, lengths)
    counts: pd.DataFrame = fates.toPandas()
    return counts


def windows_by_fate(context: Context, rows: DataFrame, selection: DataFrame) -> pd.DataFrame:
    """What became of the current windows, cut or packed."""
    windows = current_windows(context, "overlap_tokens")
    fates = flow.windows_by_fate(windows, contaminated(context), rows, selection)
    counts: pd.DataFrame = fates.toPandas()
    return counts


def contamination(context: Context) -> pd.DataFrame:
    """Contaminated windows by evaluation set and domain: evaluation, domain, windows."""
    hits = contaminated(context).groupBy("evaluation", "domain")
    counts: pd.DataFrame = hits.agg(F.count("*").alias("windows")).toPandas()
    return counts
