"""Seams: the weakest place of a window, where unrelated texts may have been joined. No model.

A rare token or pair of tokens that comes back ties the places where it stands: from each of its
occurrences a link runs to the next. Rare is what no two documents of the background hold, or,
without one, what stands in the window no more than OFTEN times. With W(t) for
how many links cross the place before token t, MARGIN tokens from either end left out,

    DS = min over t of W(t) / median of W

Texts about different things share few such tokens, so that hardly a link crosses where one ends
and another begins: DS is near 0 there, and more is more whole. DU is 0. Measures: `seam` is t of
the weakest place, the middle one where several are as weak in a row.

What it tells apart, and how well: docs/adr/0021-seams.md.
"""

from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from longattn.udfs.scorers.background import Background, background_name
from longattn.udfs.scorers.base import Score, ScorerSpec, TokenIds, one_head
from longattn.udfs.text.counts import Keys, placed

MARGIN = 256  # tokens at either end, which few links can reach across
SIZES = 2  # tokens of the longest n-gram that ties
OFTEN = 4  # occurrences in a window, without a background

Counts = NDArray[np.int64]


def seams_version(spec: ScorerSpec) -> str:
    rare = f"often={OFTEN}"
    if spec.background:
        rare = f"background={background_name(spec.background)}"
    return f"seams:n={SIZES}:margin={MARGIN}:{rare}"


class Seams:
    """Scores windows by how few rare n-grams tie together what stands before and after a place."""

    def __init__(self, spec: ScorerSpec) -> None:
        self.version = seams_version(spec)
        self.background = Background(Path(spec.background)) if spec.background else None

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        """Reason and detail for a window with no place far enough from its ends."""
        if len(token_ids) == 0:
            return "empty", "no tokens"
        if len(token_ids) <= 2 * MARGIN:
            return "too_short", f"{len(token_ids)} tokens; {MARGIN} at either end do not count"
        return None

    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        return [self._score_one(ids) for ids in token_ids]

    def _score_one(self, token_ids: TokenIds) -> Score:
        inner_P = crossing(token_ids, self.background)[MARGIN : len(token_ids) - MARGIN]
        weakest, middle = int(inner_P.min()), float(np.median(inner_P))
        whole = weakest / middle if middle else 0.0
        score = one_head(len(token_ids), 0, ds=whole, du=0.0)
        return {**score, "measures": {"seam": float(MARGIN + middle_of_weakest(inner_P))}}


def crossing(token_ids: TokenIds, background: Background | None) -> Counts:
    """How many links run from before each token to it or beyond [L]."""
    change_L = np.zeros(len(token_ids) + 1, np.int64)
    for start, key_G, _ in islice(placed(token_ids), SIZES):
        opened_N, closed_N = links(key_G, background)
        # a link leaves with the last token of the n-gram and arrives with the first of the next
        np.add.at(change_L, opened_N + start + 1, 1)
        np.add.at(change_L, np.maximum(closed_N, opened_N + start) + 1, -1)
    crossed_L: Counts = np.cumsum(change_L)[:-1]
    return crossed_L


def links(key_G: Keys, background: Background | None) -> tuple[Counts, Counts]:
    """Places of rare n-grams, and the place of the next equal one of each, both [N]."""
    order_G = np.argsort(key_G, kind="stable")
    again_G = key_G[order_G][1:] == key_G[order_G][:-1]
    opened_N, closed_N = order_G[:-1][again_G], order_G[1:][again_G]
    rare_N = _rare(key_G, background)[opened_N]
    return opened_N[rare_N], closed_N[rare_N]


def middle_of_weakest(crossed_P: Counts) -> int:
    """The middle of the first longest run of places that nothing is weaker than.

    >>> middle_of_weakest(np.array([3, 1, 2, 1, 1, 1, 4]))
    4
    """
    weak = np.concatenate([[False], crossed_P == crossed_P.min(), [False]])
    begin_R, end_R = np.flatnonzero(np.diff(weak)).reshape(-1, 2).T
    longest = int(np.argmax(end_R - begin_R))
    return int(begin_R[longest] + end_R[longest] - 1) // 2


def _rare(key_G: Keys, background: Background | None) -> NDArray[np.bool_]:
    if background:
        number_G, most = background.numbers(key_G), 0
    else:
        _, which_G, count = np.unique(key_G, return_inverse=True, return_counts=True)
        number_G, most = count[which_G], OFTEN
    rare_G: NDArray[np.bool_] = number_G <= most
    return rare_G
