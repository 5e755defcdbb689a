"""SPARK_HOME and PYSPARK_PYTHON of another installation: one line instead of a trace."""

import sys
from pathlib import Path

import pyspark
import pytest

from longattn.etl.session.installation import refuse_other_installations
from longattn.udfs.errors import ConfigError


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPARK_HOME", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
        monkeypatch.delenv(name, raising=False)


def told(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> str:
    monkeypatch.setenv(name, str(value))
    with pytest.raises(ConfigError) as caught:
        refuse_other_installations()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_spark_of_another_version_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "there is no Spark" in told(monkeypatch, "SPARK_HOME", tmp_path)
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "spark-core_2.12-3.5.1.jar").touch()
    said = told(monkeypatch, "SPARK_HOME", tmp_path)
    assert f"is Spark 3.5.1 and pyspark is {pyspark.__version__}" in said
    assert said.endswith("pip install pyspark==3.5.1")


def test_a_python_of_another_installation_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no such program" in told(monkeypatch, "PYSPARK_PYTHON", "python9.9")
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    assert "ModuleNotFoundError" in told(monkeypatch, "PYSPARK_PYTHON", bare)
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\necho 3.8\n")
    old.chmod(0o755)
    assert "Python 3.8, and this is 3." in told(monkeypatch, "PYSPARK_PYTHON", old)


def test_what_belongs_here_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_other_installations()
    monkeypatch.setenv("SPARK_HOME", str(Path(pyspark.__file__).parent))
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    refuse_other_installations()
