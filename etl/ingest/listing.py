"""Which files the config's sources name, and what is known of each before it is read."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from longattn.etl.config import SourceConfig
from longattn.etl.ingest.delta_files import delta_files, refuse_no_id, refuse_tables
from longattn.etl.ingest.local_files import Listed, list_local
from longattn.etl.ingest.own import OwnFiles
from longattn.etl.ingest.remote_files import Folders, list_remote
from longattn.etl.ingest.sources import partition_values, wanted_by
from longattn.etl.ingest.stage import SourceFile
from longattn.etl.tables.locations import as_pattern, is_table_name, sql_name
from longattn.udfs.digest import json_digest
from longattn.udfs.documents.formats import SourceSpec
from longattn.udfs.errors import SourceError
from longattn.udfs.storage import file_name, local_path

LOOKUPS = 16  # threads; Spark reads the columns of a store's file in a job of its own


def list_all(
    spark: SparkSession | None, sources: Sequence[tuple[SourceSpec, SourceConfig]], own: OwnFiles
) -> list[SourceFile]:
    """The files of all sources, in order, less those that jobs have written; see list_files."""
    return [
        file
        for number, (spec, source) in enumerate(sources)
        for file in list_files(spark, number, spec, source, own)
    ]


def list_files(
    spark: SparkSession | None,
    number: int,
    spec: SourceSpec,
    source: SourceConfig,
    own: OwnFiles | None = None,
) -> list[SourceFile]:
    """The files of one source, each once, sorted; `number` is the spec's place.

    A file that cannot be read is among them, with its refusal. Raises SourceError for a path that
    is not there, or that only a session can list, and when no file is left of it.
    """
    before = own.left_out.copy() if own else None
    met = Folders(manifests=own.manifests if own else set(), tables=set())
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
        for file in _listed(spark, spec, source, met)
        if own is None or not own.has(file.uri)
    }
    if not files:
        left = "".join(f"; {line}" for line in own.lines(before)) if own else ""
        raise SourceError(
            f"sources.{spec.domain}: no file at {', '.join(source.path)}{_globs(source)}{left}"
        )
    refuse_tables(files, spec, met.tables)
    return [files[uri] for uri in sorted(files)]


def _listed(
    spark: SparkSession | None, spec: SourceSpec, source: SourceConfig, met: Folders
) -> Iterator[Listed]:
    wanted = partial(wanted_by, source)
    if spec.format == "delta":
        files = (file for path in source.path for file in _of_table(spark, path, spec))
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
            remote = list_remote(_needed(spark, path), path, spec.domain, met)
            yield from (file for file in remote if wanted(file.uri, file.name))


def _needed(spark: SparkSession | None, path: str) -> SparkSession:
    """The session. Raises SourceError where there is none to open a path with."""
    if spark is None:
        raise SourceError(f"{path}: only a Spark session can open it, and there is none")
    return spark


def _of_table(spark: SparkSession | None, path: str, spec: SourceSpec) -> Iterator[Listed]:
    """The files of a table at a path, or a catalog's table as if it were a file."""
    if not is_table_name(path):
        yield from delta_files(path, spec)
        return
    refuse_no_id(path, spec)
    history = f"DESCRIBE HISTORY {sql_name(path)} LIMIT 1"
    (latest,) = _needed(spark, path).sql(history).collect()
    yield Listed(path, 0, latest["version"], path)


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


# --- columns


def check_columns(
    spark: SparkSession | None, files: Sequence[SourceFile], specs: Sequence[SourceSpec]
) -> None:
    """Raise SourceError for a Parquet file, or a table, without a column that its source maps."""
    of_columns = ("parquet", "delta")
    files = [f for f in files if specs[f.spec].format in of_columns and not f.refusal]
    pool = ThreadPoolExecutor(LOOKUPS)
    try:
        columns = pool.map(partial(_columns, spark), files)
        for file, there in zip(files, columns, strict=True):
            _check_columns(there, file.uri, specs[file.spec])
    finally:
        pool.shutdown(cancel_futures=True)


def _check_columns(there: list[str], uri: str, spec: SourceSpec) -> None:
    where = f"in {uri} (columns: {', '.join(there)})"
    if there and (missing := spec.missing_in(there)):
        raise SourceError(f"sources.{spec.domain}: no column {missing[0]!r} {where}")
    twice = [name for name, n in Counter(spec.columns_in(there)).items() if n > 1]
    if twice:
        raise SourceError(f"sources.{spec.domain}: column {twice[0]!r} twice {where}")


def _columns(spark: SparkSession | None, file: SourceFile) -> list[str]:
    """A file's columns; none for a file whose columns cannot be read, as its reader will say."""
    if is_table_name(file.uri):
        return list(_needed(spark, file.uri).read.table(sql_name(file.uri)).columns)
    path = file_name(file.uri)
    names = _by_footer(path) if path else _by_spark(_needed(spark, file.uri), file.uri)
    constants = json.loads(file.constants or "{}") if names else {}
    return [*names, *(name for name in constants if name not in names)]


def _by_footer(path: bytes) -> list[str]:
    try:
        with open(path, "rb") as opened:
            return list(pq.read_schema(opened).names)
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return []


def _by_spark(spark: SparkSession, uri: str) -> list[str]:
    """Spark also fails at types that it has not, as nanoseconds, of columns that nobody maps."""
    try:
        return list(spark.read.parquet(as_pattern(uri)).columns)
    except Exception:  # py4j's and Spark's own share no base
        return []
