"""The DAG files parse, fast and without anything heavy, and serialise to the chain they draw."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.surfaces.corpus import DOMAINS, REPO

CHAIN = ["ingest", "dedup", "windows", "score", "publish"]
CHAIN += ["select", "export", "publish_export", "report"]
JOBS = [name for name in CHAIN if not name.startswith("publish")]


def parse(env: dict[str, str], **more: str) -> dict[str, Any]:
    script = Path(__file__).with_name("parse_dags.py")
    command = [sys.executable, str(script), str(REPO / "airflow_dags")]
    made = subprocess.run(command, env={**env, **more}, text=True, capture_output=True, timeout=400)
    assert made.returncode == 0, made.stderr[-3000:]
    found: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def parsed(env: dict[str, str]) -> dict[str, Any]:
    return parse(env)


@pytest.fixture(scope="module")
def parsed_by(env: dict[str, str]) -> Callable[[str], dict[str, Any]]:
    """What the files are parsed to where another operator is set; each parsed once."""
    return lru_cache(lambda operator: parse(env, LONGATTN_AIRFLOW_OPERATOR=operator))


def test_no_import_errors_and_no_heavy_modules(parsed: dict[str, Any]) -> None:
    assert parsed["errors"] == {}
    assert parsed["heavy"] == []


def test_jobs_are_submitted_to_spark(parsed: dict[str, Any]) -> None:
    tasks = parsed["dags"]["longattn_pipeline"]["tasks"]
    types = {tasks[name]["type"] for name in JOBS}
    assert types == {"SparkSubmitOperator"}


def test_the_pipeline_is_the_chain_of_jobs(parsed: dict[str, Any]) -> None:
    tasks = parsed["dags"]["longattn_pipeline"]["tasks"]
    for first, then in pairwise(CHAIN):
        assert then in tasks[first]["downstream"], f"{first} >> {then}"
    assert tasks["report"]["downstream"] == []


def test_reselect_waits_for_scores_and_runs_no_scoring(parsed: dict[str, Any]) -> None:
    dag = parsed["dags"]["longattn_reselect"]
    assert set(dag["tasks"]) == {"inputs", "select", "export", "publish_export", "report"}
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
    parsed_by: Callable[[str], dict[str, Any]], operator: str, task_type: str
) -> None:
    found = parsed_by(operator)
    assert found["errors"] == {}
    tasks = found["dags"]["longattn_pipeline"]["tasks"]
    assert {tasks[name]["type"] for name in JOBS} == {task_type}


def test_drivers_on_this_machine_share_a_pool(
    parsed: dict[str, Any],
    settings: dict[str, Any],
    parsed_by: Callable[[str], dict[str, Any]],
) -> None:
    for dag in parsed["dags"].values():
        pools = {name: task["pool"] for name, task in dag["tasks"].items() if name in JOBS}
        assert set(pools.values()) == {settings["spark"]["pool"]}
    elsewhere = parsed_by("databricks")["dags"]["longattn_pipeline"]
    assert {task["pool"] for task in elsewhere["tasks"].values()} == {"default_pool"}


def test_runs_on_databricks_hold_no_worker(parsed_by: Callable[[str], dict[str, Any]]) -> None:
    for operator in ("databricks", "databricks-job"):
        dag = parsed_by(operator)["dags"]["longattn_pipeline"]
        assert all(dag["tasks"][name]["deferrable"] for name in JOBS)


def test_exports_and_scores_are_assets(parsed: dict[str, Any]) -> None:
    outlets = {
        (dag_id, name): task["outlets"]
        for dag_id, dag in parsed["dags"].items()
        for name, task in dag["tasks"].items()
        if task["outlets"]
    }
    assert outlets == {
        ("longattn_pipeline", "publish"): ["longattn_scores"],
        ("longattn_pipeline", "publish_export"): ["longattn_exports"],
        ("longattn_reselect", "publish_export"): ["longattn_exports"],
    }


def test_every_task_tells_of_its_failure(parsed: dict[str, Any]) -> None:
    for dag in parsed["dags"].values():
        assert all(task["told"] for task in dag["tasks"].values())


def test_an_unknown_operator_is_refused_by_name(
    parsed_by: Callable[[str], dict[str, Any]],
) -> None:
    (error,) = parsed_by("yarn")["errors"].values()
    assert "'yarn' is none of spark-submit, databricks, databricks-job" in error


@pytest.mark.parametrize(
    ("config", "domains"),
    [
        ("sources: {book: [], wiki: []}", ["book", "wiki"]),
        ("sources: {book: [], wiki: []}\npack: {domains: [wiki]}", ["book"]),
        ("sources: {book: [], no: [], 2024: []}\nscore: {domains: [no, 2024]}", ["no", "2024"]),
        ("sources: {wiki: []}\npack: {domains: [wiki]}", []),
        ("sources: {book: []}\nscore:\npack: {domains: }", ["book"]),
    ],
)
def test_domains_are_those_that_are_scored(
    config: str, domains: list[str], env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(config)
    code = (
        "import sys, json, longattn_tasks as t; config = sys.argv[1]; found = t.domains_of(config);"
        "inputs = {'config': config, 'domains': found, 'overrides': [], 'profile': 'cpu'};"
        "print(json.dumps([found, len(t.requests_per_domain('score', inputs))]))"
    )
    made = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "config.yaml")],
        env={**env, "PYTHONPATH": str(REPO / "airflow_dags")},
        text=True,
        capture_output=True,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    assert json.loads(made.stdout.splitlines()[-1]) == [domains, max(len(domains), 1)]
