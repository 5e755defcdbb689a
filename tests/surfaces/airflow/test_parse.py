"""The DAG files parse, fast and without anything heavy, and serialise to the chain they draw."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.surfaces.airflow.conftest import Airflow
from tests.surfaces.corpus import DOMAINS, REPO

JOBS = ["ingest", "dedup", "windows", "score", "publish", "select", "export", "report"]


def parse(env: dict[str, str], **more: str) -> dict[str, Any]:
    script = Path(__file__).with_name("parse_dags.py")
    command = [sys.executable, str(script), str(REPO / "airflow_dags")]
    made = subprocess.run(command, env={**env, **more}, text=True, capture_output=True, timeout=120)
    assert made.returncode == 0, made.stderr[-3000:]
    found: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def parsed(env: dict[str, str]) -> dict[str, Any]:
    return parse(env)


def test_no_import_errors_and_no_heavy_modules(parsed: dict[str, Any]) -> None:
    assert parsed["errors"] == {}
    assert parsed["heavy"] == []


def test_jobs_are_submitted_to_spark(parsed: dict[str, Any]) -> None:
    tasks = parsed["dags"]["longattn_pipeline"]["tasks"]
    types = {tasks[name]["type"] for name in JOBS if name != "publish"}
    assert types == {"SparkSubmitOperator"}


def test_the_pipeline_is_the_chain_of_jobs(parsed: dict[str, Any]) -> None:
    tasks = parsed["dags"]["longattn_pipeline"]["tasks"]
    for first, then in pairwise(JOBS):
        assert then in tasks[first]["downstream"], f"{first} >> {then}"
    assert tasks["report"]["downstream"] == []


def test_reselect_waits_for_scores_and_runs_no_scoring(parsed: dict[str, Any]) -> None:
    dag = parsed["dags"]["longattn_reselect"]
    assert set(dag["tasks"]) == {"inputs", "select", "export", "report"}
    assert dag["waits_for_scores"]
    assert not parsed["dags"]["longattn_pipeline"]["waits_for_scores"]


@pytest.mark.parametrize("dag_id", ["longattn_pipeline", "longattn_reselect"])
def test_every_param_has_a_schema(parsed: dict[str, Any], dag_id: str) -> None:
    schemas = parsed["dags"][dag_id]["params"]
    assert {name: schema["type"] for name, schema in schemas.items()} == {
        "config": "string",
        "domains": "array",
        "overrides": "array",
        "profile": "string",
    }
    assert schemas["domains"]["items"]["enum"] == list(DOMAINS)
    assert schemas["profile"]["enum"] == ["cpu", "gpu"]


def test_every_task_has_retries_and_a_time_limit(
    parsed: dict[str, Any], settings: dict[str, Any]
) -> None:
    limits = settings["timeout_minutes"]
    for dag in parsed["dags"].values():
        for name, task in dag["tasks"].items():
            assert task["retries"] == settings["retries"], name
            assert task["minutes"] == limits.get(name, limits["default"]), name


@pytest.mark.parametrize(
    ("operator", "task_type"),
    [
        ("databricks", "DatabricksSubmitRunOperator"),
        ("databricks-job", "DatabricksRunNowOperator"),
    ],
)
def test_one_setting_chooses_another_operator(
    env: dict[str, str], operator: str, task_type: str
) -> None:
    found = parse(env, LONGATTN_AIRFLOW_OPERATOR=operator)
    assert found["errors"] == {}
    tasks = found["dags"]["longattn_pipeline"]["tasks"]
    assert {tasks[name]["type"] for name in JOBS if name != "publish"} == {task_type}


def test_an_unknown_operator_is_refused_by_name(env: dict[str, str]) -> None:
    (error,) = parse(env, LONGATTN_AIRFLOW_OPERATOR="yarn")["errors"].values()
    assert "'yarn' is none of spark-submit, databricks, databricks-job" in error


def test_a_bad_form_starts_nothing(airflow: Airflow) -> None:
    conf = json.dumps({"domains": ["wiki"]})
    made = airflow("dags", "test", "longattn_pipeline", "-c", conf)
    assert made.returncode == 1
    assert "Invalid input for param domains" in made.stdout
