"""Copies among the documents of a sample: exact ones, and near ones as dedup's recipe finds them.

Documents are compared by their beginnings, and near ones by signature alone.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from longattn.etl.before.sampling import Document, Range, Sample
from longattn.etl.config import DedupConfig
from longattn.etl.dedup.job import Recipe
from longattn.udfs.text.minhash import MinHash, estimate, fingerprint


@dataclass
class Seen:
    """Documents of one scope that were met before."""

    keys: set[int] = field(default_factory=set)
    by_band: dict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))

    def knows(self, document: Document, minhash: MinHash, threshold: float) -> bool:
        """Whether a document is a copy of one met before; it has been met from then on."""
        print_ = fingerprint(document.text, minhash)
        bands, signature = print_.bands.tolist(), print_.signature.astype("<u4").tobytes()
        alike = {other for band in bands for other in self.by_band[band]}
        known = document.key in self.keys or any(
            estimate([signature], [other])[0] >= threshold for other in alike
        )
        self.keys.add(document.key)
        for band in bands:
            self.by_band[band].append(signature)
        return known


@dataclass(frozen=True)
class Copies:
    """Documents of a sample, each with whether it is a copy of an earlier one."""

    marked: Sequence[tuple[bool, Document]]
    seen: float  # share of the sources' bytes that the sample is

    def share(self, quantity: str) -> Range:
        """Copies in the sources as a share of their documents (`n`), or of another amount.

        At least the sample's own: of a small one it shows few. A copy shows only where its
        original was read too, which happens as often as the share read.
        """
        total = sum(document.amount(quantity) for _, document in self.marked)
        copied = sum(document.amount(quantity) for copy, document in self.marked if copy)
        share = copied / max(total, 1)
        scaled = min(0.9, share / max(self.seen, 1e-9))
        return Range(scaled, share, min(0.9, scaled * (2 - self.seen)))

    def kept(self, quantity: str) -> Range:
        """What is left of an amount without the copies, as a share."""
        copies = self.share(quantity)
        return Range(1 - copies.value, 1 - copies.high, 1 - copies.low)


def copies_in(read: Sequence[Sample], config: DedupConfig) -> Copies:
    """The copies in samples that dedup would remove."""
    n_bytes = sum(sample.n_bytes for sample in read)
    seen = sum(sample.share * sample.n_bytes for sample in read) / max(n_bytes, 1)
    return Copies(list(_marked(read, config)), seen)


def _marked(read: Sequence[Sample], config: DedupConfig) -> Iterator[tuple[bool, Document]]:
    """Each document, and whether it is a copy."""
    minhash, scopes = Recipe(config).minhash, defaultdict[str, Seen](Seen)
    for sample in read:
        seen = scopes[sample.domain if config.scope == "domain" else "all"]
        for document in sample.documents:
            copy = config.enabled and seen.knows(document, minhash, config.threshold)
            yield copy, document
