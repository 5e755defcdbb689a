"""Continue a model on an arm's windows.

Shapes: B windows of a step, L tokens.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.training.arms import Tokens


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is continued; the defaults are those of the comparison on a GPU."""

    tokens: int = 25_000_000  # an arm
    step_tokens: int = 262_144
    learning_rate: float = 1e-4  # falls to 0 along a cosine
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    short_share: float = 0.2
    short_length: int = 1024
    seeds: tuple[int, ...] = (0, 1)


def train(model: Any, windows: Iterable[Tokens], recipe: Recipe) -> list[float]:
    """Train in place, a window at a time within each step; the mean loss of every step.

    bfloat16 products on a GPU, weights and optimiser in float32.
    """
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.learning_rate,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
    )
    steps = _steps(windows, recipe.step_tokens)
    model.train()
    losses = []
    for number, step in enumerate(steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * _cosine(number / len(steps))
        losses.append(_learn(model, step))
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    model.eval()
    return losses


def _learn(model: Any, step: list[Tokens]) -> float:
    """Add up the gradients of a step's mean loss; return that loss."""
    total = 0.0
    for token_ids in step:
        ids_1L = torch.from_numpy(token_ids)[None].to(model.device)
        with torch.autocast(ids_1L.device.type, torch.bfloat16, enabled=ids_1L.is_cuda):
            loss = model(input_ids=ids_1L, labels=ids_1L, use_cache=False).loss / len(step)
        loss.backward()
        total += float(loss.detach())
    return total


def _steps(windows: Iterable[Tokens], step_tokens: int) -> list[list[Tokens]]:
    every = list(windows)
    size = max(1, step_tokens // len(every[0]))
    return [every[start : start + size] for start in range(0, len(every), size)]


def _cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))
