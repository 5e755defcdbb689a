"""Packing against bookkeeping by hand, lower bounds and exhaustive search."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longattn.udfs.windows.packing import STRATEGIES, Segment, best_fit, concat, tokens_of, waste

SIZES = st.lists(st.integers(1, 90), max_size=40)
LENGTHS = st.integers(4, 40)
SEPARATOR = -1


def documents_of(sizes: list[int]) -> list[np.ndarray]:
    """Documents whose every token is unique, so that a token names its document and place."""
    ends = np.cumsum([0, *sizes])
    return [np.arange(a, b, dtype=np.int32) for a, b in itertools.pairwise(ends)]


def fewest_windows(sizes: list[int], length: int) -> int:
    """Exhaustive bin packing; n documents in a window take their tokens and n - 1 separators."""
    best = len(sizes)

    def place(rest: list[int], rooms: list[int]) -> None:
        nonlocal best
        if len(rooms) >= best:
            return
        if not rest:
            best = len(rooms)
            return
        need = rest[0] + 1
        for room in {r for r in rooms if r >= need}:
            others = list(rooms)
            others[others.index(room)] -= need
            place(rest[1:], others)
        place(rest[1:], [*rooms, length + 1 - need])

    place(sorted(sizes, reverse=True), [])
    return best


def first_fit_decreasing(sizes: list[int], length: int) -> int:
    rooms: list[int] = []
    for size in sorted(sizes, reverse=True):
        fits = [i for i, room in enumerate(rooms) if room >= size + 1]
        if fits:
            rooms[fits[0]] -= size + 1
        else:
            rooms.append(length - size)
    return len(rooms)


def test_concat_by_hand() -> None:
    assert concat([3, 2, 4], 4) == [
        [Segment(0, 0, 4)],  # three tokens and their separator
        [Segment(1, 0, 3), Segment(2, 0, 1)],
        [Segment(2, 1, 3)],
    ]


def test_concat_may_start_a_window_with_a_separator() -> None:
    windows = concat([4, 2], 4)
    assert windows == [[Segment(0, 0, 4)], [Segment(0, 4, 1), Segment(1, 0, 2)]]
    ids = [tokens_of(window, documents_of([4, 2]), SEPARATOR).tolist() for window in windows]
    assert ids == [[0, 1, 2, 3], [-1, 4, 5]]


def test_best_fit_by_hand() -> None:
    # 12 and 7 leave no room for 6 and its separator; 6 joins nothing; 4 fits best behind 7
    assert best_fit([6, 12, 4, 7], 12) == [
        [Segment(1, 0, 12)],
        [Segment(3, 0, 8), Segment(2, 0, 4)],
        [Segment(0, 0, 6)],
    ]


def test_best_fit_cuts_only_what_is_longer_than_a_window() -> None:
    windows = best_fit([25, 10], 10)
    assert windows == [
        [Segment(0, 0, 10)],
        [Segment(0, 10, 10)],
        [Segment(1, 0, 10)],
        [Segment(0, 20, 5)],
    ]


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(sizes=SIZES, length=LENGTHS)
def test_no_token_is_lost_or_doubled(strategy: str, sizes: list[int], length: int) -> None:
    documents = documents_of(sizes)
    windows = STRATEGIES[strategy](sizes, length)
    ids = [tokens_of(window, documents, SEPARATOR) for window in windows]
    tokens = [token for window in ids for token in window.tolist() if token != SEPARATOR]
    assert sorted(tokens) == list(range(sum(sizes)))
    assert all(0 < len(window) <= length for window in ids)


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(sizes=SIZES, length=LENGTHS)
def test_segments_are_the_boundaries_of_documents(
    strategy: str, sizes: list[int], length: int
) -> None:
    documents = documents_of(sizes)
    for window in STRATEGIES[strategy](sizes, length):
        ids = tokens_of(window, documents, SEPARATOR)
        assert len(ids) == sum(segment.n_tokens for segment in window)
        ends = np.cumsum([segment.n_tokens for segment in window])
        for segment, end in zip(window, ends, strict=True):
            whole = [*documents[segment.document].tolist(), SEPARATOR]
            expected = whole[segment.start : segment.start + segment.n_tokens]
            assert ids[end - segment.n_tokens : end].tolist() == expected


@given(SIZES, LENGTHS)
def test_concat_is_the_joined_stream(sizes: list[int], length: int) -> None:
    documents = documents_of(sizes)
    stream = [token for ids in documents for token in [*ids.tolist(), SEPARATOR]][:-1]
    cut = [stream[start : start + length] for start in range(0, len(stream), length)]
    windows = concat(sizes, length)
    assert [tokens_of(window, documents, SEPARATOR).tolist() for window in windows] == cut


@given(SIZES, LENGTHS)
def test_best_fit_cuts_no_document_that_fits(sizes: list[int], length: int) -> None:
    segments = [segment for window in best_fit(sizes, length) for segment in window]
    pieces = [segment.document for segment in segments]
    assert all(pieces.count(i) == -(-size // length) for i, size in enumerate(sizes))


@settings(max_examples=60)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=9))
def test_best_fit_stays_within_11_9_of_the_optimum(sizes: list[int]) -> None:
    """Johnson 1973: BFD needs at most 11/9 OPT + 4 bins; here it never needed two more."""
    optimum, windows = fewest_windows(sizes, 20), best_fit(sizes, 20)
    assert optimum <= len(windows) <= 11 / 9 * optimum + 1
    bound = waste([sum(sizes)], 20 * optimum)
    fill = [sum(s.n_tokens for s in window) for window in windows]
    assert waste(fill, 20) <= bound + len(windows) / optimum - 1 + 1e-9


def test_best_fit_wastes_no_more_than_first_fit_on_web_like_lengths() -> None:
    lengths = np.random.default_rng(0).lognormal(6.5, 1.1, 2_000).astype(int).clip(1, 8_192)
    sizes = lengths.tolist()
    windows = best_fit(sizes, 8_192)
    floor = -(-(sum(sizes) + len(sizes) - len(windows)) // 8_192)
    assert floor <= len(windows) <= first_fit_decreasing(sizes, 8_192)


def test_waste_is_the_empty_room() -> None:
    assert waste([8, 6], 8) == pytest.approx(2 / 16)
    assert waste([], 8) == 0
