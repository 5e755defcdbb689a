"""Scorers by name: what a scorer is asked for, what it gives back, and what its version says.

A new scorer is one entry of SCORERS. Its module is imported only where it is used, so the driver
can name a scorer's version without torch.
"""

import hashlib
import importlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from udfs.errors import ConfigError, did_you_mean

TokenIds = NDArray[np.int64]
DTYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "float64": "f64"}


@dataclass(frozen=True, kw_only=True)
class ScorerSpec:
    """All that a score depends on, and how to compute it; plain values, so any closure carries it.

    `k` None means k = L/4 of each window, `sample_rows` None all rows, `threads` None one.
    """

    scorer: str = "longattn"
    model: str = "data/scorer"
    k: int | None = None
    sample_rows: int | None = None
    sample_keys: int = 384  # with sample_rows: keys that estimate the other rows; 0 none
    layers: tuple[int, ...] = (0,)
    dtype: str = "float32"
    device: str = "auto"
    rope_theta: float | None = None
    bos: bool = False
    batch_tokens: int = 65_536
    threads: int | None = None
    seed: int = 0
    pairs: int = 500  # of segments, per window; for prolong

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "ScorerSpec":
        fields = json.loads(text)
        return ScorerSpec(**{**fields, "layers": tuple(fields["layers"])})


class Score(TypedDict):
    """Statistics of one window; the names are columns of the table `scores`."""

    n_tokens: int  # L, BOS included
    k: int
    ds: float
    du: float
    ds_se: float
    du_se: float
    rows_sampled: int
    head_s1: list[float]  # layer by layer in the scorer's order, heads within
    head_s2: list[float]


class Scorer(Protocol):
    """What `udfs.scoring` drives."""

    version: str

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        """Reason and detail for a window that cannot be scored, None for one that can."""

    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        """Score windows of one length, in order."""


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """Where a scorer lives: two functions of a ScorerSpec, as `module:function`."""

    load: str  # -> Scorer; may be slow, runs once per worker process
    version: str  # -> str; cheap, runs on the driver without torch


SCORERS = {
    "longattn": Plugin(
        load="udfs.longattn:load_longattn", version="udfs.checkpoint:longattn_version"
    ),
    "cohesion": Plugin(load="udfs.cohesion:Cohesion", version="udfs.cohesion:cohesion_version"),
    "prolong": Plugin(load="udfs.prolong:load_prolong", version="udfs.prolong:prolong_version"),
    "random": Plugin(load="udfs.scorers:RandomScorer", version="udfs.scorers:random_version"),
    "recurrence": Plugin(
        load="udfs.recurrence:Recurrence", version="udfs.recurrence:recurrence_version"
    ),
}


def load_scorer(spec: ScorerSpec) -> Scorer:
    """Load the scorer that a spec names; raises ConfigError for an unknown name."""
    scorer: Scorer = _named(_plugin(spec).load)(spec)
    return scorer


def scorer_version(spec: ScorerSpec) -> str:
    """Name everything a score depends on, without loading the model.

    For example `longattn:SmolLM2-135M@ab12cd34:theta=100000:k=2048:L0:f32:all`. Scores of two
    versions never mix.
    """
    version: str = _named(_plugin(spec).version)(spec)
    return version


def random_version(spec: ScorerSpec) -> str:
    return f"random:seed={spec.seed}"


class RandomScorer:
    """The control: one pseudo-head whose statistics are a seeded hash of the window's tokens."""

    def __init__(self, spec: ScorerSpec) -> None:
        self.version = random_version(spec)
        self.spec = spec

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        return None

    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        return [self._score_one(ids) for ids in token_ids]

    def _score_one(self, token_ids: TokenIds) -> Score:
        digest = hashlib.sha256(str(self.spec.seed).encode() + token_ids.astype("<i8").tobytes())
        s1, s2 = (int.from_bytes(digest.digest()[i : i + 6], "big") / 2**48 for i in (0, 6))
        length = len(token_ids)
        return one_head(length, self.spec.k or max(1, default_k(length)), ds=s1, du=-s2)


def default_k(length: int) -> int:
    """A quarter of the window, exactly L - 3 * (L // 4).

    >>> default_k(8192), default_k(10)
    (2048, 4)
    """
    return length - 3 * (length // 4)


def one_head(length: int, k: int, *, ds: float, du: float) -> Score:
    """The score of a method without heads: sums of one head whose DS and DU are the given ones."""
    return Score(
        n_tokens=length,
        k=k,
        ds=ds,
        du=du,
        ds_se=0.0,
        du_se=0.0,
        rows_sampled=length,
        head_s1=[ds * length],
        head_s2=[-du * (length * length - 1) + ds * ds],
    )


def unknown_ids(token_ids: TokenIds, known: int) -> tuple[str, str] | None:
    """Reason and detail for a window, not empty, with ids that a vocabulary of `known` lacks."""
    if token_ids.min() < 0 or token_ids.max() >= known:
        return "bad_token_id", f"ids {token_ids.min()} to {token_ids.max()}; there are {known}"
    return None


def _plugin(spec: ScorerSpec) -> Plugin:
    if spec.scorer not in SCORERS:
        raise ConfigError(
            f"score.scorer: unknown scorer {spec.scorer}{did_you_mean(spec.scorer, SCORERS)}"
        )
    return SCORERS[spec.scorer]


def _named(reference: str) -> Callable[[ScorerSpec], Any]:
    module, _, name = reference.partition(":")
    function: Callable[[ScorerSpec], Any] = getattr(importlib.import_module(module), name)
    return function
