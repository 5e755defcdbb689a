"""How far a job is: a bar in a terminal, else a line a minute, for people or as JSON."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, get_args

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from longattn.udfs.redaction import redacted_text

LogFormat = Literal["text", "json"]
LOG_FORMAT = "LONGATTN_LOG_FORMAT"  # the default of --log-format
EVERY = 60.0  # seconds between lines where there is no terminal


class Tick(Protocol):
    """Reports progress: `done` more units, and a word about speed."""

    def __call__(self, done: int, note: str = "") -> None: ...


@dataclass
class State:
    """A task and how far it is."""

    name: str
    unit: str
    total: int | None
    started: float
    done: int = 0
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The state, with seconds so far, the rate per second and seconds left; None if unknown."""
        seconds = time.monotonic() - self.started
        rate = self.done / seconds if self.done and seconds > 0 else None
        left = (self.total - self.done) / rate if rate and self.total is not None else None
        known = {"rate": rate, "seconds_left": left}
        rounded = {k: None if v is None else round(v, 3) for k, v in known.items()}
        base = {"job": self.name, "done": self.done, "total": self.total, "unit": self.unit}
        return base | {"seconds": round(seconds, 1)} | rounded

    def __str__(self) -> str:
        """For example `score: 1,024 of 4,096 windows, 17.1 a second, 3 min left`."""
        parts = [in_words(self.as_dict()), *([self.note] if self.note else [])]
        return f"{self.name}: {', '.join(parts)}"


def in_words(state: Mapping[str, Any]) -> str:
    """For example `1,024 of 4,096 windows, 17.1 a second, 3 min left`, of `State.as_dict`."""
    parts = [_count(state)] if state["done"] or state["total"] is not None else []
    parts += [f"{state['rate']:,.3g} a second"] if state["rate"] else []
    parts += [f"{_duration(state['seconds_left'])} left"] if state["seconds_left"] else []
    if not state["seconds_left"]:
        parts.append(f"{_duration(state['seconds'])} so far")
    return ", ".join(parts)


def _count(state: Mapping[str, Any]) -> str:
    total = "" if state["total"] is None else f" of {state['total']:,}"
    return f"{state['done']:,}{total} {state['unit']}"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"


class Progress:
    """Says on stderr how far a job is, so that stdout stays for results."""

    def __init__(
        self,
        console: Console | None = None,
        log_format: LogFormat | None = None,
        every: float = EVERY,
    ) -> None:
        self.console = console or Console(stderr=True)
        self.log_format = log_format or default_log_format()
        self.every = every
        self.current: State | None = None  # what the running job says of itself

    @contextmanager
    def task(self, name: str, total: int | None = None, unit: str = "rows") -> Iterator[Tick]:
        """Show a bar while the block runs, or a line a minute; `total` None is not known."""
        state = State(name, unit, total, time.monotonic())
        show = self._bar if self._in_terminal() else self._lines
        self.current = state
        try:
            with show(state) as tick:
                yield tick
        finally:
            self.current = None

    def so_far(self) -> dict[str, Any] | None:
        """How far the running job is; None where it reports no progress."""
        state = self.current
        return state.as_dict() if state else None

    def say(self, line: str) -> None:
        """Print one line above any bar, without what looks like a secret."""
        line = redacted_text(line)
        self._print(line, {"event": "message", "message": line})

    def _print(self, line: str, fields: dict[str, Any]) -> None:
        if self.log_format == "json":
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = json.dumps({"time": now, **fields})
        self.console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def _in_terminal(self) -> bool:
        return self.log_format == "text" and self.console.is_terminal and sys.stderr.isatty()

    @contextmanager
    def _bar(self, state: State) -> Iterator[Tick]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(f"{state.name} ({state.unit})", total=state.total, note="")

            def tick(done: int, note: str = "") -> None:
                _advance(state, done, note)
                bar.update(task, completed=state.done, note=state.note)

            yield tick

    @contextmanager
    def _lines(self, state: State) -> Iterator[Tick]:
        over = threading.Event()
        thread = threading.Thread(target=self._tell, args=(state, over.wait), daemon=True)
        thread.start()
        try:
            yield lambda done, note="": _advance(state, done, note)
        finally:
            over.set()
            thread.join()

    def _tell(self, state: State, over: Callable[[float], bool]) -> None:
        """Print a line every `every` seconds until the task is over."""
        while not over(self.every):
            self._print(str(state), {"event": "progress", **state.as_dict()})


def _advance(state: State, done: int, note: str) -> None:
    state.done += done
    state.note = note or state.note


def default_log_format() -> LogFormat:
    """The format that the environment names; text where it names none, or an unknown one."""
    asked = os.environ.get(LOG_FORMAT, "text")
    return next((known for known in get_args(LogFormat) if known == asked), "text")
