"""Lexical cohesion: nearer parts of a text share more rare words than farther ones. No model.

A window is cut into n cells of C tokens. Cells i and j are alike by the cosine of their sets of
tokens, weighted by rarity within the window:

    a_ij = sum over tokens t in both of w_t^2 / (|i| |j|),   w_t = log(n / cells that hold t)

Pairs more alike than COPY are copies of each other: they tell of repetition, not of a topic, and
count as average. Let A be a_ij less the mean over the other pairs, 0 for copies and for i = j. With
d = C |i - j| the distance of two cells, and k the minimum distance that counts,

    T = sum over d_ij >= k of A_ij W_ij,   W_ij = mean(log d) - log d_ij

is large where likeness falls off with distance beyond k. DS is T in units of its standard deviation
over all n! orders of the same cells, whose mean is 0; `order_variance` has it in closed form
(Mantel 1967). So DS does not depend on which tokens there are, only on their order: about standard
normal for random tokens and for paragraphs much shorter than k in random order. DU is minus the
share of copies among the pairs that count.

The idea is the lexical cohesion of Halliday and Hasan (1976), which TextTiling (Hearst 1997) cuts
texts by. What it tells apart and what it does not: docs/evidence.md.
"""

from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from longattn.udfs.scorers.base import Score, ScorerSpec, TokenIds, one_head

CELL = 64  # tokens; about a paragraph
COPY = 0.5  # cosine; above, two cells have more than half of their weight in common
TOGETHER = 1 << 26  # numbers in memory at a time, of cells by kinds of tokens: 0.5 GB

Matrix = NDArray[np.float64]


def cohesion_version(spec: ScorerSpec) -> str:
    return f"cohesion:cell={CELL}:copy={COPY:g}:k={spec.k or 'L/16'}"


class Cohesion:
    """Scores windows by the decay of lexical cohesion with distance."""

    def __init__(self, spec: ScorerSpec) -> None:
        self.version = cohesion_version(spec)
        self.spec = spec

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        """Reason and detail for a window with no two distances to compare."""
        if len(token_ids) == 0:
            return "empty", "no tokens"
        k = self.k_of(len(token_ids))
        if len(token_ids) // CELL < max(4, 2 + -(-k // CELL)):
            return "too_short", f"{len(token_ids)} tokens in cells of {CELL}; k is {k}"
        return None

    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        return [self._score_one(ids) for ids in token_ids]

    def k_of(self, length: int) -> int:
        """The minimum distance: a sixteenth of the window, where the settings name none."""
        return self.spec.k or length // 16

    def _score_one(self, token_ids: TokenIds) -> Score:
        length = len(token_ids)
        k = self.k_of(length)
        z, copies = cohesion(token_ids, k)
        return one_head(length, k, ds=z, du=-copies)


def cohesion(token_ids: TokenIds, k: int) -> tuple[float, float]:
    """DS of one window, and the share of copies; the tail shorter than a cell is left out."""
    likeness_NN = affinity(token_ids)
    weight_NN = distance_weights(len(likeness_NN), k)
    copies_NN = likeness_NN > COPY
    centred_NN = _centred(likeness_NN, copies_NN)
    variance = order_variance(centred_NN, weight_NN)
    total = float((centred_NN * weight_NN).sum())
    # Below, all cells are equally alike, and what is left is rounding.
    z = total / float(np.sqrt(variance)) if variance > 1e-12 else 0.0
    return z, float(copies_NN[weight_NN != 0].mean())


def affinity(token_ids: TokenIds) -> Matrix:
    """Cosines of the cells' token sets, weighted by rarity: [N, N] in 0 to 1."""
    count = len(token_ids) // CELL
    _, token = np.unique(token_ids[: count * CELL], return_inverse=True)
    weighted = lru_cache(1)(partial(_weighted, token, count))  # what fits at once is made once
    square_N, similar_NN = np.zeros(count), np.zeros((count, count))
    firsts = range(0, token.max() + 1, TOGETHER // count)
    for first in firsts:
        square_N += (weighted(first) * weighted(first)).sum(1)
    # A cell whose every token is in all cells has no words of its own: it is like none.
    norm_N1 = np.sqrt(np.where(square_N > 0, square_N, 1))[:, None]
    for first in firsts:
        vector_NV = weighted(first) / norm_N1
        similar_NN += vector_NV @ vector_NV.T
    return similar_NN


def _weighted(token: NDArray[np.int64], count: int, first: int) -> Matrix:
    """The cells' token sets, weighted by rarity, of TOGETHER / N kinds of tokens from one on."""
    size = min(TOGETHER // count, token.max() + 1 - first)
    mine = np.flatnonzero((token >= first) & (token < first + size))
    holds_NV = np.zeros((count, size))
    holds_NV[mine // CELL, token[mine] - first] = 1
    weighted_NV: Matrix = holds_NV * np.log(count / holds_NV.sum(0))
    return weighted_NV


def distance_weights(count: int, k: int) -> Matrix:
    """W [N, N]: sums to 0, falls with the logarithm of the distance, 0 below the distance k."""
    cell_N = np.arange(count)
    distance_NN = CELL * np.abs(cell_N[:, None] - cell_N)
    far_NN = distance_NN >= max(k, CELL)
    weight_NN = -np.log(np.maximum(distance_NN, CELL))
    weight_NN -= weight_NN[far_NN].mean()
    return np.where(far_NN, weight_NN, 0.0)


def order_variance(a_NN: Matrix, w_NN: Matrix) -> float:
    """Variance of sum_ij a_ij w_ij over all orders of the rows and columns of a, done together.

    Both are symmetric with a diagonal of 0 and a sum of 0, and N >= 4. The square of the sum is a
    sum over two pairs of cells, which are the same pair, share one cell or share none; in a random
    order each kind takes its own mean.
    """
    n = len(a_NN)
    same_a, same_w = (2 * float((x * x).sum()) for x in (a_NN, w_NN))
    rows_a, rows_w = (4 * float((x.sum(1) ** 2).sum()) for x in (a_NN, w_NN))
    one_a, one_w = rows_a - 2 * same_a, rows_w - 2 * same_w
    none_a, none_w = same_a - rows_a, same_w - rows_w
    pairs = n * (n - 1)
    return (
        same_a * same_w / 2 + one_a * one_w / (4 * (n - 2)) + none_a * none_w / ((n - 2) * (n - 3))
    ) / pairs


def _centred(likeness_NN: Matrix, copies_NN: NDArray[np.bool_]) -> Matrix:
    """Likeness less its mean; 0 for copies and for a cell with itself."""
    counted_NN = ~copies_NN
    np.fill_diagonal(counted_NN, False)
    if not counted_NN.any():
        return np.zeros_like(likeness_NN)
    return np.where(counted_NN, likeness_NN - likeness_NN[counted_NN].mean(), 0.0)
