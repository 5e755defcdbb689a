"""Scores of texts without Spark: `longattn.score`.

A text becomes windows of one length, as the job `windows` cuts them, and every window a row.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from longattn.udfs.errors import ConfigError, UserError, did_you_mean
from longattn.udfs.scorers.base import Score, Scorer, ScorerSpec
from longattn.udfs.scorers.needs import advised_k, own_tokenizer, unfit
from longattn.udfs.scorers.registry import load_scorer, reads_model
from longattn.udfs.scorers.worker import Meter, Refusal, score_windows
from longattn.udfs.text.tokens import Tokens, encode_long, load_tokenizer, tokenizer_name
from longattn.udfs.windows.spans import STRATEGIES, Span

WINDOW = 8192  # tokens; what docs/evidence.md measured scorers at
TOGETHER = 64  # texts in memory at a time

# A row's fields, and what they are in pandas; the first three say which window of which text.
STRUCT = {
    "window": "Int32",
    "start_char": "Int64",
    "end_char": "Int64",
    "n_tokens": "Int64",
    "k": "Int64",
    "ds": "float64",
    "du": "float64",
    "measures": "object",
    "reason": "object",
    "detail": "object",
}
Row = dict[str, Any]


def score(
    texts: Any,
    scorer: str = "recall",
    *,
    window: int = WINDOW,
    tokenizer: str | None = None,
    model: str | None = None,
    column: str = "text",
    strategy: str = "longattn",
    **settings: Any,
) -> pd.DataFrame:
    """Score texts and return a DataFrame, a row per window of `window` tokens.

    `texts` is a list or any iterable of strings, a pandas Series, or a pandas DataFrame or Hugging
    Face dataset with the strings in `column`. The index of the result, `text`, leads back to them:
    the label in pandas, else the position from 0.

    A text longer than `window` gives several windows, cut from both ends inwards (`strategy`:
    longattn, tile or truncate). One that is shorter, or that the scorer refuses, gives one row
    without a score, whose `reason` and `detail` say why. Columns:

    - `window`: 0, 1, ... within the text; `start_char`, `end_char`: the window is
      `text[start_char:end_char]`; `n_tokens`: its length in tokens, BOS included
    - `ds`: what the scorer measures, more is better, and `du`: minus its variance, or what else
      the scorer says there; `k`: tokens from which on it counts as far
    - `measures`: a dict of what else it knows of the window, None where it knows nothing else
    - `scorer`, `tokenizer`: names of all that the score depends on. Compare no scores of two names

    A scorer with a model (`model`: folder, .gguf file or hub id) reads with that model's tokenizer.
    One without takes `tokenizer`: a folder, a tokenizer.json or a hub id; by default `words`, which
    splits text into words and marks and needs no download. Other `settings` are those of
    `ScorerSpec`, such as k, seed, device or dtype, and the defaults are the jobs' own: the job
    `score` gives the same numbers under the same names.

    Raises ConfigError for an unknown scorer or setting, and for a window in which nothing is far
    for the scorer, as one of 2,048 tokens for `recall`, whose k is 1,024: then say k. Raises
    UserError for what holds no texts.

    >>> far = "The harbour master kept a ledger of every ship. "
    >>> text = far + " ".join(f"word{i}" for i in range(200)) + " " + far
    >>> table = score([text, "too short"], scorer="recurrence", window=128)
    >>> table[["window", "n_tokens", "reason"]].values.tolist()
    [[0, 128, None], [1, 128, None], [<NA>, 2, 'too_short']]
    >>> table.index.tolist(), table["tokenizer"].unique().tolist()
    ([0, 0, 1], ['words@1'])
    """
    task = windowed(scorer, window, tokenizer, model, strategy, settings)
    loaded = Loaded(task)
    index, rows = [], []
    for label, found in loaded.rows(labelled(texts, column)):
        index += [label] * len(found)
        rows += found
    return _frame(index, rows, loaded)


@dataclass(frozen=True, kw_only=True)
class Windowed:
    """Which windows of a text are scored, and how; plain values, so that a closure carries it."""

    spec: ScorerSpec
    tokenizer: str
    length: int  # tokens of text: one less than a window with BOS
    strategy: str


def windowed(
    scorer: str,
    window: int,
    tokenizer: str | None,
    model: str | None,
    strategy: str,
    settings: dict[str, Any],
) -> Windowed:
    """Check what was asked for; raises ConfigError, one line."""
    if strategy not in STRATEGIES:
        raise ConfigError(f"strategy: unknown {strategy}{did_you_mean(strategy, STRATEGIES)}")
    if not isinstance(window, int) or window < 8:
        raise ConfigError(f"window: 8 tokens or more, got {window!r}")
    spec = _spec(scorer, model, settings)
    if problem := unfit(spec, window):
        raise ConfigError(f"window: {problem}: say k={advised_k(window)}, or a longer window")
    return Windowed(
        spec=spec,
        tokenizer=tokenizer or own_tokenizer(spec),
        length=window - spec.bos,
        strategy=strategy,
    )


class Loaded:
    """A scorer and a tokenizer at hand; scores texts, a list of rows for each."""

    def __init__(self, task: Windowed, scorer: Scorer | None = None) -> None:
        self.task = task
        self.scorer = scorer or load_scorer(task.spec)
        self.tokenizer = load_tokenizer(task.tokenizer)

    def rows(self, texts: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, list[Row]]]:
        """For every (label, text) the label and rows of STRUCT; windows of texts go together."""
        coming = iter(texts)
        while chunk := list(islice(coming, TOGETHER)):
            yield from zip((label for label, _ in chunk), self._scored(chunk), strict=True)

    def _scored(self, chunk: list[tuple[Any, Any]]) -> list[list[Row]]:
        tokens = [self._tokens(label, text) for label, text in chunk]
        spans = [self._spans(t) for t in tokens]
        cut = [(t, span) for t, s in zip(tokens, spans, strict=True) if t for span in s]
        windows = [t.ids[a:b].astype(np.int64) for t, (a, b) in cut]
        results = iter(score_windows(windows, self.scorer, self.task.spec.batch_tokens, Meter()))
        return [
            [_row(t, i, span, next(results)) for i, span in enumerate(s)] or [self._unscored(t)]
            for t, s in zip(tokens, spans, strict=True)
        ]

    def _tokens(self, label: Any, text: Any) -> Tokens | None:
        if text is None or text is pd.NA or (isinstance(text, float) and np.isnan(text)):
            return None
        if not isinstance(text, str):
            raise UserError(f"text {label!r}: expected a string, got a {type(text).__name__}")
        return encode_long(self.tokenizer, text)

    def _spans(self, tokens: Tokens | None) -> list[Span]:
        cut = STRATEGIES[self.task.strategy]
        return [] if tokens is None else cut(len(tokens), self.task.length)

    def _unscored(self, tokens: Tokens | None) -> Row:
        """The one row of a text without a window."""
        row: Row = dict.fromkeys(STRUCT)
        if tokens is None:
            return row | {"reason": "null_text", "detail": "no text"}
        length, count = self.task.length, len(tokens)
        detail = f"{count:,} tokens; a window has {length:,}"
        return row | {"n_tokens": count, "reason": "too_short", "detail": detail}


def labelled(texts: Any, column: str) -> Iterator[tuple[Any, Any]]:
    """Pairs of a label and a text from whatever holds texts.

    >>> list(labelled(pd.Series(["a", "b"], index=["x", "y"]), "text"))
    [('x', 'a'), ('y', 'b')]
    """
    if isinstance(texts, str):
        return iter([(0, texts)])
    if isinstance(texts, pd.Series):
        return zip(texts.index, texts, strict=True)
    if isinstance(texts, pd.DataFrame):
        _check_column(column, list(texts.columns))
        return zip(texts.index, texts[column], strict=True)
    if isinstance(texts, Mapping):
        raise UserError(f"texts under several names: give those of one of {', '.join(texts)}")
    if hasattr(
        texts, "select_columns"
    ):  # a Hugging Face dataset; a stream may not know its columns
        _check_column(column, texts.column_names or [column])
        return ((i, row[column]) for i, row in enumerate(texts.select_columns([column])))
    if not isinstance(texts, Iterable):
        raise UserError(f"expected texts, got a {type(texts).__name__}")
    return enumerate(texts)


def _check_column(column: str, names: list[str]) -> None:
    if column not in names:
        raise UserError(f"column: no {column} among the columns{did_you_mean(column, names)}")


def _spec(scorer: str, model: str | None, settings: dict[str, Any]) -> ScorerSpec:
    known = {field.name for field in fields(ScorerSpec)} - {"scorer", "model"}
    for name in settings:
        if name not in known:
            raise ConfigError(f"unknown setting {name}{did_you_mean(name, known)}")
    if reads_model(scorer) and model is None:
        raise ConfigError(f"scorer {scorer} needs model=: a folder, a .gguf file or a hub id")
    given = {"scorer": scorer, **({"model": model} if model else {}), **settings}
    if "layers" in given:
        given["layers"] = tuple(given["layers"])
    return ScorerSpec(**given)


def _row(tokens: Tokens | None, index: int, span: Span, result: Score | Refusal) -> Row:
    assert tokens is not None  # a text that is none has no span
    row: Row = dict.fromkeys(STRUCT)
    row |= {"window": index, "n_tokens": span.end - span.start}
    row |= {"start_char": tokens.char_at(span.start), "end_char": tokens.char_at(span.end)}
    if isinstance(result, tuple):
        return row | {"reason": result[0], "detail": result[1]}
    known = {name: result[name] for name in ("n_tokens", "k", "ds", "du")}
    return row | known | {"measures": result.get("measures")}


def _frame(index: list[Any], rows: list[Row], loaded: Loaded) -> pd.DataFrame:
    labels = pd.Index(index, name="text")
    columns = {
        name: pd.Series([row[name] for row in rows], index=labels, dtype=kind)
        for name, kind in STRUCT.items()
    }
    names = {"scorer": loaded.scorer.version, "tokenizer": tokenizer_name(loaded.task.tokenizer)}
    return pd.DataFrame(columns, index=labels).assign(**names)
