"""The delta-rs connector: Spark reads and writes the Parquet, deltalake keeps the log.

A write puts its files in place first and then commits them: until that one commit no reader sees
any of them. What deltalake accepts without a check is checked here: columns, table features, and
that a replace has not been overtaken by another writer.
"""

import json
import math
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import reduce
from itertools import takewhile
from typing import Any
from urllib.parse import unquote

import deltalake
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import PrimitiveType
from deltalake.transaction import Transaction
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from longattn.etl.tables.base import HOLDER, Commit, Detail, Result, Table, Txn, same_keys
from longattn.etl.tables.features import refuse_unreadable, refuse_unwritable
from longattn.etl.tables.files import (
    NewFiles,
    commit_info,
    naming,
    partitions,
    unchanged,
    write_files,
)
from longattn.etl.tables.locations import as_pattern
from longattn.etl.tables.schema import STATS_COLUMNS, TableSpec
from longattn.udfs.ddl import literal
from longattn.udfs.errors import (
    TableError,
    UnsupportedTableFeature,
    first_line,
)
from longattn.udfs.storage import local_path
from longattn.udfs.stores import delta_options

APPEND_RETRIES = 100  # appends commute: deltalake takes the next free version
NO_FILES = NewFiles(folder="", actions=[], rows=0)
ORPHAN_HOURS = 24  # files the log has never named may be a running job's until they are this old


