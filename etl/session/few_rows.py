"""Spark for few rows: what makes long queries fast costs short ones more than it saves."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pyspark.sql import SparkSession

from longattn.etl.config import Config
from longattn.udfs.storage import local_path

SMALL_ROOT = 64 << 20  # bytes of a root that one task reads sooner than Spark plans for several
# Jobs whose work is Spark's own, on rows that are in the root already. The others hand texts and
# tokens to Python workers, of which there should be many.
JOBS = {"select", "export", "report"}
CONF = {
    "spark.sql.shuffle.partitions": "2",  # a task costs more than the rows it would carry
    "spark.sql.adaptive.enabled": "false",  # each stage would be a job, planned anew
    "spark.sql.codegen.wholeStage": "false",  # Java compiled for a query that ends before it runs
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}


@contextmanager
def fitted(session: SparkSession, config: Config, job: str) -> Iterator[None]:
    """While the block runs, a session plans for few rows, where the job and the root are such.

    What the config itself says of Spark stays, and what the session said is put back.
    """
    small = job in JOBS and is_small(config.tables.root)
    wanted = {k: v for k, v in CONF.items() if small and k not in config.spark.conf}
    before = {key: session.conf.get(key, None) for key in wanted}
    set_all(session, wanted)
    try:
        yield
    finally:
        set_all(session, before)


def is_small(root: str, most: int = SMALL_ROOT) -> bool:
    """Whether a root is a folder with at most so many bytes in it, those of old versions too."""
    folder = local_path(root)
    if folder is None or not Path(folder).is_dir():  # a store's, a catalog's, or not made yet
        return False
    left = most
    for path in Path(folder).rglob("*"):
        with suppress(FileNotFoundError):  # others may be vacuuming
            left -= path.stat().st_size
        if left < 0:
            return False
    return True


def set_all(session: SparkSession, conf: Mapping[str, str | None]) -> None:
    """Give a session these settings; None takes one out."""
    for key, value in conf.items():
        if value is None:
            session.conf.unset(key)
        else:
            session.conf.set(key, value)
