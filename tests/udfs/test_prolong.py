"""ProLong: its equations worked out by hand, and a model whose perplexities are known."""

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longattn.udfs.errors import ModelError
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.kinds import prolong
from longattn.udfs.scorers.kinds.prolong import (
    ProLong,
    ProLongSettings,
    long_dependency_score,
    sample_pairs,
    specificity,
)
from longattn.udfs.scorers.registry import load_scorer, scorer_version
from longattn.udfs.scorers.worker import score_batches
from tests.udfs.models import make_multimodal


@given(st.integers(2, 60), st.integers(1, 400), st.integers(0, 5))
def test_pairs_are_distinct_backward_and_as_many_as_asked(n: int, count: int, seed: int) -> None:
    pairs = sample_pairs(n, count, seed)
    assert len(set(pairs)) == len(pairs) == min(count, n * (n - 1) // 2)
    assert all(0 <= j < i < n for i, j in pairs)


@pytest.mark.parametrize("seed", [-1, -(1 << 63), (1 << 63) - 1])
def test_any_seed_of_a_config_draws_pairs(seed: int) -> None:
    of_window = prolong._seed_of(np.arange(9), ProLongSettings(seed=seed))
    assert len(set(sample_pairs(9, 5, of_window))) == 5


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


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_perplexity_that_is_no_number_gives_none(odd: float) -> None:
    """It passed for a dependency below the threshold, and the score was 0."""
    assert math.isnan(long_dependency_score([4.0, odd], {(1, 0): 4.0}, 0.1))
    assert math.isnan(long_dependency_score([4.0, 4.0], {(1, 0): odd}, 0.1))


class CopyModel:
    """Predicts surely what stood one segment earlier in its input, else uniformly over V tokens."""

    def __init__(self, segment: int, vocab: int) -> None:
        self.segment, self.vocab = segment, vocab

    def losses(self, ids_BT: Any, last: int) -> Any:
        import torch

        logits = torch.zeros(*ids_BT.shape, self.vocab)
        if ids_BT.shape[1] > self.segment:
            ahead = ids_BT[:, 1 : 1 + ids_BT.shape[1] - self.segment]
            logits[:, self.segment :].scatter_(2, ahead[..., None], 50.0)
        told = logits[:, -last - 1 : -1].transpose(1, 2)
        return torch.nn.functional.cross_entropy(told, ids_BT[:, -last:], reduction="none")


def test_a_planted_copy_is_found_and_noise_is_not() -> None:
    pytest.importorskip("torch")
    size, vocab = 16, 50
    rng = np.random.default_rng(0)
    noise = rng.integers(0, vocab, 8 * size)
    planted = noise.copy()
    planted[-size:] = planted[:size]
    lm: Any = CopyModel(size, vocab)
    scorer = ProLong(lm, ProLongSettings(segment_tokens=size), "prolong")
    of_noise, of_planted = (score["ds"] for score in scorer.score([noise, planted]))
    assert of_noise == 0.0
    # the copied pair: P(c_i) = V, P(c_i | c_j) = 1 and distance N - 1
    expected = ((vocab - 1) / vocab + 1.0) * specificity([vocab - 1.0] + [0.0] * 6)
    assert of_planted == pytest.approx(expected, rel=0.02)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = LlamaConfig(vocab_size=97, num_attention_heads=2, **shape)
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        parameter.data.mul_(6)  # so that what stands before matters
    folder = tmp_path_factory.mktemp("model") / "tiny-llama"
    model.save_pretrained(folder)
    return str(folder)


class TestAsScorer:
    """Registered under its name, with a small Llama of random weights."""

    def spec(self, model: str, **settings: Any) -> ScorerSpec:
        given = {"scorer": "prolong", "model": model, "dtype": "float64", "pairs": 9}
        return ScorerSpec(**{**given, **settings})

    @pytest.mark.parametrize(("dtype", "off"), [("float64", 1e-6), ("float32", 1e-4)])
    def test_scores_are_those_of_one_pair_after_another(
        self, model: str, dtype: str, off: float
    ) -> None:
        """Perplexities by transformers' own loss, a pair at a time; then the equations."""
        import torch
        from transformers import AutoModelForCausalLM

        size, ids = 128, np.random.default_rng(1).integers(0, 97, 5 * 128 + 50)
        whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64)

        def perplexity(tokens: Any) -> float:
            labels = torch.as_tensor(tokens)[None].clone()
            labels[:, : len(tokens) - size + 1] = -100  # its first token is not predicted
            with torch.no_grad():
                return math.exp(whole(torch.as_tensor(tokens)[None], labels=labels).loss)

        segments = ids[: 5 * size].reshape(5, size)
        (score,) = load_scorer(self.spec(model, dtype=dtype)).score([ids])
        pairs = sample_pairs(5, 9, prolong._seed_of(ids, ProLongSettings(num_pairs=9)))
        paired = {(i, j): perplexity(np.concatenate([segments[j], segments[i]])) for i, j in pairs}
        single = [perplexity(segment) for segment in segments]
        expected = long_dependency_score(single, paired, 0.1)
        assert expected > 0
        found = (score["ds"], score["du"], score["k"])
        assert found == (pytest.approx(expected, rel=off), 0.0, size)

    def test_logits_of_a_half_precision_body_are_not_rounded(self, model: str) -> None:
        """Perplexities are those of its rounded hidden states, and of its head in float32."""
        import torch
        from transformers import AutoModelForCausalLM

        ids = torch.as_tensor(np.random.default_rng(1).integers(0, 97, (3, 256)))
        whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
        with torch.no_grad():
            hidden = whole.base_model(ids[:, :-1])[0][:, -127:].float()
            logits = hidden @ whole.lm_head.weight.float().T
        losses = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), ids[:, -127:], reduction="none"
        )
        scorer = load_scorer(self.spec(model, dtype="bfloat16", device="cpu"))
        assert isinstance(scorer, ProLong)
        found = scorer._perplexities(ids)
        assert found == pytest.approx(losses.mean(1).exp().tolist(), rel=1e-5)
        assert scorer.version.endswith(":bf16:logits=f32")

    def test_the_name_says_which_model_and_what_settings(self, model: str) -> None:
        name = scorer_version(self.spec(model, seed=3))
        assert name.startswith("prolong:tiny-llama@")
        assert name.endswith(":segment=128:pairs=9:threshold=0.1:seed=3:f64")
        assert load_scorer(self.spec(model, seed=3)).version == name

    def test_windows_it_cannot_score_have_a_reason(self, model: str) -> None:
        frame = pd.DataFrame({"window_id": list("abcd"), "domain": "book"})
        frame["token_ids"] = [[], [1] * 255, [1] * 255 + [97], [1, 2] * 200]
        (scored,) = score_batches(iter([frame]), self.spec(model))
        assert scored["reason"].tolist()[:3] == ["empty", "too_short", "bad_token_id"]
        assert pd.isna(scored["reason"][3]) and scored["ds"].notna()[3]

    def test_a_model_of_images_too_is_a_language_model(self, tmp_path: Path) -> None:
        """Its config has no vocabulary of its own."""
        model = str(make_multimodal(tmp_path / "gemma3"))
        frame = pd.DataFrame({"window_id": list("ab"), "domain": "book"})
        frame["token_ids"] = [[3, 4] * 128, [3] * 255 + [101]]
        (scored,) = score_batches(iter([frame]), self.spec(model, device="cpu"))
        assert scored["ds"].notna()[0] and scored["reason"][1] == "bad_token_id"

    def test_first_layers_alone_are_not_a_language_model(self, tmp_path: Path) -> None:
        (tmp_path / "scorer.json").write_text("{}")
        with pytest.raises(ModelError, match="the first layers only; prolong needs the whole"):
            scorer_version(self.spec(str(tmp_path)))
