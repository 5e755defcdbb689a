"""Backgrounds: against counting in plain Python, by document, and what a folder may be."""

import math
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longattn.udfs.errors import ModelError
from longattn.udfs.scorers import background
from longattn.udfs.scorers.background import (
    NONE,
    NUMBERS,
    SHIPPED,
    STRENGTHS,
    Background,
    open_background,
    read_manifest,
    write,
    write_counted,
)
from longattn.udfs.text import counts, words
from longattn.udfs.text.counts import besides_one, held_by, placed, top_key, with_sums
from longattn.udfs.text.tokens import tokenizer_name

Documents = list[list[int]]
DOCUMENTS = st.lists(st.lists(st.integers(-1, 3), max_size=20), min_size=1, max_size=8)


def holding(documents: Documents) -> Counter[tuple[int, ...]]:
    """How many documents hold each n-gram of 1 to 3 tokens."""
    held = Counter[tuple[int, ...]]()
    for ids in documents:
        held.update({tuple(ids[i : i + n]) for n in (1, 2, 3) for i in range(len(ids) - n + 1)})
    return held


def likelihood(documents: Documents, before: list[int], token: int) -> float:
    """Of a token after others, by the definition."""
    n = {gram: held - 1 for gram, held in holding(documents).items() if held > 1}
    p = 1 / max(1, sum(len(gram) == 1 for gram in n))
    for size in range(min(len(before), 2) + 1):
        context = tuple(before[len(before) - size :])
        total = sum(m for gram, m in n.items() if gram[:-1] == context)
        p = (n.get((*context, token), 0) + STRENGTHS[size] * p) / (total + STRENGTHS[size])
    return p


def counted(documents: Documents, folder: Path, **settings: int) -> Background:
    arrays = (np.array(ids, np.int64) for ids in documents)
    return Background(write_counted(folder, arrays, tokenizer="test", **settings))


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.lists(st.integers(-2, 4), max_size=12))
def test_it_is_the_dirichlet_model_of_documents_besides_one(
    tmp_path_factory: pytest.TempPathFactory, documents: Documents, ids: list[int]
) -> None:
    known = counted(documents, tmp_path_factory.mktemp("backgrounds"))
    expected = [likelihood(documents, ids[:t], ids[t]) for t in range(len(ids))]
    np.testing.assert_allclose(known.known(np.array(ids, np.int64))[0], expected, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS)
def test_a_document_s_own_ngrams_count_as_if_it_were_not_there(documents: Documents) -> None:
    own, others = documents[0], holding(documents[1:])
    ngrams = besides_one(held_by([np.array(ids, np.int64)] for ids in documents))
    number = dict(zip(ngrams.key_G.tolist(), ngrams.number_G.tolist(), strict=True))
    for start, key_G, _ in placed(np.array(own, np.int64)):
        for i, key in enumerate(key_G.tolist()):
            assert number.get(key, 0) == others[tuple(own[i : i + start + 1])]


def test_what_follows_a_beginning_adds_up_to_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    known = counted([(rng.zipf(1.4, 200) % 9).tolist() for _ in range(12)], tmp_path)
    for before in ([], [0], [1, 2], [3, 3]):
        ends = [known.known(np.array([*before, token]))[0][-1] for token in range(9)]
        assert sum(ends) == pytest.approx(1, rel=0.03)  # sums above 31 are rounded


def test_the_order_of_documents_and_how_they_are_merged_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    documents = [(rng.zipf(1.3, 300) % 50).tolist() for _ in range(20)]
    whole = counted(documents, tmp_path).manifest
    monkeypatch.setattr(counts, "MERGED", 100)
    assert counted(documents[::-1], tmp_path / "elsewhere").manifest == whole
    assert counted(documents[:-1], tmp_path).manifest.hash != whole.hash


def test_adding_a_document_changes_little_and_adding_none_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    documents = [(rng.zipf(1.2, 2000) % 500).tolist() for _ in range(101)]
    window = np.array(documents[0])
    one, again, more = (
        counted(some, tmp_path / name).known(window)[0]
        for name, some in [
            ("one", documents[:100]),
            ("again", documents[:100]),
            ("more", documents),
        ]
    )
    np.testing.assert_array_equal(one, again)
    assert abs(np.log(more / one)).mean() < 0.02


