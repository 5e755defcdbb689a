"""Files at places that only Spark can open: s3a://, abfss://, hdfs:// and others."""

import fnmatch
from collections.abc import Iterator
from posixpath import dirname
from typing import Any

from pyspark.errors import AnalysisException, PySparkAttributeError
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from longattn.etl.ingest.local_files import IGNORED_FILES, IGNORED_FOLDERS, Listed
from longattn.etl.ingest.own import MANIFEST
from longattn.udfs.errors import SourceError

HIDDEN = "Spark reads no name that begins with _ or .; rename it"


def list_remote(
    spark: SparkSession, path: str, domain: str, manifests: set[str] | None = None
) -> list[Listed]:
    """All files that a path, a folder or a glob names.

    `manifests` gets the folders that have one of an export, or may lie in one that has. A name that
    Spark's readers hide is refused. With Spark Connect there is nothing but those
    readers to list with, and hidden names are not seen. Raises SourceError for a path that is not
    there or cannot be reached.
    """
    try:
        listed = list(_through_hadoop(spark, path, set() if manifests is None else manifests))
    except (PySparkAttributeError, AttributeError):
        listed = _through_spark(spark, path, domain)
    except Exception as error:  # py4j's: each file system has exceptions of its own
        raise SourceError(f"sources.{domain}: cannot list {path}: {_reason(error)}") from None
    if not listed:
        raise SourceError(f"sources.{domain}: cannot list {path}: no such file or folder")
    return listed


def read_remote(spark: SparkSession, uri: str) -> bytes:
    """A small file's bytes. Raises OSError where Spark, as through Connect, cannot open it."""
    try:
        jvm: Any = spark._jvm
        path = jvm.org.apache.hadoop.fs.Path(uri)
        conf = spark._jsparkSession.sessionState().newHadoopConf()
        stream = path.getFileSystem(conf).open(path)
        try:
            return bytes(stream.readAllBytes())
        finally:
            stream.close()
    except Exception as error:  # py4j's: each file system has exceptions of its own
        raise OSError(f"{uri}: {_reason(error)}") from None


def _through_hadoop(spark: SparkSession, path: str, manifests: set[str]) -> Iterator[Listed]:
    jvm: Any = spark._jvm
    conf = spark._jsparkSession.sessionState().newHadoopConf()
    root = jvm.org.apache.hadoop.fs.Path(path)
    system = root.getFileSystem(conf)
    for status in system.globStatus(root) or ():
        place = status.getPath().toString()
        manifests |= {place, dirname(place), dirname(dirname(place))}
        if status.isFile():
            yield from _listed(status, path, manifests)
            continue
        below = system.listFiles(status.getPath(), True)
        while below.hasNext():
            yield from _listed(below.next(), path, manifests)


def _listed(status: Any, path: str, manifests: set[str]) -> Iterator[Listed]:
    uri, n_bytes = status.getPath().toString(), status.getLen()
    name = name_below(uri, path)
    *folders, file = name.split("/")
    if file == MANIFEST:
        manifests.add(dirname(uri))
    if _any_match(folders, IGNORED_FOLDERS) or _any_match([file], IGNORED_FILES):
        return
    hidden = any(part.startswith(("_", ".")) and "=" not in part for part in (*folders, file))
    refusal = ("hidden_name", HIDDEN) if hidden else None
    refusal = refusal or (None if n_bytes else ("empty_file", "0 bytes"))
    yield Listed(uri, n_bytes, status.getModificationTime(), name, refusal=refusal)


def _through_spark(spark: SparkSession, path: str, domain: str) -> list[Listed]:
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    modified = F.unix_millis("modificationTime").alias("modified")
    try:
        rows = reader.load(path).select("path", "length", modified).collect()
    except Exception as error:  # py4j's and Spark's own share no base
        raise SourceError(f"sources.{domain}: cannot list {path}: {_reason(error)}") from None
    return [Listed(r.path, r.length, r.modified, name_below(r.path, path)) for r in rows]


def name_below(uri: str, path: str) -> str:
    """The part of a file's uri below the folder, or the glob, that the config names."""
    wild = next((i for i, letter in enumerate(path) if letter in "*?[{"), None)
    base = path.rstrip("/") if wild is None else path[:wild].rpartition("/")[0]
    return uri.removeprefix(f"{base}/") if uri.startswith(f"{base}/") else uri.rpartition("/")[2]


def _any_match(names: list[str], patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _reason(error: Exception) -> str:
    """What Spark says, in one line; py4j puts the Java exception on the second."""
    if isinstance(error, AnalysisException) and error.getCondition() == "PATH_NOT_FOUND":
        return "no such file or folder"
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[1].lstrip(": ") if lines[0].startswith("An error occurred") else lines[0]
