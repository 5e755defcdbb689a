"""The Databricks operators against a loopback stand-in of the Jobs API: what they ask of it."""

import json
import shutil
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.surfaces.airflow.conftest import Airflow

JOB_ID = 41
CONF = {
    "config": "/Volumes/main/longattn/prod.yaml",
    "domains": ["book", "code"],
    "overrides": ["select.alpha=0.3", "seed=7"],
    "profile": "gpu",
}


class JobsApi(BaseHTTPRequestHandler):
    """Every run is done, and good, when it is asked for; the requests are kept."""

    seen: list[tuple[str, dict[str, Any]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        self.seen.append((self.path, body))
        self._answer({"run_id": 100 + len(self.seen)})

    def do_GET(self) -> None:
        if "/jobs/list" in self.path:
            return self._answer({"jobs": [{"job_id": JOB_ID, "settings": {"name": "longattn"}}]})
        state = {"life_cycle_state": "TERMINATED", "result_state": "SUCCESS", "state_message": ""}
        run = {"job_id": JOB_ID, "run_page_url": "http://127.0.0.1/run"}
        self._answer({**run, "state": state, "tasks": []})

    def log_message(self, *args: Any) -> None:
        """Keep the test's output readable."""

    def _answer(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def api() -> Iterator[tuple[int, list[tuple[str, dict[str, Any]]]]]:
    handler = type("Handler", (JobsApi,), {"seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], handler.seen
        server.shutdown()


@pytest.fixture
def database(airflow: Airflow, root: Path) -> str:
    """A database apart: these runs update the asset, and a scheduler would start on that."""
    apart = shutil.copy(root / "home" / "airflow.db", root / "databricks.db")
    return f"sqlite:///{apart}"


def run_pipeline(airflow: Airflow, operator: str, port: int, database: str) -> None:
    connection = {
        "conn_type": "databricks",
        "host": "http://127.0.0.1",
        "schema": "http",
        "port": port,
        "password": "no-secret",
    }
    made = airflow(
        "dags",
        "test",
        "longattn_pipeline",
        "-c",
        json.dumps(CONF),
        timeout=200,
        LONGATTN_AIRFLOW_OPERATOR=operator,
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=database,
        AIRFLOW_CONN_DATABRICKS_DEFAULT=json.dumps(connection),
    )
    assert made.returncode == 0, made.stdout[-5000:]


def in_order(bodies: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """As asked, but for the fourth and fifth, the two mapped ones, which run in any order."""
    found = list(bodies)
    return [*found[:3], *sorted(found[3:5], key=json.dumps), *found[5:]]


def argv(job: str, *more: str) -> list[str]:
    given = [word for override in CONF["overrides"] for word in ("--set", override)]
    return [job, "--config", CONF["config"], *given, *more]


def test_submit_run_asks_for_one_cluster_and_one_argv_a_task(
    airflow: Airflow, settings: dict[str, Any], api: tuple[int, Any], database: str
) -> None:
    port, seen = api
    run_pipeline(airflow, "databricks", port, database)
    assert {path for path, _ in seen} == {"/api/2.2/jobs/runs/submit"}
    tasks = in_order(body["tasks"][0] for _, body in seen)
    scripts = [task["spark_python_task"] for task in tasks]
    assert [script["parameters"] for script in scripts] == [
        argv("ingest"),
        argv("dedup"),
        argv("windows"),
        argv("score", "--set", 'score.domains=["book"]'),
        argv("score", "--set", 'score.domains=["code"]'),
        argv("select"),
        argv("export"),
        argv("report"),
    ]
    databricks = settings["databricks"]
    assert {script["python_file"] for script in scripts} == {databricks["main"]}
    assert tasks[0]["libraries"] == [{"whl": databricks["wheel"]}]
    clusters = settings["profiles"]["gpu"]["cluster"]
    for task in tasks:
        wanted = clusters["score" if task["task_key"] == "score" else "default"]
        assert task["new_cluster"]["node_type_id"] == wanted["node_type_id"]
        assert "named_parameters" not in json.dumps(task)


def test_run_now_runs_one_task_of_the_bundles_job(
    airflow: Airflow, api: tuple[int, Any], database: str
) -> None:
    port, seen = api
    run_pipeline(airflow, "databricks-job", port, database)
    assert {path for path, _ in seen} == {"/api/2.2/jobs/run-now"}
    assert all(str(body["job_id"]) == str(JOB_ID) for _, body in seen)
    bodies = in_order(body for _, body in seen)
    asked = [(body["only"], json.loads(body["job_parameters"]["domains"])) for body in bodies]
    both = CONF["domains"]
    assert asked == [
        (["ingest"], both),
        (["dedup"], both),
        (["windows"], both),
        (["score"], ["book"]),
        (["score"], ["code"]),
        (["select"], both),
        (["export"], both),
        (["report"], both),
    ]
    for _, body in seen:
        assert body["job_parameters"]["config"] == CONF["config"]
        assert json.loads(body["job_parameters"]["overrides"]) == CONF["overrides"]