class DeltaRsTable(Table):
    """A Delta table whose log is read and written by the deltalake package."""

    def __init__(self, spark: SparkSession, spec: TableSpec, location: str) -> None:
        super().__init__(spark, spec, local_path(location) or location)
        self._options = delta_options(self.location)

    def version(self) -> int | None:
        table = self._open()
        return None if table is None else table.version()

    def read(
        self, version: int | None = None, file_names: Collection[str] | None = None
    ) -> DataFrame:
        table = self._open(version)
        if table is None:
            return self.empty()
        self._check_schema(table)
        parts = partitions(table, self.location, file_names)
        frames = [self._read_files(*part) for part in parts]
        return reduce(DataFrame.unionAll, frames) if frames else self.empty()

    def append(self, df: DataFrame, txn: Txn | None = None) -> Commit:
        if skip := self._skip(txn):
            return skip
        files = self._write(df)
        return self._retry(lambda: self._append(files, txn))

    def unchanged(self, before: int, now: int) -> bool:
        return unchanged(self.location, before, now)

    def fence(self) -> None:
        self._retry(self._fence)

    def overwrite(self, df: DataFrame) -> Commit:
        files = self._write(df)
        return self._retry(lambda: self._commit(files, "overwrite"))

    def replace_where(self, df: DataFrame, partition: dict[str, str]) -> Commit:
        files = self._write(df)
        self._refuse_strangers(files, partition)
        filters = [(column, "=", value) for column, value in partition.items()]
        return self._retry(lambda: self._commit(files, "overwrite", filters))

    def merge(self, df: DataFrame, since: int | None = None) -> Commit:
        """The rows are written first and looked at as written: df is evaluated once."""
        files = self._write(df)
        written = self._read_new(files) if files.rows else self.empty()
        self.refuse_repeated_keys(written)
        return self._retry(lambda: self._commit_unknown(files, written, since))

    def put(self, row: Mapping[str, Any]) -> Commit:
        """Without Spark, so that a run whose JVM has died is entered in the ledger too."""
        return self.until_not_overtaken(lambda: self._put(row), CommitFailedError)

    def commits(self, oldest: int, newest: int) -> list[dict[str, Any]]:
        """What the log says of each of these versions and its number, newest first; as far back as
        it goes.
        """
        versions = range(newest, oldest - 1, -1)
        infos = ((version, commit_info(self.location, version)) for version in versions)
        kept = takewhile(lambda info: info[1] is not None, infos)
        return [{**(info or {}), "version": version} for version, info in kept]

    def delete_few(self, column: str, values: Collection[str]) -> Commit:
        return self._retry(lambda: self._delete(column, values))

    def optimize(self) -> dict[str, Any]:
        return self._retry(self._compact)

    def vacuum(self, retention_hours: float = 168, dry_run: bool = False) -> list[str]:
        table = self._open()
        if table is None:
            return []
        refuse_unwritable(table, self.location)
        hours = math.ceil(retention_hours)
        removed = table.vacuum(hours, dry_run, enforce_retention_duration=False)
        orphan_hours = max(hours, ORPHAN_HOURS)
        orphans = table.vacuum(orphan_hours, dry_run, enforce_retention_duration=False, full=True)
        return sorted({*removed, *orphans})

    def detail(self) -> Detail | None:
        table = self._open()
        if table is None:
            return None
        with naming(self.location):
            actions = table.get_add_actions()
        sizes = actions["size_bytes"].to_pylist()
        counts = actions["num_records"].to_pylist()
        rows = self.read(table.version()).count() if None in counts else sum(counts)
        return Detail(version=table.version(), rows=rows, bytes=sum(sizes), files=len(sizes))

    def _open(self, version: int | None = None) -> DeltaTable | None:
        """The table, or None when it has not been made; features that would mislead are refused."""
        try:
            table = DeltaTable(self.location, storage_options=self._options)
        except TableNotFoundError:
            return None
        except DeltaError as error:
            raise self._cannot_open(error) from None
        if version is not None:
            self._load_version(table, version)
        refuse_unreadable(table, self.location)
        return table

    def _load_version(self, table: DeltaTable, version: int) -> None:
        latest = table.version()
        try:
            table.load_as_version(version)
        except DeltaError:
            raise TableError(
                f"table {self.location}: no version {version}; the latest is {latest}, "
                "and versions older than the log's retention are gone"
            ) from None

    def _cannot_open(self, error: DeltaError) -> TableError:
        reason = first_line(error)
        foreign = "Unsupported" in reason or "catalog-managed" in reason
        kind = UnsupportedTableFeature if foreign else TableError
        return kind(f"table {self.location}: deltalake cannot open it: {reason}")

    def _open_or_create(self) -> DeltaTable:
        """The table, made or brought up to date: what an older version made lacks later columns."""
        return self._retry(lambda: self._updated(self._open() or self._create()))

    def _updated(self, table: DeltaTable) -> DeltaTable:
        refuse_unwritable(table, self.location)
        self._check_schema(table)
        schema = self.spec.schema
        if lacking := self.spec.lacking(_schema(table).names):
            added = StructType([schema[name] for name in lacking])
            table.alter.add_columns(deltalake.Schema.from_json(added.json()).fields)
        return table

    def _create(self) -> DeltaTable:
        """Make the table; of two that make it at once the later finds it made."""
        with suppress(CommitFailedError):  # with retries it would be made again, as version 1
            DeltaTable.create(
                self.location,
                deltalake.Schema.from_json(self.spec.schema.json()),
                mode="ignore",
                partition_by=list(self.spec.partition_by),
                name=self.spec.name,
                configuration={STATS_COLUMNS: self.spec.stats_property},
                commit_properties=CommitProperties(max_commit_retries=0),
                storage_options=self._options,
            )
        return DeltaTable(self.location, storage_options=self._options)

    def _check_schema(self, table: DeltaTable) -> None:
        self.check_schema(_schema(table), table.metadata().partition_columns)

    def _read_files(self, values: dict[str, Any], paths: list[str]) -> DataFrame:
        schema = self.spec.schema
        stored = StructType([field for field in schema.fields if field.name not in values])
        frame = self.spark.read.schema(stored).parquet(*paths)
        return self.with_values(frame, values) if values else frame

    def _put(self, row: Mapping[str, Any]) -> Commit:
        table, mark = self._open() or self._open_or_create(), uuid.uuid4().hex
        refuse_unwritable(table, self.location)
        if lacking := self.spec.lacking([field.name for field in table.schema().fields]):
            types = ((name, PrimitiveType(self.spec.columns[name][0])) for name in lacking)
            table.alter.add_columns([deltalake.Field(name, type_) for name, type_ in types])
        rows = pa.Table.from_pylist([dict(row)], schema=pa.schema(table.schema().to_arrow()))
        properties = CommitProperties(custom_metadata={"userMetadata": mark}, max_commit_retries=0)
        write_deltalake(
            table,
            rows,
            mode="overwrite",
            predicate=" AND ".join(f"{name} = '{row[name]}'" for name in self.spec.key),
            commit_properties=properties,
        )
        return Commit(version=self._version_of(mark, since=table.version() - 1), rows=1)

    def _write(self, df: DataFrame) -> NewFiles:
        """Files without a log would look like a table that has lost it, so the log comes first."""
        self.check_columns(df)
        self._open_or_create()
        rows = df.select(*self.spec.columns)
        return write_files(rows, self.location, self.spec.partition_by, self.spec.indexed)

    def _read_new(self, files: NewFiles) -> DataFrame:
        """The rows of a write, committed or not."""
        folder = as_pattern(f"{self.location}/{files.folder}")
        return self.spark.read.schema(self.spec.schema).parquet(folder).select(*self.spec.columns)

    def _fence(self) -> None:
        table = self._open()
        if table is not None:
            refuse_unwritable(table, self.location)
            self._commit(NO_FILES, "append", table=table)

    def _append(self, files: NewFiles, txn: Txn | None) -> Commit:
        """Appends commute, but who holds the root must not commit after it has lost it."""
        table = self._open_or_create()
        if skip := self._skip(txn, table):  # committed by somebody else while we wrote
            return skip
        retries = 0 if self.number else APPEND_RETRIES
        return self._commit(files, "append", retries=retries, txn=txn, table=table)

    def _commit_unknown(self, files: NewFiles, written: DataFrame, since: int | None) -> Commit:
        """Commit the rows whose keys the newest version has not, unless it is overtaken."""
        table, rows = self._open_or_create(), files.rows
        names = None if since is None else self._added_since(table, since)
        if (names is None and table.file_uris()) or names:
            fresh = self._unknown(written, self.read(table.version(), names))
            rows = fresh.select(*self.spec.key).count()
            files = self._write(fresh) if 0 < rows < files.rows else files
        if not rows:
            return Commit(version=table.version(), rows=0)
        return self._commit(files, "append", table=table)

    def _unknown(self, written: DataFrame, known: DataFrame) -> DataFrame:
        return written.join(*same_keys(known, self.spec.key), "left_anti")

    def _added_since(self, table: DeltaTable, version: int) -> set[str]:
        """Names of data files that the table has and had not at a version."""
        before = self._open(version)
        known = set(before.file_uris()) if before else set()
        return {unquote(uri).rsplit("/", 1)[-1] for uri in set(table.file_uris()) - known}

    def _commit(
        self,
        files: NewFiles,
        mode: str,
        filters: list[tuple[str, str, str]] | None = None,
        retries: int = 0,
        txn: Txn | None = None,
        table: DeltaTable | None = None,
    ) -> Commit:
        """Commit against the newest version, which the removals of an overwrite follow from.

        Given the table, as opened at a version, a commit without retries needs it to be the newest.
        """
        table, mark = table or self._open_or_create(), uuid.uuid4().hex
        properties = CommitProperties(
            custom_metadata={"userMetadata": mark},
            max_commit_retries=retries,
            app_transactions=self._transactions(txn),
        )
        self.guard()
        table.create_write_transaction(
            files.actions,
            mode,
            table.schema(),
            list(self.spec.partition_by),
            partition_filters=filters,
            commit_properties=properties,
        )
        version = self._version_of(mark, since=table.version())
        return Commit(version=version, rows=files.rows)

    def _transactions(self, txn: Txn | None) -> list[Transaction] | None:
        """What a commit is known by: its work, and its holder's number, which natives look at."""
        named = [Transaction(txn.app_id, txn.version)] if txn else []
        numbered = [Transaction(HOLDER, self.number())] if self.number else []
        return named + numbered or None

    def _version_of(self, mark: str, since: int) -> int:
        """The version our commit became; others may have committed before and after it."""
        newest = DeltaTable(self.location, storage_options=self._options).version()
        commits = self.commits(since + 1, newest)
        version: int = next(c["version"] for c in commits if c.get("userMetadata") == mark)
        return version

    def _skip(self, txn: Txn | None, table: DeltaTable | None = None) -> Commit | None:
        """What to return for a transaction that the table, or its newest version, has seen."""
        table = table or (self._open() if txn else None)
        if txn and table and _has_committed(table, txn):
            return Commit(version=table.version(), rows=0, skipped=True)
        return None

    def _retry(self, commit: Callable[[], Result]) -> Result:
        """Commit again from the newest version when overtaken.

        deltalake's own retries would commit a stale replace, and keep rows that it must remove.
        """
        return self.until_not_overtaken(commit, CommitFailedError, self.guard)

    def _delete(self, column: str, values: Collection[str]) -> Commit:
        table = self._open_or_create()
        listed = ", ".join(map(literal, sorted(values)))
        self.guard()
        properties = CommitProperties(
            max_commit_retries=0, app_transactions=self._transactions(None)
        )
        metrics = table.delete(f"{column} IN ({listed})", commit_properties=properties)
        return Commit(version=table.version(), rows=-metrics["num_deleted_rows"])

    def _compact(self) -> dict[str, Any]:
        table = self._open()
        if table is None:
            return {"files_added": 0, "files_removed": 0}
        refuse_unwritable(table, self.location)
        self.guard()
        metrics = table.optimize.compact(commit_properties=CommitProperties(max_commit_retries=0))
        return {
            "files_added": metrics["numFilesAdded"],
            "files_removed": metrics["numFilesRemoved"],
        }

    def _refuse_strangers(self, files: NewFiles, partition: dict[str, str]) -> None:
        for action in files.actions:
            values = dict(action.partition_values or {})
            if partition.items() - values.items():
                raise TableError(
                    f"table {self.location}: replace of {partition} was given rows of {values}"
                )


def _schema(table: DeltaTable) -> StructType:
    return StructType.fromJson(json.loads(table.schema().to_json()))


def _has_committed(table: DeltaTable, txn: Txn) -> bool:
    seen = table.transaction_version(txn.app_id)
    return seen is not None and seen >= txn.version
