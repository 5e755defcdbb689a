"""What a window costs by longattn and by prolong: python -m benchmarks.efficiency ROOT SCORER LM.

Table 5 of the LongAttn paper in miniature: the same windows, the same model (SCORER is made of LM),
one thread, CPU seconds, sides in turn, medians over windows. prolong's full number of pairs takes
minutes a window on a CPU: it is timed on a tenth of them and multiplied. FLOPs are counted by the
formulas below, also for the paper's model and length. Prints the table of
docs/performance.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.tables.reading import columns_of
from longattn.udfs.scorers.base import Scorer, ScorerSpec
from longattn.udfs.scorers.kinds.prolong import ProLongSettings
from longattn.udfs.scorers.registry import load_scorer

PAIRS = ProLongSettings().num_pairs
TIMED_PAIRS = PAIRS // 10
SEGMENT = ProLongSettings().segment_tokens


@dataclass(frozen=True)
class Shape:
    """Of a Llama: layers, hidden and inner sizes, heads, key heads, their size, vocabulary."""

    layers: int
    hidden: int
    inner: int
    heads: int
    key_heads: int
    size: int
    vocabulary: int

    @property
    def layer_weights(self) -> int:
        attention = self.hidden * self.size * (2 * self.heads + 2 * self.key_heads)
        return attention + 3 * self.hidden * self.inner


SMOLLM = Shape(30, 576, 1536, 9, 3, 64, 49_152)
LLAMA_8B = Shape(32, 4096, 14_336, 32, 8, 128, 128_256)


def longattn_flops(shape: Shape, length: int, share: float = 1.0) -> float:
    """q and k of the first layer, and the scores of `share` of the rows from k = L/4 on."""
    project = 2 * length * shape.hidden * shape.size * (shape.heads + shape.key_heads)
    rows = share * length if share < 1 else 3 * length / 4
    mean_keys = 5 * length / 8
    return project + 2 * rows * mean_keys * shape.heads * shape.size


def prolong_flops(shape: Shape, length: int, pairs: int = PAIRS) -> float:
    """Every segment once and every pair, through all layers; logits of one segment of each."""
    segments = length // SEGMENT
    tokens = segments * SEGMENT + pairs * 2 * SEGMENT
    attended = segments * SEGMENT**2 / 2 + pairs * (2 * SEGMENT) ** 2 / 2
    layers = 2 * tokens * shape.layer_weights + 4 * attended * shape.heads * shape.size
    logits = 2 * (segments + pairs) * SEGMENT * shape.hidden * shape.vocabulary
    return shape.layers * layers + logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root")
    parser.add_argument("scorer")
    parser.add_argument("model")
    parser.add_argument("--windows", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = columns_of(given.root, "windows", "window_id", "token_ids")
    step = len(table) // given.windows
    windows = [np.array(table["token_ids"][i * step].as_py()) for i in range(given.windows)]
    length = len(windows[0])
    longattn = ScorerSpec(scorer="longattn", model=given.scorer, device="cpu")
    sampled = ScorerSpec(
        scorer="longattn", model=given.scorer, device="cpu", sample_rows=length // 8
    )
    prolong = ScorerSpec(scorer="prolong", model=given.model, device="cpu", pairs=TIMED_PAIRS)
    scorers = [load_scorer(spec) for spec in (longattn, sampled, prolong)]
    exact_s, sampled_s, tenth_s = timed(scorers, windows)
    show(length, exact_s, sampled_s, tenth_s)


def timed(scorers: list[Scorer], windows: list[np.ndarray]) -> list[float]:
    """Median CPU seconds of a window by each scorer, in turn, after one window to warm up."""
    for scorer in scorers[:2]:
        scorer.score(windows[:1])
    seconds = [[cpu_seconds(lambda s=s, w=w: s.score([w])) for s in scorers] for w in windows]
    return [statistics.median(column) for column in zip(*seconds, strict=True)]


def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def show(length: int, exact_s: float, sampled_s: float, tenth_s: float) -> None:
    """The tables; segments are scored once whatever the pairs, so pairs alone are scaled."""
    segments = length // SEGMENT
    per_pair = tenth_s / (segments / 2 + TIMED_PAIRS)  # a segment is half a pair's tokens
    rows = [
        ("longattn, exact", exact_s, longattn_flops(SMOLLM, length)),
        ("longattn, 1/8 of the rows", sampled_s, longattn_flops(SMOLLM, length, 1 / 8)),
        (f"prolong, {TIMED_PAIRS} pairs", tenth_s, prolong_flops(SMOLLM, length, TIMED_PAIRS)),
        (
            f"prolong, {PAIRS} pairs (from {TIMED_PAIRS})",
            per_pair * (segments / 2 + PAIRS),
            prolong_flops(SMOLLM, length),
        ),
    ]
    print(f"| SmolLM2-135M, L = {length:,} | CPU s | of exact | GFLOP | of exact |")
    print("|---|--:|--:|--:|--:|")
    for name, seconds, flops in rows:
        of_s, of_flops = seconds / exact_s, flops / rows[0][2]
        print(f"| {name} | {seconds:.2f} | {of_s:.1f}x | {flops / 1e9:,.0f} | {of_flops:.1f}x |")
    print("\n| Llama-3.1-8B, L = 32,768, by formula | TFLOP | of exact |\n|---|--:|--:|")
    whole = longattn_flops(LLAMA_8B, 32_768)
    for name, flops in (
        ("longattn, exact", whole),
        ("longattn, 1/8 of the rows", longattn_flops(LLAMA_8B, 32_768, 1 / 8)),
        (f"prolong, {PAIRS} pairs", prolong_flops(LLAMA_8B, 32_768)),
    ):
        print(f"| {name} | {flops / 1e12:,.1f} | {flops / whole:.1f}x |")


if __name__ == "__main__":
    main()
