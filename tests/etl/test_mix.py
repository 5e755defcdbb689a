"""The mix: plans worked out by hand, the rows taken for them, and a shuffle that repeats itself."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longattn.etl.config import MixConfig, validate
from longattn.etl.ranking import strata
from longattn.etl.selection import mix as stage
from longattn.etl.selection.mix import Supply
from longattn.udfs.errors import ConfigError

SUPPLY = {"book": Supply(windows=10, tokens=1000), "code": Supply(windows=5, tokens=500)}


def plan(**settings: Any) -> dict[str, tuple[int, int, int]]:
    shares = stage.plan(SUPPLY, MixConfig(**settings))
    return {s.domain: (s.planned, s.rounds, s.extra) for s in shares}


class TestPlan:
    def test_without_weights_all_that_was_selected(self) -> None:
        assert plan() == {"book": (1000, 1, 0), "code": (500, 1, 0)}

    def test_a_total_without_weights_keeps_proportions(self) -> None:
        assert plan(tokens=300) == {"book": (200, 0, 200), "code": (100, 0, 100)}

    def test_weights_without_a_total_are_kept_exactly(self) -> None:
        assert plan(weights={"book": 30.0, "code": 30.0}) == {
            "book": (500, 0, 500),
            "code": (500, 1, 0),
        }

    def test_a_domain_without_weight_has_no_part(self) -> None:
        assert plan(weights={"book": 1.0})["code"] == (0, 0, 0)

    def test_a_short_domain_is_repeated_up_to_max_copies(self) -> None:
        repeat: dict[str, Any] = {"tokens": 2400, "weights": {"book": 1.0, "code": 1.0}}
        assert plan(**repeat, short="repeat") == {"book": (1200, 1, 200), "code": (1200, 2, 200)}
        assert plan(**repeat, short="repeat", max_copies=2)["code"] == (1200, 2, 0)

    def test_a_short_domain_falls_short(self) -> None:
        assert plan(tokens=2400, weights={"book": 1.0, "code": 1.0})["code"] == (1200, 1, 0)

    def test_a_short_domain_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match=r"code has 500 tokens selected .* asks for 1,600"):
            plan(tokens=2400, weights={"book": 1.0, "code": 2.0, "book2": 0.0}, short="error")

    def test_a_domain_that_was_never_selected_is_planned_and_empty(self) -> None:
        found = plan(tokens=100, weights={"book": 1.0, "wiki": 1.0})
        assert found["wiki"] == (50, 0, 50)

    @given(
        weights=st.dictionaries(st.sampled_from("abc"), st.floats(0.01, 100), min_size=1),
        tokens=st.fixed_dictionaries({d: st.integers(1, 10**12) for d in "abc"}),
        short=st.sampled_from(["shortfall", "repeat"]),
    )
    def test_the_domain_that_limits_the_mix_is_taken_whole(
        self, weights: dict[str, float], tokens: dict[str, int], short: Any
    ) -> None:
        """As of 11 windows and 1 with the weights 11 and 1; rounding down would lose the last."""
        supply = {domain: Supply(windows=1, tokens=n) for domain, n in tokens.items()}
        config = MixConfig(weights=weights, short=short, max_copies=3)
        copies = 3 if short == "repeat" else 1
        shares = stage.plan(supply, config)
        assert any(s.planned == s.supply.tokens * copies and s.rounds == copies for s in shares)

    @given(
        weights=st.dictionaries(st.sampled_from(["book", "code"]), st.floats(0.1, 100), min_size=1),
        short=st.sampled_from(["shortfall", "repeat"]),
        total=st.none() | st.integers(1, 10_000),
    )
    def test_no_domain_gets_more_than_planned(
        self, weights: dict[str, float], short: Any, total: int | None
    ) -> None:
        config = MixConfig(weights=weights, short=short, tokens=total)
        for share in stage.plan(SUPPLY, config):
            taken = share.rounds * share.supply.tokens + share.extra
            copies = config.max_copies if short == "repeat" else 1
            assert taken <= share.planned
            assert share.rounds <= copies


def within(supply: dict[str, int], **mix: Any) -> dict[str, float]:
    """Tokens planned for every stratum, or part, of what was selected."""
    window = {"length": max(mix["buckets"]), "strategy": "tile"} if "buckets" in mix else {}
    config = validate({"mix": mix, "window": window, "pack": {"domains": ["wiki"]}})
    given = {name: Supply(windows=1, tokens=n) for name, n in supply.items()}
    shares = stage.plan(given, config.mix, stage.strata_of(given, config))
    return {s.domain: s.planned for s in shares}


BUCKETS = {16: 0.2, 64: 0.8}


class TestStrata:
    def test_buckets_share_the_tokens_of_their_domain(self) -> None:
        supply = {"book/16": 500, "book/64": 800, "code/16": 20, "code/64": 900, "wiki/packed": 70}
        assert within(supply, buckets=BUCKETS) == {
            "book/16": 200,  # 64 limits it
            "book/64": 800,
            "code/16": 20,
            "code/64": 80,
            "wiki/packed": 70,
        }
        weighed = within(supply, buckets=BUCKETS, weights={"book": 3, "code": 1, "wiki": 1})
        assert weighed == {
            "book/16": 42,  # wiki limits it: 70 of each fifth
            "book/64": 168,
            "code/16": 14,
            "code/64": 56,
            "wiki/packed": 70,
        }

    def test_a_bucket_that_has_nothing_keeps_its_share(self) -> None:
        planned = within({"book/16": 50}, buckets=BUCKETS, tokens=100)
        assert planned == {"book/16": 20, "book/64": 80}

    def test_long_documents_count_more_often_and_the_domains_share_stays(self) -> None:
        supply = {"book from 0": 600, "book from 32": 400, "code from 0": 1000}
        plain = {"weights": {"book": 1.0, "code": 1.0}, "tokens": 1300}
        found = within(supply, upsample_long={32: 5.0}, **plain)
        assert found == {"book from 0": 150, "book from 32": 500, "code from 0": 650}
        assert within({"book": 1000, "code": 1000}, **plain) == {"book": 650, "code": 650}

    def test_without_a_total_the_long_ones_are_taken_whole(self) -> None:
        found = within({"book from 0": 600, "book from 32": 400}, upsample_long={32: 5.0})
        assert found == {"book from 0": 120, "book from 32": 400}

    def test_a_domain_that_has_nothing_is_planned_where_long_ones_count_more(self) -> None:
        weights = {"book": 1.0, "gone": 1.0}
        found = within({"book from 32": 400}, upsample_long={32: 5.0}, weights=weights, tokens=900)
        assert found == {"book from 32": 450, "gone from 0": 450}
        config = validate({"mix": {"upsample_long": {32: 5.0}}})
        assert strata.part_of("gone from 0", config) == ("gone", 1)

    def test_long_documents_within_buckets(self) -> None:
        supply = {"book/16 from 0": 100, "book/16 from 99": 50, "book/64 from 99": 800}
        found = within(supply, buckets=BUCKETS, upsample_long={99: 2.0})
        assert found == {
            "book/16 from 0": 50,  # 16 has 100 for the 400 that 64 could have: its long ones limit
            "book/16 from 99": 50,
            "book/64 from 99": 400,
        }


@pytest.mark.spark
class TestMix:
    @pytest.fixture
    def selected(self, spark: Any) -> Any:
        """Ten windows of 100 tokens, ranks 3 to 12: a percentile range starts below the best."""
        data = [(f"w{rank:02}", "book", rank, 100, rank * 100) for rank in range(3, 13)]
        ddl = "window_id string, domain string, rank bigint, window_tokens int, tokens_to bigint"
        return spark.createDataFrame(data, ddl)

    def mixed(self, selected: Any, seed: int = 0, **settings: Any) -> list[Any]:
        shares = stage.plan(stage.supplies(selected), MixConfig(**settings))
        return list(stage.mix(selected, shares, seed).orderBy("rank").collect())

    def test_the_best_fill_the_share_and_no_window_crosses_it(self, selected: Any) -> None:
        rows = self.mixed(selected, tokens=350)
        assert [row["copies"] for row in rows] == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]

    def test_repeats_are_even_and_the_best_come_once_more(self, selected: Any) -> None:
        rows = self.mixed(selected, tokens=2200, short="repeat")
        assert [row["copies"] for row in rows] == [3, 3, 2, 2, 2, 2, 2, 2, 2, 2]

    def test_long_documents_are_taken_from_their_best_on(self, selected: Any) -> None:
        """Every third window is of a long document: of these all are taken, of others a fifth."""
        from pyspark.sql import functions as F

        config = validate({"mix": {"upsample_long": {1000: 5.0}}})
        doc_tokens = F.when(F.col("rank") % 3 == 0, 1000).otherwise(999)
        kept = strata.apart(selected.withColumn("doc_tokens", doc_tokens), config)
        supply = stage.supplies(kept)
        assert {s: of.tokens for s, of in supply.items()} == {
            "book from 0": 600,
            "book from 1000": 400,
        }
        shares = stage.plan(supply, config.mix, stage.strata_of(supply, config))
        mixed = strata.as_domains(stage.mix(kept, shares, 0), config).orderBy("rank").collect()
        assert [(row["domain"], row["rank"]) for row in mixed if row["copies"]] == [
            ("book", 3),
            ("book", 4),
            ("book", 6),
            ("book", 9),
            ("book", 12),
        ]

    def test_the_shuffle_depends_on_the_seed_alone(self, selected: Any) -> None:
        keys = [[r["mix_order"] for r in self.mixed(selected, seed)] for seed in (1, 1, 2)]
        assert keys[0] == keys[1] != keys[2]
        assert len(set(keys[0])) == 10

    def test_copies_of_a_window_stand_apart(self, selected: Any) -> None:
        from pyspark.sql import functions as F

        shares = stage.plan(stage.supplies(selected), MixConfig())
        rows = stage.mix(selected, shares, 0)
        keys = rows.select(
            *(stage.copy_order(F.col("mix_order"), F.lit(copy)) for copy in (1, 2, 3))
        ).collect()
        assert len({key for row in keys for key in row}) == 30
