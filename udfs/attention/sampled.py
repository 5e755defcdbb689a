"""Sampled scoring: every row estimated cheaply, a few rows exactly, and what that says of all.

`coarse` gives an estimate of every row. Rows are drawn in strata of rows alike, few where the
estimate is small and many where it is large; their exact statistics show what the estimate misses.
A stratum's total of that is its size times the mean of two rows drawn of it: added to the estimate
it is unbiased, whatever the estimate, and the difference of the two gives a standard error
(difference estimator over a stratified sample, Cochran, "Sampling Techniques", chapters 5 and 7).

Shapes: B windows, H query heads, G key heads, L tokens, D head dimension, R rows drawn, N rows from
k on, S strata, R = 2 S.
"""

from dataclasses import dataclass
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from longattn.udfs.attention.coarse import coarse_statistics
from longattn.udfs.attention.dependency import ScoreOptions
from longattn.udfs.attention.dispatch import far_statistics

ROWS_PER_STRATUM = 2  # the fewest that show a spread
CLASSES = 16  # of rows by size; strata lie within one, their rows near each other
EVEN = 0.1  # of the mean size, that every row has at least


@dataclass(frozen=True)
class RowSample:
    """Rows to score and the strata they stand for."""

    rows_R: Tensor  # int64, those of a stratum together
    stratum_sizes_S: Tensor  # float64: rows that each stratum stands for


@dataclass(frozen=True)
class SampledStatistics:
    """Estimates of S1 and S2, and the standard errors of DS and DU, means over the heads given.

    All heads see the same rows, so an error is that of the heads' mean, not a mean of errors.
    """

    s1_BH: Tensor
    s2_BH: Tensor
    ds_se_B: Tensor
    du_se_B: Tensor


def far_statistics_sampled(
    q_BHLD: Tensor,
    k_BGLD: Tensor,
    *,
    k: int,
    n_rows: int,
    n_keys: int,
    seed: tuple[int, ...] = (0,),
    **options: Unpack[ScoreOptions],
) -> SampledStatistics:
    """Estimate udfs.attention.dispatch.far_statistics from `n_rows` exact rows of each window.

    `n_keys` are drawn for the estimate of the others (see `coarse`); with none, strata are of
    neighbours. `n_rows` is even and no more than the L - k rows that have a far block.
    """
    nothing_BHL = q_BHLD.new_zeros(q_BHLD.shape[:3], dtype=torch.float64)
    mass_BHL, square_BHL = nothing_BHL, nothing_BHL
    if n_keys:
        mass_BHL, square_BHL = coarse_statistics(q_BHLD, k_BGLD, k=k, n_keys=n_keys, **options)
    estimates = []
    for window, (mass_HL, square_HL) in enumerate(zip(mass_BHL, square_BHL, strict=True)):
        sample = sample_rows(square_HL.sum(0)[k:], k, n_rows, seed)
        one = slice(window, window + 1)
        rows_R, order_R = sample.rows_R.to(q_BHLD.device).sort()
        exact = far_statistics(
            q_BHLD[one], k_BGLD[one], k=k, rows=rows_R, keep_rows=True, **options
        )
        assert exact.row_mass_BHR is not None and exact.row_square_BHR is not None
        place_R = order_R.argsort()
        estimates.append(
            _estimated(
                (mass_HL.double(), square_HL.double()),
                (exact.row_mass_BHR[0, :, place_R], exact.row_square_BHR[0, :, place_R]),
                sample,
            )
        )
    return SampledStatistics(*(torch.stack(parts) for parts in zip(*estimates, strict=True)))


def rows_to_sample(asked: int | None, n_far: int) -> int | None:
    """How many of `n_far` rows to draw where so many are asked for; None means all of them.

    An even number, as there are two to a stratum.
    """
    strata = max((asked or n_far) // ROWS_PER_STRATUM, 1)
    count = strata * ROWS_PER_STRATUM
    return None if max(asked or n_far, count) >= n_far else count


def sample_rows(size_N: Tensor, k: int, count: int, seed: tuple[int, ...]) -> RowSample:
    """Draw `count` of the rows k .. k + N - 1, two of each stratum; `count` even, at most N.

    Strata are of about equal sums of sizes, so that a row's chance is in proportion to its size.
    The same rows for the same arguments.
    """
    sizes_N = size_N.double().cpu().numpy()
    sizes_N = sizes_N + EVEN * sizes_N.mean() + np.finfo(np.float64).tiny
    order_N, edges_E = _strata(sizes_N, count // ROWS_PER_STRATUM)
    members_S = np.diff(edges_E)
    words = [number % (1 << 64) for number in (*seed, len(sizes_N), k, count)]  # none below 0
    generator = np.random.default_rng(words)
    one_S = generator.integers(0, members_S)
    other_S = generator.integers(0, members_S - 1)
    other_S += other_S >= one_S
    rows_S2 = k + order_N[edges_E[:-1, None] + np.stack([one_S, other_S], axis=1)]
    return RowSample(
        torch.from_numpy(rows_S2.reshape(-1)), torch.from_numpy(members_S.astype(np.float64))
    )


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


def _strata(sizes_N: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """An order of the rows, and where strata begin and end in it: two rows or more in each.

    Rows are ordered by their class of size, and by place within it.
    """
    rising_N = np.argsort(sizes_N, kind="stable")
    below_N = np.cumsum(sizes_N[rising_N]) / sizes_N.sum()
    class_N = np.empty(len(sizes_N), np.int64)
    class_N[rising_N] = np.minimum(below_N * CLASSES, CLASSES - 1)
    order_N = np.argsort(class_N, kind="stable")
    share_N = np.cumsum(sizes_N[order_N]) / sizes_N.sum()
    least_E = ROWS_PER_STRATUM * np.arange(count + 1)
    shares_E = np.arange(count + 1) / count * (1 + 1e-12)  # a row that just fits is in
    edges_E = np.searchsorted(share_N, shares_E, side="right")
    edges_E[[0, -1]] = 0, len(sizes_N)
    edges_E = np.maximum.accumulate(edges_E - least_E) + least_E
    return order_N, np.minimum(edges_E, len(sizes_N) - least_E[::-1])


def _estimated(
    coarse_HL: tuple[Tensor, Tensor], exact_HR: tuple[Tensor, Tensor], sample: RowSample
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One window's S1 and S2 per head, and the standard errors of DS and DU.

    DU holds S1 squared: its error is taken along the tangent at the estimate.
    """
    length = coarse_HL[0].shape[1]
    missed_HR = [
        exact - coarse[:, sample.rows_R] for exact, coarse in zip(exact_HR, coarse_HL, strict=True)
    ]
    s1_H, s2_H = (
        coarse.sum(-1) + estimate(missed, sample)[0]
        for coarse, missed in zip(coarse_HL, missed_HR, strict=True)
    )
    entries = length * length
    tangent_HR = missed_HR[1] - 2 * s1_H[:, None] / entries * missed_HR[0]
    _, ds_se = estimate(missed_HR[0].mean(0) / length, sample)
    _, du_se = estimate(tangent_HR.mean(0) / (entries - 1), sample)
    return s1_H, s2_H, ds_se, du_se
