"""Orders of epochs: permutations that do not change, and no two alike."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longattn.etl.export.blend import blend
from longattn.etl.export.order import epoch_order, order_of
from longattn.udfs.errors import UserError

FIRST = {
    1: [6, 0, 1, 4, 5, 3, 7, 2],
    2: [1, 0, 4, 6, 3, 5, 7, 2],
    7: [4, 2, 0, 7, 3, 6, 1, 5],
}


@given(st.integers(0, 300), st.integers(0, 2**40), st.integers(-(2**60), 2**60))
def test_every_sample_comes_once(n_samples: int, epoch: int, seed: int) -> None:
    order = order_of(n_samples, epoch, seed)
    assert order.dtype == np.int64 and sorted(order) == list(range(n_samples))


def test_the_first_epoch_is_the_files_order() -> None:
    assert order_of(5, 0, seed=3).tolist() == [0, 1, 2, 3, 4]


def test_orders_are_those_of_the_first_release() -> None:
    """A run resumes with a later version too."""
    assert order_of(8, 1).tolist() == FIRST[1]
    assert order_of(8, 2).tolist() == FIRST[2]
    assert order_of(8, 1, seed=7).tolist() == FIRST[7]


def test_all_orders_are_equally_likely() -> None:
    """Of three samples there are six orders; 6,000 epochs give each about a thousand times."""
    orders = Counter(tuple(order_of(3, epoch).tolist()) for epoch in range(1, 6001))
    expected = 1000
    chi_squared = sum((n - expected) ** 2 / expected for n in orders.values())
    assert len(orders) == 6 and chi_squared < 20.5  # 5 degrees of freedom: once in 1,000


def test_epochs_are_numbered_from_nought() -> None:
    with pytest.raises(UserError, match="epoch -1: epochs are numbered from 0"):
        order_of(3, -1)
    wrong: dict[str, Any]
    for wrong in (
        *({"epoch": 1.5}, {"epoch": "1"}, {"epoch": 1, "seed": None}),
        *({"epoch": 1 << 64}, {"epoch": 1, "seed": 1 << 63}, {"epoch": 1, "seed": -(1 << 63) - 1}),
    ):
        with pytest.raises(UserError, match=r"(epoch|seed): a whole number of 64 bits, got"):
            order_of(3, **wrong)
    assert len(order_of(3, 2**63 - 1, seed=-(2**63))) == 3


def test_an_export_may_be_named_by_a_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nope: no export"):
        epoch_order(tmp_path / "nope", epoch=1)
    with pytest.raises(UserError, match="nope: no export"):
        blend(tmp_path / "nope")
