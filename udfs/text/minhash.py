"""Fingerprints of documents: exact hash, MinHash signature and LSH bands, and true Jaccard.

Similarity is the Jaccard index of the sets of word n-grams (shingles) of two normalised texts; see
udfs.text.ngrams. MinHash: Broder 1997; banding: Leskovec, Rajaraman, Ullman, "Mining of Massive
Datasets", section 3.4; bottom-k sketches: Cohen and Kaplan 2007.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from longattn.udfs.errors import ConfigError
from longattn.udfs.text import ngrams

RECALL = 0.99  # of pairs exactly at the threshold, that share at least one band
SKETCH = 1 << 16  # smallest hashes kept for a true Jaccard: exact for texts up to about 400 kB

Signature = NDArray[np.uint32]  # [permutations]
Floats = NDArray[np.float64]
Batches = Iterator[pa.RecordBatch]


def s_curve(similarity: float, bands: int, rows: int) -> float:
    """Probability that two documents of this similarity share at least one band."""
    return float(1 - (1 - similarity**rows) ** bands)


def choose_bands(threshold: float, permutations: int) -> tuple[int, int]:
    """Bands and rows for a threshold: the most rows (fewest false candidates) that keep RECALL.

    Verification removes false candidates later; nothing brings back a pair that no band found.
    Raises ConfigError when even one row per band finds fewer.
    """
    for rows in range(permutations, 0, -1):
        if s_curve(threshold, permutations // rows, rows) >= RECALL:
            return permutations // rows, rows
    share = s_curve(threshold, permutations, 1)
    raise ConfigError(
        f"dedup.permutations: {permutations} find {share:.0%} of pairs at threshold {threshold};"
        f" at least {RECALL:.0%} are wanted: give more"
    )


@dataclass(frozen=True, kw_only=True)
class MinHash:
    """All that a fingerprint depends on; `recipe` names it, and recipes never mix."""

    ngram: int
    permutations: int
    bands: int
    rows: int
    seed: int = 0

    @property
    def recipe(self) -> str:
        algorithm = _rensa().RMinHash.ALGORITHM_VERSION
        return (
            f"text{ngrams.VERSION}-words{self.ngram}-rminhash{algorithm}"
            f"-{self.permutations}-seed{self.seed}-bands{self.bands}x{self.rows}"
        )


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What is kept of a document; without shingles, signature and bands are empty."""

    text_hash: str  # SHA-256 of the normalised text as UTF-8, hex
    n_shingles: int  # repeats included
    signature: Signature
    bands: NDArray[np.int64]


def fingerprint(text: str, minhash: MinHash) -> Fingerprint:
    """Fingerprint a text in one pass, piece by piece: memory does not grow with its length."""
    sha = hashlib.sha256()

    def pieces() -> Iterator[str]:
        for piece in ngrams.normalised(text):
            sha.update(piece.encode())
            yield piece

    n_shingles, signature = 0, np.empty(0, np.uint32)
    for shingles in ngrams.ngrams(pieces(), minhash.ngram):
        part = _sign(shingles, minhash)
        signature = np.minimum(signature, part) if n_shingles else part
        n_shingles += len(shingles)
    return Fingerprint(
        text_hash=sha.hexdigest(),
        n_shingles=n_shingles,
        signature=signature,
        bands=band_hashes(signature, minhash),
    )


def band_hashes(signature: Signature, minhash: MinHash) -> NDArray[np.int64]:
    """One hash per band, the band's place included; int64 [bands], empty for no signature."""
    if not len(signature):
        return np.empty(0, np.int64)
    rows = signature[: minhash.bands * minhash.rows].reshape(minhash.bands, minhash.rows)
    hashes = np.arange(minhash.bands, dtype=np.uint64)
    for column in rows.T:
        hashes = ngrams.mix(hashes + np.uint64(0x9E3779B97F4A7C15) + column)
    return hashes.view(np.int64)


