"""What scores are held to: windows that take turns, far hits by their definition, intervals."""

from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.evidence import agreement
from benchmarks.evidence.agreement import far_hits, resampled
from benchmarks.evidence.gain import Judged, Place, drawn, in_turns, of_each_domain, read
from benchmarks.evidence.gain import _write as write


def test_lanes_take_turns() -> None:
    assert list(in_turns([[1, 2, 3], [], [4], [5, 6]])) == [1, 4, 5, 2, 6, 3]


def test_the_first_windows_of_each_domain_take_turns() -> None:
    losses = np.zeros(1, np.float32)
    judged = [
        Judged(
            place=Place(domain=domain, document="", start=start),
            token_ids=np.zeros(1, int),
            long=losses,
            short=losses,
        )
        for domain, start in (("a", 0), ("a", 1), ("a", 2), ("b", 0))
    ]
    found = [(w.place.domain, w.place.start) for w in of_each_domain(judged, 2)]
    assert found == [("a", 0), ("b", 0), ("a", 1)]


def test_windows_do_not_overlap_and_documents_take_turns() -> None:
    documents = {name: np.arange(size) for name, size in (("a", 35), ("b", 9), ("c", 20))}
    found = list(drawn("d", documents, length=10, seed=0))
    assert {place.document for place, _ in found[:2]} == {"a", "c"}
    assert sorted((p.document, p.start) for p, _ in found) == [
        *(("a", 0), ("a", 10), ("a", 20)),
        *(("c", 0), ("c", 10)),
    ]
    assert all(ids.tolist() == list(range(p.start, p.start + 10)) for p, ids in found)


def longest_foretells(ids: list[int], t: int, start: int) -> tuple[int, set[int]]:
    """How long the longest match is of what stands before t in ids[start:t], what came after it."""
    for n in range(agreement.LONGEST, -1, -1):
        context = ids[t - n : t] if n <= t else None
        came = {ids[j] for j in range(start + n, t) if ids[j - n : j] == context}
        if came:
            return n, came
    return 0, set()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=60))
def test_far_hits_are_what_the_longest_far_match_foretells_and_the_near_one_does_not(
    ids: list[int],
) -> None:
    expected = []
    for t, token in enumerate(ids):
        n, whole = longest_foretells(ids, t, 0)
        _, near = longest_foretells(ids, t, max(0, t // 8 - 1) * 8)
        expected.append(n >= agreement.SHORTEST and token in whole and token not in near)
    with mock.patch.object(agreement, "K", 8):
        assert far_hits(np.array(ids)).tolist() == expected


def test_an_interval_draws_whole_documents() -> None:
    ds = np.arange(12.0)
    rows = pd.DataFrame({"document": [*"aaaabbbbcccc"], "ds": ds, "truth": ds**2})
    assert np.allclose(resampled(rows), 1)
    one = pd.DataFrame({"document": ["a"] * 5, "ds": ds[:5], "truth": [1.0, 0, 4, 3, 2]})
    assert len(np.unique(resampled(one))) == 1  # one document: no other draw than itself


def test_what_was_judged_is_read_again(tmp_path: Path) -> None:
    losses = np.array([np.nan, 2.0, 1.0], np.float32)
    place = Place(domain="unseen code", document="a/b.py", start=8192)
    judged = Judged(place=place, token_ids=np.arange(3), long=losses, short=losses + 1)
    write(tmp_path / place.file, judged)
    (found,) = read(tmp_path)
    assert found.place == place and found.token_ids.tolist() == [0, 1, 2]
    assert np.allclose(found.gain, [0, np.exp(-2), np.exp(-1)])
