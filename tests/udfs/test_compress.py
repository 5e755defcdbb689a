"""Compress: copies that lie inside and outside of the smaller dictionary."""

import lzma

import numpy as np
import pytest

from longattn.udfs.scorers.base import ScorerSpec, TokenIds
from longattn.udfs.scorers.kinds.compress import compressed
from longattn.udfs.scorers.registry import load_scorer, scorer_version

WORDS = 49_152


def copied(distance: int) -> TokenIds:
    """4,096 tokens at random, the last 512 said `distance` tokens before."""
    ids = np.random.default_rng(0).integers(0, WORDS, 4096)
    ids[-512:] = ids[-512 - distance : -distance]
    return ids


def bits(token_ids: TokenIds, k: int | None = None) -> float:
    (score,) = load_scorer(ScorerSpec(scorer="compress", k=k)).score([token_ids])
    return score["ds"]


def test_a_far_copy_saves_what_its_tokens_cost() -> None:
    """A token at random costs log2(49,152) = 15.6 bits, one of a long copy next to none."""
    assert bits(copied(2048)) == pytest.approx(512 / 4096 * np.log2(WORDS), rel=0.1)


def test_a_copy_counts_from_more_than_k_tokens_back() -> None:
    assert bits(copied(600)) == pytest.approx(0, abs=0.02)
    assert bits(copied(1500)) > 1.5
    assert bits(copied(1500), k=2048) == pytest.approx(0, abs=0.02)
    assert bits(copied(3000), k=2048) > 1.5


def test_nothing_is_far_in_a_window_that_repeats_itself_without_pause() -> None:
    piece = np.random.default_rng(1).integers(0, WORDS, 500)
    assert abs(bits(np.resize(piece, 8192))) < 0.05
    assert abs(bits(np.zeros(8192, np.int64))) < 0.05


def test_what_is_compressed_is_the_ids() -> None:
    ids = copied(2048)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 4 * 4096}]
    filters[0] |= {"lc": 0, "lp": 2, "pb": 2, "nice_len": 273}
    packed = lzma.compress(ids.astype("<u4").tobytes(), lzma.FORMAT_RAW, filters=filters)
    assert compressed(ids, 4096) == len(packed)
    back = lzma.decompress(packed, lzma.FORMAT_RAW, filters=filters)
    assert np.array_equal(np.frombuffer(back, "<u4"), ids)


def test_the_measures_are_of_the_whole_window() -> None:
    ids = np.random.default_rng(2).zipf(1.3, 4096) % 300
    (score,) = load_scorer(ScorerSpec(scorer="compress")).score([ids])
    measures = score["measures"]
    assert measures["ratio"] * measures["bits_per_token"] == pytest.approx(32)
    assert 2 < measures["bits_per_token"] < 10


def test_the_version_names_the_settings_and_no_dictionary_is_below_lzmas_smallest() -> None:
    assert scorer_version(ScorerSpec(scorer="compress")) == "compress:lzma2:k=1024"
    assert scorer_version(ScorerSpec(scorer="compress", k=2048)) == "compress:lzma2:k=2048"
    assert scorer_version(ScorerSpec(scorer="compress", k=64)) == "compress:lzma2:k=1024"
    assert load_scorer(ScorerSpec(scorer="compress", k=64)).score([copied(600)])[0]["k"] == 1024


@pytest.mark.parametrize(("length", "reason"), [(0, "empty"), (1024, "too_short")])
def test_windows_that_the_smaller_dictionary_holds_are_refused(length: int, reason: str) -> None:
    refused = load_scorer(ScorerSpec(scorer="compress")).refusal(np.arange(length))
    assert refused is not None and refused[0] == reason
