"""The page from what was read: no Spark, no tables, only frames and words."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from longattn.etl.config import Config
from longattn.etl.export.places import TITLE
from longattn.etl.report import figures, scorers
from longattn.etl.report.flow import DUPLICATES, MILESTONES, by_domain, steps
from longattn.etl.report.intervals import firmness, firmness_finding
from longattn.etl.report.page import Page
from longattn.etl.report.refused import Pair, Refused
from longattn.etl.report.samples import Sample
from longattn.etl.report.style import Palette, colours, short
from longattn.etl.run.figures import Figures
from longattn.udfs.scorers.meaning import Meaning, meaning_of
from longattn.udfs.scorers.registry import CROSS_GAIN

UNITS = {
    "ingest": "records",
    "dedup": "documents",
    "windows": "documents",
    "score": "windows",
    "select": "windows",
    "export": "samples",
}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the report job has read, small enough for the driver."""

    config: Config
    selection: str
    scorer: str  # its version
    windowing: str
    score: Meaning  # of the number selected by
    points: (
        pd.DataFrame
    )  # window_id, domain, scorer, ds, du, value, selected, error: of all scorers
    total: int  # windows there were to select from; points may be a sample of them
    samples: int  # in the mix, copies counted
    documents: pd.DataFrame  # domain, fate, documents, chars, tokens
    long_enough: Mapping[str, int]  # documents by domain that hold a window
    windows: pd.DataFrame  # domain, fate, windows, tokens, overlap
    lengths: pd.DataFrame  # domain, n_tokens, documents
    contamination: pd.DataFrame  # evaluation, domain, windows
    runs: pd.DataFrame  # job, started, seconds, rows_in, rows_out, refused
    last_runs: Mapping[str, Sequence[Mapping[str, Any]]]  # of each job, the latest first
    counted: Figures  # by the run of select
    far_gain: Mapping[int, float] = field(default_factory=dict)  # shares by tokens back
    formats: Sequence[str] = ()  # that the mix was exported to
    contexts: Sequence[str] = ()  # of these exports, in words
    selections: Sequence[Mapping[str, Any]] = ()  # of the root, the latest first
    seconds: Mapping[str, float] = field(default_factory=dict)  # a window, by scorer's name
    versions: Mapping[str, int] = field(default_factory=dict)
    refused: Sequence[Refused] = ()
    near_pairs: Sequence[Pair] = ()

    @property
    def own(self) -> pd.DataFrame:
        """Points of the scorer selected by, with `lds` for the figures."""
        mine = self.points[self.points["scorer"] == self.scorer]
        return mine.assign(lds=mine["value"])

    @property
    def selected(self) -> set[str]:
        return set(self.own.loc[self.own["selected"], "window_id"])


def build(facts: Facts, samples: Sequence[Sample]) -> Page:
    """Draw all there is."""
    domains = facts.counted.domains
    palette = colours([*facts.own["domain"], *domains, *facts.lengths["domain"]])
    firm = firmness(facts.own, _cuts(facts)) if len(facts.own) else []
    named = (facts.scorer, facts.score)
    table = scorers.side_by_side(facts.points, *named, facts.selected, facts.seconds)
    ledger = [_ledger_row(row, facts) for row in records(facts.runs)]
    shown, left = len(facts.own), by_domain(facts.documents, facts.windows)
    sampled = f"{shown:,} of {facts.total:,} windows, sampled." if shown < facts.total else ""
    return Page(
        title=TITLE,
        subtitle=f"Selection {facts.selection} by {facts.score.name}: {facts.score.measures}"
        f"{_packed(facts)}.",
        names=(facts.scorer, facts.windowing),
        generated=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        score=facts.score,
        key_figures=key_figures(facts),
        domains=palette,
        figures=_figures(facts, palette),
        scorers=table,
        scorers_finding=scorers.finding(table),
        firmness=firm,
        firmness_finding=firmness_finding(firm),
        contamination=_contamination(facts.contamination),
        samples=samples,
        scorer=facts.scorer,
        runs=ledger,
        last_runs={job: _last(runs, facts.config) for job, runs in facts.last_runs.items()},
        currency=facts.config.estimate.currency,
        refused_records=next((r["refused_text"] for r in ledger if r["job"] == "ingest"), ""),
        steps=list(left.columns),
        left={str(domain): _signed(row) for domain, row in left.iterrows()},
        refused=facts.refused,
        near_pairs=facts.near_pairs,
        notes={"lds": sampled, "scatter": sampled} if sampled else {},
        contexts=facts.contexts,
        selections=facts.selections,
        versions=facts.versions,
        config=json.dumps(facts.config.shown(), indent=2),
    )


