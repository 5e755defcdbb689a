"""Which connector a session can use, and the tables of a root opened with it."""

from pyspark.sql import SparkSession

from etl.config import TablesConfig
from etl.tables.base import Table
from etl.tables.delta_rs import DeltaRsTable
from etl.tables.native import NativeTable
from etl.tables.schema import TABLES
from udfs.errors import ConfigError

EXTENSION = "io.delta.sql.DeltaSparkSessionExtension"
CONNECTORS: dict[str, type[Table]] = {"native": NativeTable, "delta-rs": DeltaRsTable}


def open_tables(spark: SparkSession, config: TablesConfig) -> dict[str, Table]:
    """All tables under config.root, a folder, a URI or catalog.schema; none is made by this.

    Raises ConfigError for catalog names without the native connector.
    """
    name, why = choose_connector(spark, config)
    if name == "delta-rs" and is_catalog_name(config.root):
        raise ConfigError(
            f"tables.root: {config.root} is a catalog name, which only the native connector can "
            f"open, and delta-rs is in use: {why}"
        )
    connector = CONNECTORS[name]
    return {
        table: connector(spark, spec, location(config.root, table))
        for table, spec in TABLES.items()
    }


def choose_connector(spark: SparkSession, config: TablesConfig) -> tuple[str, str]:
    """The connector's name, and why it is this one, for people to read."""
    if config.connector != "auto":
        return config.connector, "tables.connector says so"
    if _on_databricks(spark):
        return "native", "Databricks has Delta built in"
    if EXTENSION in (spark.conf.get("spark.sql.extensions", "") or ""):
        return "native", "the session has Delta's extension"
    return "delta-rs", "the session has no Delta extension; Spark reads and writes the Parquet"


def location(root: str, table: str) -> str:
    """Where a table lives: root/table for paths, root.table for catalog names."""
    return f"{root}.{table}" if is_catalog_name(root) else f"{root.rstrip('/')}/{table}"


def is_catalog_name(root: str) -> bool:
    """True for `catalog.schema`: two identifiers and a dot, no slash."""
    parts = root.split(".")
    return "/" not in root and len(parts) == 2 and all(part.isidentifier() for part in parts)


def _on_databricks(spark: SparkSession) -> bool:
    prefix = "spark.databricks.clusterUsageTags.clusterId"
    return bool(spark.conf.get(prefix, None))
