"""Normalisation, words and n-grams, against the regular expressions that define them."""

import re
import tracemalloc
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longattn.udfs.text import ngrams

SOLO = "".join(f"{chr(first)}-{chr(last)}" for first, last in ngrams.SOLO_SCRIPTS)
TEXT = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from(" \n\t  aAßΣς_é汉字かกé한ＡＢ"),
    ),
    max_size=200,
)


def reference_normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def is_word_character(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LMN" or category in ("Pc", "Cn")


def reference_words(text: str) -> list[str]:
    """Character by character, for texts without runs beyond LONG_RUN."""
    spaced = ""
    for character in text:
        if not is_word_character(character):
            spaced += " "
        elif re.match(f"[{SOLO}]", character):
            spaced += f" {character} "
        else:
            spaced += character
    return spaced.split(" ")


@given(TEXT)
def test_normalised_is_nfc_casefold_and_single_spaces(text):
    assert "".join(ngrams.normalised(text)) == reference_normalised(text)


@given(TEXT, st.integers(1, 40))
def test_pieces_are_invisible_where_there_is_a_place_to_cut(text, size):
    """A hundred letters without such a place would be cut blindly; a space before each helps."""
    text = " ".join(text)
    assert "".join(ngrams.normalised(text, size + 2)) == reference_normalised(text)


def test_no_character_composes_with_one_that_a_cut_may_stand_before():
    for code in range(0x110000):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            second = chr(int(parts[1], 16))
            assert not ngrams._UP_TO_SAFE_CUT.match("a" + second), hex(code)


@settings(deadline=None)  # the tables are built in the first example
@given(TEXT)
def test_words_are_runs_of_word_characters_and_solo_characters(text):
    text = reference_normalised(text)
    expected = [word for word in reference_words(text) if word]
    hashes = ngrams.words(text)
    assert len(hashes) == len(expected)
    distinct = {word: int(hash_) for word, hash_ in zip(expected, hashes, strict=True)}
    assert [distinct[word] for word in expected] == hashes.tolist()
    assert len(set(distinct.values())) == len(distinct)


def test_words_with_the_same_letters_differ():
    """A sum of letters would not tell these apart."""
    hashes = ngrams.words("ab ba aab aba baa a b abab baba " + "a" * 32 + " " + "a" * 64)
    assert len(np.unique(hashes)) == len(hashes)


@settings(deadline=None)  # the tables are built in the first example
@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 6))
def test_ngrams_are_n_words_in_a_row(words, n):
    expected = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    blocks = list(ngrams.ngrams([" ".join(words)], n))
    hashes = np.concatenate([*blocks, np.empty(0, np.uint64)]).tolist()
    assert len(hashes) == len(expected)
    assert len(set(zip(expected, hashes, strict=True))) == len(set(expected)) == len(set(hashes))


@pytest.mark.parametrize("size", [30, 200, 1000])
def test_ngrams_run_across_pieces(size):
    text = " ".join(f"word{i % 37} + 汉字, x_{i}" for i in range(300))
    whole = np.concatenate(list(ngrams.ngrams(ngrams.normalised(text), 5)))
    pieces = np.concatenate(list(ngrams.ngrams(ngrams.normalised(text, size), 5)))
    np.testing.assert_array_equal(whole, pieces)


def test_an_edit_in_a_text_without_spaces_moves_few_ngrams():
    letters = np.random.default_rng(0).choice(list("abcdefghijklmnopqrstuvwxyz0123456789"), 200_000)
    one, other = "".join(letters), "".join(np.insert(letters, [50_000, 150_000], "x"))
    a, b = (set(ngrams.distinct_ngrams([text], 5).tolist()) for text in (one, other))
    assert 20_000 < len(a) < 30_000  # a word of eight letters on average
    assert len(a & b) / len(a | b) > 0.99


def test_hashes_are_the_same_in_every_process_and_on_every_machine():
    """Worked out with Python integers from the definition, for the word 'a'."""
    mask = (1 << 64) - 1

    def mix(value):
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & mask
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB & mask
        return value ^ (value >> 31)

    base = int(ngrams._ODD)
    expected = mix((mix(ord("a") + 1) + mix(ord("b") + 1) * base) & mask)
    assert ngrams.words("ab").tolist() == [expected]


@pytest.mark.parametrize("unit", ["word ", "x", "汉", "=", "é"])
def test_memory_does_not_grow_with_a_document_of_one_line(unit):
    text = unit * ((1 << 24) // len(unit.encode()))
    ngrams.words("warm up the tables")
    tracemalloc.start()
    for _ in ngrams.ngrams(ngrams.normalised(text), 5):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 << 20


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcd"), max_size=12), st.lists(st.sampled_from("abcd")))
def test_overlap_is_a_run_of_n_words_in_both(evaluation, words):
    n = 3
    known = ngrams.distinct_ngrams([" ".join(evaluation)], n)
    runs = {tuple(evaluation[i : i + n]) for i in range(len(evaluation) - n + 1)}
    expected = any(tuple(words[i : i + n]) in runs for i in range(len(words) - n + 1))
    assert ngrams.overlaps(" ".join(words), known, n) == expected
