"""The figure that docs/evidence.md begins with: python -m benchmarks.evidence.figure OUT.png.

How far does each scorer agree with LongFilter's score, and what does it cost? Mean rank correlation
within domains, with its interval over documents, against the seconds of a window (`agreement`).
"""

import argparse
from math import log10
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.evidence.agreement import frontier
from benchmarks.evidence.gain import GAIN, JUDGES, read
from benchmarks.evidence.intervals import bounds
from benchmarks.evidence.scores import CHEAP, FROM_TRUTH, JUDGE, scored

COLOURS = {"tokens": "#1f6f8b", "model": "#c9893b", "judge": "#8a8a8a"}  # what a scorer reads
TITLE = "What agrees with a model's gain from far context, and what it costs"
FASTEST = 1e-3  # seconds: what takes less is drawn here
BESIDE: dict[str, Any] = {  # a label, legible where it stands on another scorer's bar
    "textcoords": "offset points",
    "bbox": {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
}
LABEL_HEIGHT, LABEL_WIDTH = 0.06, 0.8  # of a label, in correlation and in powers of ten


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--out", type=Path, default=GAIN, help="folder of the losses")
    given = parser.parse_args()
    judged = read(given.out)
    scores = scored(judged, JUDGES["SmolLM2-135M"], given.out)
    draw(frontier(scores), scores[scores.scorer == JUDGE], given.picture)


def draw(points: pd.DataFrame, judge: pd.DataFrame, picture: Path) -> None:
    """A point for each scorer with its interval and its name; the judge, at 1, is the last."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5.2), layout="constrained")
    axes.axhline(0, color="#b0b0b0", linewidth=1)
    cost = judge.seconds.median()
    labels: list[tuple[float, float]] = []
    most = points.windows.max()
    rising = points.assign(height=[draws[0] for draws in points.draws]).sort_values("height")
    for one in rising.to_dict("records"):
        x, y = max(one["seconds"], FASTEST), one["height"]
        colour = COLOURS[_kind(one["scorer"])]
        low, high = bounds(one["draws"])
        axes.vlines(x, low, high, color=colour, linewidth=1.5, alpha=0.45)
        axes.scatter(x, y, s=56, color=colour, zorder=2)
        labels.append((x, _free(x, y, labels)))
        of_fewer = f" ({one['windows']})" if one["windows"] < most else ""
        axes.annotate(one["scorer"] + of_fewer, labels[-1], (7, -4), color=colour, **BESIDE)
    axes.scatter(cost, 1, s=56, color="black", zorder=2)
    axes.annotate(f"{JUDGE}: the judge", (cost, 1), (-7, 6), textcoords="offset points", ha="right")
    lowest = min(bounds(draws)[0] for draws in points.draws)
    axes.set(xscale="log", xlim=(FASTEST / 1.6, cost * 7), ylim=(min(lowest, -0.2) - 0.1, 1.12))
    axes.set_xlabel("seconds of one core for a window of 8,192 tokens")
    axes.set_ylabel("rank correlation within a domain, mean of domains")
    axes.set_title(f"{TITLE}\n{_counts(points)}", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#ececec")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def _free(x: float, y: float, labels: list[tuple[float, float]]) -> float:
    """The height from y on at which a label stands on none of those there are."""
    beside = [high for other, high in labels if abs(log10(x / other)) < LABEL_WIDTH]
    while any(abs(y - high) < LABEL_HEIGHT for high in beside):
        y += LABEL_HEIGHT / 4
    return y


def _kind(scorer: str) -> str:
    if scorer in FROM_TRUTH:
        return "judge"
    return "tokens" if scorer in (*CHEAP, "calibrated") else "model"


def _counts(points: pd.DataFrame) -> str:
    """How many windows and domains most points are of."""
    windows, domains = points.windows.max(), points.domains.max()
    counted = f"{windows} windows (or as many as named) of {domains} domains"
    return f"{counted}; bars are 95 % intervals over documents"


if __name__ == "__main__":
    main()
