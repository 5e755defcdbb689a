"""Job report: one HTML page of what the jobs did and what was chosen; rows are windows shown."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from longattn.etl import names
from longattn.etl.inputs.candidates import cached, considered
from longattn.etl.inputs.current import current_selection
from longattn.etl.jobs import JOBS
from longattn.etl.report import figures
from longattn.etl.report.page import Example, Page, render
from longattn.etl.run.context import Context, Outcome
from longattn.etl.stages import lds, rank
from longattn.etl.stages import selection as stage
from longattn.udfs.storage import write_text

MAX_WINDOWS = 200_000  # brought to the driver to be drawn; more are sampled by hash
BINS_PER_OCTAVE = 2  # of document lengths

# a window's token ids -> its far attention [queries, keys], coarse
AttentionMap = Callable[[list[int]], npt.NDArray[Any]]


def run(context: Context) -> Outcome:
    """Write the page to report.path."""
    page = make_page(context, attention_maps(context))
    size = write_text(context.config.report.path, render(page))
    shown = len(page.best) + len(page.worst)
    return Outcome(rows_in=shown, rows_out=shown, metrics={"bytes": size})


def make_page(context: Context, attention: AttentionMap | None = None) -> Page:
    """Read the tables and draw all there is."""
    with cached(considered(context)) as rows:
        return _page_of(context, rows, attention)


def _page_of(context: Context, rows: DataFrame, attention: AttentionMap | None) -> Page:
    """The page of the windows that were there to select from."""
    name, selection = current_selection(context, rows)
    scored = lds.score_by(rows, context.config.select, context.config.seed)
    sizes = rank.sizes(rows)
    total = sum(sizes.values())
    windows = window_points(scored, selection, total)
    runs, metrics = job_runs(context), _selection_metrics(context)
    versions = dict(context.tables.versions_read)
    documents = document_lengths(context)  # of domains, too, that no window was scored of
    shown = [*windows["domain"], *_group(metrics, "planned"), *documents["domain"]]
    palette = figures.colours(shown)
    sampled = f"{len(windows):,} of {total:,} windows, sampled." if len(windows) < total else ""
    ends = examples(context, scored, sizes, attention)
    return Page(
        title="What was selected, and why",
        subtitle=f"Selection {name} by {names.scoring(context.config)},"
        f" windows {names.windowing(context.config)}",
        generated=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        key_figures=key_figures(context, runs, metrics, selection),
        domains=palette,
        figures=_figures(context, windows, documents, runs, metrics, palette),
        best=ends["best"],
        worst=ends["worst"],
        runs=[_ledger_row(row) for row in _records(runs)],
        notes={"lds": sampled, "scatter": sampled} if sampled else {},
        versions=versions,
        config=json.dumps(context.config.model_dump(mode="json"), indent=2),
    )


def job_runs(context: Context) -> pd.DataFrame:
    """A row per job that has run: job, started, seconds, rows_in, rows_out, refused.

    Runs of this config count, or all where none had it. ingest to score take up only what is new,
    so that their runs add up; select and export do all anew, so that the last one counts.
    """
    columns = ("job", "config", "started", "seconds", "rows_in", "rows_out", "refused")
    done = context.tables.read("runs").where("status = 'done'").select(*columns)
    runs = [row.asDict() for row in done.orderBy("started").collect()]
    rows = [_added_up(job, runs, context.config.hash) for job in JOBS if job != "report"]
    return pd.DataFrame([row for row in rows if row])


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


def window_points(scored: DataFrame, selection: DataFrame, total: int) -> pd.DataFrame:
    """domain, ds, du, lds, selected of all windows, or of an even sample of too many."""
    if total > MAX_WINDOWS:
        scored = scored.where(F.pmod(F.xxhash64("window_id"), F.lit(total)) < MAX_WINDOWS)
    chosen = selection.where("copies > 0").select("window_id", F.lit(True).alias("selected"))
    points = scored.join(chosen, "window_id", "left").select(
        "domain", "ds", "du", "lds", F.coalesce("selected", F.lit(False)).alias("selected")
    )
    shuffled: pd.DataFrame = points.orderBy(F.xxhash64("ds", "du")).toPandas()
    return shuffled


def document_lengths(context: Context) -> pd.DataFrame:
    """Documents per domain and bin of length: domain, n_tokens (lower edge), documents."""
    lengths = context.tables.read("lengths")
    mine = lengths.where(
        (F.col("windowing") == names.windowing(context.config)) & (F.col("n_tokens") > 0)
    )
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


def examples(
    context: Context, scored: DataFrame, sizes: Mapping[str, int], attention: AttentionMap | None
) -> dict[str, list[Example]]:
    """The best and the worst windows of each domain with text and attention maps."""
    ends = {"best": F.desc("lds"), "worst": F.asc("lds")}
    chosen = [
        scored.where(F.col("domain") == domain)
        .orderBy(order, "window_id")
        .limit(context.config.report.examples)
        .withColumn("end", F.lit(end))
        for (end, order), domain in product(ends.items(), sizes)
    ]
    found: dict[str, list[Example]] = {end: [] for end in ends}
    for row in _texts(context, chosen):
        found[row["end"]].append(_example(row, sizes, attention))
    return found


def attention_maps(context: Context) -> AttentionMap | None:
    """Draws a window's attention with the config's scorer; None where that looks at none."""
    if context.config.score.scorer != "longattn":
        return None
    from longattn.udfs.pictures.attention_map import attention_map

    spec = names.scorer_spec(context.config)
    return lambda token_ids: attention_map(np.array(token_ids), spec)


def key_figures(
    context: Context, runs: pd.DataFrame, metrics: Mapping[str, float], selection: DataFrame
) -> list[tuple[str, str, str]]:
    """The numbers at the top of the page: value, what it counts, a word beside it."""
    by_job = {row["job"]: row for row in _records(runs)}
    scored = sum(_group(metrics, "scored").values())
    copies = F.col("copies").cast("bigint")
    samples, mixed = tuple(selection.agg(F.sum(copies), F.count_if(copies > 0)).first() or (0, 0))
    planned, made = (sum(_group(metrics, key).values()) for key in ("planned", "made"))
    shown = []
    if "ingest" in by_job:
        run = by_job["ingest"]
        shown.append((_short(run["rows_out"]), "documents", f"of {run['rows_in']:,} records"))
    if "dedup" in by_job:
        run = by_job["dedup"]
        removed = run["rows_in"] - run["rows_out"]
        shown.append((_short(run["rows_out"]), "after dedup", f"{removed:,} removed"))
    length = f"{context.config.window.length:,} tokens each"
    shown.append((_short(scored), "windows scored", length))
    share = f"{100 * mixed / scored:.1f} % of them" if scored else ""
    shown.append((_short(mixed), "windows selected", f"{share}, {samples:,} samples"))
    shown.append((_short(made), "tokens in the mix", f"of {_short(planned)} planned"))
    seconds = runs["seconds"].sum()
    shown.append((_duration(seconds), "of work", f"{len(runs)} jobs"))
    return shown


def _figures(
    context: Context,
    windows: pd.DataFrame,
    documents: pd.DataFrame,
    runs: pd.DataFrame,
    metrics: Mapping[str, float],
    palette: figures.Palette,
) -> dict[str, Any]:
    drawn = {
        "funnel": figures.funnel(runs),
        "lds": figures.distribution(windows, "lds", _group(metrics, "cut"), palette),
        "ds": figures.distribution(windows, "ds", palette=palette),
        "du": figures.distribution(windows, "du", palette=palette),
        "scatter": figures.scatter(windows, palette),
        "timing": figures.timing(runs),
    }
    if len(documents):
        drawn["lengths"] = figures.lengths(documents, context.config.window.length, palette)
    shares = [
        (*key.removeprefix("overlap/").split("/", 1), value)  # a domain may have a slash
        for key, value in metrics.items()
        if key.startswith("overlap/")
    ]
    if shares:
        ordered = pd.DataFrame(shares, columns=["name", "domain", "share"])
        drawn["overlap"] = figures.overlap(_as_configured(ordered, context), palette)
    planned, made = _group(metrics, "planned"), _group(metrics, "made")
    if planned:
        rows = [(domain, planned[domain], made.get(domain, 0)) for domain in sorted(planned)]
        drawn["mix"] = figures.mix(
            pd.DataFrame(rows, columns=["domain", "planned", "made"]), palette
        )
    return drawn


def _as_configured(shares: pd.DataFrame, context: Context) -> pd.DataFrame:
    """Rows in the order in which the config names the comparisons."""
    order = {name: i for i, name in enumerate(stage.variants(context.config.select))}
    place = shares["name"].map(order).fillna(len(order))
    return shares.assign(place=place).sort_values(["place", "domain"]).drop(columns="place")


def _selection_metrics(context: Context) -> dict[str, float]:
    """Metrics of the last select run of this config; else of the last one."""
    done = context.tables.read("runs").where("status = 'done' and job = 'select'")
    mine = F.col("config") == context.config.hash
    row = done.orderBy(F.desc(mine), F.desc("started")).select("metrics").first()
    return dict(row["metrics"]) if row else {}


def _group(metrics: Mapping[str, float], prefix: str) -> dict[str, float]:
    """Values of the metrics `prefix/NAME`, by name."""
    return {
        key.removeprefix(f"{prefix}/"): value
        for key, value in metrics.items()
        if key.startswith(f"{prefix}/")
    }


def _texts(context: Context, chosen: list[DataFrame]) -> list[Row]:
    """All rows with source, place and the beginning of their text: by domain, outermost first."""
    if not chosen:
        return []
    tables, config = context.tables, context.config
    windows = tables.read("windows").select("window_id", "start_char", "token_ids")
    documents = tables.read("documents").select("doc_id", "source_uri", "source_row", "text")
    begin = (F.coalesce("start_char", F.lit(0)) + 1).cast("int")
    excerpt = F.substring("text", begin, F.lit(config.report.excerpt_chars))
    rows = reduce(DataFrame.unionAll, chosen)
    found = rows.join(windows, "window_id").join(documents, "doc_id", "left")
    outwards = F.when(F.col("end") == "best", -F.col("lds")).otherwise(F.col("lds"))
    return list(
        found.withColumn("text", excerpt).orderBy("domain", outwards, "window_id").collect()
    )


def _example(row: Row, sizes: Mapping[str, int], attention: AttentionMap | None) -> Example:
    drawn = None
    if attention is not None:
        far = attention(row["token_ids"])
        drawn = figures.attention_map(far, row["n_tokens"])
    return Example(
        window_id=row["window_id"],
        domain=row["domain"],
        lds=row["lds"],
        ds=row["ds"],
        du=row["du"],
        source=f"{row['source_uri']}, record {row['source_row']}",
        text=row["text"] or "",
        map_figure=drawn,
    )


def _ledger_row(run: dict[str, Any]) -> dict[str, Any]:
    refused = ", ".join(f"{n:,} {why.replace('_', ' ')}" for why, n in run["refused"].items() if n)
    return run | {"refused_text": refused, "started": f"{run['started']:%Y-%m-%d %H:%M}"}


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _short(n: float) -> str:
    """For example 12,345 or 7.6 M."""
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n:,.0f}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
