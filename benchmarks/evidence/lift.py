"""What a selection gains: the judge's mean score of the windows that a scorer would keep.

Of each domain the best fraction is kept by a scorer. Its lift is the share that it has of what the
judge's own choice adds to windows at random: the judge has 1, a choice that knows nothing 0.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.evidence.filters import Band, cohesion, ratio
from benchmarks.evidence.intervals import interval, redrawn
from benchmarks.evidence.markdown import head, row
from benchmarks.evidence.scores import by_domain
from longattn.udfs.scorers.kinds.calibrated import lift

Vector = NDArray[np.float64]

RANKS_BY = "recall"
FILTERED = {  # the first one is the advice of docs/evidence.md
    "recall, cohesion from 10": cohesion(10),
    "recall, cohesion from 20": cohesion(20),
    "recall, ratio 5 to 95": ratio(5, 95),
    "recall, ratio 20 to 80": ratio(20, 80),
}


def lift_table(scores: pd.DataFrame, fraction: float) -> Iterator[str]:
    yield from head(
        "kept by", "domains", "windows", "mean score of the kept, over that of all", "lift"
    )
    narrowed = [filtered(scores, name, band) for name, band in FILTERED.items()]
    for scorer, rows in pd.concat([scores, *narrowed]).groupby("scorer", sort=False):
        groups = by_domain(rows)
        if groups:
            draws = np.mean([lifts(some, fraction) for some in groups], axis=0)
            counts = str(len(groups)), str(sum(map(len, groups)))
            yield row(str(scorer), *counts, f"{times(groups, fraction):.2f}", interval(draws))


def filtered(scores: pd.DataFrame, name: str, band: Band) -> pd.DataFrame:
    """Windows by recall, as a scorer of that name; last, where a filter refuses them."""
    ranked = scores[scores.scorer == RANKS_BY]
    refused = ~ranked.file.isin(passed(scores, band))
    return ranked.assign(scorer=name, ds=ranked.ds.mask(refused, -np.inf))


def passed(scores: pd.DataFrame, band: Band) -> "pd.Series[str]":
    """Files of the windows inside a band, by percentiles as `select` has them."""
    rows = scores[scores.scorer == band.scorer]
    percentile = 100 * rows.groupby("domain")[band.column].rank(method="first", pct=True)
    return rows.file[percentile.gt(band.low) & percentile.le(band.high)]


def lifts(rows: pd.DataFrame, fraction: float) -> Vector:
    """The lift in a domain, then that of each draw of its documents."""
    ds, truth = rows.ds.to_numpy(), rows.truth.to_numpy()
    drawn = redrawn(rows.document.to_numpy(dtype=str))
    return np.array([lift_of(ds[index], truth[index], fraction) for index in drawn])


def lift_of(ds: Vector, truth: Vector, fraction: float) -> float:
    return lift(truth, top(ds, fraction), top(truth, fraction))


def times(groups: list[pd.DataFrame], fraction: float) -> float:
    """The mean score of what is kept over that of all windows, each a mean over domains."""
    kept = [group.truth.to_numpy()[top(group.ds.to_numpy(), fraction)].mean() for group in groups]
    return float(np.mean(kept) / np.mean([group.truth.mean() for group in groups]))


def top(values: Vector, fraction: float) -> NDArray[np.int64]:
    """Places of the highest ones; one at least."""
    count = max(1, round(fraction * len(values)))
    return np.argsort(-values, kind="stable")[:count]
