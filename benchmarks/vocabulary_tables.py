"""Would tables of q and k over the vocabulary pay? Projecting against gathering, one CPU thread.

`python -m benchmarks.vocabulary_tables [LENGTH ...]` prints the table of
docs/performance.md.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from longattn.udfs.scorers.base import ScorerSpec, TokenIds
from longattn.udfs.scorers.kinds.longattn import LongAttn, load_longattn

REPEATS = 5
VOCABULARY, COLUMNS = 49_152, 576 + 192  # SmolLM2-135M: nine query heads and three key heads of 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lengths", type=int, nargs="*", default=[2048, 8192, 16_384])
    given = parser.parse_args()
    torch.set_num_threads(1)
    scorer = load_longattn(ScorerSpec(scorer="longattn", model="data/scorer"))
    print("| L | score, ms | of it up to q and k, ms | gather q and k, ms | saved at most |")
    print("|---|---|---|---|---|")
    for length in given.lengths:
        print(row(scorer, np.random.default_rng(0).integers(0, VOCABULARY, length)))


def row(scorer: LongAttn, ids: TokenIds) -> str:
    ids_BL, table_VC = torch.as_tensor(ids)[None], torch.randn(VOCABULARY, COLUMNS)
    score = fastest(lambda: scorer.score([ids]))
    prefix = fastest(lambda: scorer.prefix.visit(ids_BL, (0,), lambda call: None))
    gather = fastest(lambda: table_VC[ids_BL[0]])
    saved = (prefix - gather) / score
    return f"| {len(ids)} | {score:.0f} | {prefix:.0f} | {gather:.0f} | {saved:.0%} |"


@torch.inference_mode()
def fastest(work: Callable[[], object]) -> float:
    """Milliseconds of the fastest of REPEATS runs; the others were disturbed."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return 1000 * min(seconds)


if __name__ == "__main__":
    main()
