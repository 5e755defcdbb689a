"""The GPU scorer against two others, in one run: python -m benchmarks.score_gpu.

Published: per head, the whole L x L softmax matrix (out of memory is said, not hidden). Flash: two
log-sum-exps of stock flash attention, S1 = exp(lse_far - lse) and S2 likewise at twice the scale.
Ours: the fused Triton kernel. Needs a CUDA device; random weights are fine for timing.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.score_cpu import published
from longattn.udfs.attention.dispatch import far_statistics
from longattn.udfs.scorers.base import default_k

SHAPES = {"Llama-3.1-8B": (32, 8, 128), "Llama-3.1-70B": (64, 8, 128)}
LENGTHS = (8192, 32_768, 131_072)


def flash(q_BHLD: Tensor, k_BGLD: Tensor, k: int) -> Tensor:
    """The far mass and squares of each row from three causal passes that return log-sum-exps."""
    keys_BHLD = k_BGLD.repeat_interleave(q_BHLD.shape[1] // k_BGLD.shape[1], dim=1)
    scale = q_BHLD.shape[-1] ** -0.5

    def lse(queries: Tensor, keys: Tensor, factor: float) -> Tensor:
        attend = torch.ops.aten._scaled_dot_product_flash_attention
        result: Tensor = attend(queries, keys, keys, 0.0, True, False, scale=factor)[1]
        return result.float()

    far_queries, far_keys = q_BHLD[:, :, k:].contiguous(), keys_BHLD[:, :, :-k].contiguous()
    whole = lse(q_BHLD, keys_BHLD, scale)[:, :, k:]
    mass = (lse(far_queries, far_keys, scale) - whole).exp()
    square = (lse(far_queries, far_keys, 2 * scale) - 2 * whole).exp()
    return mass.sum() + square.sum()


def milliseconds(work: Callable[[], object], runs: int = 5) -> float | None:
    """Median of timed runs after a warm-up; None where the memory is too small."""
    try:
        work()
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None
    times = []
    for _ in range(runs):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        stop.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(stop))
    return sorted(times)[runs // 2]


def matmul_tflops() -> float:
    """The measured bf16 matmul rate, the share's denominator."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    ms = milliseconds(lambda: a @ b, 20)
    assert ms is not None  # 400 MB fit any GPU
    return 2 * 8192**3 / ms / 1e9


def row(name: str, length: int, rate: float) -> str:
    heads, key_heads, dim = SHAPES[name]
    q_BHLD = torch.randn(1, heads, length, dim, device="cuda", dtype=torch.bfloat16)
    k_BGLD = torch.randn(1, key_heads, length, dim, device="cuda", dtype=torch.bfloat16)
    k = default_k(length)
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    ours = milliseconds(lambda: far_statistics(q_BHLD, k_BGLD, k=k))
    peak = (torch.cuda.max_memory_allocated() - held) / 2**20
    others = [milliseconds(lambda f=f: f(q_BHLD, k_BGLD, k), 3) for f in (published, flash)]
    assert ours is not None  # the kernel's memory is linear in L
    tflops = heads * length * length * dim / ours / 1e9  # 2 flops on half of the matrix
    ratios = " | ".join("out of memory" if o is None else f"{o / ours:.1f}x" for o in others)
    return (
        f"| {name} | {length:,} | {ours:.2f} | {1000 / ours:.1f} | {tflops:.0f} "
        f"| {tflops / rate:.0%} | {peak:.0f} | {ratios} |"
    )


def main() -> None:
    if not torch.cuda.is_available():
        print("benchmarks.score_gpu: no CUDA device here; nothing was measured")
        return
    rate = matmul_tflops()
    device = torch.cuda.get_device_name()
    print(f"{device}, torch {torch.__version__}, bf16 matmul {rate:.0f} TFLOP/s\n")
    head = "| shape | L | ms/window | windows/s | TFLOP/s | of matmul | MiB | published | flash |"
    print(f"{head}\n|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name in SHAPES:
        for length in LENGTHS:
            print(row(name, length, rate), flush=True)


if __name__ == "__main__":
    main()
