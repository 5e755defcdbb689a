"""The evidence benchmark's pure pieces, against brute force and texts made by hand."""

import gzip
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from benchmarks.counting import counts
from benchmarks.evidence.broken import auc_table, aucs, score_window
from benchmarks.evidence.corpus import (
    Vocabulary,
    concatenated,
    paragraphs,
    planted,
    repeated,
    shuffled,
    versions,
    windows,
)
from benchmarks.evidence.gain import JUDGED, read
from benchmarks.evidence.intervals import auc_interval, spearman, wins
from benchmarks.evidence.unseen import unseen_documents
from longattn.udfs.scorers.base import ScorerSpec

BLANK_LINE, LINE_END, LAST_WORD = 1, 2, 3
VOCABULARY = Vocabulary(
    size=50_000,
    line=frozenset({BLANK_LINE, LINE_END, LAST_WORD}),
    paragraph=frozenset({BLANK_LINE}),
    blank=frozenset({BLANK_LINE, LINE_END}),
)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def text(count: int, size: int = 10, end: int = BLANK_LINE) -> np.ndarray:
    """Paragraphs of `size` tokens, each its own numbers, then an end."""
    rows = 100 + np.arange(count * size).reshape(count, size)
    rows[:, -1] = end
    return rows.reshape(-1)


def test_paragraphs_end_with_their_blank_line_and_lose_nothing() -> None:
    pieces = paragraphs(np.append(text(30), [7, 8]), VOCABULARY)
    assert [len(piece) for piece in pieces] == [10] * 30 + [2]
    assert np.array_equal(np.concatenate(pieces), np.append(text(30), [7, 8]))


def test_lines_stand_in_where_paragraphs_are_few() -> None:
    assert len(paragraphs(text(30, end=LINE_END), VOCABULARY)) == 30


@pytest.mark.parametrize("blank", [[LINE_END, LINE_END], [LAST_WORD, LINE_END, LINE_END]])
def test_a_blank_line_may_be_several_tokens(blank: list[int]) -> None:
    one = np.array([100, LINE_END, 101, *blank])
    pieces = paragraphs(np.tile(one, 30), VOCABULARY)
    assert [piece.tolist() for piece in pieces] == [one.tolist()] * 30


def test_shuffling_keeps_paragraphs_whole() -> None:
    found = shuffled(text(30), VOCABULARY, rng()).reshape(30, 10)
    assert not np.array_equal(found.reshape(-1), text(30))
    assert sorted(map(tuple, found)) == sorted(map(tuple, text(30).reshape(30, 10)))


def test_concatenation_is_of_pieces_of_the_other_documents() -> None:
    documents = [np.arange(1000), np.arange(5000, 5400)]
    found = concatenated(documents, 64, 300, rng())
    assert len(found) == 300
    jumps = np.flatnonzero(np.diff(found) != 1) + 1
    assert set(jumps) <= {64, 128, 192, 256}


def test_a_repeated_piece_has_its_period() -> None:
    found = repeated(np.arange(1000), 70, rng())
    assert len(found) == 1000
    assert np.array_equal(found[70:], found[:-70])


def test_planting_replaces_as_many_tokens() -> None:
    found = planted(np.zeros(10, dtype=int), np.array([5, 6]), 7)
    assert found.tolist() == [0, 0, 0, 0, 0, 0, 0, 5, 6, 0]


def test_windows_take_turns_among_documents() -> None:
    documents = {"a": np.arange(100), "b": np.arange(1000, 1025), "c": np.arange(5)}
    found = windows("books", documents, 10, 5, rng())
    assert [window.document for window in found] == ["a", "b", "a", "b", "a"]
    starts = [int(window.token_ids[0]) for window in found]
    assert len(set(starts)) == 5
    assert all(start % 10 == 0 for start in starts)
    assert [len(other) for other in found[0].others] == [25, 5]


def test_versions_are_of_one_length_and_the_copy_is_half_a_window_away() -> None:
    (window,) = windows("code", {"a": text(820), "b": text(900) + 20_000}, 8192, 1, rng())
    found = versions(window, VOCABULARY, rng())
    assert {len(ids) for ids in found.values()} == {8192}
    for same in ("shuffled", "tokens shuffled"):
        assert sorted(found[same]) == sorted(window.token_ids)
    (changed, disturbed) = (
        np.flatnonzero(found[name] != window.token_ids) for name in ("copy", "foreign")
    )
    assert changed[-1] - changed[0] < 512
    assert disturbed[-1] - disturbed[0] < 512
    word = next(i for i in changed if found["copy"][i] != 1)  # all but the ends occur once
    assert 4096 <= word - np.flatnonzero(window.token_ids == found["copy"][word])[0] < 6144


def test_wins_average_to_the_share_of_pairs_in_order() -> None:
    positive, negative = rng().integers(0, 5, (2, 30)).astype(float)
    pairs = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    assert wins(positive, negative).mean() == pytest.approx(np.mean(pairs))


def test_the_interval_resamples_whole_documents() -> None:
    matrix = wins(np.array([2.0, 2.0, 0.0, 0.0]), np.array([1.0, 1.0, 1.0, 1.0]))
    assert auc_interval((matrix, ["a", "a", "a", "a"])) == (0.5, 0.5, 0.5)
    # of two documents, one quarter of the draws is twice the first, one quarter twice the second
    assert auc_interval((matrix, ["a", "a", "b", "b"])) == (0.5, 0.0, 1.0)


