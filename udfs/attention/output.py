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
from longattn.udfs.attention.dependency import masked, score_scale, spans

ROWS = 256  # query rows of a product, times the heads of a group
SHAPES = 32  # widths of products: what oneDNN keeps for hundreds is gigabytes, at 32K tokens
SHORTEST = 256  # tokens; below, what a product costs to start outweighs what it saves


def is_faster(q_BHLD: Tensor) -> bool:
    """Whether `causal_output` beats PyTorch's kernel; unknown, so False, where that one has AMX."""
    halves = q_BHLD.dtype == torch.bfloat16 and q_BHLD.device.type == "cpu"
    units = has_bfloat16_products() and not torch.cpu._is_amx_tile_supported()
    return halves and units and q_BHLD.shape[2] >= SHORTEST


def causal_output(
    q_BHLD: Tensor,
    k_BGLD: Tensor,
    v_BGLD: Tensor,
    scale: float | None = None,
    sliding_window: int | None = None,
) -> Tensor:
    """Each token's mean of values, by softmax(scale q k) over what it sees: [B, L, H, D].

    That is itself and all before it, or the last `sliding_window` of these. Scores and weights are
    float32, of bfloat16 products; weights are rounded to bfloat16 for their product with the
    values, as PyTorch's kernel rounds them.
    """
    heads = q_BHLD.shape[1] // k_BGLD.shape[1]
    factor = score_scale(q_BHLD, scale)
    out_BLHD = q_BHLD.new_empty(*q_BHLD.transpose(1, 2).shape[:3], v_BGLD.shape[-1])
    with bfloat16_products(True):
        for window, group in product(range(k_BGLD.shape[0]), range(k_BGLD.shape[1])):
            mine = slice(group * heads, (group + 1) * heads)
            q_PLD, k_LD = q_BHLD[window, mine].float(), k_BGLD[window, group].float()
            for rows in spans(0, len(k_LD), max(ROWS // heads, 1)):
                keys = _keys(rows, len(k_LD), sliding_window)
                s_PRN = _scores(q_PLD[:, rows], k_LD[keys], factor)
                _hide(s_PRN, rows, keys, sliding_window)
                mean_PRD = s_PRN.softmax(-1).bfloat16() @ v_BGLD[window, group, keys]
                out_BLHD[window, rows, mine] = mean_PRD.transpose(0, 1)
    return out_BLHD


def _keys(rows: slice, length: int, sliding_window: int | None) -> slice:
    """The keys that rows see; without a window some more, so that products have few widths."""
    if sliding_window is not None:
        return slice(first_key(rows.start, sliding_window), rows.stop)
    step = -(-length // SHAPES)
    return slice(0, min(-(-rows.stop // step) * step, length))


def first_key(row: int, sliding_window: int | None) -> int:
    """The first key that a query row sees."""
    return 0 if sliding_window is None else max(0, row - sliding_window + 1)


def _scores(q_PRD: Tensor, k_ND: Tensor, factor: float) -> Tensor:
    s_QN = (q_PRD.flatten(0, 1) @ k_ND.T).mul_(factor)
    return s_QN.view(*q_PRD.shape[:2], len(k_ND))


def _hide(s_PRN: Tensor, rows: slice, keys: slice, sliding_window: int | None) -> None:
    """Mask, in place, the keys that a row does not see: without a window, some of the last."""
    start = rows.start if sliding_window is None else keys.start
    distance_RN = torch.arange(rows.start, rows.stop)[:, None] - torch.arange(start, keys.stop)
    s_PRN[..., start - keys.start :].masked_fill_(masked(distance_RN, sliding_window), -math.inf)
