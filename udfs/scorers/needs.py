"""What a scorer needs: its files, its tokenizer, text that is valid, something far."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from longattn.udfs.documents.records import Refused, utf8
from longattn.udfs.errors import extras_named
from longattn.udfs.scorers.background import SHIPPED
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.registry import load_scorer, plugin, reads_model
from longattn.udfs.text import words

SHARE = 8  # of a window, the part that `recall` may take for near: 1,024 tokens of 8,192


def own_tokenizer(spec: ScorerSpec) -> str:
    """Folder, file or hub id of the tokenizer that a scorer's model reads; `words` without a model.

    A model in a folder has it there. Of another, as a .gguf file, a scorer is made that has it.
    """
    if not reads_model(spec.scorer):
        return words.NAME
    if spec.scorer == "longattn" and not Path(spec.model).is_dir():
        return with_folder(spec).model
    if spec.scorer == "calibrated":
        from longattn.udfs.scorers.kinds.calibrated import Calibration

        return Calibration.read(spec.model).tokenizer
    return spec.model


def files_of(spec: ScorerSpec) -> list[str]:
    """Files and folders that a scorer reads; of a calibration, those of its cheap scorers too.

    What is no path, as a hub id, may be among them.
    """
    own = [path for path in (spec.model, spec.background) if path]
    if spec.scorer != "calibrated":
        return own
    from longattn.udfs.scorers.kinds.calibrated import Calibration

    return own + [path for cheap in Calibration.read(spec.model).cheap for path in files_of(cheap)]


def invalid(text: str) -> tuple[str, str] | None:
    """Reason and detail for a text that UTF-8 cannot write; the job `ingest` refuses it alike."""
    try:
        utf8(text)
    except Refused as refused:
        return refused.reason, refused.detail
    return None


def with_folder(spec: ScorerSpec) -> ScorerSpec:
    """The spec with a scorer's folder; of a checkpoint one is made, for longattn alone, once."""
    if spec.scorer != "longattn":
        return spec
    with extras_named():
        from longattn.udfs.models.build import scorer_folder

        return replace(spec, model=str(scorer_folder(spec.model, spec.layers)))


def with_background(spec: ScorerSpec, tokenizer: str) -> ScorerSpec:
    """The spec, with the background that is shipped for the tokenizer `words` if it names none."""
    takes = spec.background is None and "background" in plugin(spec.scorer).settings
    return replace(spec, background=SHIPPED) if takes and tokenizer == words.NAME else spec


def unfit(spec: ScorerSpec, length: int) -> str | None:
    """Why nothing in a window of `length` tokens is far for the scorer; None where something is.

    A scorer that reads a model is not asked, as loading it may cost minutes: it needs no more than
    a k, where it is given one, that is smaller than the window.
    """
    if not reads_model(spec.scorer):
        refused = load_scorer(spec).refusal(np.zeros(length, np.int64))
        why = refused and refused[1]
    else:
        why = f"{length} tokens; k is {spec.k}" if length <= (spec.k or 0) else None
    return f"{spec.scorer} finds nothing far in such a window ({why})" if why else None


def has_k(spec: ScorerSpec) -> bool:
    """Whether a scorer has a minimum distance that can be set."""
    return "k" in plugin(spec.scorer).settings


def remedy(spec: ScorerSpec, length: int, key: str) -> str:
    """What to change where a scorer is `unfit`: its k, called `key`, where that is enough.

    >>> remedy(ScorerSpec(scorer="recall"), 256, "k=")
    'say k=32, or take longer windows'
    >>> remedy(ScorerSpec(scorer="seams"), 256, "k=")
    'take longer windows'
    """
    smaller = max(1, length // SHARE)
    if not has_k(spec) or unfit(replace(spec, k=smaller), length):
        return "take longer windows"
    return f"say {key}{smaller}, or take longer windows"
