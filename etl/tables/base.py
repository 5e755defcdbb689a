"""What a table can do, whichever connector does it; jobs see nothing else of Delta."""

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from longattn.etl.tables.schema import TableSpec
from longattn.udfs.errors import ConcurrentWriteError, LeaseLostError, TableError, first_line

AT_ONCE = 5_000  # values that one commit deletes by; of 50,000 delta-rs overflows its stack
MANY = 40_000  # values from which on all rows of a table are written again instead
ATTEMPTS = 20  # of a commit that must not be overtaken, before another writer has won
HOLDER = "longattn-holder"  # the transaction that holders of a root number their commits by
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Txn:
    """An idempotent append: a second append of the same app_id and version changes nothing."""

    app_id: str
    version: int


@dataclass(frozen=True, kw_only=True)
class Commit:
    """What a write did: the table's version after it, and the rows that it added."""

    version: int
    rows: int
    skipped: bool = False  # True when the Txn had been committed before


@dataclass(frozen=True, kw_only=True)
class Detail:
    """Size of a table at one version."""

    version: int
    rows: int
    bytes: int
    files: int


def nothing() -> None:
    """What a table does before a commit when nobody holds its root."""


class Table(ABC):
    """One Delta table of a known schema; made on the first write, empty before it."""

    def __init__(self, spark: SparkSession, spec: TableSpec, location: str) -> None:
        self.spark = spark
        self.spec = spec
        self.location = location  # folder, URI or catalog.schema.table
        # Called once a commit knows its version and before it is made; what it raises stops it.
        self.guard: Callable[[], None] = nothing
        # Numbers commits while the root is held, and then none is made against a later version.
        self.number: Callable[[], int] | None = None
        self._pinned: tuple[int, DataFrame] | None = None  # the version read last, and its rows

    def empty(self) -> DataFrame:
        """No rows, with the table's columns."""
        return self.spark.createDataFrame([], self.spec.schema)

    def check_columns(self, df: DataFrame) -> None:
        """Raise TableError, naming them, for columns missing, unknown or of another type."""
        known = set(self.spec.columns)
        problems = column_problems(self.spec.schema, df.schema)
        problems += [f"{name} is unknown" for name in df.columns if name not in known]
        if problems:
            raise TableError(f"table {self.location}: {'; '.join(problems)}")

    def with_values(self, frame: DataFrame, values: Mapping[str, Any]) -> DataFrame:
        """The spec's columns, some by constants; as SQL, for a Column is several calls to Java.

        A constant is a partition's value, text or null.
        """
        types = {name: type_ for name, (type_, _) in self.spec.columns.items()}
        constants = {n: f"CAST({sql_text(v)} AS {types[n]}) AS `{n}`" for n, v in values.items()}
        return frame.selectExpr(*(constants.get(name, f"`{name}`") for name in types))

    def check_schema(self, schema: StructType, partition_by: list[str]) -> None:
        """Raise TableError unless the table's own columns hold the spec's.

        More are none of our business, and those of later versions may lack.
        """
        problems = column_problems(self.spec.schema, schema, self.spec.added)
        expected = list(self.spec.partition_by)
        if partition_by != expected:
            problems.append(f"it is partitioned by {partition_by}, not {expected}")
        if problems:
            raise TableError(
                f"table {self.location} was made with another schema: {'; '.join(problems)}"
            )

    def refuse_repeated_keys(self, df: DataFrame) -> None:
        """Raise TableError, naming one, when df has a key twice."""
        most = F.max(F.struct("count", *self.spec.key)).alias("most")
        repeated = df.groupBy(*self.spec.key).count().agg(most).collect()[0]["most"]
        if repeated and repeated["count"] > 1:
            times, *values = repeated
            key = ", ".join(f"{k}={v}" for k, v in zip(self.spec.key, values, strict=True))
            raise TableError(f"table {self.location}: merge was given {key} {times} times")

    def until_not_overtaken(
        self,
        commit: Callable[[], Result],
        overtaken: type[Exception],
        may_go_on: Callable[[], None] = nothing,
    ) -> Result:
        """Commit; again from the newest version, after a moment, when it raises `overtaken`.

        Not where `may_go_on` raises: who has overtaken may have taken the root, and the work is
        then done, so that another try would find nothing to commit and ask nobody.
        """
        last = ""
        for attempt in range(ATTEMPTS):
            try:
                return commit()
            except LeaseLostError:
                raise
            except overtaken as error:
                last = first_line(error)
                may_go_on()
                time.sleep(random.uniform(0, 0.05 * (attempt + 1)))
        raise ConcurrentWriteError(
            f"table {self.location}: other writers won {ATTEMPTS} times in a row; run it again "
            f"(the last time: {last})"
        )

    @abstractmethod
    def fence(self) -> None:
        """Move the table on by a version, if it is made: what others have under way is stale."""

    @abstractmethod
    def version(self) -> int | None:
        """Latest version, or None when the table has not been made."""

    def same_rows(self, before: int | None, now: int | None) -> bool:
        """Whether the table has the same rows at two versions; of None it is not made."""
        if before is None or now is None or before > now:
            return before == now
        return self.unchanged(before, now)

    @abstractmethod
    def unchanged(self, before: int, now: int) -> bool:
        """Whether no version behind one has added or removed a row, up to a later one."""

    @abstractmethod
    def read(
        self, version: int | None = None, file_names: Collection[str] | None = None
    ) -> DataFrame:
        """The rows, at a version if given; no rows, with the right columns, if not yet made.

        `file_names` keeps the rows of those data files and opens no other: last parts of paths, as
        input_file_name() ends in. Files of one write in several partitions share a name.
        """

    def pinned(self, version: int) -> DataFrame:
        """As `read` of a version, with one frame for all who ask: making it takes Spark 0.1 s.

        Two uses of the frame have the same columns, so a join of them needs names, not Columns.
        """
        if self._pinned is None or self._pinned[0] != version:
            self._pinned = version, self.read(version)
        return self._pinned[1]

    @abstractmethod
    def append(self, df: DataFrame, txn: Txn | None = None) -> Commit:
        """Add rows atomically. Raises TableError when df's columns are not the table's."""

    @abstractmethod
    def overwrite(self, df: DataFrame) -> Commit:
        """Replace all rows atomically."""

    @abstractmethod
    def replace_where(self, df: DataFrame, partition: dict[str, str]) -> Commit:
        """Replace the rows of one partition atomically; df may hold rows of that partition only."""

    def put(self, row: Mapping[str, Any]) -> Commit:
        """Add one row, or replace the row of its key, atomically; not guarded: the ledger's."""
        values = tuple(row[name] for name in self.spec.columns)
        frame = self.spark.createDataFrame([values], self.spec.schema).coalesce(1)
        return self.replace_where(frame, {name: row[name] for name in self.spec.key})

    @abstractmethod
    def merge(self, df: DataFrame, since: int | None = None) -> Commit:
        """Add, atomically, the rows whose key the table has not; its own rows stay as they are.

        `since` is a version at which the table had none of df's keys, where the caller knows one:
        then only what was added after it need be looked at.

        Of two merges of one key at once, the later finds it there. Nulls in a key are equal. Raises
        TableError naming a key that df itself has twice. docs/adr/0007 says why nothing is updated.
        """

    def delete(self, column: str, values: Collection[str]) -> Commit:
        """Delete the rows whose column is one of the values, one at least; `rows` is less than 0.

        Versions of before keep them until they are vacuumed. A commit writes the files anew that
        hold any of its values. Many values are in all files, and then one commit writes them all.
        """
        ordered = sorted(values)
        if len(ordered) >= MANY and self.number:  # held, so that nobody adds rows meanwhile
            return self._rewrite_without(column, ordered)
        starts = range(0, len(ordered), AT_ONCE)
        commits = [self.delete_few(column, ordered[at : at + AT_ONCE]) for at in starts]
        return Commit(version=commits[-1].version, rows=sum(commit.rows for commit in commits))

    def _rewrite_without(self, column: str, values: Sequence[str]) -> Commit:
        rows = self.read()
        named = self.spark.createDataFrame([(value,) for value in values], f"{column} string")
        gone = rows.join(named, column, "left_semi").count()
        if not gone:
            return self.delete_few(column, values[:1])
        kept = rows.join(named, column, "left_anti").select(*rows.columns)
        return Commit(version=self.overwrite(kept).version, rows=-gone)

    @abstractmethod
    def delete_few(self, column: str, values: Collection[str]) -> Commit:
        """As `delete`, in one commit, of AT_ONCE values at most."""

    @abstractmethod
    def optimize(self) -> dict[str, Any]:
        """Merge small files; return files_added and files_removed."""

    @abstractmethod
    def vacuum(self, retention_hours: float = 168, dry_run: bool = False) -> list[str]:
        """Delete files no longer in the log and older than the retention; return their paths."""

    @abstractmethod
    def detail(self) -> Detail | None:
        """Version, rows, bytes and files from the log alone; None when not yet made."""


def same_keys(frame: DataFrame, key: Sequence[str]) -> tuple[DataFrame, Column]:
    """The frame's keys, renamed, and the condition that joins them; nulls are equal.

    It goes by names, so that the other side may be made of the same frame.
    """
    renamed = frame.select(*(F.col(name).alias(f"known_{name}") for name in key))
    pairs = (F.col(f"known_{name}").eqNullSafe(F.col(name)) for name in key)
    return renamed, reduce(Column.__and__, pairs)


def sql_text(value: str | None) -> str:
    """A literal of Spark SQL."""
    if value is None:
        return "NULL"
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def column_problems(
    expected: StructType, actual: StructType, may_lack: Collection[str] = ()
) -> list[str]:
    """What of `expected` is missing or of another type in `actual`; nullability does not count."""
    types = {field.name: field.dataType.simpleString() for field in actual.fields}
    problems = []
    for field in expected.fields:
        have, want = types.get(field.name), field.dataType.simpleString()
        if have is None and field.name in may_lack:
            continue
        if have is None:
            problems.append(f"{field.name} is missing")
        elif have != want:
            problems.append(f"{field.name} is {have}, not {want}")
    return problems
