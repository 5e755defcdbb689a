"""Scores of texts without Spark: `longattn.score`.

A text becomes windows of one length, as the job `windows` cuts them, and every window a row.
"""

import multiprocessing
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from io import IOBase
from itertools import chain, islice
from typing import Any

import numpy as np
import pandas as pd

from longattn.udfs.digest import while_unchanged
from longattn.udfs.errors import ConfigError, UserError, did_you_mean
from longattn.udfs.models.precision import dtype_of
from longattn.udfs.scorers.background import refuse_other_ids
from longattn.udfs.scorers.base import Option, Score, Scorer, ScorerSpec
from longattn.udfs.scorers.needs import (
    files_of,
    invalid,
    own_tokenizer,
    remedy,
    unfit,
    with_background,
    with_folder,
)
from longattn.udfs.scorers.registry import (
    PACKED,
    SHARED,
    checked,
    load_scorer,
    plugin,
    reads_model,
    scorer_version,
)
from longattn.udfs.scorers.worker import Meter, Refusal, score_windows
from longattn.udfs.text.tokens import Tokens, encode_long, load_tokenizer, tokenizer_name
from longattn.udfs.windows.spans import LONGEST, STRATEGIES, Span

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
    scorer: str | Sequence[str] = ScorerSpec.scorer,
    *,
    window: int = WINDOW,
    tokenizer: str | None = None,
    model: str | None = None,
    column: str = "text",
    strategy: str = "longattn",
    workers: int = 1,
    progress: bool = False,
    **settings: Any,
) -> pd.DataFrame:
    """Score texts and return a DataFrame, a row per window of `window` tokens.

    `texts` is a list or any iterable of strings, a pandas Series, or a pandas DataFrame or Hugging
    Face dataset with the strings in `column`. The index of the result, `text`, leads back to them:
    the label in pandas, a tuple of a MultiIndex; else the position from 0.

    A text longer than `window` gives several windows, cut from both ends inwards (`strategy`:
    longattn, tile or truncate). One that is shorter, or that the scorer refuses, gives one row
    without a score, whose `reason` and `detail` say why. Columns:

    - `window`: 0, 1, ... within the text; `start_char`, `end_char`: the window is
      `text[start_char:end_char]`; `n_tokens`: its length in tokens, BOS included
    - `ds`: what the scorer measures, more is better, and `du`: minus its variance, or what else
      the scorer says there; `k`: tokens from which on it counts as far
    - `measures`: a dict of what else it knows of the window, None where it knows nothing else
    - `scorer`, `tokenizer`: names of all that the score depends on. Compare no scores of two names

    Several scorers (`["recall", "cohesion"]`) give a row each for every window, and all read with
    one tokenizer. A scorer with a model (`model`: folder, .gguf file or hub id) reads with that
    model's. One without takes `tokenizer`: a folder, a tokenizer.json or a hub id; by default
    `words`, which splits text into words and marks and needs no download. Other `settings` are
    those of `ScorerSpec`, such as k, seed, device or dtype; of several scorers each takes those
    that it has. The defaults are the jobs' own: the job `score` gives the same numbers under the
    same names. `workers` processes score the texts; `progress` draws a bar on stderr.

    Raises ConfigError for an unknown scorer or setting, and for a window in which nothing is far
    for the scorer, as one of 2,048 tokens for `recall`, whose k is 1,024: then say k. Raises
    UserError for what holds no texts, and for the name of a file or folder in the place of text.

    >>> far = "The harbour master kept a ledger of every ship. "
    >>> text = far + " ".join(f"word{i}" for i in range(200)) + " " + far
    >>> table = score([text, "too short"], scorer="recurrence", window=128)
    >>> table[["window", "n_tokens", "reason"]].values.tolist()
    [[0, 128, None], [1, 128, None], [<NA>, 2, 'too_short']]
    >>> table.index.tolist(), table["tokenizer"].unique().tolist()
    ([0, 0, 1], ['words@1'])
    """
    tasks = tasks_of(scorer, window, tokenizer, model, strategy, settings)
    tables = [Table(task) for task in tasks]
    for label, rows in scored(tasks, labelled(texts, column), workers, progress):
        for table, text_rows in zip(tables, rows, strict=True):
            table.add(label, text_rows)
    return pd.concat([table.frame() for table in tables])


