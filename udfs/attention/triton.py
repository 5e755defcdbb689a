"""Far attention statistics on a GPU: one fused pass, forward only, no L x L buffer.

The fast twin of `blocked.far_statistics_blocked`, with its signature. A program owns a tile of
queries of one key head, all query heads of the group together, so that a tile of K is read once for
the whole group. It walks the keys in four stretches, each with only the work it needs:

    keys   0 ........ far ........ | straddle | ...... near ...... | diagonal
    work   m, l = a, b             | m l a b  | m, l               | m, l
    mask   none                    | distance | none               | causal

Statistics are float32 whatever the inputs (float16, bfloat16, float32).

Tested on: Triton's interpreter, against the definition, in float32 and float16 (it cannot multiply
bfloat16); compiled by Triton 3.9 for compute capability 8.0 and 9.0 in bfloat16 and float16, every
configuration below without register spills at D = 64 and 128. No GPU has run it: which
configuration wins, and how fast it is, benchmarks/score_gpu.py has yet to say.
"""

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

from longattn.udfs.attention.dependency import LOG2_E, FarStatistics, query_rows, score_scale, sums

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
CONFIGS = [
    triton.Config({"BLOCK_M": m, "BLOCK_N": n}, num_warps=warps, num_stages=stages)
    for m, n, warps, stages in (
        (128, 128, 8, 2),
        (128, 128, 8, 3),
        (128, 64, 4, 3),
        (128, 64, 8, 3),
        (64, 128, 4, 2),
        (64, 64, 4, 3),
        (64, 32, 4, 2),  # what fits where heads are wide or inputs float32
    )
]
# The exponent's multiply and subtract are one instruction where fusion is on, which Triton 3.10
# turns off unless asked.
LAUNCH = {"BLOCK_M": 32, "BLOCK_N": 32} if INTERPRETED else {"enable_fp_fusion": True}


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
    """As `dispatch.far_statistics`, for CUDA tensors (CPU tensors in the interpreter)."""
    position_R = query_rows(q_BHLD, rows).to(torch.int32)
    queries_BHRD = (q_BHLD if rows is None else q_BHLD.index_select(2, position_R)).contiguous()
    keys_BGLD = k_BGLD.contiguous()
    windows, heads, count, dim = queries_BHRD.shape
    key_heads, length = keys_BGLD.shape[1:3]
    group = heads // key_heads
    mass_BHR = torch.empty((windows, heads, count), dtype=torch.float32, device=q_BHLD.device)
    square_BHR = torch.empty_like(mass_BHR)
    multiplier = score_scale(q_BHLD, scale)

    def grid(meta: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(count * group, meta["BLOCK_M"]), windows * key_heads

    kernel = _far_kernel if INTERPRETED else _autotuned
    # Triton launches on the current device.
    with torch.cuda.device_of(q_BHLD):  # type: ignore[no-untyped-call]
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
            triton.next_power_of_2(length),
            # scores
            multiplier / (softcap or 1.0),
            (softcap or multiplier) * LOG2_E,
            # compile-time shape
            D=dim,
            BLOCK_D=max(triton.next_power_of_2(dim), 16),
            GROUP=group,
            HAS_SOFTCAP=softcap is not None,
            HAS_WINDOW=sliding_window is not None,
            **LAUNCH,
        )
    return sums(mass_BHR.double(), square_BHR.double(), keep_rows)


@triton.jit
def _tile(
    q_MD, k_ptr, position_M, begin, m_M, l_M, a_M, b_M,
    length, k, window, cap_scale, unit,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr, HAS_WINDOW: tl.constexpr,
    CAUSAL: tl.constexpr, FAR: tl.constexpr,
):  # fmt: skip
    """Take one tile of keys into the running sums.

    Scores are left unscaled: one of them is `unit` powers of two, which the subtraction of the
    maximum takes in its stride. FAR says which pairs of the tile are: "all", "some" or "none".
    """
    key_N = begin + tl.arange(0, BLOCK_N)
    dim_D = tl.arange(0, BLOCK_D)
    pointers_DN = k_ptr + key_N[None, :] * D + dim_D[:, None]
    if CAUSAL or FAR == "some":  # the last tile may reach past the window
        inside_DN = (key_N[None, :] < length) & (dim_D[:, None] < D)
        k_DN = tl.load(pointers_DN, mask=inside_DN, other=0.0)
    elif BLOCK_D == D:
        k_DN = tl.load(pointers_DN)
    else:
        k_DN = tl.load(pointers_DN, mask=dim_D[:, None] < D, other=0.0)
    s_MN = tl.dot(q_MD, k_DN, input_precision="tf32x3")
    if HAS_SOFTCAP:
        s_MN = 2.0 * tl.sigmoid(2.0 * cap_scale * s_MN) - 1.0  # tanh; one is now the cap

    distance_MN = position_M[:, None] - key_N[None, :]
    if CAUSAL or FAR == "some":
        s_MN = tl.where(distance_MN >= 0, s_MN, -float("inf"))
    if HAS_WINDOW:
        s_MN = tl.where(distance_MN < window, s_MN, -float("inf"))

    new_m_M = tl.maximum(m_M, tl.max(s_MN, 1))
    shrink_M = tl.exp2((m_M - new_m_M) * unit)
    p_MN = tl.exp2(s_MN * unit - (new_m_M * unit)[:, None])
    l_M = l_M * shrink_M + tl.sum(p_MN, 1)
    if FAR == "some":
        p_MN = tl.where(distance_MN >= k, p_MN, 0.0)
        a_M = a_M * shrink_M + tl.sum(p_MN, 1)
    if FAR != "none":
        b_M = b_M * (shrink_M * shrink_M) + tl.sum(p_MN * p_MN, 1)
    return new_m_M, l_M, a_M, b_M


