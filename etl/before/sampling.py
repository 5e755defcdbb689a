"""A sample of each source, read as ingest reads it, what it says about the whole, and its copies.

Copies are exact ones, and near ones as dedup's recipe finds them; documents are compared by their
beginnings, and near ones by signature alone.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from longattn.etl.before.probe import Look, is_local, look_at, parts_of
from longattn.etl.before.scoring import SAMPLE_CHARS
from longattn.etl.config import Config, DedupConfig, of_domain
from longattn.etl.dedup.recipe import Recipe
from longattn.etl.ingest.own import OwnFiles
from longattn.etl.ingest.sources import limited, spec_of
from longattn.udfs.documents.formats import SourceSpec
from longattn.udfs.documents.records import to_row
from longattn.udfs.text.minhash import MinHash, estimate, fingerprint
from longattn.udfs.text.tokens import load_tokenizer
from longattn.udfs.windows.spans import STRATEGIES

SOURCE_BYTES = 16 << 20  # of text, of each source; a smaller one is read as a whole
MOST = 0.9  # of a corpus that is taken for copies


@dataclass(frozen=True)
class Document:
    """A document of the sample, as far as sizes go."""

    key: int  # hash of its text, spaces and case aside
    text: str  # its beginning
    n_bytes: int
    n_tokens: int
    n_windows: float  # of several lengths, on average
    window_tokens: float  # of these, BOS among them

    def amount(self, quantity: str) -> float:
        """One of its numbers by name; `n` counts documents."""
        return 1.0 if quantity == "n" else float(getattr(self, quantity))


@dataclass(frozen=True)
class Range:
    """A figure and how far off it may be: about two standard errors either way."""

    value: float
    low: float
    high: float

    def __mul__(self, factor: float) -> "Range":
        return Range(self.value * factor, self.low * factor, self.high * factor)

    def __add__(self, other: "Range") -> "Range":
        """Of independent errors: their squares add up."""
        value = self.value + other.value
        down = math.hypot(self.value - self.low, other.value - other.low)
        up = math.hypot(self.high - self.value, other.high - other.value)
        return Range(value, value - down, value + up)

    def widened(self, share: float) -> "Range":
        """With a relative error of its own on top."""
        off = share * self.value
        low = self.value - math.hypot(self.value - self.low, off)
        return Range(self.value, low, self.value + math.hypot(self.high - self.value, off))


NOTHING = Range(0.0, 0.0, 0.0)


def product(one: Range, other: Range) -> Range:
    """Two figures multiplied, with the widest range that theirs allow."""
    return Range(one.value * other.value, one.low * other.low, one.high * other.high)


@dataclass(frozen=True)
class Sample:
    """What was read of one source."""

    domain: str
    packed: bool
    n_bytes: int  # of all its files
    share: float  # of these that was read
    documents: list[Document]

    def total(self, quantity: str) -> Range:
        """The sum over all documents of one of their amounts."""
        values = [document.amount(quantity) for document in self.documents]
        n = len(values)
        if not n or not self.share:
            return NOTHING
        value = sum(values) / self.share
        mean = sum(values) / n
        variance = sum((v - mean) ** 2 for v in values) / max(n - 1, 1)
        unread = 1 - self.share
        # Bytes are known: what varies is what a document gives, and how many there are.
        error = math.sqrt(n * unread * (variance + (mean**2 if quantity == "n" else 0)))
        return Range(
            value, max(0.0, value - 2 * error / self.share), value + 2 * error / self.share
        )


def samples(config: Config) -> Iterator[Sample]:
    """A sample of every source that Python can read; SourceError as `look_at` raises it."""
    own = OwnFiles(config)
    for domain, sources in config.sources.items():
        for source in sources:
            spec = limited(spec_of(domain, source, config), config)
            look = look_at(f"sources.{domain}", source, spec, own)
            if look.files:
                yield _sample(look, spec, config)


def unread(config: Config) -> list[str]:
    """Paths of sources that only Spark can read, and no sample has."""
    return [
        path
        for domain, sources in config.sources.items()
        for source in sources
        for path in source.path
        if not is_local(path, spec_of(domain, source, config))
    ]


def _sample(look: Look, spec: SourceSpec, config: Config) -> Sample:
    documents: list[Document] = []
    read_bytes = 0.0
    for part in parts_of(look, spec, SOURCE_BYTES):
        read_bytes += part.n_bytes
        rows = (to_row(item, part.file.path, part.file.name, spec) for item in part.items)
        texts = (row["text"].decode() for row in rows if row.get("text") is not None)
        documents += (_document(text, look.domain, config) for text in texts)
    return Sample(
        domain=look.domain,
        packed=look.domain in config.pack.domains,
        n_bytes=look.n_bytes,
        share=min(1.0, read_bytes / max(look.n_bytes, 1)),
        documents=documents,
    )


def _document(text: str, domain: str, config: Config) -> Document:
    beginning = text[:SAMPLE_CHARS]
    tokens = len(load_tokenizer(config.tokenizer_path).encode(beginning))
    n_tokens = tokens * len(text) // max(len(beginning), 1)
    is_cut = within_limits(n_tokens, domain, config)
    n_windows, window_tokens = windows_of(n_tokens, config) if is_cut else (0.0, 0.0)
    return Document(
        key=hash(" ".join(text.lower().split())),
        text=beginning,
        n_bytes=len(text.encode()),
        n_tokens=n_tokens,
        n_windows=n_windows,
        window_tokens=window_tokens,
    )


def within_limits(n_tokens: int, domain: str, config: Config) -> bool:
    """Whether a document that is not packed may be cut, by its tokens."""
    return all(
        (of_domain(domain, limits.min_tokens) or 0) <= n_tokens
        and n_tokens <= (of_domain(domain, limits.max_tokens) or n_tokens)
        for limits in (config.ingest, config.window)
    )


def windows_of(n_tokens: int, config: Config) -> tuple[float, float]:
    """Windows of a document and their tokens, at each length that it fills by that one's share."""
    bos, cut = config.window.bos, STRATEGIES[config.window.strategy]
    filled = [length for length in config.lengths if n_tokens >= length - bos]
    shares = {length: config.mix.buckets.get(length, 1.0) for length in filled or config.lengths}
    n_windows = tokens = 0.0
    for length, share in shares.items():
        spans = cut(n_tokens, length - bos)
        n_windows += share / sum(shares.values()) * len(spans)
        tokens += share / sum(shares.values()) * sum(end - start + bos for start, end in spans)
    return n_windows, tokens


# --- copies


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

        A copy shows only where its original was read too, which happens as often as the share
        read: m of n documents that show are m / (n * share) of all, give or take what chance does
        to m. So a small sample without a copy does not say that there is none.
        """
        shown = sum(copy for copy, _ in self.marked)
        total = sum(document.amount(quantity) for _, document in self.marked)
        copied = sum(document.amount(quantity) for copy, document in self.marked if copy)
        own = copied / max(total, 1)
        unread, seen = 1 - self.seen, max(self.seen, 1e-9)
        per_copy = copied / shown if shown else total / max(len(self.marked), 1)
        spread = unread * 2 * math.sqrt(shown + 1) * per_copy / max(total, 1) / seen
        value = min(MOST, own / seen)
        return Range(value, max(own, value - spread), min(MOST, value + spread))

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
