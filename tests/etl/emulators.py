"""A server that stands for Azure's store, fetched as a package and run on loopback."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import REPO

FETCHED = REPO / "data" / "emulators"  # kept between runs, as the demo's downloads are
AZURITE = "azurite@3.37.0"
FETCH_SECONDS, START_SECONDS = 300, 30


def azurite() -> Path:
    """Its program, fetched from npm once; skips where that cannot be."""
    program = FETCHED / AZURITE / "node_modules" / ".bin" / "azurite-blob"
    if not program.exists():
        npm = ["npm", "install", "--no-audit", "--no-fund", "--no-save", AZURITE]
        _fetch([*npm, "--prefix", str(program.parents[2])])
    return program


@contextmanager
def serving(*command: str, port: int) -> Iterator[None]:
    """Run a server until the block ends; the block begins when somebody listens on the port."""
    with tempfile.TemporaryFile("w+") as said:
        server = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        try:
            _wait_for(port, server)
            yield
        finally:
            server.kill()  # what it holds is in memory, and asked kindly it waits for connections
            server.wait()


def _fetch(command: list[str]) -> None:
    """Run a package client; skips the tests, with its last line, where it cannot do it."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} on this machine to fetch an emulator with")
    done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        pytest.skip(f"{command[0]} cannot fetch an emulator: {lines[0]}")


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"{server.args!r}: nobody listens on port {port}")
