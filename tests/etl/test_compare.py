"""What other choices keep, against pandas: sorted domain by domain, choice by choice."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from longattn.etl.config import SelectConfig
from longattn.etl.ranking import rank
from longattn.etl.ranking.rank import cut_of
from longattn.etl.selection import compare

SIZES = {"arxiv": 600, "a/b": 300, "code": 7}
FRACTION = 0.125


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    domains = np.repeat(list(SIZES), list(SIZES.values()))
    n = len(domains)
    return pd.DataFrame(
        {
            "window_id": [f"{x:016x}" for x in rng.permutation(n)],
            "domain": domains,
            "doc_id": [f"d{x}" for x in rng.integers(0, n // 3, n)],
            "ds": rng.gamma(2.0, 0.05, n).round(3),
            "du": -1e-9 * rng.lognormal(0, 1, n),
            "doc_tokens": rng.integers(1, 20, n) * 1000,
            "window_tokens": 100,
        }
    )


def kept(frame: pd.DataFrame, score: pd.Series, per_document: int | None = None) -> pd.DataFrame:
    """The best eighth of each domain by a score, rounded half up; ties by window_id."""
    best = frame.assign(score=score).sort_values(["score", "window_id"], ascending=[False, True])
    if per_document:
        best = best[best.groupby(["domain", "doc_id"]).cumcount() < per_document]
    places = best.groupby("domain").cumcount()
    room = best["domain"].map({d: max(1, int(FRACTION * n + 0.5)) for d, n in SIZES.items()})
    return best[places < room]


def lds(frame: pd.DataFrame, alpha: float) -> pd.Series:
    groups = frame.groupby("domain")
    ds, du = ((frame[c] - groups[c].transform("mean")) / groups[c].transform("std") for c in DS_DU)
    return ds + alpha * du


DS_DU = ("ds", "du")


def expected(main: pd.DataFrame, others: Mapping[str, pd.DataFrame]) -> dict[tuple[str, str], Any]:
    """(name, domain) -> windows of main, and those that the other has of them."""
    return {
        (name, str(domain)): (len(mine), int(mine["window_id"].isin(other["window_id"]).sum()))
        for name, other in others.items()
        for domain, mine in main.groupby("domain")
    }


def found(shares: Any) -> dict[tuple[str, str], Any]:
    rows = shares.collect()
    assert all(row["share"] == row["common"] / row["windows"] for row in rows)
    return {(row["name"], row["domain"]): (row["windows"], row["common"]) for row in rows}


def read(spark: Any, frame: pd.DataFrame, path: Any) -> Any:
    frame.to_parquet(path)
    return spark.read.parquet(str(path))


@pytest.mark.spark
@pytest.mark.parametrize(("per_document", "one_task"), [(None, 500), (1, 50_000)])
def test_shares_are_what_each_choice_would_keep_sorted_alone(
    spark: Any,
    frame: pd.DataFrame,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    per_document: int | None,
    one_task: int,
) -> None:
    monkeypatch.setattr(rank, "ONE_TASK", one_task)  # rows that one task sorts: 600 are too many
    config = SelectConfig(
        by="lds",
        fraction=FRACTION,
        per_document=per_document,
        compare=["length", "ds"],
        ablate_alpha=[0.0, 2.0],
    )
    others = {
        "length": kept(frame, frame["doc_tokens"], per_document),
        "ds": kept(frame, frame["ds"], per_document),
        "alpha=0": kept(frame, lds(frame, 0.0), per_document),
        "alpha=2": kept(frame, lds(frame, 2.0), per_document),
    }
    main = kept(frame, lds(frame, 0.5), per_document)
    rows = read(spark, frame, tmp_path / "rows.parquet")
    rankings = compare.by_settings(rows, compare.variants(config), seed=0)
    chosen = read(spark, main[["window_id", "domain"]], tmp_path / "main.parquet")
    assert found(compare.shares(chosen, [rankings])) == expected(main, others)


@pytest.mark.spark
def test_other_scorers_are_ranked_by_their_own_scores_and_may_know_less(
    spark: Any, frame: pd.DataFrame, tmp_path: Any
) -> None:
    few = frame[frame["domain"] != "arxiv"]
    main = kept(few, few["ds"])
    known = few[few["domain"] == "code"].assign(lds=few["du"])
    rest = few[few["domain"] != "code"]
    absent = rest.assign(lds=rest["ds"], window_id="x" + rest["window_id"])
    columns = ["window_id", "domain", "window_tokens", "lds"]
    scores = {
        name: read(spark, rows[columns], tmp_path / f"{name}.parquet")
        for name, rows in {"known": known, "absent": absent}.items()
    }
    scores["none"] = scores["known"].where("false")
    scores["elsewhere"] = scores["known"].withColumn("domain", F.lit("new"))  # has no cut
    others = {"known": kept(known, known["lds"]), "absent": absent[:0], "elsewhere": absent[:0]}
    domains = dict.fromkeys(few["domain"], FRACTION)
    config = SelectConfig(by="lds", fraction=domains)
    rankings = compare.by_scores(scores, config, domains)
    chosen = read(spark, main[["window_id", "domain"]], tmp_path / "main.parquet")
    assert found(compare.shares(chosen, [rankings])) == expected(main, others)
    assert compare.shares(chosen, []).collect() == []


def test_by_other_scores_as_many_windows_count_as_a_threshold_has_kept() -> None:
    config = SelectConfig(threshold={"book": 0.3}, fraction={"code": 0.1}, percentile=[20, 90])
    other = compare.comparable(config, {"book": 7, "code": 2}, {"book": 33, "code": 19, "web": 3})
    assert (other.threshold, other.percentile, other.tokens) == (None, None, None)
    lasts = {d: cut_of(d, n, other).last_rank for d, n in (("book", 33), ("code", 19))}
    assert lasts == {"book": 7, "code": 2}
    without = SelectConfig(tokens=10)
    assert compare.comparable(without, {}, {"book": 1}) == without


def test_variants_are_baselines_then_alphas() -> None:
    config = SelectConfig(by="lds", compare=["random", "ds_se"], ablate_alpha=[0.0, 1.0])
    assert [(name, v.by, v.column, v.alpha) for name, v in compare.variants(config).items()] == [
        ("random", "random", None, 0.5),
        ("ds_se", "column", "ds_se", 0.5),
        ("alpha=0", "lds", None, 0.0),
        ("alpha=1", "lds", None, 1.0),
    ]
