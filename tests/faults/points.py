"""Places where a test can stop a run: named points, all idle unless LONGATTN_FAULT names one.

`LONGATTN_FAULT="after commit windows@2=kill"` kills this process the second time it has committed
to `windows`. Actions: `kill` and `term` send this process that signal, `jvm` kills its Java,
`hold:FILE` makes FILE.held and waits until FILE is there: a test can run something else meanwhile.
"""

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

VARIABLE = "LONGATTN_FAULT"
HOLD_SECONDS = 300  # after which a forgotten hold goes on
SIGNAL_SECONDS = 5

_passed: Counter[str] = Counter()
_lock = threading.Lock()


def point(name: str) -> None:
    """Pass a point; does nothing unless LONGATTN_FAULT names it, and this is the time it names."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    where, _, action = wanted.partition("=")
    place, _, turn = where.partition("@")
    if place == name and _count(name) == int(turn or 1):
        _act(action)


def _count(name: str) -> int:
    with _lock:  # batches of scores are committed by two threads
        _passed[name] += 1
        return _passed[name]


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
        raise ValueError(f"{VARIABLE}: no action {action!r}")


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
