"""All scorers of a root side by side: how they agree, and what is known of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from longattn.etl.report.intervals import Measured, agreement
from longattn.etl.report.style import signed
from longattn.udfs.scorers.identity import ScorerId
from longattn.udfs.scorers.meaning import Meaning, meaning_of

JUDGE = "fargain"  # what the others are judged by, where it has been run


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """One row of the table: a scorer of the root next to the one selected by."""

    version: str
    meaning: Meaning
    own: bool  # whether the selection was made by it
    control: bool  # random numbers: what chance looks like
    windows: int
    agreement: Measured | None  # Spearman within domains with the score selected by
    judged: Measured | None  # the same with the far gain
    common: float  # share of the selection that it chooses too
    seconds: float  # a window, as its jobs ran; nan where none did


def ranked(points: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Points (window_id, domain, scorer, ds, du) with `value`, what each scorer ranks by.

    That is DS; for LongAttn DS + alpha DU, each standardised within its domain.
    """
    z_ds, z_du = (_standardised(points, column) for column in ("ds", "du"))
    by_lds = points["scorer"].str.startswith("longattn:")
    return points.assign(value=np.where(by_lds, z_ds + alpha * z_du, points["ds"]))


def chosen(points: pd.DataFrame, sizes: pd.Series) -> pd.Series:
    """True for the best windows of each scorer and domain, as many as `sizes` has of the domain."""
    places = points.groupby(["scorer", "domain"])["value"].rank(ascending=False, method="first")
    return places <= points["domain"].map(sizes).fillna(0)


def side_by_side(
    points: pd.DataFrame,
    own: str,
    meaning: Meaning,
    selected: set[str],
    seconds: Mapping[str, float],
) -> list[Scorer]:
    """A row per scorer, the one selected by first, or what else was; that has this meaning.

    `points`: window_id, domain, scorer, value, selected; `selected`: the selection's windows;
    `seconds`: a window, by the scorer's name.
    """
    wide = points.pivot_table(index=["window_id", "domain"], columns="scorer", values="value")
    others = sorted(set(points["scorer"]) - {own})
    wide = wide.reindex(columns=[own, *others]).reset_index()  # own has none where all are packed
    judge = next((s for s in (own, *others) if s.startswith(f"{JUDGE}:")), None)
    return [
        Scorer(
            version=scorer,
            meaning=meaning if scorer == own else meaning_of(scorer),
            own=scorer == own,
            control=scorer.startswith("random:"),
            windows=int(wide[scorer].notna().sum()),
            agreement=_agreement(wide, scorer, own),
            judged=_agreement(wide, scorer, judge),
            common=len(selected & _chosen_by(points, scorer)) / max(len(selected), 1),
            seconds=seconds.get(ScorerId.of(scorer).name, float("nan")),
        )
        for scorer in (own, *others)
    ]


def finding(rows: Sequence[Scorer]) -> str:
    """What the table says, in a sentence: who agrees most and least, where that is sure."""
    own, name = rows[0], rows[0].meaning.name
    known = sorted((r.agreement, r.meaning.name) for r in rows[1:] if r.agreement and not r.control)
    if not known:
        return f"Only {name} was asked: nothing here says whether it can be trusted"
    (least, worst), (most, best) = known[0], known[-1]
    said = f"{name} agrees most with {best} ({most}), least with {worst} ({least})"
    if len(known) == 1:
        said = f"{name} and {best} agree at {most}"
    elif least.high >= most.low:
        ends = f"{signed(least.value)} to {signed(most.value)}"
        said = f"{name} agrees with {len(known)} other scorers at {ends}, with none surely most"
    judged = "" if own.judged is None else f"; with the far gain at {own.judged}"
    return said[:1].upper() + said[1:] + judged


def _agreement(wide: pd.DataFrame, scorer: str, other: str | None) -> Measured | None:
    if other is None or scorer == other:
        return None
    return agreement(wide[["domain", scorer, other]].dropna(), scorer, other)


def _chosen_by(points: pd.DataFrame, scorer: str) -> set[str]:
    return set(points.loc[(points["scorer"] == scorer) & points["selected"], "window_id"])


def _standardised(points: pd.DataFrame, column: str) -> pd.Series:
    groups = points.groupby(["scorer", "domain"])[column]
    unit = groups.transform("std").replace(0, np.nan)
    scaled: pd.Series = ((points[column] - groups.transform("mean")) / unit).fillna(0.0)
    return scaled
