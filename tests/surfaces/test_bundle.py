"""The Databricks bundle: valid to the official models, and every name in it leads somewhere."""

import importlib
import re
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from longattn.etl import config as config_module
from longattn.etl.cli import _parser
from longattn.etl.jobs import JOBS

bundles = pytest.importorskip("databricks.bundles.jobs", reason="databricks-bundles not installed")
REPO = Path(__file__).resolve().parents[2]
BUNDLE: dict[str, Any] = yaml.safe_load((REPO / "databricks.yml").read_text())
GIVEN = {
    "{{job.parameters.config}}": "/Volumes/main/longattn/files/longattn.yaml",
    "{{job.parameters.tables}}": "main.longattn",
    "{{job.parameters.override}}": "seed=0",
    "{{input}}": "book",
}


def resolved(target: str) -> dict[str, Any]:
    """The job as a target sees it: each ${var.x} replaced, in values, as the CLI does."""
    values = {name: spec["default"] for name, spec in BUNDLE["variables"].items()}
    values |= BUNDLE["targets"][target].get("variables", {})
    (pattern,) = BUNDLE["include"]
    (path,) = REPO.glob(pattern)
    job = yaml.safe_load(path.read_text())["resources"]["jobs"]["longattn"]
    return _substitute(job, {f"${{var.{name}}}": value for name, value in values.items()})


def _substitute(node: Any, values: dict[str, Any]) -> Any:
    if isinstance(node, dict):
        return {key: _substitute(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_substitute(value, values) for value in node]
    if node in values:
        return values[node]
    for name, value in values.items() if isinstance(node, str) else ():
        node = node.replace(name, str(value))
    return node


def tasks(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All tasks that run something; for a for_each task, the one inside it."""
    for task in job["tasks"]:
        yield task["for_each_task"]["task"] if "for_each_task" in task else task


@pytest.mark.parametrize("target", ["dev", "prod"])
def test_the_official_models_accept_it(target: str) -> None:
    job = resolved(target)
    assert "${" not in yaml.safe_dump(job)
    assert bundles.Job.from_dict(job).name == "longattn"


def test_the_official_models_would_refuse_a_typo() -> None:
    job = resolved("dev")
    job["tasks"][0]["timeout_secs"] = 1
    with pytest.raises(ValueError, match="timeout_secs"):
        bundles.Job.from_dict(job)


def test_tasks_are_the_jobs_in_order() -> None:
    found = resolved("dev")["tasks"]
    assert [task["task_key"] for task in found] == list(JOBS)
    before = [[d["task_key"] for d in task.get("depends_on", [])] for task in found]
    assert before == [[], *([job] for job in list(JOBS)[:-1])]


def test_only_score_takes_the_gpu_cluster() -> None:
    job = resolved("dev")
    clusters = {c["job_cluster_key"]: c["new_cluster"] for c in job["job_clusters"]}
    assert "gpu" in clusters["gpu"]["spark_version"]
    used = {task["task_key"]: task["job_cluster_key"] for task in tasks(job)}
    assert {key for key, cluster in used.items() if cluster == "gpu"} == {"score_domain"}
    assert set(used.values()) <= set(clusters)


def test_the_wheel_and_its_entry_point_are_there() -> None:
    setup = ConfigParser()
    setup.read(REPO / "setup.cfg")
    package = setup["metadata"]["name"].replace("-", "_")
    scripts = dict(
        re.split(r"\s*=\s*", line)
        for line in setup["options.entry_points"]["console_scripts"].split("\n")
        if line
    )
    for task in tasks(resolved("prod")):
        wheel = task["python_wheel_task"]
        assert wheel["package_name"] == package
        module, _, function = scripts[wheel["entry_point"]].partition(":")
        assert callable(getattr(importlib.import_module(module), function))
        ((library),) = task["libraries"]
        assert (REPO / "resources" / library["whl"]).resolve().parent == REPO / "dist"


def test_the_build_command_is_there() -> None:
    assert (REPO / BUNDLE["artifacts"]["wheel"]["build"]).stat().st_mode & 0o100


@pytest.mark.parametrize("job", JOBS)
def test_the_command_line_and_the_config_accept_every_argument(job: str) -> None:
    (task,) = [t for t in tasks(resolved("prod")) if t["task_key"].split("_")[0] == job]
    argv = [_substitute(word, GIVEN) for word in task["python_wheel_task"]["parameters"]]
    assert "{{" not in " ".join(argv)
    arguments = _parser().parse_args(argv)
    assert arguments.first == arguments.last == job
    config = config_module.load(None, arguments.set)
    assert config.tables.root == "main.longattn"
    assert config.score.domains == (["book"] if job == "score" else [])


def test_every_parameter_is_used_and_every_one_used_is_there() -> None:
    job = resolved("prod")
    used = set(re.findall(r"\{\{job\.parameters\.(\w+)\}\}", yaml.safe_dump(job["tasks"])))
    assert used == {parameter["name"] for parameter in job["parameters"]}
