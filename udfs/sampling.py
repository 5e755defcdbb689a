"""Sampled scoring: a few query rows of a window, chosen in strata, and what they say of all rows.

Rows below k have no far block. The others are cut into strata of neighbouring rows, two rows are
drawn from each, and a stratum's total is estimated by its size times the mean of its two: unbiased,
and the difference of the two gives a standard error (stratified sampling without replacement).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

ROWS_PER_STRATUM = 2  # the fewest that show a spread


@dataclass(frozen=True)
class RowSample:
    """Rows to score and the strata they stand for."""

    rows_R: Tensor  # int64, ascending
    stratum_sizes_S: Tensor  # float64: rows that each stratum stands for; S = R / 2


def sample_rows(length: int, k: int, count: int, seed: int) -> RowSample | None:
    """Draw about `count` of the rows k .. length - 1; None where that would be all of them.

    The same rows for the same arguments: windows of one length share them, so that their scores
    differ by what they hold and not by which rows were drawn.
    """
    strata = max(count // ROWS_PER_STRATUM, 1)
    if max(count, strata * ROWS_PER_STRATUM) >= length - k:
        return None
    edges_E = np.linspace(k, length, strata + 1).round().astype(np.int64)
    generator = np.random.default_rng([seed, length, k, count])
    drawn = [
        start + np.sort(generator.choice(stop - start, ROWS_PER_STRATUM, replace=False))
        for start, stop in pairwise(edges_E)
    ]
    sizes_S = torch.from_numpy(np.diff(edges_E)).double()
    return RowSample(torch.from_numpy(np.concatenate(drawn)), sizes_S)


def estimate(values_R: Tensor, sample: RowSample) -> tuple[Tensor, Tensor]:
    """Estimate the sum over all rows from values of the sampled ones; [..., R] -> [...], [...].

    Returns the total and its standard error: the root of the sum over strata of
    N^2 (1 - n / N) s^2 / n, with n = 2 rows drawn of N and s their sample standard deviation.
    """
    sizes_S = sample.stratum_sizes_S.to(values_R.device)
    pairs_S2 = values_R.double().reshape(*values_R.shape[:-1], -1, ROWS_PER_STRATUM)
    total = (sizes_S * pairs_S2.mean(-1)).sum(-1)
    left_out_S = 1 - ROWS_PER_STRATUM / sizes_S
    variance = (sizes_S.square() * left_out_S * pairs_S2.var(-1) / ROWS_PER_STRATUM).sum(-1)
    return total, variance.sqrt()
