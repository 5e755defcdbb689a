"""The figure that docs/evidence.md begins with: python -m benchmarks.evidence.figure OUT.png.

Where in a window does far context pay? Rank correlation, by blocks of 256 tokens, of scores that
read no model with LongFilter's terms of SmolLM2-135M, for every domain that was judged (see
`agreement`).
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.evidence.agreement import OUT, TERMS, within
from benchmarks.evidence.gain import Judged, read

LABELS = {"recall": "recall", "far hits": "a match of 4 tokens or more"}
COLOURS = {"recall": "#1f6f8b", "far hits": "#c9893b"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the losses")
    given = parser.parse_args()
    draw(read(given.out), given.picture)


def draw(judged: list[Judged], picture: Path) -> None:
    """A row for each domain, best agreement on top: a dot for each score, joined by a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    means, counts = by_domain(judged)
    order = sorted(means, key=lambda domain: means[domain]["recall"])
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(order) + 1.6), layout="constrained")
    for height, domain in enumerate(order):
        values = [means[domain][name] for name in TERMS]
        axes.plot(values, [height] * len(values), color="#c8c8c8", linewidth=2, zorder=1)
        for name, value in zip(TERMS, values, strict=True):
            axes.scatter(value, height, s=64, color=COLOURS[name], zorder=2)
    top = means[order[-1]]
    for name, side in zip(TERMS, ("left", "right"), strict=True):
        place, label = (top[name], len(order) - 0.66), LABELS[name]
        axes.annotate(label, place, color=COLOURS[name], ha=side, fontsize=9)
    axes.set_yticks(range(len(order)), [f"{d} ({counts[d]})" for d in order])
    axes.set(xlim=(0, 1), ylim=(-0.6, len(order) - 0.1))
    axes.set_xlabel("rank correlation with LongFilter's terms of SmolLM2-135M, by 256 tokens")
    axes.set_title(f"{TITLE} ({len(judged)} windows)", loc="left", fontsize=11)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#e6e6e6")
    axes.tick_params(length=0)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


TITLE = "Counting finds most of the places where far context pays"


def by_domain(judged: list[Judged]) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """Mean agreement within the windows of each domain by each score, and how many windows."""
    found: dict[str, list[list[float]]] = {}
    for window in judged:
        each = [within(window, of) for of in TERMS.values()]
        found.setdefault(window.place.domain.replace("_", " "), []).append(each)
    means = {
        domain: dict(zip(TERMS, map(float, np.mean(rows, axis=0)), strict=True))
        for domain, rows in found.items()
    }
    return means, {domain: len(rows) for domain, rows in found.items()}


if __name__ == "__main__":
    main()
