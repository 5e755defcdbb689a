"""Ctrl-C and SIGTERM end a command the same way: what was committed stays, one line says so."""

import logging
import os
import signal
import socketserver
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

AGAIN = 0.05  # seconds
TERMINATED = "terminated; what was committed is kept, run it again to go on"


class Terminated(KeyboardInterrupt):
    """SIGTERM, as an interrupt: all that stops for Ctrl-C stops for it too."""

    exit_code = 143


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Terminated for SIGTERM while the block runs, and print no traces of an interrupt.

    Ctrl-C and SIGTERM break the call that py4j is in, and py4j logs that with a stack for each
    thread. Signals reach the main thread alone; in another, nothing changes.
    """
    logging.getLogger("py4j").setLevel(logging.CRITICAL + 1)
    with (
        _no_log_of_a_lost_call(),
        _no_trace_of_a_lost_peer(),
        _sigterm_as_interrupt(),
        _no_trace_of_a_finaliser(),
        _no_warning_of_a_failed_query(),
    ):
        yield


@contextmanager
def _no_log_of_a_lost_call() -> Iterator[None]:
    """Keep out what py4j logs through the root logger: a call whose Java was gone."""

    def of_others(record: logging.LogRecord) -> bool:
        return Path(record.pathname).parent.name != "py4j"

    logging.root.addFilter(of_others)
    try:
        yield
    finally:
        logging.root.removeFilter(of_others)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Any = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _no_trace_of_a_lost_peer() -> Iterator[None]:
    """pyspark's server of accumulators prints a trace when Java dies; the job's error says it."""
    tell = socketserver.BaseServer.handle_error

    def handle_error(server: socketserver.BaseServer, request: Any, address: Any) -> None:
        if not isinstance(sys.exception(), EOFError | ConnectionError):
            tell(server, request, address)

    socketserver.BaseServer.handle_error = handle_error  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        socketserver.BaseServer.handle_error = tell  # type: ignore[method-assign]


@contextmanager
def _no_warning_of_a_failed_query() -> Iterator[None]:
    """pyspark warns, with the worker's trace, before it raises the same error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "toPandas attempted Arrow optimization")
        yield


@contextmanager
def _no_trace_of_a_finaliser() -> Iterator[None]:
    """Python drops what a finaliser raises, and prints a trace of it.

    An interrupt that was raised there comes once more, a moment later. A file that cannot be
    closed, on a full disk, has failed before, when it was written.
    """
    show = sys.unraisablehook

    def hook(dropped: Any) -> None:
        if isinstance(dropped.exc_value, KeyboardInterrupt):
            _interrupt_again(isinstance(dropped.exc_value, Terminated))
        elif not isinstance(dropped.exc_value, OSError):
            show(dropped)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = show


def _interrupt_again(terminated: bool) -> None:
    """Only the main thread is interrupted, so this runs in it."""
    if terminated:
        signal.signal(signal.SIGTERM, _terminate)
    number = signal.SIGTERM if terminated else signal.SIGINT
    again = threading.Timer(AGAIN, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the ledger is being written now
    _cancel_jobs()
    raise Terminated(TERMINATED)


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    """A handler of Ctrl-C for a process that has replaced Spark's own."""
    _cancel_jobs()
    raise KeyboardInterrupt


def _cancel_jobs() -> None:
    """As Spark's own handler of Ctrl-C does: threads that wait for a job's end go on."""
    pyspark = sys.modules.get("pyspark")
    active = pyspark.SparkContext._active_spark_context if pyspark else None
    if active is not None:
        with suppress(Exception):
            active.cancelAllJobs()
