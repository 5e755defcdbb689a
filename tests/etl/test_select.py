"""Selection: against pandas on 100,000 rows, the formulas head by head, cuts worked out by hand."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from longattn.etl.config import SelectConfig
from longattn.etl.ranking import contenders as stage
from longattn.etl.ranking import lds, rank
from longattn.udfs.errors import ConfigError

pytestmark = pytest.mark.spark
DOMAINS = {"arxiv": 70_000, "book": 29_900, "code": 100}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """100,000 scored windows in three domains; ds is coarse, so that there are many ties."""
    rng = np.random.default_rng(3)
    parts = []
    for domain, n in DOMAINS.items():
        ds = rng.gamma(2.0, 0.05, n).round(3)
        part = pd.DataFrame({"domain": domain, "ds": ds, "du": -1e-9 * rng.lognormal(0, 1, n)})
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    frame["window_id"] = [f"{x:016x}" for x in rng.permutation(len(frame))]
    frame["n_tokens"] = rng.integers(50, 150, len(frame)).astype("int32")
    frame["window_tokens"] = frame["n_tokens"]
    frame["doc_tokens"] = rng.integers(1, 20, len(frame)) * 1000
    frame["k"] = 10
    return frame


@pytest.fixture(scope="module")
def rows(spark: Any, frame: pd.DataFrame, tmp_path_factory: Any) -> Any:
    path = tmp_path_factory.mktemp("scores") / "scores.parquet"
    frame.to_parquet(path)
    return spark.read.parquet(str(path)).repartition(4)


def oracle(frame: pd.DataFrame, score: pd.Series) -> pd.DataFrame:
    """Each domain sorted on its own in pandas, best first, with rank and cumulative tokens."""
    best = frame.assign(lds=score).sort_values(
        ["domain", "lds", "window_id"], ascending=[True, False, True]
    )
    groups = best.groupby("domain")
    best["rank"] = groups.cumcount() + 1
    best["tokens_to"] = groups["window_tokens"].cumsum()
    best["n"] = groups["rank"].transform("size")
    return best


def zscore_lds(frame: pd.DataFrame, alpha: float) -> pd.Series:
    by_domain = frame.groupby("domain")
    ds, du = (
        (frame[c] - by_domain[c].transform("mean")) / by_domain[c].transform("std", ddof=1)
        for c in ("ds", "du")
    )
    return ds + alpha * du


def minmax_lds(frame: pd.DataFrame, alpha: float) -> pd.Series:
    """The published code's form: minmax(DS) - alpha * minmax(Var)."""
    scaled = frame.assign(var=-frame["du"])
    by_domain = scaled.groupby("domain")
    low, high = by_domain[["ds", "var"]].transform("min"), by_domain[["ds", "var"]].transform("max")
    unit = (scaled[["ds", "var"]] - low) / (high - low)
    return unit["ds"] - alpha * unit["var"]


def collected(selected: Any) -> pd.DataFrame:
    columns = ["domain", "window_id", "lds", "rank", "percentile", "tokens_to"]
    found = selected.select(*columns).toPandas()
    return found.sort_values(["domain", "rank"], ignore_index=True)


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    expected = expected.sort_values(["domain", "rank"], ignore_index=True)
    assert found["window_id"].tolist() == expected["window_id"].tolist()
    assert found["rank"].tolist() == expected["rank"].tolist()
    assert found["tokens_to"].tolist() == expected["tokens_to"].tolist()
    np.testing.assert_allclose(found["lds"], expected["lds"], rtol=1e-9, atol=1e-9)


