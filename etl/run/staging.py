"""A place for frames that several appends read, so that what made them runs once."""

import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from longattn.etl.run.context import Context
from longattn.etl.tables.locations import is_catalog_name, location, sql_name
from longattn.udfs.storage import local_path

# A Parquet writer looks at its memory every so many rows; 100, its default, may be 100 books.
OPTIONS = {
    "parquet.page.size.row.check.min": "2",
    "parquet.enable.dictionary": "false",
    "compression": "snappy",
}

STAGED = re.compile(r"_[a-z]+_[0-9a-f]{32}_\w+")  # a table's name: job, run and frame
LEFT_BEHIND = 24 * 3600  # seconds after which a folder is a killed run's: no run stages so long

Save = Callable[[str, DataFrame], DataFrame]


@contextmanager
def staging(context: Context, job: str) -> Iterator[Save]:
    """Yield save(name, frame), which writes a frame and gives it back as written; tidy up after.

    Frames are written below the tables' root, or as tables of its schema, so that names are of
    letters, digits and underscores; not cached, as a cache holds 10,000 rows at a time in memory,
    and a row may be a book.
    """
    root, name = context.config.tables.root.rstrip("/"), f"{job}_{uuid.uuid4().hex}"
    if is_catalog_name(root):
        yield from _in_catalog(context.spark, root, f"_{name}")
    else:
        for path in stale(root):
            shutil.rmtree(path, ignore_errors=True)
        if local_path(root) == root:
            root = os.path.abspath(root)  # Java stays in the folder that it was started in
        yield from _in_folder(context.spark, f"{root}/_staging/{name}")


def stale(root: str, all_of_it: bool = False) -> list[str]:
    """Folders that killed runs left in a root: those a day old, or all, for who holds the root.

    Not on object stores, whose own rules can do it.
    """
    folder = None if is_catalog_name(root) else local_path(f"{root.rstrip('/')}/_staging")
    folders = [*Path(folder).glob("*")] if folder else []
    return [str(path) for path in folders if all_of_it or _is_old(path)]


def stale_tables(spark: SparkSession, root: str) -> list[str]:
    """Tables of a schema that runs have staged: killed ones, for who holds the root."""
    if not is_catalog_name(root):
        return []
    rows = spark.sql(f"SHOW TABLES IN {sql_name(root)}").collect()
    names = (row["tableName"] for row in rows if not row["isTemporary"])
    return [location(root, name) for name in names if STAGED.fullmatch(name)]


def drop(spark: SparkSession, table: str) -> None:
    """Drop a table that was staged in a schema."""
    spark.sql(f"DROP TABLE IF EXISTS {table}")


def _is_old(path: Path) -> bool:
    try:
        return path.stat().st_mtime < time.time() - LEFT_BEHIND
    except FileNotFoundError:  # a run has ended meanwhile, and taken it along
        return False


def _in_folder(spark: SparkSession, folder: str) -> Iterator[Save]:
    def save(name: str, frame: DataFrame) -> DataFrame:
        frame.write.options(**OPTIONS).parquet(f"{folder}/{name}")
        return spark.read.schema(frame.schema).parquet(f"{folder}/{name}")

    try:
        yield save
    finally:
        _remove(spark, folder)


def _in_catalog(spark: SparkSession, schema: str, prefix: str) -> Iterator[Save]:
    saved: list[str] = []

    def save(name: str, frame: DataFrame) -> DataFrame:
        saved.append(location(schema, f"{prefix}_{name}"))
        frame.write.saveAsTable(saved[-1])
        return spark.read.table(saved[-1])

    try:
        yield save
    finally:
        for table in saved:
            drop(spark, table)


def _remove(spark: SparkSession, folder: str) -> None:
    path = local_path(folder)
    if path:
        shutil.rmtree(path, ignore_errors=True)
    else:  # DataFrames cannot delete on an object store; an empty frame frees the space
        spark.range(0).write.mode("overwrite").parquet(folder)
