"""Far links: every repeat shown is one, and the heaviest attention is the attention's maximum."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from longattn.udfs.pictures.links import APART, SHORTEST, heaviest, repeats


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(1, 60))
def test_a_repeat_is_one(ids: list[int], k: int) -> None:
    window = np.array(ids)
    links = repeats(window, k, 5)
    for link in links:
        here = ids[link.start : link.stop]
        assert here == ids[link.source : link.source_stop]
        assert len(here) >= SHORTEST and link.distance >= k and link.source >= 0
        last = ids[link.stop - SHORTEST : link.stop]  # said there last, and not since
        between = range(link.source_stop - SHORTEST + 1, link.stop - SHORTEST)
        assert all(ids[at : at + SHORTEST] != last for at in between)


def test_a_planted_copy_is_found_whole_and_alone() -> None:
    window = np.arange(3000)
    window[2500:2520] = window[100:120]
    (link,) = repeats(window, 1024, 5)
    assert (link.start, link.stop, link.source, link.source_stop) == (2500, 2520, 100, 120)
    assert repeats(window, 2401, 5) == []


def test_rare_tokens_outweigh_common_ones() -> None:
    window = np.concatenate([np.arange(100, 2100), np.tile([1, 2, 3], 200)])
    window[1990:1995] = 1, 2, 3, 1, 2  # common words, and a stretch of rare ones
    window[2000:2005] = window[40:45]
    window[30:35] = 1, 2, 3, 1, 2
    assert repeats(window, 1024, 1)[0].source == 40


def test_the_heaviest_links_come_first_and_apart() -> None:
    rows, keys = np.array([500, 501, 900, 1300]), np.array([10, 11, 12 + APART, 100])
    links = heaviest(rows, keys, np.array([0.1, 0.3, 0.2, 0.0]), 4)
    assert [(link.start, link.source, link.weight) for link in links] == [
        (501, 11, 0.3),
        (900, 12 + APART, 0.2),
    ]
