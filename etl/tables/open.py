"""Which connector a session can use, and the tables of a root opened with it."""

import os
from typing import NamedTuple

from pyspark.sql import SparkSession

from longattn.etl.config import TablesConfig
from longattn.etl.tables.base import Table
from longattn.etl.tables.delta_rs import DeltaRsTable
from longattn.etl.tables.locations import is_catalog_name, location
from longattn.etl.tables.native import NativeTable
from longattn.etl.tables.schema import TABLES
from longattn.udfs.errors import ConfigError
from longattn.udfs.stores import S3

EXTENSION = "io.delta.sql.DeltaSparkSessionExtension"
CONNECTORS: dict[str, type[Table]] = {"native": NativeTable, "delta-rs": DeltaRsTable}


class Connector(NamedTuple):
    """A connector's name, and why it is this one."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def open_tables(spark: SparkSession, config: TablesConfig) -> dict[str, Table]:
    """All tables under config.root, a folder, a URI or catalog.schema; none is made by this.

    Raises ConfigError for catalog names without the native connector.
    """
    connector = choose_connector(spark, config)
    refuse_root(config, connector)
    return {
        table: CONNECTORS[connector.name](spark, spec, location(config.root, table))
        for table, spec in TABLES.items()
    }


def refuse_root(config: TablesConfig, connector: Connector) -> None:
    """Raise ConfigError for a root that cannot be opened, or a folder with a lease elsewhere."""
    if config.lease_folder and not is_catalog_name(config.root):
        raise ConfigError(
            f"tables.lease_folder: {config.root} is a folder and keeps its lease in itself; "
            "lease_folder is for a root that is catalog.schema"
        )
    if connector.name == "delta-rs" and is_catalog_name(config.root):
        raise ConfigError(
            f"tables.root: {config.root} is a catalog name, which only the native connector can "
            f"open, and this is {connector}; for a folder write ./{config.root}"
        )
    if connector.name == "delta-rs" and "%" in config.root:
        raise ConfigError(
            f"tables.root: {config.root} holds a %, which the deltalake package would decode; "
            "name the folder otherwise"
        )


def choose_connector(spark: SparkSession, config: TablesConfig) -> Connector:
    """The connector for the session; raises ConfigError for `native` without Delta's classes."""
    if config.connector == "delta-rs":
        return Connector("delta-rs", "tables.connector says so")
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return Connector("native", "Databricks has Delta built in")
    lacking = _lacks(spark)
    if config.connector == "native" and lacking:
        raise ConfigError(
            f"tables.connector: native, but {lacking}; start Spark with --packages "
            f"io.delta:delta-spark_4.2_2.13:4.4.0 --conf spark.sql.extensions={EXTENSION} and "
            "Delta's catalog, or say delta-rs"
        )
    if lacking:
        return Connector("delta-rs", lacking)
    if S3.scheme.match(config.root):
        return Connector(
            "native",
            "the session has Delta's extension; its commits on S3 are safe "
            "from one session at a time, for more say delta-rs",
        )
    return Connector("native", "the session has Delta's extension")


def _lacks(spark: SparkSession) -> str:
    """What the session lacks for the native connector; empty when it has all."""
    if EXTENSION not in (spark.conf.get("spark.sql.extensions", "") or ""):
        return "the session has no Delta extension"
    try:
        spark.read.format("delta").load("/").schema  # noqa: B018 - what it raises is the answer
    except Exception as error:
        if "DATA_SOURCE_NOT_FOUND" in str(error):
            return "the session names Delta's extension but its jar is missing"
    return ""
