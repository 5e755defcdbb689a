"""Words as tokens: a split of text that needs no model, no vocabulary and no download.

A token is a run of letters, digits, marks and underscores, at most LONGEST of them; a character of
a script written without spaces (SOLO_SCRIPTS); or any other character that is not white space. Its
id is the CRC-32 of its UTF-8 bytes without the top bit, so equal words have equal ids in every
process, and two words have one by chance once in two thousand million pairs.

Such ids are good for what compares tokens with each other. They are in no model's vocabulary.
"""

import re
import sys
import unicodedata
from functools import cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from longattn.udfs.text.ngrams import SOLO_SCRIPTS

NAME = "words"
VERSION = 1  # of this definition: scores of two never mix
LONGEST = 64  # characters of a token; longer runs (base64, minified code) are cut

_ASCII = re.compile(rf"\w{{1,{LONGEST}}}|\S")  # what _pattern() comes to where there is no more


def split_words(text: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Ids and first characters of the words of a text; both int32 [words].

    >>> ids, starts = split_words("far, so far")
    >>> starts.tolist(), bool(ids[0] == ids[3])
    ([0, 3, 5, 8], True)
    """
    pattern = _ASCII if text.isascii() else _pattern()
    words, starts = [], []
    for match in pattern.finditer(text):
        words.append(match[0])
        starts.append(match.start())
    ids = {word: _id(word) for word in set(words)}
    return np.array([ids[word] for word in words], np.int32), np.array(starts, np.int32)


def _id(word: str) -> int:
    return crc32(word.encode(errors="surrogatepass")) & 0x7FFFFFFF


@cache
def _pattern() -> re.Pattern[str]:
    """Marks (accents, vowel signs) belong to the letter before them, which `re` does not know."""
    solo = "".join(f"{chr(first)}-{chr(last)}" for first, last in SOLO_SCRIPTS)
    codes = range(0x300, sys.maxunicode + 1)
    marks = "".join(chr(code) for code in codes if unicodedata.category(chr(code))[0] == "M")
    letters = rf"[^\W{solo}]"
    return re.compile(
        rf"{letters}{{1,{LONGEST}}}(?:[{marks}]+{letters}{{0,{LONGEST}}}){{0,{LONGEST}}}"
        rf"|[{solo}][{marks}]*|\S"
    )
