"""What sampled scores lose, on real windows: python -m benchmarks.sampling TABLES_ROOT SCORER.

Every row of every window in the `windows` table is scored once; the sampled scores are those that
`score.sample_rows` would give, from the same rows. Prints the tables of
docs/performance/sampling.md: agreement with exact scores, and what the cascade (`score.cascade`)
costs to select as exact scores do.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from deltalake import DeltaTable

from benchmarks.evidence.statistics import spearman
from udfs.attention import FarStatistics, default_k, dependency, far_statistics
from udfs.longattn import LongAttn, estimated, load_longattn
from udfs.sampling import RowSample, sample_rows
from udfs.scorers import ScorerSpec

SHARES = (2, 4, 8)  # of all rows of a window
FRACTION, ALPHA = 0.125, 0.5
WIDTHS = (4.0, 3.0, 2.0)  # standard errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root")
    parser.add_argument("model")
    given = parser.parse_args()
    torch.set_num_threads(1)
    scorer = load_longattn(ScorerSpec(model=given.model, device="cpu"))
    windows = DeltaTable(f"{given.root}/windows").to_pyarrow_table(columns=["domain", "token_ids"])
    sampled, domains = all_scores(scorer, windows.to_pylist()), windows["domain"].to_pylist()
    exact = sampled[1].assign(domain=domains)
    print(f"{len(domains)} windows of {', '.join(sorted(set(domains)))}; {scorer.version}\n")
    print("| rows | cost | domain | rho DS | rho DU | rho LDS | top 1/8 in common | in 2 errors |")
    print("|---|--:|---|--:|--:|--:|--:|--:|")
    for share in SHARES:
        for line in agreement(exact, sampled[share].assign(domain=domains), share):
            print(line)
    print("\n| rows | within | rescored | cost of exact | selection in common |")
    print("|---|--:|--:|--:|--:|")
    for share in SHARES:
        for width in WIDTHS:
            print(cascade(exact, sampled[share].assign(domain=domains), share, width))


def all_scores(scorer: LongAttn, windows: list[dict[str, list[int]]]) -> dict[int, pd.DataFrame]:
    """ds, du and their errors of all windows, by one over the share of rows; 1 is exact."""
    found: dict[int, list[dict[str, float]]] = {share: [] for share in (1, *SHARES)}
    for window in windows:
        rows = all_rows(scorer, np.array(window["token_ids"]))
        for share, scores in found.items():
            scores.append(score_of(rows, share))
    return {share: pd.DataFrame(scores) for share, scores in found.items()}


def all_rows(scorer: LongAttn, token_ids: np.ndarray) -> FarStatistics:
    ids_BL = scorer.with_bos([token_ids])
    found: list[FarStatistics] = []
    k = scorer.k_of(ids_BL.shape[1])
    with torch.inference_mode():
        scorer.prefix.visit(
            ids_BL,
            (0,),
            lambda call: found.append(
                far_statistics(call.q_BHLD, call.k_BGLD, k=k, keep_rows=True, **call.score_options)
            ),
        )
    return found[0]


def score_of(rows: FarStatistics, share: int) -> dict[str, float]:
    """The score from one in `share` rows."""
    assert rows.row_mass_BHR is not None and rows.row_square_BHR is not None
    length = rows.row_mass_BHR.shape[2]
    k = default_k(length)
    sample = sample_rows(length, k, length // share, seed=0) if share > 1 else None
    s1_H, s2_H, ds_se, du_se = rows.s1_BH[0], rows.s2_BH[0], 0.0, 0.0
    if sample:
        s1_H, s2_H, ds_se, du_se = estimated([at(rows, sample)], 0, length, sample)
    ds_H, du_H = dependency(s1_H, s2_H, length, k)
    return {"ds": float(ds_H.mean()), "du": float(du_H.mean()), "ds_se": ds_se, "du_se": du_se}


def at(rows: FarStatistics, sample: RowSample) -> FarStatistics:
    assert rows.row_mass_BHR is not None and rows.row_square_BHR is not None
    mass_BHR, square_BHR = (
        values[..., sample.rows_R] for values in (rows.row_mass_BHR, rows.row_square_BHR)
    )
    return replace(rows, row_mass_BHR=mass_BHR, row_square_BHR=square_BHR)


def with_lds(scores: pd.DataFrame) -> pd.DataFrame:
    """Add lds and lds_se, as etl.stages.select and etl.stages.cascade define them."""
    unit = {x: scores.groupby("domain")[x].transform("std") for x in ("ds", "du")}
    z = {x: (scores[x] - scores.groupby("domain")[x].transform("mean")) / unit[x] for x in unit}
    error = scores["ds_se"] / unit["ds"] + ALPHA * scores["du_se"] / unit["du"]
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
        of_share = f"| 1/{share} | {cost(share):.0%} | {domain} "
        yield f"{of_share}| {' | '.join(cells)} | {inside:.0%} |"


def cascade(exact: pd.DataFrame, sampled: pd.DataFrame, share: int, width: float) -> str:
    """Rescore what is near the cut until nothing is; a line."""
    now, rescored = sampled, pd.Series(False, index=exact.index)
    while (near := near_cut(now, width)).any():
        rescored |= near
        now = now.where(~rescored, exact)
    common = len(best(now) & best(exact)) / len(best(exact))
    spent = cost(share) + rescored.mean()
    return f"| 1/{share} | {width:g} errors | {rescored.mean():.0%} | {spent:.0%} | {common:.0%} |"


def near_cut(scores: pd.DataFrame, width: float) -> pd.Series:
    """Which windows lie within some errors of the cut, midway between two neighbours."""
    scored, top = with_lds(scores), best(scores)
    kept = scored.index.isin(list(top))
    lowest = scored["lds"].where(kept).groupby(scored["domain"]).transform("min")
    below = scored["lds"].where(~kept).groupby(scored["domain"]).transform("max")
    distance = (scored["lds"] - (lowest + below) / 2).abs()
    return (scored["lds_se"] > 0) & (distance <= width * scored["lds_se"])


def cost(share: int) -> float:
    """Pairs of query and key looked at, of all; rows below k have no far block and are left out."""
    length, k = 8192, 2048
    drawn = length / share * (length + k) / 2
    return min(1.0, drawn / (length * length / 2))


if __name__ == "__main__":
    main()
