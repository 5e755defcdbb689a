"""A job as an Airflow task: settings from longattn.yaml, one operator of three, one argv.

An engine is an operator and the one field of it that carries the job's arguments; that field is
rendered when the task runs, from the inputs that the run's first task has resolved.
"""

import json
import logging
import os
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from airflow.sdk import BaseOperator, Param

FOLDER = Path(__file__).resolve().parent
SETTINGS: dict[str, Any] = yaml.safe_load(
    Path(os.environ.get("LONGATTN_AIRFLOW_CONFIG", FOLDER / "longattn.yaml")).read_text()
)
HOME = Path(SETTINGS["home"] or os.environ.get("LONGATTN_HOME", FOLDER.parent))

Inputs = Mapping[str, Any]  # config, domains, overrides, profile; for a mapped task also domain


def form(overrides: list[str]) -> dict[str, Param]:
    """The trigger form's fields; Airflow checks what is typed, or posted, against these schemas."""
    domains, profiles = domains_of(SETTINGS["config"]), list(SETTINGS["profiles"])
    return {
        "config": Param(
            SETTINGS["config"], type="string", minLength=1, description="YAML settings"
        ),
        "domains": Param(
            [],
            type="array",
            items={"type": "string", **({"enum": domains} if domains else {})},
            uniqueItems=True,
            examples=domains,
            description="domains to score; none: all of the config",
        ),
        "overrides": Param(
            overrides,
            type="array",
            items={"type": "string", "pattern": r"^[\w.]+=.*"},
            description="key=value, one a line, for example select.alpha=0.5",
        ),
        "profile": Param(SETTINGS["profile"], type="string", enum=profiles),
    }


def domains_of(config: str) -> list[str]:
    """The domains that a config has scored, where this machine can read it, else those that the
    settings list. Windows of packed domains are not scored one domain at a time.
    """
    path = HOME / config
    if not path.exists():
        return list(SETTINGS["domains"])
    found = yaml.load(path.read_text(), yaml.BaseLoader) or {}  # where a domain `no` is a text
    asked, packed = ((found.get(name) or {}).get("domains") or [] for name in ("score", "pack"))
    return list(asked or [name for name in found.get("sources") or {} if name not in packed])