def key_figures(facts: Facts) -> list[tuple[str, str, str]]:
    """The numbers at the top of the page: value, what it counts, a word beside it."""
    domains = facts.counted.domains.values()
    scored = int(sum(of.scored or 0 for of in domains)) or facts.total
    planned, made = sum(of.planned or 0 for of in domains), sum(of.made or 0 for of in domains)
    shown = _documents(facts)
    shown.append((short(scored), "windows scored", _lengths(facts.config)))
    chosen = sum(of.selected or 0 for of in domains if of.scored)
    share = f"{100 * chosen / scored:.1f} % of them; " if scored else ""
    shown.append((short(chosen), "windows selected", f"{share}{facts.samples:,} samples mixed"))
    shown.append((short(made), "tokens in the mix", f"of {short(planned)} planned"))
    if facts.far_gain:
        farthest, of_all = max(facts.far_gain.items())
        beside = f"from {farthest:,} tokens back and farther"
        shown.append((f"{of_all:.0%}", "of the far gain", beside))
    shown.append((_duration(facts.runs["seconds"].sum()), "of work", f"{len(facts.runs)} jobs"))
    return shown


def _documents(facts: Facts) -> list[tuple[str, str, str]]:
    """Documents that are current, and those of them that dedup keeps.

    The ledger's rows are no such counts: a run that finds nothing new has none.
    """
    by_fate = facts.documents.groupby("fate")["documents"].sum()
    every, removed = int(by_fate.sum()), int(by_fate.reindex(DUPLICATES).sum())
    read = sum(facts.runs.loc[facts.runs["job"] == "ingest", "rows_in"])
    of_records = f"of {read:,} records" if read >= every else ""
    kept = (short(every - removed), "after dedup", f"{removed:,} removed")
    return [(short(every), "documents", of_records), *([kept] if removed else [])]


def _signed(tokens: pd.Series) -> list[str]:
    """Tokens by step in words, with a minus before what a step takes away."""
    return [
        f"\u2212{short(n)}" if n and step not in MILESTONES else short(n)
        for step, n in tokens.items()
    ]


def _lengths(config: Config) -> str:
    """How long windows are, in words."""
    *shorter, longest = (f"{length:,}" for length in config.lengths)
    if config.window.strategy == "whole":
        return f"up to {longest} tokens each"
    return f"{', '.join(shorter)} or {longest} tokens" if shorter else f"{longest} tokens each"


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _figures(facts: Facts, palette: Palette) -> dict[str, Any]:
    refused = {row["job"]: row["refused"] for row in records(facts.runs)}
    flow = steps(facts.documents, facts.windows, refused.get("ingest"), sorted(facts.formats))
    timed = facts.runs.assign(unit=facts.runs["job"].map(UNITS).fillna("rows"))
    domains = facts.counted.domains
    drawn = {"flow": figures.flow(flow)}
    if len(timed):  # a ledger that was lost has no runs
        drawn["timing"] = figures.timing(timed)
    if len(facts.own):
        drawn |= _score_figures(facts, palette)
    if len(facts.lengths):
        drawn["lengths"] = _lengths_figure(facts, palette)
    if len(shares := _overlaps(facts)):
        selected = {domain: of.selected or 0 for domain, of in domains.items()}
        drawn["overlap"] = figures.overlap(shares, selected)
    planned = {domain: of.planned for domain, of in domains.items() if of.planned is not None}
    if planned:
        rows = [(domain, planned[domain], domains[domain].made or 0) for domain in sorted(planned)]
        mixed = pd.DataFrame(rows, columns=["domain", "planned", "made"])
        drawn["mix"] = figures.mix(mixed, palette)
    return drawn


def _lengths_figure(facts: Facts, palette: Palette) -> Any:
    window, others = _marked(facts.config)
    whole = facts.config.window.strategy == "whole"
    return figures.lengths(facts.lengths, facts.long_enough, window, others, palette, whole)


def _marked(config: Config) -> tuple[int, Sequence[int]]:
    """The length of the shortest windows, and those of others; of documents as they are, bounds."""
    if config.window.strategy == "whole":
        return config.window.length, sorted(config.mix.buckets)[:-1]
    return config.lengths[0], config.lengths[1:]


