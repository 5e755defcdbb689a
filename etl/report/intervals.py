"""How sure the report's figures are: their intervals of 95 %, and how many windows lie near a cut.

Windows count as drawn one by one. Those of one document are alike, so that an interval is too
narrow rather than too wide: where two of them meet, nothing is said.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from longattn.etl.report.style import signed

Z = 1.96  # standard errors of a normal figure, either way, that hold 95 %
NEAR = 0.05  # standard deviations of a score without an error of its own that are near a cut


class Measured(NamedTuple):
    """A figure and how far off it may be, either way."""

    value: float
    error: float

    @property
    def low(self) -> float:
        return self.value - self.error

    @property
    def high(self) -> float:
        return self.value + self.error

    def __str__(self) -> str:
        return f"{signed(self.value)} \u00b1 {self.error:.2f}"


def agreement(windows: pd.DataFrame, one: str, other: str) -> Measured | None:
    """Spearman's rank correlation of two columns within each domain, the mean over domains.

    The error is that of columns that have nothing to do with each other, the widest there is:
    1 / (n - 1) is the variance of n windows. None where a column never varies.
    """
    ranked = [
        (len(rows), rows[one].rank().corr(rows[other].rank()))
        for _, rows in windows.groupby("domain")
        if len(rows) > 2 and rows[one].nunique() > 1 and rows[other].nunique() > 1
    ]
    if not ranked:
        return None
    sizes, correlations = zip(*ranked, strict=True)
    error = Z * math.sqrt(sum(1 / (n - 1) for n in sizes)) / len(sizes)
    return Measured(float(np.mean(correlations)), error)


def share(of_all: float, n: float) -> Measured:
    """A share of n windows, with Agresti and Coull's error: two more are counted on each side."""
    likely = (of_all * n + 2) / (n + 4)
    return Measured(of_all, Z * math.sqrt(likely * (1 - likely) / (n + 4)))


def median(values: pd.Series) -> tuple[float, float, float]:
    """The median, and the two values of the sample between which that of all lies, whatever their
    distribution; infinite where the sample is too small to say.
    """
    ordered = np.sort(values.dropna().to_numpy(float))
    n, reach = len(ordered), Z * math.sqrt(len(ordered)) / 2
    first, last = math.floor(n / 2 - reach) - 1, math.ceil(n / 2 + reach)
    low = ordered[first] if first >= 0 else -math.inf
    high = ordered[last] if last < n else math.inf
    return float(np.median(ordered)), float(low), float(high)


class Firmness(NamedTuple):
    """How many windows of a domain an error would carry over its cut."""

    domain: str
    cut: float
    selected: int
    inside: int  # of these, near the cut
    outside: int  # near it and not selected


def firmness(windows: pd.DataFrame, cuts: Mapping[str, float]) -> list[Firmness]:
    """Windows (domain, value, error) as near their cut as an error of the score, or NEAR of the
    domain's standard deviation where the score has none: a share of the score itself would depend
    on where its zero lies.
    """
    rows = []
    for domain, cut in sorted(cuts.items()):
        mine = windows[windows["domain"] == domain]
        above = mine["value"] >= cut
        reach = mine["error"].where(mine["error"] > 0, NEAR * mine["value"].std())
        near = (mine["value"] - cut).abs() <= reach
        counts = (int(one.sum()) for one in (above, above & near, near & ~above))
        rows.append(Firmness(domain, cut, *counts))
    return rows


def firmness_finding(rows: list[Firmness]) -> str:
    """What the table says, in a sentence."""
    inside, selected = sum(row.inside for row in rows), sum(row.selected for row in rows)
    part = f"{inside:,} of {selected:,} windows above the cut"
    percent = f"{100 * inside / max(selected, 1):.0f} %"
    return f"{part} ({percent}) lie so near it that a small error moves them"
