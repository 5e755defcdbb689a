"""One line for a failure: the reason at the bottom of Java's chain, the file, and what to do."""

import json
import logging
import socket
import socketserver
import sys
import time
from contextlib import nullcontext
from typing import Any

import pytest
from py4j import protocol as proto
from py4j.java_gateway import GatewayClient
from py4j.protocol import Py4JNetworkError

from longattn.etl.run.interrupts import TERMINATED, Terminated, interruptible
from longattn.etl.run.reasons import one_line
from longattn.udfs.errors import TableError


class JavaError:
    """A Java exception as py4j shows it: toString() and getCause()."""

    def __init__(self, text: str, cause: "JavaError | None" = None) -> None:
        self.text, self.cause = text, cause

    def toString(self) -> str:
        return self.text

    def getCause(self) -> "JavaError | None":
        return self.cause


def java(*chain: str) -> Exception:
    """What py4j raises for a chain of Java errors, outermost first."""
    error = None
    for text in reversed(chain):
        error = JavaError(text, error)
    raised: Any = RuntimeError("An error occurred while calling o351.parquet.")
    raised.java_exception = error
    return raised  # type: ignore[no-any-return]


def raised_in(module: str, error: Exception) -> Exception:
    """An error that has come through a frame of that module."""
    try:
        exec(compile("raise error", module, "exec"), {"__name__": module, "error": error})
    except Exception as caught:
        return caught
    raise AssertionError


WRITE = (
    "org.apache.spark.SparkException: [TASK_WRITE_FAILED] Task failed while writing rows to "
    "file:/lake/windows/4f2a. SQLSTATE: 58030"
)
ABORTED = (
    "org.apache.spark.SparkException: Job aborted due to stage failure: Task 1 in stage 7.0 failed"
    " 1 times, most recent failure: Lost task 1.0"
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            java(ABORTED, WRITE, "java.io.IOException: No space left on device"),
            "IOException: No space left on device (/lake/windows/4f2a): the disk is full;",
        ),
        (
            java(
                "java.io.IOException: Mkdirs failed to create file:/lake/x: Read-only file system"
            ),
            "IOException: Mkdirs failed to create file:/lake/x: Read-only file system: the place",
        ),
        (
            java(
                ABORTED,
                "org.apache.spark.SparkException: [FAILED_READ_FILE.NO_HINT] Encountered error"
                " while reading file file:///lake/a.parquet. SQLSTATE: KD001",
                "java.lang.RuntimeException: file:/lake/a.parquet is not a Parquet file. Expected"
                " magic number at tail",
            ),
            "RuntimeException: file:/lake/a.parquet is not a Parquet file. Expected magic number at"
            " tail: the file is damaged or cut short; restore it",
        ),
        (
            java(
                ABORTED,
                "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)",
                "java.io.EOFException",
            ),
            "a Python worker died",
        ),
        (
            java(
                ABORTED,
                "org.apache.spark.SparkException: EOFException occurred while reading the port"
                " number from pyspark.daemon's stdout and terminated with code: 137.",
            ),
            "a Python worker died",
        ),
        (
            java(
                ABORTED,
                "org.apache.spark.SparkException: EOFException occurred while reading the port"
                " number from pyspark.daemon's stdout.",
            ),
            "a Python worker died",
        ),
        (
            java(
                ABORTED,
                "org.apache.spark.api.python.PythonException: Traceback (most recent call last):\n"
                '  File "worker.py", line 1, in main\n    raise ValueError(\n'
                "longattn.udfs.errors.ModelError: score.model: the scorer in m is broken\n",
            ),
            "ModelError: score.model: the scorer in m is broken",
        ),
        (
            java("org.apache.spark.sql.catalyst.parser.ParseException: \n[BAD_NAME] The name.\nx"),
            "ParseException: [BAD_NAME] The name.",
        ),
        (OSError(28, "No space left on device", "/lake/runs"), "/lake/runs: No space left on dev"),
        (
            OSError(
                "Generic LocalFileSystem error\n  \x1b[31m↳\x1b[0m Unable to open file /a/0.json#1"
                "\n  \x1b[31m↳\x1b[0m Read-only file system (os error 30)\n"
            ),
            "Unable to open file /a/0.json#1: Read-only file system (os error 30): the place"
            " cannot be written to",
        ),
        (TableError("table x: no"), "table x: no"),
        (ValueError("one\ntwo"), "ValueError: one"),
        (KeyboardInterrupt(), "interrupted; what was committed is kept, run it again to go on"),
        (Terminated(TERMINATED), "terminated; what was committed is kept, run it again to go on"),
        (
            raised_in("py4j.clientserver", ConnectionRefusedError(111, "refused")),
            "Spark's Java pro",
        ),
        (ConnectionRefusedError(111, "refused"), "refused"),
    ],
)
def test_the_reason_and_what_to_do(error: BaseException, expected: str) -> None:
    line = one_line(error)
    assert line.startswith(expected) or (expected.startswith("a Python") and expected in line)
    assert "\n" not in line and "o351" not in line and "Traceback" not in line


def test_json_that_is_broken_is_called_so() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads('{"a": ')
    assert one_line(caught.value).startswith("not JSON: Expecting value")


def test_a_call_that_java_did_not_outlive_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """py4j logs such calls through the root logger; what others log there is kept."""

    class Broken:
        def send_command(self, command: str) -> str:
            raise Py4JNetworkError("", ConnectionResetError(), proto.ERROR_ON_RECEIVE)

        def close(self, reset: bool) -> None:
            pass

    client = GatewayClient()
    client._get_connection = Broken
    for quiet in (True, False):
        with interruptible() if quiet else nullcontext():
            assert proto.is_error(client.send_command("c", retry=False))[0]
        assert ("Exception while sending command." in caplog.text) != quiet
    with interruptible():
        logging.error("of ours")
    assert "of ours" in caplog.text


def test_a_peer_that_has_died_leaves_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    """As pyspark's server of accumulators sees it when Java is killed; other errors are told."""
    for error, told in ((EOFError, False), (ConnectionResetError, False), (ValueError, True)):

        class Failing(socketserver.BaseRequestHandler):
            def handle(self, error: type[Exception] = error) -> None:
                raise error

        with interruptible(), socketserver.TCPServer(("127.0.0.1", 0), Failing) as server:
            socket.create_connection(server.server_address[:2]).close()
            server.handle_request()
        assert ("Traceback" in capsys.readouterr().err) == told


class Finalised:
    def __init__(self, raises: BaseException) -> None:
        self.raises = raises

    def __del__(self) -> None:
        raise self.raises


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, Terminated])
def test_an_interrupt_in_a_finaliser_is_not_lost(
    interrupt: type[BaseException], capfd: pytest.CaptureFixture[str]
) -> None:
    """Python drops it, with a trace."""
    with pytest.raises(interrupt), interruptible():
        Finalised(interrupt())
        time.sleep(10)
    assert capfd.readouterr().err == ""


def test_a_file_that_cannot_be_closed_has_said_so_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: shown.append(str(dropped.exc_value)))
    with interruptible():
        Finalised(OSError(28, "No space left on device"))
        Finalised(ValueError("a mistake"))
    assert shown == ["a mistake"]
