"""The native connector: Delta's own JVM library, by format("delta") and the delta-spark API."""

import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import Any

from pyspark.sql import DataFrame, DataFrameWriter, Row, SparkSession
from pyspark.sql import functions as F

from longattn.etl.tables.base import Commit, Detail, Table, Txn
from longattn.etl.tables.schema import TableSpec
from longattn.udfs.errors import ConcurrentWriteError

RETENTION_CHECK = "spark.databricks.delta.retentionDurationCheck.enabled"
SAFE_HOURS = 168  # Delta refuses to vacuum younger files unless the check is switched off


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
            return self.empty()
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        frame = reader.load(self.location) if self.by_path else reader.table(self.location)
        if file_names is not None:
            frame = frame.where(F.col("_metadata.file_name").isin(*file_names))
        return frame.select(*self.spec.columns)

    def append(self, df: DataFrame, txn: Txn | None = None) -> Commit:
        writer = self._writer(df).mode("append")
        if txn:
            writer = writer.option("txnAppId", txn.app_id).option("txnVersion", txn.version)
        return self._save(writer)

    def overwrite(self, df: DataFrame) -> Commit:
        return self._save(self._writer(df).mode("overwrite"))

    def replace_where(self, df: DataFrame, partition: dict[str, str]) -> Commit:
        predicate = " AND ".join(f"`{column}` = {_sql(v)}" for column, v in partition.items())
        return self._save(self._writer(df).mode("overwrite").option("replaceWhere", predicate))

    def merge(self, df: DataFrame, since: int | None = None) -> Commit:
        """All keys are looked at, whatever `since` says: Delta merges with a whole table.

        Delta evaluates df again for each attempt, and once more to look for repeated keys.
        """
        self.check_columns(df)
        self.refuse_repeated_keys(df)
        self._create()
        rows = df.select(*self.spec.columns)
        counted = self.until_not_overtaken(lambda: self._merge(rows), ConcurrentWriteError)
        version = self.version()
        assert version is not None  # it has been made
        return Commit(version=version, rows=counted["num_inserted_rows"], bytes=0)

    def history(self, limit: int | None = None) -> list[dict[str, Any]]:
        return [_history_entry(commit) for commit in self._commits(limit)]

    def optimize(self) -> dict[str, Any]:
        if not self._exists():
            return {"files_added": 0, "files_removed": 0}
        metrics = self.spark.sql(f"OPTIMIZE {self.sql_name}").collect()[0]["metrics"]
        return {
            "files_added": metrics["numFilesAdded"],
            "files_removed": metrics["numFilesRemoved"],
        }

    def vacuum(self, retention_hours: float = 168, dry_run: bool = False) -> list[str]:
        """Delta names the files of a dry run only, so there is one before the real run."""
        if not self._exists():
            return []
        statement = f"VACUUM {self.sql_name} RETAIN {retention_hours:g} HOURS"
        if retention_hours >= SAFE_HOURS:
            return self._vacuum(statement, dry_run)
        self.spark.conf.set(RETENTION_CHECK, "false")
        try:
            return self._vacuum(statement, dry_run)
        finally:
            self.spark.conf.unset(RETENTION_CHECK)

    def detail(self) -> Detail | None:
        version = self.version()
        if version is None:
            return None
        size = self._delta().detail().collect()[0]
        rows = self.read(version).count()  # Delta answers it from the log's statistics
        return Detail(version=version, rows=rows, bytes=size["sizeInBytes"], files=size["numFiles"])

    def _exists(self) -> bool:
        if self.by_path:
            return bool(_api().isDeltaTable(self.spark, self.location))
        return bool(self.spark.catalog.tableExists(self.location))

    def _delta(self) -> Any:
        if self.by_path:
            return _api().forPath(self.spark, self.location)
        return _api().forName(self.spark, self.location)

    def _commits(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Commits, newest first, with all that Delta records of them."""
        if not self._exists():
            return []
        history = self._delta().history() if limit is None else self._delta().history(limit)
        return [row.asDict(recursive=True) for row in history.collect()]

    def _create(self) -> None:
        """Make the table with comments, partitions and properties; nothing where it exists."""
        builder = _api().createIfNotExists(self.spark)
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
        self.check_columns(df)
        return df.select(*self.spec.columns).write.format("delta")

    def _save(self, writer: DataFrameWriter) -> Commit:
        """Write and find the commit by a mark of its own: others may commit at the same time."""
        self._create()
        before, mark = self.version(), uuid.uuid4().hex
        assert before is not None  # it has just been made
        self._write(writer.option("userMetadata", mark))
        return self._commit_of(mark, before)

    def _write(self, writer: DataFrameWriter) -> None:
        self.guard()
        from delta.exceptions import ConcurrentTransactionException

        try:
            with self._conflicts():
                writer.save(self.location) if self.by_path else writer.saveAsTable(self.location)
        except ConcurrentTransactionException:
            pass  # the same transaction id, committed by somebody else meanwhile

    def _merge(self, rows: DataFrame) -> Row:
        """One insert-only merge; what Delta counted of it."""
        same = " AND ".join(f"kept.`{column}` <=> new.`{column}`" for column in self.spec.key)
        self.guard()
        merge = self._delta().alias("kept").merge(rows.alias("new"), same)
        with self._conflicts():
            counted: Row = merge.whenNotMatchedInsertAll().execute().collect()[0]
        return counted

    @contextmanager
    def _conflicts(self) -> Iterator[None]:
        """Raise ConcurrentWriteError for any of Delta's conflicts but that of a transaction id."""
        from delta import exceptions as delta

        try:
            yield
        except (
            delta.ConcurrentAppendException,
            delta.ConcurrentDeleteReadException,
            delta.ConcurrentDeleteDeleteException,
            delta.ConcurrentWriteException,
            delta.MetadataChangedException,
            delta.ProtocolChangedException,
            delta.DeltaConcurrentModificationException,
        ) as error:
            raise ConcurrentWriteError(
                f"table {self.location}: {str(error).splitlines()[0]}"
            ) from None

    def _commit_of(self, mark: str, before: int) -> Commit:
        """The commit with this mark; Delta makes none for a transaction id it has seen."""
        newest = self.version() or before
        since = self._commits(newest - before) if newest > before else []
        for commit in since:
            if commit["userMetadata"] == mark:
                metrics = commit["operationMetrics"]
                rows, size = metrics.get("numOutputRows", 0), metrics.get("numOutputBytes", 0)
                return Commit(version=commit["version"], rows=int(rows), bytes=int(size))
        return Commit(version=newest, rows=0, bytes=0, skipped=True)

    def _vacuum(self, statement: str, dry_run: bool) -> list[str]:
        gone = [row["path"] for row in self.spark.sql(f"{statement} DRY RUN").collect()]
        if not dry_run:
            self.spark.sql(statement).collect()
        return gone


def _api() -> Any:
    from delta.tables import DeltaTable

    return DeltaTable


def _history_entry(commit: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": commit["version"],
        "timestamp": commit["timestamp"].astimezone(UTC),
        "operation": commit["operation"],
        "parameters": commit["operationParameters"],
    }


def _sql(value: str) -> str:
    """A string literal of Spark SQL."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
