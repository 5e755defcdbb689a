"""Names by content are SHA-256: the vectors are those of FIPS 180-2."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel

from longattn.udfs.digest import hex_digest, json_digest, while_unchanged
from longattn.udfs.text.tokens import load_tokenizer, tokenizer_name

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("parts", [("abc",), (b"abc",), ("a", b"b", "c"), ("", "abc")])
def test_the_digest_is_that_of_the_parts_joined(parts: tuple[str | bytes, ...]) -> None:
    assert hex_digest(*parts) == ABC


def test_plain_values_are_digested_as_sorted_json() -> None:
    assert json_digest({"b": [1, None], "a": "\u4e2d"}) == hex_digest(
        '{"a": "\\u4e2d", "b": [1, null]}'
    )


def test_a_result_is_kept_while_its_files_stay_as_they_are(tmp_path: Path) -> None:
    asked = []

    @while_unchanged(lambda path, times: [path])
    def size(path: str, times: int) -> int:
        asked.append(path)
        return times * sum(file.stat().st_size for file in Path(path).iterdir())

    (tmp_path / "a").write_text("one")
    assert [size(str(tmp_path), times) for times in (1, 2, 1, 2)] == [3, 6, 3, 6]
    (tmp_path / "b").write_text("three")
    assert [size(str(tmp_path), 1), size(str(tmp_path), 1), len(asked)] == [8, 8, 3]


def test_dropout_for_training_does_not_draw_ids(tmp_path: Path) -> None:
    """Its ids are those of the same merges without it, whichever is asked how often."""
    told = []
    for dropout in (0.5, None):
        path = str(tmp_path / f"{dropout}.json")
        merges, vocabulary = [("a", "b"), ("ab", "ab")], {"a": 0, "b": 1, "ab": 2, "abab": 3}
        Tokenizer(BPE(vocabulary, merges, dropout=dropout)).save(path)
        told.append([load_tokenizer(path).encode("abab" * 9).ids for _ in range(9)])
    assert told[0] == told[1] == [[3] * 9] * 9


def test_a_tokenizer_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    """In one process, as in a notebook between two runs: or windows would keep the old ids."""
    path, known = tmp_path / "tokenizer.json", []
    for vocabulary in ({"?": 0, "one": 1}, {"?": 0, "one": 2}):
        Tokenizer(WordLevel(vocabulary, unk_token="?")).save(str(path))
        loaded = load_tokenizer(str(path))
        assert load_tokenizer(str(path)) is loaded
        known.append((tokenizer_name(str(path)), loaded.encode("one").ids))
    assert [ids for _, ids in known] == [[1], [2]]
    assert len({name for name, _ in known}) == 2
