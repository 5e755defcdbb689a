"""Far saving: what a compressor gains when its dictionary holds the whole window. No model.

A window of L token ids is compressed twice with LZMA (LZMA2, raw: no headers), once with a
dictionary of the whole window, C_full bytes, once with one of k tokens, C_near bytes. What lies
farther back than the dictionary cannot be copied, so that

    DS = 8 (C_near - C_full) / L

is in bits a token what the window repeats from more than k tokens back. It is LongFilter's question
(arXiv 2510.25804) put to a compressor: it counts bits, pays for a copy by the logarithm of its
distance, and knows no language. DU is 0. Measured besides:

    ratio           4 L / C_full: by how much the ids shrink
    bits_per_token  8 C_full / L

Olmo 3 (arXiv 2512.13961, 3.6.1) leaves out the fifth of its long documents that gzip shrinks most
and the fifth that it shrinks least.

An id is four bytes, little-endian, whatever the vocabulary. So LZMA's smallest dictionary, 4,096
bytes, is 1,024 tokens, and k is no less; and with `lp` = `pb` = 2 LZMA's model knows which byte of
an id it is at, so that the upper ones, all alike, cost next to nothing.
"""

import lzma

from longattn.udfs.scorers.base import Score, ScorerSpec, TokenIds, nothing_far, one_head

K = 1024  # tokens of the smaller dictionary
ID_BYTES = 4
SMALLEST = 4096  # bytes of a dictionary, of LZMA's encoder


def compress_version(spec: ScorerSpec) -> str:
    return f"compress:lzma2:k={_k(spec)}"


class Compress:
    """Scores windows by what a compressor gains from their far context."""

    def __init__(self, spec: ScorerSpec) -> None:
        self.version = compress_version(spec)
        self.k = _k(spec)

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        """Reason and detail for a window that the smaller dictionary holds."""
        return nothing_far(token_ids, self.k)

    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        return [self._score_one(ids) for ids in token_ids]

    def _score_one(self, token_ids: TokenIds) -> Score:
        length = len(token_ids)
        full, near = (compressed(token_ids, size) for size in (length, self.k))
        score = one_head(length, self.k, ds=8 * (near - full) / length, du=0.0)
        score["measures"] = {
            "ratio": ID_BYTES * length / full,
            "bits_per_token": 8 * full / length,
        }
        return score


def compressed(token_ids: TokenIds, dictionary: int) -> int:
    """Bytes of the ids compressed with a dictionary of so many tokens, 1,024 or more."""
    settings = {
        "id": lzma.FILTER_LZMA2,
        "preset": 9,
        "dict_size": ID_BYTES * dictionary,
        "lc": 0,
        "lp": 2,
        "pb": 2,
        "nice_len": 273,
    }
    ids = token_ids.astype("<u4").tobytes()
    return len(lzma.compress(ids, lzma.FORMAT_RAW, filters=[settings]))


def _k(spec: ScorerSpec) -> int:
    """Tokens of the smaller dictionary; none is below LZMA's smallest."""
    return max(spec.k or K, SMALLEST // ID_BYTES)
