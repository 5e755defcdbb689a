"""Recall: against the definition token by token, and windows made by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longattn.udfs.errors import TableError
from longattn.udfs.scorers.background import Background, write_counted
from longattn.udfs.scorers.base import ScorerSpec, with_segments
from longattn.udfs.scorers.kinds.recall import (
    ORDERS,
    STRENGTH,
    UNSEEN,
    WEIGHT,
    cross_gain,
    far_gain,
    gain_by_octave,
    octaves,
)
from longattn.udfs.scorers.registry import CROSS_GAIN, load_scorer, scorer_version


def likelihood(
    ids: list[int], t: int, start: int, known: float = UNSEEN, weight: float = 1.0
) -> float:
    """Of token t, from counts in ids[start:t] and what is known of it."""
    p = known
    for n in range(ORDERS + 1):
        context = ids[max(0, t - n) : t]
        came = [ids[j] for j in range(start + n, t) if ids[j - n : j] == context]
        strength = STRENGTH if n else weight
        p = (came.count(ids[t]) + strength * p) / (len(came) + strength)
    return p


def gain(ids: list[int], t: int, k: int) -> float:
    whole, near = (likelihood(ids, t, start) for start in (0, max(0, t // k - 1) * k))
    return whole * math.log(whole / near)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-2, 3), min_size=1, max_size=70), st.integers(1, 30))
def test_it_is_the_gain_of_counting_in_the_whole_over_counting_in_a_restarted_chunk(
    ids: list[int], k: int
) -> None:
    expected = [gain(ids, t, k) for t in range(len(ids))]
    np.testing.assert_allclose(far_gain(np.array(ids), k), expected, rtol=1e-9, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-2, 3), min_size=1, max_size=70), st.integers(1, 12), st.data())
def test_octaves_are_the_gain_of_one_distance_over_the_one_before(
    ids: list[int], k: int, data: st.DataObject
) -> None:
    known = data.draw(st.lists(st.floats(1e-6, 1), min_size=len(ids), max_size=len(ids)))
    distances = octaves(len(ids), k)
    found = gain_by_octave(np.array(ids), k, distances, np.array(known), WEIGHT)
    for t in range(len(ids)):
        near = max(0, t // k - 1) * k
        starts = [near, *(max(0, min(near, t - d + 1)) for d in distances[1:]), 0]
        p = [likelihood(ids, t, start, known[t], WEIGHT) for start in starts]
        expected = p[-1] * np.diff(np.log(p))
        np.testing.assert_allclose(found[:, t], expected, rtol=1e-9, atol=1e-12)
    total = far_gain(np.array(ids), k, np.array(known), WEIGHT)
    np.testing.assert_allclose(found.sum(0), total, rtol=1e-9, atol=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(-2, 3), min_size=1, max_size=25), min_size=1, max_size=5))
def test_cross_gain_is_that_of_the_window_over_counting_in_the_own_segment(
    segments: list[list[int]],
) -> None:
    ids = [token for segment in segments for token in segment]
    starts = np.repeat(np.cumsum([0, *map(len, segments)])[:-1], [len(s) for s in segments])
    pairs = [(likelihood(ids, t, 0), likelihood(ids, t, int(s))) for t, s in enumerate(starts)]
    expected = [whole * math.log(whole / own) for whole, own in pairs]
    found = cross_gain(np.array(ids), np.array([len(segment) for segment in segments]))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_cross_gain_sees_what_only_an_earlier_segment_foretells() -> None:
    """A phrase of the first segment counts in the second; one that the second has said does not."""
    words = np.random.default_rng(0).permutation(4096)
    first, second, phrase = words[:1000], words[1000:2000], words[2000:2032]
    sizes_S = np.array([1032, 1064])
    across = np.concatenate([phrase, first, second, phrase, phrase])
    gain_L = cross_gain(across, sizes_S)
    assert gain_L[2033:2064].min() > 1  # its first token is after a context that is new
    assert abs(gain_L[2065:]).max() < gain_L[2033:2064].min() / 2
    assert not cross_gain(across, np.array([len(across)])).any()


def test_a_packed_window_s_score_by_hand() -> None:
    """5 6 is said again by the second document: 5 seen once in two tokens, 6 once, and after 5."""
    window = with_segments(np.array([5, 6, 5, 6]), np.array([2, 2]))
    whole_5, own_5 = (1 + UNSEEN) / 3, UNSEEN
    whole_6, own_6 = (1 + STRENGTH * (1 + UNSEEN) / 4) / (1 + STRENGTH), UNSEEN / 2
    gains = [0, 0, whole_5 * math.log(whole_5 / own_5), whole_6 * math.log(whole_6 / own_6)]
    spec = ScorerSpec(scorer=CROSS_GAIN)
    (score,) = load_scorer(spec).score([window])
    assert score["ds"] == pytest.approx(np.mean(gains))
    assert score["du"] == pytest.approx(-np.var(gains))
    assert (score["n_tokens"], score["k"]) == (4, 0)
    assert scorer_version(spec) == "cross_gain:n=6:strength=3:unseen=0.01"


def test_a_background_lessens_what_all_documents_say(tmp_path: Path) -> None:
    """Of what every document begins with, and of what two of a window share."""
    rng = np.random.default_rng(0)
    common, shared, *texts = (rng.integers(0, 1 << 20, 100) for _ in range(22))
    corpus = [np.concatenate([common, text]) for text in texts]
    folder = write_counted(tmp_path, iter(corpus), tokenizer="test")
    counted = load_scorer(ScorerSpec(scorer=CROSS_GAIN, background=str(folder)))
    plain = load_scorer(ScorerSpec(scorer=CROSS_GAIN))
    sizes_S = np.array([200, 200])
    pairs = [np.concatenate([same, texts[0], same, texts[1]]) for same in (common, shared)]
    windows = [with_segments(ids, sizes_S) for ids in pairs]
    boilerplate, news = (score["ds"] for score in counted.score(windows))
    assert boilerplate < news / 4
    without = [score["ds"] for score in plain.score(windows)]
    assert without[0] == pytest.approx(without[1], rel=0.01)


def test_windows_whose_segments_are_not_known_have_no_cross_gain() -> None:
    scorer = load_scorer(ScorerSpec(scorer=CROSS_GAIN))
    refused = scorer.refusal(np.arange(8))
    assert refused is not None and refused[0] == "one_document"
    with pytest.raises(TableError, match="segments of 5 tokens in a window of 8"):
        with_segments(np.arange(8), np.array([2, 3]))


@pytest.mark.parametrize("length", [8192, 32_768])
def test_a_needle_raises_the_octave_of_its_distance_alone(length: int) -> None:
    """Of 40 passages of 64 tokens said again, 95 % raise one octave ten times as much as others."""
    rng = np.random.default_rng(5)
    distances, alone = octaves(length, 1024), 0
    for trial in range(40):
        window = rng.zipf(1.2, length) % 5000 + 1_000_000 * (rng.random(length) < 0.3)
        before = gain_by_octave(window, 1024, distances).mean(1)
        octave = trial % len(distances)
        nearest, farthest = max(distances[octave], 1088), min(2 * distances[octave], length - 1024)
        far = int(rng.integers(nearest, farthest))
        # what stands 1,024 tokens back is far where the near part has just begun anew
        place = 1024 * int(rng.integers(-(-far // 1024), length // 1024))
        window[place : place + 64] = window[place - far : place - far + 64]
        raised = gain_by_octave(window, 1024, distances).mean(1) - before
        alone += bool((abs(np.delete(raised, octave)) < raised[octave] / 10).all())
    assert alone >= 38


def test_a_name_by_hand() -> None:
    """7 8 comes back after the near part has lost it: seen once, and once after 7."""
    ids = np.array([7, 8, 1, 2, 3, 4, 5, 6, 7, 8])
    whole_7, near_7 = (1 + UNSEEN) / 9, UNSEEN / 5
    whole_8, near_8 = (1 + STRENGTH * (1 + UNSEEN) / 10) / (1 + STRENGTH), UNSEEN / 6
    found = far_gain(ids, 4)
    assert found[8] == pytest.approx(whole_7 * math.log(whole_7 / near_7))
    assert found[9] == pytest.approx(whole_8 * math.log(whole_8 / near_8))
    assert not found[:8].any()


def test_what_was_said_again_in_between_is_worth_little() -> None:
    rng = np.random.default_rng(0)
    phrase, filler = np.arange(8), 100 + rng.permutation(4096)
    far = np.concatenate([phrase, filler[:3000], phrase])
    again = np.concatenate([phrase, filler[:2500], phrase, filler[2500:3000], phrase])
    gain_far, gain_again = (far_gain(ids, 1024)[-8:].sum() for ids in (far, again))
    assert gain_far > 10 * abs(gain_again)


def test_a_far_copy_counts_and_a_repeated_piece_does_not() -> None:
    window = np.random.default_rng(0).permutation(8192)
    copied = np.concatenate([window[:-512], window[:512]])
    gain_L = far_gain(copied, 1024)
    assert gain_L[-511:].min() > 1 and gain_L.sum() > 500
    assert abs(far_gain(np.resize(window[:500], 8192), 1024)).mean() < 0.05
    assert abs(far_gain(np.zeros(8192, np.int64), 1024)).max() < 0.01


def test_the_names_of_tokens_do_not_matter() -> None:
    token_ids = np.random.default_rng(1).zipf(1.3, 5000) % 301
    renamed = np.random.default_rng(2).permutation(301)[token_ids] - 150
    np.testing.assert_array_equal(far_gain(renamed, 500), far_gain(token_ids, 500))


@pytest.mark.parametrize("length", [32_768, 131_072])
def test_long_windows_take_a_second_at_most(length: int) -> None:
    token_ids = np.random.default_rng(3).zipf(1.2, length) % 50_000
    gain_L = far_gain(token_ids, 1024)
    assert gain_L.shape == (length,) and np.isfinite(gain_L).all() and not gain_L[:2048].any()


def test_the_plugin_stores_what_select_reads() -> None:
    token_ids = np.random.default_rng(3).zipf(1.3, 3001) % 301
    (score,) = load_scorer(ScorerSpec(scorer="recall")).score([token_ids])
    gain_L = far_gain(token_ids, 1024)
    assert (score["k"], score["ds"]) == (1024, pytest.approx(gain_L.mean()))
    assert score["du"] == pytest.approx(-gain_L.var())
    assert sum(score["measures"].values()) == pytest.approx(score["ds"])
    assert list(score["measures"]) == ["gain_from_1024"]
    assert score["head_s1"] == [pytest.approx(gain_L.sum())]


def test_the_version_names_the_settings() -> None:
    version = scorer_version(ScorerSpec(scorer="recall"))
    assert version == f"recall:n={ORDERS}:strength={STRENGTH:g}:unseen={UNSEEN:g}:octaves:k=1024"
    assert scorer_version(ScorerSpec(scorer="recall", k=64)).endswith(":k=64")


def test_what_other_documents_have_gains_less(tmp_path: Path) -> None:
    """The name of the folder's content is in the version, so that scores of two never mix."""
    rng = np.random.default_rng(7)
    window = rng.permutation(4096) + 100
    window[-40:] = window[:40]
    known = [np.append(window[:40], rng.permutation(2000)) for _ in range(50)]
    folder = write_counted(tmp_path, known, tokenizer="test")
    spec = ScorerSpec(scorer="recall", background=str(folder))
    with_it, without = (load_scorer(s) for s in (spec, ScorerSpec(scorer="recall")))
    assert with_it.score([window])[0]["ds"] < without.score([window])[0]["ds"] / 2
    known_L = Background(folder).known(window)[0]
    gain_L = far_gain(window, 1024, known_L, WEIGHT)
    assert with_it.score([window])[0]["ds"] == pytest.approx(gain_L.mean())
    assert f":background={Background(folder).manifest.name}:" in with_it.version


