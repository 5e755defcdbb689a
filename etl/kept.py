"""A session that is kept: commands of its folder run in a process where Spark has started already.

A command that starts Spark spends most of its time on that. `longattn session` keeps a process
that has done so, and listens at SOCKET in the folder where it was started; a command started there
hands over its arguments, its environment and its terminal, and waits for the exit code. Without a
session, with a busy one or with one of another version, the command runs on its own.
"""

import io
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from longattn.etl.run.interrupts import interrupt
from longattn.udfs import __version__
from longattn.udfs.errors import UserError

SOCKET = ".longattn-session"  # in the folder: Java takes relative paths for those of its own start
COMMAND = "session"  # which no session runs
PATIENCE = 1.0  # seconds that a command waits for a session to be free
SIGNALS = (signal.SIGINT, signal.SIGTERM)
TERMINAL = (0, 1, 2)

Run = Callable[[Sequence[str]], int]


# --- the command's side


def ask(argv: Sequence[str]) -> int | None:
    """Have the folder's session run a command: its exit code; None where none runs it."""
    if COMMAND in argv[:1] or not _is_mine():
        return None
    with socket.socket(socket.AF_UNIX) as talk:
        try:
            pid = _handed_over(talk, argv)
        except (OSError, ValueError):  # nobody is there, or one who talks otherwise
            return None
        return None if pid is None else _answered(talk, pid)


def _is_mine() -> bool:
    """Whether there is a socket, of this user: it will get the environment, with its secrets."""
    try:
        return os.lstat(SOCKET).st_uid == os.getuid()
    except FileNotFoundError:
        return False


def _handed_over(talk: socket.socket, argv: Sequence[str]) -> int | None:
    """The process that now runs the command; None where it does not take it.

    A busy session greets nobody. The terminal goes only to one that has greeted: a pipe that lies
    in a busy one's queue would never end for its reader.
    """
    talk.settimeout(PATIENCE)
    talk.connect(SOCKET)
    with talk.makefile("rb") as lines:
        greeting = json.loads(lines.readline() or b"{}")
    if greeting.get("version") != __version__:
        return None
    socket.send_fds(talk, [b"?"], TERMINAL)
    request = {"argv": list(argv), "env": dict(os.environ)}
    talk.sendall(json.dumps(request).encode() + b"\n")
    talk.settimeout(None)
    return int(greeting["pid"])


def _answered(talk: socket.socket, pid: int) -> int:
    """The exit code; signals go to who runs the command."""
    before = {number: signal.signal(number, lambda n, _: os.kill(pid, n)) for number in SIGNALS}
    code = b""
    try:
        with suppress(OSError):  # a session that was killed closes nothing in order
            code = talk.recv(1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if not code:
        print("longattn: the session has ended; start the command again", file=sys.stderr)
    return code[0] if code else 1


# --- the session's side


def serve(run: Run, sound: Callable[[], bool], minutes: float) -> None:
    """Run what commands hand over, one after the other, until none has come for so many minutes or
    the process is no longer sound after a command that failed.

    Raises UserError where the folder has a session.
    """
    signal.signal(signal.SIGINT, interrupt)  # a shell's script may have it ignored
    with _listening() as server:
        server.settimeout(60 * minutes)
        with suppress(TimeoutError, KeyboardInterrupt):
            while True:
                talk, _ = server.accept()
                with talk, suppress(OSError):
                    if _run_for(talk, run) == 1 and not sound():
                        return


@contextmanager
def _listening() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as other:
        if other.connect_ex(SOCKET) == 0:
            raise UserError(f"{COMMAND}: {Path.cwd()} has one already")
        Path(SOCKET).unlink(missing_ok=True)
        before = os.umask(0o177)  # for nobody else
        try:
            server.bind(SOCKET)
        finally:
            os.umask(before)
        server.listen()
        try:
            yield server
        finally:
            Path(SOCKET).unlink(missing_ok=True)


def _run_for(talk: socket.socket, run: Run) -> int | None:
    """Run one command at its own terminal; None for one that has gone on by itself, or has died."""
    talk.settimeout(PATIENCE)
    greeting = {"version": __version__, "pid": os.getpid()}
    talk.sendall(json.dumps(greeting).encode() + b"\n")
    _, terminal, _, _ = socket.recv_fds(talk, 1, len(TERMINAL))
    if not terminal:
        return None
    try:
        with talk.makefile("rb") as lines:
            line = lines.readline()
        if not line.endswith(b"\n"):
            return None
        request = json.loads(line)
        with _at(terminal, request["env"]):
            code = _exit_code(run, request["argv"])
    finally:
        for fd in terminal:
            os.close(fd)
    talk.sendall(bytes([code]))
    return code


def _exit_code(run: Run, argv: Sequence[str]) -> int:
    try:
        return run(argv)
    except SystemExit as end:  # argparse's own way out
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:  # what LONGATTN_TRACEBACK lets through is for the command's terminal
        traceback.print_exc()
        return 1


@contextmanager
def _at(terminal: Sequence[int], env: dict[str, str]) -> Iterator[None]:
    """Stand in for the command: its terminal and its environment."""
    own, own_env = [os.dup(fd) for fd in TERMINAL], dict(os.environ)
    try:
        _take(terminal, env)
        yield
    finally:
        _take(own, own_env)
        for fd in own:
            os.close(fd)


def _take(terminal: Sequence[int], env: dict[str, str]) -> None:
    streams: list[Any] = [sys.stdout, sys.stderr]
    for stream in streams:
        with suppress(OSError):  # a pipe that nobody reads any more
            stream.flush()
    for fd, place in zip(terminal, TERMINAL, strict=True):
        os.dup2(fd, place)
    # Another reader: the one before may hold lines that its command has left unread.
    sys.stdin = os.fdopen(0, closefd=False)
    with suppress(AttributeError, io.UnsupportedOperation):
        sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(env)
