"""Lexical cohesion: against all orders of a few cells, Python sets, and texts made by hand."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longattn.udfs.scorers.base import ScorerSpec, TokenIds
from longattn.udfs.scorers.kinds import cohesion as kind
from longattn.udfs.scorers.kinds.cohesion import (
    CELL,
    Cohesion,
    affinity,
    cohesion,
    distance_weights,
    order_variance,
)
from longattn.udfs.scorers.registry import load_scorer, scorer_version

N = 6
LENGTH = 64 * CELL


def symmetric(values: list[float]) -> np.ndarray:
    """A symmetric matrix of N rows with these above a diagonal of 0, their mean taken off."""
    matrix = np.zeros((N, N))
    matrix[np.triu_indices(N, 1)] = np.array(values) - np.mean(values)
    return matrix + matrix.T


ENTRIES = st.lists(st.floats(-5, 5), min_size=15, max_size=15)


@settings(max_examples=10, deadline=None)
@given(ENTRIES, ENTRIES)
def test_the_variance_is_that_over_all_orders(a: list[float], w: list[float]) -> None:
    left, right = symmetric(a), symmetric(w)
    orders = [list(order) for order in permutations(range(N))]
    totals = np.array([(left[np.ix_(order, order)] * right).sum() for order in orders])
    assert totals.mean() == pytest.approx(0, abs=1e-9)
    assert order_variance(left, right) == pytest.approx(totals.var(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("kinds", [1, 7, 1000])
def test_affinity_is_the_cosine_of_weighted_sets(
    kinds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether all kinds of tokens are held in memory together, or some at a time."""
    monkeypatch.setattr(kind, "TOGETHER", 8 * kinds)
    token_ids = np.random.default_rng(0).zipf(1.3, 8 * CELL + 5) % 97
    cells = [set(token_ids[start : start + CELL].tolist()) for start in range(0, 8 * CELL, CELL)]
    weight = {
        t: math.log(8 / sum(t in cell for cell in cells)) for t in range(97) if t in token_ids
    }
    found = affinity(token_ids)
    for i, one in enumerate(cells):
        for j, other in enumerate(cells):
            dot, own, its = (
                math.fsum(weight[t] ** 2 for t in s) for s in (one & other, one, other)
            )
            assert found[i, j] == pytest.approx(dot / math.sqrt(own * its), rel=1e-12)


def test_weights_sum_to_nothing_and_fall_with_distance_beyond_k() -> None:
    weights = distance_weights(10, 3 * CELL)
    assert weights.sum() == pytest.approx(0)
    assert np.array_equal(weights, weights.T)
    assert not weights[0, :3].any()
    assert np.all(np.diff(weights[0, 3:]) < 0)
    assert weights[0, 3] - weights[0, 6] == pytest.approx(math.log(2))


def drifting(seed: int, length: int = LENGTH) -> TokenIds:
    """Tokens whose vocabulary drifts: half common to all, half from a moving range."""
    rng = np.random.default_rng(seed)
    topic = 1000 + np.arange(length) // 32 + rng.integers(0, 64, length)
    return np.where(rng.random(length) < 0.5, rng.integers(0, 200, length), topic)


def in_cells(token_ids: TokenIds, order: np.ndarray) -> TokenIds:
    return token_ids.reshape(-1, CELL)[order].reshape(-1)


@pytest.mark.parametrize("share", [16, 8, 4])
def test_order_is_told_from_the_same_cells_shuffled(share: int) -> None:
    order = np.random.default_rng(1).permutation(LENGTH // CELL)
    ordered, _ = cohesion(drifting(0), LENGTH // share)
    shuffled, _ = cohesion(in_cells(drifting(0), order), LENGTH // share)
    assert ordered > 5 > 3 > abs(shuffled)


def test_shuffled_cells_are_of_mean_zero_and_unit_variance() -> None:
    rng = np.random.default_rng(2)
    token_ids = drifting(3)
    found = [
        cohesion(in_cells(token_ids, rng.permutation(LENGTH // CELL)), LENGTH // 8)[0]
        for _ in range(300)
    ]
    assert abs(np.mean(found)) < 4 / math.sqrt(300)
    assert np.std(found) == pytest.approx(1, abs=0.2)


def test_a_reversed_window_scores_the_same() -> None:
    token_ids = drifting(4)
    assert cohesion(token_ids, 512) == pytest.approx(cohesion(token_ids[::-1], 512))


def test_names_of_tokens_do_not_matter() -> None:
    token_ids = drifting(5)
    renamed = np.random.default_rng(0).permutation(token_ids.max() + 1)[token_ids]
    assert cohesion(renamed, 512) == pytest.approx(cohesion(token_ids, 512))


def test_repeated_text_is_all_copies_and_has_no_order() -> None:
    piece = drifting(6, 4 * CELL)
    z, copies = cohesion(np.tile(piece, 16), LENGTH // 8)
    assert z == pytest.approx(0, abs=1.5)
    assert copies == pytest.approx(1 / 4, abs=0.02)
    assert cohesion(np.zeros(LENGTH, dtype=np.int64), LENGTH // 8) == (0.0, 0.0)


def test_the_plugin_stores_what_select_reads() -> None:
    scorer = load_scorer(ScorerSpec(scorer="cohesion", k=None))
    assert isinstance(scorer, Cohesion)
    (score,) = scorer.score([drifting(7)])
    assert (score["ds"], -score["du"]) == cohesion(drifting(7), LENGTH // 16)
    assert score["k"] == LENGTH // 16
    (s1,), (s2,) = score["head_s1"], score["head_s2"]
    assert s1 / LENGTH == pytest.approx(score["ds"])
    variance = (s2 - s1**2 / LENGTH**2) / (LENGTH**2 - 1)
    assert -variance == pytest.approx(score["du"], abs=1e-12)


def test_the_version_names_the_settings() -> None:
    assert scorer_version(ScorerSpec(scorer="cohesion")) == "cohesion:cell=64:copy=0.5:k=L/16"
    assert scorer_version(ScorerSpec(scorer="cohesion", k=1024)).endswith(":k=1024")


@pytest.mark.parametrize(
    ("length", "k", "reason"),
    [(0, None, "empty"), (255, None, "too_short"), (256, None, None), (640, 513, "too_short")],
)
def test_refusals(length: int, k: int | None, reason: str | None) -> None:
    refused = Cohesion(ScorerSpec(scorer="cohesion", k=k)).refusal(drifting(8, length))
    assert (refused and refused[0]) == reason


def test_the_shortest_window_accepted_has_two_distances() -> None:
    scorer = Cohesion(ScorerSpec(scorer="cohesion", k=513))
    token_ids = drifting(9, 11 * CELL)
    assert scorer.refusal(token_ids) is None
    assert math.isfinite(scorer.score([token_ids])[0]["ds"])
