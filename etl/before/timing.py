"""Hours of scoring: timed on this machine, or computed for a GPU that is elsewhere."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from longattn.etl.before.sampling import Range, product
from longattn.etl.before.scoring import model_config
from longattn.udfs.errors import ConfigError
from longattn.udfs.scorers.base import Scorer, ScorerSpec, TokenIds, with_segments
from longattn.udfs.scorers.needs import unfit
from longattn.udfs.scorers.registry import PACKED, load_scorer, reads_model
from longattn.udfs.scorers.worker import Meter, score_windows

TIMED = 4096  # tokens up to which a model is timed on whole windows; a longer one by two shorter
# Tokens of a window: what sampled rows (an eighth) cost of exact scoring, and the cascade on top:
# docs/performance.md.
SAMPLED = {8192: (0.47, 0.61), 32_768: (0.27, 0.40)}
OWN_ERROR = 0.25  # of a timing: machines differ in load, and worlds in caches
# Windows a second of 32,768 tokens with LLaMA-3.1-8B's first layer: what LongAttn reports for its
# own code (Table 5 of the paper: 36 billion tokens in 50 H800-hours), and the bound that an H100's
# arithmetic sets for our kernel (8 ms a window). Neither was measured with this code.
REPORTED = 6.1
BOUND = {"h100": 125.0, "h800": 125.0, "h200": 125.0, "a100": 40.0}
REFERENCE = 32_768**2 * 32 * 128  # L^2 x heads x head size of that window


def timed(spec: ScorerSpec, length: int, ids: TokenIds) -> Range:
    """CPU seconds for one window of so many tokens on one core of this machine.

    A model takes a L + b L^2, so two shorter windows tell what a long one takes, unless it refuses
    them. Raises ConfigError for a scorer that refuses the long one.
    """
    if reads_model(spec.scorer):
        import torch

        torch.set_num_threads(1)
    load = lru_cache(1)(load_scorer)  # two of a large model would not fit

    def scorer_for(one: int) -> Scorer:
        return load(_shortened(spec, one, length))

    window_of = partial(_packed, ids) if spec.scorer in PACKED else partial(np.resize, ids)
    if refused := scorer_for(length).refusal(window_of(length)):
        said = f"{spec.scorer} refuses windows of {length:,} tokens, {refused[1]}"
        raise ConfigError(f"estimate: {said}: no window would be scored")
    quarter, half = length // 4, length // 2
    whole = length <= TIMED or not reads_model(spec.scorer)
    whole = whole or bool(scorer_for(quarter).refusal(window_of(quarter)))
    lengths = [length] if whole else [quarter, half]
    _warm, *seconds = (_seconds(scorer_for(n), window_of(n)) for n in (lengths[0], *lengths))
    spent = seconds[0] if whole else _extrapolated(length, *seconds)
    return Range(spent, spent, spent).widened(OWN_ERROR)


def _shortened(spec: ScorerSpec, one: int, length: int) -> ScorerSpec:
    """The scorer on a CPU, for windows of `one` in place of `length` tokens: what is near shrinks
    with them.
    """
    k, stride = (n and max(1, n * one // length) for n in (spec.k, spec.stride))
    return replace(spec, k=k, stride=stride, device="cpu")


def _seconds(scorer: Scorer, window: TokenIds) -> float:
    """CPU seconds for one window."""
    started = time.process_time()
    score_windows([window], scorer, len(window), Meter())
    return time.process_time() - started


def _packed(ids: TokenIds, length: int) -> TokenIds:
    """A packed window of so many tokens: of four documents, which cost what others do."""
    parts = np.array_split(np.arange(length), 4)
    return with_segments(np.resize(ids, length), np.array(list(map(len, parts))))


def _extrapolated(length: int, quarter: float, half: float) -> float:
    """From times at L/4 and L/2; a negative part is noise, and counts as none."""
    square = max(0.0, (half - 2 * quarter) * 8)  # b L^2
    linear = max(0.0, (quarter - square / 16) * 4)  # a L
    return square + linear


def gpu_seconds(device: str, spec: ScorerSpec, length: int) -> Range:
    """GPU seconds for one window: between the kernel's bound and what the paper's code took."""
    scale = length**2 * _width(spec.model) / REFERENCE * len(spec.layers)
    low, high = scale / BOUND[device], scale / REPORTED
    return Range((low * high) ** 0.5, low, high)


def _width(model: str) -> int:
    """Heads times head size of a model."""
    config = model_config(Path(model))
    heads = int(config["num_attention_heads"])
    return heads * int(config.get("head_dim") or config["hidden_size"] // heads)


def hours_of(
    specs: Sequence[ScorerSpec], length: int, ids: TokenIds, windows: Range, device: str | None
) -> tuple[dict[str, Range], dict[str, Range]]:
    """Core hours and GPU hours of scoring windows, by scorer.

    A GPU elsewhere scores what attention alone decides, for which there is a rate; a scorer that
    reads no model stays on the CPU. Raises ConfigError for another model on such a GPU.
    """
    cpu: dict[str, Range] = {}
    gpu: dict[str, Range] = {}
    for spec in specs:
        if device is None or not reads_model(spec.scorer):
            cpu[spec.scorer] = hours(windows, timed(spec, length, ids))
        elif spec.scorer == "longattn":
            gpu[spec.scorer] = hours(windows, gpu_seconds(device, spec, length))
        else:
            raise ConfigError(f"--device {device}: no rate is known there for {spec.scorer}")
    return cpu, gpu


def variants(
    spec: ScorerSpec, length: int, ids: TokenIds, windows: Range, own: Range
) -> dict[str, Range]:
    """Hours of scoring otherwise: sampled rows, the cascade, scorers without a model."""
    otherwise: dict[str, Range] = {}
    if spec.scorer == "longattn" and spec.sample_rows is None:
        rows, cascade = SAMPLED[min(SAMPLED, key=lambda known: abs(known - length))]
        otherwise["sampled rows (an eighth)"] = (own * rows).widened(0.3)
        otherwise["the cascade"] = (own * cascade).widened(0.3)
    for scorer in ("recurrence", "cohesion"):
        other = ScorerSpec(scorer=scorer, device="cpu")
        if scorer != spec.scorer and not unfit(other, length):
            otherwise[f"scorer {scorer} (CPU)"] = hours(windows, timed(other, length, ids))
    return otherwise


def hours(windows: Range, seconds: Range) -> Range:
    """Hours of scoring so many windows at so many seconds each."""
    return product(windows, seconds) * (1 / 3600)
