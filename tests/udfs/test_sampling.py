"""Sampled rows: strata, unbiased totals, errors that mean what they say."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from udfs.sampling import estimate, sample_rows


@given(st.integers(8, 3000), st.data())
@settings(max_examples=60, deadline=None)
def test_rows_are_distinct_ascending_and_two_to_a_stratum(length: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, length - 1))
    count = data.draw(st.integers(1, length))
    sample = sample_rows(length, k, count, seed=0)
    assume(sample is not None)
    rows = sample.rows_R.numpy()
    assert (np.diff(rows) > 0).all() and rows[0] >= k and rows[-1] < length
    edges = k + np.concatenate([[0], np.cumsum(sample.stratum_sizes_S.numpy())])
    assert edges[-1] == length
    assert (np.histogram(rows, bins=edges - 0.5)[0] == 2).all()


def test_asking_for_all_rows_is_exact_scoring() -> None:
    assert sample_rows(100, 25, 75, seed=0) is None
    assert sample_rows(100, 25, 10, seed=0) is not None


def test_the_same_arguments_give_the_same_rows_and_other_seeds_others() -> None:
    one, same, other = (sample_rows(1000, 250, 100, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.rows_R, same.rows_R) and not torch.equal(one.rows_R, other.rows_R)


def test_a_stratum_by_hand() -> None:
    sample = sample_rows(12, 2, 2, seed=0)  # one stratum of ten rows
    total, error = estimate(torch.tensor([3.0, 5.0]), sample)
    assert total.item() == 40.0
    # N^2 (1 - n/N) s^2 / n = 100 * 0.8 * 2 / 2
    assert error.item() == pytest.approx(80**0.5)


def test_totals_are_unbiased_and_errors_calibrated() -> None:
    """Over many seeds: the mean is the truth, and two errors cover it about 95 times in 100."""
    length, k = 600, 150
    rows = torch.arange(length, dtype=torch.float64)
    values = torch.sin(rows / 37) + rows / 300 + torch.randn(length, generator=torch.manual_seed(0))
    truth = values[k:].sum()
    found = []
    for seed in range(600):
        sample = sample_rows(length, k, 60, seed)
        found.append(torch.stack(estimate(values[sample.rows_R], sample)))
    totals, errors = torch.stack(found).T
    assert (totals.mean() - truth).abs() < 4 * totals.std() / 600**0.5
    assert errors.square().mean().sqrt() == pytest.approx(totals.std().item(), rel=0.1)
    assert 0.90 < ((totals - truth).abs() < 2 * errors).double().mean() < 0.99


def test_rows_that_agree_have_no_error() -> None:
    sample = sample_rows(100, 20, 20, seed=3)
    total, error = estimate(torch.full((3, len(sample.rows_R)), 0.5), sample)
    assert total.tolist() == [40.0] * 3 and error.tolist() == [0.0] * 3
