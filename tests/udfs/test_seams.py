"""Seams: against links drawn one by one, and texts joined by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longattn.udfs.scorers.background import Background, write_counted
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.kinds.seams import (
    AROUND,
    GAP,
    MARGIN,
    POWER,
    SIDE,
    crossing,
    dips,
)
from longattn.udfs.scorers.registry import load_scorer


def links_across(ids: list[int], place: int) -> float:
    """Weights of pairs of an n-gram that ends before a place and the next equal one, which begins
    there or later."""
    grams = [(tuple(ids[i : i + n]), i) for n in (1, 2, 3) for i in range(len(ids) - n + 1)]
    total = 0.0
    for gram in {gram for gram, _ in grams}:
        places = [i for other, i in grams if other == gram]
        ends = [i + len(gram) for i in places]
        pairs = zip(ends[:-1], places[1:], strict=True)
        across = sum(end <= place <= begin for end, begin in pairs)
        total += across * max(1, len(places) - 1) ** -POWER
    return total


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-1, 5), max_size=30))
def test_it_weighs_links_between_neighbouring_ngrams(ids: list[int]) -> None:
    expected = [links_across(ids, place) for place in range(len(ids))]
    assert crossing(np.array(ids, np.int64), None).tolist() == pytest.approx(expected)


def test_a_dip_is_what_is_left_of_the_lower_side() -> None:
    weight_L = np.random.default_rng(1).random(2500)
    weight_L[:300] = 0
    places = range(MARGIN, 2500 - MARGIN)
    expected = [
        weight_L[t - AROUND // 2 : t + AROUND // 2].mean()
        / min(weight_L[max(0, t - SIDE) : t - GAP].mean(), weight_L[t + GAP : t + SIDE].mean())
        if t > 300 + GAP
        else 0
        for t in places
    ]
    np.testing.assert_allclose(dips(weight_L), expected)


def text(rng: np.random.Generator, own: int, length: int) -> list[int]:
    """Common tokens, and every fourth one of forty that only this text has."""
    ids = rng.integers(0, 50, length)
    ids[::4] = own + rng.integers(0, 40, len(ids[::4]))
    return ids.tolist()  # type: ignore[no-any-return]


def test_joined_texts_have_their_seam_where_they_were_joined(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    others = [np.array(text(rng, 1000 * i, 3000)) for i in range(1, 30)]
    folder = write_counted(tmp_path, others, tokenizer="test")
    scorer = load_scorer(ScorerSpec(scorer="seams", background=str(folder)))
    whole = text(rng, 100_000, 3000)
    joined = whole[:1100] + text(rng, 200_000, 1900)
    one, two = scorer.score([np.array(whole), np.array(joined)])
    assert one["ds"] > 0.5 > 0.2 > two["ds"]
    assert abs(two["measures"]["seam"] - 1100) < AROUND
    assert scorer.version.endswith(f":background={Background(folder).manifest.name}")


def test_a_window_that_says_nothing_twice_is_not_whole() -> None:
    (score,) = load_scorer(ScorerSpec(scorer="seams")).score([np.arange(1000)])
    assert score["ds"] == 0 and math.isfinite(score["du"])


@pytest.mark.parametrize(("length", "reason"), [(0, "empty"), (2 * MARGIN, "too_short")])
def test_windows_without_an_inner_place_are_refused(length: int, reason: str) -> None:
    refused = load_scorer(ScorerSpec(scorer="seams")).refusal(np.arange(length))
    assert refused is not None and refused[0] == reason
