"""How well a score tells two sets of windows apart, with intervals over documents."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Places = NDArray[np.int64]

ROUNDS = 2000  # of the bootstrap of wins
REDRAWN = 1000  # rounds of that of any other statistic
LEVEL = 0.95


def redrawn(documents: NDArray[np.str_]) -> Iterator[Places]:
    """Indices of all windows, then those of each draw of documents with replacement.

    `documents` has the document of each window; one that is drawn brings all its windows.
    """
    rng = np.random.default_rng(0)
    names, document_N = np.unique(documents, return_inverse=True)
    windows = [np.flatnonzero(document_N == i) for i in range(len(names))]
    yield np.arange(len(documents))
    for _ in range(REDRAWN):
        yield np.concatenate([windows[i] for i in rng.integers(len(names), size=len(names))])


def bounds(draws: Vector) -> tuple[float, float]:
    """The 95% interval of a statistic; `draws` has its value, then those of the draws.

    Draws without a value do not count; nan where none has one.
    """
    known = draws[1:][~np.isnan(draws[1:])]
    if not len(known):
        return np.nan, np.nan
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def interval(draws: Vector, digits: int = 2) -> str:
    low, high = bounds(draws)
    return f"{draws[0]:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def wins(positive: Vector, negative: Vector) -> Matrix:
    """[i, j]: 1 where positive i scores above negative j, 1/2 where they tie. Its mean is the AUC.

    Both come from the same windows, in one order.
    """
    difference = positive[:, None] - negative
    won: Matrix = (np.sign(difference) + 1) / 2
    return won


def auc_interval(*groups: tuple[Matrix, Sequence[str]]) -> tuple[float, float, float]:
    """The mean of `wins` within each group, their mean, and its 95% bootstrap interval.

    A group is `wins` and the document of each window. Documents are drawn with replacement, each
    with all its windows: windows of one text are alike. Works for differences of wins too.
    """
    found_R = np.mean([_resampled(*group, seed) for seed, group in enumerate(groups)], axis=0)
    low, high = np.quantile(found_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(np.mean([wins_NN.mean() for wins_NN, _ in groups])), float(low), float(high)


def _resampled(wins_NN: Matrix, documents: Sequence[str], seed: int) -> Vector:
    """The mean of `wins` in each round of the bootstrap."""
    names, document_N = np.unique(documents, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=ROUNDS)
    weight_RN = drawn[:, document_N]
    means: Vector = ((weight_RN @ wins_NN) * weight_RN).sum(1) / weight_RN.sum(1) ** 2
    return means


def standardised(values: Vector) -> Vector:
    """(x - mean) / sample standard deviation; 0 where all are equal."""
    spread = values.std(ddof=1)
    return (values - values.mean()) / (spread or np.inf)


def spearman(one: Vector, other: Vector) -> float:
    """Rank correlation; nan where nothing can be ranked."""
    if min(len(np.unique(one)), len(np.unique(other))) < 2:
        return np.nan
    return float(np.corrcoef(pd.Series(one).rank(), pd.Series(other).rank())[0, 1])
