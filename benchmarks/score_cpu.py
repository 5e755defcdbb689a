"""The CPU scorer against the published algorithm, in one run: python -m benchmarks.score_cpu.

Published: per head, the whole L x L softmax matrix, its far block by a mask, then sum and variance.
Ours: `udfs.attention.far_statistics`. Prints the tables of docs/performance/scoring.md. Times are
CPU seconds of one thread, so that a busy machine changes them little.
"""

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from udfs.attention import default_k, dependency, far_statistics

SHAPES = {"SmolLM2-135M": (9, 3, 64), "Llama-3.1-8B": (32, 8, 128)}


def published(q_BHLD: Tensor, k_BGLD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """DS and variance per head from whole matrices, one head at a time to spare memory."""
    heads, length, dim = q_BHLD.shape[1:]
    group = heads // k_BGLD.shape[1]
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    strengths, variances = [], []
    for head in range(heads):
        scores_LL = q_BHLD[0, head] @ k_BGLD[0, head // group].T / math.sqrt(dim)
        attention_LL = scores_LL.masked_fill(future, -math.inf).softmax(dim=-1)
        far_LL = attention_LL.tril(-k)
        strengths.append(far_LL.sum() / length)
        variances.append(far_LL.var())
    return torch.stack(strengths), torch.stack(variances)


def inputs(shape: str, length: int) -> tuple[Tensor, Tensor]:
    heads, key_heads, dim = SHAPES[shape]
    torch.manual_seed(0)
    return torch.randn(1, heads, length, dim), torch.randn(1, key_heads, length, dim)


def cpu_seconds(work: Callable[[], object], runs: int) -> float:
    """Median CPU seconds of a call."""
    found = []
    for _ in range(runs):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return median(found)


def against_published(shape: str, length: int, runs: int) -> None:
    q_BHLD, k_BGLD = inputs(shape, length)
    k = default_k(length)
    ours = cpu_seconds(lambda: far_statistics(q_BHLD, k_BGLD, k=k), runs)
    theirs = cpu_seconds(lambda: published(q_BHLD, k_BGLD, k), runs)
    ds_H, variance_H = published(q_BHLD, k_BGLD, k)
    found = far_statistics(q_BHLD, k_BGLD, k=k)
    our_ds_H, our_du_H = dependency(found.s1_BH[0], found.s2_BH[0], length, k)
    error = max(relative(our_ds_H, ds_H), relative(-our_du_H, variance_H))
    floor = matmul_and_exp(q_BHLD, length)
    print(
        f"| {shape} | {length:,} | {theirs:.2f} | {ours:.2f} | {theirs / ours:.1f}x "
        f"| {floor:.2f} | {error:.0e} |"
    )


def relative(one: Tensor, other: Tensor) -> float:
    return float(((one - other).abs() / other.abs()).max())


def matmul_and_exp(q_BHLD: Tensor, length: int) -> float:
    """CPU seconds of the matrix products and one exp per score alone: what bounds the scorer."""
    heads, dim = q_BHLD.shape[1], q_BHLD.shape[3]
    q_QD, k_KD = torch.randn(384, dim), torch.randn(512, dim)
    tile_QK = torch.empty(384, 512)

    def tile() -> None:
        torch.mm(q_QD, k_KD.T, out=tile_QK)
        tile_QK.exp_()

    tiles = heads * length * length / 2 / tile_QK.numel()
    return cpu_seconds(lambda: [tile() for _ in range(20)], 5) / 20 * tiles


def scaling(length: int) -> None:
    """Print CPU seconds and the memory above the inputs at one length; runs in its own process."""
    q_BHLD, k_BGLD = inputs("SmolLM2-135M", length)
    far_statistics(q_BHLD[:, :, :512], k_BGLD[:, :, :512], k=128)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak that imports have made
    before = peak_kib()
    seconds = cpu_seconds(lambda: far_statistics(q_BHLD, k_BGLD, k=default_k(length)), 1)
    print(f"| {length:,} | {seconds:.2f} | {(peak_kib() - before) / 1024:.0f} |", flush=True)


def peak_kib() -> int:
    """Peak resident memory since it was last reset, in KiB; Linux."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scaling", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.scaling:
        return scaling(arguments.scaling)
    print("| shape | L | published, CPU s | ours, CPU s | ratio | matmul + exp alone, s | error |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    against_published("SmolLM2-135M", 8192, arguments.runs)
    against_published("Llama-3.1-8B", 4096, arguments.runs)
    print("\n| L | CPU s | MiB above the inputs |\n|--:|--:|--:|", flush=True)
    for length in (4096, 8192, 16_384, 32_768):
        command = [sys.executable, "-m", "benchmarks.score_cpu", "--scaling", str(length)]
        subprocess.run(command, check=True)
    return None


if __name__ == "__main__":
    main()
