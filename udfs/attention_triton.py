"""Far attention statistics on a GPU: one fused pass, forward only, no L x L buffer.

The fast twin of `udfs.attention.far_statistics`, with its signature. A program owns a tile of query
rows of one key head, all query heads of the group together, so that a tile of K is read once for
the whole group. It walks the keys in four stretches, each with only the work it needs:

    keys   0 ........ far ........ | straddle | ...... near ...... | diagonal
    work   m, l, b (and a = l)       far mask    m, l                causal mask

Statistics are float32 whatever the inputs (float16, bfloat16, float32). Tested in Triton's
interpreter against the definition in float32 and float16 (it cannot do bfloat16); no GPU has run it
yet. The tile sizes are choices to autotune among; benchmarks/score_gpu.py measures them.
"""

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

from udfs.attention import FarStatistics, query_rows, score_scale, sums

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
LOG2_E = tl.constexpr(1.4426950408889634)
CONFIGS = [
    triton.Config({"BLOCK_M": m, "BLOCK_N": n}, num_warps=warps, num_stages=stages)
    for m, n, warps, stages in (
        (128, 128, 8, 3),
        (128, 64, 4, 3),
        (128, 64, 8, 4),
        (64, 128, 4, 3),
        (64, 64, 4, 4),
        (256, 64, 8, 3),
    )
]
INTERPRETER_TILE = {"BLOCK_M": 32, "BLOCK_N": 32}


