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
from typing import Literal

import torch
from torch import Tensor

Support = Literal["matrix", "block"]

TILE_ROWS = 384  # query rows of a tile, times the heads of a group: the tile stays in cache
TILE_KEYS = 512


@dataclass(frozen=True)
class FarStatistics:
    """Sums over the far block, float64; rows only when asked for with keep_rows."""

    s1_BH: Tensor
    s2_BH: Tensor
    row_mass_BHR: Tensor | None = None  # far mass of each query row
    row_square_BHR: Tensor | None = None  # sum of squares of each query row's far part


def default_k(length: int) -> int:
    """A quarter of the window, exactly L - 3 * (L // 4).

    >>> default_k(8192), default_k(10)
    (2048, 4)
    """
    return length - 3 * (length // 4)


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

    Per row it keeps the running maximum m, l = sum exp(s - m), a = the far part of l and b = the
    far part of sum exp(2(s - m)); then the row's far mass is a / l and its sum of squares b / l^2.
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
    queries_BHRD = (q_BHLD if rows is None else q_BHLD[:, :, position_R]).to(dtype)
    queries_BHRD = queries_BHRD * score_scale(q_BHLD, scale)
    keys_BGLD = k_BGLD.to(dtype)
    mass_BHR = torch.empty(queries_BHRD.shape[:3], dtype=dtype, device=q_BHLD.device)
    square_BHR = torch.empty_like(mass_BHR)
    group = q_BHLD.shape[1] // k_BGLD.shape[1]
    rows_per_tile = max(TILE_ROWS // group, 32)
    # One buffer for all tiles: a fresh one would cost as much in page faults as in arithmetic.
    tile = queries_BHRD.new_empty(rows_per_tile * group * TILE_KEYS)
    for window in range(q_BHLD.shape[0]):
        for key_head in range(k_BGLD.shape[1]):
            heads = slice(key_head * group, (key_head + 1) * group)
            for rows_of_tile in _spans(len(position_R), rows_per_tile):
                place = (window, heads, rows_of_tile)
                mass_BHR[place], square_BHR[place] = _row_statistics(
                    queries_BHRD[place],
                    keys_BGLD[window, key_head],
                    position_R[rows_of_tile],
                    tile,
                    k=k,
                    softcap=softcap,
                    sliding_window=sliding_window,
                )
    return sums(mass_BHR.double(), square_BHR.double(), keep_rows)


def _row_statistics(
    q_HRD: Tensor,
    k_LD: Tensor,
    position_R: Tensor,
    tile: Tensor,
    *,
    k: int,
    softcap: float | None,
    sliding_window: int | None,
) -> tuple[Tensor, Tensor]:
    """Far mass and far sum of squares of a tile of rows, over all the tiles of keys they see."""
    heads, count, dim = q_HRD.shape
    q_QD = q_HRD.reshape(heads * count, dim)
    first, last = int(position_R[0]), int(position_R[-1])
    m_Q1 = q_QD.new_full((len(q_QD), 1), -math.inf)
    l_Q1, a_Q1, b_Q1 = (torch.zeros_like(m_Q1) for _ in range(3))
    start = 0 if sliding_window is None else max(0, first - sliding_window + 1)
    for keys in _spans(last + 1, TILE_KEYS, start):
        shape = (len(q_QD), keys.stop - keys.start)
        s_QK = torch.mm(q_QD, k_LD[keys].T, out=tile[: shape[0] * shape[1]].view(shape))
        if softcap is not None:
            s_QK.div_(softcap).tanh_().mul_(softcap)
        distance_RK = None
        if keys.stop - 1 > first or sliding_window is not None or _straddles(keys, first, last, k):
            distance_RK = position_R[:, None] - torch.arange(
                keys.start, keys.stop, device=q_QD.device
            )
            masked_RK = _masked(distance_RK, sliding_window)
            s_QK.view(heads, count, -1).masked_fill_(masked_RK, -math.inf)
        tile_max_Q1 = s_QK.amax(dim=1, keepdim=True)
        new_m_Q1 = torch.maximum(m_Q1, tile_max_Q1)
        safe_m_Q1 = new_m_Q1.clamp(min=torch.finfo(s_QK.dtype).min)  # a row may see no key yet
        shrink_Q1 = (m_Q1 - safe_m_Q1).exp_()
        p_QK = s_QK.sub_(safe_m_Q1).exp_()
        l_Q1.mul_(shrink_Q1).add_(p_QK.sum(dim=1, keepdim=True))
        a_Q1.mul_(shrink_Q1)
        b_Q1.mul_(shrink_Q1.square())
        m_Q1 = new_m_Q1
        if keys.start > last - k:
            continue  # all near: counts in l alone
        if distance_RK is not None and _straddles(keys, first, last, k):
            p_QK.view(heads, count, -1).masked_fill_(distance_RK < k, 0.0)
        a_Q1.add_(p_QK.sum(dim=1, keepdim=True))
        b_Q1.add_(p_QK.square_().sum(dim=1, keepdim=True))
    mass_HR = (a_Q1 / l_Q1).view(heads, count)
    return mass_HR, (b_Q1 / l_Q1.square()).view(heads, count)


def _straddles(keys: slice, first: int, last: int, k: int) -> bool:
    """True when some pair of the tile is far and some pair is near."""
    return bool(keys.start <= last - k and keys.stop - 1 > first - k)


def _spans(stop: int, size: int, start: int = 0) -> Iterator[slice]:
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
