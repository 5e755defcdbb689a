"""The native connector: Delta's own JVM library, by format("delta") and SQL.

Nothing here needs the delta-spark package or a classic session, so Spark Connect and Databricks run
it too. Spark answers questions about a table's log with jobs, half a second each and several for
`DESCRIBE DETAIL`; a log on this machine's disk is read by the deltalake package instead.
"""

import os
import re
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, DataFrameWriter, Row, SparkSession
from pyspark.sql import functions as F

from longattn.etl.tables.base import HOLDER, Commit, Detail, Result, Table, Txn, sql_text
from longattn.etl.tables.delta_rs import DeltaRsTable
from longattn.etl.tables.schema import STATS_COLUMNS, TableSpec
from longattn.udfs.errors import (
    ConcurrentWriteError,
    LeaseLostError,
    TableError,
    UnsupportedTableFeature,
)
from longattn.udfs.storage import local_path

RETENTION_CHECK = "spark.databricks.delta.retentionDurationCheck.enabled"
MARK = "userMetadata"  # an option of writers that Delta keeps in the commit
TXN_APP = "spark.databricks.delta.write.txnAppId"
TXN_VERSION = "spark.databricks.delta.write.txnVersion"
ONE_AT_A_TIME = threading.RLock()  # commits of a holder, whose numbers must come in order
MOVES_NO_ROW = {"OPTIMIZE", "VACUUM START", "VACUUM END"}  # operations that change none
MEANWHILE = 100  # commits of others that may come while a catalog is asked for ours
SAFE_HOURS = 168  # Delta refuses to vacuum younger files unless the check is switched off
NOT_MADE = {
    "PATH_NOT_FOUND",
    "DELTA_PATH_DOES_NOT_EXIST",
    "DELTA_TABLE_NOT_FOUND",
    "DELTA_MISSING_DELTA_TABLE",
    "TABLE_OR_VIEW_NOT_FOUND",
    "SCHEMA_NOT_FOUND",
}
SAME_TRANSACTION = "DELTA_CONCURRENT_TRANSACTION"
# The last is said of a table that somebody is making: its log is there, and empty yet.
CONFLICT = re.compile(
    "DELTA_(CONCURRENT_|METADATA_CHANGED|PROTOCOL_CHANGED|CREATE_TABLE_WITH_NON_EMPTY_LOCATION)"
)


