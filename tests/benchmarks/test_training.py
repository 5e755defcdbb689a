"""The training comparison at toy size: arms, what is planted, the rule, and one run of it all."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from benchmarks.training import __main__ as training  # noqa: E402
from benchmarks.training.arms import arms, sequences, split  # noqa: E402
from benchmarks.training.learn import Recipe, train  # noqa: E402
from benchmarks.training.measures import (  # noqa: E402
    PAIR,
    PASSAGE,
    distances,
    with_copy,
    with_pair,
)
from benchmarks.training.verdict import verdicts  # noqa: E402

LENGTH, VOCABULARY = 256, 61


@pytest.fixture(scope="module")
def pool() -> pd.DataFrame:
    """Eighty windows of forty documents; scores that are their row numbers, up and down."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "window_id": [f"w{i}" for i in range(80)],
            "doc_id": [f"d{i // 2}" for i in range(80)],
            "domain": [("a", "b")[i % 2] for i in range(80)],
            "token_ids": [rng.integers(0, VOCABULARY, LENGTH) for _ in range(80)],
            "fargain": np.arange(80.0),
            "recall": -np.arange(80.0),
        }
    )


def tiny() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
    )
    return LlamaForCausalLM(config).eval()


def test_arms_are_quarters_of_every_domain(pool: pd.DataFrame) -> None:
    found = {arm.name: arm.rows for arm in arms(pool, ["fargain", "recall"])}
    assert (
        found["top fargain"]
        == list(range(60, 80))
        == found["bottom fargain"][:0] + list(range(60, 80))
    )
    assert found["top recall"] == found["bottom fargain"] == list(range(20))
    draws = [rows for name, rows in found.items() if name.startswith("random")]
    assert len(draws) == 3 and len({tuple(rows) for rows in draws}) == 3
    assert all(np.bincount([row % 2 for row in rows]).tolist() == [10, 10] for rows in draws)


def test_no_document_is_on_both_sides(pool: pd.DataFrame) -> None:
    kept, tested = split(pool)
    assert not set(kept["doc_id"]) & set(tested["doc_id"])
    assert len(kept) + len(tested) == len(pool) and 0 < len(tested) < 30


def test_an_epoch_shows_every_window_once(pool: pd.DataFrame) -> None:
    arm = next(arms(pool, ["fargain"]))
    seen = list(sequences(pool, arm, 20 * LENGTH, 0.0, 64, seed=3))
    expected = sorted(tuple(pool["token_ids"].iloc[row]) for row in arm.rows)
    assert sorted(tuple(ids) for ids in seen) == expected


def test_short_pieces_are_the_same_for_all_arms(pool: pd.DataFrame) -> None:
    top, bottom = list(arms(pool, ["fargain"]))[:2]
    long_of = {tuple(ids) for ids in pool["token_ids"]}
    shorts = [
        [tuple(ids) for ids in sequences(pool, arm, 40 * LENGTH, 0.3, 64, 0)]
        for arm in (top, bottom)
    ]
    shorts = [[ids for ids in found if ids not in long_of] for found in shorts]
    assert shorts[0] == shorts[1] and 5 < len(shorts[0]) < 20


def test_what_is_planted_stands_where_it_should() -> None:
    ids = np.arange(LENGTH)
    copied = with_copy(100)(ids, np.random.default_rng(0))
    assert copied[-PASSAGE:].tolist() == ids[-PASSAGE - 100 : -100].tolist()
    paired = with_pair(128, VOCABULARY)(ids, np.random.default_rng(0))
    end = LENGTH - 2 * PAIR
    assert paired[end:].tolist() == paired[end - 128 : end - 128 + 2 * PAIR].tolist()
    assert distances(8192) == [1024, 2048, 4096] and distances(LENGTH) == [32, 64, 128]


def test_training_lowers_the_loss() -> None:
    pattern = np.tile(np.arange(16), LENGTH // 16).astype(np.int64)
    recipe = Recipe(step_tokens=LENGTH, learning_rate=1e-2)
    losses = train(tiny(), [pattern] * 20, recipe)
    assert losses[-1] < losses[0] / 2


def test_the_rule_is_the_one_that_is_printed() -> None:
    def row(arm: str, seed: int, gain: float, short: float = 3.0) -> dict[str, Any]:
        same = {"key_loss": 1.0, "copy_32": -1.0, "pair_32": -2.0}
        return {"arm": arm, "seed": seed, "far_gain": gain, "short_loss": short, **same}

    table = [row(f"random {d}", s, 0.1 + 0.01 * d) for d in range(3) for s in range(2)]
    table += [row("top good", s, 0.2) for s in range(2)]
    table += [row("top once", s, (0.2, 0.05)[s]) for s in range(2)]
    table += [row("top forgetful", s, 0.2, short=3.02) for s in range(2)]
    found = verdicts(pd.DataFrame(table)).set_index("arm")
    assert found["wins"].to_dict() == {
        **{f"random {d}": False for d in range(3)},
        "top good": True,
        "top once": False,
        "top forgetful": False,
    }


def test_the_whole_comparison_at_toy_size(pool: pd.DataFrame) -> None:
    recipe = Recipe(tokens=2 * LENGTH, step_tokens=LENGTH, short_length=64, seeds=(0,))
    found = pd.DataFrame(training.compare(tiny(), pool, ["fargain"], recipe, held_out=2))
    randoms = [f"random {draw}" for draw in range(3)]
    assert list(found["arm"]) == ["top fargain", "bottom fargain", *randoms]
    measured = found.drop(columns=["arm", "key_loss"])  # a random model has no key tokens
    assert np.isfinite(measured.to_numpy(float)).all()
    assert found["loss_128"].between(3.5, 4.8).all()  # ln 61 = 4.11: nothing can be learnt of noise
