"""Which files the config's sources name, through Spark, so that every scheme it knows passes."""

import fnmatch
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from longattn.etl.config import Config, SourceConfig, of_domain
from longattn.etl.stages.ingest import SourceFile
from longattn.etl.tables.features import refuse_unreadable
from longattn.udfs.documents.formats import SourceSpec
from longattn.udfs.errors import SourceError
from longattn.udfs.storage import local_path


def specs_of(config: Config) -> list[tuple[SourceSpec, SourceConfig]]:
    """Every source of the config with what executors need to know of it, in order."""
    return [
        (spec_of(domain, source, config), source)
        for domain, sources in config.sources.items()
        for source in sources
    ]


def spec_of(domain: str, source: SourceConfig, config: Config) -> SourceSpec:
    """What executors need to know of a source."""
    published = source.format == "longattn" and "text" not in source.model_fields_set
    least = of_domain(domain, config.ingest.min_tokens)
    most = of_domain(domain, config.ingest.max_tokens)
    return SourceSpec(
        domain=domain,
        source=source.name or domain,
        format=source.format,
        text="content" if published else source.text,
        id=source.id,
        meta=tuple(source.meta),
        where={field: tuple(values) for field, values in source.where.items()},
        priority=source.priority,
        min_chars=config.ingest.min_chars,
        max_bytes=config.ingest.max_bytes,
        tokenizer=config.tokenizer_path if least or most else None,
        min_tokens=least or 0,
        max_tokens=most,
    )


def list_all(
    spark: SparkSession, sources: Sequence[tuple[SourceSpec, SourceConfig]]
) -> list[SourceFile]:
    """The files of all sources, in order; see list_files."""
    return [
        file
        for number, (spec, source) in enumerate(sources)
        for file in list_files(spark, number, spec, source)
    ]


def list_files(
    spark: SparkSession, number: int, spec: SourceSpec, source: SourceConfig
) -> list[SourceFile]:
    """The files of one source, each once, sorted; `number` is the spec's place.

    Raises SourceError for a path that is not there, and when no file is left of it.
    """
    listing = _delta_files if spec.format == "delta" else _files
    found = {
        uri: SourceFile(
            uri=uri,
            n_bytes=n_bytes,
            spec=number,
            name=name,
            fingerprint=_fingerprint(spec, n_bytes, modified),
            constants=constants,
        )
        for path in source.path
        for uri, n_bytes, modified, name, constants in listing(spark, path, spec)
        if _wanted(uri, name, source)
    }
    if not found:
        raise SourceError(
            f"sources.{spec.domain}: no file at {', '.join(source.path)}{_globs(source)}"
        )
    return [found[uri] for uri in sorted(found)]


Listed = tuple[str, int, int, str, str | None]  # uri, bytes, milliseconds, name, constants


def _files(spark: SparkSession, path: str, spec: SourceSpec) -> Iterator[Listed]:
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    modified = F.unix_millis("modificationTime").alias("modified")
    try:
        rows = reader.load(path).select("path", "length", modified).collect()
    except Exception as error:  # py4j's and Spark's own share no base
        raise SourceError(f"sources.{spec.domain}: cannot list {path}: {_told(error)}") from None
    for row in rows:
        yield row.path, row.length, row.modified, _name(row.path, path), None


def _told(error: Exception) -> str:
    """What Spark says, in one line; py4j puts the Java exception on the second."""
    if isinstance(error, AnalysisException) and error.getCondition() == "PATH_NOT_FOUND":
        return "no such file or folder"
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[1].lstrip(": ") if lines[0].startswith("An error occurred") else lines[0]


def _name(uri: str, path: str) -> str:
    """The part of a file's path below the folder, or the glob, that the config names."""
    file = local_path(uri) or uri
    base = _without_glob(local_path(path) or path)
    base = base if ":" in base else os.path.abspath(base)
    return file.removeprefix(f"{base}/") if file.startswith(f"{base}/") else os.path.basename(file)


