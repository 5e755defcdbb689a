"""How many documents hold each n-gram of one to three tokens: the counts of a background.

An n-gram counts by the documents that hold it besides one:

    n(g) = max(0, documents that hold g - 1)

So a document is left out of what it is judged by without knowing which one it is: an n-gram that
it shares with m others counts m, and what it alone holds counts nothing. The price is one document
in the counts of all other n-grams. What no two documents hold, most of what there is, need not be
kept.

N-grams are known by a key of 64 bits. Beside its key each has that of `above`, under which the sum
of n over all n-grams with the same beginning is kept: what a probability is divided by.

Shapes: L tokens of a document, G n-grams.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from longattn.udfs.text.ngrams import mix

ORDERS = 3  # tokens of the longest n-gram
MERGED = 1 << 22  # n-grams that are gathered before they are merged
MOST = 64_000_000  # n-grams kept: some 350 MB, 450 at the most

COUNTED_SCHEMA = pa.schema({"key": pa.int64(), "above": pa.int64(), "number": pa.int64()})

Keys = NDArray[np.uint64]
Numbers = NDArray[np.int64]
TokenIds = NDArray[np.int64]


_FIRST = np.uint64(0xA0761D6478BD642F)  # the id 0 becomes this: a 0 would stay 0 in all n-grams
_JOIN = np.uint64(0xD1342543DE82EF95)  # any odd number will do
_SUM = np.uint64(0x9E3779B97F4A7C15)  # tells a sum's key from that of the n-gram it is a sum over


class Placed(NamedTuple):
    """The n-grams of one size that end at tokens `start`, `start` + 1, ... of a document."""

    start: int
    key_G: Keys
    above_G: Keys


@dataclass(frozen=True)
class Ngrams:
    """Distinct n-grams by rising key, and a number of each: documents, or n."""

    key_G: Keys
    above_G: Keys
    number_G: Numbers

    @staticmethod
    def none() -> "Ngrams":
        return Ngrams(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64))

    def of(self, which: NDArray[np.bool_]) -> "Ngrams":
        return Ngrams(self.key_G[which], self.above_G[which], self.number_G[which])


def top_key() -> Keys:
    """The key of the sum over all single tokens; uint64 [1]."""
    return mix(np.array([_SUM]))


def placed(token_ids: TokenIds) -> Iterator[Placed]:
    """N-grams of one token, of two, and so on, each where it ends."""
    token_L = mix(token_ids.astype(np.uint64) + _FIRST)
    key_G, above_G = token_L, np.repeat(top_key(), len(token_L))
    for size in range(1, ORDERS + 1):
        yield Placed(size - 1, key_G, above_G)
        before_G = key_G[:-1]
        key_G, above_G = mix(before_G * _JOIN + token_L[size:]), mix(before_G ^ _SUM)


def held_by(documents: Iterable[Iterable[TokenIds]]) -> Ngrams:
    """Count in how many documents each n-gram stands; memory is that of the distinct ones.

    A document is its stretches of tokens: they may overlap, and no n-gram runs from one to another.
    """
    total, parts, waiting = Ngrams.none(), list[Ngrams](), 0
    for stretches in documents:
        parts.append(_of_one(stretches))
        waiting += len(parts[-1].key_G)
        if waiting > max(MERGED, len(total.key_G)):
            total, parts, waiting = merged([total, *parts]), [], 0
    return merged([total, *parts])


def count_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Count rows (doc_id, token_ids), the stretches of one document next to each other.

    Yields COUNTED_SCHEMA, keys as signed numbers, for some millions of n-grams at a time; the same
    one may come again.
    """
    parts, waiting = list[Ngrams](), 0
    for _, stretches in groupby(_stretches(batches), key=itemgetter(0)):
        parts.append(_of_one(token_ids for _, token_ids in stretches))
        waiting += len(parts[-1].key_G)
        if waiting > MERGED:
            yield _as_batch(merged(parts))
            parts, waiting = [], 0
    yield _as_batch(merged([Ngrams.none(), *parts]))


def _stretches(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, TokenIds]]:
    for batch in batches:
        tokens = (ids.values.to_numpy().astype(np.int64) for ids in batch["token_ids"])
        yield from zip(batch["doc_id"].to_pylist(), tokens, strict=True)


def _as_batch(ngrams: Ngrams) -> pa.RecordBatch:
    columns = ngrams.key_G.view(np.int64), ngrams.above_G.view(np.int64), ngrams.number_G
    return pa.RecordBatch.from_arrays([*map(pa.array, columns)], schema=COUNTED_SCHEMA)


def from_table(table: pa.Table) -> Ngrams:
    """Rows of COUNTED_SCHEMA, in any order, each n-gram once."""
    key_G, above_G, number_G = (table[name].to_numpy() for name in COUNTED_SCHEMA.names)
    order_G = np.argsort(key_G.view(np.uint64))
    unsigned = [keys[order_G].view(np.uint64) for keys in (key_G, above_G)]
    return Ngrams(unsigned[0], unsigned[1], number_G[order_G])


def merged(parts: list[Ngrams]) -> Ngrams:
    """The n-grams of all parts, numbers of equal ones added."""
    key, above, number = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("key_G", "above_G", "number_G")
    )
    key_G, first, which = np.unique(key, return_index=True, return_inverse=True)
    total_G = np.bincount(which, number, len(key_G)).astype(np.int64)
    return Ngrams(key_G, above[first], total_G)


def besides_one(documents: Ngrams, most: int = MOST) -> Ngrams:
    """N-grams and their n, without those that no two documents hold; at most about `most`.

    Where there are more, those that fewest documents hold are left out. Single tokens all stay.
    """
    ngrams = documents.of(documents.number_G > 1)
    fewest = threshold(np.bincount(ngrams.number_G - 1), most)
    kept = Ngrams(ngrams.key_G, ngrams.above_G, ngrams.number_G - 1)
    return kept.of((kept.number_G >= fewest) | (kept.above_G == top_key()))


def threshold(ngrams_by_n: Numbers, most: int) -> int:
    """The smallest n, 1 or more, such that at most `most` n-grams have it or more.

    >>> threshold(np.array([0, 70, 20, 10]), 40)
    2
    """
    with_so_many_or_more = np.append(np.cumsum(ngrams_by_n[::-1])[::-1], 0)
    return 1 + int(np.argmax(with_so_many_or_more[1:] <= most)) if len(ngrams_by_n) > 1 else 1


def with_sums(ngrams: Ngrams) -> tuple[Keys, Numbers]:
    """Keys of n-grams and of the sums above them, and their numbers."""
    sum_key, which = np.unique(ngrams.above_G, return_inverse=True)
    total = np.bincount(which, ngrams.number_G, len(sum_key)).astype(np.int64)
    return np.append(ngrams.key_G, sum_key), np.append(ngrams.number_G, total)


def _of_one(stretches: Iterable[TokenIds]) -> Ngrams:
    """The distinct n-grams of a document, each held once."""
    every = [part for token_ids in stretches for part in placed(token_ids)]
    if not every:
        return Ngrams.none()
    key_G, first = np.unique(np.concatenate([part.key_G for part in every]), return_index=True)
    above_G = np.concatenate([part.above_G for part in every])[first]
    return Ngrams(key_G, above_G, np.ones(len(key_G), np.int64))
