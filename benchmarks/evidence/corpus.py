"""Windows of the demo's documents, and what is done to them to break what holds them together."""

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tokenizers import Tokenizer

Tokens = NDArray[np.int64]

FEWEST_PARAGRAPHS = 24  # a window with fewer is cut at its line ends instead
PASSAGE = 512  # tokens that are planted


@dataclass(frozen=True, kw_only=True)
class Window:
    """One coherent window, and the documents of its domain that it is no part of."""

    domain: str
    document: str
    token_ids: Tokens
    others: list[Tokens]


@dataclass(frozen=True)
class Vocabulary:
    """How many token ids there are, and which of them hold or are the ends of lines."""

    size: int
    line: frozenset[int]  # hold a line end
    paragraph: frozenset[int]  # hold two, one after the other
    blank: frozenset[int]  # hold a line end and no more than white space

    @staticmethod
    def of(tokenizer: Tokenizer) -> "Vocabulary":
        text = {i: tokenizer.decode([i]) for i in range(tokenizer.get_vocab_size())}
        return Vocabulary(
            size=len(text),
            line=frozenset(i for i, piece in text.items() if "\n" in piece),
            paragraph=frozenset(i for i, piece in text.items() if "\n\n" in piece),
            blank=frozenset(i for i, piece in text.items() if "\n" in piece and piece.isspace()),
        )


def windows(
    domain: str, documents: dict[str, Tokens], length: int, count: int, rng: np.random.Generator
) -> list[Window]:
    """Up to `count` windows that do not overlap, as even as can be over the documents."""
    drawn: list[tuple[int, str, int]] = []
    for name, ids in documents.items():
        starts = rng.permutation(np.arange(0, len(ids) - length + 1, length))
        drawn += [(turn, name, int(start)) for turn, start in enumerate(starts)]
    return [
        Window(
            domain=domain,
            document=name,
            token_ids=documents[name][start : start + length],
            others=[ids for other, ids in documents.items() if other != name],
        )
        for _, name, start in sorted(drawn)[:count]
    ]


def paragraphs(token_ids: Tokens, vocabulary: Vocabulary) -> list[Tokens]:
    """Cut after blank lines; after every line where there are few of those."""
    pieces = _cut_after(_blank_lines(token_ids, vocabulary), token_ids)
    if len(pieces) < FEWEST_PARAGRAPHS:
        return _cut_after(np.isin(token_ids, list(vocabulary.line)), token_ids)
    return pieces


def _blank_lines(token_ids: Tokens, vocabulary: Vocabulary) -> NDArray[np.bool_]:
    """The last token of each blank line or run of them.

    Tokenizers split a line end from the white space before it, so that a blank line may be one
    token or several.
    """
    blank = np.isin(token_ids, list(vocabulary.blank))
    after_line = np.append(False, np.isin(token_ids, list(vocabulary.line))[:-1])
    ends = np.isin(token_ids, list(vocabulary.paragraph)) | (blank & after_line)
    ends[:-1] &= ~blank[1:]
    return ends


def _cut_after(ends: NDArray[np.bool_], token_ids: Tokens) -> list[Tokens]:
    pieces = np.split(token_ids, np.flatnonzero(ends) + 1)
    return [piece for piece in pieces if len(piece)]


def shuffled(token_ids: Tokens, vocabulary: Vocabulary, rng: np.random.Generator) -> Tokens:
    """The same tokens, paragraphs in random order."""
    pieces = paragraphs(token_ids, vocabulary)
    return np.concatenate([pieces[i] for i in rng.permutation(len(pieces))])


def concatenated(
    documents: list[Tokens], size: int, length: int, rng: np.random.Generator
) -> Tokens:
    """Pieces of `size` tokens, each from a random place of a random document."""
    return np.concatenate([passage(documents, size, rng) for _ in range(-(-length // size))])[
        :length
    ]


def passage(documents: list[Tokens], size: int, rng: np.random.Generator) -> Tokens:
    """A stretch of `size` tokens from a random place of a random document that is long enough."""
    long = [ids for ids in documents if len(ids) >= size]
    ids = long[rng.integers(len(long))]
    start = rng.integers(len(ids) - size + 1)
    return ids[start : start + size]


def repeated(token_ids: Tokens, size: int, rng: np.random.Generator) -> Tokens:
    """One piece of the window over and over."""
    return np.resize(passage([token_ids], size, rng), len(token_ids))


def planted(token_ids: Tokens, piece: Tokens, at: int) -> Tokens:
    """The window with `piece` in place of what stood at `at`."""
    return np.concatenate([token_ids[:at], piece, token_ids[at + len(piece) :]])


def versions(window: Window, vocabulary: Vocabulary, rng: np.random.Generator) -> dict[str, Tokens]:
    """A window and its broken twins, by name; all of one length."""
    ids = window.token_ids
    length = len(ids)
    start = int(rng.integers(length // 16, length // 8))
    at = start + int(rng.integers(length // 2, 3 * length // 4 - PASSAGE))  # 4K to 6K of 8K later
    return {
        "real": ids,
        "shuffled": shuffled(ids, vocabulary, rng),
        "pieces of 512": concatenated(window.others, 512, length, rng),
        "pieces of 2048": concatenated(window.others, 2048, length, rng),
        "repeated": repeated(ids, int(rng.integers(256, 1024)), rng),
        "copy": planted(ids, ids[start : start + PASSAGE], at),
        "foreign": planted(ids, passage(window.others, PASSAGE, rng), at),
        "tokens shuffled": rng.permutation(ids),
        "random tokens": rng.integers(0, vocabulary.size, length),
    }


def demo_documents(demo: Path, tokenizer: Tokenizer) -> dict[str, dict[str, Tokens]]:
    """Token ids of the demo's documents by domain and name, without its planted copies."""
    readers: dict[str, Callable[[Path], Iterator[tuple[str, str]]]] = {
        "books": _books,
        "code": _code,
        "TeX manuals": _tex,
    }
    return {
        domain: tokenized(_without_copies(read(demo)), tokenizer)
        for domain, read in readers.items()
    }


def tokenized(texts: Iterable[tuple[str, str]], tokenizer: Tokenizer) -> dict[str, Tokens]:
    """Token ids by name, of names and texts."""
    return {
        name: np.array(tokenizer.encode(text, add_special_tokens=False).ids) for name, text in texts
    }


def _books(demo: Path) -> Iterator[tuple[str, str]]:
    """Names and texts. Verse numbers are taken off the Bible's: they would tell the order."""
    with gzip.open(demo / "book" / "books-0000.json.gz", "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            yield record["id"], re.sub(r"^\d+:\d+ ", "", record["text"], flags=re.MULTILINE)


def _code(demo: Path) -> Iterator[tuple[str, str]]:
    table = pq.read_table(demo / "code" / "train-00000-of-00001.parquet")
    for row in table.to_pylist():
        yield row["max_stars_repo_path"], row["content"]


def _tex(demo: Path) -> Iterator[tuple[str, str]]:
    text = (demo / "arxiv" / "arxiv-00000.jsonl").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.endswith("}"):  # the demo's cut line does not
            record = json.loads(line)
            yield record["meta"]["arxiv_id"], record.get("text")


def _without_copies(documents: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """One document of each name and text; the demo has bad records, mirrors and older releases."""
    names: set[str] = set()
    texts: set[str] = set()
    for name, text in documents:
        plain = name.split("#")[0]
        if text and text.strip() and plain not in names and text not in texts:
            names.add(plain)
            texts.add(text)
            yield plain, text.replace("\r\n", "\n")
