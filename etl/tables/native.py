"""The native connector: Delta's own JVM library, by format("delta") and the delta-spark API."""

from collections.abc import Collection
from typing import Any

from pyspark.sql import DataFrame, DataFrameWriter, SparkSession
from pyspark.sql import functions as F

from etl.tables.base import Commit, Detail, Table, Txn
from etl.tables.schema import TableSpec


class NativeTable(Table):
    """A Delta table in a catalog (catalog.schema.table) or at a path, by delta-spark 4.x."""

    def __init__(self, spark: SparkSession, spec: TableSpec, location: str) -> None:
        super().__init__(spark, spec, location)
        self.by_path = "/" in location
        self.sql_name = f"delta.`{location}`" if self.by_path else location

    def version(self) -> int | None:
        commits = self.history(limit=1)
        return commits[0]["version"] if commits else None

    def read(
        self, version: int | None = None, file_names: Collection[str] | None = None
    ) -> DataFrame:
        if not self._exists():
            return self.spark.createDataFrame([], self.spec.schema)
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        frame = reader.load(self.location) if self.by_path else reader.table(self.location)
        if file_names is not None:
            frame = frame.where(F.col("_metadata.file_name").isin(*file_names))
        return frame.select(*self.spec.columns)

    def append(self, df: DataFrame, txn: Txn | None = None) -> Commit:
        self._create()
        before = self.version()
        writer = self._writer(df).mode("append")
        if txn:
            writer = writer.option("txnAppId", txn.app_id).option("txnVersion", txn.version)
        self._save(writer)
        commit = self._last_commit()
        if txn and commit.version == before:
            return Commit(version=commit.version, rows=0, bytes=0, skipped=True)
        return commit

    def overwrite(self, df: DataFrame) -> Commit:
        self._create()
        self._save(self._writer(df).mode("overwrite"))
        return self._last_commit()

    def replace_where(self, df: DataFrame, partition: dict[str, str]) -> Commit:
        self._create()
        predicate = " AND ".join(f"{column} = '{_quoted(v)}'" for column, v in partition.items())
        self._save(self._writer(df).mode("overwrite").option("replaceWhere", predicate))
        return self._last_commit()

    def history(self, limit: int | None = None) -> list[dict[str, Any]]:
        if not self._exists():
            return []
        history = self._delta().history() if limit is None else self._delta().history(limit)
        return [row.asDict(recursive=True) for row in history.collect()]

    def optimize(self) -> dict[str, Any]:
        if not self._exists():
            return {}
        rows = self.spark.sql(f"OPTIMIZE {self.sql_name}").collect()
        return rows[0].asDict(recursive=True) if rows else {}

    def vacuum(self, retention_hours: float = 168, dry_run: bool = False) -> list[str]:
        if not self._exists():
            return []
        suffix = " DRY RUN" if dry_run else ""
        statement = f"VACUUM {self.sql_name} RETAIN {retention_hours:g} HOURS{suffix}"
        return [row["path"] for row in self.spark.sql(statement).collect()]

    def detail(self) -> Detail | None:
        if not self._exists():
            return None
        row = self._delta().detail().collect()[0]
        version, rows = self.version(), self.read().count()
        assert version is not None  # the table exists
        return Detail(version=version, rows=rows, bytes=row["sizeInBytes"], files=row["numFiles"])

    def _exists(self) -> bool:
        from delta.tables import DeltaTable

        if self.by_path:
            return bool(DeltaTable.isDeltaTable(self.spark, self.location))
        return bool(self.spark.catalog.tableExists(self.location))

    def _delta(self) -> Any:
        from delta.tables import DeltaTable

        if self.by_path:
            return DeltaTable.forPath(self.spark, self.location)
        return DeltaTable.forName(self.spark, self.location)

    def _create(self) -> None:
        """Make the table with comments, partitions and properties; nothing where it exists."""
        from delta.tables import DeltaTable

        builder = DeltaTable.createIfNotExists(self.spark)
        builder = (
            builder.location(self.location) if self.by_path else builder.tableName(self.location)
        )
        for name, (type_, comment) in self.spec.columns.items():
            builder = builder.addColumn(name, type_, comment=comment)
        if self.spec.partition_by:
            builder = builder.partitionedBy(*self.spec.partition_by)
        indexed = ",".join(self.spec.indexed)
        builder.property("delta.dataSkippingStatsColumns", indexed).execute()

    def _writer(self, df: DataFrame) -> DataFrameWriter:
        return df.select(*map(F.col, self.spec.columns)).write.format("delta")

    def _save(self, writer: DataFrameWriter) -> None:
        if self.by_path:
            writer.save(self.location)
        else:
            writer.saveAsTable(self.location)

    def _last_commit(self) -> Commit:
        commit = self.history(limit=1)[0]
        metrics = commit.get("operationMetrics") or {}
        rows, size = metrics.get("numOutputRows", 0), metrics.get("numOutputBytes", 0)
        return Commit(version=commit["version"], rows=int(rows), bytes=int(size))


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
