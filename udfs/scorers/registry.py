"""Scorers by name, and which settings each of them has.

A new scorer is one entry of SCORERS, or of a package's entry points in the group longattn.scorers:

    [options.entry_points]
    longattn.scorers =
        mine = my_package.scorer:PLUGIN

A scorer's module is imported only where it is used, so the driver can name a scorer's version
without torch.
"""

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from longattn.udfs.errors import ConfigError, did_you_mean, missing_extra
from longattn.udfs.scorers.base import DTYPES, Scorer, ScorerSpec


@dataclass(frozen=True)
class Plugin:
    """Where a scorer lives: two functions of a ScorerSpec, as `module:function`."""

    load: str  # -> Scorer; may be slow, runs once per worker process
    version: str  # -> str; cheap, runs on the driver without torch
    settings: frozenset[str] = frozenset()  # fields of ScorerSpec, and options, that it understands
    ranks_by: str = "ds"  # what select ranks by when it names this scorer: ds or lds
    model: bool = True  # whether it reads score.model


KINDS = "longattn.udfs.scorers.kinds"
GROUP = "longattn.scorers"
# Settings that every scorer takes: how and where it runs, and the model, which has the tokenizer.
SHARED = frozenset({"scorer", "model", "device", "batch_tokens", "threads", "seed"})


def _own(load: str, version: str, *settings: str, model: bool = False) -> Plugin:
    """A scorer of this package, by places in its room `kinds`."""
    return Plugin(f"{KINDS}.{load}", f"{KINDS}.{version}", frozenset(settings), model=model)


SCORERS = {
    "longattn": Plugin(
        f"{KINDS}.longattn:load_longattn",
        "longattn.udfs.scorers.versions:longattn_version",
        frozenset({"k", "sample_rows", "sample_keys", "layers", "dtype", "rope_theta", "bos"}),
        ranks_by="lds",
    ),
    "calibrated": _own("calibrated:load_calibrated", "calibrated:calibrated_version", model=True),
    "cohesion": _own("cohesion:Cohesion", "cohesion:cohesion_version", "k"),
    "compress": _own("compress:Compress", "compress:compress_version", "k"),
    "fargain": _own(
        "fargain:load_fargain", "fargain:fargain_version", "k", "stride", "dtype", "bos", model=True
    ),
    "ladm": _own("ladm:load_ladm", "ladm:ladm_version", "variant", "dtype", model=True),
    "prolong": _own(
        "prolong:load_prolong", "prolong:prolong_version", "pairs", "dtype", model=True
    ),
    "random": _own("control:RandomScorer", "control:random_version", "k"),
    "recall": _own("recall:Recall", "recall:recall_version", "k", "background"),
    "seams": _own("seams:Seams", "seams:seams_version", "background"),
    "recurrence": _own("recurrence:Recurrence", "recurrence:recurrence_version", "k"),
}

# Of packed windows, which say where documents end; pack.score asks for it, and nothing by name.
CROSS_GAIN = "cross_gain"
PACKED = {
    CROSS_GAIN: Plugin(
        f"{KINDS}.cross:CrossGain",
        f"{KINDS}.cross:cross_gain_version",
        frozenset({"background"}),
        model=False,
    )
}


def load_scorer(spec: ScorerSpec) -> Scorer:
    """Load the scorer that a spec names; raises ConfigError as scorer_version does.

    A package that is missing, as torch is in a plain install, is one more ConfigError.
    """
    try:
        scorer: Scorer = _named(checked(spec).load)(spec)
    except ModuleNotFoundError as error:
        raise ConfigError(f"scorer {spec.scorer}: {missing_extra(error)}") from None
    return scorer


def scorer_version(spec: ScorerSpec) -> str:
    """Name everything a score depends on, without loading the model.

    For example `longattn:SmolLM2-135M@ab12cd34:theta=100000:k=2048:L0:f32:all`. Scores of two
    versions never mix. Raises ConfigError for a scorer that is not known, and for a setting, other
    than its default, that the scorer does not have.
    """
    version: str = _named(checked(spec).version)(spec)
    return version


def checked(spec: ScorerSpec, key: str = "score") -> Plugin:
    """The scorer of a spec, once its settings are looked at; raises ConfigError as above.

    `key` is where they stand in a config.
    """
    entry = plugin(spec.scorer)
    changed = {f.name for f in fields(spec) if getattr(spec, f.name) != f.default} - {"options"}
    given = changed | {name for name, _ in spec.options}
    if foreign := sorted(given - SHARED - entry.settings):
        has = f"it has {', '.join(sorted(entry.settings))}" if entry.settings else "it has none"
        raise ConfigError(f"{key}.{foreign[0]}: {spec.scorer} has no such setting; {has}")
    if spec.dtype not in DTYPES:
        raise ConfigError(
            f"{key}.dtype: unknown {spec.dtype}{did_you_mean(str(spec.dtype), DTYPES)}"
        )
    return entry


def reads_model(scorer: str) -> bool:
    """Whether a scorer reads a model; raises ConfigError for an unknown name."""
    return plugin(scorer).model


def plugin(name: str, key: str = "score.scorer") -> Plugin:
    """The scorer of a name, which the setting `key` has; ConfigError for one that is not known."""
    for ours in (SCORERS, PACKED):
        if name in ours:
            return ours[name]
    if name in _outside():
        loaded: Plugin = _outside()[name].load()
        return loaded
    raise ConfigError(f"{key}: unknown scorer {name}{did_you_mean(name, known_scorers())}")


def known_scorers() -> list[str]:
    """Names of all scorers of windows of one document, of this package first."""
    return [*SCORERS, *(name for name in _outside() if name not in SCORERS)]


@functools.cache
def _outside() -> dict[str, EntryPoint]:
    """Scorers of installed packages, not imported yet; a name of ours stays ours."""
    return {point.name: point for point in entry_points(group=GROUP)}


def _named(reference: str) -> Callable[[ScorerSpec], Any]:
    module, _, name = reference.partition(":")
    function: Callable[[ScorerSpec], Any] = getattr(importlib.import_module(module), name)
    return function