def tasks_of(
    scorers: str | Sequence[str],
    window: int,
    tokenizer: str | None,
    model: str | None,
    strategy: str,
    settings: dict[str, Any],
) -> list["Windowed"]:
    """A task for each scorer, all of the same windows; raises ConfigError, one line."""
    wanted = _names(scorers)
    if model is not None and not any(map(reads_model, wanted)):
        raise ConfigError(f"model: none is read by {', '.join(wanted)}: name a scorer that does")
    if isinstance(scorers, str):
        return [_settled(windowed(scorers, window, tokenizer, model, strategy, settings))]
    each = {name: SHARED | plugin(name).settings for name in wanted}
    if stray := set(settings).difference(*each.values()):
        raise ConfigError(f"{min(stray)}: no such setting of {', '.join(wanted)}")
    tasks = [
        windowed(
            name,
            window,
            tokenizer,
            model if reads_model(name) else None,
            strategy,
            {key: value for key, value in settings.items() if key in each[name]},
        )
        for name in wanted
    ]
    # one tokenizer for all, as in a config: that of the first scorer with a model; and one length
    first = next((task for task in tasks if reads_model(task.spec.scorer)), tasks[0])
    length = min(task.length for task in tasks)
    return [_settled(replace(task, tokenizer=first.tokenizer, length=length)) for task in tasks]


def _names(scorers: Any) -> list[str]:
    """The scorers named, each once; raises ConfigError for none, and for what is no name."""
    several = isinstance(scorers, Iterable) and not isinstance(scorers, str)
    named = list(scorers) if several else [scorers]
    for odd in (name for name in named if not isinstance(name, str)):
        raise ConfigError(f"scorer: expected a name, got {odd!r}")
    if not named:
        raise ConfigError("scorer: none named")
    return list(dict.fromkeys(named))


