"""Which of several lengths a document is cut at: one, so that no token is in two windows.

A document can be cut at the lengths that it fills. Those that fill as many are of one class, and
each class is divided among its lengths so that, over all classes, every length has as much of its
share of the tokens as can be. Legend: i, a class, which fills the lengths 0 to i, and j, a length;
both count from 0, the shortest.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate

DRAW_DIGITS = 3  # hexadecimal ones of the draw: documents are told apart in 4,096 steps


def divided(tokens_I: Sequence[float], shares_J: Sequence[float]) -> list[list[float]]:
    """How many tokens of each class go to each length, float [I][J], J up to the class's own.

    The smallest ratio of a length's tokens to its share is as large as it can be: class by class,
    the shortest first, tokens go to the lengths of the class that have least of their share.

    >>> divided([60, 20, 20], [0.2, 0.5, 0.3])  # the long ones are few: none is cut shorter
    [[60.0], [0.0, 20.0], [0.0, 5.0, 15.0]]
    """
    filled_J = [0.0] * len(shares_J)
    parts_IJ = []
    for own, tokens in enumerate(tokens_I):
        part_J = _poured(tokens, filled_J[: own + 1], shares_J[: own + 1])
        for j, part in enumerate(part_J):
            filled_J[j] += part
        parts_IJ.append(part_J)
    return parts_IJ


def _poured(tokens: float, filled_J: Sequence[float], shares_J: Sequence[float]) -> list[float]:
    """Tokens to each length, so that the lengths that have least of their share have as much."""
    emptiest = sorted(range(len(shares_J)), key=lambda j: filled_J[j] / shares_J[j])
    level = water = share = 0.0
    for place, j in enumerate(emptiest):
        water, share = water + filled_J[j], share + shares_J[j]
        level = (tokens + water) / share
        after = emptiest[place + 1] if place + 1 < len(emptiest) else None
        if after is None or level <= filled_J[after] / shares_J[after]:
            break
    return [max(0.0, level * s - filled) for filled, s in zip(filled_J, shares_J, strict=True)]


def first_draws(tokens_of_draw: Mapping[str, int], part_J: Sequence[float]) -> list[str]:
    """The draws from which on documents of a class are cut at each length but its longest one.

    Ordered from the second longest length to the shortest. `tokens_of_draw` are the tokens of the
    class by what its documents draw; `part_J` as `divided` gives it. What draws less than the
    first is cut at the longest, and so on.
    """
    ends = list(accumulate(reversed(part_J[1:])))
    firsts: list[str] = []
    before = 0.0
    for draw, tokens in sorted(tokens_of_draw.items()):
        while len(firsts) < len(ends) and before + tokens / 2 >= ends[len(firsts)]:
            firsts.append(draw)
        before += tokens
    return firsts + ["g"] * (len(ends) - len(firsts))  # after every hexadecimal digit
