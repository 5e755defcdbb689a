"""Windows against cases worked out by hand and against properties of Algorithm 1."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longattn.udfs.windows.spans import STRATEGIES, Span, longattn_windows, overlaps

LENGTHS = st.integers(1, 60)
TOKENS = st.integers(0, 1500)


@pytest.mark.parametrize(
    ("n_tokens", "starts"),
    [
        (0, []),
        (9, []),
        (10, [0]),  # n = W: one window, none in the published code
        (11, [0, 1]),
        (15, [0, 5]),
        (20, [0, 10]),
        (21, [0, 5, 11]),  # middle = floor((21 - 10) / 2)
        (25, [0, 7, 15]),
        (30, [0, 10, 20]),
        (31, [0, 10, 11, 21]),  # [10, 21) is left after one step: front and back share 9 of 10
        (40, [0, 10, 20, 30]),
        (41, [0, 10, 15, 21, 31]),
        (50, [0, 10, 20, 30, 40]),
        (51, [0, 10, 20, 21, 31, 41]),  # two steps; [20, 31) is left
        (65, [0, 10, 20, 27, 35, 45, 55]),
    ],
)
def test_algorithm_1_by_hand(n_tokens: int, starts: list[int]) -> None:
    assert longattn_windows(n_tokens, 10) == [Span(s, s + 10) for s in starts]


@given(TOKENS, LENGTHS)
def test_every_token_is_in_a_longattn_window(n_tokens: int, length: int) -> None:
    covered = {t for start, end in longattn_windows(n_tokens, length) for t in range(start, end)}
    assert covered == (set(range(n_tokens)) if n_tokens >= length else set())


@given(TOKENS, LENGTHS)
def test_longattn_is_the_recursion_of_the_paper(n_tokens: int, length: int) -> None:
    def recurse(left: int, right: int) -> list[int]:
        n, back = right - left, right - length
        if n < length:
            return []
        if n == length:
            return [left]
        if n <= 2 * length:
            return [left, back]
        if n <= 3 * length:
            return [left, left + (n - length) // 2, back]
        return [left, *recurse(left + length, back), back]

    assert [span.start for span in longattn_windows(n_tokens, length)] == recurse(0, n_tokens)


@given(TOKENS, LENGTHS)
def test_longattn_takes_no_more_windows_than_one_above_the_least(
    n_tokens: int, length: int
) -> None:
    if n_tokens >= length:
        assert len(longattn_windows(n_tokens, length)) - -(-n_tokens // length) in (0, 1)


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "whole"])
@given(n_tokens=TOKENS, length=LENGTHS)
def test_windows_are_full_ordered_and_inside(strategy: str, n_tokens: int, length: int) -> None:
    spans = STRATEGIES[strategy](n_tokens, length)
    assert all(end - start == length and start >= 0 and end <= n_tokens for start, end in spans)
    assert spans == sorted(set(spans))
    assert bool(spans) == (n_tokens >= length)


@given(TOKENS, LENGTHS)
def test_tiles_are_disjoint_and_leave_less_than_a_window(n_tokens: int, length: int) -> None:
    spans = STRATEGIES["tile"](n_tokens, length)
    assert overlaps(spans) == [0] * len(spans)
    assert n_tokens - length < len(spans) * length <= n_tokens


@given(TOKENS, LENGTHS)
def test_truncate_keeps_the_first_tile(n_tokens: int, length: int) -> None:
    assert STRATEGIES["truncate"](n_tokens, length) == STRATEGIES["tile"](n_tokens, length)[:1]


@given(TOKENS, LENGTHS)
def test_whole_documents_are_one_window_and_longer_ones_tiles(n_tokens: int, length: int) -> None:
    spans = STRATEGIES["whole"](n_tokens, length)
    if n_tokens <= length:
        assert spans == [Span(0, n_tokens)] * (n_tokens > 0)
    else:
        assert spans == STRATEGIES["tile"](n_tokens, length)


@given(TOKENS, LENGTHS)
def test_overlap_is_the_tokens_shared_with_the_window_before(n_tokens: int, length: int) -> None:
    spans = longattn_windows(n_tokens, length)
    shared = [len(set(range(*before)) & set(range(*span))) for before, span in pairwise(spans)]
    assert overlaps(spans) == [0, *shared][: len(spans)]
    assert len(spans) * length - sum(overlaps(spans)) in (n_tokens, 0)


def test_a_million_token_window() -> None:
    assert longattn_windows(5 << 20, 1 << 20) == [Span(i << 20, (i + 1) << 20) for i in range(5)]