def _settled(task: "Windowed") -> "Windowed":
    """The task, with the background that is shipped for its tokenizer; no other tokenizer's."""
    spec = with_background(task.spec, task.tokenizer)
    refuse_other_ids(spec.background, tokenizer_name(task.tokenizer))
    return replace(task, spec=spec)


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
    if str(strategy) not in STRATEGIES:
        raise ConfigError(f"strategy: unknown {strategy}{did_you_mean(str(strategy), STRATEGIES)}")
    window = whole("window", window, 8)
    if window > LONGEST:
        raise ConfigError(f"window: at most {LONGEST:,} tokens, got {window:,}")
    spec = _spec(scorer, model, settings)
    if scorer in PACKED:
        raise ConfigError(f"scorer: {scorer} is of packed windows, as the jobs make: pack.score")
    if spec.k is not None and spec.k >= window:
        raise ConfigError(f"k: {spec.k} is not below window, {window}: nothing is far")
    if problem := unfit(spec, window):
        raise ConfigError(f"window: {problem}: {remedy(spec, window, 'k=')}")
    return Windowed(
        spec=spec,
        tokenizer=_path("tokenizer", tokenizer) or own_tokenizer(spec),
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
        for chunk in batched(texts):
            yield from zip((label for label, _ in chunk), self.scored(chunk), strict=True)

    def scored(self, chunk: list[tuple[Any, Any]]) -> list[list[Row]]:
        """Rows for each (label, text) of a chunk that fits into memory."""
        tokens = [self._tokens(label, text) for label, text in chunk]
        spans = [self._spans(t) for t in tokens]
        cut = [(t, span) for t, s in zip(tokens, spans, strict=True) for span in s]
        windows = [t.ids[a:b].astype(np.int64) for t, (a, b) in cut if isinstance(t, Tokens)]
        results = iter(score_windows(windows, self.scorer, self.task.spec.batch_tokens, Meter()))
        return [
            [_row(t, i, span, next(results)) for i, span in enumerate(s)] or [self._unscored(t)]
            for t, s in zip(tokens, spans, strict=True)
        ]

    def _tokens(self, label: Any, text: Any) -> Tokens | Refusal:
        if not isinstance(text, str):
            if pd.api.types.is_scalar(text) and pd.isna(text):  # None, NaN, NA and NaT
                return "null_text", "no text"
            raise UserError(f"text {label!r}: expected a string, got {type(text).__name__}")
        if what := _on_disk(text):
            raise UserError(f"text {label!r}: {text} is {what}")
        return invalid(text) or encode_long(self.tokenizer, text)

    def _spans(self, tokens: Tokens | Refusal) -> list[Span]:
        cut = STRATEGIES[self.task.strategy]
        return cut(len(tokens), self.task.length) if isinstance(tokens, Tokens) else []

    def _unscored(self, tokens: Tokens | Refusal) -> Row:
        """The one row of a text without a window."""
        row: Row = dict.fromkeys(STRUCT)
        if isinstance(tokens, tuple):
            return row | {"reason": tokens[0], "detail": tokens[1]}
        length, count = self.task.length, len(tokens)
        detail = f"{count:,} tokens; a window has {length:,}"
        return row | {"n_tokens": count, "reason": "too_short", "detail": detail}


Text = tuple[Any, Any]  # a label, and what should be a string


def batched(texts: Iterable[Text], size: int = TOGETHER) -> Iterator[list[Text]]:
    """Texts in lists of `size`, the last one shorter."""
    coming = iter(texts)
    while chunk := list(islice(coming, size)):
        yield chunk


def scored(
    tasks: Sequence[Windowed], texts: Iterable[Text], workers: int, progress: bool
) -> Iterator[tuple[Any, list[list[Row]]]]:
    """For every text its label and, for each task, its rows; in order, from so many processes."""
    done = _by_each if workers == 1 else _in_processes
    for labels, chunk in _shown(
        done(tasks, batched(texts), whole("workers", workers, 1)), progress
    ):
        yield from zip(labels, zip(*chunk, strict=True), strict=True)


Chunk = tuple[list[Any], list[list[list[Row]]]]  # labels, and for each task a list for each label


def _by_each(
    tasks: Sequence[Windowed], chunks: Iterator[list[Text]], _workers: int
) -> Iterator[Chunk]:
    loaded = [Loaded(task) for task in tasks]
    for chunk in chunks:
        yield [label for label, _ in chunk], [one.scored(chunk) for one in loaded]


def _in_processes(
    tasks: Sequence[Windowed], chunks: Iterator[list[Text]], workers: int
) -> Iterator[Chunk]:
    """As _by_each; a few chunks wait at a time, so that a stream is not read at once."""
    waiting: deque[tuple[list[Any], Future[list[list[list[Row]]]]]] = deque()
    first = list(islice(chunks, workers))  # a process without a chunk would have nothing to do
    with _pool(tasks, max(len(first), 1)) as pool:
        for chunk in chain(first, chunks):
            labels = [label for label, _ in chunk]
            waiting.append((labels, pool.submit(_scored_elsewhere, tuple(tasks), chunk)))
            if len(waiting) > 2 * workers:
                labels, future = waiting.popleft()
                yield labels, future.result()
        for labels, future in waiting:
            yield labels, future.result()


@contextmanager
def _pool(tasks: Sequence[Windowed], workers: int) -> Iterator[ProcessPoolExecutor]:
    """So many processes; raises UserError where they end before their work does."""
    # fork needs no `if __name__ == "__main__"` in a script, and goes wrong only where torch runs
    torch_runs = "torch" in sys.modules and any(reads_model(task.spec.scorer) for task in tasks)
    method = "fork" if hasattr(os, "fork") and not torch_runs else "spawn"
    try:
        with ProcessPoolExecutor(workers, multiprocessing.get_context(method)) as pool:
            yield pool
    except BrokenProcessPool:
        raise UserError(
            "workers: a process ended before its texts were scored: memory ran out, or a script"
            ' calls longattn.score outside of `if __name__ == "__main__":`'
        ) from None


def _scored_elsewhere(tasks: tuple[Windowed, ...], chunk: list[Text]) -> list[list[list[Row]]]:
    return [_loaded(task).scored(chunk) for task in tasks]


@while_unchanged(lambda task: [*files_of(task.spec), task.tokenizer])
def _loaded(task: Windowed) -> Loaded:
    """A task's scorer and tokenizer, loaded once by each process."""
    return Loaded(task)


def _shown(chunks: Iterator[Chunk], progress: bool) -> Iterator[Chunk]:
    """The same chunks, counted on a line of stderr."""
    if not progress:
        yield from chunks
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    parts = SpinnerColumn(), TextColumn("{task.completed:,.0f} texts"), TimeElapsedColumn()
    with Progress(*parts, console=Console(stderr=True)) as bar:
        counted = bar.add_task("score", total=None)
        for labels, chunk in chunks:
            bar.advance(counted, len(labels))
            yield labels, chunk


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
        names = ", ".join(map(str, texts))
        raise UserError(f"texts under several names: give those of one of {names}")
    if hasattr(texts, "select_columns"):  # a Hugging Face dataset
        return enumerate(_of_dataset(texts, column))
    odd = isinstance(texts, bytes | bytearray | IOBase) or getattr(texts, "ndim", 1) != 1
    if odd or not isinstance(texts, Iterable):
        raise UserError(f"expected texts, got {type(texts).__name__}")
    return enumerate(texts)


def _of_dataset(rows: Any, column: str) -> Iterator[Any]:
    """A column of a Hugging Face dataset; of a stream that does not know its columns, by row."""
    if rows.column_names:
        _check_column(column, rows.column_names)
        return (row[column] for row in rows.select_columns([column]))

    def value(row: dict[str, Any]) -> Any:
        _check_column(column, list(row))
        return row[column]

    return map(value, rows)


def _check_column(column: str, names: list[str]) -> None:
    if column not in names:
        hint = did_you_mean(str(column), map(str, names))
        raise UserError(f"column: no {column} among the columns{hint}")
    if names.count(column) > 1:
        raise UserError(f"column: {names.count(column)} columns are called {column}")


def _spec(scorer: str, model: str | None, settings: dict[str, Any]) -> ScorerSpec:
    known = {field.name for field in fields(ScorerSpec)} - {"scorer", "model"}
    for name in settings:
        if name not in known:
            raise ConfigError(f"unknown setting {name}{did_you_mean(name, known)}")
    if reads_model(scorer) and model is None:
        raise ConfigError(f"scorer {scorer} needs model=: a folder, a .gguf file or a hub id")
    given = {"scorer": scorer, **({} if model is None else {"model": model}), **settings}
    given |= {name: READ[name](name, given[name]) for name in READ.keys() & given.keys()}
    if given.get("dtype") == "auto":
        given["dtype"] = dtype_of("auto", given.get("device", ScorerSpec.device))
    spec = ScorerSpec(**given)
    checked(spec)  # before a model is looked for
    return spec


def _path(name: str, value: Any, what: str = "a path or a hub id") -> str | None:
    """A path or hub id as text; raises ConfigError for what is none."""
    if value is None:
        return None
    if isinstance(value, str | os.PathLike) and os.fspath(value):
        return str(os.fspath(value))
    raise ConfigError(f"{name}: expected {what}, got {value!r}")


def whole(name: str, value: Any, least: int | None = None) -> int:
    """A whole number of Python's or numpy's, not below `least`; raises ConfigError."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if whole and (least is None or value >= least):
        return int(value)
    bound = "" if least is None else f" of at least {least}"
    raise ConfigError(f"{name}: a whole number{bound}, got {value!r}")


def _count(name: str, value: Any) -> int | None:
    return None if value is None else whole(name, value, 1)


def _base(name: str, value: Any) -> float | None:
    """The base of rotary positions, a finite number above 0; raises ConfigError."""
    if value is None:
        return None
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if number and 0 < value <= sys.float_info.max:
        return float(value)
    raise ConfigError(f"{name}: a finite number above 0, got {value!r}")


def _word(pattern: str, said: str) -> Callable[[str, Any], str]:
    """A function that reads words of a pattern; its ConfigError says that they are those `said`."""

    def read(name: str, value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        raise ConfigError(f"{name}: {said}, got {value!r}")

    return read


def _switch(name: str, value: Any) -> bool:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise ConfigError(f"{name}: True or False, got {value!r}")


def _layers(name: str, value: Any) -> tuple[int, ...]:
    layers = np.atleast_1d(np.array(value, dtype=object)).tolist()  # lists in it may be of any size
    if not layers:
        raise ConfigError(f"{name}: none named")
    return tuple(whole(name, layer, 0) for layer in layers)


def _background(name: str, value: Any) -> str | None:
    return _path(name, value, "a folder, 'shipped' or 'none'")


def _options(name: str, value: Any) -> tuple[tuple[str, Option], ...]:
    try:
        pairs = tuple(sorted(dict(value).items()))
    except (TypeError, ValueError):
        pairs = ((None, None),)
    if all(isinstance(key, str) and isinstance(option, Option) for key, option in pairs):
        return pairs
    raise ConfigError(f"{name}: expected a dict of names and plain values, got {value!r}")


# How settings become those of a ScorerSpec; each raises ConfigError for what cannot be one.
READ: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("k", "stride", "sample_rows", "threads"), _count),
    **dict.fromkeys(("pairs", "batch_tokens"), partial(whole, least=1)),
    "sample_keys": partial(whole, least=0),
    "seed": whole,
    "rope_theta": _base,
    "device": _word(r"auto|cpu|cuda(:\d+)?", "auto, cpu or cuda"),
    "variant": _word("paper|code", "paper or code"),
    "model": _path,
    "bos": _switch,
    "layers": _layers,
    "background": _background,
    "options": _options,
}


def _on_disk(text: str) -> str | None:
    """What a text is where it is the name of a file or a folder, and so most likely not a text."""
    if not 0 < len(text) < 512 or not text.isprintable():
        return None
    path = os.path.expanduser(text)
    place = ("/" in text or path != text) and text.strip("/~")  # a lone / or ~ is a mark
    if (place or "." in text) and os.path.isfile(path):
        return f"a file, and not its text: give open({path!r}).read()"
    is_folder = place and os.path.isdir(path)
    return "a folder, and not its text: give what its files hold" if is_folder else None


def _row(tokens: Tokens | Refusal, index: int, span: Span, result: Score | Refusal) -> Row:
    assert isinstance(tokens, Tokens)  # a text that is refused has no span
    row: Row = dict.fromkeys(STRUCT)
    row |= {"window": index, "n_tokens": span.end - span.start}
    row |= {"start_char": tokens.char_at(span.start), "end_char": tokens.char_at(span.end)}
    if isinstance(result, tuple):
        return row | {"reason": result[0], "detail": result[1]}
    known = {name: result[name] for name in ("n_tokens", "k", "ds", "du")}
    return row | known | {"measures": result.get("measures")}


class Table:
    """Rows of one task, becoming a DataFrame."""

    def __init__(self, task: Windowed) -> None:
        version = scorer_version(with_folder(task.spec))
        self.names = {"scorer": version, "tokenizer": tokenizer_name(task.tokenizer)}
        self.index, self.rows = list[Any](), list[Row]()

    def add(self, label: Any, rows: list[Row]) -> None:
        self.index += [label] * len(rows)
        self.rows += rows

    def frame(self) -> pd.DataFrame:
        labels = pd.Index(self.index, name="text", tupleize_cols=False)
        columns = {
            name: pd.Series([row[name] for row in self.rows], index=labels, dtype=kind)
            for name, kind in STRUCT.items()
        }
        return pd.DataFrame(columns, index=labels).assign(**self.names)
