"""The cascade: windows near the cut by pandas, and the selection that exact scores would make."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from longattn.etl.config import SelectConfig
from longattn.etl.ranking import cascade, lds
from longattn.etl.ranking import contenders as stage
from longattn.etl.run.context import Context
from longattn.etl.scoring import job as score
from longattn.etl.selection import current
from longattn.etl.selection import job as select
from longattn.etl.tables.schema import SCORES, WINDOWS
from tests.conftest import SCORER

pytestmark = pytest.mark.spark
LENGTH, N_WINDOWS = 128, 32


def frame(seed: int, n: int = 400) -> pd.DataFrame:
    """Two domains of sampled scores whose errors stay within three standard errors."""
    rng = np.random.default_rng(seed)
    found = pd.DataFrame({"domain": np.where(rng.random(n) < 0.4, "book", "code")})
    found["window_id"] = [f"w{i:04}" for i in rng.permutation(n)]
    found["true_ds"], found["true_du"] = rng.gamma(5, 0.02, n), -rng.gamma(5, 1e-9, n)
    for name, unit in (("ds", 0.01), ("du", 5e-10)):
        found[f"{name}_se"] = unit * rng.random(n) * (rng.random(n) < 0.9)
        found[name] = found[f"true_{name}"] + found[f"{name}_se"] * rng.uniform(-3, 3, n)
    return found.assign(window_tokens=8, doc_tokens=8)


def near_cut(rows: pd.DataFrame, config: SelectConfig, width: float) -> set[str]:
    """The definition, in pandas: the cut is midway between two neighbours in the ranking."""
    near: set[str] = set()
    for _, mine in rows.groupby("domain"):
        if config.by == "ds":
            mine = mine.assign(lds=mine["ds"], se=mine["ds_se"])
        else:
            unit = {name: mine[name].std() for name in ("ds", "du")}
            z = {name: (mine[name] - mine[name].mean()) / unit[name] for name in ("ds", "du")}
            errors = mine["ds_se"] / unit["ds"], config.alpha * mine["du_se"] / unit["du"]
            se = np.hypot(*errors) if config.alpha > 0 else errors[0] - errors[1]
            mine = mine.assign(lds=z["ds"] + config.alpha * z["du"], se=se)
        best = mine.sort_values("lds", ascending=False, ignore_index=True)
        for rank in _cut_ranks(config, len(best)):
            cut = best["lds"].iloc[rank - 1 : rank + 1].mean()
            hits = best[(best["se"] > 0) & ((best["lds"] - cut).abs() <= width * best["se"])]
            near |= set(hits["window_id"])
    return near


def _cut_ranks(config: SelectConfig, n: int) -> list[int]:
    """After which ranks the selection changes; percentiles 50 to 80 leave out the best fifth."""
    if config.percentile:
        return [n - int(0.8 * n), n - int(0.5 * n)]
    assert isinstance(config.fraction, float)
    return [int(config.fraction * n + 0.5)]


@pytest.mark.parametrize(
    "settings",
    [{"alpha": 2.0}, {"alpha": -0.5}, {"by": "ds", "fraction": 0.3}, {"percentile": [50.0, 80.0]}],
)
def test_windows_near_the_cut_are_those_of_the_definition(
    spark: Any, settings: dict[str, Any]
) -> None:
    config, rows = SelectConfig(**{"by": "lds", **settings}), frame(1)
    found = cascade.straddlers(spark.createDataFrame(rows), config, seed=0, width=2.0)
    expected = near_cut(rows, config, 2.0)
    assert 0 < len(expected) < len(rows) / 2
    assert {row["window_id"] for row in found.collect()} == expected


def test_errors_are_in_the_unit_of_all_windows_whatever_filters_leave(spark: Any) -> None:
    """As scores are; and a scorer's name stands for what it ranks by."""
    rows = spark.createDataFrame(frame(2)).withColumn("refused", F.expr("if(ds > 0.1, 'x', null)"))
    config = SelectConfig(by="lds", alpha=0.5)
    every = errors(cascade.with_error(lds.score_by(rows, config, 0), config, rows))
    left = errors(cascade.with_error(stage.contenders(rows, config, 0), config, rows))
    assert 0 < len(left) < len(every)
    assert left == {name: every[name] for name in left}
    named = config.model_copy(update={"by": "longattn"})
    assert errors(cascade.with_error(lds.score_by(rows, named, 0), named, rows)) == every


def errors(rows: Any) -> dict[str, float]:
    return {row["window_id"]: row["lds_se"] for row in rows.collect()}


