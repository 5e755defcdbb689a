"""The model prefix against the real model's own eager attention, family by family."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from longattn.udfs.errors import ModelError
from longattn.udfs.models.build import build_scorer
from longattn.udfs.models.prefix import check_supported, needed_parameters
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.registry import load_scorer
from tests.udfs.families import make_tiny
from tests.udfs.models import (
    FAMILIES,
    IN_MASK,
    LENGTH,
    SMALL,
    K,
    eager_statistics,
    make_checkpoint,
    windows,
)


def our_statistics(
    model: Path, ids: list[np.ndarray], **settings: Any
) -> tuple[np.ndarray, np.ndarray]:
    spec = ScorerSpec(scorer="longattn", model=str(model), k=K, **settings)
    scores = load_scorer(spec).score(ids)
    return np.array([s["head_s1"] for s in scores]), np.array([s["head_s2"] for s in scores])


@pytest.mark.parametrize("layers", [(0,), (0, 1)])
@pytest.mark.parametrize("name", FAMILIES)
def test_statistics_are_those_of_eager_attention(
    name: str, layers: tuple[int, ...], tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", name)
    build_scorer(str(checkpoint), str(tmp_path / "scorer"), layers)
    expected = eager_statistics(checkpoint, windows(2), layers)
    got = our_statistics(tmp_path / "scorer", windows(2), layers=layers, dtype="float64")
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-6)  # eager's softmax is float32


@pytest.mark.parametrize("name", IN_MASK)
def test_a_window_that_is_in_the_mask_alone_is_kept_to(name: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", name)
    build_scorer(str(checkpoint), str(tmp_path / "scorer"))
    # experts are multiplied in float32 at most
    expected = eager_statistics(checkpoint, windows(2), (0,), dtype=torch.float32)
    got = our_statistics(tmp_path / "scorer", windows(2), dtype="float32")
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4)
    with pytest.raises(ModelError, match="sees 48 tokens back"):
        load_scorer(ScorerSpec(scorer="longattn", model=str(checkpoint), k=48)).score(windows(1))


@pytest.mark.parametrize("kind", ["gptj", "codegen", "llama"])
def test_a_table_of_sines_has_an_end(kind: str, tmp_path: Path) -> None:
    make_tiny(tmp_path / "model", kind, seed=0)
    scorer = load_scorer(ScorerSpec(scorer="longattn", model=str(tmp_path / "model"), k=K))
    most, beyond = windows(1, 256)[0], windows(1, 257)[0]
    assert scorer.refusal(most) is None and scorer.score([most])[0]["ds"] > 0
    if kind == "llama":
        assert scorer.refusal(beyond) is None and scorer.score([beyond])[0]["ds"] > 0
    else:
        assert scorer.refusal(beyond) == ("too_long", "257 tokens; the model has 256 positions")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_error_at_a_dtype_is_within_twice_that_of_plain_torch(dtype: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", "llama3.1")
    build_scorer(str(checkpoint), str(tmp_path / "scorer"))
    exact = eager_statistics(checkpoint, windows(4), (0,))
    plain = eager_statistics(checkpoint, windows(4), (0,), dtype=getattr(torch, dtype))
    got = our_statistics(tmp_path / "scorer", windows(4), dtype=dtype)
    for ours, theirs, truth in zip(got, plain, exact, strict=True):
        floor = 1e-6 * truth.max()  # float32's rounding of sums over 77 rows
        assert np.abs(ours - truth).max() <= 2 * np.abs(theirs - truth).max() + floor


def test_a_window_needs_two_tokens_k_apart(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", "llama3")
    scorer = load_scorer(ScorerSpec(scorer="longattn", model=str(checkpoint), k=16))
    for length in range(14, 20):
        ids = np.arange(length)
        apart = any(i - j >= 16 for i in ids for j in ids)
        refused = scorer.refusal(ids)
        assert refused == (None if apart else ("too_short", f"{length} tokens; k is 16"))
        assert refused or scorer.score([ids])[0]["ds"] > 0


def test_rope_theta_override_is_that_of_a_model_trained_with_it(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", "llama3")
    build_scorer(str(checkpoint), str(tmp_path / "scorer"))
    expected = eager_statistics(checkpoint, windows(1), (0,), theta=2.5e6)
    got = our_statistics(tmp_path / "scorer", windows(1), dtype="float64", rope_theta=2.5e6)
    stock = our_statistics(tmp_path / "scorer", windows(1), dtype="float64")
    np.testing.assert_allclose(got[0], expected[0], rtol=2e-6)
    assert not np.allclose(got[0], stock[0], rtol=1e-3)


def test_bos_is_a_token_of_the_window(tmp_path: Path) -> None:
    build_scorer(str(make_checkpoint(tmp_path / "model", "llama3")), str(tmp_path / "scorer"))
    with_bos = [np.concatenate([[1], ids]) for ids in windows(2)]
    expected = our_statistics(tmp_path / "scorer", with_bos)
    np.testing.assert_array_equal(
        our_statistics(tmp_path / "scorer", windows(2), bos=True), expected
    )


def test_windows_of_a_batch_do_not_touch_each_other(tmp_path: Path) -> None:
    build_scorer(str(make_checkpoint(tmp_path / "model", "qwen3")), str(tmp_path / "scorer"))
    together = our_statistics(tmp_path / "scorer", windows(3), dtype="float64")
    alone = [our_statistics(tmp_path / "scorer", [w], dtype="float64") for w in windows(3)]
    np.testing.assert_allclose(together[0], np.concatenate([s1 for s1, _ in alone]), rtol=1e-12)


@pytest.mark.slow
def test_sampled_scores_are_unbiased_with_the_error_they_say(tmp_path: Path) -> None:
    build_scorer(
        str(make_checkpoint(tmp_path / "model", "llama3")), str(tmp_path / "scorer"), [0, 1]
    )
    settings: dict[str, Any] = {
        "scorer": "longattn",
        "model": str(tmp_path / "scorer"),
        "k": K,
        "layers": (0, 1),
    }
    scorer, window = load_scorer(ScorerSpec(**settings)), windows(1)[0]
    (exact,) = scorer.score([window])
    sampled = []
    for seed in range(200):
        scorer.spec = ScorerSpec(**settings, sample_rows=16, seed=seed)  # type: ignore[attr-defined]
        sampled += scorer.score([window])
    assert {score["rows_sampled"] for score in sampled} == {16}
    for name, error in (("ds", "ds_se"), ("du", "du_se")):
        values = np.array([score[name] for score in sampled])  # type: ignore[literal-required]
        errors = np.array([score[error] for score in sampled])  # type: ignore[literal-required]
        spread = values.std(ddof=1)
        assert abs(values.mean() - exact[name]) < 4 * spread / 200**0.5  # type: ignore[literal-required]
        assert 0.8 < np.sqrt(np.mean(errors**2)) / spread < 1.25


def test_sampling_every_row_is_exact(tmp_path: Path) -> None:
    build_scorer(str(make_checkpoint(tmp_path / "model", "llama3")), str(tmp_path / "scorer"))
    settings: dict[str, Any] = {"scorer": "longattn", "model": str(tmp_path / "scorer"), "k": K}
    (exact,) = load_scorer(ScorerSpec(**settings)).score(windows(1))
    assert load_scorer(ScorerSpec(**settings, sample_rows=LENGTH)).score(windows(1)) == [exact]


def test_layers_come_in_the_order_asked_for(tmp_path: Path) -> None:
    build_scorer(
        str(make_checkpoint(tmp_path / "model", "llama3")), str(tmp_path / "scorer"), [0, 1]
    )
    forth = our_statistics(tmp_path / "scorer", windows(1), layers=(0, 1))[0]
    back = our_statistics(tmp_path / "scorer", windows(1), layers=(1, 0))[0]
    np.testing.assert_allclose(back[0], np.roll(forth[0], 4), rtol=1e-5)


def test_far_map_and_curve_add_up_to_the_score(tmp_path: Path) -> None:
    from longattn.udfs.pictures.attention_map import far_map
    from longattn.udfs.pictures.plot import draw_window

    build_scorer(
        str(make_checkpoint(tmp_path / "model", "gemma2")), str(tmp_path / "scorer"), [0, 1]
    )
    spec = ScorerSpec(
        scorer="longattn", model=str(tmp_path / "scorer"), k=K, layers=(0, 1), dtype="float64"
    )
    scorer, window = load_scorer(spec), windows(1)[0]
    drawn = far_map(scorer, window, cells=10)
    total = scorer.score([window])[0]["ds"] * LENGTH
    assert len(drawn.rows_R) == LENGTH and not drawn.ds_R[: drawn.k].any()
    np.testing.assert_allclose(drawn.ds_R.sum(), total, rtol=1e-5)
    assert drawn.mass_QK.shape == (10, 10) and not np.triu(drawn.mass_QK, 1).any()
    queries = np.diff(np.linspace(0, LENGTH, 11).astype(int))
    np.testing.assert_allclose(drawn.mass_QK.sum(1) @ queries, total, rtol=1e-5)
    some = far_map(scorer, window, cells=10, rows_per_cell=2)
    assert len(some.rows_R) == 20
    np.testing.assert_allclose(some.ds_R, drawn.ds_R[some.rows_R], rtol=1e-6)
    draw_window(scorer, window, tmp_path / "window.png")
    assert (tmp_path / "window.png").stat().st_size > 1000


REFUSED = {
    "encoder": ({"model_type": "bert"}, "not causal"),
    "encoder-decoder": ({"model_type": "t5"}, "no decoder-only"),
    "alibi": ({"model_type": "bloom", "n_head": 4}, "ALiBi"),
    "sinks": ({"model_type": "gpt_oss", "head_dim": 16, "num_local_experts": 2}, "s_aux"),
    "state-space": ({"model_type": "mamba"}, "no attention to score"),
    "dynamic-rope": (
        {
            "model_type": "llama",
            "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
        },
        "dynamic",
    ),
    "hybrid": (
        {"model_type": "qwen3_next", "num_hidden_layers": 4},
        "layer 0 is linear_attention, which has no attention to score; layers that have: 3",
    ),
    "experts": ({"model_type": "mixtral", "num_local_experts": 2}, "only layer 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_q_and_k_do_not_determine_is_refused_by_name(name: str) -> None:
    settings, words = REFUSED[name]
    config = AutoConfig.for_model(**{**SMALL, **settings})
    layers = (0, 1) if name == "experts" else (0,)
    with pytest.raises(ModelError, match=words):
        check_supported(config)
        needed_parameters(config, layers)


def test_a_window_that_hides_the_far_block_is_refused(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", "mistral-window")
    build_scorer(str(checkpoint), str(tmp_path / "scorer"))
    with pytest.raises(ModelError, match="sees 48 tokens back"):
        load_scorer(ScorerSpec(scorer="longattn", model=str(tmp_path / "scorer"), k=48)).score(
            windows(1)
        )


def test_attention_that_is_more_than_q_and_k_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.llama import modeling_llama

    stock = modeling_llama.eager_attention_forward

    def biased(module: Any, q: Any, k: Any, v: Any, mask: Any, **options: Any) -> Any:
        distance = torch.arange(mask.shape[-1]) - torch.arange(mask.shape[-2])[:, None]
        return stock(module, q, k, v, mask + 0.1 * distance, **options)

    monkeypatch.setattr(modeling_llama, "eager_attention_forward", biased)
    with pytest.raises(ModelError, match="not that of its"):
        build_scorer(str(make_checkpoint(tmp_path / "model", "llama3")), str(tmp_path / "scorer"))


def test_first_layer_of_a_mixture_of_experts_needs_no_expert() -> None:
    config = AutoConfig.for_model(**{**SMALL, "model_type": "mixtral", "num_local_experts": 2})
    assert needed_parameters(config, (0,)) == [
        "embed_tokens.weight",
        "layers.0.self_attn.q_proj.weight",
        "layers.0.self_attn.k_proj.weight",
        "layers.0.input_layernorm.weight",
    ]
