"""Far recurrence: what a window repeats from far back and has not said since. No model.

An n-gram that ends at token t is recalled when it occurred k or more tokens before and not in
between: whoever predicts t from the last k tokens alone misses it, and whoever reads the whole
window finds it. With r_n(t) in {0, 1} for that,

    R(t) = sum over n <= LONGEST of r_n(t),    DS = mean over t of R(t),    DU = -variance of R(t)

R(t) is by how many tokens the longest match of t and what precedes it is longer far back than near.
A name is 1, a phrase of 8 tokens that comes back adds up to 1 + 2 + ... + 8. Text that repeats
itself without pause has its matches near, and scores 0.

Such matches are what induction heads copy from (Olsson et al. 2022, arXiv 2209.11895). How well DS
agrees with what a language model gains from its far context: docs/evidence.md.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from longattn.udfs.scorers.base import Score, ScorerSpec, TokenIds, default_k, nothing_far, one_head

LONGEST = 8  # tokens of an n-gram; longer ones hold these


def recurrence_version(spec: ScorerSpec) -> str:
    return f"recurrence:n={LONGEST}:k={spec.k or 'L/4'}"


class Recurrence:
    """Scores windows by the n-grams that they bring back from far away."""

    def __init__(self, spec: ScorerSpec) -> None:
        self.version = recurrence_version(spec)
        self.spec = spec

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        """Reason and detail for a window with no two tokens k apart."""
        return nothing_far(token_ids, self.k_of(len(token_ids)))

    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        return [self._score_one(ids) for ids in token_ids]

    def k_of(self, length: int) -> int:
        """The minimum distance: LongAttn's, a quarter of the window."""
        return self.spec.k or default_k(length)

    def _score_one(self, token_ids: TokenIds) -> Score:
        k = self.k_of(len(token_ids))
        recalled_L = recalled(token_ids, k)
        return one_head(len(token_ids), k, ds=float(recalled_L.mean()), du=-float(recalled_L.var()))


def recalled(token_ids: TokenIds, k: int) -> NDArray[np.int64]:
    """R(t) [L]: how many n-grams that end at t occurred k or more tokens before and not since."""
    position_L = np.arange(len(token_ids))
    count_L = np.zeros(len(token_ids), np.int64)
    for gram_L in islice(_grams(token_ids), LONGEST):
        count_L += position_L - _previous(gram_L) >= k
    return count_L


def _grams(token_ids: TokenIds) -> Iterator[NDArray[np.int64]]:
    """Numbers [L] of the n-grams that end at each token, equal where these are; n = 1, 2, ..."""
    word_L = gram_L = np.unique(token_ids, return_inverse=True)[1]
    words = int(word_L.max()) + 1
    while True:
        yield gram_L
        longer_L = np.append(-1, gram_L[:-1]) * words + word_L
        gram_L = np.unique(longer_L, return_inverse=True)[1]


def _previous(gram_L: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each gram occurred last before each place; the place itself if nowhere."""
    order_L = np.argsort(gram_L, kind="stable")
    new_L = np.append(True, np.diff(gram_L[order_L]) != 0)
    previous_L = np.empty_like(order_L)
    previous_L[order_L] = np.where(new_L, order_L, np.roll(order_L, 1))
    return previous_L