def _without_glob(path: str) -> str:
    glob = next((i for i, letter in enumerate(path) if letter in "*?[{"), None)
    return path.rstrip("/") if glob is None else path[:glob].rpartition("/")[0] or "."


def _wanted(uri: str, name: str, source: SourceConfig) -> bool:
    def matches(globs: Sequence[str]) -> bool:
        return any(fnmatch.fnmatch(path, glob) for glob in globs for path in (uri, name))

    return (not source.include or matches(source.include)) and not matches(source.exclude)


def _globs(source: SourceConfig) -> str:
    asked = {"include": source.include, "exclude": source.exclude}
    shown = ", ".join(f"{key} {globs}" for key, globs in asked.items() if globs)
    return f" ({shown})" if shown else ""


def _fingerprint(spec: SourceSpec, n_bytes: int, modified: int) -> str:
    """Changes with the file and with everything that decides what becomes of its records."""
    described = json.dumps([asdict(spec), n_bytes, modified], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:16]


# --- Delta tables


def _delta_files(spark: SparkSession, path: str, spec: SourceSpec) -> Iterator[Listed]:
    """The Parquet files of a table's latest version, or a catalog's table as if it were a file."""
    if not spec.id:
        raise SourceError(
            f"sources.{spec.domain}: {path}: a table's rows have no place of their own; set id"
        )
    if is_table_name(path):
        (latest,) = spark.sql(f"DESCRIBE HISTORY {path} LIMIT 1").collect()
        yield path, 0, latest["version"], path, None
        return
    root = local_path(path)
    root = path.rstrip("/") if root is None else f"file:{os.path.abspath(root)}"
    for action in pa.table(_open(path, spec).get_add_actions(flatten=True)).to_pylist():
        name, n_bytes, modified = action["path"], action["size_bytes"], action["modification_time"]
        yield f"{root}/{unquote(name)}", n_bytes, modified, unquote(name), _partition(action)


def is_table_name(path: str) -> bool:
    """True for schema.table and catalog.schema.table."""
    parts = path.split(".")
    return len(parts) in (2, 3) and all(part.isidentifier() for part in parts)


def _open(path: str, spec: SourceSpec) -> DeltaTable:
    try:
        table = DeltaTable(local_path(path) or path)
    except DeltaError as error:
        reason = str(error).splitlines()[0]
        raise SourceError(f"sources.{spec.domain}: no Delta table at {path}: {reason}") from None
    refuse_unreadable(table, path)
    return table


def _partition(action: dict[str, Any]) -> str:
    """Partition values, which Delta keeps in its log and not in the files, as JSON."""
    prefix = "partition."
    values = {k.removeprefix(prefix): v for k, v in action.items() if k.startswith(prefix)}
    return json.dumps(values, default=str)


# --- columns


def check_columns(
    spark: SparkSession, files: Sequence[SourceFile], specs: Sequence[SourceSpec]
) -> None:
    """Raise SourceError for a Parquet file, or a table, without a column that its source maps."""
    for file in files:
        spec = specs[file.spec]
        if spec.format not in ("parquet", "delta"):
            continue
        there = _columns(spark, file)
        missing = [name for name in spec.columns if name not in (there or spec.columns)]
        if missing:
            raise SourceError(
                f"sources.{spec.domain}: no column {missing[0]!r} in {file.uri} "
                f"(columns: {', '.join(there)})"
            )


def _columns(spark: SparkSession, file: SourceFile) -> list[str]:
    """A file's columns; none for a file that is not Parquet, which its reader will refuse."""
    path = local_path(file.uri)
    constants = list(json.loads(file.constants or "{}"))
    if is_table_name(file.uri):
        return list(spark.read.table(file.uri).columns)
    if path is None:
        return [*spark.read.parquet(file.uri).columns, *constants]
    try:
        return [*pq.read_schema(path).names, *constants]
    except (pa.ArrowException, OSError):
        return []
