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

Near are the last k to 2k - 1 tokens: chunks of 2k tokens, each counted from its own start and its
last k tokens judged, as the short context of LongFilter is read. So the first 2k tokens gain
nothing. Where the constants are from: docs/adr/0011-recall-and-compress.md; how well DS agrees with
a language model's gain: docs/evidence.md.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from longattn.udfs.scorers.base import Score, ScorerSpec, TokenIds, nothing_far, one_head

K = 1024  # tokens that near context holds at least
ORDERS = 6  # tokens of the longest context that is counted
STRENGTH = 3.0  # occurrences of a context that outweigh what is known without it
UNSEEN = 0.01  # of an occurrence: what a token that was not seen counts as

Vector = NDArray[np.float64]
Places = NDArray[np.int64]


def recall_version(spec: ScorerSpec) -> str:
    return f"recall:n={ORDERS}:strength={STRENGTH:g}:unseen={UNSEEN:g}:k={spec.k or K}"


class Recall:
    """Scores windows by what counts of n-grams gain from far context."""

    def __init__(self, spec: ScorerSpec) -> None:
        self.version = recall_version(spec)
        self.k = spec.k or K

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        """Reason and detail for a window with no two tokens k apart."""
        return nothing_far(token_ids, self.k)

    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        return [self._score_one(ids) for ids in token_ids]

    def _score_one(self, token_ids: TokenIds) -> Score:
        gain_L = far_gain(token_ids, self.k)
        return one_head(len(gain_L), self.k, ds=float(gain_L.mean()), du=-float(gain_L.var()))


def far_gain(
    token_ids: TokenIds, k: int, known_L: Vector | float = UNSEEN, strength: float = 1.0
) -> Vector:
    """p_L ln(p_L / p_S) of every token [L], in nats.

    `known_L` is what is known of each token without the window; `strength` occurrences outweigh it.
    """
    length = len(token_ids)
    near_L = near_starts(length + 1, k)  # one more: the last token is the context of a next one
    context_2L = np.stack([np.arange(length), np.arange(length) - near_L[:-1]])  # whole, near
    p_2L = np.full((2, length), known_L)
    for grams in islice(growing_grams(token_ids), ORDERS + 1):
        at = grams.place_A
        hits_2A = grams.earlier(near_L[at])
        p_2L[:, at] = (hits_2A + strength * p_2L[:, at]) / (context_2L[:, at] + strength)
        context_2L = np.zeros((2, length + 1), np.int64)
        context_2L[:, at + 1] = grams.earlier(near_L[at + 1])
        strength = STRENGTH
    gain_L: Vector = p_2L[0] * np.log(p_2L[0] / p_2L[1])
    return gain_L


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

    def earlier(self, near_A: Places) -> Places:
        """How many equal ones stand before each [2, A]: anywhere, and from `near_A` on."""
        index_A, stride = np.arange(len(self.place_A)), int(self.place_A.max()) + 1
        ends_A = np.minimum(near_A + self.size - 1, self.place_A)
        keys_A = self.kind_A * stride + self.place_A
        outside_A = np.searchsorted(keys_A, self.kind_A * stride + ends_A)
        return np.stack([index_A - self.first_A, index_A - outside_A])


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
