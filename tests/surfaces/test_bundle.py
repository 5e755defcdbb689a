"""The Databricks bundle: valid to the official models, and every name in it leads somewhere."""

import importlib
import json
import re
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from longattn.etl import config as config_module
from longattn.etl.cli import _parser, entry
from longattn.etl.run.jobs import JOBS
from longattn.udfs.scorers.registry import reads_model

bundles = pytest.importorskip("databricks.bundles.jobs", reason="databricks-bundles not installed")
schemas = pytest.importorskip("databricks.bundles.schemas")
volumes = pytest.importorskip("databricks.bundles.volumes")
REPO = Path(__file__).resolve().parents[2]
BUNDLE: dict[str, Any] = yaml.safe_load((REPO / "databricks.yml").read_text())
GIVEN = {
    "{{job.parameters.config}}": "/Volumes/main/longattn/files/longattn.yaml",
    "{{job.parameters.tables}}": "main.longattn",
    "{{job.parameters.overrides}}": '["seed=7", "select.alpha=0.3"]',
    "{{job.parameters.scorer}}": "recall",
    "{{input}}": "book",
}


def resources(target: str) -> dict[str, dict[str, Any]]:
    """Kind -> name -> resource as a target sees it: each ${...} replaced, as the CLI does."""
    (pattern,) = BUNDLE["include"]
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(REPO.glob(pattern)):
        for kind, named in yaml.safe_load(path.read_text())["resources"].items():
            found.setdefault(kind, {}).update(named)
    return _substitute(found, given(target))


def given(target: str) -> dict[str, Any]:
    """What variables and references of a target stand for."""
    variables = {name: spec["default"] for name, spec in BUNDLE["variables"].items()}
    variables |= BUNDLE["targets"][target].get("variables", {})
    values = {f"${{var.{name}}}": value for name, value in variables.items()}
    schema = variables["schema"] if target == "prod" else f"dev_me_{variables['schema']}"
    return values | {"${resources.schemas.longattn.name}": schema, "${bundle.name}": "longattn"}


def resolved(target: str, job: str = "longattn") -> dict[str, Any]:
    """A job as a target sees it."""
    found: dict[str, Any] = resources(target)["jobs"][job]
    return found


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
    found = resources(target)
    assert "${" not in yaml.safe_dump(found)
    jobs = {name: bundles.Job.from_dict(job).name for name, job in found["jobs"].items()}
    assert jobs == {"longattn": "longattn", "longattn_serverless": "longattn-serverless"}
    schema = schemas.Schema.from_dict(found["schemas"]["longattn"])
    volume = volumes.Volume.from_dict(found["volumes"]["files"])
    named = given(target)["${resources.schemas.longattn.name}"]  # dev puts a prefix before it
    assert volume.schema_name == named and named.endswith(schema.name)
    parameters = {p["name"]: p["default"] for p in found["jobs"]["longattn"]["parameters"]}
    assert parameters["tables"] == f"{schema.catalog_name}.{named}"
    place = f"/Volumes/{volume.catalog_name}/{volume.schema_name}/{volume.name}"
    assert parameters["config"] == f"{place}/longattn.yaml"


def test_what_the_jobs_made_outlives_the_bundle() -> None:
    found = resources("prod")
    kept = [*found["schemas"].values(), *found["volumes"].values()]
    assert all(resource["lifecycle"]["prevent_destroy"] for resource in kept)


def test_prod_runs_as_a_principal_and_says_who_may_look() -> None:
    prod = _substitute(BUNDLE["targets"]["prod"], given("prod") | {"${var.principal}": "a1"})
    assert bundles.JobRunAs.from_dict(prod["run_as"]).service_principal_name == "a1"
    (permission,) = prod["permissions"]
    levels = {"CAN_VIEW", "CAN_RUN", "CAN_MANAGE"}  # of a bundle; each kind of resource has its own
    assert permission["group_name"] == "users" and permission["level"] in levels


def test_a_failed_run_is_told_to_those_who_asked() -> None:
    for name in ("longattn", "longattn_serverless"):
        told = _substitute(resources("prod")["jobs"][name], {})["email_notifications"]
        assert told["on_failure"] == BUNDLE["variables"]["notify"]["default"]


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_node_types_are_variables_of_the_bundle(cloud: str) -> None:
    nodes = json.loads((REPO / "resources" / "nodes" / f"{cloud}.json").read_text())
    assert set(nodes) == {"cpu_node", "gpu_node"} <= set(BUNDLE["variables"])
    assert nodes["cpu_node"] != nodes["gpu_node"]


def test_serverless_has_no_cluster_and_scores_without_a_model() -> None:
    job = resolved("prod", "longattn_serverless")
    (task,) = job["tasks"]
    assert "job_clusters" not in job and task["environment_key"] == "longattn"
    (library,) = job["environments"][0]["spec"]["dependencies"]
    assert (REPO / "resources" / library).resolve().parent == REPO / "dist"
    argv = [_substitute(word, GIVEN) for word in task["python_wheel_task"]["parameters"]]
    arguments = _parser().parse_args(argv)
    config = config_module.load(None, arguments.set)
    assert not reads_model(config.score.scorer)
    assert (config.select.by, config.seed, config.tables.root) == ("ds", 7, "main.longattn")


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
    assert (config.tables.root, config.seed, config.select.alpha) == ("main.longattn", 7, 0.3)
    assert config.score.domains == (["book"] if job == "score" else [])


def test_every_parameter_is_used_and_every_one_used_is_there() -> None:
    job = resolved("prod")
    used = set(re.findall(r"\{\{job\.parameters\.(\w+)\}\}", yaml.safe_dump(job["tasks"])))
    assert used == {parameter["name"] for parameter in job["parameters"]}


def test_a_command_that_is_done_returns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wheel task that ends in SystemExit(0) counts as failed."""
    monkeypatch.setattr("sys.argv", ["longattn", "config", "--explain", "seed"])
    entry()
    assert capsys.readouterr().out.startswith("seed")
    monkeypatch.setattr("sys.argv", ["longattn", "config"])
    with pytest.raises(SystemExit) as ended:
        entry()
    assert ended.value.code == 2