def far_statistics_triton(
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
    """As `udfs.attention.far_statistics`, for CUDA tensors (CPU tensors in the interpreter)."""
    position_R = query_rows(q_BHLD, rows).to(torch.int32)
    queries_BHRD = (q_BHLD if rows is None else q_BHLD[:, :, rows]).contiguous()
    keys_BGLD = k_BGLD.contiguous()
    windows, heads, count, dim = queries_BHRD.shape
    key_heads, length = keys_BGLD.shape[1:3]
    group = heads // key_heads
    mass_BHR = torch.empty((windows, heads, count), dtype=torch.float32, device=q_BHLD.device)
    square_BHR = torch.empty_like(mass_BHR)
    group_padded = triton.next_power_of_2(group)

    def grid(meta: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(count, meta["BLOCK_M"] // group_padded), windows * key_heads

    kernel = _far_kernel if INTERPRETED else _autotuned
    kernel[grid](
        # tensors
        queries_BHRD,
        keys_BGLD,
        position_R,
        mass_BHR,
        square_BHR,
        # sizes
        count,
        length,
        k,
        sliding_window or 0,
        # scores
        score_scale(q_BHLD, scale),
        softcap or 0.0,
        # compile-time shape
        D=dim,
        BLOCK_D=max(triton.next_power_of_2(dim), 16),
        GROUP=group,
        GROUP_PADDED=group_padded,
        KEY_HEADS=key_heads,
        HAS_SOFTCAP=softcap is not None,
        HAS_WINDOW=sliding_window is not None,
        **(INTERPRETER_TILE if INTERPRETED else {}),
    )
    return sums(mass_BHR.double(), square_BHR.double(), keep_rows)


@triton.jit
def _scores(
    q_MD, k_ptr, column_N, length, scale, softcap,
    D: tl.constexpr, BLOCK_D: tl.constexpr, HAS_SOFTCAP: tl.constexpr,
):  # fmt: skip
    """Scores of a tile in base 2: exp2 of a difference of them is exp of a difference of scores."""
    dim_D = tl.arange(0, BLOCK_D)
    inside_ND = (column_N[:, None] < length) & (dim_D[None, :] < D)
    k_ND = tl.load(k_ptr + column_N[:, None] * D + dim_D[None, :], mask=inside_ND, other=0.0)
    s_MN = tl.dot(q_MD, tl.trans(k_ND), input_precision="ieee") * scale
    if HAS_SOFTCAP:
        s_MN = softcap * (2.0 * tl.sigmoid(2.0 * s_MN / softcap) - 1.0)
    return s_MN * LOG2_E


@triton.jit
def _far_kernel(
    q_ptr, k_ptr, position_ptr, mass_ptr, square_ptr,
    count, length, k, window,
    scale, softcap,
    D: tl.constexpr, BLOCK_D: tl.constexpr, GROUP: tl.constexpr, GROUP_PADDED: tl.constexpr,
    KEY_HEADS: tl.constexpr, HAS_SOFTCAP: tl.constexpr, HAS_WINDOW: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Rows of a tile are (query row, head of the group), heads fastest; padded heads are masked."""
    BLOCK_R: tl.constexpr = BLOCK_M // GROUP_PADDED
    # Late rows see most keys: starting with them leaves the short programs for the tail.
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    window_and_head = tl.program_id(1).to(tl.int64)
    row_M = tile * BLOCK_R + tl.arange(0, BLOCK_M) // GROUP_PADDED
    head_M = tl.arange(0, BLOCK_M) % GROUP_PADDED
    valid_M = (row_M < count) & (head_M < GROUP)
    first = tl.load(position_ptr + tile * BLOCK_R)
    last = tl.load(position_ptr + tl.minimum(tile * BLOCK_R + BLOCK_R, count) - 1)
    position_M = tl.load(position_ptr + row_M, mask=row_M < count, other=0)

    # query heads of key head g are g * GROUP + h, so (window, g, h) is one flat head index
    out_M = (window_and_head * GROUP + head_M) * count + row_M
    dim_D = tl.arange(0, BLOCK_D)
    q_mask = valid_M[:, None] & (dim_D[None, :] < D)
    q_MD = tl.load(q_ptr + out_M[:, None] * D + dim_D[None, :], mask=q_mask, other=0.0)
    k_ptr += window_and_head * length * D

    m_M = tl.full([BLOCK_M], -1.0e30, tl.float32)  # finite: a padded row must not make NaN
    l_M = tl.zeros([BLOCK_M], tl.float32)
    b_M = tl.zeros([BLOCK_M], tl.float32)
    tile_N = tl.arange(0, BLOCK_N)

    start = 0
    if HAS_WINDOW:
        start = tl.maximum(first - window + 1, 0) // BLOCK_N * BLOCK_N
    far_end = tl.maximum(tl.maximum(first - k + 1, 0) // BLOCK_N * BLOCK_N, start)
    straddle_end = tl.maximum(
        (tl.maximum(last - k + 1, 0) + BLOCK_N - 1) // BLOCK_N * BLOCK_N, far_end
    )
    near_end = tl.maximum((first + 1) // BLOCK_N * BLOCK_N, straddle_end)

    for begin in range(start, far_end, BLOCK_N):
        s_MN = _scores(q_MD, k_ptr, begin + tile_N, length, scale, softcap, D, BLOCK_D, HAS_SOFTCAP)
        if HAS_WINDOW:
            distance_MN = position_M[:, None] - (begin + tile_N)[None, :]
            s_MN = tl.where(distance_MN < window, s_MN, -float("inf"))
        new_m_M = tl.maximum(m_M, tl.max(s_MN, 1))
        shrink_M = tl.exp2(m_M - new_m_M)
        p_MN = tl.exp2(s_MN - new_m_M[:, None])
        l_M = l_M * shrink_M + tl.sum(p_MN, 1)
        b_M = b_M * shrink_M * shrink_M + tl.sum(p_MN * p_MN, 1)
        m_M = new_m_M
    a_M = l_M  # so far every key was far

    for begin in range(far_end, straddle_end, BLOCK_N):
        s_MN = _scores(q_MD, k_ptr, begin + tile_N, length, scale, softcap, D, BLOCK_D, HAS_SOFTCAP)
        distance_MN = position_M[:, None] - (begin + tile_N)[None, :]
        seen_MN = distance_MN >= 0
        if HAS_WINDOW:
            seen_MN = seen_MN & (distance_MN < window)
        s_MN = tl.where(seen_MN, s_MN, -float("inf"))
        new_m_M = tl.maximum(m_M, tl.max(s_MN, 1))
        shrink_M = tl.exp2(m_M - new_m_M)
        p_MN = tl.exp2(s_MN - new_m_M[:, None])
        far_MN = tl.where(distance_MN >= k, p_MN, 0.0)
        l_M = l_M * shrink_M + tl.sum(p_MN, 1)
        a_M = a_M * shrink_M + tl.sum(far_MN, 1)
        b_M = b_M * shrink_M * shrink_M + tl.sum(far_MN * far_MN, 1)
        m_M = new_m_M
    far_m_M = m_M  # a and b stand at this maximum; they are rescaled once, at the end

    for begin in range(straddle_end, near_end, BLOCK_N):
        s_MN = _scores(q_MD, k_ptr, begin + tile_N, length, scale, softcap, D, BLOCK_D, HAS_SOFTCAP)
        if HAS_WINDOW:
            distance_MN = position_M[:, None] - (begin + tile_N)[None, :]
            s_MN = tl.where(distance_MN < window, s_MN, -float("inf"))
        new_m_M = tl.maximum(m_M, tl.max(s_MN, 1))
        l_M = l_M * tl.exp2(m_M - new_m_M) + tl.sum(tl.exp2(s_MN - new_m_M[:, None]), 1)
        m_M = new_m_M

    for begin in range(near_end, last + 1, BLOCK_N):
        s_MN = _scores(q_MD, k_ptr, begin + tile_N, length, scale, softcap, D, BLOCK_D, HAS_SOFTCAP)
        distance_MN = position_M[:, None] - (begin + tile_N)[None, :]
        seen_MN = distance_MN >= 0
        if HAS_WINDOW:
            seen_MN = seen_MN & (distance_MN < window)
        s_MN = tl.where(seen_MN, s_MN, -float("inf"))
        new_m_M = tl.maximum(m_M, tl.max(s_MN, 1))
        l_M = l_M * tl.exp2(m_M - new_m_M) + tl.sum(tl.exp2(s_MN - new_m_M[:, None]), 1)
        m_M = new_m_M

    shrink_M = tl.exp2(far_m_M - m_M)
    tl.store(mass_ptr + out_M, a_M * shrink_M / l_M, mask=valid_M)
    tl.store(square_ptr + out_M, b_M * shrink_M * shrink_M / (l_M * l_M), mask=valid_M)


_autotuned = triton.autotune(
    configs=CONFIGS, key=["D", "GROUP", "length", "HAS_SOFTCAP", "HAS_WINDOW"]
)(_far_kernel)
