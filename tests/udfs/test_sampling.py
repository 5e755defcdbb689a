"""Sampled rows: strata, unbiased totals, errors that mean what they say."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from longattn.udfs.attention.dependency import dependency
from longattn.udfs.attention.reference import far_statistics_reference
from longattn.udfs.attention.sampled import (
    estimate,
    far_statistics_sampled,
    rows_to_sample,
    sample_rows,
)


@given(st.integers(8, 3000), st.data())
@settings(max_examples=60, deadline=None)
def test_rows_are_distinct_and_two_to_a_stratum(n_far: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, 5000))
    count = data.draw(st.integers(2, n_far)) // 2 * 2
    spread = data.draw(st.sampled_from([0.0, 1.0, 5.0]))
    sizes_N = torch.randn(n_far, generator=torch.manual_seed(n_far)).mul(spread).exp()
    sample = sample_rows(sizes_N, k, count, (0,))
    rows = sample.rows_R.tolist()
    assert len(set(rows)) == len(rows) == count == 2 * len(sample.stratum_sizes_S)
    assert min(rows) >= k and max(rows) < k + n_far
    assert sample.stratum_sizes_S.min() >= 2 and sample.stratum_sizes_S.sum() == n_far


@pytest.mark.parametrize("seed", [-1, -(1 << 63), (1 << 63) - 1])
def test_any_seed_of_a_config_draws(seed: int) -> None:
    one, other = (sample_rows(torch.ones(100), 7, 10, (seed, 0)).rows_R for _ in range(2))
    assert torch.equal(one, other) and len(one.unique()) == 10


def test_every_row_is_drawn_where_all_are_asked_for() -> None:
    sample = sample_rows(torch.rand(100), 7, 100, (0,))
    assert sorted(sample.rows_R.tolist()) == list(range(7, 107))


def test_asking_for_all_rows_is_exact_scoring() -> None:
    assert rows_to_sample(None, 75) is None
    assert rows_to_sample(75, 75) is None
    assert rows_to_sample(11, 75) == 10
    assert rows_to_sample(1, 75) == 2
    assert rows_to_sample(1, 2) is None


def test_large_rows_are_drawn_oftener() -> None:
    sizes_N = torch.cat([torch.full((900,), 0.1), torch.full((100,), 10.0)])
    rows_R = sample_rows(sizes_N, 0, 100, (0,)).rows_R
    assert 60 <= int((rows_R >= 900).sum()) <= 100


def test_strata_of_rows_alike_are_neighbours() -> None:
    sample = sample_rows(torch.zeros(50), 3, 10, (0,))
    assert sample.stratum_sizes_S.tolist() == [10.0] * 5
    assert ((sample.rows_R - 3) // 10).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_the_same_arguments_give_the_same_rows_and_other_seeds_others() -> None:
    sizes_N = torch.rand(750)
    one, same, other = (sample_rows(sizes_N, 250, 100, (seed,)) for seed in (1, 1, 2))
    assert torch.equal(one.rows_R, same.rows_R) and not torch.equal(one.rows_R, other.rows_R)


def test_a_stratum_by_hand() -> None:
    sample = sample_rows(torch.ones(10), 2, 2, (0,))  # one stratum of ten rows
    total, error = estimate(torch.tensor([3.0, 5.0]), sample)
    assert total.item() == 40.0
    # N^2 (1 - n/N) s^2 / n = 100 * 0.8 * 2 / 2
    assert error.item() == pytest.approx(80**0.5)


def test_totals_are_unbiased_and_errors_calibrated() -> None:
    """Over many seeds: the mean is the truth, and two errors cover it about 95 times in 100."""
    rows = torch.arange(450, dtype=torch.float64)
    values = torch.sin(rows / 37) + rows / 300 + torch.randn(450, generator=torch.manual_seed(0))
    sizes_N = 1 + torch.rand(450, generator=torch.manual_seed(1))
    found = []
    for seed in range(600):
        sample = sample_rows(sizes_N, 0, 60, (seed,))
        found.append(torch.stack(estimate(values[sample.rows_R], sample)))
    totals, errors = torch.stack(found).T
    assert (totals.mean() - values.sum()).abs() < 4 * totals.std() / 600**0.5
    assert errors.square().mean().sqrt() == pytest.approx(totals.std().item(), rel=0.1)
    assert 0.90 < ((totals - values.sum()).abs() < 2 * errors).double().mean() < 0.99


def test_rows_that_agree_have_no_error() -> None:
    sample = sample_rows(torch.rand(80), 20, 20, (3,))
    total, error = estimate(torch.full((3, len(sample.rows_R)), 0.5), sample)
    assert total.tolist() == pytest.approx([40.0] * 3) and error.tolist() == [0.0] * 3


def attention_inputs(length: int) -> tuple[Tensor, Tensor]:
    """Peaked attention, with a few keys that most rows attend to, as models have it."""
    generator = torch.manual_seed(length)
    q_BHLD = torch.randn(2, 4, length, 16, generator=generator)
    k_BGLD = torch.randn(2, 2, length, 16, generator=generator)
    q_BHLD[..., 0] += 2.0
    k_BGLD[:, :, torch.randperm(length, generator=generator)[: length // 50], 0] += 6.0
    return q_BHLD, k_BGLD


@pytest.mark.parametrize(
    "options",
    [{}, {"n_keys": 0}, {"softcap": 8.0}, {"sliding_window": 250}],
    ids=["plain", "no keys", "softcap", "sliding"],
)
def test_sampled_statistics_are_unbiased_with_the_error_they_say(options: dict[str, Any]) -> None:
    """Against the definition: DS and DU of each window of a batch, over many seeds."""
    length, k, seeds = 420, 105, 150
    n_keys = options.pop("n_keys", 48)
    q_BHLD, k_BGLD = attention_inputs(length)
    exact = far_statistics_reference(q_BHLD.double(), k_BGLD.double(), k=k, **options)
    truth_2BH = torch.stack(dependency(exact.s1_BH, exact.s2_BH, length, k))
    found, errors = [], []
    for seed in range(seeds):
        some = far_statistics_sampled(
            q_BHLD, k_BGLD, k=k, n_rows=40, n_keys=n_keys, seed=(seed,), **options
        )
        found.append(torch.stack(dependency(some.s1_BH, some.s2_BH, length, k)).mean(-1))
        errors.append(torch.stack([some.ds_se_B, some.du_se_B]))
    spread_2B = torch.stack(found).std(0)
    bias_2B = (torch.stack(found).mean(0) - truth_2BH.mean(-1)).abs()
    assert (bias_2B < 4 * spread_2B / seeds**0.5).all()
    stated_2B = torch.stack(errors).square().mean(0).sqrt()
    assert ((stated_2B / spread_2B - 1).abs() < 0.25).all()


def test_the_coarse_estimate_takes_error_away() -> None:
    """The same rows with no keys to estimate the others by err more."""
    length, k = 420, 105
    q_BHLD, k_BGLD = attention_inputs(length)
    with_keys, without = (
        far_statistics_sampled(q_BHLD, k_BGLD, k=k, n_rows=40, n_keys=n_keys) for n_keys in (96, 0)
    )
    assert (with_keys.ds_se_B < without.ds_se_B / 1.5).all()
    assert (with_keys.du_se_B < without.du_se_B / 1.5).all()
