"""The expensive truth: how much a language model gains from the far context of a window."""

from functools import cache
from typing import Any

import numpy as np
import torch

from benchmarks.evidence.corpus import Tokens, Vocabulary, Window, versions
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.kinds.prolong import load_prolong

JUDGED = 1024  # last tokens of a window, whose loss is taken
KEPT = 1024  # tokens before them that the model still sees when the far context is cut


def far_gain(model: Any, token_ids: Tokens) -> float:
    """Fall of the mean loss of the last tokens when the model sees the whole window; nats a token.

    Cut off, the model reads the last KEPT + JUDGED tokens alone, so that what is left out does not
    reach them through earlier positions either.
    """
    return _loss(model, token_ids[-KEPT - JUDGED :]) - _loss(model, token_ids)


def gains_of_window(
    numbered: tuple[int, Window], vocabulary: Vocabulary, model: str, names: tuple[str, ...]
) -> list[dict[str, object]]:
    """One row for each version named; the versions that scoring.score_window scores."""
    number, window = numbered
    texts = versions(window, vocabulary, np.random.default_rng([number, len(window.token_ids)]))
    place = {"domain": window.domain, "document": window.document, "window": number}
    return [
        {
            **place,
            "scorer": "far gain",
            "version": name,
            "ds": far_gain(_loaded(model), texts[name]),
        }
        for name in names
    ]


@torch.inference_mode()
def _loss(model: Any, token_ids: Tokens) -> float:
    ids_BL = torch.as_tensor(token_ids)[None]
    logits_BLV = model(ids_BL, logits_to_keep=JUDGED + 1).logits[:, :-1]
    loss = torch.nn.functional.cross_entropy(logits_BLV.transpose(1, 2), ids_BL[:, -JUDGED:])
    return float(loss)


@cache
def _loaded(model: str) -> Any:
    return load_prolong(ScorerSpec(scorer="prolong", model=model, device="cpu")).prolong.model
