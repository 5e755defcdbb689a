"""What a scorer needs of windows, asked before any is read: its tokenizer, and something far."""

import numpy as np

from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.registry import load_scorer, reads_model
from longattn.udfs.text import words

SHARE = 8  # of a window, the part that `recall` may take for near: 1,024 tokens of 8,192


def own_tokenizer(spec: ScorerSpec) -> str:
    """Folder, file or hub id of the tokenizer that a scorer's model reads; `words` without a model.

    A scorer made of a checkpoint carries the checkpoint's; one that is not made yet is made.
    """
    if not reads_model(spec.scorer):
        return words.NAME
    if spec.scorer == "longattn":
        from longattn.udfs.models.build import scorer_folder

        return str(scorer_folder(spec.model, spec.layers))
    if spec.scorer == "calibrated":
        from longattn.udfs.scorers.kinds.calibrated import Calibration

        return Calibration.read(spec.model).tokenizer
    return spec.model


def unfit(spec: ScorerSpec, length: int) -> str | None:
    """Why nothing in a window of `length` tokens is far for the scorer; None where something is.

    A scorer that reads a model takes a share of the window for near, whatever its length, and is
    not asked: loading it may cost minutes.
    """
    if reads_model(spec.scorer):
        return None
    scorer = load_scorer(spec)
    refused = scorer.refusal(np.zeros(length, np.int64))
    if refused is None and not (spec.scorer == "recall" and length <= 2 * near(spec)):
        return None
    why = refused[1] if refused else f"{length} tokens; k is {near(spec)}"
    return f"{spec.scorer} finds nothing far in such a window ({why})"


def near(spec: ScorerSpec) -> int:
    """The k of `recall`, which judges no token of the first 2k."""
    from longattn.udfs.scorers.kinds.recall import K

    return spec.k or K


def advised_k(length: int) -> int:
    """A k for a window that is too short for a scorer's own.

    >>> advised_k(256), advised_k(8192)
    (32, 1024)
    """
    return max(1, length // SHARE)
