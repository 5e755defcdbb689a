"""Far recurrence: against longest matches by brute force, and windows made by hand."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longattn.udfs.scorers.base import ScorerSpec, TokenIds
from longattn.udfs.scorers.kinds.recurrence import LONGEST, Recurrence, recalled
from longattn.udfs.scorers.registry import load_scorer, scorer_version


def longest_match(ids: list[int], t: int, earlier: Iterable[int]) -> int:
    """Of what ends at t with what ends at one of the earlier places, up to LONGEST tokens."""
    best = 0
    for j in earlier:
        size = 0
        while size < LONGEST and j - size >= 0 and ids[j - size] == ids[t - size]:
            size += 1
        best = max(best, size)
    return best


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-2, 3), min_size=1, max_size=60), st.integers(1, 60))
def test_it_is_how_much_longer_the_longest_match_is_far_back_than_near(
    ids: list[int], k: int
) -> None:
    expected = [
        max(
            0,
            longest_match(ids, t, range(t - k + 1))
            - longest_match(ids, t, range(max(0, t - k + 1), t)),
        )
        for t in range(len(ids))
    ]
    assert recalled(np.array(ids), k).tolist() == expected


def test_a_name_and_a_phrase_by_hand() -> None:
    """7 comes back after 6 tokens, and so does 1 2 3, whose 1 was said again in between."""
    token_ids = np.array([1, 2, 3, 7, 1, 9, 1, 2, 3, 7])
    assert recalled(token_ids, 6).tolist() == [0, 0, 0, 0, 0, 0, 0, 2, 3, 4]
    assert recalled(token_ids, 7).sum() == 0


def test_a_far_copy_counts_and_a_repeated_piece_does_not() -> None:
    window = np.random.default_rng(0).permutation(4096)
    copied = np.concatenate([window[:-256], window[:256]])
    assert recalled(copied, 1024).tolist() == [0] * 3840 + [*range(1, 8)] + [LONGEST] * 249
    assert recalled(np.resize(window[:512], 4096), 1024).sum() == 0


def test_names_of_tokens_do_not_matter() -> None:
    token_ids = np.random.default_rng(1).zipf(1.3, 2000) % 301
    renamed = np.random.default_rng(2).permutation(301)[token_ids]
    assert np.array_equal(recalled(renamed, 500), recalled(token_ids, 500))


def test_the_plugin_stores_what_select_reads() -> None:
    token_ids = np.random.default_rng(3).zipf(1.3, 2001) % 301
    scorer = load_scorer(ScorerSpec(scorer="recurrence"))
    (score,) = scorer.score([token_ids])
    recalled_L = recalled(token_ids, 501)
    assert (score["k"], score["ds"], score["du"]) == (501, recalled_L.mean(), -recalled_L.var())
    assert score["head_s1"] == [pytest.approx(recalled_L.sum())]


def test_the_version_names_the_settings() -> None:
    assert scorer_version(ScorerSpec(scorer="recurrence")) == "recurrence:n=8:k=L/4"
    assert scorer_version(ScorerSpec(scorer="recurrence", k=64)).endswith(":k=64")


@pytest.mark.parametrize(
    ("token_ids", "k", "reason"),
    [
        ([], None, "empty"),
        ([5], None, "too_short"),
        ([5, 6], None, "too_short"),
        ([5] * 8, None, None),
        ([5] * 8, 8, "too_short"),
        ([5] * 8, 7, None),
    ],
)
def test_refusals(token_ids: list[int], k: int | None, reason: str | None) -> None:
    ids: TokenIds = np.array(token_ids, np.int64)
    refused = Recurrence(ScorerSpec(scorer="recurrence", k=k)).refusal(ids)
    assert (refused and refused[0]) == reason
