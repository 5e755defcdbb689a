"""Which files the config's sources name, and what is known of each before it is read."""

import fnmatch
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyspark.sql import SparkSession

from longattn.etl.config import SourceConfig
from longattn.etl.ingest.local_files import Listed, list_local
from longattn.etl.ingest.own import OwnFiles
from longattn.etl.ingest.remote_files import list_remote
from longattn.etl.ingest.stage import SourceFile
from longattn.etl.tables.features import ADVICE, refuse_unreadable
from longattn.etl.tables.files import HIVE_NULL
from longattn.etl.tables.locations import is_table_name, sql_name
from longattn.udfs.digest import json_digest
from longattn.udfs.documents.formats import SourceSpec
from longattn.udfs.errors import SourceError, UnsupportedTableFeature, first_line
from longattn.udfs.storage import file_name, local_path
from longattn.udfs.stores import delta_options

LOG = "_delta_log"  # the folder that makes another a Delta table


def list_all(
    spark: SparkSession, sources: Sequence[tuple[SourceSpec, SourceConfig]], own: OwnFiles
) -> list[SourceFile]:
    """The files of all sources, in order, less those that jobs have written; see list_files."""
    return [
        file
        for number, (spec, source) in enumerate(sources)
        for file in list_files(spark, number, spec, source, own)
    ]


def list_files(
    spark: SparkSession,
    number: int,
    spec: SourceSpec,
    source: SourceConfig,
    own: OwnFiles | None = None,
) -> list[SourceFile]:
    """The files of one source, each once, sorted; `number` is the spec's place.

    A file that cannot be read is among them, with its refusal. Raises SourceError for a path that
    is not there, and when no file is left of it.
    """
    files = {
        file.uri: SourceFile(
            uri=file.uri,
            n_bytes=file.n_bytes,
            spec=number,
            name=file.name,
            fingerprint=_fingerprint(spec, file),
            constants=file.constants or partition_values(file.name, spec),
            refusal=file.refusal,
        )
        for file in _listed(spark, spec, source)
        if own is None or not own.has(file.uri)
    }
    if not files:
        raise SourceError(
            f"sources.{spec.domain}: no file at {', '.join(source.path)}{_globs(source)}"
        )
    refuse_tables(files, spec)
    return [files[uri] for uri in sorted(files)]


def partition_values(name: str, spec: SourceSpec) -> str | None:
    """What a Parquet file's folders say of its rows, as JSON: `lang=en/part.parquet`, as Hive does.

    Values are texts, of the fields that the source maps; None where no folder names one.
    """
    if spec.format != "parquet":
        return None
    named = dict(folder.split("=", 1) for folder in name.split("/")[:-1] if "=" in folder)
    wanted = {column: unquote(named[column]) for column in spec.columns_in(named)}
    values = {column: None if value == HIVE_NULL else value for column, value in wanted.items()}
    return json.dumps(values) if values else None


def _listed(spark: SparkSession, spec: SourceSpec, source: SourceConfig) -> Iterator[Listed]:
    wanted = partial(wanted_by, source)
    if spec.format == "delta":
        files = (file for path in source.path for file in delta_files(spark, path, spec))
        yield from (file for file in files if wanted(file.uri, file.name))
        return
    local = [path for path in source.path if local_path(path) is not None]
    try:
        yield from list_local(local, wanted)
    except FileNotFoundError as error:
        raise SourceError(
            f"sources.{spec.domain}: cannot list {error}: no such file or folder"
        ) from None
    for path in source.path:
        if path not in local:
            remote = list_remote(spark, path, spec.domain)
            yield from (file for file in remote if wanted(file.uri, file.name))


def refuse_tables(uris: Iterable[str], spec: SourceSpec) -> None:
    """Raise SourceError where Parquet files are of a Delta table: they hold rows that it has not.

    Rows that were deleted, or updated, stay in its files.
    """
    if spec.format != "parquet":
        return
    local = (path for uri in uris if (path := local_path(uri)) is not None)
    folders = {folder for path in local for folder in PurePath(path).parents}
    if tables := sorted(str(folder) for folder in folders if Path(folder, LOG).is_dir()):
        raise SourceError(
            f"sources.{spec.domain}: {tables[0]} is a Delta table, whose files hold deleted rows"
            " too: say format: delta"
        )


def wanted_by(source: SourceConfig, uri: str, name: str) -> bool:
    """Whether include and exclude leave a file: globs of its uri, its path or its name."""
    places = (uri, uri.removeprefix("file:"), name)

    def matches(globs: Sequence[str]) -> bool:
        return any(fnmatch.fnmatch(place, glob) for glob in globs for place in places)

    return (not source.include or matches(source.include)) and not matches(source.exclude)


