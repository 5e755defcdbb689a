"""An Airflow of the test's own: home, database and settings under a tmp folder, no network."""

import functools
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.surfaces.corpus import REPO, SCORER, make_config

SPARK_VENV = REPO / ".venv"
BIN = Path(sys.executable).parent
Airflow = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture(scope="session")
def settings(root: Path) -> dict[str, Any]:
    """The repository's settings, cut down to two small domains and a JVM that starts fast."""
    found: dict[str, Any] = yaml.safe_load((REPO / "airflow_dags/longattn.yaml").read_text())
    fast, _ = java()
    found |= {"config": str(root / "config.yaml"), "retries": 1}
    found["retry_delay_minutes"] = 0.02
    found["reselect"] = [
        "select.name=reselected",
        "select.alpha=0.0",
        f"export={{parquet: {{path: {root}/reselected}}}}",
        f"report.path={root}/reselected.html",
    ]
    found["profiles"]["cpu"]["conf"]["default"] |= {
        "spark.driver.memory": "1g",
        "spark.driver.extraJavaOptions": fast,
        "spark.ui.enabled": "false",
    }
    found["databricks"]["poll_seconds"] = 1
    return found


@pytest.fixture(scope="session")
def env(root: Path, settings: dict[str, Any]) -> dict[str, str]:
    """The environment of docs/airflow.md; every secret is made here."""
    (root / "longattn.yaml").write_text(yaml.safe_dump(settings))
    make_config(root)  # whose domains the form offers; `corpus` writes the one that is run
    _, home = java()
    pyspark = next((SPARK_VENV / "lib").glob("python3*/site-packages/pyspark"))
    port = free_port()
    spark = {"conn_type": "spark", "host": "local[2]", "extra": {"deploy-mode": "client"}}
    api = f"http://127.0.0.1:{port}"
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")},
        "PATH": f"{BIN}:{SPARK_VENV / 'bin'}:{os.environ['PATH']}",
        "SPARK_HOME": str(pyspark),
        "PYSPARK_PYTHON": str(SPARK_VENV / "bin" / "python"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        **({"JAVA_HOME": home} if home else {}),
        "LONGATTN_AIRFLOW_CONFIG": str(root / "longattn.yaml"),
        "AIRFLOW_HOME": str(root / "home"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPO / "airflow_dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{api}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__BASE_URL": api,
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",  # the files do not change
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps(spark),
    }


@pytest.fixture(scope="session")
def airflow(root: Path, env: dict[str, str], settings: dict[str, Any]) -> Airflow:
    """`airflow ARGS`, after the database has been made."""

    def run(*args: str, timeout: int = 400, **more: str) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / "airflow"), *args]
        return subprocess.run(
            command,
            env={**env, **more},
            cwd=root,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
        )

    pool = settings["spark"]["pool"]
    for command in (("db", "migrate"), ("pools", "set", pool, "1", "drivers on this machine")):
        made = run(*command)
        assert made.returncode == 0, made.stdout[-3000:]
    return run


@pytest.fixture(scope="session")
def corpus(root: Path) -> Path:
    """A config over two domains of a few documents, scored at random; returns its path."""
    assert (SCORER / "scorer.json").exists(), "no demo model: run `make demo-data` first"
    return make_config(
        root, tokenizer=str(SCORER), score={"scorer": "random"}, select={"fraction": 0.5}
    )


def longattn(*args: str) -> str:
    """`longattn ARGS` in the project's own venv."""
    command = [str(SPARK_VENV / "bin" / "longattn"), *args]
    made = subprocess.run(command, text=True, capture_output=True, timeout=200)
    assert made.returncode == 0, made.stderr[-3000:]
    return made.stdout


@functools.cache
def java() -> tuple[str, str]:
    """Options by which Java starts fast, and JAVA_HOME as the project finds it; that may be ''."""
    tell = (
        "import os; from tests.commands import fast_java;"
        " print(fast_java(), os.environ.get('JAVA_HOME', ''), sep='\\n')"
    )
    command = [str(SPARK_VENV / "bin" / "python"), "-c", tell]
    printed = subprocess.run(command, cwd=REPO, text=True, capture_output=True, check=True).stdout
    options, home = printed.splitlines()
    return options, home


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
