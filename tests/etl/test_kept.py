"""A kept session: commands of its folder run in it, as if they ran by themselves; no Spark here."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from longattn.etl import kept
from longattn.udfs.errors import UserError

# Stands in for `main`: what it is given, where it runs, and the ends that a command may have.
SESSION = """
import os, sys, time
from longattn.etl import kept

def run(argv):
    what, *rest = argv
    if what == "fail":
        return 1
    if what == "usage":
        sys.exit(2)
    if what == "raise":
        raise ValueError("as LONGATTN_TRACEBACK lets through")
    if what == "line":
        return len(sys.stdin.readline())
    if what == "sleep":
        print("asleep", flush=True)
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            return 130
    print(what, rest, os.environ.get("TOLD"), sys.stdin.read())
    print("aside", file=sys.stderr)
    return 7

kept.__version__ = sys.argv[1] or kept.__version__  # which it greets with
kept.serve(run, lambda: sys.argv[2] == "sound", 1)
"""
COMMAND = """
import sys
from longattn.etl import kept
code = kept.ask(sys.argv[1:])
print("alone") if code is None else sys.exit(code)
"""


def start(folder: Path, version: str = "", state: str = "sound") -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", SESSION, version, state]
    session = subprocess.Popen(arguments, cwd=folder, text=True)
    wait_for(lambda: (folder / kept.SOCKET).exists())
    time.sleep(0.2)  # bound, and in a moment listening
    return session


def wait_for(so: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not so() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.05)
    assert so()  # type: ignore[operator]


def command(
    folder: Path, *argv: str, told: str = "", given: str = "from stdin"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *argv],
        cwd=folder,
        input=given,
        capture_output=True,
        text=True,
        env=os.environ | {"TOLD": told},
    )


@pytest.fixture
def session(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    running = start(tmp_path)
    yield running
    running.kill()
    running.wait()


def test_a_command_has_its_own_terminal_environment_and_code(
    session: subprocess.Popen[str], tmp_path: Path
) -> None:
    for told in ("this", "that"):
        done = command(tmp_path, "look", "--at", "it", told=told)
        assert done.stdout == f"look ['--at', 'it'] {told} from stdin\n"
        assert done.stderr == "aside\n" and done.returncode == 7
    assert command(tmp_path, "usage").returncode == 2
    assert command(tmp_path, "fail").returncode == 1
    mode = (tmp_path / kept.SOCKET).stat().st_mode
    assert mode & 0o077 == 0


def test_what_a_command_leaves_unread_or_raises_is_not_the_next_ones(
    session: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert command(tmp_path, "line", given="one\ntwo\nthree\n").returncode == len("one\n")
    failed = command(tmp_path, "raise")
    assert failed.returncode == 1 and "ValueError: as LONGATTN_TRACEBACK lets" in failed.stderr
    assert command(tmp_path, "look").stdout == "look []  from stdin\n"


def test_anothers_socket_gets_nothing(
    session: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that others may write to; what is handed over holds the secrets of the shell."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert kept.ask(["look"]) is None


def test_ctrl_c_reaches_the_command_and_not_the_session(
    session: subprocess.Popen[str], tmp_path: Path
) -> None:
    """Meanwhile the session is busy, and another command runs by itself."""
    arguments = [sys.executable, "-c", COMMAND, "sleep"]
    with subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as asleep:
        assert asleep.stdout is not None and asleep.stdout.readline() == "asleep\n"
        assert command(tmp_path, "look").stdout == "alone\n"
        asleep.send_signal(signal.SIGINT)
        assert asleep.wait(60) == 130
    assert command(tmp_path, "look").returncode == 7


def test_a_command_that_dies_while_it_hands_over_leaves_the_session(
    session: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its terminal had come and what to run had not: the session died of that."""
    monkeypatch.chdir(tmp_path)
    for request in (b"", b'{"argv": ["lo'):
        with socket.socket(socket.AF_UNIX) as talk:
            talk.connect(kept.SOCKET)
            assert talk.recv(1024).endswith(b"\n")
            socket.send_fds(talk, [b"?"], (0, 1, 2))
            talk.sendall(request)
    assert command(tmp_path, "look").returncode == 7


def test_a_session_of_another_version_runs_nothing(tmp_path: Path) -> None:
    session = start(tmp_path, version="0.0.1")
    try:
        assert command(tmp_path, "look").stdout == "alone\n"
    finally:
        session.kill()
        session.wait()
    assert (tmp_path / kept.SOCKET).exists()  # what a dead one leaves is in nobody's way
    assert command(tmp_path, "look").stdout == "alone\n"


def test_a_session_ends_when_its_spark_does(tmp_path: Path) -> None:
    session = start(tmp_path, state="broken")
    assert command(tmp_path, "look").returncode == 7
    assert command(tmp_path, "fail").returncode == 1
    assert session.wait(60) == 0
    assert not (tmp_path / kept.SOCKET).exists()


@pytest.mark.parametrize("greeting", [b"hello\n", b'{"versi', b""])
def test_one_who_talks_otherwise_is_no_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, greeting: bytes
) -> None:
    """As a session that dies while it greets does; the command ended in a trace."""
    monkeypatch.chdir(tmp_path)

    def greet(server: socket.socket) -> None:
        talk, _ = server.accept()
        with talk:
            talk.sendall(greeting)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(kept.SOCKET)
        server.listen()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(greet, server)
            assert kept.ask(["look"]) is None


def test_a_session_that_is_killed_is_said_to_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its socket was reset, with the request unread in it."""
    monkeypatch.chdir(tmp_path)

    def die(server: socket.socket) -> None:
        talk, _ = server.accept()
        with talk:
            talk.sendall(json.dumps({"version": kept.__version__, "pid": os.getpid()}).encode())
            talk.sendall(b"\n")
            _, terminal, _, _ = socket.recv_fds(talk, 1, 3)
            select.select([talk], [], [])
            for number in terminal:
                os.close(number)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(kept.SOCKET)
        server.listen()
        with ThreadPoolExecutor(1) as pool:
            dying = pool.submit(die, server)
            assert kept.ask(["look"]) == 1
            dying.result()
    assert "the session has ended" in capsys.readouterr().err


def test_a_folder_has_one_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(kept.SOCKET)
        other.listen()
        with pytest.raises(UserError, match="has one already"):
            kept.serve(lambda argv: 0, lambda: True, 1)
    assert kept.ask([kept.COMMAND]) is None