class NativeTable(Table):
    """A Delta table in a catalog (catalog.schema.table) or at a path, by Delta 4.x."""

    def __init__(self, spark: SparkSession, spec: TableSpec, location: str) -> None:
        self.by_path = "/" in location
        if self.by_path and local_path(location) == location:
            location = os.path.abspath(location)  # SQL takes delta.`a/b` for a schema's name
        super().__init__(spark, spec, location)
        self.sql_name = f"delta.`{location.replace('`', '``')}`" if self.by_path else location
        readable = self.by_path and "%" not in location  # deltalake would decode it
        self._log = DeltaRsTable(spark, spec, location) if readable else None
        self._ready = False  # made, and with the columns that it should have

    def version(self) -> int | None:
        return self._from_log(DeltaRsTable.version, self._newest)

    def read(
        self, version: int | None = None, file_names: Collection[str] | None = None
    ) -> DataFrame:
        frame = self._load(version)
        if frame is None:
            return self.empty()
        if file_names is not None:
            frame = frame.where(F.col("_metadata.file_name").isin(*file_names))
        return self.with_values(frame, dict.fromkeys(self.spec.lacking(frame.columns)))

    def unchanged(self, before: int, now: int) -> bool:
        def by_history() -> bool:
            commits = self._since(before, now)
            whole = len(commits) == now - before  # of a log that was cleaned up some are gone
            return whole and all(commit["operation"] in MOVES_NO_ROW for commit in commits)

        return self._from_log(lambda log: log.unchanged(before, now), by_history)

    def append(self, df: DataFrame, txn: Txn | None = None) -> Commit:
        return self._save(self._writer(df).mode("append"), txn)

    def fence(self) -> None:
        """By the log where it is on this disk; Spark takes a second for a table."""

        def by_log(log: DeltaRsTable) -> None:
            log.guard, log.number = self.guard, self.number
            log.fence()

        self._from_log(by_log, self._fence)

    def overwrite(self, df: DataFrame) -> Commit:
        if not self.by_path:
            return self._replace_in_catalog(df, "true")
        return self._save(self._writer(df).mode("overwrite"))

    def replace_where(self, df: DataFrame, partition: dict[str, str]) -> Commit:
        equal = (f"`{column}` = {sql_text(value)}" for column, value in partition.items())
        predicate = " AND ".join(equal)
        if not self.by_path:
            return self._replace_in_catalog(df, predicate)
        return self._save(self._writer(df).mode("overwrite").option("replaceWhere", predicate))

    def put(self, row: Mapping[str, Any]) -> Commit:
        """Delta refuses it where another's row has come meanwhile; then it is put again."""
        return self._until_not_overtaken(lambda: super(NativeTable, self).put(row))

    def merge(self, df: DataFrame, since: int | None = None) -> Commit:
        """All keys are looked at, whatever `since` says: Delta merges with a whole table.

        Delta evaluates df again for each attempt, and once more to look for repeated keys.
        """
        self.check_columns(df)
        self.refuse_repeated_keys(df)
        self._prepare()
        rows = df.select(*self.spec.columns)
        counted = self._until_not_overtaken(lambda: self._merge(rows))
        return self._committed(counted["num_inserted_rows"])

    def delete_few(self, column: str, values: Collection[str]) -> Commit:
        self._prepare()
        listed = ", ".join(sql_text(value) for value in sorted(values))
        statement = f"DELETE FROM {self.sql_name} WHERE `{column}` IN ({listed})"
        deleted = self._until_not_overtaken(lambda: self._change(statement))[0]
        return self._committed(-deleted)

    def optimize(self) -> dict[str, Any]:
        if self.version() is None:
            return {"files_added": 0, "files_removed": 0}
        metrics = self.spark.sql(f"OPTIMIZE {self.sql_name}").collect()[0]["metrics"]
        return {
            "files_added": metrics["numFilesAdded"],
            "files_removed": metrics["numFilesRemoved"],
        }

    def vacuum(self, retention_hours: float = 168, dry_run: bool = False) -> list[str]:
        """Delta names the files of a dry run only, so there is one before the real run."""
        if self.version() is None:
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
        return self._from_log(DeltaRsTable.detail, self._detail)

    def _from_log(
        self, read: Callable[[DeltaRsTable], Result], ask_spark: Callable[[], Result]
    ) -> Result:
        """From the log itself where it is on this disk and has no feature unknown to deltalake."""
        if self._log is not None and (Path(self._log.location) / "_delta_log").is_dir():
            with suppress(UnsupportedTableFeature):
                return read(self._log)
        return ask_spark()

    def _fence(self) -> None:
        if self._newest() is not None:
            self._save(self._writer(self.empty()).mode("append"))

    def _newest(self) -> int | None:
        commits = self._commits(limit=1)
        return commits[0]["version"] if commits else None

    def _detail(self) -> Detail | None:
        version = self._newest()
        if version is None:
            return None
        size = self.spark.sql(f"DESCRIBE DETAIL {self.sql_name}").collect()[0]
        rows = self.read(version).count()  # Delta answers it from the log's statistics
        return Detail(version=version, rows=rows, bytes=size["sizeInBytes"], files=size["numFiles"])

    def _load(self, version: int | None = None) -> DataFrame | None:
        """The table as it is; None when it has not been made."""
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        try:
            frame = reader.load(self.location) if self.by_path else reader.table(self.location)
            schema = frame.schema
        except PySparkException as error:
            if _condition(error) in NOT_MADE:
                return None
            raise TableError(f"table {self.location}: {_message(error)}") from None
        self.check_schema(schema, list(self.spec.partition_by))
        return frame

    def _commits(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Commits, newest first, with all that Delta records of them."""
        if self._load() is None:
            return []
        newest = "" if limit is None else f" LIMIT {limit}"
        history = self.spark.sql(f"DESCRIBE HISTORY {self.sql_name}{newest}")
        return [row.asDict(recursive=True) for row in history.collect()]

    def _prepare(self) -> None:
        """Make the table, or bring one that an older version made up to date; once."""
        if not self._ready:
            self._until_not_overtaken(self._create)
            self._until_not_overtaken(self._add_columns)
            self._ready = True

    def _create(self) -> None:
        """Make the table with comments, partitions and properties; nothing where it exists."""
        columns = ", ".join(_column(name, *kind) for name, kind in self.spec.columns.items())
        by = ", ".join(f"`{name}`" for name in self.spec.partition_by)
        self._execute(
            f"CREATE TABLE IF NOT EXISTS {self.sql_name} ({columns}) USING delta "
            + (f"PARTITIONED BY ({by}) " if by else "")
            + f"TBLPROPERTIES ('{STATS_COLUMNS}' = {sql_text(self.spec.stats_property)})"
        )

    def _add_columns(self) -> None:
        frame = self._load()
        if frame is None:  # somebody else is making it, and its log is empty yet
            raise ConcurrentWriteError(f"table {self.location}: it is being made")
        if lacking := self.spec.lacking(frame.columns):
            columns = ", ".join(_column(name, *self.spec.columns[name]) for name in lacking)
            self._execute(f"ALTER TABLE {self.sql_name} ADD COLUMNS ({columns})")

    def _execute(self, statement: str) -> list[Row]:
        with self._conflicts():
            rows: list[Row] = self.spark.sql(statement).collect()
        return rows

    def _writer(self, df: DataFrame) -> DataFrameWriter:
        self.check_columns(df)
        return df.select(*self.spec.columns).write.format("delta")

    def _replace_in_catalog(self, df: DataFrame, predicate: str) -> Commit:
        """saveAsTable would make the table anew, with another schema, which Hive refuses."""
        self.check_columns(df)
        writer = df.select(*self.spec.columns).writeTo(self.location)
        return self._marked(
            lambda options: writer.options(**options).overwrite(F.expr(predicate)), None
        )

    def _save(self, writer: DataFrameWriter, txn: Txn | None = None) -> Commit:
        return self._marked(lambda options: self._save_there(writer.options(**options)), txn)

    def _save_there(self, writer: DataFrameWriter) -> None:
        writer.save(self.location) if self.by_path else writer.saveAsTable(self.location)

    def _committed(self, rows: int) -> Commit:
        version = self.version()
        assert version is not None  # it has been made
        return Commit(version=version, rows=rows)

    def _marked(self, write: Callable[[dict[str, Any]], None], txn: Txn | None) -> Commit:
        """Write and find the commit by a mark of its own: others may commit at the same time."""
        self._prepare()
        before, mark = self.version(), uuid.uuid4().hex
        assert before is not None  # it has just been made
        with self._numbered(txn) as named:
            options = {"txnAppId": named.app_id, "txnVersion": named.version} if named else {}
            self._write(lambda: write({MARK: mark, **options}))
            commit = self._commit_of(mark, before)
            if commit.skipped and self.number:
                self._refuse_overtaken()
        return commit

    @contextmanager
    def _numbered(self, txn: Txn | None) -> Iterator[Txn | None]:
        """What the next commit is known by: while the root is held, its holder's next number.

        Delta makes no commit of a number when the table has seen a higher one, which it has as soon
        as another holds the root. So numbers are committed in order, one at a time.
        """
        if self.number is None:
            yield txn
            return
        with ONE_AT_A_TIME:
            yield Txn(app_id=HOLDER, version=self.number())

    def _refuse_overtaken(self) -> None:
        self.guard()
        raise LeaseLostError(
            f"table {self.location}: a later holder of the tables has written to it, so nothing was"
            " added; run it again"
        )

    def _write(self, write: Callable[[], None]) -> None:
        self.guard()
        try:
            with self._conflicts():
                write()
        except Exception as error:  # of any kind: see _conflicts
            if _condition(error) != SAME_TRANSACTION:
                raise
            # the same transaction id, committed by somebody else meanwhile

    def _merge(self, rows: DataFrame) -> Row:
        """One insert-only merge; what Delta counted of it."""
        view = f"longattn_{uuid.uuid4().hex}"
        rows.createOrReplaceTempView(view)
        same = " AND ".join(f"kept.`{column}` <=> new.`{column}`" for column in self.spec.key)
        # By name: `INSERT *` asks for columns that others have added to the table.
        columns = ", ".join(f"`{column}`" for column in self.spec.columns)
        values = ", ".join(f"new.`{column}`" for column in self.spec.columns)
        statement = (
            f"MERGE INTO {self.sql_name} AS kept USING {view} AS new ON {same} "
            f"WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({values})"
        )
        try:
            return self._change(statement)
        finally:
            self.spark.catalog.dropTempView(view)

    def _change(self, statement: str) -> Row:
        """Run a statement of SQL that commits; what Delta counted of it."""
        counted: list[Row] = []
        with self._numbered(None) as named, self._known_by(named):
            self._write(lambda: counted.extend(self._execute(statement)))
        if not counted:
            self._refuse_overtaken()
        return counted[0]

    @contextmanager
    def _known_by(self, txn: Txn | None) -> Iterator[None]:
        """Give statements of SQL a transaction, which they take from the session's settings."""
        settings = {TXN_APP: txn.app_id, TXN_VERSION: str(txn.version)} if txn else {}
        for key, value in settings.items():
            self.spark.conf.set(key, value)
        try:
            yield
        finally:
            for key in settings:
                self.spark.conf.unset(key)

    def _until_not_overtaken(self, commit: Callable[[], Result]) -> Result:
        return self.until_not_overtaken(commit, ConcurrentWriteError, self.guard)

    @contextmanager
    def _conflicts(self) -> Iterator[None]:
        """Raise ConcurrentWriteError for any of Delta's conflicts but that of a transaction id.

        They come as errors of py4j, of pyspark, or of the delta package where it is imported.
        """
        try:
            yield
        except Exception as error:
            condition = _condition(error)
            if condition == SAME_TRANSACTION or not CONFLICT.match(condition):
                raise
            raise ConcurrentWriteError(f"table {self.location}: {_message(error)}") from None

    def _commit_of(self, mark: str, before: int) -> Commit:
        """The commit with this mark; Delta makes none for a transaction id it has seen."""
        newest = self.version() or before
        for commit in self._since(before, newest):
            if commit.get(MARK) == mark:
                rows = commit["operationMetrics"].get("numOutputRows", 0)
                return Commit(version=commit["version"], rows=int(rows))
        return Commit(version=newest, rows=0, skipped=True)

    def _since(self, before: int, newest: int) -> list[dict[str, Any]]:
        if newest == before:
            return []

        def ask_spark() -> list[dict[str, Any]]:
            commits = self._commits(newest - before + MEANWHILE)
            return [commit for commit in commits if before < commit["version"] <= newest]

        return self._from_log(lambda log: log.commits(before + 1, newest), ask_spark)

    def _vacuum(self, statement: str, dry_run: bool) -> list[str]:
        gone = [row["path"] for row in self.spark.sql(f"{statement} DRY RUN").collect()]
        if not dry_run:
            self.spark.sql(statement).collect()
        return gone


def schema_folder(spark: SparkSession, root: str) -> str | None:
    """Where a catalog.schema keeps its tables; None where only Spark may open what lies there.

    Raises TableError where there is no such schema.
    """
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return None  # storage there is opened by credentials that the catalog alone hands out
    schema = ".".join(f"`{part}`" for part in root.split("."))
    try:
        folder: str = spark.catalog.getDatabase(schema).locationUri
    except PySparkException as error:
        if _condition(error) not in NOT_MADE:
            raise
        raise TableError(
            f"tables.root: there is no schema {root}; CREATE SCHEMA {schema}, or have it made, and"
            " run this again"
        ) from None
    return folder


def _condition(error: Exception) -> str:
    """The condition that an error's message begins with, as `DELTA_TABLE_NOT_FOUND`; or nothing."""
    match = re.search(r"\[([A-Z][A-Z0-9_]+)[\].]", str(error))
    return match[1] if match else ""


def _message(error: Exception) -> str:
    """The line that has the condition."""
    lines = str(error).strip().splitlines()
    return next((line for line in lines if re.search(r"\[[A-Z]", line)), lines[0])


def _column(name: str, type_: str, comment: str) -> str:
    return f"`{name}` {type_} COMMENT {sql_text(comment)}"
