"""The real thing: api-server, dag-processor and scheduler; a trigger; the DAG that scores start."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.surfaces.airflow.conftest import BIN, Airflow, longattn

PROCESSES = ("api-server", "dag-processor", "scheduler")


@pytest.fixture(scope="module")
def server(
    airflow: Airflow, env: dict[str, str], root: Path, corpus: Path
) -> Iterator[Callable[..., Any]]:
    """The three processes, each heading a process group; yields a caller of their REST API."""
    with _running(env, root) as call:
        yield call


def test_a_trigger_scores_and_the_scores_start_the_selection(
    server: Callable[..., Any], airflow: Airflow, corpus: Path
) -> None:
    conf = {"config": str(corpus), "overrides": ["select.name=triggered"], "domains": ["code"]}
    made = airflow("dags", "trigger", "longattn_pipeline", "--conf", json.dumps(conf))
    assert made.returncode == 0, made.stdout[-3000:]
    _wait_for_success(server, "longattn_pipeline", 700)
    run = _wait_for_success(server, "longattn_reselect", 400)
    assert run["run_type"] == "asset_triggered"
    assert _resolved_inputs(server, run)["domains"] == ["code"]
    names = json.loads((corpus.parent / "reselected" / "_manifest.json").read_text())
    assert names["selection"] == "reselected"
    assert (corpus.parent / "selected" / "_manifest.json").exists()
    status = json.loads(longattn("status", "--config", str(corpus), "--json"))
    for name in ("ingest", "dedup", "windows", "score", "select", "export", "report"):
        job = status["jobs"][name]
        assert (job["status"], job["balances"]) == ("done", True), name
    assert set(status["tables"]["scores"]["domains"]) == {"code"}


@pytest.mark.parametrize(
    "conf",
    [{"domains": ["wiki"]}, {"overrides": ["alpha"]}, {"profile": "tpu"}],
    ids=lambda conf: json.dumps(conf),
)
def test_the_api_refuses_a_bad_form(server: Callable[..., Any], conf: dict[str, Any]) -> None:
    body = {"conf": conf, "logical_date": None}
    with pytest.raises(urllib.error.HTTPError) as refused:
        server("/api/v2/dags/longattn_pipeline/dagRuns", body)
    assert refused.value.code == 400
    assert f"Invalid input for param {next(iter(conf))}" in refused.value.read().decode()


def _resolved_inputs(call: Callable[..., Any], run: dict[str, Any]) -> dict[str, Any]:
    """What the run's first task found in the event that started it."""
    task = f"/api/v2/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances/inputs"
    value: dict[str, Any] = call(f"{task}/xcomEntries/return_value?deserialize=true")["value"]
    return value


def _wait_for_success(call: Callable[..., Any], dag_id: str, seconds: float) -> dict[str, Any]:
    def done() -> Any:
        runs = call(f"/api/v2/dags/{dag_id}/dagRuns")["dag_runs"]
        return next((run for run in runs if run["state"] in ("success", "failed")), None)

    run: dict[str, Any] = _wait(f"a run of {dag_id}", done, seconds)
    assert run["state"] == "success", "\n".join(_failures(call, run))
    return run


def _failures(call: Callable[..., Any], run: dict[str, Any]) -> Iterator[str]:
    """The state of every task of a run; of those that failed, what they said last."""
    path = f"/api/v2/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances"
    for task in call(path)["task_instances"]:
        yield f"{task['task_id']}: {task['state']}"
        if task["state"] == "failed":
            where = f"{path}/{task['task_id']}/logs/{task['try_number']}"
            lines = call(f"{where}?map_index={task['map_index']}")["content"]
            yield from (f"    {line.get('event', line)}" for line in lines[-40:])


class _running:
    """Context manager: processes up, and none of them left behind."""

    def __init__(self, env: dict[str, str], root: Path) -> None:
        self.env, self.root = env, root
        self.api = env["AIRFLOW__API__BASE_URL"]
        self.started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Callable[..., Any]:
        try:
            for name in PROCESSES:
                self.started.append(self._start(name))
            self.token = _wait("the API", self._login, 120)
            _wait("the DAGs", self._parsed, 120)
        except BaseException:
            self.__exit__()
            raise
        return self.call

    def __exit__(self, *_: object) -> None:
        """Ask each group to end, then end it."""
        for number, patience in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
            for process in self.started:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline and any(p.poll() is None for p in self.started):
                time.sleep(0.2)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        log = (self.root / f"{name}.log").open("wb")
        command = [str(BIN / "airflow"), name]
        return subprocess.Popen(
            command,
            env=self.env,
            cwd=self.root,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _login(self) -> str | None:
        dead = [name for name, p in zip(PROCESSES, self.started, strict=True) if p.poll()]
        assert not dead, f"{dead} ended: {(self.root / f'{dead[0]}.log').read_text()[-2000:]}"
        url = f"{self.api}/auth/token"
        with suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
            token: str = json.load(answer)["access_token"]
            return token
        return None

    def _parsed(self) -> bool:
        found = {dag["dag_id"] for dag in self.call("/api/v2/dags")["dags"]}
        return {"longattn_pipeline", "longattn_reselect"} <= found

    def call(self, path: str, body: Any = None) -> Any:
        """GET a path of the API, or POST a body to it; the decoded answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.api}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


def _wait(what: str, ready: Callable[[], Any], seconds: float) -> Any:
    """Poll until ready gives something true; an AssertionError names what did not come."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := ready():
            return found
        time.sleep(1)
    raise AssertionError(f"{what}: not there after {seconds:.0f} s")
