"""Seams: the weakest place of a window, where unrelated texts may have been joined. No model.

An n-gram of up to three tokens that comes back ties the places where it stands: from each of its
occurrences a link runs to the next. Of an n-gram that n documents hold besides one
(longattn.udfs.text.counts) a link weighs (1 + n)^-POWER, so that what a text has of its own weighs
most. Without a background n is how often it stands in the window besides the two. With W(t) for the
weight of all links that cross the place before token t,

    DS = min over t of  W around t / the smaller of W before and W after

where W around t is the mean of AROUND places, and W before and after those of SIDE places, GAP away
from t; MARGIN tokens from either end are not looked at. Texts about different things share few such
n-grams, so that hardly anything crosses where one ends and another begins: DS is near 0 there, and
near 1 in a window that is one text. DU is 0. Measures: `seam` is t of the weakest place.

What it tells apart, and how well: docs/adr/0021-seams.md.
"""

import numpy as np
from numpy.typing import NDArray

from longattn.udfs.scorers.background import Background, background_name, open_background
from longattn.udfs.scorers.base import Score, ScorerSpec, TokenIds, one_head
from longattn.udfs.text.counts import Keys, placed

MARGIN = 256  # tokens at either end, which few links can reach across
POWER = 1.5  # by which a link loses weight with the documents that have it too
AROUND, GAP, SIDE = 32, 64, 1024  # tokens
ROUNDING = 1e-9  # error of a running sum of weights

Counts = NDArray[np.int64]
Vector = NDArray[np.float64]


def seams_version(spec: ScorerSpec) -> str:
    name = background_name(spec.background)
    known = f":background={name}" if name else ""
    return f"seams:power={POWER:g}:side={SIDE}:margin={MARGIN}{known}"


class Seams:
    """Scores windows by how deep the weight of their links dips at one place."""

    def __init__(self, spec: ScorerSpec) -> None:
        self.version = seams_version(spec)
        self.background = open_background(spec.background)

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
        depth_P = dips(crossing(token_ids, self.background))
        weakest = int(np.argmin(depth_P))
        score = one_head(len(token_ids), 0, ds=float(depth_P[weakest]), du=0.0)
        return {**score, "measures": {"seam": float(MARGIN + weakest)}}


def crossing(token_ids: TokenIds, background: Background | None) -> Vector:
    """The weight of links that run from before each token to it or beyond [L]."""
    change_L = np.zeros(len(token_ids) + 1)
    for start, key_G, _ in placed(token_ids):
        opened_N, closed_N, weight_N = links(key_G, background)
        # a link leaves with the last token of the n-gram and arrives with the first of the next
        np.add.at(change_L, opened_N + start + 1, weight_N)
        np.add.at(change_L, np.maximum(closed_N, opened_N + start) + 1, -weight_N)
    crossed_L: Vector = np.cumsum(change_L)[:-1]
    return crossed_L


def links(key_G: Keys, background: Background | None) -> tuple[Counts, Counts, Vector]:
    """Places of n-grams that come back, of the next equal one of each, and weights, all [N]."""
    order_G = np.argsort(key_G, kind="stable")
    again_G = key_G[order_G][1:] == key_G[order_G][:-1]
    opened_N, closed_N = order_G[:-1][again_G], order_G[1:][again_G]
    others_N = _others(key_G, background)[opened_N]
    return opened_N, closed_N, (1.0 + others_N) ** -POWER


def dips(weight_L: Vector) -> Vector:
    """What is left of the weight at each place that is not too near an end [P].

    0 where nothing crosses on one of its sides.
    """
    place_P = np.arange(MARGIN, len(weight_L) - MARGIN)
    sums = np.append(0.0, np.cumsum(weight_L))
    around_P = _means(sums, place_P - AROUND // 2, place_P + AROUND // 2)
    before_P = _means(sums, place_P - SIDE, place_P - GAP)
    after_P = _means(sums, place_P + GAP, place_P + SIDE)
    least_P = np.minimum(before_P, after_P)
    tied_P = least_P > ROUNDING
    left_P: Vector = np.divide(around_P, least_P, out=np.zeros(len(place_P)), where=tied_P)
    return left_P.clip(0)


def _means(sums: Vector, start_P: Counts, stop_P: Counts) -> Vector:
    """Means of weights, of which `sums` has those before each token and all, from each start to its
    stop, as far as they are in the window [P].
    """
    start_P, stop_P = (place_P.clip(0, len(sums) - 1) for place_P in (start_P, stop_P))
    means_P: Vector = (sums[stop_P] - sums[start_P]) / (stop_P - start_P)
    return means_P


def _others(key_G: Keys, background: Background | None) -> Counts:
    """Documents that hold each n-gram besides one, or its occurrences besides two [G]."""
    if background:
        return background.numbers(key_G)
    _, which_G, count = np.unique(key_G, return_inverse=True, return_counts=True)
    others_G: Counts = np.maximum(count[which_G] - 2, 0)
    return others_G
