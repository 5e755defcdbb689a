"""Recall: what a reader who only counts gains from far context. No model.

LongFilter (arXiv 2510.25804, eq. 7) is the mean over a window's tokens of p_L ln(p_L / p_S): p_L is
what a language model gives the token after all that precedes it, p_S after the near part alone.
Here both come from counting in just that part. With c_n for how often the n tokens before token t
stand in it, and h_n for how often t came next there,

    p_0 = (h_0 + UNSEEN) / (c_0 + 1),    p_n = (h_n + STRENGTH p_{n-1}) / (c_n + STRENGTH)

up to n = ORDERS: the hierarchical Dirichlet model (MacKay and Peto 1995). DS is the mean of
p_L ln(p_L / p_S) in nats a token, DU minus its variance over tokens. A name that comes back after
k tokens counts, a formula that was said again in between does not, and each hit weighs what its
rarity and the length of its context make it worth.

With a background, other documents say how likely a token is before anything of the window is read
(longattn.udfs.scorers.background), so that what everybody knows by heart gains nothing:

    p_0 = (h_0 + WEIGHT p_bg) / (c_0 + WEIGHT)

Near are the last k to 2k - 1 tokens: chunks of 2k tokens, each counted from its own start and its
last k tokens judged, as the short context of LongFilter is read. So the first 2k tokens gain
nothing. Measures: `gain_from_D` is the part of DS that what stands D to 2D - 1 tokens back adds, D
= k, 2k, 4k, ... up to half of the window, the last one without an end; they add up to DS. With a
background `boilerplate` is the share of DS that tokens at the end of widespread n-grams have: of
licences, page heads, idioms.

Where the constants are from: docs/adr/0011-recall-and-compress.md and 0020-background.md; how well
DS agrees with a language model's gain: docs/evidence.md.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from longattn.udfs.scorers.background import (
    STRENGTHS,
    Background,
    background_name,
    open_background,
)
from longattn.udfs.scorers.base import Score, ScorerSpec, TokenIds, nothing_far, one_head

K = 1024  # tokens that near context holds at least
ORDERS = 6  # tokens of the longest context that is counted
STRENGTH = 3.0  # occurrences of a context that outweigh what is known without it
UNSEEN = 0.01  # of an occurrence: what a token that was not seen counts as
WEIGHT = 10.0  # occurrences in the window that outweigh a background

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Places = NDArray[np.int64]


def recall_version(spec: ScorerSpec) -> str:
    return f"recall:{counting(spec)}:octaves:k={spec.k or K}"


def counting(spec: ScorerSpec) -> str:
    """What of a version says how n-grams are counted."""
    known, name = f"unseen={UNSEEN:g}", background_name(spec.background)
    if name:
        by = ",".join(f"{strength:g}" for strength in STRENGTHS)
        known = f"background={name}:by={by}:weight={WEIGHT:g}"
    return f"n={ORDERS}:strength={STRENGTH:g}:{known}"


def known_before(
    background: Background | None, token_ids: TokenIds
) -> tuple[Vector | float, float, NDArray[np.bool_] | None]:
    """How likely each token is before anything of the window is read, the occurrences that outweigh
    it, and which tokens end widespread n-grams: None without a background.
    """
    if background is None:
        return UNSEEN, 1.0, None
    known_L, widespread_L = background.known(token_ids)
    return known_L, WEIGHT, widespread_L


class Recall:
    """Scores windows by what counts of n-grams gain from far context."""

    def __init__(self, spec: ScorerSpec) -> None:
        self.version = recall_version(spec)
        self.k = spec.k or K
        self.background = open_background(spec.background)

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        """Reason and detail for a window of up to 2k tokens, in which nothing is far."""
        length, near = len(token_ids), 2 * self.k
        if self.k < length <= near:
            return "too_short", f"{length} tokens; k is {self.k}, and the first {near} gain nothing"
        return nothing_far(token_ids, self.k)

    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        return [self._score_one(ids) for ids in token_ids]

    def _score_one(self, token_ids: TokenIds) -> Score:
        known_L, strength, widespread_L = known_before(self.background, token_ids)
        distances = octaves(len(token_ids), self.k)
        gain_OL = gain_by_octave(token_ids, self.k, distances, known_L, strength)
        gain_L = gain_OL.sum(0)
        score = one_head(len(gain_L), self.k, ds=float(gain_L.mean()), du=-float(gain_L.var()))
        means = zip(distances, gain_OL.mean(1).tolist(), strict=True)
        measures = {f"gain_from_{d}": gain for d, gain in means}
        if widespread_L is not None:
            measures["boilerplate"] = share(gain_L, widespread_L)
        return {**score, "measures": measures}


def share(gain_L: Vector, which_L: NDArray[np.bool_]) -> float:
    """Of the gain, the part of some tokens, 0 to 1; 0 where nothing is gained.

    >>> share(np.array([1.0, 2.0, 1.0]), np.array([True, False, False]))
    0.25
    """
    total, part = float(gain_L.sum()), float(gain_L[which_L].sum())
    return min(max(part / total, 0.0), 1.0) if total > 0 else 0.0


def octaves(length: int, k: int) -> list[int]:
    """The distances k, 2k, 4k, ... up to half of the window, at which octaves begin.

    >>> octaves(8192, 1024)
    [1024, 2048, 4096]
    """
    doublings = max(length // (2 * k), 1).bit_length()
    return [k << doubling for doubling in range(doublings)]


def far_gain(
    token_ids: TokenIds, k: int, known_L: Vector | float = UNSEEN, strength: float = 1.0
) -> Vector:
    """p_L ln(p_L / p_S) of every token [L], in nats; as gain_by_octave, all distances together."""
    total_L: Vector = gain_by_octave(token_ids, k, [k], known_L, strength)[0]
    return total_L


def gain_by_octave(
    token_ids: TokenIds,
    k: int,
    distances: list[int],
    known_L: Vector | float = UNSEEN,
    strength: float = 1.0,
) -> Matrix:
    """p_L ln(p / p') of every token, by how far back what helps it stands [O, L], in nats.

    p' counts from the near part's start or a distance of `distances`, which rise, whichever is
    farther, and p from the next one; the last octave has no end. So octaves add up to p_L ln(p_L /
    p_S). `known_L` is what is known of each token without the window, and `strength` occurrences
    outweigh it.
    """
    start_OL = octave_starts(len(token_ids) + 1, k, distances)
    p_CL = _likelihoods(token_ids, start_OL, known_L, strength)
    log_CL = np.log(p_CL)
    gain_OL: Matrix = p_CL[0] * (np.vstack([log_CL[2:], log_CL[:1]]) - log_CL[1:])
    return gain_OL


def cross_gain(
    token_ids: TokenIds,
    n_tokens_S: Places,
    known_L: Vector | float = UNSEEN,
    strength: float = 1.0,
) -> Vector:
    """p_L ln(p_L / p_S) of every token, p_S counted from its own segment's start [L], in nats.

    So only what an earlier segment foretells, and the own does not, counts. `n_tokens_S` are the
    lengths of the window's segments; the first gains nothing. The rest is as in gain_by_octave.
    """
    start_L = np.repeat(np.cumsum(n_tokens_S) - n_tokens_S, n_tokens_S)
    start_1L = np.append(start_L, start_L[-1:])[None]
    whole_L, own_L = _likelihoods(token_ids, start_1L, known_L, strength)
    gain_L: Vector = whole_L * np.log(whole_L / own_L)
    return gain_L


def _likelihoods(
    token_ids: TokenIds, start_OL: Places, known_L: Vector | float, strength: float
) -> Matrix:
    """p of every token, counted from the window's start and from each other start [1 + O, L].

    `start_OL` has one column more than there are tokens: the last token is a context.
    """
    length = len(token_ids)
    context_CL = np.arange(length) - np.vstack([np.zeros(length, np.int64), start_OL[:, :-1]])
    p_CL = np.full(context_CL.shape, known_L)
    for grams in islice(growing_grams(token_ids), ORDERS + 1):
        at = grams.place_A
        hits_CA = grams.earlier(start_OL[:, at])
        p_CL[:, at] = (hits_CA + strength * p_CL[:, at]) / (context_CL[:, at] + strength)
        context_CL = np.zeros((len(start_OL) + 1, length + 1), np.int64)
        context_CL[:, at + 1] = grams.earlier(start_OL[:, at + 1])
        strength = STRENGTH
    return p_CL


def octave_starts(length: int, k: int, distances: list[int]) -> Places:
    """Where the context that an octave adds to begins, for each token [O, L]."""
    far_OL = np.arange(length) - np.array(distances)[:, None] + 1
    far_OL[0] = length  # the first octave adds to the near part, whatever its length
    starts_OL: Places = np.maximum(np.minimum(far_OL, near_starts(length, k)), 0)
    return starts_OL


def near_starts(length: int, k: int) -> Places:
    """Where the near context of each token begins [L]."""
    return np.maximum(np.arange(length) // k - 1, 0) * k


class Grams:
    """N-grams of one size by where they end, equal ones together and in their order."""

    def __init__(self, size: int, name_A: Places, place_A: Places) -> None:
        """Equal names are equal n-grams; places are in rising order."""
        order_A = np.argsort(name_A, kind="stable")
        new_A = np.diff(name_A[order_A], prepend=-1) != 0
        self.size = size
        self.place_A = place_A[order_A]
        self.kind_A = np.cumsum(new_A) - 1
        self.first_A = np.flatnonzero(new_A)[self.kind_A]  # the earliest equal one, as an index
        self.repeats_A = ~new_A | ~np.append(new_A[1:], True)

    def earlier(self, start_OA: Places) -> Places:
        """How many equal ones stand before each [1 + O, A]: anywhere, and from each start on."""
        counts = np.zeros((1 + len(start_OA), len(self.place_A)), np.int64)
        counts[0] = np.arange(len(self.place_A)) - self.first_A
        again = np.flatnonzero(self.repeats_A)  # the others have none before them
        place, stride = self.place_A[again], int(self.place_A.max()) + 1
        ends = np.minimum(start_OA[:, again] + self.size - 1, place)
        key = self.kind_A[again] * stride
        counts[1:, again] = np.arange(len(again)) - np.searchsorted(key + place, key + ends)
        return counts


def growing_grams(token_ids: TokenIds) -> Iterator[Grams]:
    """N-grams of one token, of two and so on, from the second on those whose beginning repeats."""
    length = len(token_ids)
    word_L = name_A = np.unique(token_ids, return_inverse=True)[1]
    place_A, size = np.arange(length), 0
    while len(place_A):
        size += 1
        grams = Grams(size, name_A, place_A)
        yield grams
        kind_L = np.zeros(length, np.int64)
        kind_L[grams.place_A] = grams.kind_A
        place_A = np.sort(grams.place_A[grams.repeats_A]) + 1
        place_A = place_A[place_A < length]
        name_A = kind_L[place_A - 1] * length + word_L[place_A]
