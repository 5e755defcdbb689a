"""`longattn` with a point at which it is stopped: python -m tests.faults.points FAULT ARGV...

`"after commit windows@2=kill"` kills this process the second time it has committed to `windows`.
Points stand before, within (allowed, not yet made) and after each commit of the delta-rs connector,
before and within those of the native one, and between and after the two renames of an export.
Actions: `kill` and `term` send this process that signal, `jvm` kills its Java, `hold:FILE` makes
FILE.held and waits until FILE is there, so that a test can run something else meanwhile. The
product has no such points: they are put in here, from outside.
"""

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from longattn.etl.cli import entry
from longattn.etl.tables.delta_rs import DeltaRsTable
from longattn.etl.tables.native import NativeTable

HOLD_SECONDS = 300  # after which a forgotten hold goes on
SIGNAL_SECONDS = 5


class Fault:
    """Acts the first, second, ... time that a point is passed."""

    def __init__(self, text: str) -> None:
        where, _, self.action = text.partition("=")
        self.place, _, turn = where.partition("@")
        self.turn = int(turn or 1)
        self.passed: Counter[str] = Counter()
        self.lock = threading.Lock()

    def point(self, name: str) -> None:
        with self.lock:  # batches of scores are committed by two threads
            self.passed[name] += 1
            now = name == self.place and self.passed[name] == self.turn
        if now:
            _act(self.action)


def install(point: Callable[[str], None]) -> None:
    """Have the product call `point` at each commit and at each rename of an export."""
    commit, rename = DeltaTable.create_write_transaction, Path.rename

    def guard(table: Any) -> Callable[[], None]:
        def guarded() -> None:
            point(f"before commit {table.spec.name}")
            table.held()

        return guarded

    def guard_of_native(table: Any) -> Callable[[], None]:
        def guarded() -> None:
            guard(table)()
            point(f"within commit {table.spec.name}")

        return guarded

    def committing(table: DeltaTable, *args: Any, **settings: Any) -> None:
        point(f"within commit {table.metadata().name}")
        commit(table, *args, **settings)
        point(f"after commit {table.metadata().name}")

    def renaming(path: Path, target: Path) -> Path:
        if path.name != "ready":
            return rename(path, target)
        point("between renames")
        renamed = rename(path, target)
        point("after renames")
        return renamed

    def hold(table: Any, check: Callable[[], None]) -> None:
        table.held = check

    DeltaRsTable.guard = property(guard, hold)  # type: ignore[assignment]
    NativeTable.guard = property(guard_of_native, hold)  # type: ignore[assignment]
    DeltaTable.create_write_transaction = committing  # type: ignore[method-assign]
    Path.rename = renaming  # type: ignore[assignment,method-assign]


def _act(action: str) -> None:
    verb, _, argument = action.partition(":")
    if verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif verb == "term":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SIGNAL_SECONDS)  # for it to arrive in, where a thread has come here
    elif verb == "jvm":
        _kill_java()
    elif verb == "hold":
        _hold(Path(argument))
    else:
        raise ValueError(f"no action {action!r}")


def _kill_java() -> None:
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway
    os.kill(gateway.proc.pid, signal.SIGKILL)
    gateway.proc.wait()


def _hold(until: Path) -> None:
    Path(f"{until}.held").touch()
    give_up = time.monotonic() + HOLD_SECONDS
    while not until.exists() and time.monotonic() < give_up:
        time.sleep(0.05)


if __name__ == "__main__":
    install(Fault(sys.argv.pop(1)).point)
    entry()
