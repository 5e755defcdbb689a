"""Files at places that only Spark can open: s3a://, abfss://, hdfs:// and others."""

import fnmatch
from collections.abc import Iterator
from posixpath import dirname
from typing import Any, NamedTuple

from pyspark.errors import AnalysisException, PySparkAttributeError
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from longattn.etl.ingest.local_files import IGNORED_FILES, IGNORED_FOLDERS, LOG, Listed
from longattn.etl.ingest.own import MANIFEST
from longattn.udfs.errors import SourceError

HIDDEN = "Spark reads no name that begins with _ or .; rename it"


class Folders(NamedTuple):
    """Folders of stores that a listing has met and that say what their files are."""

    manifests: set[str]  # where an export's manifest is, or may lie in the folder above
    tables: set[str]  # of Delta


def list_remote(
    spark: SparkSession, path: str, domain: str, met: Folders | None = None
) -> list[Listed]:
    """All files that a path, a folder or a glob names; `met` gets the folders met on the way.

    A name that Spark's readers hide is refused. With Spark Connect there is nothing but those
    readers to list with, and hidden names are not seen. Raises SourceError for a path that is not
    there or cannot be reached.
    """
    try:
        listed = list(_through_hadoop(spark, path, met or Folders(set(), set())))
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


def _through_hadoop(spark: SparkSession, path: str, met: Folders) -> Iterator[Listed]:
    jvm: Any = spark._jvm
    conf = spark._jsparkSession.sessionState().newHadoopConf()
    path_of = jvm.org.apache.hadoop.fs.Path
    root = path_of(path)
    system = root.getFileSystem(conf)
    met.tables.update(_tables_above(system, path_of, path))
    for status in system.globStatus(root) or ():
        place = status.getPath().toString()
        met.manifests.update((place, dirname(place), dirname(dirname(place))))
        if status.isFile():
            yield from _listed(status, path, met)
            continue
        below = system.listFiles(status.getPath(), True)
        while below.hasNext():
            yield from _listed(below.next(), path, met)


def _tables_above(system: Any, path_of: Any, path: str) -> list[str]:
    """The table that a glob looks into: one of files passes over the log beside them."""
    above = _above_glob(path)
    try:
        logs = system.globStatus(path_of(f"{above}/{LOG}")) if above else None
        return [dirname(log.getPath().toString()) for log in logs or ()]
    except Exception:  # py4j's: who may not look there can still read the files
        return []


def _listed(status: Any, path: str, met: Folders) -> Iterator[Listed]:
    uri, n_bytes = status.getPath().toString(), status.getLen()
    name = name_below(uri, path)
    *folders, file = name.split("/")
    if file == MANIFEST:
        met.manifests.add(dirname(uri))
    if f"/{LOG}/" in uri:
        met.tables.add(uri.partition(f"/{LOG}/")[0])
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
    above = _above_glob(path)
    base = path.rstrip("/") if above is None else above
    return uri.removeprefix(f"{base}/") if uri.startswith(f"{base}/") else uri.rpartition("/")[2]


def _above_glob(path: str) -> str | None:
    """The folder above the first part of a path that is a pattern; None where none is."""
    wild = next((i for i, letter in enumerate(path) if letter in "*?[{"), None)
    return None if wild is None else path[:wild].rpartition("/")[0]


def _any_match(names: list[str], patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _reason(error: Exception) -> str:
    """What Spark says, in one line; py4j puts the Java exception on the second."""
    if isinstance(error, AnalysisException) and error.getCondition() == "PATH_NOT_FOUND":
        return "no such file or folder"
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[1].lstrip(": ") if lines[0].startswith("An error occurred") else lines[0]