def test_boilerplate_is_the_share_of_widespread_ngrams(tmp_path: Path) -> None:
    """Of two passages that come back, one is of fifty other documents."""
    rng = np.random.default_rng(7)
    window = rng.permutation(4096) + 100
    window[-200:] = window[:200]
    known = [np.append(window[:100], rng.permutation(2000) + 5000) for _ in range(50)]
    folder = write_counted(tmp_path, known, tokenizer="test")
    (score,) = load_scorer(ScorerSpec(scorer="recall", background=str(folder))).score([window])
    gain_L = far_gain(window, 1024, Background(folder).known(window)[0], WEIGHT)
    expected = gain_L[-198:-100].sum() / gain_L.sum()
    assert score["measures"]["boilerplate"] == pytest.approx(expected)
    assert 0.1 < expected < 0.5


@pytest.mark.parametrize(
    ("length", "k", "reason"),
    [(0, None, "empty"), (1024, None, "too_short"), (8, 8, "too_short"), (2048, None, "too_short")],
)
def test_windows_that_have_no_far_context_are_refused(
    length: int, k: int | None, reason: str
) -> None:
    refused = load_scorer(ScorerSpec(scorer="recall", k=k)).refusal(np.arange(length))
    assert refused is not None and refused[0] == reason


def test_a_window_of_no_more_than_two_k_gains_nothing_and_is_refused() -> None:
    scorer = load_scorer(ScorerSpec(scorer="recall", k=8))
    why = "too_short", "16 tokens; k is 8, and the first 16 gain nothing"
    assert scorer.refusal(np.zeros(16, np.int64)) == why
    assert scorer.refusal(np.zeros(17, np.int64)) is None
    scores = scorer.score([np.arange(length) % 3 for length in (9, 16, 17)])
    assert [score["ds"] != 0 for score in scores] == [False, False, True]
