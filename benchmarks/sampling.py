"""Sampled scores and the cascade against exact scores, and what they cost.

`python -m benchmarks.sampling TABLES_ROOT SCORER` scores the windows of a `windows` table, exactly
and with several `score.sample_rows`, and prints the table of docs/performance.md.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from benchmarks.evidence.intervals import spearman
from benchmarks.tables.reading import columns_of
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.kinds.longattn import LongAttn, load_longattn

SHARES = (4, 8, 16)  # one row in so many
FRACTION, ALPHA = 0.125, 0.5
WIDTH = 2.0  # standard errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root")
    parser.add_argument("model")
    given = parser.parse_args()
    torch.set_num_threads(1)
    scorer = load_longattn(ScorerSpec(scorer="longattn", model=given.model, device="cpu"))
    table = columns_of(given.root, "windows", "window_id", "domain", "token_ids")
    windows, domains = table["token_ids"].to_numpy(), table["domain"].to_pylist()
    scores = {share: all_scores(scorer, windows, share) for share in (1, *SHARES)}
    scores = {share: frame.assign(domain=domains) for share, frame in scores.items()}
    exact = scores.pop(1)
    print(f"{len(domains)} windows of {', '.join(sorted(set(domains)))}; {scorer.version}\n")
    names = "cost of exact | Spearman of LDS | cascade rescores | cascade's cost | in common"
    print(f"| rows | {names} |\n|--:|--:|--:|--:|--:|--:|")
    for share, sampled in scores.items():
        print(row(exact, sampled, share))


def all_scores(scorer: LongAttn, windows: np.ndarray, share: int) -> pd.DataFrame:
    """ds, du, their errors and CPU seconds of all windows, from one row in `share`."""
    scores = []
    for window in windows:
        rows = len(window) // share if share > 1 else None
        scorer.spec = replace(scorer.spec, sample_rows=rows)
        started = time.process_time()
        (score,) = scorer.score([window.astype(np.int64)])
        scores.append({**score, "seconds": time.process_time() - started})
    return pd.DataFrame(scores)[["ds", "du", "ds_se", "du_se", "seconds"]]


def with_lds(scores: pd.DataFrame) -> pd.DataFrame:
    """Add lds and lds_se, as etl.ranking defines them in `lds` and `cascade`."""
    unit = {x: scores.groupby("domain")[x].transform("std") for x in ("ds", "du")}
    z = {x: (scores[x] - scores.groupby("domain")[x].transform("mean")) / unit[x] for x in unit}
    error = np.hypot(scores["ds_se"] / unit["ds"], ALPHA * scores["du_se"] / unit["du"])
    return scores.assign(lds=z["ds"] + ALPHA * z["du"], lds_se=error)


def best(scores: pd.DataFrame) -> set[int]:
    """Indices of the top of each domain."""
    groups = with_lds(scores).groupby("domain")["lds"]
    return {i for _, lds in groups for i in lds.nlargest(int(FRACTION * len(lds) + 0.5)).index}


def row(exact: pd.DataFrame, sampled: pd.DataFrame, share: int) -> str:
    """A line: what sampling costs and says, and what a cascade then costs and keeps."""
    rescored, now = cascade(exact, sampled)
    cost = float(sampled["seconds"].sum() / exact["seconds"].sum())
    common = len(best(now) & best(exact)) / len(best(exact))
    cells = (f"{part:.0%}" for part in (rescored, cost + rescored, common))
    return f"| 1/{share} | {cost:.0%} | {agreement(exact, sampled):.3f} | {' | '.join(cells)} |"


def agreement(exact: pd.DataFrame, sampled: pd.DataFrame) -> float:
    """Rank correlation of LDS within a domain, the mean of domains."""
    both = with_lds(exact).assign(theirs=with_lds(sampled)["lds"])
    groups = (group for _, group in both.groupby("domain"))
    return float(np.mean([spearman(g["lds"].to_numpy(), g["theirs"].to_numpy()) for g in groups]))


def cascade(exact: pd.DataFrame, sampled: pd.DataFrame) -> tuple[float, pd.DataFrame]:
    """Rescore what is near the cut until nothing is: the share rescored, and the scores then."""
    now, rescored = sampled, pd.Series(False, index=exact.index)
    while (near := near_cut(now, WIDTH)).any():
        rescored |= near
        now = now.where(~rescored, exact)
    return float(rescored.mean()), now


def near_cut(scores: pd.DataFrame, width: float) -> pd.Series:
    """Which windows lie within some errors of the cut, midway between two neighbours."""
    scored, top = with_lds(scores), best(scores)
    kept = scored.index.isin(list(top))
    lowest = scored["lds"].where(kept).groupby(scored["domain"]).transform("min")
    below = scored["lds"].where(~kept).groupby(scored["domain"]).transform("max")
    distance = (scored["lds"] - (lowest + below) / 2).abs()
    return (scored["lds_se"] > 0) & (distance <= width * scored["lds_se"])


if __name__ == "__main__":
    main()
