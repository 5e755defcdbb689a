"""Far links of a window: tokens, and the tokens far back that they repeat or attend to."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longattn.udfs.scorers.base import TokenIds

SHORTEST = 3  # tokens of a repeat that is worth a look
APART = 32  # tokens between two links that are shown, so that one passage is not shown twice


@dataclass(frozen=True, kw_only=True)
class Link:
    """Tokens [start, stop) of a window and those far back, from `source` on, that they go to."""

    start: int
    stop: int
    source: int
    source_stop: int
    weight: float  # nats for a repeat, share of the query's attention for attention

    @property
    def distance(self) -> int:
        return self.start - self.source


def repeats(token_ids: TokenIds, k: int, most: int) -> list[Link]:
    """The weightiest stretches that came k or more tokens before and not since, `most` at most.

    A stretch weighs what its tokens would cost by their frequency in the window, in nats: a rare
    name outweighs a run of common words.
    """
    ids = token_ids.tolist()
    counts, length = Counter(ids), len(ids)
    cost_L = np.array([np.log(length / counts[token]) for token in ids])
    ends_L = np.append(0.0, cost_L.cumsum())
    stretches = (_longer(ids, *stretch) for stretch in _stretches(ids, k))
    links = [
        Link(
            start=start,
            stop=stop,
            source=start - distance,
            source_stop=stop - distance,
            weight=float(ends_L[stop] - ends_L[start]),
        )
        for start, stop, distance in stretches
    ]
    return _spread(links, most)


def heaviest(
    rows_R: NDArray[np.int64], keys_R: NDArray[np.int64], weights_R: NDArray[np.float64], most: int
) -> list[Link]:
    """The heaviest of the links from query rows to keys, `most` at most."""
    links = [
        Link(start=n, stop=n + 1, source=i, source_stop=i + 1, weight=w)
        for n, i, w in zip(rows_R.tolist(), keys_R.tolist(), weights_R.tolist(), strict=True)
        if w > 0
    ]
    return _spread(links, most)


def _stretches(ids: list[int], k: int) -> Iterator[tuple[int, int, int]]:
    """Maximal (start, stop, distance) whose n-grams stood last `distance` >= k tokens before."""
    last: dict[tuple[int, ...], int] = {}
    start, distance = 0, 0
    for stop in range(SHORTEST, len(ids) + 1):
        gram = tuple(ids[stop - SHORTEST : stop])
        back = stop - last.get(gram, stop)
        last[gram] = stop
        if back == distance:
            continue
        if distance >= k:
            yield start, stop - 1, distance
        start, distance = stop - SHORTEST, back
    if distance >= k:
        yield start, len(ids), distance


def _longer(ids: list[int], start: int, stop: int, distance: int) -> tuple[int, int, int]:
    """The stretch with what both its ends have before it; some of that was said since, too."""
    while start > distance and ids[start - 1] == ids[start - 1 - distance]:
        start -= 1
    return start, stop, distance


def _spread(links: Iterable[Link], most: int) -> list[Link]:
    """The weightiest links no two of which begin, or go back to, nearly the same place."""
    kept: list[Link] = []
    for link in sorted(links, key=lambda link: (-link.weight, link.start)):
        if all(_apart(link, other) for other in kept):
            kept.append(link)
        if len(kept) == most:
            break
    return kept


def _apart(one: Link, other: Link) -> bool:
    return abs(one.start - other.start) >= APART and abs(one.source - other.source) >= APART
