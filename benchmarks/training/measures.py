"""What a trained model is judged by, all of it continuous: losses and log-likelihoods, in nats.

Shapes: N tokens of a window, D distances.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.training.arms import Tokens
from longattn.udfs.models.causal import CausalLM
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.kinds.fargain import KEY_GAIN, KEY_LOSS, FarGain, longfilter

Floats = NDArray[np.float64]
PASSAGE = 64  # tokens of a copied passage
PAIR = 4  # tokens of a key, and of its value


def judge(
    model: Any, held_out: list[Tokens], keys: list[NDArray[np.bool_]], k: int, short_length: int
) -> dict[str, float]:
    """All measures of a model, means over held-out windows.

    loss_P: mean loss of the tokens at positions [P, 2P); far_gain: LongFilter's score by the model
    itself; key_loss: of the tokens that the base model calls key; copy_D and pair_D:
    log-likelihood a token of what is repeated from D tokens before; short_loss: of pieces alone.
    """
    lm = CausalLM(model)
    both = _gains(lm, k).losses(held_out)
    measured = {f"loss_{start}": value for start, value in _by_position([ll for ll, _ in both])}
    measured["far_gain"] = float(np.mean([longfilter(*losses) for losses in both]))
    of_keys = np.concatenate([ll[key_N] for (ll, _), key_N in zip(both, keys, strict=True)])
    measured["key_loss"] = float(of_keys.mean()) if len(of_keys) else math.nan
    length = len(held_out[0])
    for distance in distances(length):
        measured[f"copy_{distance}"] = _mean(lm, held_out, with_copy(distance), PASSAGE)
        measured[f"pair_{distance}"] = _mean(lm, held_out, with_pair(distance, lm.vocab_size), PAIR)
    pieces = [ids[start : start + short_length] for ids in held_out for start in (0, length // 2)]
    measured["short_loss"] = -_mean(lm, pieces, lambda ids, _: ids, short_length - 1)
    return measured


def key_tokens(model: Any, held_out: list[Tokens], k: int) -> list[NDArray[np.bool_]]:
    """LongPPL's key tokens by this model; they are fixed once, by the base, for all arms."""
    both = _gains(CausalLM(model), k).losses(held_out)
    return [(np.nan_to_num(ls - ll) > KEY_GAIN) & (ll < KEY_LOSS) for ll, ls in both]


def distances(length: int) -> list[int]:
    """Powers of two from an eighth of the window on, that leave room for what is planted."""
    powers = [1 << bit for bit in range(length.bit_length()) if length // 8 <= 1 << bit < length]
    return [distance for distance in powers if distance + PASSAGE <= length]


def with_copy(distance: int) -> Callable[[Tokens, np.random.Generator], Tokens]:
    """Make the last PASSAGE tokens those that stood `distance` tokens before them."""

    def plant(token_ids: Tokens, _: np.random.Generator) -> Tokens:
        planted = token_ids.copy()
        start = len(planted) - PASSAGE
        planted[start:] = token_ids[start - distance : start - distance + PASSAGE]
        return planted

    return plant


def with_pair(distance: int, vocabulary: int) -> Callable[[Tokens, np.random.Generator], Tokens]:
    """Plant a random key and its value, and the two again at the end, `distance` tokens on."""

    def plant(token_ids: Tokens, rng: np.random.Generator) -> Tokens:
        pair = rng.integers(0, vocabulary, 2 * PAIR)
        planted = token_ids.copy()
        start = len(planted) - len(pair)
        planted[start:] = pair
        planted[start - distance : start - distance + len(pair)] = pair
        return planted

    return plant


def _gains(lm: CausalLM, k: int) -> FarGain:
    return FarGain(lm, ScorerSpec(scorer="fargain", k=k), "fargain")


def _by_position(losses: list[Floats]) -> list[tuple[int, float]]:
    mean_N = np.mean(losses, axis=0)
    starts = [1 << bit for bit in range(len(mean_N).bit_length()) if 1 << bit < len(mean_N)]
    return [(start, float(mean_N[start : 2 * start].mean())) for start in starts]


def _mean(
    lm: CausalLM,
    windows: list[Tokens],
    plant: Callable[[Tokens, np.random.Generator], Tokens],
    last: int,
) -> float:
    """Mean log-likelihood of the last tokens of windows in which something was planted."""
    means = []
    for number, ids in enumerate(windows):
        planted = plant(ids, np.random.default_rng(number))
        with torch.inference_mode():
            means.append(float(lm.losses(torch.from_numpy(planted)[None], last).mean()))
    return -float(np.mean(means))
