"""A failed task is told of: one POST to the alert URL, and no second failure where that is down."""

import json
import logging
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from tests.surfaces.corpus import REPO

FAILED = {
    "ti": SimpleNamespace(dag_id="longattn_pipeline", run_id="r1", task_id="score", map_index=1),
    "exception": RuntimeError("spark-submit ended with 2\nmore"),
}


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(REPO / "airflow_dags"))
    import longattn_tasks

    return longattn_tasks


@pytest.fixture
def hook() -> Iterator[tuple[str, list[Any]]]:
    seen: list[Any] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Keep the test's output readable."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
        server.shutdown()


def test_one_line_is_posted(
    tasks: Any, hook: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGATTN_AIRFLOW_ALERT_URL", hook[0])
    tasks.tell_failure(FAILED)
    said = "longattn_pipeline, run r1: score (1) failed: spark-submit ended with 2"
    assert hook[1] == [{"text": said}]


def test_a_hook_that_is_down_is_a_warning(
    tasks: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LONGATTN_AIRFLOW_ALERT_URL", "http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING):
        tasks.tell_failure(FAILED)
    assert "alert_url" in caplog.text


def test_domains_are_the_configs(tasks: Any) -> None:
    assert tasks.domains_of("conf/demo.yaml") == ["arxiv", "book", "code"]
    assert tasks.domains_of("/Volumes/main/x.yaml") == tasks.SETTINGS["domains"]
    with pytest.raises(ValueError, match="list `domains` in longattn"):
        tasks.requests_per_domain("score", {"config": "/Volumes/x.yaml", "domains": []})
