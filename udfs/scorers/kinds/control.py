"""The scorer `random`: the control that every other one must beat."""

import hashlib

from longattn.udfs.scorers.base import Score, ScorerSpec, TokenIds, default_k, nothing_far, one_head


def random_version(spec: ScorerSpec) -> str:
    return f"random:seed={spec.seed}"


class RandomScorer:
    """The control: one pseudo-head whose statistics are a seeded hash of the window's tokens."""

    def __init__(self, spec: ScorerSpec) -> None:
        self.version = random_version(spec)
        self.spec = spec

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        """Reason and detail for a window without tokens."""
        return nothing_far(token_ids, 0)

    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        return [self._score_one(ids) for ids in token_ids]

    def _score_one(self, token_ids: TokenIds) -> Score:
        digest = hashlib.sha256(str(self.spec.seed).encode() + token_ids.astype("<i8").tobytes())
        s1, s2 = (int.from_bytes(digest.digest()[i : i + 6], "big") / 2**48 for i in (0, 6))
        length = len(token_ids)
        return one_head(length, self.spec.k or default_k(length), ds=s1, du=-s2)
