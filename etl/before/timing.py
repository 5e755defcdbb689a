"""Hours of scoring: timed on this machine, or computed for a GPU that is elsewhere."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from longattn.etl.before.sampling import Range, product
from longattn.udfs.errors import ConfigError
from longattn.udfs.scorers.base import ScorerSpec, TokenIds, with_segments
from longattn.udfs.scorers.needs import unfit
from longattn.udfs.scorers.registry import PACKED, load_scorer, reads_model
from longattn.udfs.scorers.worker import Meter, score_windows

TIMED = 4096  # tokens up to which a window is timed as it is; a longer one by two shorter ones
CASCADE = {8192: 0.57, 32_768: 0.40}  # of exact scoring: docs/performance.md
OWN_ERROR = 0.25  # of a timing: machines differ in load, and worlds in caches
# Windows a second of 32,768 tokens with LLaMA-3.1-8B's first layer: what LongAttn reports for its
# own code (Table 5 of the paper: 36 billion tokens in 50 H800-hours), and the bound that an H100's
# arithmetic sets for our kernel (8 ms a window). Neither was measured with this code.
REPORTED = 6.1
BOUND = {"h100": 125.0, "h800": 125.0, "h200": 125.0, "a100": 40.0}
REFERENCE = 32_768**2 * 32 * 128  # L^2 x heads x head size of that window


def timed(spec: ScorerSpec, length: int, ids: TokenIds) -> Range:
    """CPU seconds for one window of so many tokens on one core of this machine.

    Time is a L + b L^2, so two shorter windows tell that of a long one.
    """
    if reads_model(spec.scorer):
        import torch

        torch.set_num_threads(1)
    lengths = [length] if length <= TIMED else [length // 4, length // 2]
    scorer = load_scorer(replace(spec, device="cpu"))
    window_of = partial(_packed, ids) if spec.scorer in PACKED else partial(np.resize, ids)
    score_windows([window_of(256)], scorer, spec.batch_tokens, Meter())  # warm up
    seconds = []
    for one in lengths:
        started = time.process_time()
        score_windows([window_of(one)], scorer, spec.batch_tokens, Meter())
        seconds.append(time.process_time() - started)
    spent = seconds[0] if len(lengths) == 1 else _extrapolated(length, *seconds)
    return Range(spent, spent, spent).widened(OWN_ERROR)


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
    config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
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
        nearest = min(CASCADE, key=lambda known: abs(known - length))
        otherwise["sampled rows (an eighth)"] = (own * 0.2).widened(0.3)
        otherwise["the cascade"] = (own * CASCADE[nearest]).widened(0.3)
    for scorer in ("recurrence", "cohesion"):
        other = ScorerSpec(scorer=scorer, device="cpu")
        if scorer != spec.scorer and not unfit(other, length):
            otherwise[f"scorer {scorer} (CPU)"] = hours(windows, timed(other, length, ids))
    return otherwise


def hours(windows: Range, seconds: Range) -> Range:
    """Hours of scoring so many windows at so many seconds each."""
    return product(windows, seconds) * (1 / 3600)
