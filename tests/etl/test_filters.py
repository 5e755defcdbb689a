"""Selecting by more than one score: filters, weighted sums and documents, against pandas."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from longattn.etl.config import SelectConfig
from longattn.etl.ranking import contenders as stage
from longattn.etl.ranking import filters

pytestmark = pytest.mark.spark
FRACTION = 0.2


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """300 windows of 60 documents in two domains; some lack the score `b`, some have ties."""
    rng = np.random.default_rng(5)
    found = pd.DataFrame({"doc": rng.integers(0, 60, 300)})
    found["doc_id"] = found["doc"].map("d{:02}".format)
    found["domain"] = np.where(found["doc"] % 3 == 0, "book", "code")
    found["window_id"] = [f"w{i:03}" for i in rng.permutation(300)]
    found["a"] = rng.gamma(2, 1, 300).round(1)
    found["b"] = np.where(rng.random(300) < 0.9, rng.normal(5, 3, 300) + found["a"], np.nan)
    return found.assign(ds=found["a"], du=0.0, window_tokens=8, doc_tokens=8, n_tokens=8, k=2)


def scores(spark: Any, frame: pd.DataFrame, column: str) -> Any:
    """The rows that have a score, as another scorer's candidates."""
    known = frame.dropna(subset=[column])
    return spark.createDataFrame(known[["window_id", "domain"]].assign(lds=known[column]))


def candidates(spark: Any, frame: pd.DataFrame) -> Any:
    rows = spark.createDataFrame(frame.drop(columns=["doc", "a", "b"]))
    return rows.selectExpr("*", "cast(null as string) as refused")


def percentile(frame: pd.DataFrame, column: str) -> pd.Series:
    """Of rank r of n, 100 (n - r + 1) / n within the domain; ties by window_id."""
    best = frame.dropna(subset=[column]).sort_values([column, "window_id"], ascending=[False, True])
    groups = best.groupby("domain")
    n, rank = groups[column].transform("size"), groups.cumcount() + 1
    return (100 * (n - rank + 1) / n).reindex(frame.index)


def top(frame: pd.DataFrame, score: pd.Series, totals: dict[str, int]) -> set[str]:
    """The best of each domain: a fraction of all its windows, whatever was left out before."""
    kept: set[str] = set()
    for domain, mine in frame.assign(score=score).groupby("domain"):
        best = mine.sort_values(["score", "window_id"], ascending=[False, True])
        kept |= set(best["window_id"][: int(FRACTION * totals[str(domain)] + 0.5)])
    return kept


def zscore(frame: pd.DataFrame, column: str) -> pd.Series:
    groups = frame.groupby("domain")[column]
    return (frame[column] - groups.transform("mean")) / groups.transform("std", ddof=1)


def kept(rows: Any, **settings: Any) -> set[str]:
    config = SelectConfig(**{"by": "lds", "fraction": FRACTION, **settings})
    return {row["window_id"] for row in stage.select(rows, config, seed=0).collect()}


def test_a_band_of_another_score_comes_before_the_ranking(spark: Any, frame: pd.DataFrame) -> None:
    rows = filters.refuse_outside(
        candidates(spark, frame), scores(spark, frame, "b"), "cohesion:cell=64", [20.0, 80.0]
    ).cache()
    where = [{"scorer": "cohesion", "percentile": [20.0, 80.0]}]
    of_b = percentile(frame, "b")
    inside = frame[(of_b > 20) & (of_b <= 80)]
    totals = frame["domain"].value_counts().to_dict()
    assert kept(rows, by="ds", where=where) == top(inside, inside["a"], totals)
    no_score = int(frame["b"].isna().sum())
    assert stage.refusals(rows) == {
        "no_cohesion_score": no_score,
        "where_cohesion": len(frame) - len(inside) - no_score,
    }


def test_a_weighted_sum_of_standardised_scores(spark: Any, frame: pd.DataFrame) -> None:
    weights = {"recall": 1.0, "cohesion": -0.5}
    of = {"recall": scores(spark, frame, "a"), "cohesion": scores(spark, frame, "b")}
    rows = filters.add_weighted(candidates(spark, frame), of, weights).cache()
    both = frame.dropna(subset=["b"])
    total = (zscore(frame, "a") - 0.5 * zscore(frame, "b")).loc[both.index]
    totals = frame["domain"].value_counts().to_dict()
    found = rows.where("refused is null").select("window_id", "weighted").toPandas()
    mine = found.set_index("window_id")["weighted"].reindex(both["window_id"])
    np.testing.assert_allclose(mine, total, rtol=1e-9)
    settings = {"by": {"random": 1.0, "cohesion": -0.5}}  # what is summed is in the rows
    assert kept(rows, **settings) == top(both, total, totals)
    assert stage.refusals(rows) == {"no_cohesion_score": int(frame["b"].isna().sum())}


@pytest.mark.parametrize("at_most", [1, 2])
def test_so_many_windows_of_a_document(spark: Any, frame: pd.DataFrame, at_most: int) -> None:
    best = frame.sort_values(["a", "window_id"], ascending=[False, True])
    some = best[best.groupby("doc_id").cumcount() < at_most]
    totals = frame["domain"].value_counts().to_dict()
    found = kept(candidates(spark, frame), by="ds", per_document=at_most)
    assert found == top(some, some["a"], totals)
    assert frame[frame["window_id"].isin(found)]["doc_id"].value_counts().max() == at_most


def test_percentiles_of_a_selection_are_of_what_is_ranked(spark: Any, frame: pd.DataFrame) -> None:
    config = SelectConfig(by="ds", per_document=1, percentile=[50.0, 100.0])
    found = stage.select(candidates(spark, frame), config, seed=0).toPandas()
    documents = frame.groupby("domain")["doc_id"].nunique()
    assert found.groupby("domain").size().to_dict() == {d: n - n // 2 for d, n in documents.items()}
    assert found["percentile"].max() == 100 and found["percentile"].min() > 50


def test_windows_without_the_measure_that_they_are_ranked_by(spark: Any) -> None:
    """They are refused, so that they neither count as ranked nor take a place below the cut."""
    data = [(f"w{n}", "book", {"gain": n / 10} if n % 5 else {}, 8, 8) for n in range(10)]
    ddl = "window_id string, domain string, measures map<string,double>, window_tokens int, n int"
    config = SelectConfig(by="column", column="measures.gain", fraction=0.5)
    rows = filters.refuse_without(spark.createDataFrame(data, ddl), "gain")
    assert stage.refusals(rows) == {"no_measure": 2}
    left = stage.contending(rows, config, 0, {"book": 10})
    assert left.ranked == {"book": 8}
    assert {row["window_id"] for row in left.best(config).collect()} == {
        *("w9", "w8", "w7", "w6", "w4")
    }