class TestAgainstPandas:
    @pytest.mark.parametrize("normalize", ["zscore", "minmax"])
    def test_fraction(self, rows: Any, frame: pd.DataFrame, normalize: str) -> None:
        config = SelectConfig(by="lds", normalize=normalize, alpha=0.5)
        score = {"zscore": zscore_lds, "minmax": minmax_lds}[normalize](frame, 0.5)
        best = oracle(frame, score)
        found = collected(stage.select(rows, config, seed=0))
        assert_same(found, best[best["rank"] <= (0.125 * best["n"] + 0.5).astype(int)])
        tops = found.groupby("domain")["percentile"].max()
        assert (tops == 100).all()

    def test_budget_threshold_and_range_per_domain(self, rows: Any, frame: pd.DataFrame) -> None:
        config = SelectConfig(
            by="lds",
            tokens={"arxiv": 1_000_000},
            threshold={"code": 0.5},
            percentile={"book": [20.0, 70.0]},
        )
        best = oracle(frame, zscore_lds(frame, 0.5))
        percentile = 100 * (best["n"] - best["rank"] + 1) / best["n"]
        expected = best[
            ((best["domain"] == "arxiv") & (best["tokens_to"] <= 1_000_000))
            | ((best["domain"] == "code") & (best["lds"] >= 0.5))
            | ((best["domain"] == "book") & (percentile > 20) & (percentile <= 70))
        ]
        assert_same(collected(stage.select(rows, config, seed=0)), expected)

    @pytest.mark.parametrize("by", ["ds", "length"])
    def test_scores_with_many_ties(self, rows: Any, frame: pd.DataFrame, by: str) -> None:
        column = {"ds": "ds", "length": "doc_tokens"}[by]
        best = oracle(frame, frame[column].astype(float))
        found = collected(stage.select(rows, SelectConfig(by=by, fraction=0.3), seed=0))
        assert_same(found, best[best["rank"] <= (0.3 * best["n"] + 0.5).astype(int)])

    def test_no_bucket_holds_much_of_a_domain(self, rows: Any) -> None:
        """What bounds a task: the largest bucket, when all scores of a domain are equal too."""
        from pyspark.sql import functions as F

        equal = rows.where("domain = 'arxiv'").withColumn("lds", F.lit(1.0))
        keyed = equal.withColumn("sort_key", F.struct((-F.col("lds")).alias("down"), "window_id"))
        sized = keyed.withColumn("n_scored", F.lit(DOMAINS["arxiv"]))
        sizes = rank._placed(sized.join(rank._splits(sized), "domain")).groupBy("bucket").count()
        assert sizes.agg(F.max("count")).first()[0] < 3 * DOMAINS["arxiv"] / 128


class TestStatistics:
    def test_block_support_and_heads(self, spark: Any) -> None:
        """Far blocks drawn at random: DS and the variance are taken of the entries themselves."""
        rng = np.random.default_rng(0)
        length, k, heads = 16, 4, 3
        far = np.tril(rng.random((heads, length - k, length - k)))
        s1, s2 = far.sum((1, 2)), (far**2).sum((1, 2))
        row = ("w", length, k, s1.tolist(), s2.tolist(), 0.0, 0.0)
        ddl = "window_id string, n_tokens int, k int, head_s1 array<double>, head_s2 array<double>"
        scores = spark.createDataFrame([row], f"{ddl}, ds double, du double")

        def found(**settings: Any) -> tuple[float, float]:
            row = lds.dependency(scores, SelectConfig(by="lds", **settings)).first()
            return row["ds"], row["du"]

        block = [-f.var(ddof=1) for f in far]
        assert found(support="block") == pytest.approx((s1.mean() / length, np.mean(block)))
        assert found(support="block", heads=[2, 0])[1] == pytest.approx((block[2] + block[0]) / 2)
        whole = np.zeros((heads, length, length))
        whole[:, k:, : length - k] = far
        matrix = [-m.var(ddof=1) for m in whole]
        assert found(heads=[1]) == pytest.approx((s1[1] / length, matrix[1]))

    def test_agrees_with_the_torch_definition(self, spark: Any) -> None:
        attention = pytest.importorskip("longattn.udfs.attention.dependency")
        rng = np.random.default_rng(1)
        s1, s2 = rng.random(4) * 3, rng.random(4) * 1e-3
        scores = spark.createDataFrame(
            [("w", 32, 8, s1.tolist(), s2.tolist(), 0.0, 0.0)],
            "window_id string, n_tokens int, k int, head_s1 array<double>,"
            " head_s2 array<double>, ds double, du double",
        )
        for support in ("matrix", "block"):
            config = SelectConfig(by="lds", support=support, heads=[0, 1, 2, 3])
            row = lds.dependency(scores, config).first()
            ds, du = torch_dependency(attention, s1, s2, support)
            assert (row["ds"], row["du"]) == pytest.approx((ds, du), rel=1e-6)

    def test_a_block_of_one_entry_has_no_spread(self, spark: Any) -> None:
        ddl = "n_tokens int, k int, head_s1 array<double>, head_s2 array<double>, ds double"
        rows = spark.createDataFrame([(9, 8, [0.5], [0.25], 0.0, 0.0)], f"{ddl}, du double")
        row = lds.dependency(rows, SelectConfig(by="lds", support="block")).first()
        assert (row["ds"], row["du"]) == (pytest.approx(0.5 / 9), 0.0)

    def test_equal_values_count_zero(self, spark: Any) -> None:
        data = [("a", "x", 0.5, -1.0), ("b", "x", 0.5, -2.0), ("c", "y", 0.5, -2.0)]
        rows = spark.createDataFrame(data, "window_id string, domain string, ds double, du double")
        scored = (
            lds.score_by(rows, SelectConfig(by="lds", alpha=1.0), 0).orderBy("window_id").collect()
        )
        assert [row["lds"] for row in scored] == pytest.approx([0.5**0.5, -(0.5**0.5), 0.0])


def torch_dependency(attention: Any, s1: Any, s2: Any, support: str) -> tuple[float, float]:
    import torch

    ds, du = attention.dependency(torch.tensor(s1), torch.tensor(s2), 32, 8, support)
    return float(ds.mean()), float(du.mean())


