"""The tokenizer `words`: a split and stable ids, wherever a tokenizer is asked for by path."""

from itertools import pairwise
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longattn.udfs.errors import ConfigError
from longattn.udfs.text.tokens import count_tokens, encode_long, load_tokenizer, tokenizer_name
from longattn.udfs.text.words import LONGEST, split_words
from longattn.udfs.windows.cut import WindowSpec, cut_document

TEXT = st.text(st.sampled_from("ab_1 \n,.é漢e\u0301हि🏽"), max_size=60)


def pieces(text: str) -> list[str]:
    """The words, cut out of the text by their starts."""
    starts = [*split_words(text)[1].tolist(), len(text)]
    return [text[a:b].strip() for a, b in pairwise(starts)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x_1=3.14\n  'done'", ["x_1", "=", "3", ".", "14", "'", "done", "'"]),
        ("漢字かな abc漢", ["漢", "字", "か", "な", "abc", "漢"]),
        ("हिन्दी, cafe\u0301", ["हिन्दी", ",", "cafe\u0301"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("👍🏽", ["👍", "🏽"]),
        ("a" * (LONGEST + 1), ["a" * LONGEST, "a"]),
        ("", []),
    ],
)
def test_what_a_word_is(text: str, words: list[str]) -> None:
    assert pieces(text) == words
    assert split_words(text)[0].tolist() == [crc32(w.encode()) & 0x7FFFFFFF for w in words]


@given(TEXT, TEXT)
def test_white_space_separates(left: str, right: str) -> None:
    """So no word depends on what lies beyond a space, nor on the pattern that ASCII is read by."""
    joined = split_words(f"{left} {right}")[0]
    assert joined.tolist() == [*split_words(left)[0], *split_words(right)[0]]


@given(TEXT)
def test_every_character_is_in_a_word_or_is_white_space(text: str) -> None:
    assert "".join(pieces(text)) == "".join(text.split())


def test_it_stands_where_a_tokenizer_does() -> None:
    tokenizer = load_tokenizer("words")
    tokens = encode_long(tokenizer, "one two, three")
    assert (len(tokens), tokens.soft_cuts) == (4, 0)
    assert [tokens.char_at(i) for i in range(5)] == [0, 4, 7, 9, 14]
    assert count_tokens(tokenizer, "one two, three", 2) == 4
    assert tokenizer.encode("one two").ids == tokens.ids[:2].tolist()
    assert tokenizer_name("words") == "words@1"


def test_windows_are_cut_of_it() -> None:
    spec = WindowSpec(windowing="w", tokenizer="words", length=2, strategy="tile")
    *windows, length = cut_document("d", "book", "a b c, d e", load_tokenizer("words"), spec)
    assert length["n_tokens"] == 6
    assert [("a b c, d e")[w["start_char"] : w["end_char"]] for w in windows] == [
        "a b ",
        "c, ",
        "d e",
    ]
    assert all(w["token_ids"].dtype == np.int32 for w in windows)


def test_it_has_nothing_to_decode_with() -> None:
    with pytest.raises(ConfigError, match="tokenizer words: it has no vocabulary"):
        _ = load_tokenizer("words").tokenizer
