"""All jobs through Spark Connect: a server started from pyspark, and a driver without a JVM."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from deltalake import DeltaTable

from longattn.etl.session import DELTA_CONF, SESSION_CONF
from tests.commands import fast_java
from tests.conftest import jars
from tests.etl.test_everywhere import documents, settings
from tests.few_rows import FEW_ROWS
from tests.surfaces.test_submit import SPARK_HOME, free_port, stop, wait_for

REPO = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.spark, pytest.mark.jars, pytest.mark.slow]
SERVER = "org.apache.spark.sql.connect.service.SparkConnectServer"


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Connect server of two slots with Delta's jars; yields what SPARK_REMOTE is to be."""
    folder, port = tmp_path_factory.mktemp("connect"), free_port()
    conf = {
        **SESSION_CONF,
        **DELTA_CONF,
        **FEW_ROWS,
        "spark.jars": jars("delta"),
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "2g",
        "spark.driver.extraJavaOptions": fast_java(),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.ui.enabled": "false",
    }
    words = [str(SPARK_HOME / "bin" / "spark-submit"), "--class", SERVER, "--master", "local[2]"]
    words += [word for pair in conf.items() for word in ("--conf", "=".join(pair))]
    env = {**os.environ, "SPARK_HOME": str(SPARK_HOME), "PYSPARK_PYTHON": sys.executable}
    log = folder / "server.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [*words, "spark-internal"],
            cwd=REPO,
            env={**env, "PYTHONPATH": str(REPO)},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(log, "Spark Connect server started", [server])
        yield f"sc://127.0.0.1:{port}"
    finally:
        stop([server])


@pytest.mark.parametrize(
    ("connector", "last", "rows"),
    [("native", "report", 69), ("delta-rs", "select", 67)],  # later jobs write no tables
)
def test_all_jobs_run_through_spark_connect(
    connector: str, last: str, rows: int, remote: str, tmp_path: Path
) -> None:
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "1.jsonl").write_text(documents("b", range(4)))
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings(str(tmp_path), connector)))
    made = longattn(remote, "run", "--to", last, "--config", str(config))
    assert made.returncode == 0, made.stdout[-3000:]
    assert f"connector {connector}" in made.stdout and "score    16 in, 16 out" in made.stdout
    assert DeltaTable(tmp_path / "tables" / "scores").to_pandas()["window_id"].nunique() == 16
    checked = longattn(remote, "status", "--check", "--config", str(config))
    assert checked.stdout.endswith(f"11 tables, {rows} rows: nothing is wrong\n"), checked.stdout


def longattn(remote: str, *words: str) -> subprocess.CompletedProcess[Any]:
    """A command in a process whose session is the server's."""
    return subprocess.run(
        [sys.executable, "-m", "longattn", *words],
        cwd=REPO,
        env={**os.environ, "SPARK_REMOTE": remote},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
    )
