"""Cross gain: what a reader who only counts gains, in a packed window, of the documents before.

It is recall (longattn.udfs.scorers.kinds.recall) with other contexts: p_L counts all of the window
before a token, p_S the token's own document alone. DS is the mean over tokens of p_L ln(p_L / p_S)
in nats, DU minus its variance. What a document says itself counts for nothing, so the first one of
a window gains nothing, and neither does a window of one document. There is no minimum distance.

What it is worth: docs/adr/0028-packing-by-likeness.md.
"""

import numpy as np

from longattn.udfs.scorers.background import open_background
from longattn.udfs.scorers.base import Score, ScorerSpec, TokenIds, one_head
from longattn.udfs.scorers.kinds.recall import counting, cross_gain, known_before


def cross_gain_version(spec: ScorerSpec) -> str:
    return f"cross_gain:{counting(spec)}"


class CrossGain:
    """Scores windows as with_segments gives them, [L, 2]."""

    def __init__(self, spec: ScorerSpec) -> None:
        self.version = cross_gain_version(spec)
        self.background = open_background(spec.background)

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        """Reason and detail for a window of which nobody says where documents end."""
        if token_ids.ndim == 1:
            return "one_document", "cross gain is of windows that are packed of several documents"
        return None if len(token_ids) else ("empty", "no tokens")

    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        return [self._score_one(*window.T) for window in token_ids]

    def _score_one(self, token_ids: TokenIds, segment_L: TokenIds) -> Score:
        known_L, strength, _ = known_before(self.background, token_ids)
        gain_L = cross_gain(token_ids, np.bincount(segment_L), known_L, strength)
        return one_head(len(gain_L), 0, ds=float(gain_L.mean()), du=-float(gain_L.var()))