def test_a_weighted_resample_is_the_resampled_list() -> None:
    positive, negative = rng().normal(size=(2, 6))
    chosen = np.array([0, 0, 3, 5, 5, 5])
    weight = np.bincount(chosen, minlength=6)
    matrix = wins(positive, negative)
    weighted = weight @ matrix @ weight / weight.sum() ** 2
    assert weighted == pytest.approx(wins(positive[chosen], negative[chosen]).mean())


def test_ranks_share_ties() -> None:
    one, other = np.array([3.0, 1.0, 3.0, 2.0]), np.array([7.0, 0.0, 5.0, 2.0])
    # ranks 3.5, 1, 3.5, 2 and 4, 1, 3, 2, whose means are 2.5
    assert spearman(one, other) == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert spearman(np.array([1.0, 2.0, 4.0]), np.array([1.0, 9.0, 81.0])) == pytest.approx(1)


def test_a_score_that_knows_the_real_window_has_auc_1() -> None:
    rows = pd.DataFrame(
        [
            {"domain": d, "document": d, "window": n, "version": version, "ds": ds + n, "du": 0.0}
            for d in ("a", "b")
            for n in (0, 1)
            for version, ds in (("real", 5.0), ("shuffled", 1.0), ("repeated", 5.0))
        ]
    )
    assert list(aucs(rows, "real", "shuffled")) == ["1.00 [1.00, 1.00]"] * 2
    assert list(aucs(rows, "real", "repeated", alpha=0.5)) == ["0.50 [0.50, 0.50]"] * 2


def test_every_version_of_a_window_is_scored_by_every_scorer() -> None:
    documents = {"a": text(820), "b": text(900) + 20_000}
    numbered = enumerate(windows("code", documents, 8192, 1, rng()))
    specs = {name: ScorerSpec(scorer=name) for name in ("recurrence", "random")}
    wanted = ("real", "shuffled", "copy", "foreign")
    rows = pd.DataFrame(score_window(next(numbered), VOCABULARY, specs, wanted))
    assert len(rows) == len(specs) * len(wanted) and rows.ds.notna().all()
    lines = list(auc_table(rows, wanted[1:]))
    assert lines[2] == "| real against shuffled | recurrence | 0.50 [0.50, 0.50] |"
    assert lines[4] == "| copy against foreign | recurrence | 1.00 [1.00, 1.00] |"


def r_object(lines: list[str]) -> bytes:
    """A character vector as R's lazy-load database keeps it: size, then zlib's bytes."""
    strings = b"".join(
        struct.pack(">ii", 0x40009, len(line.encode())) + line.encode() for line in lines
    )
    head = b"X\n" + struct.pack(">iiii", 3, 0x40201, 0x30500, 5) + b"UTF-8"
    raw = head + struct.pack(">ii", 16, len(lines)) + strings
    return struct.pack(">I", len(raw)) + zlib.compress(raw)


def test_unseen_documents_are_read_from_their_packages(tmp_path: Path) -> None:
    data = tmp_path / "r-cran-janeaustenr/usr/lib/R/site-library/janeaustenr/data"
    manuals = tmp_path / "texlive-science-doc/usr/share/doc"
    for folder in (data, manuals):
        folder.mkdir(parents=True)
    novels = {"EMMA": ["EMMA", "", "naïve"], "PERSUASION": ["PERSUASION", "sir"]}
    (data / "Rdata.rdb").write_bytes(b"".join(map(r_object, novels.values())))
    (manuals / "one.tex.gz").write_bytes(gzip.compress(b"a\r\nb"))
    (manuals / "latin.tex.gz").write_bytes(gzip.compress("é".encode("latin-1")))

    tokenizer = SimpleNamespace(
        encode=lambda text, add_special_tokens: SimpleNamespace(ids=[ord(c) for c in text])
    )
    found = unseen_documents(tmp_path, tokenizer)  # type: ignore[arg-type]
    read = {
        domain: {name: "".join(map(chr, ids)) for name, ids in documents.items()}
        for domain, documents in found.items()
    }
    assert read == {
        "novels": {name: "\n".join(lines) for name, lines in novels.items()},
        "TeX manuals": {"one.tex.gz": "a\nb"},
    }


def test_uses_far_from_their_definition_are_counted() -> None:
    text = "def helper(): pass " + "word " * 1100 + "helper other helper"
    words = 3 + 1100 + 3
    assert counts.far_uses(text) == pytest.approx(1000 * 2 / words)
    assert counts.far_uses("def helper(): helper helper") == 0


def test_a_count_adds_what_recall_does_not_know() -> None:
    rng = np.random.default_rng(0)
    documents = np.repeat([f"d{i}" for i in range(40)], 2)
    recall, count, noise = rng.normal(size=(3, 80))
    truth = recall + count + 0.1 * noise
    alone = counts.left_out(recall[:, None], truth, documents)
    both = counts.left_out(np.stack([recall, count], 1), truth, documents)
    assert np.corrcoef(both, truth)[0, 1] > 0.98 > 0.8 > np.corrcoef(alone, truth)[0, 1]


def test_values_are_compared_within_domains() -> None:
    domains = np.array(["a", "a", "b", "b"])
    found = counts.apart(np.array([1.0, np.e, 10.0, 10.0]), domains)
    assert found == pytest.approx([-0.5, 0.5, 0, 0])


def test_recall_orders_the_judged_windows_of_a_domain() -> None:
    """The windows that are kept here, and what the pages say of them."""
    judged = counts.with_others(read(JUDGED))
    domains = np.array([window.place.domain for window in judged])
    truth = np.array([float(window.gain.mean()) for window in judged])
    own, judge = (
        counts.apart(values, domains) for values in (counts.scores("recall", judged), truth)
    )
    assert len(judged) > 40 and np.corrcoef(own, judge)[0, 1] > 0.85
