"""Where windows are cut: pure arithmetic on token counts. A span is [start, end) in tokens.

Windows are ordered by start and have exactly `length` tokens, so that a shorter document has none;
`whole` alone takes documents as long as they are.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

LONGEST = 1 << 20  # tokens of a window


class Span(NamedTuple):
    """Tokens [start, end) of a document."""

    start: int
    end: int


def longattn_windows(n_tokens: int, length: int) -> list[Span]:
    """Cover a document by windows taken from both ends inwards (LongAttn, Algorithm 1).

    Windows in the middle may overlap. Exactly `length` tokens make one window, where the published
    code makes none (ADR 4).

    >>> longattn_windows(25, 10)
    [Span(start=0, end=10), Span(start=7, end=17), Span(start=15, end=25)]
    """
    if n_tokens < length:
        return []
    starts: list[int] = []
    left, right = 0, n_tokens
    while right - left > 3 * length:
        starts += [left, right - length]
        left, right = left + length, right - length
    starts += _last_starts(left, right, length)
    return [Span(start, start + length) for start in sorted(starts)]


def tile_windows(n_tokens: int, length: int) -> list[Span]:
    """Cut disjoint windows from the front; the rest shorter than a window is left over."""
    return [Span(start, start + length) for start in range(0, n_tokens - length + 1, length)]


def truncate_windows(n_tokens: int, length: int) -> list[Span]:
    """Keep the first window only."""
    return tile_windows(min(n_tokens, length), length)


def whole_windows(n_tokens: int, length: int) -> list[Span]:
    """Take a document as it is; one of more than `length` tokens is cut as tile does.

    >>> whole_windows(4, 10), whole_windows(25, 10)
    ([Span(start=0, end=4)], [Span(start=0, end=10), Span(start=10, end=20)])
    """
    if 0 < n_tokens <= length:
        return [Span(0, n_tokens)]
    return tile_windows(n_tokens, length)


STRATEGIES: dict[str, Callable[[int, int], list[Span]]] = {
    "longattn": longattn_windows,
    "tile": tile_windows,
    "truncate": truncate_windows,
    "whole": whole_windows,
}


def overlaps(spans: Iterable[Span]) -> list[int]:
    """Tokens each window shares with the one before it; 0 for the first.

    >>> overlaps([Span(0, 10), Span(7, 17), Span(15, 25)])
    [0, 3, 2]
    """
    shared, reached = [], 0
    for start, end in spans:
        shared.append(max(0, reached - start))
        reached = end
    return shared


def _last_starts(left: int, right: int, length: int) -> list[int]:
    """Starts of the one to three windows that cover an interval of length to 3 * length tokens."""
    remaining = right - left
    if remaining == length:
        return [left]
    if remaining <= 2 * length:
        return [left, right - length]
    return [left, left + (remaining - length) // 2, right - length]
