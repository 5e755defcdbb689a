"""What a job says of itself where there is no terminal: a line a minute, for people or as JSON."""

import io
import json
import socket
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from longattn.etl.run.progress import Progress, State
from longattn.etl.scoring.heartbeat import heartbeats
from longattn.udfs.scorers.beacon import Beacon


def lines_of(log_format: Any, every: float = 0.02) -> list[str]:
    """What is printed while a task of ten windows does four of them, and then says a word."""
    out = io.StringIO()
    progress = Progress(Console(file=out), log_format, every)
    with progress.task("score", total=10, unit="windows") as tick:
        tick(4)
        time.sleep(10 * every)
        assert progress.current is not None and progress.current.done == 4
    progress.say("done")
    assert progress.current is None
    return out.getvalue().splitlines()


def test_without_a_terminal_a_line_says_done_of_rate_and_time_left() -> None:
    *told, last = lines_of("text")
    assert last == "done"
    assert told
    for line in told:
        assert line.startswith("score: 4 of 10 windows, ")
        assert " a second, " in line and line.endswith(" left")


def test_as_json_every_line_is_an_object() -> None:
    *told, last = map(json.loads, lines_of("json"))
    assert last.keys() == {"time", "event", "message"} and last["message"] == "done"
    for line in told:
        assert (line["event"], line["job"], line["done"], line["total"]) == (
            "progress",
            "score",
            4,
            10,
        )
        assert line["seconds_left"] == pytest.approx(6 / line["rate"], abs=1e-3)


def test_a_task_of_unknown_size_says_how_long_it_has_run() -> None:
    state = State("ingest", "files", None, time.monotonic() - 300)
    assert str(state) == "ingest: 5 min so far"
    assert state.as_dict()["seconds_left"] is None


def test_the_environment_gives_the_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGATTN_LOG_FORMAT", "json")
    assert Progress().log_format == "json"
    monkeypatch.setenv("LONGATTN_LOG_FORMAT", "xml")
    assert Progress().log_format == "text"


def session(host: str) -> Any:
    """As much of a session as heartbeats look at."""
    return SimpleNamespace(conf=SimpleNamespace(get=lambda key, default=None: host))


def test_windows_count_once_however_the_datagrams_go() -> None:
    """Told ahead of the commit; a lost one is made good by it, a repeated one taken back."""
    done: list[int] = []
    with heartbeats(session("127.0.0.1"), lambda n, note="": done.append(n)) as beats:
        first, second = cast(Beacon, beats.beacon()), cast(Beacon, beats.beacon())
        for n in (3, 2):
            first(n)
        wait_for(lambda: sum(done) == 5)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"guess 7", (first.host, first.port))
            stranger.sendto(b"\xff\xfe", (first.host, first.port))
        for _ in range(3):
            second(4)
        wait_for(lambda: sum(done) == 17)
        beats.finish(first, 6)  # one was lost
        beats.finish(second, 8)  # a task was tried again
        first(1)  # late: the batch is over
        time.sleep(0.05)
    assert sum(done) == 14


def test_where_workers_cannot_reach_the_driver_the_bar_moves_by_commits() -> None:
    done: list[int] = []
    with heartbeats(session("no-such-host.invalid"), lambda n, note="": done.append(n)) as beats:
        assert beats.beacon() is None
        beats.finish(None, 6)
    assert done == [6]


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()