def tell_failure(context: Mapping[str, Any]) -> None:
    """Post one line about a failed task to the alert URL, as Slack's and Teams' hooks take it."""
    url = os.environ.get("LONGATTN_AIRFLOW_ALERT_URL", SETTINGS["alert_url"])
    if not url:
        return
    task = context["ti"]
    mapped = f" ({task.map_index})" if task.map_index >= 0 else ""
    text = f"{task.dag_id}, run {task.run_id}: {task.task_id}{mapped} failed"
    if error := context.get("exception"):
        text += f": {(str(error).splitlines() or [''])[0]}"
    body = json.dumps({"text": text}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except OSError as error:  # the task has failed anyway; say why nobody was told
        logging.getLogger(__name__).warning("alert_url: %s", error)


def job(name: str) -> BaseOperator:
    """One job as one task."""
    engine = _engine()
    field = {engine.field: f"{{{{ request('{name}', {INPUTS}) }}}}"}
    return engine.operator(**_common(name), **engine.fixed(name), **field)


def job_per_domain(name: str, requests: Any) -> Any:
    """One job as a mapped task; requests is what `requests_per_domain` gave."""
    engine = _engine()
    partial = engine.operator.partial(
        **_common(name),
        **engine.fixed(name),
        max_active_tis_per_dagrun=1,  # a run holds the root until its end
        # a text before it, or a domain `2024` would be rendered as a number, which is no name
        map_index_template=f"domain {{{{ ({INPUTS}['domains'] or ['packed'])[ti.map_index] }}}}",
    )
    return partial.expand(**{engine.field: requests})


def requests_per_domain(name: str, inputs: Inputs) -> list[Any]:
    """What each mapped task is asked: the same job, one domain each; all that is packed at once."""
    if not inputs["domains"] and not (HOME / inputs["config"]).exists():
        raise ValueError(
            f"{inputs['config']} is not on this machine: list `domains` in longattn.yaml"
        )
    each = [request(name, {**inputs, "domain": domain}) for domain in inputs["domains"]]
    return each or [request(name, inputs)]


def request(name: str, inputs: Inputs) -> Any:
    """The operator's templated field for one job."""
    return _engine().request(name, inputs)


def spark_conf(name: str, inputs: Inputs) -> dict[str, str]:
    """The profile's Spark conf for one job."""
    return _profile("conf", name, inputs)


INPUTS = "ti.xcom_pull(task_ids='inputs')"
MACROS = {"request": request, "spark_conf": spark_conf}


@dataclass(frozen=True)
class Engine:
    """How a job is run: the operator, its arguments that never change, its field that does."""

    operator: type[BaseOperator]
    field: str
    fixed: Callable[[str], dict[str, Any]]
    request: Callable[[str, Inputs], Any]


def _engine() -> Engine:
    """The engine that the setting names; each operator is imported only where it is used."""
    engines = {
        "spark-submit": _spark_submit,
        "databricks": _databricks,
        "databricks-job": _databricks_job,
    }
    name = os.environ.get("LONGATTN_AIRFLOW_OPERATOR", SETTINGS["operator"])
    if name not in engines:
        raise ValueError(f"operator: {name!r} is none of {', '.join(engines)}")
    return engines[name]()


def _spark_submit() -> Engine:
    from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

    def fixed(name: str) -> dict[str, Any]:
        return {
            "conn_id": SETTINGS["spark"]["conn_id"],
            "application": str(HOME / "dist" / "submit.py"),
            "py_files": str(HOME / "dist" / "longattn.zip"),
            "name": f"longattn-{name}",
            "conf": f"{{{{ spark_conf('{name}', {INPUTS}) }}}}",
            "pool": SETTINGS["spark"]["pool"],
            **SETTINGS["spark"]["options"],
        }

    return Engine(SparkSubmitOperator, "application_args", fixed, _argv)


def _databricks() -> Engine:
    from airflow.providers.databricks.operators.databricks import DatabricksSubmitRunOperator

    return Engine(DatabricksSubmitRunOperator, "json", lambda _: _databricks_common(), _run)


def _databricks_job() -> Engine:
    from airflow.providers.databricks.operators.databricks import DatabricksRunNowOperator

    fixed = {"job_name": SETTINGS["databricks"]["job_name"], **_databricks_common()}
    return Engine(DatabricksRunNowOperator, "json", lambda _: fixed, _run_now)


def _argv(name: str, inputs: Inputs) -> list[str]:
    """The command line's arguments, the same for every way to run a job."""
    config = inputs["config"]
    local = HOME / config
    sets = list(inputs["overrides"])
    if "domain" in inputs:
        sets.append(f"score.domains={json.dumps([inputs['domain']], ensure_ascii=False)}")
    return [
        name,
        "--config",
        str(local) if local.exists() else config,
        *(word for override in sets for word in ("--set", override)),
    ]


def _run(name: str, inputs: Inputs) -> dict[str, Any]:
    """A one-time run of one task on a cluster of its own.

    It is a Python task and not a wheel task: the operator would put the DAG's params into the named
    parameters of a wheel task, beside its arguments, and Databricks refuses to have both.
    """
    settings = SETTINGS["databricks"]
    script = {"python_file": settings["main"], "parameters": _argv(name, inputs)}
    task = {
        "task_key": name,
        "spark_python_task": script,
        "new_cluster": _profile("cluster", name, inputs),
        "libraries": [{"whl": settings["wheel"]}],
    }
    run_name = "-".join(["longattn", name, *([inputs["domain"]] if "domain" in inputs else [])])
    return {"run_name": run_name, "tasks": [task], "timeout_seconds": 60 * _minutes(name)}


def _run_now(name: str, inputs: Inputs) -> dict[str, Any]:
    """A run of one task of the bundle's job."""
    domains = [inputs["domain"]] if "domain" in inputs else inputs["domains"]
    values = {"domains": domains, "overrides": inputs["overrides"]}
    parameters = {key: json.dumps(value) for key, value in values.items()}
    parameters["config"] = inputs["config"]
    return {"only": [name], "job_parameters": parameters}


def _databricks_common() -> dict[str, Any]:
    settings = SETTINGS["databricks"]
    return {
        "databricks_conn_id": settings["conn_id"],
        "polling_period_seconds": settings["poll_seconds"],
        "deferrable": settings["deferrable"],
    }


def _common(name: str) -> dict[str, Any]:
    return {"task_id": name, "execution_timeout": timedelta(minutes=_minutes(name))}


def _minutes(name: str) -> int:
    """The most that a job may take; Airflow does not look at a task that waits deferred."""
    limits = SETTINGS["timeout_minutes"]
    minutes: int = limits.get(name, limits["default"])
    return minutes


def _profile(kind: str, name: str, inputs: Inputs) -> dict[str, Any]:
    """A profile's `conf` or `cluster`: its default, with the job's own on top."""
    section = SETTINGS["profiles"][inputs["profile"]][kind]
    return {**section["default"], **section.get(name, {})}
