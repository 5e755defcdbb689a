"""A progress bar for long work: what, how much, how long yet; none when not a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

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


class Tick(Protocol):
    """Reports progress: `done` more units, and a word about speed."""

    def __call__(self, done: int, note: str = "") -> None: ...


class Progress:
    """Makes progress bars on stderr, so that stdout stays for results."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    @contextmanager
    def task(self, name: str, total: int | None = None, unit: str = "rows") -> Iterator[Tick]:
        """Show a bar while the block runs; `total` None shows a spinner."""
        if not (self.console.is_terminal and sys.stderr.isatty()):
            yield lambda done, note="": None
            return
        with self._bar() as bar:
            task = bar.add_task(f"{name} ({unit})", total=total, note="")
            yield lambda done, note="": bar.update(task, advance=done, note=note)

    def say(self, line: str) -> None:
        """Print one line above any bar."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _bar(self) -> RichProgress:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        return RichProgress(*columns, console=self.console, transient=True)
