"""The coarse map against the whole attention matrix."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from longattn.udfs.attention.reference import far_statistics_reference
from longattn.udfs.models.prefix import AttentionCall
from longattn.udfs.pictures.attention_map import by_cell, far_rows

OPTIONS = [{}, {"softcap": 5.0}, {"sliding_window": 20}, {"scale": 0.3}]


def call(q_BHLD: torch.Tensor, k_BGLD: torch.Tensor, **options: Any) -> AttentionCall:
    settings = {"scale": None, "softcap": None, "sliding_window": None} | options
    return AttentionCall(layer=0, q_BHLD=q_BHLD, k_BGLD=k_BGLD, eager=None, mask=None, **settings)


@pytest.mark.parametrize("options", OPTIONS)
def test_rows_are_those_of_the_definition(options: dict[str, float]) -> None:
    torch.manual_seed(0)
    q_BHLD, k_BGLD = torch.randn(1, 4, 30, 8), torch.randn(1, 2, 30, 8)
    kept = far_statistics_reference(q_BHLD, k_BGLD, k=7, keep_rows=True, **options)
    rows_R = torch.tensor([3, 8, 21, 28])
    far_RN = far_rows(call(q_BHLD, k_BGLD, **options), rows_R, 7)
    expected_R = kept.row_mass_BHR[0].mean(0)[rows_R]
    assert far_RN.shape == (4, 29)
    np.testing.assert_allclose(far_RN.sum(1), expected_R, rtol=1e-5, atol=1e-8)


def test_uniform_attention_by_hand() -> None:
    """Equal scores: query n gives 1 / (n + 1) to each key; k = 2."""
    uniform = partial(torch.zeros, 1, 1, 4, 2)
    far_RN = far_rows(call(uniform(), uniform()), torch.tensor([2, 3]), 2)
    np.testing.assert_allclose(far_RN, [[1 / 3, 0, 0, 0], [1 / 4, 1 / 4, 0, 0]], rtol=1e-6)


def test_the_heaviest_key_of_each_row_is_named() -> None:
    """By hand: with one head, of one-hot queries and keys, the key that a query equals."""
    length, k = 12, 4
    same = torch.eye(length)[torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3])]
    seen = call(10 * same[None, None], 10 * same[None, None])
    rows_R = torch.arange(8, 12)
    mass_RK, weight_R, key_R = by_cell(seen, rows_R, torch.arange(length) // 3, k)
    assert key_R.tolist() == [0, 1, 2, 3]
    assert mass_RK.shape == (4, 4)
    assert (weight_R > 0.4).all() and (weight_R <= mass_RK.sum(1)).all()
