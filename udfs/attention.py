"""Far attention statistics: the definition, and a blocked one-pass twin with the same signature.

Shapes: B windows, H query heads, G key heads (H % G == 0), L tokens, D head dimension, R query
rows.

The far block of a causal L x L attention matrix M at minimum distance k holds M[n, i] with
i <= n - k. For L = 6 and k = 3 (F far, . near, blank masked):

        i 0 1 2 3 4 5
    n 0   .
      1   . .
      2   . . .
      3   F . . .
      4   F F . . .
      5   F F F . . .

S1 is the sum of the far block and S2 the sum of its squares, per head. Every published variant of
the score follows from the two (LongAttn, arXiv 2502.16860, eq. 5-7).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Support = Literal["matrix", "block"]

LOG2_E = math.log2(math.e)
TILE_ROWS = 512  # query rows of a tile, times the heads of a group: the tile stays in cache
MIN_ROWS = 16  # of a tile, however many heads share its keys
TILE_KEYS = 512


@dataclass(frozen=True)
class FarStatistics:
    """Sums over the far block, float64; rows only when asked for with keep_rows."""

    s1_BH: Tensor
    s2_BH: Tensor
    row_mass_BHR: Tensor | None = None  # far mass of each query row
    row_square_BHR: Tensor | None = None  # sum of squares of each query row's far part


def dependency(
    s1_H: Tensor, s2_H: Tensor, length: int, k: int, support: Support = "matrix"
) -> tuple[Tensor, Tensor]:
    """DS and DU per head from the sums of the far block.

    DS = S1 / L (eq. 5); DU = -Var with Var = (S2 - S1^2 / N) / (N - 1), over N = L * L entries
    ("matrix", the published code) or N = (L - k)^2 ("block", eq. 6-7).
    """
    entries = length * length if support == "matrix" else (length - k) ** 2
    variance_H = (s2_H - s1_H.square() / entries) / max(entries - 1, 1)
    return s1_H / length, -variance_H


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
    masked_RL = _masked(distance_RL, sliding_window)
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


def far_statistics(
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
    """The definition in one pass over tiles: no L x L buffer, memory linear in L.

    A tile of keys serves all query heads of its group. Runs in float32, or float64 for float64
    inputs; on a GPU the Triton twin runs instead.
    """
    if q_BHLD.is_cuda and q_BHLD.dtype != torch.float64:
        from udfs.attention_triton import far_statistics_triton

        return far_statistics_triton(
            q_BHLD,
            k_BGLD,
            k=k,
            scale=scale,
            softcap=softcap,
            sliding_window=sliding_window,
            rows=rows,
            keep_rows=keep_rows,
        )
    dtype = torch.float64 if q_BHLD.dtype == torch.float64 else torch.float32
    position_R = query_rows(q_BHLD, rows)
    group = q_BHLD.shape[1] // k_BGLD.shape[1]
    factor = score_scale(q_BHLD, scale) * (LOG2_E if softcap is None else 1 / softcap)
    mass_BHR = q_BHLD.new_empty(*q_BHLD.shape[:2], len(position_R), dtype=dtype)
    square_BHR = torch.empty_like(mass_BHR)
    rows_per_tile = max(TILE_ROWS // group, MIN_ROWS)
    # One buffer for all tiles: a fresh one would cost as much in page faults as in arithmetic.
    tile = mass_BHR.new_empty(rows_per_tile * group * TILE_KEYS)
    for window, key_head in product(range(k_BGLD.shape[0]), range(k_BGLD.shape[1])):
        heads = slice(key_head * group, (key_head + 1) * group)
        k_LD = k_BGLD[window, key_head].to(dtype)
        for span in spans(0, len(position_R), rows_per_tile):
            q_HRD = q_BHLD[window, heads, span if rows is None else rows[span]].to(dtype) * factor
            mass_BHR[window, heads, span], square_BHR[window, heads, span] = _row_statistics(
                q_HRD, k_LD, position_R[span], tile, k, softcap, sliding_window
            )
    return sums(mass_BHR.double(), square_BHR.double(), keep_rows)


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
    q_HRD: Tensor,
    k_LD: Tensor,
    position_R: Tensor,
    tile: Tensor,
    k: int,
    softcap: float | None,
    sliding_window: int | None,
) -> tuple[Tensor, Tensor]:
    """Far mass and far sum of squares of a tile of rows, over all the keys they see.

    Each tile of keys has a maximum of its own, m. Its sums l = sum exp(s - m), the far part a of l
    and the far part b^2 of sum exp(2(s - m)) are brought to the row's maximum once, at the end;
    then the row's far mass is a / l and its sum of squares (b / l)^2.
    """
    shape = q_HRD.shape[:2]
    first, last = int(position_R[0]), int(position_R[-1])
    parts = [
        _tile_sums(q_HRD, k_LD, position_R, tile, key_tile, k, softcap, sliding_window)
        for key_tile in _key_tiles(first, last, k, sliding_window)
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
    k: int,
    softcap: float | None,
    sliding_window: int | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """m, l, a and b of every row against one tile of keys; scores are in base 2.

    exp2 because it takes a third of the time of exp, which PyTorch leaves to MKL (0.29 against
    0.83 ns a score on an AMD Zen 4 core).
    """
    keys, seen, far, near = key_tile
    q_QD, k_ND = q_HRD.flatten(0, 1), k_LD[keys]
    s_QN = torch.mm(q_QD, k_ND.T, out=tile[: len(q_QD) * len(k_ND)].view(len(q_QD), len(k_ND)))
    if softcap is not None:
        s_QN.tanh_().mul_(softcap * LOG2_E)
    s_HRN = s_QN.view(*q_HRD.shape[:2], len(k_ND))
    if not (seen and (far or near)):
        key_N = torch.arange(keys.start, keys.stop, device=k_LD.device)
        distance_RN = position_R[:, None] - key_N
    if not seen:
        s_HRN.masked_fill_(_masked(distance_RN, sliding_window), -math.inf)
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


def spans(start: int, stop: int, size: int) -> Iterator[slice]:
    """Slices of `size` from start to stop, the last one shorter."""
    for begin in range(start, stop, size):
        yield slice(begin, min(begin + size, stop))


def query_rows(q_BHLD: Tensor, rows: Tensor | None) -> Tensor:
    """Positions of the query rows asked for; all of them when none are named."""
    if rows is not None:
        return rows.to(q_BHLD.device)
    return torch.arange(q_BHLD.shape[2], device=q_BHLD.device)


def _masked(distance: Tensor, sliding_window: int | None) -> Tensor:
    future = distance < 0
    return future if sliding_window is None else future | (distance >= sliding_window)


def score_scale(q_BHLD: Tensor, scale: float | None) -> float:
    """What scores are multiplied by: the model's scale, else one over the root of D."""
    return float(q_BHLD.shape[-1] ** -0.5) if scale is None else scale


def sums(mass_BHR: Tensor, square_BHR: Tensor, keep_rows: bool) -> FarStatistics:
    """Add up the rows, and keep them when asked to."""
    rows = (mass_BHR, square_BHR) if keep_rows else (None, None)
    return FarStatistics(mass_BHR.sum(-1), square_BHR.sum(-1), *rows)
