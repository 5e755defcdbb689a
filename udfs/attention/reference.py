"""The definition of the far statistics, over whole attention matrices."""

import math

import torch
from torch import Tensor

from longattn.udfs.attention.dependency import FarStatistics, masked, query_rows, score_scale, sums


def far_statistics_reference(
    q_BHLD: Tensor,
    k_BGLD: Tensor,
    *,
    k: int,
    scale: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    rows: Tensor | None = None,
    keep_rows: bool = False,
) -> FarStatistics:
    """THE definition: whole attention matrices in the input's precision. For tests and small L.

    q and k are after RoPE; the options are those of `dependency.FarOptions`.
    """
    position_R = query_rows(q_BHLD, rows)
    distance_RL = position_R[:, None] - query_rows(q_BHLD, None)
    keys_BHLD = k_BGLD.repeat_interleave(q_BHLD.shape[1] // k_BGLD.shape[1], dim=1)
    scores_BHRL = (
        q_BHLD[:, :, position_R] @ keys_BHLD.transpose(-1, -2) * score_scale(q_BHLD, scale)
    )
    if softcap is not None:
        scores_BHRL = softcap * torch.tanh(scores_BHRL / softcap)
    attention_BHRL = scores_BHRL.masked_fill(
        masked(distance_RL, sliding_window), -math.inf
    ).softmax(dim=-1)
    far_BHRL = attention_BHRL.masked_fill(distance_RL < k, 0.0).double()
    return sums(far_BHRL.sum(-1), far_BHRL.square().sum(-1), keep_rows)
