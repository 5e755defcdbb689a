"""Windows as JSON lines: what `longattn score-window` reads and prints."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from longattn.udfs.errors import UserError
from longattn.udfs.scorers.base import Score, Scorer, ScorerSpec, TokenIds
from longattn.udfs.scorers.registry import load_scorer
from longattn.udfs.scorers.worker import Meter, score_windows

Draw = Callable[[Scorer, TokenIds], None]


def score_window_lines(
    lines: Iterator[str], spec: ScorerSpec, draw: Draw | None = None
) -> Iterator[str]:
    """Score JSON lines with `input_ids` or `text`; for each a JSON line of its statistics.

    ds, du, ds_per_head, var_per_head (matrix support), n_tokens, k. ids are scored as given; BOS is
    put before them only when the spec says so. `draw` is called with the scorer and the first
    window. Raises UserError with the number of a line that cannot be scored.
    """
    scorer = load_scorer(spec)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        token_ids = _parse_window(line, number, spec)
        (result,) = score_windows([token_ids], scorer, spec.batch_tokens, Meter())
        if isinstance(result, tuple):
            raise UserError(f"line {number}: {result[0]}: {result[1]}")
        if draw:
            draw(scorer, token_ids)
            draw = None
        yield json.dumps(_per_head(result))


def _parse_window(line: str, number: int, spec: ScorerSpec) -> TokenIds:
    """Token ids of one JSON line; raises UserError naming the line."""
    try:
        fields = json.loads(line)
        if not isinstance(fields, dict) or not {"input_ids", "text"} & fields.keys():
            raise ValueError('expected {"input_ids": [...]} or {"text": "..."}')
        ids = fields["input_ids"] if "input_ids" in fields else _tokenised(fields["text"], spec)
        token_ids = np.asarray(ids)
        if token_ids.ndim != 1 or not (token_ids.size == 0 or token_ids.dtype.kind in "iu"):
            raise ValueError("input_ids must be a list of whole numbers")
    except (ValueError, TypeError) as error:
        raise UserError(f"line {number}: {error}") from None
    return token_ids.astype(np.int64)


def _tokenised(text: str, spec: ScorerSpec) -> list[int]:
    from longattn.udfs.models.build import scorer_folder
    from longattn.udfs.text.tokens import load_tokenizer

    tokenizer = load_tokenizer(str(scorer_folder(spec.model, spec.layers)))
    ids: list[int] = tokenizer.encode(text).ids
    return ids


def _per_head(score: Score) -> dict[str, Any]:
    length, entries = score["n_tokens"], score["n_tokens"] ** 2
    s1_H, s2_H = np.array(score["head_s1"]), np.array(score["head_s2"])
    return {
        "ds": score["ds"],
        "du": score["du"],
        "ds_per_head": (s1_H / length).tolist(),
        "var_per_head": ((s2_H - s1_H**2 / entries) / (entries - 1)).tolist(),
        "n_tokens": length,
        "k": score["k"],
    }