class TestCut:
    @pytest.mark.parametrize(
        ("n", "fraction", "kept"), [(8, 0.125, 1), (20, 0.125, 3), (3, 0.1, 1), (5, 1.0, 5)]
    )
    def test_fraction_is_rounded_half_up_and_keeps_one(
        self, n: int, fraction: float, kept: int
    ) -> None:
        assert rank.cut_of("d", n, SelectConfig(by="lds", fraction=fraction)).last_rank == kept

    @pytest.mark.parametrize(
        ("bounds", "ranks"),
        [([90.0, 100.0], (1, 1)), ([0.0, 100.0], (1, 10)), ([0.0, 30.0], (8, 10))],
    )
    def test_percentiles_of_ten(self, bounds: list[float], ranks: tuple[int, int]) -> None:
        cut = rank.cut_of("d", 10, SelectConfig(by="lds", percentile=bounds))
        assert (cut.first_rank, cut.last_rank) == ranks

    def test_a_domain_without_a_cut_is_named(self) -> None:
        with pytest.raises(ConfigError, match="no cut for domain 'code'"):
            rank.cut_of("code", 10, SelectConfig(by="lds", fraction={"book": 0.5}))

    def test_no_bound_binds_by_default(self) -> None:
        assert rank.Cut(n_scored=1).min_score == -math.inf


class TestBaselines:
    def test_random_depends_on_the_seed_alone(self, rows: Any) -> None:
        def ids(seed: int) -> list[str]:
            selected = stage.select(rows.where("domain = 'code'"), by_random, seed)
            return [row["window_id"] for row in selected.orderBy("rank").collect()]

        by_random = SelectConfig(by="random", fraction=0.5)
        assert ids(1) == ids(1)
        assert ids(1) != ids(2)

    @pytest.mark.parametrize(
        ("by", "distance", "expected"),
        [
            ("recall:k=8", None, 7.0),
            ("recall:k=8", 8, 7.0),
            ("recall:k=8", 16, 5.0),
            ("ds", 32, 3.0),
            ("recall:k=8", {8: 0.5, 32: 2.0}, 7.0),
            ("cohesion:k=8", 32, 7.0),
        ],
    )
    def test_a_distance_takes_recalls_gain_from_there_on(
        self, spark: Any, by: str, distance: Any, expected: float
    ) -> None:
        measures = {"gain_from_8": 2.0, "gain_from_16": 2.0, "gain_from_32": 3.0, "other": 9.0}
        ddl = "window_id string, domain string, ds double, measures map<string,double>"
        rows = spark.createDataFrame([("w", "book", 7.0, measures)], ddl)
        row = lds.score_by(rows, SelectConfig(by=by, distance=distance), 0).first()
        assert row["lds"] == expected

    def test_a_missing_column_is_named(self, rows: Any) -> None:
        with pytest.raises(ConfigError, match="no column 'x'"):
            unchecked = SelectConfig(by="lds").model_copy(update={"by": "column", "column": "x"})
            lds.score_by(rows, unchecked, 0)


class TestCandidates:
    def test_other_scorers_and_other_windows_stay_out(self, spark: Any) -> None:
        """The domain is the window's of now, whatever it was when it was scored."""
        scores = spark.createDataFrame(
            [("w1", "s", "old"), ("w2", "s", "old"), ("w1", "other", "old")],
            "window_id string, scorer string, domain string",
        )
        windows = spark.createDataFrame(
            [("w1", "d1", "book", 9, 70)],
            "window_id string, doc_id string, domain string, n_tokens int, doc_tokens bigint",
        )
        rows = stage.candidates(scores, windows, "s").collect()
        assert [(r["window_id"], r["scorer"], r["domain"]) for r in rows] == [("w1", "s", "book")]
        assert (rows[0]["window_tokens"], rows[0]["doc_tokens"]) == (9, 70)

    def test_fingerprint_sees_values_but_not_order(self, spark: Any) -> None:
        def of(data: list[tuple[str, float]]) -> Any:
            return stage.fingerprint(spark.createDataFrame(data, "id string, ds double")).first()

        assert of([("a", 1.0), ("b", 2.0)]) == of([("b", 2.0), ("a", 1.0)])
        assert of([("a", 1.0), ("b", 2.0)]) != of([("a", 1.0), ("b", 2.5)])

    def test_fingerprint_tells_pairs_of_equal_rows_and_nulls_apart(self, spark: Any) -> None:
        def of(*ids: tuple[str | None, str | None]) -> Any:
            return stage.fingerprint(spark.createDataFrame(ids, "a string, b string")).first()

        x, y = ("x", "x"), ("y", "y")
        sets = [of(x, x), of(y, y), of((None, "x"), y), of(("x", None), y)]
        assert len(set(sets)) == 4
