"""The coarse map against the whole attention matrix."""

import numpy as np
import pytest
import torch

from udfs.attention import far_statistics_reference
from udfs.attention_map import far_cells


@pytest.mark.parametrize("options", [{}, {"softcap": 5.0}, {"sliding_window": 20}, {"scale": 0.3}])
def test_rows_sum_to_the_mean_far_mass(options: dict[str, float]) -> None:
    torch.manual_seed(0)
    q_BHLD, k_BGLD = torch.randn(1, 4, 30, 8), torch.randn(1, 2, 30, 8)
    cells = far_cells(q_BHLD[0], k_BGLD[0], 7, 6, **options)
    kept = far_statistics_reference(q_BHLD, k_BGLD, k=7, keep_rows=True, **options)
    strips = kept.row_mass_BHR[0].mean(0).view(6, 5).mean(1)
    np.testing.assert_allclose(cells.sum(1), strips, rtol=1e-5, atol=1e-8)


def test_uniform_attention_by_hand() -> None:
    """Equal scores: query n gives 1 / (n + 1) to each key. L = 4, k = 2, two cells a side."""
    cells = far_cells(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2), 2, 2)
    # query 2 reaches key 0 with 1/3; query 3 reaches keys 0 and 1 with 1/4 each; mean of the two
    np.testing.assert_allclose(cells, [[0, 0], [(1 / 3 + 1 / 2) / 2, 0]], rtol=1e-6)
