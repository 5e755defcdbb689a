"""Names by content are SHA-256: the vectors are those of FIPS 180-2."""

import pytest

from longattn.udfs.digest import hex_digest, json_digest

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("parts", [("abc",), (b"abc",), ("a", b"b", "c"), ("", "abc")])
def test_the_digest_is_that_of_the_parts_joined(parts: tuple[str | bytes, ...]) -> None:
    assert hex_digest(*parts) == ABC


def test_plain_values_are_digested_as_sorted_json() -> None:
    assert json_digest({"b": [1, None], "a": "\u4e2d"}) == hex_digest(
        '{"a": "\\u4e2d", "b": [1, null]}'
    )
