"""Does a model learn more from the windows that a scorer selects? One model, continued on each arm.

`python -m benchmarks.training ROOT --model MODEL [--scorers fargain recall longattn]` reads the
windows and scores of a root, trains on the top quarter by each scorer, the bottom quarter by
`fargain` and three random quarters, the same number of tokens each, and judges every model on
documents that none was trained on. The rule of what counts as better is printed first. Made for a
GPU (25 million tokens an arm: two to four minutes on an H100); `--tokens` and `--step-tokens` make
it as small as a CPU needs, which proves the code and nothing else.
"""

import argparse
import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.training.arms import arms, read_pool, sequences, split
from benchmarks.training.learn import Recipe, train
from benchmarks.training.measures import judge, key_tokens
from benchmarks.training.verdict import RULE, verdicts
from longattn.udfs.models.causal import load_causal_lm
from longattn.udfs.scorers.base import default_k


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("--model", required=True)
    parser.add_argument("--scorers", nargs="+", default=["fargain", "recall", "longattn"])
    parser.add_argument("--tokens", type=int, default=Recipe.tokens)
    parser.add_argument("--step-tokens", type=int, default=Recipe.step_tokens)
    parser.add_argument(
        "--held-out", type=int, default=64, help="windows that models are judged on"
    )
    given = parser.parse_args()
    recipe = replace(Recipe(), tokens=given.tokens, step_tokens=given.step_tokens)
    print(RULE, flush=True)
    base = load_causal_lm(given.model, "float32", "auto", scorer="training").model
    base.set_attn_implementation("sdpa")
    pool = read_pool(given.root)
    measured = pd.DataFrame(compare(base, pool, given.scorers, recipe, given.held_out))
    print(f"\n{base.config.model_type}, {torch.__version__}, {base.device}, {recipe}\n")
    print(_markdown(measured.drop(columns="seed").groupby("arm", sort=False).mean().reset_index()))
    print(_markdown(verdicts(measured)))


def compare(
    base: Any, pool: pd.DataFrame, scorers: list[str], recipe: Recipe, held_out: int
) -> Iterator[dict[str, Any]]:
    """A row of measures for the base model's copy trained on each arm, for each seed."""
    kept, tested = split(pool)
    windows = [np.asarray(ids, np.int64) for ids in tested["token_ids"][:held_out]]
    k = default_k(len(windows[0]))
    keys = key_tokens(base, windows, k)
    for seed in recipe.seeds:
        for arm in arms(kept, scorers):
            model = copy.deepcopy(base).requires_grad_(True)
            order = sequences(
                kept, arm, recipe.tokens, recipe.short_share, recipe.short_length, seed
            )
            losses = train(model, order, recipe)
            measured = judge(model, windows, keys, k, recipe.short_length)
            print(f"{arm.name}, seed {seed}: training loss {losses[-1]:.4f}", flush=True)
            yield {"arm": arm.name, "seed": seed, **measured}


def _markdown(table: pd.DataFrame) -> str:
    lines = [" | ".join(map(str, table.columns)), " | ".join("---" for _ in table.columns)]
    for row in table.itertuples(index=False):
        lines.append(" | ".join(f"{x:.4f}" if isinstance(x, float) else str(x) for x in row))
    return "\n".join(f"| {line} |" for line in lines) + "\n"


if __name__ == "__main__":
    main()
