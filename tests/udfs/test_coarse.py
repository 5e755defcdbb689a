"""The cheap estimate of every row: exact with all keys, near the truth with those that matter."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longattn.udfs.attention import coarse
from longattn.udfs.attention.coarse import coarse_statistics, draw_keys
from longattn.udfs.attention.reference import far_statistics_reference


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_with_every_key_it_is_the_definition(data: st.DataObject) -> None:
    """GQA, odd lengths, k from 1 to L, soft-capping, sliding windows narrower than a block."""
    length = data.draw(st.integers(2, 400))
    options: dict[str, Any] = {
        "k": data.draw(st.integers(1, length)),
        "softcap": data.draw(st.sampled_from([None, 3.0])),
        "sliding_window": data.draw(st.none() | st.integers(1, length)),
    }
    generator = torch.manual_seed(length)
    q_BHLD = torch.randn(1, 4, length, 8, dtype=torch.float64, generator=generator)
    k_BGLD = torch.randn(1, 2, length, 8, dtype=torch.float64, generator=generator)
    mass_BHL, square_BHL = coarse_statistics(q_BHLD, k_BGLD, n_keys=length, **options)
    exact = far_statistics_reference(q_BHLD, k_BGLD, keep_rows=True, **options)
    torch.testing.assert_close(mass_BHL, exact.row_mass_BHR)
    torch.testing.assert_close(square_BHL, exact.row_square_BHR)


@pytest.mark.parametrize("k", [3, 150])
def test_blocks_of_any_size_agree(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    """A GPU takes larger ones."""
    q_BHLD = torch.randn(1, 4, 600, 8, generator=torch.manual_seed(0))
    k_BGLD = torch.randn(1, 2, 600, 8, generator=torch.manual_seed(1))
    found = []
    for size in (37, coarse.BLOCK_ROWS, coarse.GPU_BLOCK_ROWS):
        monkeypatch.setattr(coarse, "BLOCK_ROWS", size)
        found.append(coarse_statistics(q_BHLD, k_BGLD, k=k, n_keys=40))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_keys_by_hand() -> None:
    """Half of the chances go to the first key, which then is certain; the others share one."""
    sample = draw_keys(torch.tensor([8.0, 1.0, 1.0, 1.0, 1.0]), 2)
    assert sample.keys_C[0] == 0 and len(sample.keys_C) == 2
    assert sample.weight_C.tolist() == [1.0, 4.0]
    everything = draw_keys(torch.tensor([3.0, 0.5]), 2)
    assert everything.keys_C.tolist() == [0, 1] and everything.weight_C.tolist() == [1.0, 1.0]


@given(st.integers(2, 500), st.data())
@settings(max_examples=60, deadline=None)
def test_as_many_keys_as_asked_for(length: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, length))
    worth_L = torch.rand(length, generator=torch.manual_seed(length)).add(1e-3).pow(4)
    sample = draw_keys(worth_L, count)
    assert abs(len(sample.keys_C) - count) <= 1
    assert (sample.keys_C.diff() > 0).all() and (sample.weight_C >= 1.0).all()


def test_even_keys_stand_for_as_many() -> None:
    sample = draw_keys(torch.ones(1000), 50)
    assert sample.weight_C.tolist() == pytest.approx([20.0] * 50)
    assert (sample.keys_C.diff() - 20).abs().max() <= 1


def test_windows_with_nothing_beyond_the_nearest_keys_are_finite() -> None:
    q_BHLD = torch.randn(1, 1, 12, 4, generator=torch.manual_seed(0))
    mass_BHL, square_BHL = coarse_statistics(q_BHLD, q_BHLD, k=3, n_keys=2)
    exact = far_statistics_reference(q_BHLD, q_BHLD, k=3, keep_rows=True)
    torch.testing.assert_close(mass_BHL.double(), exact.row_mass_BHR.double())
    torch.testing.assert_close(square_BHL.double(), exact.row_square_BHR.double())


def test_columns_that_draw_attention_are_found() -> None:
    """A few keys take the far mass: as many keys drawn as there are such give it within 2 %."""
    length, k, heavy = 600, 150, 12
    generator = torch.manual_seed(0)
    q_BHLD = torch.randn(1, 2, length, 16, generator=generator)
    k_BGLD = torch.randn(1, 1, length, 16, generator=generator) * 0.1
    q_BHLD[..., 0] = 4.0
    k_BGLD[0, 0, torch.arange(5, 400, 400 // heavy), 0] += 8.0
    exact = far_statistics_reference(q_BHLD, k_BGLD, k=k)
    mass_BHL, square_BHL = coarse_statistics(q_BHLD, k_BGLD, k=k, n_keys=2 * heavy)
    torch.testing.assert_close(mass_BHL.sum(-1).double(), exact.s1_BH, rtol=0.02, atol=0)
    torch.testing.assert_close(square_BHL.sum(-1).double(), exact.s2_BH, rtol=0.02, atol=0)