def test_fewer_ngrams_stay_when_there_is_room_for_fewer() -> None:
    rng = np.random.default_rng(3)
    held = held_by([rng.zipf(1.2, 2000) % 500] for _ in range(30))
    everything, some = besides_one(held), besides_one(held, 500)
    single = some.above_G == top_key()
    assert (~single).sum() <= 500 < len(everything.key_G)
    assert single.sum() == (everything.above_G == top_key()).sum()
    lost = ~np.isin(everything.key_G, some.key_G)
    assert everything.number_G[lost].max() <= some.number_G[~single].min()
    key, number = with_sums(some)
    assert number[np.isin(key, top_key())] == [some.number_G[single].sum()]


def test_numbers_are_exact_when_small_and_near_when_large(tmp_path: Path) -> None:
    key = np.random.default_rng(4).integers(0, 2**64, 200_000, np.uint64)
    number = np.exp(np.random.default_rng(5).uniform(0, 20, len(key))).astype(np.int64)
    facts = {"documents": 1, "kinds": 1, "tokenizer": "test"}
    stored = Background(write(tmp_path, key, number, **facts))
    read = stored.numbers(key)
    alone = read == NUMBERS[background._levels(number)]
    assert alone.mean() > 0.9998  # the others share 16 bits in one bucket with a larger one
    assert (read[alone & (number < 32)] == number[alone & (number < 32)]).all()
    assert abs(read[alone] / number[alone] - 1).max() < 0.065
    strangers = np.random.default_rng(6).integers(0, 2**64, 200_000, np.uint64)
    assert (stored.numbers(strangers) > 0).mean() < 2e-4
    size = sum(file.stat().st_size for file in tmp_path.glob("*/*"))
    assert size / len(key) < 4.01


def test_what_one_document_in_a_hundred_has_is_widespread(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    documents = [[*rng.integers(100, 10_000, 40).tolist()] for _ in range(600)]
    for number, ids in enumerate(documents[:8]):
        ids[:3] = [1, 2, 3]
        if number < 6:
            ids[3:6] = [4, 5, 6]
    known = counted(documents, tmp_path)  # widespread is what six others have, one in a hundred
    which = known.known(np.array([1, 2, 3, 4, 5, 6, 1, 2]))[1].tolist()
    assert which == [False, False, True, *[False] * 5]


def test_rarity_is_the_log_of_how_few_documents_hold_a_token(tmp_path: Path) -> None:
    known = counted([[1, 2], [1, 2], [1, 3], [1, 4]], tmp_path)
    assert known.rarity(np.array([1, 2, 3])) == pytest.approx([0, math.log(2), math.log(4)])


def test_a_background_of_nothing_knows_nothing(tmp_path: Path) -> None:
    known = counted([[], [5]], tmp_path)
    assert known.known(np.array([5, 5, 6]))[0].tolist() == [1, 1, 1]


def test_one_is_shipped_for_words_and_read_from_an_archive_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shipped = background.background_folder(SHIPPED)
    assert shipped and open_background(NONE) is None and open_background(None) is None
    known = Background(shipped)
    assert known.manifest.tokenizer == tokenizer_name(words.NAME)
    ids, _ = words.split_words("as well as the xylophonist")
    likely = known.known(ids.astype(np.int64))[0]
    assert likely[2] > 0.1 > 1e-4 > likely[4]  # "as" after "as well", and a word of few texts
    archive = shutil.make_archive(str(tmp_path / "package"), "zip", shipped.parents[1], "resources")
    monkeypatch.setattr(background.resources, "files", lambda _: zipfile.Path(archive))
    copy = background._shipped.__wrapped__()
    assert read_manifest(copy) == known.manifest and copy != shipped


def test_a_folder_that_is_none_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"no background in {tmp_path}"):
        read_manifest(tmp_path)
    folder = write_counted(tmp_path, [np.arange(5)] * 2, tokenizer="test")
    np.save(folder / background.LEVELS, np.zeros(1, np.uint8))
    with pytest.raises(ModelError, match="broken: arrays of other lengths"):
        Background(folder)
    (folder / background.MANIFEST).write_text("{}")
    with pytest.raises(ModelError, match="broken"):
        read_manifest(folder)
