"""Short documents packed into windows, with every document's place kept.

A document is followed by a separator unless it ends its window's stream: a window's segments count
their separator, so their lengths sum to the window's and are the boundaries of a block-diagonal
mask. Both strategies are functions of the lengths and their order alone.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Segment(NamedTuple):
    """Tokens [start, start + n_tokens) of a document followed by its separator."""

    document: int  # index into the documents given
    start: int
    n_tokens: int


Window = list[Segment]


def concat(n_tokens: Sequence[int], length: int) -> list[Window]:
    """Join all documents by separators and cut every `length` tokens; the last window may be short.

    >>> concat([3, 2], 4)
    [[Segment(document=0, start=0, n_tokens=4)], [Segment(document=1, start=0, n_tokens=2)]]
    """
    windows: list[Window] = []
    room = 0
    for document, size in enumerate(n_tokens):
        start, end = 0, size + (document < len(n_tokens) - 1)
        while start < end:
            if room == 0:
                windows.append([])
                room = length
            taken = min(room, end - start)
            windows[-1].append(Segment(document, start, taken))
            start, room = start + taken, room - taken
    return windows


def best_fit(n_tokens: Sequence[int], length: int) -> list[Window]:
    """Put documents, longest first, each into the fullest window that has room (best fit, BFD).

    No document is cut unless it is longer than a window: then whole windows are cut off its front.
    Best-fit packing of training data: arXiv 2404.10830.

    >>> best_fit([3, 5, 1], 5)
    [[Segment(document=1, start=0, n_tokens=5)],
     [Segment(document=0, start=0, n_tokens=4), Segment(document=2, start=0, n_tokens=1)]]
    """
    windows = [
        [Segment(document, start, length)]
        for document, size in enumerate(n_tokens)
        for start in range(0, size - length, length)
    ]
    rests = [(_rest(size, length), document) for document, size in enumerate(n_tokens) if size]
    room: list[tuple[int, int]] = []  # of each window not full, sorted; counts one last separator
    for size, document in sorted(rests, key=lambda rest: -rest[0]):
        segment = Segment(document, n_tokens[document] - size, size + 1)
        place = bisect_left(room, (size + 1, 0))
        if place == len(room):
            windows.append([segment])
            left, window = length - size, len(windows) - 1
        else:
            left, window = room.pop(place)
            windows[window].append(segment)
            left -= size + 1
        if left > 1:
            insort(room, (left, window))
    return [_without_last_separator(window, n_tokens) for window in windows]


STRATEGIES: dict[str, Callable[[Sequence[int], int], list[Window]]] = {
    "concat": concat,
    "best_fit": best_fit,
}


def tokens_of(
    window: Window, documents: Sequence[NDArray[np.int32]], separator: int
) -> NDArray[np.int32]:
    """A window's token ids, int32 [sum of its segments]."""
    parts: list[NDArray[np.int32]] = []
    mark = np.array([separator], dtype=np.int32)
    for document, start, n_tokens in window:
        ids = documents[document][start : start + n_tokens]
        parts += [ids] if len(ids) == n_tokens else [ids, mark]
    return np.concatenate(parts)


def waste(n_tokens: Sequence[int], length: int) -> float:
    """Share of the windows' room that holds no token, for windows of the given fill."""
    return 1 - sum(n_tokens) / (len(n_tokens) * length) if n_tokens else 0.0


def _rest(size: int, length: int) -> int:
    """Tokens after whole windows were cut off the front; 1 to length."""
    return (size - 1) % length + 1


def _without_last_separator(window: Window, n_tokens: Sequence[int]) -> Window:
    document, start, _ = window[-1]
    size = n_tokens[document] - start
    last = Segment(document, start, min(window[-1].n_tokens, size))
    return [*window[:-1], last]