def _globs(source: SourceConfig) -> str:
    asked = {"include": source.include, "exclude": source.exclude}
    shown = ", ".join(f"{key} {globs}" for key, globs in asked.items() if globs)
    return f" ({shown})" if shown else ""


def _fingerprint(spec: SourceSpec, file: Listed) -> str:
    """Changes with the file and with everything that decides what its records become.

    The name below the listed folder is part of the ids of records that have none of their own.
    """
    refused = [file.refusal] if file.refusal else []
    state = [file.name, file.n_bytes, file.modified, file.constants, *refused]
    return json_digest([spec.reading, *state])[:16]


# --- Delta tables


def delta_files(spark: SparkSession | None, path: str, spec: SourceSpec) -> Iterator[Listed]:
    """The Parquet files of a table's latest version, or a catalog's table as if it were a file.

    A session is needed for a catalog's. Raises SourceError for a table that cannot be read.
    """
    if not spec.id:
        raise SourceError(
            f"sources.{spec.domain}: {path}: a table's rows have no place of their own; set id"
        )
    if spark and is_table_name(path):
        (latest,) = spark.sql(f"DESCRIBE HISTORY {sql_name(path)} LIMIT 1").collect()
        yield Listed(path, 0, latest["version"], path)
        return
    root = local_path(path)
    root = path.rstrip("/") if root is None else f"file:{os.path.abspath(root)}"
    table = _open(path, spec)
    # a column added later is null in the files written before
    added = dict.fromkeys(spec.columns_in(field.name for field in table.schema().fields))
    for action in pa.table(table.get_add_actions(flatten=True)).to_pylist():
        name, n_bytes, modified = action["path"], action["size_bytes"], action["modification_time"]
        place = _place(root, unquote(name))
        yield Listed(place, n_bytes, modified, unquote(name), _constants(added, action))


def _place(root: str, name: str) -> str:
    """The uri of a file of a log: below the table, or where a shallow clone's log says."""
    scheme, colon, _ = name.partition(":")
    if name.startswith("/"):
        return f"file:{name}"
    return name if colon and "/" not in scheme and scheme.isalnum() else f"{root}/{name}"


def _open(path: str, spec: SourceSpec) -> DeltaTable:
    try:
        table = DeltaTable(local_path(path) or path, storage_options=delta_options(path))
    except DeltaError as error:
        reason = first_line(error)
        raise SourceError(f"sources.{spec.domain}: no Delta table at {path}: {reason}") from None
    try:
        refuse_unreadable(table, path)
    except UnsupportedTableFeature as error:
        raise SourceError(
            f"sources.{spec.domain}: {str(error).removesuffix(ADVICE)}; give its name in a catalog,"
            " for Spark to read it, or write a copy without"
        ) from None
    return table


def _constants(added: dict[str, None], action: dict[str, Any]) -> str:
    """What a file's rows have that is not in it, as JSON: nulls, and the partition's values."""
    prefix = "partition."
    values = {k.removeprefix(prefix): v for k, v in action.items() if k.startswith(prefix)}
    return json.dumps(added | values, default=str)


# --- columns


def check_columns(
    spark: SparkSession, files: Sequence[SourceFile], specs: Sequence[SourceSpec]
) -> None:
    """Raise SourceError for a Parquet file, or a table, without a column that its source maps."""
    for file in files:
        spec = specs[file.spec]
        if spec.format not in ("parquet", "delta") or file.refusal:
            continue
        there = _columns(spark, file)
        where = f"in {file.uri} (columns: {', '.join(there)})"
        if there and (missing := spec.missing_in(there)):
            raise SourceError(f"sources.{spec.domain}: no column {missing[0]!r} {where}")
        twice = [name for name, n in Counter(spec.columns_in(there)).items() if n > 1]
        if twice:
            raise SourceError(f"sources.{spec.domain}: column {twice[0]!r} twice {where}")


def _columns(spark: SparkSession, file: SourceFile) -> list[str]:
    """A file's columns; none for a file that is not Parquet, which its reader will refuse."""
    path = file_name(file.uri)
    constants = list(json.loads(file.constants or "{}"))
    if is_table_name(file.uri):
        return list(spark.read.table(sql_name(file.uri)).columns)
    if path is None:
        names = spark.read.parquet(file.uri).columns
        return [*names, *(name for name in constants if name not in names)]
    try:
        with open(path, "rb") as opened:
            names = pq.read_schema(opened).names
    except (pa.ArrowException, OSError):
        return []
    return [*names, *(name for name in constants if name not in names)]