def _score_figures(facts: Facts, palette: Palette) -> dict[str, Any]:
    """How the scored windows lie; a corpus whose domains are all packed has none."""
    own = facts.own
    drawn = {"lds": figures.distribution(own, "lds", _cuts(facts), palette, facts.score.axis)}
    if facts.scorer.startswith("longattn:"):
        meaning = meaning_of(facts.scorer)
        ds, du = meaning.strength, meaning.uniformity
        drawn["ds"] = figures.distribution(own, "ds", palette=palette, axis=ds)
        drawn["du"] = figures.distribution(own, "du", palette=palette, axis=du)
        drawn["scatter"] = figures.scatter(own, palette, (ds, du))
    elif (pair := _against_another(facts)) is not None:
        drawn["scatter"] = figures.scatter(pair[0], palette, pair[1])
    return drawn


def _cuts(facts: Facts) -> dict[str, float]:
    """Where the domains are cut that have windows by the scorer selected by."""
    mine, domains = set(facts.own["domain"]), facts.counted.domains
    return {d: of.cut for d, of in domains.items() if of.cut is not None and d in mine}


def _packed(facts: Facts) -> str:
    """How packed windows were chosen, where they have a score."""
    if not (facts.config.pack.score and facts.config.pack.domains):
        return ""
    meaning, by = meaning_of(CROSS_GAIN), facts.config.select.by
    how = "at random" if by == "random" else f"by {meaning.name}, {meaning.measures}"
    kept = [
        f"{of.selected or 0:,.0f} of {of.scored:,.0f} of {domain}"
        for domain, of in facts.counted.domains.items()
        if of.scored is not None and domain.removesuffix("/packed") in facts.config.pack.domains
    ]
    return f". Packed windows {how}: {', '.join(kept) or 'none'}"


def _against_another(facts: Facts) -> tuple[pd.DataFrame, tuple[str, str]] | None:
    """The windows with the score as ds and another scorer's as du: the far gain, if it is there."""
    others = sorted({s for s in facts.points["scorer"] if not s.startswith("random:")})
    others = [s for s in others if s != facts.scorer]
    if not others:
        return None
    other = next((s for s in others if s.startswith(scorers.JUDGE)), others[0])
    theirs = facts.points[facts.points["scorer"] == other]
    both = facts.own.merge(theirs[["window_id", "value"]], on="window_id", suffixes=("", "_other"))
    paired = both.assign(ds=both["value"], du=both["value_other"])
    return paired, (facts.score.axis, meaning_of(other).axis)


def _overlaps(facts: Facts) -> pd.DataFrame:
    """Rows (name, domain, share) as select compared them, those that the config names first.

    A scorer is called as in the table beside them.
    """
    compared = [(name, domain, share) for (name, domain), share in facts.counted.overlaps.items()]
    select = facts.config.select
    order = [*select.compare, *(f"alpha={alpha:g}" for alpha in select.ablate_alpha)]
    place = {name: i for i, name in enumerate(order)}
    compared.sort(key=lambda row: (place.get(row[0], len(order)), row[1]))
    rules = pd.DataFrame(compared, columns=["name", "domain", "share"])
    bare = {name for name in rules["name"] if ":" not in name} - {*order, "random"}
    named = {name: meaning_of(name).name for name in bare}
    return rules.replace({"name": named})


def _contamination(hits: pd.DataFrame) -> list[dict[str, Any]]:
    """Windows by evaluation set and domain, a row a set."""
    if hits.empty:
        return []
    named = hits.assign(evaluation=hits["evaluation"].str.rsplit(":", n=2).str[0])
    table = named.pivot_table(
        index="evaluation", columns="domain", values="windows", aggfunc="sum", fill_value=0
    )
    return [
        {"set": name, "domains": dict(row.items()), "windows": int(row.sum())}
        for name, row in table.iterrows()
    ]


def _ledger_row(run: dict[str, Any], facts: Facts) -> dict[str, Any]:
    refused = ", ".join(f"{n:,} {why.replace('_', ' ')}" for why, n in run["refused"].items() if n)
    unit = UNITS.get(run["job"], "rows")
    if run["job"] == "export" and facts.samples and run["rows_out"] > facts.samples:
        unit += f": {facts.samples:,} in each of {run['rows_out'] // facts.samples} formats"
    started = f"{run['started']:%Y-%m-%d %H:%M}"
    return run | {"refused_text": refused, "started": started, "unit": unit}


def _last(runs: Sequence[Mapping[str, Any]], config: Config) -> list[dict[str, str]]:
    """Runs of a job as words; what a core costs for the time of each, where a price is known."""
    price = config.estimate.cpu_hour
    return [
        {
            "seconds": f"{run['seconds']:,.1f} s",
            "rows": f"{run['rows_in']:,} {UNITS.get(run['job'], 'rows')}",
            "started": f"{run['started']:%Y-%m-%d %H:%M}",
            "cost": "" if price is None else f"{run['seconds'] / 3600 * price:,.3g}",
        }
        for run in runs
    ]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
