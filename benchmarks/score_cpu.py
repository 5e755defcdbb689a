"""The CPU scorer against the published algorithm, in one run: python -m benchmarks.score_cpu.

Published: per head, the whole L x L softmax matrix, its far block by a mask, then sum and variance.
Ours: `udfs.attention.blocked`. Prints the tables of docs/performance.md. One thread
is timed in CPU seconds and two in seconds on the clock; the least of some runs that alternate
between the two sides, so that a busy machine favours neither.
"""

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from longattn.udfs.attention.blocked import TILE_KEYS, TILE_ROWS, has_bfloat16_products
from longattn.udfs.attention.dependency import dependency
from longattn.udfs.attention.dispatch import far_statistics
from longattn.udfs.attention.output import causal_output
from longattn.udfs.attention.sampled import far_statistics_sampled
from longattn.udfs.scorers.base import ScorerSpec, default_k

SHAPES = {"SmolLM2-135M": (9, 3, 64), "Llama-3.1-8B": (32, 8, 128)}
SCALING = "SmolLM2-135M"


def published(q_BHLD: Tensor, k_BGLD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """DS and variance per head from whole matrices, one head at a time to spare memory."""
    heads, length, dim = q_BHLD.shape[1:]
    group = heads // k_BGLD.shape[1]
    future = torch.ones(length, length, dtype=torch.bool, device=q_BHLD.device).triu(1)
    strengths, variances = [], []
    for head in range(heads):
        scores_LL = q_BHLD[0, head] @ k_BGLD[0, head // group].T / math.sqrt(dim)
        attention_LL = scores_LL.masked_fill(future, -math.inf).softmax(dim=-1)
        far_LL = attention_LL.tril(-k)
        strengths.append(far_LL.sum(dtype=torch.float32) / length)
        variances.append(far_LL.float().var())
    return torch.stack(strengths), torch.stack(variances)


def inputs(shape: str, length: int) -> tuple[Tensor, Tensor]:
    heads, key_heads, dim = SHAPES[shape]
    torch.manual_seed(0)
    return torch.randn(1, heads, length, dim), torch.randn(1, key_heads, length, dim)


def seconds(works: Sequence[Callable[[], object]], runs: int) -> list[float]:
    """The least time of each of some calls, made in turn."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    rounds = []
    for _ in range(runs):
        marks = [clock()]
        for work in works:
            work()
            marks.append(clock())
        rounds.append([after - before for before, after in pairwise(marks)])
    return [min(column) for column in zip(*rounds, strict=True)]


def against_published(shape: str, length: int, threads: int, runs: int) -> None:
    torch.set_num_threads(threads)
    q_BHLD, k_BGLD = inputs(shape, length)
    k = default_k(length)
    ours, theirs = seconds(
        [lambda: far_statistics(q_BHLD, k_BGLD, k=k), lambda: published(q_BHLD, k_BGLD, k)], runs
    )
    print(
        f"| {shape} | {length:,} | {threads} | {theirs:.2f} | {ours:.2f} | {theirs / ours:.1f}x "
        f"| {theirs / products(q_BHLD, length):.1f}x | {error(q_BHLD, k_BGLD, k):.0e} |",
        flush=True,
    )


def error(q_BHLD: Tensor, k_BGLD: Tensor, k: int) -> float:
    """The largest relative difference of DS or variance of any head."""
    ours = far_statistics(q_BHLD, k_BGLD, k=k)
    ds_H, du_H = dependency(ours.s1_BH[0], ours.s2_BH[0], q_BHLD.shape[2], k)
    theirs = published(q_BHLD, k_BGLD, k)
    pairs = zip((ds_H, -du_H), theirs, strict=True)
    return max(off_by(one, other) for one, other in pairs)


def off_by(one: Tensor, other: Tensor) -> float:
    """The largest relative difference from the other."""
    return float(((one - other).abs() / other).max())


def in_halves(shape: str, length: int, threads: int, runs: int) -> None:
    """The kernel on bfloat16 values against itself on float32 ones."""
    torch.set_num_threads(threads)
    whole = inputs(shape, length)
    half = [part.bfloat16() for part in whole]
    k = default_k(length)
    floats, halves = seconds(
        [lambda: far_statistics(*whole, k=k), lambda: far_statistics(*half, k=k)], runs
    )
    rounded, exact = far_statistics(*half, k=k), far_statistics(*whole, k=k)
    s1, s2 = off_by(rounded.s1_BH, exact.s1_BH), off_by(rounded.s2_BH, exact.s2_BH)
    print(
        f"| {shape} | {length:,} | {threads} | {floats:.2f} | {halves:.2f} | {floats / halves:.2f}x"
        f" | {s1:.0e} | {s2:.0e} |",
        flush=True,
    )


def outputs(shape: str, length: int, threads: int, runs: int) -> None:
    """A body's attention in bfloat16, as models that are read whole run it, against PyTorch's."""
    torch.set_num_threads(threads)
    q_BHLD, k_BGLD = (part.bfloat16() for part in inputs(shape, length))
    v_BGLD = k_BGLD.roll(1, dims=2)
    ours, theirs = seconds(
        [
            lambda: causal_output(q_BHLD, k_BGLD, v_BGLD),
            lambda: stock_output(q_BHLD, k_BGLD, v_BGLD),
        ],
        runs,
    )
    part = [values[..., : min(length, 2048), :] for values in (q_BHLD, k_BGLD, v_BGLD)]
    exact = stock_output(*(values.double() for values in part))
    errors = [
        float(torch.linalg.norm(way(*part).double() - exact) / torch.linalg.norm(exact))
        for way in (causal_output, stock_output)
    ]
    print(
        f"| {shape} | {length:,} | {threads} | {theirs:.2f} | {ours:.2f} | {theirs / ours:.2f}x"
        f" | {errors[0]:.4f} | {errors[1]:.4f} |",
        flush=True,
    )


def stock_output(q_BHLD: Tensor, k_BGLD: Tensor, v_BGLD: Tensor) -> Tensor:
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(q_BHLD, k_BGLD, v_BGLD, is_causal=True, enable_gqa=True).transpose(1, 2)


def products(q_BHLD: Tensor, length: int) -> float:
    """Seconds of the causal half's matrix products alone."""
    heads, dim = q_BHLD.shape[1], q_BHLD.shape[3]
    q_QD, k_ND = torch.randn(TILE_ROWS, dim), torch.randn(TILE_KEYS, dim)
    tile_QN = torch.zeros(TILE_ROWS, TILE_KEYS)
    (spent,) = seconds([lambda: [torch.mm(q_QD, k_ND.T, out=tile_QN) for _ in range(20)]], 10)
    return spent / 20 * heads * length * length / 2 / tile_QN.numel()


def scaling(length: int) -> None:
    """Print time and the memory above the inputs at one length; runs in a process of its own."""
    torch.set_num_threads(1)
    q_BHLD, k_BGLD = inputs(SCALING, length)
    k = default_k(length)
    far_statistics(q_BHLD[:, :, :512], k_BGLD[:, :, :512], k=128)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak that imports have made
    before = peak_kib()
    whole, sampled = seconds(
        [
            lambda: far_statistics(q_BHLD, k_BGLD, k=k),
            lambda: far_statistics_sampled(
                q_BHLD, k_BGLD, k=k, n_rows=length // 8, n_keys=ScorerSpec.sample_keys
            ),
        ],
        1 if length > 16_384 else 3,
    )
    mebibytes = (peak_kib() - before) / 1024
    print(f"| {length:,} | {whole:.2f} | {sampled:.2f} | {mebibytes:.0f} |", flush=True)


def peak_kib() -> int:
    """Peak resident memory since it was last reset, in KiB; Linux."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def _table(
    columns: str, row: Callable[[str, int, int, int], None], arguments: argparse.Namespace
) -> None:
    print(f"| shape | L | threads | {columns} |\n|---|{'--:|' * (columns.count('|') + 3)}")
    for shape, length in (("SmolLM2-135M", 8192), ("Llama-3.1-8B", 4096)):
        for threads in (1, 2):
            row(shape, arguments.length or length, threads, arguments.runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scaling", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--length", type=int, help="this one in place of the tables' lengths")
    arguments = parser.parse_args()
    if arguments.scaling:
        return scaling(arguments.scaling)
    columns = "published, s | ours, s | ratio | by products alone | error"
    _table(columns, against_published, arguments)
    if has_bfloat16_products():
        print()
        _table("float32, s | bfloat16, s | ratio | S1 off by | S2 off by", in_halves, arguments)
        print()
        _table(
            "PyTorch's, s | ours, s | ratio | ours off by | PyTorch's off by", outputs, arguments
        )
    print("\n| L | all rows, CPU s | 1/8 of the rows, CPU s | MiB above the inputs |")
    print("|--:|--:|--:|--:|", flush=True)
    for length in [arguments.length] if arguments.length else (4096, 8192, 16_384, 32_768):
        command = [sys.executable, "-m", "benchmarks.score_cpu", "--scaling", str(length)]
        subprocess.run(command, check=True)
    return None


if __name__ == "__main__":
    main()
