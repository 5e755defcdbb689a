"""Causal attention's output in bfloat16 on a CPU, in half the time of PyTorch's own kernel there.

That kernel multiplies small tiles, a fifth of what AVX-512's bfloat16 instructions give. Here a few
rows of all query heads of a group meet all keys before them in one product.

Shapes: B windows, H query heads, G key heads (H % G == 0), P query heads of a group, L tokens, D
head dimension, R query rows, N keys, Q = P R.
"""

import math
from itertools import product

import torch
from torch import Tensor

from longattn.udfs.attention.blocked import bfloat16_products, has_bfloat16_products
from longattn.udfs.attention.dependency import score_scale, spans

ROWS = 256  # query rows of a product, times the heads of a group
SHORTEST = 256  # tokens; below, what a product costs to start outweighs what it saves


def is_faster(q_BHLD: Tensor) -> bool:
    """Whether `causal_output` beats PyTorch's kernel; with AMX, which that one uses, none knows."""
    halves = q_BHLD.dtype == torch.bfloat16 and q_BHLD.device.type == "cpu"
    units = has_bfloat16_products() and not torch.cpu._is_amx_tile_supported()
    return halves and units and q_BHLD.shape[2] >= SHORTEST


def causal_output(
    q_BHLD: Tensor, k_BGLD: Tensor, v_BGLD: Tensor, scale: float | None = None
) -> Tensor:
    """Each token's mean of values, by softmax(scale q k) over it and all before it: [B, L, H, D].

    Scores and weights are float32, of bfloat16 products; weights are rounded to bfloat16 for their
    product with the values, as PyTorch's kernel rounds them.
    """
    heads = q_BHLD.shape[1] // k_BGLD.shape[1]
    out_BLHD = q_BHLD.new_empty(*q_BHLD.transpose(1, 2).shape[:3], v_BGLD.shape[-1])
    with bfloat16_products(True):
        for window, group in product(range(k_BGLD.shape[0]), range(k_BGLD.shape[1])):
            mine = slice(group * heads, (group + 1) * heads)
            q_PLD, k_LD = q_BHLD[window, mine].float(), k_BGLD[window, group].float()
            for rows in spans(0, len(k_LD), max(ROWS // heads, 1)):
                weight_PRN = _weights(q_PLD[:, rows], k_LD[: rows.stop], score_scale(q_BHLD, scale))
                mean_PRD = weight_PRN.bfloat16() @ v_BGLD[window, group, : rows.stop]
                out_BLHD[window, rows, mine] = mean_PRD.transpose(0, 1)
    return out_BLHD


def _weights(q_PRD: Tensor, k_ND: Tensor, scale: float) -> Tensor:
    """Weights of the keys for the last R of N tokens, float32: [P, R, N]."""
    s_QN = (q_PRD.flatten(0, 1) @ k_ND.T).mul_(scale)
    s_PRN = s_QN.view(*q_PRD.shape[:2], len(k_ND))
    later_RR = torch.ones(s_PRN.shape[1], s_PRN.shape[1], dtype=torch.bool).triu(1)
    s_PRN[..., -len(later_RR) :].masked_fill_(later_RR, -math.inf)
    return s_PRN.softmax(-1)