def fingerprint_batches(batches: Batches, minhash: MinHash) -> Batches:
    """Put text_hash, n_shingles, bands and signature (uint32 little endian) in place of `text`."""
    for batch in batches:
        prints = [fingerprint(text.as_py(), minhash) for text in batch.column("text")]
        yield _instead_of_text(
            batch,
            text_hash=pa.array([p.text_hash for p in prints], pa.string()),
            n_shingles=pa.array([p.n_shingles for p in prints], pa.int64()),
            bands=pa.array([p.bands for p in prints], pa.list_(pa.int64())),
            signature=pa.array([p.signature.astype("<u4").tobytes() for p in prints], pa.binary()),
        )


def sketch_batches(batches: Batches, ngram: int) -> Batches:
    """Put the bottom-k sketch (uint64 little endian) of every document in place of `text`."""
    for batch in batches:
        texts = batch.column("text")
        sketches = [sketch(text.as_py(), ngram).astype("<u8").tobytes() for text in texts]
        yield _instead_of_text(batch, sketch=pa.array(sketches, pa.binary()))


def estimate(signatures_a: Sequence[bytes], signatures_b: Sequence[bytes]) -> Floats:
    """Estimated Jaccard of each pair of signatures: the share of permutations that agree."""
    if not signatures_a:
        return np.empty(0)
    values_a, values_b = (
        np.frombuffer(b"".join(side), "<u4").reshape(len(side), -1)
        for side in (signatures_a, signatures_b)
    )
    return np.asarray(np.mean(values_a == values_b, axis=1))


def measure_pairs(pairs: pa.Table, sketches: pa.Table) -> pa.Table:
    """doc_a, doc_b and similarity, the true Jaccard, of pairs among documents (doc_id, sketch)."""
    doc_a, doc_b = pairs["doc_a"], pairs["doc_b"]
    values = (np.frombuffer(value, "<u8") for value in sketches["sketch"].to_pylist())
    of = dict(zip(sketches["doc_id"].to_pylist(), values, strict=True))
    ids = zip(doc_a.to_pylist(), doc_b.to_pylist(), strict=True)
    similarity = pa.array([jaccard(of[a], of[b]) for a, b in ids], pa.float64())
    return pa.table({"doc_a": doc_a, "doc_b": doc_b, "similarity": similarity})


def sketch(text: str, ngram: int, size: int = SKETCH) -> ngrams.Hashes:
    """The `size` smallest distinct shingle hashes, sorted."""
    smallest = np.empty(0, np.uint64)
    for shingles in ngrams.ngrams(ngrams.normalised(text), ngram):
        smallest = np.union1d(smallest, shingles)[:size]
    return smallest


def jaccard(a: ngrams.Hashes, b: ngrams.Hashes, size: int = SKETCH) -> float:
    """Jaccard of two texts from their sketches, neither empty.

    Exact when neither sketch is full. Else estimated over the `size` smallest hashes of the union,
    which are a random sample of it: standard error sqrt(J (1 - J) / size), below 0.002.
    """
    merged = np.sort(np.concatenate([a, b]), kind="stable")
    distinct = np.append(True, merged[1:] != merged[:-1])
    shared = np.append(merged[1:] == merged[:-1], False)[distinct]
    if max(len(a), len(b)) >= size:
        shared = shared[:size]
    return float(shared.mean())


def _sign(shingles: ngrams.Hashes, minhash: MinHash) -> Signature:
    """MinHash signature of one block; the element-wise minimum of blocks is that of the whole."""
    ends = np.array([0, len(shingles)], np.uint64)
    digests = _rensa().RMinHash.digest_matrix_from_flat_token_hashes(
        shingles, ends, minhash.permutations, minhash.seed
    )
    return np.array(digests.to_rows()[0], np.uint32)


@cache
def _rensa() -> Any:
    os.environ.setdefault("RAYON_NUM_THREADS", "1")  # a Spark task owns one core; read at import
    import rensa

    return rensa


def _instead_of_text(batch: pa.RecordBatch, **columns: pa.Array) -> pa.RecordBatch:
    kept = {name: batch.column(name) for name in batch.schema.names if name != "text"}
    return pa.RecordBatch.from_pydict({**kept, **columns})
