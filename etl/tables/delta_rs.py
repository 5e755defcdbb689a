"""The delta-rs connector: Spark reads and writes the Parquet, deltalake keeps the log.

A write goes to `_staging/<uuid>` first. Then the driver moves the files into the table's Hive
layout and commits their add actions: until that one commit no reader sees any of them, and a job
that dies before it leaves files that `vacuum` removes. What deltalake accepts without a check is
checked here: columns, table features, and that no other writer has overtaken a replace.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import deltalake
import pyarrow.fs as pafs
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, Transaction, create_table_with_add_actions
from pyspark.sql import DataFrame

from etl.tables.base import Commit, Detail, Table, Txn
from etl.tables.stats import file_stats
from udfs.errors import ConcurrentWriteError, TableError, UnsupportedTableFeature

ATTEMPTS = 20  # of a commit that must not be overtaken, before another writer has won
STAGING = "_staging"
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
REFUSED_FEATURES = {
    "deletionVectors": "rows that were deleted would come back",
    "columnMapping": "columns stand under other names in the files",
}


@dataclass(frozen=True)
class Staged:
    """Files that a write has put in place and not committed."""

    actions: list[AddAction]
    rows: int

    @property
    def bytes(self) -> int:
        return sum(action.size for action in self.actions)


class DeltaRsTable(Table):
    """A Delta table whose log is read and written by the deltalake package."""

    def version(self) -> int | None:
        table = self._open()
        return None if table is None else table.version()

    def read(self, version: int | None = None) -> DataFrame:
        table = self._open(version)
        uris = [] if table is None else table.file_uris()
        if not uris:
            return self.spark.createDataFrame([], self.spec.schema)
        reader = self.spark.read.schema(self.spec.schema).option("basePath", self.location)
        return reader.parquet(*map(_spark_path, uris)).select(*self.spec.columns)

    def append(self, df: DataFrame, txn: Txn | None = None) -> Commit:
        table = self._open()
        if txn and table and _has_committed(table, txn):
            return Commit(version=table.version(), rows=0, bytes=0, skipped=True)
        staged = self._stage(df)
        try:
            return self._commit(staged, "append", txn=txn)
        except CommitFailedError:
            return self._after_a_failed_append(txn)

    def overwrite(self, df: DataFrame) -> Commit:
        staged = self._stage(df)
        return self._replace(lambda: self._commit(staged, "overwrite", retries=0))

    def replace_where(self, df: DataFrame, partition: dict[str, str]) -> Commit:
        staged = self._stage(df)
        self._refuse_strangers(staged, partition)
        filters = [(column, "=", value) for column, value in partition.items()]
        return self._replace(lambda: self._commit(staged, "overwrite", filters, retries=0))

    def history(self, limit: int | None = None) -> list[dict[str, Any]]:
        table = self._open()
        return [] if table is None else table.history(limit)

    def optimize(self) -> dict[str, Any]:
        table = self._open()
        return {} if table is None else table.optimize.compact()

    def vacuum(self, retention_hours: float = 168, dry_run: bool = False) -> list[str]:
        table = self._open()
        if table is None:
            return []
        gone = table.vacuum(int(retention_hours), dry_run, enforce_retention_duration=False)
        return gone + self._vacuum_staging(retention_hours, dry_run)

    def detail(self) -> Detail | None:
        table = self._open()
        if table is None:
            return None
        actions = table.get_add_actions(flatten=True)
        sizes = actions["size_bytes"].to_pylist()
        rows = actions["num_records"].to_pylist()
        return Detail(version=table.version(), rows=sum(rows), bytes=sum(sizes), files=len(sizes))

    def _open(self, version: int | None = None) -> DeltaTable | None:
        """The table, or None when it has not been made; features that would mislead are refused."""
        try:
            table = DeltaTable(_log_uri(self.location), version=version)
        except TableNotFoundError:
            return None
        except DeltaError as error:
            raise UnsupportedTableFeature(f"table {self.location}: {error}") from None
        self._refuse_features(table)
        return table

    def _refuse_features(self, table: DeltaTable) -> None:
        protocol, properties = table.protocol(), table.metadata().configuration
        features = {*(protocol.reader_features or []), *(protocol.writer_features or [])}
        if properties.get("delta.columnMapping.mode", "none") != "none":
            features.add("columnMapping")
        if properties.get("delta.enableDeletionVectors", "false").lower() == "true":
            features.add("deletionVectors")
        for feature in sorted(features & set(REFUSED_FEATURES)):
            raise UnsupportedTableFeature(
                f"table {self.location}: {feature} is not supported by the delta-rs connector "
                f"({REFUSED_FEATURES[feature]}); use the native connector"
            )

    def _stage(self, df: DataFrame) -> Staged:
        """Write the rows where no reader looks, then move the files to their places."""
        self._check_columns(df)
        fs, root = _filesystem(self.location)
        folder = f"{STAGING}/{uuid.uuid4().hex}"
        writer = df.select(*self.spec.columns).write.option("compression", "zstd")
        writer.partitionBy(*self.spec.partition_by).parquet(f"{self.location}/{folder}")
        actions = [
            self._place(fs, root, f"{root}/{folder}", path) for path in _parquet(fs, root, folder)
        ]
        fs.delete_dir(f"{root}/{folder}")
        rows = sum(json.loads(action.stats)["numRecords"] for action in actions)
        return Staged([action for action in actions if _has_rows(action)], rows)

    def _place(self, fs: pafs.FileSystem, root: str, staged: str, path: str) -> AddAction:
        relative = path[len(staged) + 1 :]
        target = f"{root}/{relative}"
        fs.create_dir(target.rsplit("/", 1)[0])
        stats = file_stats(fs, path, skip=self.spec.unindexed)
        fs.move(path, target)
        info = fs.get_file_info(target)
        return AddAction(
            path=relative,
            size=info.size,
            partition_values=_partition_values(relative),
            modification_time=int(time.time() * 1000),
            data_change=True,
            stats=json.dumps(stats),
        )

    def _check_columns(self, df: DataFrame) -> None:
        """Names and types must be the table's; deltalake would accept others without a word."""
        want = {f.name: f.dataType.simpleString() for f in self.spec.schema.fields}
        have = {f.name: f.dataType.simpleString() for f in df.schema.fields}
        problems = [f"{name} is missing" for name in want if name not in have]
        problems += [f"{name} is unknown" for name in have if name not in want]
        problems += [
            f"{name} is {have[name]}, not {want[name]}"
            for name in want
            if name in have and have[name] != want[name]
        ]
        if problems:
            raise TableError(f"table {self.location}: {'; '.join(problems)}")

    def _commit(
        self,
        staged: Staged,
        mode: str,
        filters: list[tuple[str, str, str]] | None = None,
        txn: Txn | None = None,
        retries: int = 15,
    ) -> Commit:
        properties = CommitProperties(
            max_commit_retries=retries,
            app_transactions=[Transaction(txn.app_id, txn.version)] if txn else None,
        )
        table = self._open() or self._create(staged, properties)
        if table is None:
            return self._done(staged)
        table.create_write_transaction(
            list(staged.actions),
            mode,
            table.schema(),
            list(self.spec.partition_by),
            partition_filters=filters,
            commit_properties=properties,
        )
        return self._done(staged)

    def _create(self, staged: Staged, properties: CommitProperties) -> DeltaTable | None:
        """Make the table with these rows; if another writer has just made it, return that table."""
        try:
            create_table_with_add_actions(
                _log_uri(self.location),
                deltalake.Schema.from_json(self.spec.schema.json()),
                staged.actions,
                mode="error",
                partition_by=list(self.spec.partition_by),
                name=self.spec.name,
                configuration={"delta.dataSkippingStatsColumns": ",".join(self.spec.indexed)},
                commit_properties=properties,
            )
        except (CommitFailedError, DeltaError):
            table = self._open()
            if table is None:
                raise
            return table
        return None

    def _done(self, staged: Staged) -> Commit:
        version = self.version()
        assert version is not None  # it has just been committed
        return Commit(version=version, rows=staged.rows, bytes=staged.bytes)

    def _after_a_failed_append(self, txn: Txn | None) -> Commit:
        """Another writer has committed the same transaction id, or the append is lost."""
        table = self._open()
        if txn and table and _has_committed(table, txn):
            return Commit(version=table.version(), rows=0, bytes=0, skipped=True)
        raise ConcurrentWriteError(
            f"table {self.location}: append was overtaken; nothing was added"
        )

    def _replace(self, commit: Callable[[], Commit]) -> Commit:
        """Commit without deltalake's retries, which keep rows that a replace must remove."""
        for attempt in range(ATTEMPTS):
            try:
                return commit()
            except (CommitFailedError, DeltaError):
                if attempt == ATTEMPTS - 1:
                    raise ConcurrentWriteError(
                        f"table {self.location}: other writers won {ATTEMPTS} times in a row"
                    ) from None
                time.sleep(0.05 * (attempt + 1))
        raise AssertionError("unreachable")

    def _refuse_strangers(self, staged: Staged, partition: dict[str, str]) -> None:
        for action in staged.actions:
            if dict(action.partition_values) != partition:
                raise TableError(
                    f"table {self.location}: replace of {partition} was given rows of "
                    f"{dict(action.partition_values)}"
                )

    def _vacuum_staging(self, retention_hours: float, dry_run: bool) -> list[str]:
        """Remove what writes that died have left, once it is old enough not to be a live one's."""
        fs, root = _filesystem(self.location)
        selector = pafs.FileSelector(f"{root}/{STAGING}", allow_not_found=True)
        oldest = time.time() - retention_hours * 3600
        folders = [i.path for i in fs.get_file_info(selector) if i.mtime.timestamp() < oldest]
        if not dry_run:
            for folder in folders:
                fs.delete_dir(folder)
        return folders


