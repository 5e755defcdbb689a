"""Far attention statistics in one pass over tiles: no L x L buffer, memory linear in L.

Shapes: B windows, H query heads, G key heads (H % G == 0), L tokens, D head dimension, R query
rows of a tile, N keys of a tile, Q = R times the heads of a group, T tiles.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise, product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from longattn.udfs.attention.dependency import (
    LOG2_E,
    FarStatistics,
    masked,
    query_rows,
    score_scale,
    spans,
    sums,
)

TILE_ROWS = 512  # query rows of a tile, times the heads of a group: the tile stays in cache
MIN_ROWS = 16  # of a tile, however many heads share its keys
TILE_KEYS = 512


def far_statistics_blocked(
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
    """As `reference.far_statistics_reference`, in float32, or float64 for float64 inputs.

    A tile of keys serves all query heads of its group. bfloat16 inputs are scaled after their
    product, not before: their products are then exact, whichever unit of the CPU makes them.
    """
    dtype = torch.float64 if q_BHLD.dtype == torch.float64 else torch.float32
    position_R = query_rows(q_BHLD, rows)
    group = q_BHLD.shape[1] // k_BGLD.shape[1]
    factor = score_scale(q_BHLD, scale) * (LOG2_E if softcap is None else 1 / softcap)
    halves = q_BHLD.dtype == k_BGLD.dtype == torch.bfloat16
    before, after = (1.0, factor) if halves else (factor, 1.0)
    scoring = Scoring(k, softcap, sliding_window, after)
    mass_BHR = q_BHLD.new_empty(*q_BHLD.shape[:2], len(position_R), dtype=dtype)
    square_BHR = torch.empty_like(mass_BHR)
    rows_per_tile = max(TILE_ROWS // group, MIN_ROWS)
    # One buffer for all tiles: a fresh one would cost as much in page faults as in arithmetic.
    tile = mass_BHR.new_empty(rows_per_tile * group * TILE_KEYS)
    with bfloat16_products(halves):
        for window, key_head in product(range(k_BGLD.shape[0]), range(k_BGLD.shape[1])):
            heads = slice(key_head * group, (key_head + 1) * group)
            k_LD = k_BGLD[window, key_head].to(dtype)
            for span in spans(0, len(position_R), rows_per_tile):
                these = span if rows is None else rows[span]
                q_HRD = q_BHLD[window, heads, these].to(dtype) * before
                mass_BHR[window, heads, span], square_BHR[window, heads, span] = _row_statistics(
                    q_HRD, k_LD, position_R[span], tile, scoring
                )
    return sums(mass_BHR.double(), square_BHR.double(), keep_rows)


def has_bfloat16_products() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware: AMX, or AVX-512's own instructions.

    PyTorch before 2.9 has no such setting, and multiplies in float32.
    """
    known = hasattr(torch.backends.mkldnn, "matmul")
    return known and bool(
        torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    )


@contextmanager
def bfloat16_products(wanted: bool) -> Iterator[None]:
    """Let float32 products of bfloat16 values be made in bfloat16 units, which sum in float32.

    Nothing is rounded that was not: the values are bfloat16 already. Without such units nothing
    changes.
    """
    precision = "bf16" if wanted and has_bfloat16_products() else None
    with products_in(precision, torch.backends.mkldnn):
        yield


@contextmanager
def products_in(precision: str | None, backend: Any) -> Iterator[None]:
    """Let a backend of PyTorch's make float32 products in a precision; None changes nothing.

    Nor does anything change before PyTorch 2.9, which has no such setting.
    """
    matmul: Any = getattr(backend, "matmul", None)
    if precision is None or not hasattr(matmul, "fp32_precision"):
        yield
        return
    kept, matmul.fp32_precision = matmul.fp32_precision, precision
    try:
        yield
    finally:
        matmul.fp32_precision = kept


class Scoring(NamedTuple):
    """What is the same for all tiles."""

    k: int
    softcap: float | None
    sliding_window: int | None
    factor: float  # of products, where queries were not multiplied by it


class KeyTile(NamedTuple):
    """A stretch of keys, and what it is to a tile of query rows as a whole."""

    keys: slice
    seen: bool  # every row attends to every key
    far: bool  # every pair is far
    near: bool  # no pair is far


