"""Short documents in an order in which each follows others that it shares rare n-grams with.

An n-gram is up to NGRAM tokens of one document in a row. It is rare while no more than COMMON
documents have it, and weighs ln(D / documents that have it). What a document shares with those of
the window so far is the sum of these weights over the square root of its own distinct n-grams; the
one that shares most comes next. Near copies, of whose n-grams together more than NEAR_COPY are
shared, do not follow each other within a window while others are left: a copy foretells all and
teaches nothing. Where none is left that shares anything, the next document given follows.

With a gain, likeness only proposes. Of the PROPOSED most alike and the next document given, that
one follows whose tokens gain most of the window so far: what is alike is joined only where that is
worth more than a document at random. That similarity alone may be worth less, and that a check
helps, is known: NExtLong (arXiv 2501.12766), EntropyLong (arXiv 2510.02330).

A step looks at the documents that share something with the one placed, and once at a number of
every document to find the best: a group of short documents has hundreds of thousands.

Shapes: D documents, S of them that share n-grams with one, P pairs of a document and an n-gram that
it has, G kinds of n-grams, K those of one document, H its n-grams in all documents, L tokens.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from longattn.udfs.text.ngrams import Hashes, mix

NGRAM = 2
COMMON = 64
LOOKED_AT = 4  # one n-gram of so many, by its hash: the same ones in every document
NEAR_COPY = 0.5
PROPOSED = 4
SKETCH = 8  # n-grams by which a document finds its group

Ids = NDArray[np.integer]
Places = NDArray[np.int64]
Vector = NDArray[np.float64]
Gain = Callable[[Places, Places], Vector]  # of every token of a window, by its segments' lengths


def similar_order(token_ids: Sequence[Ids], length: int, gain: Gain | None = None) -> list[int]:
    """Indices of all documents, in order for windows of `length` tokens cut from their stream.

    It follows from the documents and the order that they are given in, which breaks ties. With a
    gain, such as udfs.scorers.kinds.recall.cross_gain, likeness is checked by it.
    """
    chain = _Chain(token_ids, length)
    for first in range(len(token_ids)):
        while not chain.placed_D[first]:
            alike, given = chain.most_alike(PROPOSED if gain else 1), chain.next_given(first)
            if gain and alike:
                alike = [_gains_most([*alike, given], chain, gain)]
            chain.add(alike[0] if alike else given)
    return chain.order


def sketch(token_ids: Ids, size: int = SKETCH) -> NDArray[np.int64]:
    """The smallest hashes of a document's n-grams of NGRAM tokens, sorted; two documents that share
    many n-grams share some of these.
    """
    return np.sort(_hashes(token_ids, NGRAM).view(np.int64))[:size]


class SharedNgrams:
    """Which documents share which rare n-grams, looked up both ways."""

    def __init__(self, token_ids: Sequence[Ids]) -> None:
        doc_P, hash_P = _pairs(token_ids)
        self.size_D = np.bincount(doc_P, minlength=len(token_ids))
        n_G = np.unique(hash_P, return_counts=True)[1]
        kind_P = np.repeat(np.arange(len(n_G)), n_G)
        rare_P = ((n_G > 1) & (n_G <= COMMON))[kind_P]
        self.doc_P, kind_P = doc_P[rare_P], kind_P[rare_P]  # by kind
        self.start_G = np.searchsorted(kind_P, np.arange(len(n_G) + 1))
        by_doc_P = np.argsort(self.doc_P, kind="stable")
        self.kind_P = kind_P[by_doc_P]
        self.start_D = np.searchsorted(self.doc_P[by_doc_P], np.arange(len(token_ids) + 1))
        self.weight_G = np.log(len(token_ids) / n_G)
        self.at_D = np.zeros(len(token_ids), np.int64)  # scratch of `of`

    def of(self, document: int) -> tuple[Places, Places, Vector]:
        """Documents that share n-grams with one, how many, and what these weigh [S]."""
        kind_K = self.kind_P[self.start_D[document] : self.start_D[document + 1]]
        n_K = self.start_G[kind_K + 1] - self.start_G[kind_K]
        begun_K = np.cumsum(n_K) - n_K
        number_H = np.arange(n_K.sum())
        doc_H = self.doc_P[number_H + np.repeat(self.start_G[kind_K] - begun_K, n_K)]
        self.at_D[doc_H] = number_H
        doc_S = doc_H[self.at_D[doc_H] == number_H]  # each once, and nothing was sorted
        self.at_D[doc_S] = np.arange(len(doc_S))
        weight_H = np.repeat(self.weight_G[kind_K], n_K)
        weight_S: Vector = np.bincount(self.at_D[doc_H], weight_H, len(doc_S)).astype(np.float64)
        return doc_S, np.bincount(self.at_D[doc_H], minlength=len(doc_S)), weight_S


class _Chain:
    """Documents placed so far, and how alike the others are to those of the window so far."""

    def __init__(self, token_ids: Sequence[Ids], length: int) -> None:
        self.token_ids, self.length = token_ids, length
        self.shared = SharedNgrams(token_ids)
        self.root_D = np.sqrt(np.maximum(self.shared.size_D, 1))
        self.order: list[int] = []
        self.placed_D = np.zeros(len(token_ids), bool)
        self._begin_window(0)

    def add(self, document: int) -> None:
        """Put a document behind the others; with its separator it may begin another window."""
        self.order.append(document)
        self.placed_D[document] = True
        self.filled += len(self.token_ids[document]) + 1
        if self.filled >= self.length:
            self._begin_window(self.filled % self.length)
        if self.filled > 1:  # else it ended with the window before, but for its separator
            self.window.append(document)
            self._share(document)

    def next_given(self, first: int) -> int:
        """The first document not placed, `first`, or where it is a near copy the next that is none;
        where all are copies, `first`.
        """
        if not self.copy_D[first]:
            return first
        out_D = self.placed_D[first:] | self.copy_D[first:]
        return first + int(out_D.argmin())

    def most_alike(self, count: int) -> list[int]:
        """Documents not placed that share most with the window so far, at most `count`, the best
        first and of equals the earlier.
        """
        best: list[int] = []
        alike: list[float] = []
        while len(best) < count and self.alike_D[at := int(self.alike_D.argmax())] > 0:
            best.append(at)
            alike.append(self.alike_D[at])
            self.alike_D[at] = 0
        self.alike_D[best] = alike
        return best

    def _share(self, document: int) -> None:
        """What a document of the window changes for the others."""
        doc_S, n_shared_S, weight_S = self.shared.of(document)
        size_S, size = self.shared.size_D[doc_S], self.shared.size_D[document]
        self.weight_D[doc_S] += weight_S
        self.copy_D[doc_S] |= n_shared_S > NEAR_COPY * (size_S + size - n_shared_S)
        out_S = self.placed_D[doc_S] | self.copy_D[doc_S]
        self.alike_D[doc_S] = np.where(out_S, 0, self.weight_D[doc_S] / self.root_D[doc_S])

    def _begin_window(self, filled: int) -> None:
        """`filled` tokens of it are there, and no document yet."""
        n_docs = len(self.token_ids)
        self.filled, self.window = filled, list[int]()
        self.weight_D, self.alike_D = np.zeros(n_docs), np.zeros(n_docs)
        self.copy_D = np.zeros(n_docs, bool)


def _gains_most(candidates: Sequence[int], chain: _Chain, gain: Gain) -> int:
    """The candidate whose tokens, as far as the window has room, gain most of it; the first of
    equals.
    """
    before = np.concatenate([chain.token_ids[document] for document in chain.window])
    before = before[-chain.filled :]
    room = chain.length - chain.filled
    gains = [_mean_gain(before, chain.token_ids[c][:room], gain) for c in candidates]
    return candidates[int(np.argmax(gains))]


def _mean_gain(before: Ids, ids: Ids, gain: Gain) -> float:
    n_tokens_S = np.array([len(before), len(ids)])
    token_ids = np.concatenate([before, ids]).astype(np.int64)
    return float(gain(token_ids, n_tokens_S)[len(before) :].mean())


def _pairs(token_ids: Sequence[Ids]) -> tuple[Places, Hashes]:
    """Documents and the hashes of their n-grams, each pair once, by hash and then by document."""
    own = [_looked_at(_hashes(ids, n)) for ids in token_ids for n in range(1, NGRAM + 1)]
    doc_P = np.repeat(np.arange(len(own)) // NGRAM, [len(hashes) for hashes in own])
    hash_P = np.concatenate([np.empty(0, np.uint64), *own])
    by_hash_P = np.argsort(hash_P, kind="stable")
    return doc_P[by_hash_P], hash_P[by_hash_P]


def _looked_at(hashes: Hashes) -> Hashes:
    """A share of the n-grams, which is as good as all and takes less memory."""
    kept: Hashes = hashes[hashes % np.uint64(LOOKED_AT) == 0]
    return kept


def _hashes(token_ids: Ids, n: int) -> Hashes:
    """Distinct hashes of n tokens in a row, sorted; none of fewer tokens."""
    hash_N = np.full(max(len(token_ids) - n + 1, 0), n, np.uint64)
    for place in range(n):
        hash_N = mix(hash_N + token_ids[place : place + len(hash_N)].astype(np.uint64))
    return np.unique(hash_N)
