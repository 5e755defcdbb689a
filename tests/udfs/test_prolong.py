"""ProLong: its equations worked out by hand, and a model whose perplexities are known."""

import math
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.prolong import (
    ProLong,
    ProLongSettings,
    long_dependency_score,
    sample_pairs,
    specificity,
)


@given(st.integers(2, 60), st.integers(1, 400), st.integers(0, 5))
def test_pairs_are_distinct_backward_and_as_many_as_asked(n: int, count: int, seed: int) -> None:
    pairs = sample_pairs(n, count, seed)
    assert len(set(pairs)) == len(pairs) == min(count, n * (n - 1) // 2)
    assert all(0 <= j < i < n for i, j in pairs)


def test_all_pairs_come_when_there_are_few() -> None:
    assert sorted(sample_pairs(5, 100, 0)) == sorted((b, a) for a, b in combinations(range(5), 2))


def test_specificity_by_hand() -> None:
    assert specificity([3.0]) == 1.0
    assert specificity([2.0, 2.0, 2.0]) == pytest.approx(0.0, abs=1e-12)
    # softmax of (log 3, 0) is (3/4, 1/4)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert specificity([math.log(3), 0.0]) == pytest.approx(1 - entropy / math.log(2))
    assert specificity([1e4, 0.0]) == pytest.approx(1.0)


def test_score_by_hand() -> None:
    # three segments; only (2, 0) passes the threshold of 0.1: DST 0.5, DDI 2/2
    single = [10.0, 10.0, 10.0]
    paired = {(1, 0): 9.5, (2, 0): 5.0, (2, 1): 10.0}
    expected = (0.5 + 1.0) * specificity([5.0, 0.0])
    assert long_dependency_score(single, paired, 0.1) == pytest.approx(expected)


def test_nothing_above_the_threshold_scores_zero() -> None:
    assert long_dependency_score([4.0, 4.0], {(1, 0): 4.0}, 0.1) == 0.0


class CopyModel:
    """Predicts surely what stood one segment earlier in its input, else uniformly over V tokens."""

    device = "cpu"

    def __init__(self, segment: int, vocab: int) -> None:
        self.segment, self.vocab = segment, vocab

    def __call__(self, ids_BT: Any, logits_to_keep: int) -> SimpleNamespace:
        import torch

        logits = torch.zeros(*ids_BT.shape, self.vocab)
        if ids_BT.shape[1] > self.segment:
            ahead = ids_BT[:, 1 : 1 + ids_BT.shape[1] - self.segment]
            logits[:, self.segment :].scatter_(2, ahead[..., None], 50.0)
        return SimpleNamespace(logits=logits[:, -logits_to_keep:])


def test_a_planted_copy_is_found_and_noise_is_not() -> None:
    pytest.importorskip("torch")
    size, vocab = 16, 50
    rng = np.random.default_rng(0)
    noise = rng.integers(0, vocab, 8 * size)
    planted = noise.copy()
    planted[-size:] = planted[:size]
    scorer = ProLong(CopyModel(size, vocab), ProLongSettings(segment_tokens=size))
    assert scorer.score(noise) == 0.0
    # the copied pair: P(c_i) = V, P(c_i | c_j) = 1 and distance N - 1
    expected = ((vocab - 1) / vocab + 1.0) * specificity([vocab - 1.0] + [0.0] * 6)
    assert scorer.score(planted) == pytest.approx(expected, rel=0.02)
