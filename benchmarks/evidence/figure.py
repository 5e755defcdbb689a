"""The figure that docs/evidence.md begins with: python -m benchmarks.evidence.figure OUT.png.

How far does each scorer agree with LongFilter's score, and what does it cost? Mean rank correlation
within domains, with its interval over documents, against the seconds of a window (`agreement`).
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks.evidence.agreement import bounds, frontier
from benchmarks.evidence.gain import JUDGES, OUT, read
from benchmarks.evidence.scores import FROM_TRUTH, JUDGE, scored

COLOURS = {"tokens": "#1f6f8b", "attention": "#c9893b", "judge": "#8a8a8a"}
TITLE = "What agrees with a model's gain from far context, and what it costs"
FASTEST = 1e-3  # seconds: what takes less is drawn here


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--out", type=Path, default=OUT / "gain", help="folder of the losses")
    given = parser.parse_args()
    judged = read(given.out)
    scores = scored(judged, JUDGES["SmolLM2-135M"], given.out)
    draw(frontier(scores), scores[scores.scorer == JUDGE], given.picture)


def draw(found: pd.DataFrame, judge: pd.DataFrame, picture: Path) -> None:
    """A point for each scorer with its interval and its name; the judge, at 1, is the last."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5.2), layout="constrained")
    axes.axhline(0, color="#b0b0b0", linewidth=1)
    for one in found.to_dict("records"):
        x, y = max(one["seconds"], FASTEST), one["draws"][0]
        colour = COLOURS[_kind(one["scorer"])]
        low, high = bounds(one["draws"])
        axes.vlines(x, low, high, color=colour, linewidth=1.5, alpha=0.45)
        axes.scatter(x, y, s=56, color=colour, zorder=2)
        axes.annotate(one["scorer"], (x, y), (7, 3), textcoords="offset points", color=colour)
    cost = judge.seconds.median()
    axes.scatter(cost, 1, s=56, color="black", zorder=2)
    axes.annotate(f"{JUDGE}: the judge", (cost, 1), (-7, 6), textcoords="offset points", ha="right")
    axes.set(xscale="log", xlim=(FASTEST / 1.6, cost * 3), ylim=(-0.6, 1.12))
    axes.set_xlabel("seconds of one core for a window of 8,192 tokens")
    axes.set_ylabel("rank correlation within a domain, mean of domains")
    axes.set_title(f"{TITLE}\n{_counts(found)}", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#ececec")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def _kind(scorer: str) -> str:
    if scorer in FROM_TRUTH:
        return "judge"
    return "attention" if scorer.startswith(("longattn", "ladm")) else "tokens"


def _counts(found: pd.DataFrame) -> str:
    """How many windows and domains most points are of."""
    windows, domains = found.windows.max(), found.domains.max()
    return f"{windows} windows of {domains} domains; bars are 95 % intervals over documents"


if __name__ == "__main__":
    main()