@triton.jit
def _far_kernel(
    q_ptr, k_ptr, position_ptr, mass_ptr, square_ptr,
    count, length, k, window, length_class,
    cap_scale, unit,
    D: tl.constexpr, BLOCK_D: tl.constexpr, GROUP: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr, HAS_WINDOW: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Queries of a tile are (query row, head of the group), heads fastest."""
    # Late rows see most keys: starting with them leaves the short programs for the tail.
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    window_and_head = tl.program_id(1).to(tl.int64)
    query_M = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    row_M = query_M // GROUP
    valid_M = row_M < count
    first = tl.load(position_ptr + tile * BLOCK_M // GROUP)
    last = tl.load(position_ptr + tl.minimum((tile * BLOCK_M + BLOCK_M - 1) // GROUP, count - 1))
    position_M = tl.load(position_ptr + row_M, mask=valid_M, other=0)

    # Query heads of key head g are g * GROUP + h, so (window, g, h) is one flat head index.
    out_M = (window_and_head * GROUP + query_M % GROUP) * count + row_M
    dim_D = tl.arange(0, BLOCK_D)
    q_mask = valid_M[:, None] & (dim_D[None, :] < D)
    q_MD = tl.load(q_ptr + out_M[:, None] * D + dim_D[None, :], mask=q_mask, other=0.0)
    k_ptr += window_and_head * length * D

    m_M = tl.full([BLOCK_M], -1.0e30, tl.float32)  # finite: a padded row must not make NaN
    l_M = tl.zeros([BLOCK_M], tl.float32)
    a_M = tl.zeros([BLOCK_M], tl.float32)
    b_M = tl.zeros([BLOCK_M], tl.float32)

    start = 0
    if HAS_WINDOW:
        start = tl.maximum(first - window + 1, 0) // BLOCK_N * BLOCK_N
    far_end = tl.maximum(tl.maximum(first - k + 1, 0) // BLOCK_N * BLOCK_N, start)
    straddle_end = tl.maximum(tl.cdiv(tl.maximum(last - k + 1, 0), BLOCK_N) * BLOCK_N, far_end)
    near_end = tl.maximum((first + 1) // BLOCK_N * BLOCK_N, straddle_end)

    for begin in range(start, far_end, BLOCK_N):
        m_M, l_M, a_M, b_M = _tile(
            q_MD, k_ptr, position_M, begin, m_M, l_M, a_M, b_M,
            length, k, window, cap_scale, unit,
            D, BLOCK_D, BLOCK_N, HAS_SOFTCAP, HAS_WINDOW, False, "all",
        )  # fmt: skip
    a_M = l_M  # so far every key was far
    for begin in range(far_end, straddle_end, BLOCK_N):
        m_M, l_M, a_M, b_M = _tile(
            q_MD, k_ptr, position_M, begin, m_M, l_M, a_M, b_M,
            length, k, window, cap_scale, unit,
            D, BLOCK_D, BLOCK_N, HAS_SOFTCAP, HAS_WINDOW, True, "some",
        )  # fmt: skip
    far_m_M = m_M  # a and b stand at this maximum; they are rescaled once, at the end
    for begin in range(straddle_end, near_end, BLOCK_N):
        m_M, l_M, a_M, b_M = _tile(
            q_MD, k_ptr, position_M, begin, m_M, l_M, a_M, b_M,
            length, k, window, cap_scale, unit,
            D, BLOCK_D, BLOCK_N, HAS_SOFTCAP, HAS_WINDOW, False, "none",
        )  # fmt: skip
    for begin in range(near_end, last + 1, BLOCK_N):
        m_M, l_M, a_M, b_M = _tile(
            q_MD, k_ptr, position_M, begin, m_M, l_M, a_M, b_M,
            length, k, window, cap_scale, unit,
            D, BLOCK_D, BLOCK_N, HAS_SOFTCAP, HAS_WINDOW, True, "none",
        )  # fmt: skip

    share_M = tl.exp2((far_m_M - m_M) * unit) / l_M
    tl.store(mass_ptr + out_M, a_M * share_M, mask=valid_M)
    tl.store(square_ptr + out_M, b_M * share_M * share_M, mask=valid_M)


# Windows of like lengths share a choice: tuning anew for each length would cost more than it gains.
_autotuned = triton.autotune(
    configs=CONFIGS, key=["D", "GROUP", "length_class", "HAS_SOFTCAP", "HAS_WINDOW"]
)(_far_kernel)
