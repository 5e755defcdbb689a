"""Scores for many windows inside one Python worker: batches, prefetch, out of memory, refusals.

A window that cannot be scored leaves with a reason and no statistics, never with a zero.
"""

import logging
import math
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from longattn.udfs.digest import while_unchanged
from longattn.udfs.errors import first_line
from longattn.udfs.scorers.base import Score, Scorer, ScorerSpec, TokenIds, with_segments
from longattn.udfs.scorers.needs import files_of
from longattn.udfs.scorers.registry import load_scorer, reads_model

if TYPE_CHECKING:
    import pandas as pd

Item = TypeVar("Item")
Refusal = tuple[str, str]  # reason, detail
STATISTICS = tuple(Score.__annotations__)
TIMES = ("busy_seconds", "seconds")  # scoring, and scoring or waiting for windows
COLUMNS = ("window_id", "domain", "scorer", *STATISTICS, "reason", "detail", *TIMES)
LOG = logging.getLogger(__name__)


@dataclass
class Meter:
    """How busy the device was kept: seconds with windows in hand, of all seconds."""

    started: float = field(default_factory=time.perf_counter)
    busy_seconds: float = 0.0
    windows: int = 0
    tokens: int = 0
    lapped: tuple[float, float] = (0.0, 0.0)  # busy seconds and seconds up to the last lap

    @property
    def busy_share(self) -> float:
        return self.busy_seconds / (time.perf_counter() - self.started)

    def add(self, windows: list[TokenIds], seconds: float) -> None:
        """Count windows that took so many seconds."""
        self.busy_seconds += seconds
        self.windows += len(windows)
        self.tokens += sum(map(len, windows))

    def lap(self, rows: int) -> dict[str, float]:
        """TIMES since the last lap, for each of some rows."""
        now = (self.busy_seconds, time.perf_counter() - self.started)
        spent = [
            (after - before) / max(rows, 1) for before, after in zip(self.lapped, now, strict=True)
        ]
        self.lapped = now
        return dict(zip(TIMES, spent, strict=True))

    def __str__(self) -> str:
        rate = self.tokens / max(self.busy_seconds, 1e-9)
        return f"{self.windows} windows, {rate:,.0f} tokens/s, busy {self.busy_share:.0%}"


def score_batches(
    batches: Iterator["pd.DataFrame"],
    spec: ScorerSpec,
    gpu_address: str | None = None,
    meter: Meter | None = None,
) -> Iterator["pd.DataFrame"]:
    """Score frames of (window_id, domain, token_ids) to frames of COLUMNS, row for row.

    Packed windows come with segment_tokens, the lengths of their segments.
    Statistics are null where `reason` is set: empty, too_short, too_long, bad_token_id, not_finite,
    out_of_memory. TIMES add up to what this worker spent, its start included. The model is loaded
    once per process; the next frame is fetched while one is scored. Raises ModelError when the
    model or the settings, not the window, are at fault.
    """
    meter = meter or Meter()
    scorer = loaded(spec, gpu_address)
    for frame in prefetched(batches):
        windows = [np.asarray(ids, dtype=np.int64) for ids in frame["token_ids"]]
        if "segment_tokens" in frame:
            windows = list(map(with_segments, windows, frame["segment_tokens"]))
        results = score_windows(windows, scorer, spec.batch_tokens, meter)
        yield _as_frame(frame, results, scorer.version).assign(**meter.lap(len(frame)))
    LOG.info("%s: %s", scorer.version, meter)


def score_windows(
    windows: list[TokenIds], scorer: Scorer, batch_tokens: int, meter: Meter
) -> list[Score | Refusal]:
    """Score windows of any lengths in their order, neighbours of one length together."""
    results: list[Score | Refusal | None] = [scorer.refusal(window) for window in windows]
    good = [i for i, refused in enumerate(results) if refused is None]
    for batch in _batches(good, windows, batch_tokens):
        scored = _score_halving([windows[i] for i in batch], scorer, meter)
        for index, result in zip(batch, scored, strict=True):
            results[index] = result
    return [result for result in results if result is not None]


def prefetched(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the same items, each fetched in a thread while the one before it is worked on."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]


def loaded(spec: ScorerSpec, gpu_address: str | None) -> Scorer:
    """The scorer on the GPU that this task was given, loaded once by each worker process."""
    return _loaded(_on_device(spec, gpu_address))


def _on_device(spec: ScorerSpec, gpu_address: str | None) -> ScorerSpec:
    """The spec with the GPU that this task was given."""
    if gpu_address is None or spec.device == "cpu":
        return spec
    return replace(spec, device=f"cuda:{gpu_address}")


@while_unchanged(files_of)
def _loaded(spec: ScorerSpec) -> Scorer:
    """Load a scorer once, with the threads of one task slot."""
    if reads_model(spec.scorer):
        import torch

        torch.set_num_threads(spec.threads or 1)
    return load_scorer(spec)


def _batches(order: list[int], windows: list[TokenIds], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of windows of one length, at most `batch_tokens` together, at least one window."""
    by_length: dict[int, list[int]] = {}
    for index in order:
        by_length.setdefault(len(windows[index]), []).append(index)
    for length, indices in by_length.items():
        size = max(1, batch_tokens // max(length, 1))  # a plugin may score an empty window
        for start in range(0, len(indices), size):
            yield indices[start : start + size]


def _score_halving(windows: list[TokenIds], scorer: Scorer, meter: Meter) -> list[Score | Refusal]:
    """Score together; where the device's memory is too small, one half after the other."""
    started = time.perf_counter()
    try:
        scored = scorer.score(windows)
    except _out_of_memory() as error:
        reason = first_line(error)
    else:
        meter.add(windows, time.perf_counter() - started)
        return [_finite(score) for score in scored]
    sys.modules["torch"].cuda.empty_cache()
    if len(windows) == 1:
        return [("out_of_memory", f"{len(windows[0])} tokens: {reason}")]
    half = len(windows) // 2
    return [
        *_score_halving(windows[:half], scorer, meter),
        *_score_halving(windows[half:], scorer, meter),
    ]


def _out_of_memory() -> tuple[type[Exception], ...]:
    """The device's error; none without torch, which scorers that read no model never load."""
    torch = sys.modules.get("torch")
    return (torch.cuda.OutOfMemoryError,) if torch else ()


def _finite(score: Score) -> Score | Refusal:
    """The score, or a refusal that names the first of its statistics that is no number."""
    values = {"ds": score["ds"], "du": score["du"], **score.get("measures", {})}
    odd = next((name for name, value in values.items() if not math.isfinite(value)), None)
    return ("not_finite", f"{odd} {values[odd]}: try a wider dtype") if odd else score


def _as_frame(
    frame: "pd.DataFrame", results: list[Score | Refusal], version: str
) -> "pd.DataFrame":
    """Rows of COLUMNS in the frame's order, TIMES still empty."""
    import pandas as pd  # a second that `longattn score-window` starts sooner without

    rows = [_as_row(result) for result in results]
    scored = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    scored["window_id"] = frame["window_id"].to_numpy()
    scored["domain"] = frame["domain"].to_numpy()
    scored["scorer"] = version
    return scored


def _as_row(result: Score | Refusal) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(COLUMNS)
    if isinstance(result, tuple):
        return {**empty, "reason": result[0], "detail": result[1]}
    return {**empty, **result}
