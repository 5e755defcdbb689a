"""Scorers by name.

A new scorer is one entry of SCORERS. Its module is imported only where it is used, so the driver
can name a scorer's version without torch.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from longattn.udfs.errors import ConfigError, did_you_mean
from longattn.udfs.scorers.base import Scorer, ScorerSpec


@dataclass(frozen=True)
class Plugin:
    """Where a scorer lives: two functions of a ScorerSpec, as `module:function`."""

    load: str  # -> Scorer; may be slow, runs once per worker process
    version: str  # -> str; cheap, runs on the driver without torch
    model: bool = True  # whether it reads score.model


ROOM = "longattn.udfs.scorers"
SCORERS = {
    "longattn": Plugin(f"{ROOM}.longattn:load_longattn", f"{ROOM}.versions:longattn_version"),
    "cohesion": Plugin(
        f"{ROOM}.cohesion:Cohesion", f"{ROOM}.cohesion:cohesion_version", model=False
    ),
    "compress": Plugin(
        f"{ROOM}.compress:Compress", f"{ROOM}.compress:compress_version", model=False
    ),
    "fargain": Plugin(f"{ROOM}.fargain:load_fargain", f"{ROOM}.fargain:fargain_version"),
    "ladm": Plugin(f"{ROOM}.ladm:load_ladm", f"{ROOM}.ladm:ladm_version"),
    "prolong": Plugin(f"{ROOM}.prolong:load_prolong", f"{ROOM}.prolong:prolong_version"),
    "random": Plugin(f"{ROOM}.control:RandomScorer", f"{ROOM}.control:random_version", model=False),
    "recall": Plugin(f"{ROOM}.recall:Recall", f"{ROOM}.recall:recall_version", model=False),
    "recurrence": Plugin(
        f"{ROOM}.recurrence:Recurrence", f"{ROOM}.recurrence:recurrence_version", model=False
    ),
}


def load_scorer(spec: ScorerSpec) -> Scorer:
    """Load the scorer that a spec names; raises ConfigError for an unknown name."""
    scorer: Scorer = _named(_plugin(spec.scorer).load)(spec)
    return scorer


def scorer_version(spec: ScorerSpec) -> str:
    """Name everything a score depends on, without loading the model.

    For example `longattn:SmolLM2-135M@ab12cd34:theta=100000:k=2048:L0:f32:all`. Scores of two
    versions never mix.
    """
    version: str = _named(_plugin(spec.scorer).version)(spec)
    return version


def reads_model(scorer: str) -> bool:
    """Whether a scorer reads a model; raises ConfigError for an unknown name."""
    return _plugin(scorer).model


def _plugin(scorer: str) -> Plugin:
    if scorer not in SCORERS:
        raise ConfigError(f"score.scorer: unknown scorer {scorer}{did_you_mean(scorer, SCORERS)}")
    return SCORERS[scorer]


def _named(reference: str) -> Callable[[ScorerSpec], Any]:
    module, _, name = reference.partition(":")
    function: Callable[[ScorerSpec], Any] = getattr(importlib.import_module(module), name)
    return function
