"""Job report: one HTML page of what the jobs did and what was chosen; rows are windows shown."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longattn.etl.config import Config
from longattn.etl.export.files import Folder
from longattn.etl.export.places import no_page
from longattn.etl.ingest.current import current_documents
from longattn.etl.ranking import lds, rank
from longattn.etl.ranking.candidates import cached, considered, packed_candidates
from longattn.etl.ranking.cascade import with_error
from longattn.etl.ranking.far import far_gain
from longattn.etl.report import fates as flow
from longattn.etl.report import samples, scorers
from longattn.etl.report.build import Facts, build
from longattn.etl.report.page import Page, render, samples_on
from longattn.etl.report.refused import near_pairs, refused_records
from longattn.etl.report.shown import AttentionMap, attention_maps, shown_windows
from longattn.etl.run.context import Context, Outcome, TableSet
from longattn.etl.run.figures import Figures, summed
from longattn.etl.run.jobs import JOBS
from longattn.etl.run.ledger import in_utc
from longattn.etl.run.recipe import Recipe
from longattn.etl.selection.current import (
    current_selection,
    figures_of,
    recall_of,
    scored_by,
)
from longattn.etl.windows.current import current_windows, judged_lengths
from longattn.etl.windows.evaluation import contaminated
from longattn.udfs.errors import ConfigError, LongAttnError
from longattn.udfs.storage import write_text

MAX_WINDOWS = 200_000  # brought to the driver to be drawn; more are sampled by hash
BINS_PER_OCTAVE = 2  # of document lengths
LAST_RUNS = 6  # of each job, side by side
Run = dict[str, Any]  # a row of `runs`


def run(context: Context) -> Outcome:
    """Write the page to report.path."""
    if reason := no_page(context.config.report.path):
        raise ConfigError(f"report.path: {reason}")
    page = make_page(context, attention_maps(context.recipe))
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
    config, tables = context.config, context.tables
    name, selection = current_selection(context)
    total = sum(rank.sizes(rows).values())
    documents, duplicates = current_documents(context), tables.read("duplicates")
    windows, hits = current_windows(context, "overlap_tokens"), contaminated(context)
    cut, packed = (judged_lengths(context, packed=packed) for packed in (False, True))
    recipe, done = context.recipe, runs_done(tables)
    scored = scored_by(recipe, selection)
    own = scored or recipe.ranker
    return Facts(
        config=config,
        selection=name,
        scorer=own,
        windowing=recipe.windowing,
        score=recipe.meaning,
        points=all_points(recipe, rows, selection, tables.read("scores"), total, own),
        total=total,
        samples=samples_mixed(selection),
        documents=flow.documents_by_fate(documents, duplicates, cut.union(packed)).toPandas(),
        windows=flow.windows_by_fate(windows, hits, _ranked(context, rows), selection).toPandas(),
        lengths=document_lengths(cut),
        long_enough=long_enough(cut, config),
        contamination=contamination(
            hits.drop("domain").join(windows.select("window_id", "domain"), "window_id")
        ),
        runs=job_runs(done, config.hash),
        last_runs=last_runs(done),
        counted=figures_of(context, name),
        far_gain=far_gain(tables.read("scores"), recall_of(recipe, scored), selection),
        formats=exported_formats(done, config.hash),
        contexts=exported_contexts(config, name),
        selections=all_selections(tables.read("selections"), selection, done),
        seconds=seconds_a_window(done),
        refused=refused_records(tables.read("rejects"), config.sources),
        near_pairs=near_pairs(duplicates, documents, tables.read("documents")),
        versions=dict(tables.versions_read),
    )


def _ranked(context: Context, rows: DataFrame) -> DataFrame:
    """window_id of the windows that select chooses from, packed ones too where they have scores,
    and `seen`, 0 of those that it refuses before it ranks.
    """
    ranked = F.col("refused").isNull() if "refused" in rows.columns else F.lit(True)
    ids = rows.select("window_id", ranked.cast("int").alias("seen"))
    if context.recipe.cross_gain is None:
        return ids
    return ids.union(packed_candidates(context).select("window_id", F.lit(1)))


def runs_done(tables: TableSet) -> list[Run]:
    """All runs of jobs that are done, in the order of time, which is in UTC."""
    columns = ("job", "config", "started", "seconds", "rows_in", "rows_out", "refused", "metrics")
    done = tables.read("runs").where("status = 'done'").select(*columns, "selection")
    rows = done.orderBy("started").collect()
    return [row.asDict() | {"started": in_utc(row["started"])} for row in rows]


def job_runs(runs: list[Run], config: str) -> pd.DataFrame:
    """A row per job that has run: job, started, seconds, rows_in, rows_out, refused.

    Runs of this config count, or all where none had it. ingest to score take up only what is new,
    so that their runs add up, and those with nothing to do say nothing; select and export do all
    anew, so that the last one counts.
    """
    rows = [_added_up(job, runs, config) for job in JOBS if job != "report"]
    columns = ["job", "started", "seconds", "rows_in", "rows_out", "refused"]
    return pd.DataFrame([row for row in rows if row], columns=columns)


def last_runs(runs: list[Run]) -> dict[str, list[Run]]:
    """The last LAST_RUNS of each job, of any config, the latest first."""
    by_job = {job: [run for run in runs if run["job"] == job] for job in JOBS}
    return {job: mine[: -LAST_RUNS - 1 : -1] for job, mine in by_job.items() if mine}


def _added_up(job: str, runs: list[Run], config: str) -> dict[str, Any] | None:
    every = [run for run in runs if run["job"] == job]
    anew = job in ("select", "export")
    mine = [run for run in every if run["config"] == config and (anew or run["rows_in"])] or every
    if not mine:
        return None
    counted = mine[-1:] if anew else mine
    refused = Counter[str]()
    for run in counted:
        refused.update(run["refused"])
    sums = {key: sum(run[key] for run in counted) for key in ("seconds", "rows_in", "rows_out")}
    return {"job": job, "started": mine[-1]["started"], "refused": dict(refused)} | sums


def exported_formats(runs: list[Run], config: str) -> list[str]:
    """Formats of the last export of this config; else of the last one."""
    exports = [run for run in runs if run["job"] == "export"]
    mine = [run for run in exports if run["config"] == config] or exports
    return list(Figures.decode(mine[-1]["metrics"]).formats) if mine else []


def exported_contexts(config: Config, selection: str) -> list[str]:
    """How much context target tokens have in each export of this selection, a line each."""
    lines = []
    for name, target in config.export.targets.items():
        with suppress(LongAttnError, OSError):  # a damaged export is for `status --check` to tell
            manifest = Folder.at(target.path).manifest() or {}
            if manifest.get("selection") == selection and "context" in manifest:
                lines.append(f"{name}: {_context_words(manifest['context'])}")
    return lines


def _context_words(context: Mapping[str, Any]) -> str:
    masked, whole = (context[kind]["half_below"] for kind in ("masked", "unmasked"))
    said = f"half of the target tokens see less than {masked:,} tokens"
    return said if masked == whole else f"{said}, without masks between documents {whole:,}"


def all_selections(every: DataFrame, own: DataFrame, runs: list[Run]) -> list[dict[str, Any]]:
    """The selections of the root, the latest first: selection, made, windows, tokens, common.

    Windows are those in the mix, `common` those of them that the mix of `own` has too.
    """
    mine = own.where("copies > 0").select("window_id", F.lit(True).alias("mine"))
    mixed = every.where("copies > 0").join(mine, "window_id", "left")
    counts = mixed.groupBy("selection").agg(
        F.count("*").alias("windows"),
        F.sum(F.col("copies") * F.col("n_tokens").cast("bigint")).alias("tokens"),
        F.count("mine").alias("common"),
    )
    made = {run["selection"]: f"{run['started']:%Y-%m-%d %H:%M}" for run in runs}
    rows = [row.asDict() | {"made": made.get(row["selection"], "")} for row in counts.collect()]
    return sorted(rows, key=lambda row: (row["made"], row["selection"]), reverse=True)


def seconds_a_window(runs: list[Run]) -> dict[str, float]:
    """Seconds for each window that score runs have spent, by the name of the scorer."""
    scored = (Figures.decode(run["metrics"]).scorers for run in runs if run["job"] == "score")
    spent = {name: of for name, of in summed(scored).items() if of.windows and of.seconds}
    return {name: of.seconds / of.windows for name, of in spent.items()}


def samples_mixed(selection: DataFrame) -> int:
    """Samples in the mix; every copy of a window is one."""
    row = selection.agg(F.sum(F.col("copies").cast("bigint"))).first()
    return int(row[0] or 0) if row else 0


def all_points(
    recipe: Recipe,
    rows: DataFrame,
    selection: DataFrame,
    scores: DataFrame,
    total: int,
    scorer: str,
) -> pd.DataFrame:
    """window_id, domain, scorer, ds, du, value, selected of all windows by every scorer they have,
    and `error`, of the value selected by.

    Or of an even sample of too many. `value` is what a scorer ranks by, and other scorers select
    as many windows of each domain as the selection has.
    """
    drawn = F.lit(True)
    if total > MAX_WINDOWS:
        drawn = F.pmod(F.xxhash64("window_id"), F.lit(total)) < MAX_WINDOWS
    own = own_points(recipe.config, rows, selection, scorer, drawn)
    left_out = {scorer.partition("+cascade=")[0], recipe.near_cut}
    if recipe.config.select.distance:  # it is recall's gain, from afar
        left_out.add(recipe.recall)
    theirs = (
        scores.where(~F.col("scorer").isin(*filter(None, left_out)))
        .drop("domain")
        .join(rows.where(drawn).select("window_id", "domain"), "window_id")
        .select("window_id", "domain", "scorer", "ds", "du")
        .toPandas()
    )
    others = scorers.ranked(theirs, recipe.config.select.alpha)
    others["selected"] = scorers.chosen(others, own.groupby("domain")["selected"].sum())
    return pd.concat([own, others], ignore_index=True)


def own_points(
    config: Config, rows: DataFrame, selection: DataFrame, scorer: str, drawn: Column
) -> pd.DataFrame:
    """The points of the scorer selected by, in an order that is random and always the same.

    Of those that are drawn; scores are standardised over all rows.
    """
    scored = with_error(lds.score_by(rows, config.select, config.seed), config.select, rows)
    chosen = selection.select("window_id", F.lit(True).alias("selected"))
    points = (
        scored.where(drawn)
        .join(chosen, "window_id", "left")
        .select(
            "window_id",
            "domain",
            F.lit(scorer).alias("scorer"),
            "ds",
            "du",
            F.col("lds").alias("value"),
            F.coalesce("lds_se", F.lit(0.0)).alias("error"),
            F.coalesce("selected", F.lit(False)).alias("selected"),
        )
    )
    shuffled: pd.DataFrame = points.orderBy(F.xxhash64("ds", "du")).toPandas()
    return shuffled


def document_lengths(lengths: DataFrame) -> pd.DataFrame:
    """Documents per domain and bin of length: domain, n_tokens (lower edge), documents."""
    mine = lengths.where(F.col("n_tokens") > 0)
    octave = F.floor(F.log2("n_tokens") * BINS_PER_OCTAVE) / BINS_PER_OCTAVE
    binned = mine.groupBy("domain", F.pow(F.lit(2.0), octave).alias("n_tokens"))
    counts: pd.DataFrame = binned.agg(F.count("*").alias("documents")).toPandas()
    return counts if counts.empty else _with_empty_bins(counts)


def long_enough(lengths: DataFrame, config: Config) -> dict[str, int]:
    """Documents by domain that hold a window of the shortest length; all that are windows."""
    least = 1 if config.window.strategy == "whole" else config.lengths[0] - config.window.bos
    counts = lengths.where(F.col("n_tokens") >= least).groupBy("domain").count().collect()
    return {row["domain"]: row["count"] for row in counts}


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


def contamination(hits: DataFrame) -> pd.DataFrame:
    """Contaminated windows by evaluation set and domain: evaluation, domain, windows."""
    by_set = hits.groupBy("evaluation", "domain")
    counts: pd.DataFrame = by_set.agg(F.count("*").alias("windows")).toPandas()
    return counts
