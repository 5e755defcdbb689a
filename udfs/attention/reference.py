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

    q and k are after RoPE. `scale` defaults to D**-0.5; `softcap` caps scores as Gemma 2 does;
    `sliding_window` masks keys w or more back, as Mistral does; `rows` (int64, sorted) keeps those
    query rows only.
    """
    position_R, key_L = (
        query_rows(q_BHLD, rows),
        torch.arange(q_BHLD.shape[2], device=q_BHLD.device),
    )
    distance_RL = position_R[:, None] - key_L[None, :]
    masked_RL = masked(distance_RL, sliding_window)
    far_RL = distance_RL >= k
    keys_BHLD = k_BGLD.repeat_interleave(q_BHLD.shape[1] // k_BGLD.shape[1], dim=1)
    scores_BHRL = (
        q_BHLD[:, :, position_R] @ keys_BHLD.transpose(-1, -2) * score_scale(q_BHLD, scale)
    )
    if softcap is not None:
        scores_BHRL = softcap * torch.tanh(scores_BHRL / softcap)
    attention_BHRL = scores_BHRL.masked_fill(masked_RL, -math.inf).softmax(dim=-1)
    far_BHRL = attention_BHRL.masked_fill(~far_RL, 0.0).double()
    return sums(far_BHRL.sum(-1), far_BHRL.square().sum(-1), keep_rows)
