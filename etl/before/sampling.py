"""A sample of each source, read as ingest reads it, and what it says about the whole."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow.parquet as pq

from longattn.etl.before.look import File, Look, look_at
from longattn.etl.before.scoring import SAMPLE_CHARS
from longattn.etl.config import Config
from longattn.etl.ingest.listing import spec_of
from longattn.udfs.documents.bytes import DECODERS, Split, compression, decompressed
from longattn.udfs.documents.formats import Item, SourceSpec, read
from longattn.udfs.documents.records import to_row
from longattn.udfs.text.tokens import load_tokenizer
from longattn.udfs.windows.spans import STRATEGIES

FILES = 8  # of a source that are read, spread over all of it
FILE_BYTES = 4 << 20  # of text, of each


@dataclass(frozen=True)
class Document:
    """A document of the sample, as far as sizes go."""

    key: int  # hash of its text, spaces and case aside
    text: str  # its beginning
    n_bytes: int
    n_tokens: int
    n_windows: int

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


@dataclass(frozen=True)
class Sample:
    """What was read of one source."""

    domain: str
    packed: bool
    n_bytes: int  # of all its files
    share: float  # of these that was read
    documents: list[Document]
    tokenizer_seconds: float  # CPU, for the beginnings that were tokenised
    tokenized_bytes: int

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
    for domain, sources in config.sources.items():
        for source in sources:
            look = look_at(f"sources.{domain}", domain, source, config)
            if look.files:
                yield _sample(look, spec_of(domain, source, config), config)


def _sample(look: Look, spec: SourceSpec, config: Config) -> Sample:
    step = max(1, len(look.files) // FILES)
    documents: list[Document] = []
    read_bytes, started, tokenized = 0.0, time.process_time(), 0
    seconds = 0.0
    for file in look.files[::step][:FILES]:
        items, share = _beginning(file, spec)
        read_bytes += share * file.n_bytes
        for item in items:
            text = to_row(item, file.path, file.name, spec).get("text")
            if text is not None:
                started = time.process_time()
                documents.append(_document(text.decode(), config))
                seconds += time.process_time() - started
                tokenized += len(documents[-1].text.encode())
    return Sample(
        domain=look.domain,
        packed=look.domain in config.pack.domains,
        n_bytes=look.n_bytes,
        share=min(1.0, read_bytes / max(look.n_bytes, 1)),
        documents=documents,
        tokenizer_seconds=seconds,
        tokenized_bytes=tokenized,
    )


def _document(text: str, config: Config) -> Document:
    beginning = text[:SAMPLE_CHARS]
    tokens = len(load_tokenizer(config.tokenizer_path).encode(beginning))
    n_tokens = tokens * len(text) // max(len(beginning), 1)
    length = config.window.length - config.window.bos
    return Document(
        key=hash(" ".join(text.lower().split())),
        text=beginning,
        n_bytes=len(text.encode()),
        n_tokens=n_tokens,
        n_windows=len(STRATEGIES[config.window.strategy](n_tokens, length)),
    )


def _beginning(file: File, spec: SourceSpec) -> tuple[list[Item], float]:
    """Items from the front of a file, about FILE_BYTES of them, and the share of it they are."""
    if spec.format in ("parquet", "delta"):
        return _rows(file, spec)
    if spec.format == "text":
        return list(read(_whole(file), spec)), 1.0
    if ending := compression(file.path):
        return _decompressed(file, spec, ending)
    end = min(file.n_bytes, FILE_BYTES)
    split = Split(file.path, 0, end, file.n_bytes, 1, file.name)
    return list(read(split, spec)), end / max(file.n_bytes, 1)


def _whole(file: File) -> Split:
    return Split(file.path, 0, file.n_bytes, file.n_bytes, 1, file.name)


def _rows(file: File, spec: SourceSpec) -> tuple[list[Item], float]:
    there = pq.ParquetFile(file.path).metadata.num_rows
    n_bytes, items = 0, []
    for item in read(_whole(file), spec):
        items.append(item)
        n_bytes += sum(len(str(value)) for value in (item.record or {}).values())
        if n_bytes > FILE_BYTES:
            break
    return items, len(items) / max(there, 1)


def _decompressed(file: File, spec: SourceSpec, ending: str) -> tuple[list[Item], float]:
    """Whole lines of what the front of a compressed file holds."""
    held = bytearray()
    with open(file.path, "rb") as stream:
        for chunk in decompressed(stream, DECODERS[ending]):
            held += chunk
            if len(held) > FILE_BYTES:
                break
        share = min(1.0, stream.tell() / max(file.n_bytes, 1))
    data = bytes(held) if share == 1.0 else bytes(held[: held.rfind(b"\n") + 1])
    split = Split("sample", 0, len(data), len(data), 1, file.name, content=data)
    return list(read(split, spec)), share