def _key_tiles(first: int, last: int, k: int, sliding_window: int | None) -> Iterator[KeyTile]:
    """The keys that rows first .. last see, cut where a mask begins or ends.

    keys   0 ........ far ........ | straddle | ...... near ...... | diagonal
    mask   none                    | distance | none               | causal
    """
    start = 0 if sliding_window is None else max(0, first - sliding_window + 1)
    unhidden = start if sliding_window is None else last - sliding_window + 1
    masks = {first - k + 1, last - k + 1, first + 1, unhidden}
    edges = [start, *sorted(cut for cut in masks if start < cut <= last), last + 1]
    for begin, end in pairwise(edges):
        seen = end <= first + 1 and begin >= unhidden
        for keys in spans(begin, end, TILE_KEYS):
            yield KeyTile(keys, seen, far=end <= first - k + 1, near=begin > last - k)


def _row_statistics(
    q_HRD: Tensor, k_LD: Tensor, position_R: Tensor, tile: Tensor, scoring: Scoring
) -> tuple[Tensor, Tensor]:
    """Far mass and far sum of squares of a tile of rows, over all the keys they see.

    Each tile of keys has a maximum of its own, m. Its sums l = sum exp(s - m), the far part a of l
    and the far part b^2 of sum exp(2(s - m)) are brought to the row's maximum once, at the end;
    then the row's far mass is a / l and its sum of squares (b / l)^2.
    """
    shape = q_HRD.shape[:2]
    first, last = int(position_R[0]), int(position_R[-1])
    parts = [
        _tile_sums(q_HRD, k_LD, position_R, tile, key_tile, scoring)
        for key_tile in _key_tiles(first, last, scoring.k, scoring.sliding_window)
    ]
    m_TQ, l_TQ, a_TQ, b_TQ = (torch.stack(part) for part in zip(*parts, strict=True))
    weight_TQ = (m_TQ - m_TQ.amax(0)).exp2_()
    l_Q = (l_TQ * weight_TQ).sum(0)
    mass_Q = (a_TQ * weight_TQ).sum(0) / l_Q
    square_Q = (b_TQ * weight_TQ / l_Q).square().sum(0)
    return mass_Q.view(shape), square_Q.view(shape)


def _tile_sums(
    q_HRD: Tensor,
    k_LD: Tensor,
    position_R: Tensor,
    tile: Tensor,
    key_tile: KeyTile,
    scoring: Scoring,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """m, l, a and b of every row against one tile of keys; scores are in base 2.

    exp2 because it takes a third of the time of exp, which PyTorch leaves to MKL (0.29 against
    0.83 ns a score on an AMD Zen 4 core).
    """
    keys, seen, far, near = key_tile
    k, softcap, sliding_window, factor = scoring
    q_QD, k_ND = q_HRD.flatten(0, 1), k_LD[keys]
    s_QN = torch.mm(q_QD, k_ND.T, out=tile[: len(q_QD) * len(k_ND)].view(len(q_QD), len(k_ND)))
    if factor != 1.0:
        s_QN.mul_(factor)
    if softcap is not None:
        s_QN.tanh_().mul_(softcap * LOG2_E)
    s_HRN = s_QN.view(*q_HRD.shape[:2], len(k_ND))
    if not (seen and (far or near)):
        key_N = torch.arange(keys.start, keys.stop, device=k_LD.device)
        distance_RN = position_R[:, None] - key_N
    if not seen:
        s_HRN.masked_fill_(masked(distance_RN, sliding_window), -math.inf)
    m_Q = s_QN.amax(1).clamp_(min=torch.finfo(s_QN.dtype).min)  # finite, where a row sees no key
    p_QN = s_QN.sub_(m_Q[:, None]).exp2_()
    l_Q = p_QN.sum(1)
    if near:
        none_Q = torch.zeros_like(l_Q)
        return m_Q, l_Q, none_Q, none_Q
    if not far:
        s_HRN.masked_fill_(distance_RN < k, 0.0)
    a_Q = l_Q if far else p_QN.sum(1)
    return m_Q, l_Q, a_Q, torch.linalg.vector_norm(p_QN, dim=1)
