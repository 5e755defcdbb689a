"""Do two judges, or one judge by two settings, say the same? python -m benchmarks.evidence.judges.

Takes folders of losses that `agreement` has written; each is set beside the first, window by
window. Judges with tokenizers of their own are compared by windows alone.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.evidence.agreement import Vector, block_means, resampled
from benchmarks.evidence.gain import Judged, read
from benchmarks.evidence.intervals import interval, spearman
from benchmarks.evidence.markdown import head, row
from benchmarks.evidence.scores import FEWEST, described


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("first", type=Path, help="folder of losses")
    parser.add_argument("others", type=Path, nargs="+", help="folders of losses")
    given = parser.parse_args()
    print("\n".join(table(read(given.first), {path.name: read(path) for path in given.others})))


def table(first: list[Judged], others: dict[str, list[Judged]]) -> Iterator[str]:
    """A row for each of the others: windows in common, their scores, their blocks, their cost."""
    names = ("windows", "Spearman of windows, mean of kinds", "Spearman of blocks of 1,024")
    yield from head("judge", *names, "mean score", "of the first", "CPU seconds", "of the first")
    for name, judged in others.items():
        pairs = in_common(first, judged)
        ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
        blocks = [spearman(*by_block) for by_block in map(both_blocks, pairs) if by_block]
        yield row(
            name,
            str(len(pairs)),
            interval(of_windows(ours, theirs)),
            f"{np.mean(blocks):.2f}" if blocks else "",
            *(f"{np.mean([w.gain.mean() for w in side]):.5f}" for side in (theirs, ours)),
            *(f"{pd.Series([w.seconds for w in side]).median():.0f}" for side in (theirs, ours)),
        )


def in_common(first: list[Judged], other: list[Judged]) -> list[tuple[Judged, Judged]]:
    known = {window.place: window for window in other}
    return [(window, known[window.place]) for window in first if window.place in known]


def of_windows(first: list[Judged], other: list[Judged]) -> Vector:
    """Rank correlation of two judges' scores within kinds of text, and its draws of documents."""
    ours = described(first).set_index("file").truth.rename("ds")
    rows = described(other).join(ours, on="file", how="inner")
    groups = [some for _, some in rows.groupby("kind") if len(some) >= FEWEST]
    draws: Vector = np.mean([resampled(some) for some in groups or [rows]], axis=0)
    return draws


def both_blocks(pair: tuple[Judged, Judged]) -> tuple[Vector, Vector] | None:
    """Means of both judges' terms over blocks of K tokens; None where their tokens differ."""
    if not np.array_equal(pair[0].token_ids, pair[1].token_ids):
        return None
    one, other = (block_means(window.gain.astype(float)) for window in pair)
    return one, other


if __name__ == "__main__":
    main()