@pytest.mark.parametrize("seed", range(2))
def test_in_the_end_the_selection_is_that_of_exact_scores(spark: Any, seed: int) -> None:
    """With errors inside the intervals, whatever they are; by DS, which needs no spread."""
    config, rows = SelectConfig(by="ds", fraction=0.2), frame(seed)
    exact = rows.assign(ds=rows["true_ds"])
    rounds = 0
    while near := cascade.straddlers(spark.createDataFrame(rows), config, 0, 3.0).collect():
        mine = rows["window_id"].isin([row["window_id"] for row in near])
        rows.loc[mine, "ds"], rows.loc[mine, "ds_se"] = rows.loc[mine, "true_ds"], 0.0
        rounds += 1

    def kept(of: pd.DataFrame) -> set[str]:
        chosen = stage.select(spark.createDataFrame(of), config, seed=0)
        return {row["window_id"] for row in chosen.collect()}

    assert kept(rows) == kept(exact)
    assert 0 < rounds < 10 and (rows["ds_se"] > 0).mean() > 0.4


def test_an_exact_score_stands_in_for_a_sampled_one(spark: Any) -> None:
    rows = [("w1", "some", 0.1), ("w2", "some", 0.2), ("w1", "all", 0.3), ("w3", "old", 0.4)]
    rows.append(("w2", "all", 0.5))
    scores = spark.createDataFrame(rows, "window_id string, scorer string, ds double")
    found = cascade.best_known(scores, sampled="some", exact="all", of=["w1", "w3"])
    found = found.orderBy("window_id")
    assert [tuple(row) for row in found.collect()] == [("w1", "some", 0.3), ("w2", "some", 0.2)]


@pytest.mark.demo
def test_the_job_rescores_only_near_the_cut(make_context: Callable[..., Context]) -> None:
    """The real scorer on short windows: the selection of exact scores, from fewer of them.

    Exact scores that no window near the cut needed change nothing.
    """
    exactly = {"scorer": "longattn", "model": str(SCORER), "device": "cpu"}
    sampled = exactly | {"sample_rows": 64, "sample_keys": 8, "cascade": 3.0}
    context, exact = (
        make_context(
            sources={"book": [], "code": []},
            window={"length": LENGTH},
            score=score_by,
            select={"fraction": 0.25, "compare": [], "ablate_alpha": []},
        )
        for score_by in (sampled, exactly)
    )
    context.tables.append("windows", windows(context))
    outcome = score.run(context.fresh())
    rescored = outcome.metrics["exact_windows"]
    assert outcome.rows_in == outcome.rows_out == N_WINDOWS and 0 < rescored < N_WINDOWS
    assert context.tables["scores"].read().count() == N_WINDOWS + rescored
    chosen = selected(context.fresh())
    assert score.run(exact).rows_out == N_WINDOWS - rescored
    assert set(selected(exact.fresh())) == set(chosen) and len(chosen) == N_WINDOWS / 4
    assert score.run(context.fresh()).metrics["exact_windows"] == 0
    assert selected(context.fresh()) == chosen


@pytest.mark.demo
def test_another_version_of_the_scorer_may_have_other_heads(
    make_context: Callable[..., Context],
) -> None:
    """Heads are chosen of the config's own; the older version counts with all that it has."""
    context = make_context(
        sources={"book": [], "code": []},
        window={"length": LENGTH},
        score={"scorer": "longattn", "model": str(SCORER), "device": "cpu"},
        select={"by": "lds", "fraction": 0.25, "heads": [8], "compare": [], "ablate_alpha": []},
    )
    context.tables.append("windows", windows(context))
    own = context.recipe.scorer.version
    older = f"{own}:older"
    for version, n_heads in ((own, 9), (older, 5)):
        context.tables.append("scores", by_hand(context, version, n_heads))
    outcome = select.run(context.fresh())
    assert outcome.rows_out == N_WINDOWS / 4
    assert {("longattn", "book"), ("longattn", "code")} <= set(outcome.figures.overlaps)


def by_hand(context: Context, version: str, n_heads: int) -> Any:
    """Scores of all windows, with so many heads, drawn by the version's length."""
    drawn = np.random.default_rng(len(version)).random((N_WINDOWS, n_heads))
    rows = [
        dict.fromkeys(SCORES.columns)
        | {"window_id": f"w{i:03}", "domain": ("book", "code")[i % 2], "scorer": version}
        | {"ds": float(heads.mean()), "du": -float(heads.var()), "n_tokens": LENGTH, "k": 32}
        | {"head_s1": heads.tolist(), "head_s2": heads.tolist()}
        for i, heads in enumerate(drawn)
    ]
    return context.spark.createDataFrame(rows, SCORES.schema)


def selected(context: Context) -> dict[str, float]:
    """Windows with their scores."""
    select.run(context)
    _, rows = current.current_selection(context)
    return {row["window_id"]: row["score"] for row in rows.collect()}


def windows(context: Context) -> Any:
    """Windows of two domains; token ids of which some come often and some seldom."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "window_id": f"w{i:03}",
            "doc_id": f"d{i:03}",
            "domain": ("book", "code")[i % 2],
            "window_index": 0,
            "n_tokens": LENGTH,
            "windowing": context.recipe.windowing,
            "token_ids": (rng.zipf(1.2, LENGTH) % rng.integers(50, 49_000)).tolist(),
        }
        for i in range(N_WINDOWS)
    ]
    return context.spark.createDataFrame(rows, WINDOWS.schema)
