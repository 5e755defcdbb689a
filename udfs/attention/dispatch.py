"""Far attention statistics by the fastest way that the tensors' device has."""

from typing import Unpack

import torch
from torch import Tensor

from longattn.udfs.attention.blocked import far_statistics_blocked
from longattn.udfs.attention.dependency import FarOptions, FarStatistics


def far_statistics(
    q_BHLD: Tensor, k_BGLD: Tensor, *, k: int, **options: Unpack[FarOptions]
) -> FarStatistics:
    """As `reference.far_statistics_reference`: Triton on a GPU, tiles elsewhere and for float64."""
    run = far_statistics_blocked
    if q_BHLD.is_cuda and q_BHLD.dtype != torch.float64:
        from longattn.udfs.attention.triton import far_statistics_triton as run
    return run(q_BHLD, k_BGLD, k=k, **options)
