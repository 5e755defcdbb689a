"""Windows as JSON lines: what `longattn score-window` reads and prints."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from longattn.udfs.attention.formula import strength, variance
from longattn.udfs.scorers.background import refuse_other_ids
from longattn.udfs.scorers.base import Score, Scorer, ScorerSpec, TokenIds
from longattn.udfs.scorers.needs import invalid, own_tokenizer, with_background
from longattn.udfs.scorers.registry import load_scorer
from longattn.udfs.scorers.worker import Meter, score_windows
from longattn.udfs.text.tokens import load_tokenizer, tokenizer_name

Draw = Callable[[Scorer, TokenIds], None]


def score_window_lines(
    lines: Iterable[str | bytes],
    spec: ScorerSpec,
    draw: Draw | None = None,
    tokenizer: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Score JSON lines with `input_ids` or `text`; an answer for each line that is not blank.

    `tokenizer` reads `text`, and says what `input_ids` are of: by default the model's own, and for
    `text` `words` where the scorer has no model.

    ds, du, ds_per_head, var_per_head (matrix support), n_tokens, k, and measures where the scorer
    has some; for a line that cannot be scored, line (its number, from 1) and error. ids are scored
    as given; BOS is put before them only when the spec says so. `draw` is called with the scorer
    and the first window. The scorer is loaded at once, before any line is read: raises ConfigError
    for an unknown one and ModelError for a model that cannot be used, or ConfigError for a
    background of another tokenizer.
    """
    if tokenizer:
        refuse_other_ids(spec.background, tokenizer_name(tokenizer))
    load = cache(load_scorer)
    load(spec)
    return _answers(lines, spec, load, draw, tokenizer)


def _answers(
    lines: Iterable[str | bytes],
    spec: ScorerSpec,
    load: Callable[[ScorerSpec], Scorer],
    draw: Draw | None,
    tokenizer: str | None,
) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            token_ids, own = _parse_window(line, spec, tokenizer)
            scorer = load(own)
            score = _scored(token_ids, own, scorer)
        except (ValueError, TypeError, RecursionError) as error:
            yield {"line": number, "error": str(error)}
            continue
        if draw:
            draw(scorer, token_ids)
            draw = None
        yield _per_head(score)


def _parse_window(
    line: str | bytes, spec: ScorerSpec, tokenizer: str | None
) -> tuple[TokenIds, ScorerSpec]:
    """Token ids of one JSON line and what scores them; raises ValueError, TypeError or, for JSON
    that is nested too deep, RecursionError.

    Ids are of no known tokenizer unless it is named, and have no shipped background.
    """
    fields = json.loads(line)
    if not isinstance(fields, dict) or not {"input_ids", "text"} & fields.keys():
        raise ValueError('expected {"input_ids": [...]} or {"text": "..."}')
    if "input_ids" not in fields:
        named = tokenizer or own_tokenizer(spec)
        return _tokenised(fields["text"], named), with_background(spec, named)
    token_ids = _whole_numbers(fields["input_ids"])
    return token_ids, with_background(spec, tokenizer) if tokenizer else spec


def _whole_numbers(values: Any) -> TokenIds:
    """Token ids of a list; raises ValueError for what is none, and for what is no id in one."""
    with suppress(OverflowError):
        if isinstance(values, list) and all(type(value) is int for value in values):
            return np.array(values, np.int64)
    raise ValueError("input_ids must be a list of whole numbers")


def _tokenised(text: str, tokenizer: str) -> TokenIds:
    if not isinstance(text, str):
        raise ValueError("text must be a string")
    if refused := invalid(text):
        raise ValueError(": ".join(refused))
    return np.array(load_tokenizer(tokenizer).encode(text).ids, np.int64)


def _scored(token_ids: TokenIds, spec: ScorerSpec, scorer: Scorer) -> Score:
    """As the job scores it; raises ValueError with the reason for a window that it refuses."""
    (result,) = score_windows([token_ids], scorer, spec.batch_tokens, Meter())
    if isinstance(result, tuple):
        raise ValueError(": ".join(result))
    return result


def _per_head(score: Score) -> dict[str, Any]:
    length, entries = max(score["n_tokens"], 1), max(score["n_tokens"] ** 2, 2)
    s1_H, s2_H = np.array(score["head_s1"]), np.array(score["head_s2"])
    measures = {"measures": score["measures"]} if "measures" in score else {}
    return {
        "ds": score["ds"],
        "du": score["du"],
        "ds_per_head": strength(s1_H, length).tolist(),
        "var_per_head": variance(s1_H, s2_H, entries, entries - 1).tolist(),
        "n_tokens": score["n_tokens"],
        "k": score["k"],
        **measures,
    }
