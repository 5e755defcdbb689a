"""Documents divided among lengths: cases by hand, and the best that any division can do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longattn.udfs.windows.buckets import divided, first_draws

AMOUNTS = st.lists(st.integers(0, 10**9), min_size=1, max_size=5)
SHARES = st.lists(st.floats(0.01, 1), min_size=5, max_size=5)


@pytest.mark.parametrize(
    ("tokens", "parts"),
    [
        ([20, 50, 30], [[20], [0, 50], [0, 0, 30]]),  # as the shares ask
        ([5, 5, 90], [[5], [0, 5], [15, 45, 30]]),  # long documents serve all three lengths
        ([60, 20, 20], [[60], [0, 20], [0, 5, 15]]),  # too few long ones: none is cut short
        ([0, 0, 10], [[0], [0, 0], [2, 5, 3]]),
    ],
)
def test_divisions_by_hand(tokens: list[int], parts: list[list[float]]) -> None:
    found = divided(tokens, [0.2, 0.5, 0.3])
    assert [pytest.approx(part) for part in parts] == found


@given(tokens=AMOUNTS, shares=SHARES)
def test_the_length_that_has_least_of_its_share_has_all_it_can(
    tokens: list[int], shares: list[float]
) -> None:
    """Only documents of k lengths and more serve the lengths from k on: no division does better."""
    shares = shares[: len(tokens)]
    parts = divided(tokens, shares)
    assert [sum(part) for part in parts] == pytest.approx(tokens)
    assert all(part >= 0 for row in parts for part in row)
    filled = [sum(row[j] for row in parts if j < len(row)) for j in range(len(shares))]
    best = min(sum(tokens[k:]) / sum(shares[k:]) for k in range(len(shares)))
    assert min(f / s for f, s in zip(filled, shares, strict=True)) == pytest.approx(best)


@given(
    tokens=st.dictionaries(st.integers(0, 4095).map("{:03x}".format), st.integers(1, 999)),
    weights=st.lists(st.floats(0, 1), min_size=1, max_size=4),
)
def test_draws_divide_tokens_to_within_those_of_one(
    tokens: dict[str, int], weights: list[float]
) -> None:
    total, whole = sum(tokens.values()), sum(weights) or 1
    part = [w / whole * total for w in weights]
    part[0] += total - sum(part)
    firsts = first_draws(tokens, part)
    assert len(firsts) == len(part) - 1 and firsts == sorted(firsts)
    largest = max(tokens.values(), default=0)
    for shorter, first in enumerate(firsts, 1):
        before = sum(n for draw, n in tokens.items() if draw < first)
        assert abs(before - sum(part[len(part) - shorter :])) <= largest
