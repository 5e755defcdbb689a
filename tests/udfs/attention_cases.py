"""Inputs and error budgets shared by the tests of both fast attention kernels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from longattn.udfs.attention.dependency import FarStatistics
from longattn.udfs.attention.reference import far_statistics_reference

Kernel = Callable[..., FarStatistics]

# (windows, heads, key heads, length, head dim, k, options): odd lengths, k from 1 to L, GQA
CASES: list[tuple[int, int, int, int, int, int, dict[str, Any]]] = [
    (1, 4, 2, 97, 16, 25, {}),
    (2, 3, 1, 130, 64, 1, {}),
    (1, 2, 2, 64, 80, 64, {}),
    (1, 1, 1, 33, 96, 2, {}),
    (1, 9, 3, 65, 64, 17, {"scale": 0.3}),
    (1, 6, 2, 150, 32, 40, {"sliding_window": 100}),
    (1, 4, 2, 90, 32, 30, {"sliding_window": 20}),  # the window hides the whole far block
    (1, 8, 2, 101, 32, 50, {"softcap": 5.0}),
    (1, 2, 1, 140, 128, 35, {"rows": torch.tensor([0, 1, 35, 36, 77, 139])}),
]

# What the CPU twin need not see again: flat packing of odd groups, masks that meet in one tile
KERNEL_CASES: list[tuple[int, int, int, int, int, int, dict[str, Any]]] = [
    (1, 5, 1, 70, 16, 3, {}),
    (1, 3, 3, 97, 64, 97, {}),
    (1, 40, 1, 20, 16, 5, {}),  # more heads in a group than rows in a tile
    (1, 4, 2, 130, 80, 33, {"softcap": 10.0, "sliding_window": 64}),
    (2, 6, 2, 101, 16, 25, {"rows": torch.tensor([0, 24, 25, 60, 100]), "sliding_window": 70}),
]


def inputs(case: tuple[Any, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    windows, heads, key_heads, length, dim = case[:5]
    torch.manual_seed(length * 1000 + dim)
    q_BHLD = torch.randn(windows, heads, length, dim) * 1.5
    k_BGLD = torch.randn(windows, key_heads, length, dim) * 1.5
    return q_BHLD.to(dtype), k_BGLD.to(dtype)


def assert_within_budget(kernel: Kernel, case: tuple[Any, ...], dtype: torch.dtype) -> None:
    """The kernel errs at most twice as much as plain PyTorch does at the same dtype.

    The truth is the definition in float64 on the inputs as rounded to that dtype.
    """
    q_BHLD, k_BGLD = inputs(case, dtype)
    k, options = case[5], case[6]
    truth = far_statistics_reference(q_BHLD.double(), k_BGLD.double(), k=k, **options)
    plain = far_statistics_reference(q_BHLD, k_BGLD, k=k, **options)
    found = kernel(q_BHLD, k_BGLD, k=k, **options)
    for name in ("s1_BH", "s2_BH"):
        exact = getattr(truth, name)
        slack = 1e-6 * exact.abs().max().item() + 1e-9  # where plain PyTorch happens to be exact
        allowed = 2 * (getattr(plain, name) - exact).abs().max().item() + slack
        assert (getattr(found, name) - exact).abs().max().item() <= allowed, name
