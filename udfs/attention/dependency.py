"""What is measured: the far block of an attention matrix, its sums, and DS and DU from them.

Shapes: B windows, H query heads, G key heads (H % G == 0), L tokens, D head dimension, R query
rows.

The far block of a causal L x L attention matrix M at minimum distance k holds M[n, i] with
i <= n - k. For L = 6 and k = 3 (F far, . near, blank masked):

        i 0 1 2 3 4 5
    n 0   .
      1   . .
      2   . . .
      3   F . . .
      4   F F . . .
      5   F F F . . .

S1 is the sum of the far block and S2 the sum of its squares, per head. Every published variant of
the score follows from the two (LongAttn, arXiv 2502.16860, eq. 5-7).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypedDict

import torch
from torch import Tensor

from longattn.udfs.attention.formula import strength, variance

Support = Literal["matrix", "block"]
LOG2_E = math.log2(math.e)


class ScoreOptions(TypedDict, total=False):
    """What a model's scores are beside q k; None is as if it were not given."""

    scale: float | None  # D**-0.5 by default
    softcap: float | None  # caps scores as Gemma 2 does
    sliding_window: int | None  # a query sees this many keys, itself included, as Mistral's


class FarOptions(ScoreOptions, total=False):
    """And which rows are looked at."""

    rows: Tensor | None  # int64, sorted; all by default
    keep_rows: bool  # whether the statistics of every row are kept


@dataclass(frozen=True)
class FarStatistics:
    """Sums over the far block, float64; rows only when asked for with keep_rows."""

    s1_BH: Tensor
    s2_BH: Tensor
    row_mass_BHR: Tensor | None = None  # far mass of each query row
    row_square_BHR: Tensor | None = None  # sum of squares of each query row's far part


def dependency(
    s1_H: Tensor, s2_H: Tensor, length: int, k: int, support: Support = "matrix"
) -> tuple[Tensor, Tensor]:
    """DS and DU per head from the sums of the far block; see `formula`.

    Over the L * L entries of the "matrix" (the published code) or the (L - k)^2 of the "block".
    """
    entries = length * length if support == "matrix" else (length - k) ** 2
    return strength(s1_H, length), -variance(s1_H, s2_H, entries, max(entries - 1, 1))


def spans(start: int, stop: int, size: int) -> Iterator[slice]:
    """Slices of `size` from start to stop, the last one shorter."""
    for begin in range(start, stop, size):
        yield slice(begin, min(begin + size, stop))


def query_rows(q_BHLD: Tensor, rows: Tensor | None) -> Tensor:
    """Positions of the query rows asked for; all of them when none are named."""
    if rows is not None:
        return rows.to(q_BHLD.device)
    return torch.arange(q_BHLD.shape[2], device=q_BHLD.device)


def masked(distance: Tensor, sliding_window: int | None) -> Tensor:
    """True where a query does not see a key: later ones, and those past a sliding window."""
    future = distance < 0
    return future if sliding_window is None else future | (distance >= sliding_window)


def score_scale(q_BHLD: Tensor, scale: float | None) -> float:
    """What scores are multiplied by: the model's scale, else one over the root of D."""
    return float(q_BHLD.shape[-1] ** -0.5) if scale is None else scale


def sums(mass_BHR: Tensor, square_BHR: Tensor, keep_rows: bool) -> FarStatistics:
    """Add up the rows, and keep them when asked to."""
    rows = (mass_BHR, square_BHR) if keep_rows else (None, None)
    return FarStatistics(mass_BHR.sum(-1), square_BHR.sum(-1), *rows)
