"""What a window costs by longattn and by prolong: python -m benchmarks.efficiency ROOT SCORER LM.

Table 5 of the LongAttn paper in miniature: the same windows, the same model (SCORER is made of LM),
one thread, CPU seconds, sides in turn, medians over windows. prolong's full number of pairs takes
minutes a window on a CPU: it is timed on a tenth of them and multiplied. Prints the table of
docs/performance.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.tables.reading import columns_of
from longattn.udfs.scorers.base import Scorer, ScorerSpec
from longattn.udfs.scorers.kinds.prolong import ProLongSettings
from longattn.udfs.scorers.registry import load_scorer

PAIRS = ProLongSettings().num_pairs
TIMED_PAIRS = PAIRS // 10
SEGMENT = ProLongSettings().segment_tokens


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
    """The table; segments are scored once whatever the pairs, so pairs alone are scaled."""
    segments = length // SEGMENT
    per_pair = tenth_s / (segments / 2 + TIMED_PAIRS)  # a segment is half a pair's tokens
    rows = {
        "longattn, exact": exact_s,
        "longattn, 1/8 of the rows": sampled_s,
        f"prolong, {TIMED_PAIRS} pairs": tenth_s,
        f"prolong, {PAIRS} pairs (from {TIMED_PAIRS})": per_pair * (segments / 2 + PAIRS),
    }
    print(f"| SmolLM2-135M, L = {length:,} | CPU s | of exact |\n|---|--:|--:|")
    for name, seconds in rows.items():
        print(f"| {name} | {seconds:.2f} | {seconds / exact_s:.1f}x |")


if __name__ == "__main__":
    main()
