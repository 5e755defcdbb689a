"""Whether SPARK_HOME and PYSPARK_PYTHON, where they are set, belong to what runs here."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from longattn.udfs.errors import ConfigError

PROBE = "import sys, pyarrow, longattn.udfs; print('%d.%d' % sys.version_info[:2])"


def refuse_other_installations() -> None:
    """Raise ConfigError, one line, for a Spark of another version or a Python that lacks this.

    Left over from another installation, either would end in a trace of Java.
    """
    if home := os.environ.get("SPARK_HOME"):
        _check_spark(home)
    for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
        if program := os.environ.get(name):
            _check_python(name, program)


def _check_spark(home: str) -> None:
    import pyspark

    version = spark_version(Path(home))
    if version is None:
        raise ConfigError(f"SPARK_HOME={home}: there is no Spark; unset it to use pyspark's own")
    if version != pyspark.__version__:
        raise ConfigError(
            f"SPARK_HOME={home} is Spark {version} and pyspark is {pyspark.__version__}: unset it,"
            f" or pip install pyspark=={version}"
        )


def spark_version(home: Path) -> str | None:
    """The version that the name of its spark-core jar says; None where there is no such jar."""
    jars = (home / "jars").glob("spark-core_*.jar")
    names = [re.fullmatch(r"spark-core_[\d.]+-(.+)\.jar", jar.name) for jar in jars]
    return next((match[1] for match in names if match), None)


def _check_python(name: str, program: str) -> None:
    path = shutil.which(program)
    if path is None:
        raise ConfigError(f"{name}={program}: no such program; unset it to use {sys.executable}")
    if Path(path).absolute() == Path(sys.executable).absolute():
        return
    asked = subprocess.run([path, "-c", PROBE], capture_output=True, text=True, check=False)
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or ["it does not run"])[-1]
    elif asked.stdout.strip() != here:
        reason = f"Python {asked.stdout.strip()}, and this is {here}"
    else:
        return
    raise ConfigError(f"{name}={program}: {reason}; unset it to use {sys.executable}")
