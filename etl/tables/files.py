"""Parquet files of a table as Spark writes them and as Delta's log lists them.

A write has a folder of its own, `<table>/<random>/domain=.../part-....parquet`, and its files never
move: the log names them where they are, with the partition values beside. So folders and object
stores, which have no rename, work alike, and what a job that died has left is in nobody's way.
"""

import json
import uuid
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow.fs as pafs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction

from longattn.etl.tables.locations import as_pattern
from longattn.etl.tables.stats import file_stats
from longattn.udfs.errors import TableError, first_line
from longattn.udfs.storage import open_fs

if TYPE_CHECKING:  # `status` reads logs without Spark
    from pyspark.sql import DataFrame

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
FOOTER_READERS = 8  # threads; a footer is one small read, slow only over a network


@dataclass(frozen=True)
class NewFiles:
    """Files that are in place and that no reader sees until their actions are committed."""

    folder: str  # below the table's location
    actions: list[AddAction | RemoveAction]  # a write adds only; the wider type is deltalake's
    rows: int


def write_files(
    df: "DataFrame", location: str, partition_by: Sequence[str], indexed: Collection[str]
) -> NewFiles:
    """Write the rows with Spark into a new folder of the table; evaluates `df` once."""
    folder = uuid.uuid4().hex
    writer = df.write.partitionBy(*partition_by).option("compression", "zstd")
    writer = writer.option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
    writer.parquet(f"{location}/{folder}")
    return _describe(location, folder, indexed)


def partitions(
    table: DeltaTable, location: str, file_names: Collection[str] | None = None
) -> list[tuple[dict[str, Any], list[str]]]:
    """The table's partition values, each with the paths of its files, spelt as Spark reads them.

    `file_names` keeps the files whose paths end in one of them.

    Values come from the log and not from folder names, which other writers choose otherwise.
    """
    with naming(location):
        actions = table.get_add_actions(flatten=False)
    columns = table.metadata().partition_columns
    paths = actions["path"].to_pylist()
    paths_of: dict[tuple[Any, ...], list[str]] = {}
    for path, key in zip(paths, _partition_keys(actions, columns), strict=True):
        if file_names is None or unquote(path).rsplit("/", 1)[-1] in file_names:
            paths_of.setdefault(key, []).append(_spark_path(location, path))
    return [(dict(zip(columns, key, strict=True)), files) for key, files in paths_of.items()]


@contextmanager
def naming(location: str) -> Iterator[None]:
    """Name the table in what deltalake says of a log that it cannot read."""
    try:
        yield
    except DeltaError as error:
        raise TableError(
            f"table {location}: its log cannot be read: {first_line(error)}; restore the damaged"
            " file of its _delta_log from a backup"
        ) from None


def commit_info(location: str, version: int) -> dict[str, Any] | None:
    """What a commit says of itself; None when its part of the log has been cleaned up.

    DeltaTable.history() numbers commits from the version it was opened at, but reads up to the
    newest: under concurrent writers its numbers are wrong.
    """
    actions = _commit(location, version)
    if actions is None:
        return None
    return next((action["commitInfo"] for action in actions if "commitInfo" in action), {})


def unchanged(location: str, before: int, now: int) -> bool:
    """Whether a table has the same rows at two versions, as its log tells.

    A vacuum, a fence and a merging of small files are versions too, and change none.
    """
    return not any(_changes_rows(location, version) for version in range(before + 1, now + 1))


def _changes_rows(location: str, version: int) -> bool:
    """True, too, where that part of the log has been cleaned up."""
    actions = _commit(location, version)
    if actions is None:
        return True
    files = [action[kind] for action in actions for kind in ("add", "remove") if kind in action]
    return any(file["dataChange"] for file in files)


def _commit(location: str, version: int) -> list[dict[str, Any]] | None:
    filesystem, root = open_fs(location)
    try:
        with filesystem.open_input_stream(f"{root}/_delta_log/{version:020}.json") as log:
            return [json.loads(line) for line in log.read().splitlines()]
    except FileNotFoundError:
        return None


def _partition_keys(actions: Any, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    if not columns:
        return [()] * actions.num_rows
    return [tuple(v[column] for column in columns) for v in actions["partition"].to_pylist()]


def _describe(location: str, folder: str, indexed: Collection[str]) -> NewFiles:
    filesystem, root = open_fs(location)
    infos = list(_parquet_files(filesystem, f"{root}/{folder}"))
    with ThreadPoolExecutor(FOOTER_READERS) as pool:
        stats = list(pool.map(lambda info: file_stats(filesystem, info.path, indexed), infos))
    added = [
        _add_action(info, info.path[len(root) + 1 :], known)
        for info, known in zip(infos, stats, strict=True)
        if known["numRecords"]
    ]
    rows = sum(known["numRecords"] for known in stats)
    return NewFiles(folder=folder, actions=[*added], rows=rows)


def _add_action(info: pafs.FileInfo, relative: str, stats: dict[str, Any]) -> AddAction:
    return AddAction(
        path=relative,
        size=info.size,
        partition_values=_partition_values(relative),
        modification_time=info.mtime_ns // 1_000_000,
        data_change=True,
        stats=json.dumps(stats),
    )


def _partition_values(relative: str) -> dict[str, str | None]:
    """`4f2a/domain=a%2Fb/part-0.parquet` -> {domain: 'a/b'}; Hive's word for null is null."""
    parts = [part.partition("=") for part in relative.split("/")[1:-1]]
    return {name: None if value == HIVE_NULL else unquote(value) for name, _, value in parts}


def _parquet_files(filesystem: pafs.FileSystem, folder: str) -> Iterator[pafs.FileInfo]:
    for info in filesystem.get_file_info(pafs.FileSelector(folder, recursive=True)):
        if info.type == pafs.FileType.File and info.extension == "parquet":
            yield info


def _spark_path(location: str, path: str) -> str:
    """A path of the log, which is URL-encoded, as Spark reads it: a pattern, so quote its marks."""
    decoded = unquote(path)
    absolute = decoded if "://" in path else f"{location}/{decoded}"
    return as_pattern(absolute)
