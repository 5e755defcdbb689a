"""Sampled scores and the cascade against exact scores, and what they cost.

`python -m benchmarks.sampling TABLES_ROOT SCORER` scores the windows of a `windows` table, exactly
and with several `score.sample_rows`, and prints the tables of docs/performance.md.
"""

import argparse
import time
from collections.abc import Iterator
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
WIDTHS = (4.0, 3.0, 2.0)  # standard errors


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
    print("| rows | cost | domain | rho DS | rho DU | rho LDS | top 1/8 in common | in 2 errors |")
    print("|---|--:|---|--:|--:|--:|--:|--:|")
    for share, sampled in scores.items():
        for line in agreement(exact, sampled, share):
            print(line)
    print("\n| rows | within | rescored | cost of exact | selection in common |")
    print("|---|--:|--:|--:|--:|")
    for share, sampled in scores.items():
        for width in WIDTHS:
            print(cascade(exact, sampled, share, width))


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


def agreement(exact: pd.DataFrame, sampled: pd.DataFrame, share: int) -> Iterator[str]:
    """A line per domain."""
    top, same = best(exact), best(sampled)
    exact, sampled = with_lds(exact), with_lds(sampled)
    for domain, mine in exact.groupby("domain"):
        theirs = sampled.loc[mine.index]
        rho = [spearman(mine[x].to_numpy(), theirs[x].to_numpy()) for x in ("ds", "du", "lds")]
        wanted = top & set(mine.index)
        inside = ((mine["ds"] - theirs["ds"]).abs() <= 2 * theirs["ds_se"]).mean()
        cells = [f"{value:.4f}" for value in rho] + [f"{len(wanted & same) / len(wanted):.0%}"]
        of_share = f"| 1/{share} | {cost(exact, sampled):.0%} | {domain} "
        yield f"{of_share}| {' | '.join(cells)} | {inside:.0%} |"


def cascade(exact: pd.DataFrame, sampled: pd.DataFrame, share: int, width: float) -> str:
    """Rescore what is near the cut until nothing is; a line."""
    now, rescored = sampled, pd.Series(False, index=exact.index)
    while (near := near_cut(now, width)).any():
        rescored |= near
        now = now.where(~rescored, exact)
    common = len(best(now) & best(exact)) / len(best(exact))
    spent = cost(exact, sampled) + rescored.mean()
    return f"| 1/{share} | {width:g} errors | {rescored.mean():.0%} | {spent:.0%} | {common:.0%} |"


def near_cut(scores: pd.DataFrame, width: float) -> pd.Series:
    """Which windows lie within some errors of the cut, midway between two neighbours."""
    scored, top = with_lds(scores), best(scores)
    kept = scored.index.isin(list(top))
    lowest = scored["lds"].where(kept).groupby(scored["domain"]).transform("min")
    below = scored["lds"].where(~kept).groupby(scored["domain"]).transform("max")
    distance = (scored["lds"] - (lowest + below) / 2).abs()
    return (scored["lds_se"] > 0) & (distance <= width * scored["lds_se"])


def cost(exact: pd.DataFrame, sampled: pd.DataFrame) -> float:
    """CPU seconds of sampled scores, of those of exact scores."""
    return float(sampled["seconds"].sum() / exact["seconds"].sum())


if __name__ == "__main__":
    main()
