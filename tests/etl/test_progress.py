"""What a job says of itself where there is no terminal: a line a minute, for people or as JSON."""

import io
import json
import time
from typing import Any

import pytest
from rich.console import Console

from longattn.etl.run.progress import Progress, State


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


def test_words_between_colons_are_no_pictures() -> None:
    out = io.StringIO()
    Progress(Console(file=out), "text").say("score: random:seed=0:b:f32 [bold]")
    assert out.getvalue() == "score: random:seed=0:b:f32 [bold]\n"


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
