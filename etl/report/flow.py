"""The steps of the flow figure, from counts of what became of documents and windows."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from longattn.etl.report import fates
from longattn.etl.report.style import plural, short

Step = dict[str, Any]
DUPLICATES = ("exact", "near")
MILESTONES = ("ingested", "windows", fates.IN_MIX)


def steps(
    documents: pd.DataFrame,
    windows: pd.DataFrame,
    records: Mapping[str, int] | None = None,
    formats: list[str] | None = None,
) -> pd.DataFrame:
    """Rows (step, detail, before, after) for `figures.flow`.

    `documents`, `windows`: as `fates` counts them. `records`: what ingest refused, by reason.
    `formats`: those that the mix was exported to. Tokens of documents that were never tokenised are
    worked out from their characters, at the rate of those that were.
    """
    sums = _with_tokens(documents).groupby("fate")[["documents", "tokens"]].sum()
    rows = list(_of_documents(sums, records or {}))
    whole = rows[-1]["after"] if rows else 0
    rows += list(_of_windows(windows, whole, formats or []))
    return pd.DataFrame(rows, columns=["step", "detail", "before", "after"])


def by_domain(documents: pd.DataFrame, windows: pd.DataFrame) -> pd.DataFrame:
    """A row a domain, a column a step: tokens that it takes away, or at a milestone those left."""
    documents, rows = _with_tokens(documents), {}
    names = list(steps(documents, windows)["step"])
    for domain in sorted({*documents["domain"], *windows["domain"]}):
        parts = (frame[frame["domain"] == domain] for frame in (documents, windows))
        mine = steps(*parts).set_index("step")
        lost = mine["before"] - mine["after"]
        rows[domain] = lost.where(~lost.index.isin(MILESTONES), mine["after"])
    return pd.DataFrame(rows).reindex(names).fillna(0.0).T


def _with_tokens(documents: pd.DataFrame) -> pd.DataFrame:
    """The counts, with tokens estimated where they were not counted."""
    counted = documents[documents["tokens"].notna()]
    rate = counted["tokens"].sum() / max(counted["chars"].sum(), 1) or 0.25
    tokens = documents["tokens"].astype(float).fillna(documents["chars"] * rate)
    return documents.assign(tokens=tokens)


def _of_documents(documents: pd.DataFrame, records: Mapping[str, int]) -> Iterator[Step]:
    left, counts = float(documents["tokens"].sum()), documents["documents"]
    detail = plural(counts.sum(), "document")
    if refused := sum(records.values()):
        detail += f"; {plural(refused, 'record')} refused before"
    yield _step("ingested", detail, left, left)
    methods = [method for method in DUPLICATES if method in counts]
    if methods:
        lost = float(documents.loc[methods, "tokens"].sum())
        listed = " and ".join(f"{counts[method]:,} {method}" for method in methods)
        many = plural(counts[methods].sum(), "document").partition(" ")[2]
        yield _step("as duplicates", f"{listed} {many}", left, left - lost)
        left -= lost
    for fate in documents.index.difference([*DUPLICATES, fates.KEPT]):
        lost = float(documents.loc[fate, "tokens"])
        name = f"in documents {str(fate).replace('_', ' ')}"
        yield _step(name, plural(counts[fate], "document"), left, left - lost)
        left -= lost


def _of_windows(windows: pd.DataFrame, whole: float, formats: list[str]) -> Iterator[Step]:
    sums = windows.groupby("fate")[["windows", "tokens", "overlap"]].sum()
    left, overlap = float(sums["tokens"].sum()), float(sums["overlap"].sum())
    if whole - (left - overlap) > 0:
        yield _step("in tails that fill no window", "", whole, left - overlap)
    twice = f"; {short(overlap)} of the tokens stand in two" if overlap else ""
    yield _step("windows", plural(sums["windows"].sum(), "window") + twice, left, left)
    refusals = (fates.CONTAMINATED, fates.NOT_SCORED, fates.NOT_RANKED, fates.BELOW_CUT)
    for fate in (*refusals, fates.NO_ROOM):
        if fate in sums.index:
            lost, count = float(sums["tokens"][fate]), int(sums["windows"][fate])
            yield _step(_PHRASES.get(fate, fate), plural(count, "window"), left, left - lost)
            left -= lost
    chosen = int(sums["windows"].get(fates.IN_MIX, 0))
    exported = f", exported as {', '.join(formats)}" if formats else ""
    yield _step(fates.IN_MIX, plural(chosen, "window") + exported, left, left)


_PHRASES = {
    fates.CONTAMINATED: "as contaminated",
    fates.NOT_SCORED: "as not scored",
    fates.NOT_RANKED: "by select.where, or without a score to rank by",
    fates.NO_ROOM: "for want of room in the mix",
}


def _step(step: str, detail: str, before: float, after: float) -> Step:
    return {"step": step, "detail": detail, "before": before, "after": after}