def _has_committed(table: DeltaTable, txn: Txn) -> bool:
    seen = table.transaction_version(txn.app_id)
    return seen is not None and seen >= txn.version


def _has_rows(action: AddAction) -> bool:
    return bool(json.loads(action.stats)["numRecords"])


def _filesystem(location: str) -> tuple[pafs.FileSystem, str]:
    """The file system and the path in it of a folder or URI."""
    if "://" in location:
        filesystem, path = pafs.FileSystem.from_uri(location.replace("s3a://", "s3://", 1))
        return filesystem, path.rstrip("/")
    local = location.removeprefix("file:")
    filesystem = pafs.LocalFileSystem()
    filesystem.create_dir(local)
    return filesystem, local


def _log_uri(location: str) -> str:
    """The location as deltalake spells it."""
    return location.removeprefix("file:") if "://" not in location else location


def _spark_path(uri: str) -> str:
    """A file as Spark spells it; a local path may hold characters that a URI must escape."""
    return uri if "://" not in uri else unquote(uri)


def _parquet(fs: pafs.FileSystem, root: str, folder: str) -> Iterator[str]:
    for info in fs.get_file_info(pafs.FileSelector(f"{root}/{folder}", recursive=True)):
        if info.type == pafs.FileType.File and info.path.endswith(".parquet"):
            yield info.path


def _partition_values(relative: str) -> dict[str, str | None]:
    """`domain=a%20b/part-0.parquet` -> {domain: 'a b'}; Hive's word for null is null."""
    parts = [part.partition("=") for part in relative.split("/")[:-1]]
    return {name: None if value == HIVE_NULL else unquote(value) for name, _, value in parts}
