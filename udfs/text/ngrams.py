"""Normalised text, its words, and hashes of n words in a row; memory is that of one piece.

Normalised: Unicode NFC, case-folded, every run of whitespace one space, none at either end.

A word is a run of letters, digits, marks and underscores. A character of a script written without
spaces (Han, kana, Thai, Lao, Khmer, Burmese) is a word by itself. A run beyond LONG_RUN characters
(base64, minified code) is cut behind them wherever a hash of four characters says so, on average
every 8: an edit changes the words near it and no others. Punctuation separates and does not count.

Text is worked through in pieces that end before a character at which neither normalisation nor
words depend on what came before, so pieces of any size give the same result. Only inside a run of
more than CUT_SEARCH characters without such a place is the cut blind; it moves a word or two.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

PIECE = 1 << 16  # characters; arrays of this size stay in the cache
CUT_SEARCH = 4096  # characters searched backwards for a place to cut
_JOINING = ("Pc", "Cn")  # underscores; code points that a later Unicode may make letters
LONG_RUN = 64  # characters of a run that are one word whatever they are
VERSION = 1  # of these definitions: in every recipe, so that results of two never mix

SEPARATOR, LETTER, SOLO = 0, 1, 2
SOLO_SCRIPTS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FFF),  # Han radicals
    (0x3005, 0x30FF),  # kana and iteration marks
    (0x31F0, 0x31FF),  # kana extensions
    (0x3400, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han compatibility
    (0xFF66, 0xFF9F),  # half-width kana
    (0x20000, 0x3FFFF),  # Han extensions
)

# None of these continues a word or composes with the character before it.
_UP_TO_SAFE_CUT = re.compile(
    r".+(?=[\s!-/:-@\[-^`{-~\u3001-\u3003\u3041-\u3096\u30a1-\u30fa\u3400-\u9fff])", re.DOTALL
)

JUDGED_SCHEMA = pa.schema(
    {"window_id": "string", "domain": "string", "evaluation": "string", "contaminated": "bool"}
)

_ODD = np.uint64(0xD1342543DE82EF95)  # base of the polynomials below; any odd number will do


def normalised(text: str, piece: int = PIECE) -> Iterator[str]:
    """Yield the normalised text in pieces; joined, they are the whole of it."""
    space = started = False
    for raw in _pieces(text, piece):
        body = " ".join(raw.split())
        if body:
            space = space or raw[0].isspace()
            yield " " + body if space and started else body
            space, started = raw[-1].isspace(), True
        else:
            space = True


def words(piece: str) -> Hashes:
    """Hash every word of a normalised piece, in order; uint64 [words]."""
    codes = np.frombuffer(piece.encode("utf-32-le"), np.uint32)
    kinds, values = _character_tables()
    starts = _word_starts(kinds[codes])
    if not len(starts):
        return np.empty(0, np.uint64)
    codes = codes[starts[0] :]
    starts = _cut_long_runs(starts - starts[0], codes)
    place = _place_in_word(starts, len(codes))
    terms = values[codes] * _powers(int(place.max()) + 1)[place]
    return mix(np.add.reduceat(terms, starts))


def ngrams(pieces: Iterable[str], n: int) -> Iterator[Hashes]:
    """Yield hashes of every n words in a row, one block for each piece; uint64 [n-grams].

    N-grams run across pieces. A text of fewer than n words has none.
    """
    weights = _powers(n)
    tail = np.empty(0, np.uint64)
    for piece in pieces:
        run = np.concatenate([tail, words(piece)])
        if len(run) >= n:
            rows = np.lib.stride_tricks.sliding_window_view(run, n)
            yield mix((rows * weights).sum(axis=1, dtype=np.uint64))
        tail = run[max(0, len(run) - n + 1) :]


def distinct_ngrams(texts: Iterable[str], n: int) -> Hashes:
    """Sorted distinct n-gram hashes of some texts; uint64 [distinct n-grams]."""
    blocks = [np.unique(block) for text in texts for block in ngrams(normalised(text), n)]
    return np.unique(np.concatenate([*blocks, np.empty(0, np.uint64)]))


def overlaps(text: str, known: Hashes, n: int) -> bool:
    """True when the text has an n-gram whose hash is in `known`, sorted."""
    return any(_contains(known, block) for block in ngrams(normalised(text), n))


def judged_batches(
    batches: Iterator[pa.RecordBatch], known: Mapping[str, Hashes], n: int
) -> Iterator[pa.RecordBatch]:
    """Say of places in documents which evaluations they share an n-gram with.

    Rows (text, places list<struct<window_id, domain, start_char, end_char>>), end_char null for the
    whole text, become one row per place and evaluation: (window_id, domain, evaluation,
    contaminated). `known` are the hashes of each evaluation.
    """
    every = np.unique(np.concatenate([np.empty(0, np.uint64), *known.values()]))
    for batch in batches:
        for text, places in zip(batch.column("text"), batch.column("places"), strict=True):
            yield _judged(text.as_py(), places.as_py(), known, every, n)


def _judged(
    text: str, places: list[dict[str, Any]], known: Mapping[str, Hashes], every: Hashes, n: int
) -> pa.RecordBatch:
    """Most places share nothing with any evaluation: they are read once, whatever their number."""
    rows = []
    for place in places:
        own = text[place["start_char"] : place["end_char"]]
        suspect = overlaps(own, every, n)
        rows += [
            {
                "window_id": place["window_id"],
                "domain": place["domain"],
                "evaluation": name,
                "contaminated": suspect and overlaps(own, hashes, n),
            }
            for name, hashes in known.items()
        ]
    return pa.RecordBatch.from_pylist(rows, JUDGED_SCHEMA)


def mix(values: Hashes) -> Hashes:
    """Finish 64-bit hashes so that every bit depends on every other (SplitMix64, Steele 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _contains(known: Hashes, hashes: Hashes) -> bool:
    """True when one of the hashes is among the known ones, which are sorted."""
    place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return len(known) > 0 and bool((known[place] == hashes).any())


def _pieces(text: str, size: int) -> Iterator[str]:
    """Cut text at safe places into NFC, case-folded pieces of at most `size` characters."""
    start = 0
    while start < len(text):
        end = start + size
        if end < len(text):
            tail = max(start, end - CUT_SEARCH)
            cut = _UP_TO_SAFE_CUT.match(text, tail, end + 1)
            end = cut.end() if cut else end
        piece = text[start:end]
        yield (piece if piece.isascii() else unicodedata.normalize("NFC", piece)).casefold()
        start = end


def _word_starts(kinds: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Positions of the characters that open a word, long runs not yet cut."""
    opens = kinds == SOLO
    opens[1:] |= (kinds[1:] == LETTER) & (kinds[:-1] != LETTER)
    opens[:1] |= kinds[:1] == LETTER
    return np.flatnonzero(opens)


def _cut_long_runs(starts: NDArray[np.intp], codes: NDArray[np.uint32]) -> NDArray[np.intp]:
    """Add the starts of words inside runs of letters beyond LONG_RUN characters."""
    if np.diff(starts, append=len(codes)).max() <= LONG_RUN:
        return starts
    kinds, values = _character_tables()
    far = np.flatnonzero(
        (_place_in_word(starts, len(codes)) >= LONG_RUN) & (kinds[codes] == LETTER)
    )
    last_four = values[codes[far[:, None] - np.arange(4)]] * _powers(4)
    cuts = far[mix(last_four.sum(axis=1, dtype=np.uint64)) % np.uint64(8) == 0]
    return np.union1d(starts, cuts)


def _place_in_word(starts: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Distance of every character from the word start at or before it."""
    return np.arange(length) - np.repeat(starts, np.diff(starts, append=length))


def _powers(count: int) -> Hashes:
    """_ODD to the power of 0 .. count - 1, modulo 2^64."""
    powers = np.full(count, _ODD)
    powers[:1] = 1
    return np.multiply.accumulate(powers)


@cache
def _character_tables() -> tuple[NDArray[np.uint8], Hashes]:
    """Kind and hash of every code point; separators hash to 0, so that they add nothing."""
    categories = [unicodedata.category(chr(code)) for code in range(0x110000)]
    kinds = np.array([LETTER if c[0] in "LMN" or c in _JOINING else SEPARATOR for c in categories])
    kinds = kinds.astype(np.uint8)
    for first, last in SOLO_SCRIPTS:
        block = kinds[first : last + 1]
        block[block == LETTER] = SOLO
    values = mix(np.arange(1, 0x110001, dtype=np.uint64))
    values[kinds == SEPARATOR] = 0
    return kinds, values
