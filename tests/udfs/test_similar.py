"""Documents by likeness: every step against sets of n-grams in plain Python."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longattn.udfs.scorers.kinds.recall import cross_gain
from longattn.udfs.windows import similar
from longattn.udfs.windows.similar import COMMON, NEAR_COPY, Gain, similar_order, sketch

TEXTS = st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=12), max_size=25)
Ngrams = set[tuple[int, ...]]


@pytest.fixture(autouse=True)
def all_ngrams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar, "LOOKED_AT", 1)


def arrays(texts: list[list[int]]) -> list[np.ndarray]:
    return [np.array(text, np.int32) for text in texts]


def ngrams_of(texts: list[list[int]]) -> tuple[list[Ngrams], dict[tuple[int, ...], float]]:
    """One token or two in a row of each text, and the weight of those that are rare."""
    held: list[Ngrams] = [{(t,) for t in text} | set(pairwise(text)) for text in texts]
    counts = Counter(ngram for ngrams in held for ngram in ngrams)
    rare = {g: math.log(len(texts) / n) for g, n in counts.items() if 1 < n <= COMMON}
    return held, rare


def windows_before(texts: list[list[int]], order: list[int], length: int) -> list[list[int]]:
    """The documents of the window that each comes into, by cutting the stream token by token."""
    begun, filled, before = [], 0, []
    for document in order:
        before.append(list(begun))
        for _ in range(len(texts[document]) + 1):
            filled += 1
            if filled == length:
                begun, filled = [], 0
        if filled > 1:  # a token of it stands in the window, not its separator alone
            begun.append(document)
    return before


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(8, 60))
def test_what_comes_next_shares_most_with_the_window_so_far(
    texts: list[list[int]], length: int
) -> None:
    order = similar_order(arrays(texts), length)
    assert sorted(order) == list(range(len(texts)))
    held, rare = ngrams_of(texts)

    def shared_with(document: int, window: list[int]) -> list[Ngrams]:
        return [(held[document] & held[other]) & rare.keys() for other in window]

    def is_copy(document: int, window: list[int]) -> bool:
        sizes = [len(held[document]) + len(held[other]) for other in window]
        pairs = zip(map(len, shared_with(document, window)), sizes, strict=True)
        return any(n_shared > NEAR_COPY * (size - n_shared) for n_shared, size in pairs)

    def alike(document: int, window: list[int]) -> float:
        if is_copy(document, window):
            return 0.0
        shared = shared_with(document, window)
        return sum(rare[g] for s in shared for g in s) / math.sqrt(len(held[document]))

    left = set(range(len(texts)))
    for document, window in zip(order, windows_before(texts, order, length), strict=True):
        scores = {other: alike(other, window) for other in sorted(left)}
        best = max(scores.values())
        assert scores[document] == pytest.approx(best, abs=1e-9)
        if best == 0:
            assert document == min(left, key=lambda other: (is_copy(other, window), other))
        left.remove(document)


def test_topics_stay_together_and_copies_apart() -> None:
    """Forty documents of four topics, each with words of its own, and a copy of the first."""
    rng = np.random.default_rng(0)
    texts = [100 * (i % 4) + rng.integers(0, 60, 40) for i in range(40)]
    order = similar_order([*texts, texts[0]], 8 * 41 + 10)
    topics = [document % 4 for document in order if document < 40]
    assert sum(a != b for a, b in pairwise(topics)) <= 5
    assert abs(order.index(0) - order.index(40)) > 1


def test_a_gain_decides_between_what_is_alike_and_what_comes_anyway() -> None:
    """1 shares two tokens with 0, 2 one, 3 none. A gain of nines takes 2; 3 if it is next."""
    texts = arrays([[1, 2, 3, 4], [1, 20, 2, 21], [4, 9, 22, 23], [24, 9, 9, 9], [25, 26]])

    def of_nines(token_ids: np.ndarray, n_tokens_S: np.ndarray) -> np.ndarray:
        return (token_ids == 9).astype(float)

    assert similar_order(texts, 1000)[:3] == [0, 1, 2]
    assert similar_order(texts, 1000, of_nines)[:3] == [0, 2, 3]
    assert similar_order([texts[i] for i in (0, 3, 1)], 1000, of_nines)[:2] == [0, 1]


@pytest.mark.parametrize("gain", [None, cross_gain])
def test_a_near_copy_waits_for_another_window(gain: Gain | None) -> None:
    """1 is a copy of 0, of which a gain would make most; 2 shares two tokens with 0, 3 none."""
    rng = np.random.default_rng(3)
    text, other, last = rng.integers(0, 99, 40), rng.integers(100, 199, 40), np.arange(200, 240)
    other[:2] = text[:2]
    texts = arrays([t.tolist() for t in (text, text, other, last)])
    assert similar_order(texts, 3 * 41, gain) == [0, 2, 3, 1]
    assert similar_order(texts[:2], 3 * 41, gain) == [0, 1], "no other is left"


@pytest.mark.parametrize("rest", [0, 1])
def test_a_document_that_ends_with_its_window_is_not_of_the_next(rest: int) -> None:
    """0 fills the first window but for its separator, which ends it or begins the next."""
    texts = arrays([[1, 2, 3, 4, 5], [6, 7, 8], [1, 2, 9, 10]])
    before: list[int] = []

    def gain(token_ids: np.ndarray, n_tokens_S: np.ndarray) -> np.ndarray:
        before.extend(token_ids[: n_tokens_S[0]].tolist())
        return np.zeros(len(token_ids))

    assert similar_order(texts, 6 - rest, gain) == [0, 1, 2]
    assert before == [], "nothing of 0 is there to gain of"


def test_verified_takes_what_the_window_foretells() -> None:
    """Both share two rare tokens with the first; one has them where the first lets expect them."""
    rng = np.random.default_rng(1)
    first = np.append(rng.integers(100, 400, 60), [1, 2, 3, 4])
    scattered = rng.permutation(np.append(rng.integers(500, 800, 60), [1, 2, 3, 4]))
    phrase = np.append(rng.integers(500, 800, 60), [1, 2, 3, 4])
    texts = arrays([t.tolist() for t in (first, scattered, phrase, rng.integers(900, 999, 60))])
    assert similar_order(texts, 4096, cross_gain)[:2] == [0, 2]


def test_documents_that_share_much_share_some_of_their_sketches() -> None:
    rng = np.random.default_rng(2)
    text = rng.integers(0, 5000, 400)
    edited = np.where(rng.random(400) < 0.2, rng.integers(0, 5000, 400), text)
    other = rng.integers(0, 5000, 400)
    kept, near, far = (set(sketch(t).tolist()) for t in (text, edited, other))
    assert len(kept & near) >= 3 and not kept & far
    assert sketch(np.array([7], np.int32)).tolist() == []
