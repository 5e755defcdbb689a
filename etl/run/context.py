"""What every job gets and gives back: a Context in, an Outcome out, rejects on the side."""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from longattn.etl.config import Config
from longattn.etl.run.figures import Figures
from longattn.etl.run.progress import Progress
from longattn.etl.run.recipe import Recipe
from longattn.etl.tables.base import Commit, Table, Txn, nothing, same_keys
from longattn.etl.tables.lease import Lease
from longattn.etl.tables.lost import refuse_lost
from longattn.etl.tables.schema import REJECTS
from longattn.udfs.errors import LedgerError

NOT_ENTERED = -1  # no version of the ledger: whoever holds the root next finds another, and looks

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Selected:
    """A selection that was made: its id, and the name of all it depends on but tables' rows."""

    id: str
    settings: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A job's ledger: rows_in must equal rows_out plus the sum of refused.

    rows_in is counted where the job reads, rows_out where it commits, and neither follows from the
    other, so that a row lost or doubled on the way shows. `committed` says of other tables how many
    rows the job had for them, and how many their commits have added; these must agree, too.

    The unit is the job's own: records for ingest, documents for dedup and windows, windows for
    score and select, samples for export. Metrics are counts beside it (tokens, bytes, seconds), and
    figures those of single domains, scorers or formats.
    """

    rows_in: int
    rows_out: int
    refused: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    figures: Figures = field(default_factory=Figures)
    selected: Selected | None = None  # by job select
    settings: str | None = None  # names what a run of dedup has decided by
    committed: dict[str, tuple[int, int]] = field(default_factory=dict)  # what -> had, committed

    @property
    def stored_metrics(self) -> dict[str, float]:
        """Metrics and figures as the ledger has them."""
        return {k: float(v) for k, v in self.metrics.items()} | self.figures.encode()

    @property
    def balances(self) -> bool:
        return not self.faults

    @property
    def faults(self) -> list[str]:
        """What does not balance, in words; nothing when all of it does."""
        lines = []
        if self.rows_in != self.rows_out + sum(self.refused.values()):
            refused = " + ".join(f"{count} {reason}" for reason, count in self.refused.items())
            out = f"{self.rows_out} out + refused ({refused or 'none'})"
            lines.append(f"{self.rows_in} rows in are not {out}")
        for what, (had, committed) in self.committed.items():
            if had != committed:
                lines.append(f"{had} {what} became {committed} when they were committed")
        return lines

    def refuse_imbalance(self, job: str) -> None:
        """Raise LedgerError, saying what does not balance."""
        if self.faults:
            raise LedgerError(f"{job}: {'; '.join(self.faults)}")


class TableSet(Mapping[str, Table]):
    """All tables of a root; notes which versions were read and written, for the ledger."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = dict(tables)
        self.versions_read: dict[str, int] = {}
        self.versions_written: dict[str, int] = {}
        self._written_first: set[str] = set()  # tables that were written before they were read
        self.rows_added: Counter[str] = Counter()
        self.ledger_version: int | None = None
        self._expected: Mapping[str, int] = {}
        self._guard: Callable[[], None] | None = None
        self._intact: set[str] = set()
        self._versions: dict[str, int | None] | None = None  # while `steady`
        self._lock = threading.Lock()  # batches of scores are committed by two threads

    def __getitem__(self, name: str) -> Table:
        return self._tables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def expect(self, versions: Mapping[str, int], lease: Lease | None) -> None:
        """Refuse tables whose logs end before these versions; commit only while the lease holds."""
        self._expected, self._guard = versions, lease.check if lease else None
        for table in self.values():
            table.guard = lease.check if lease else nothing
            table.number = lease.number if lease else None

    @contextmanager
    def steady(self) -> Iterator[None]:
        """While the block runs, a table is asked once for its version, which own commits move on.

        Others' commits are not seen. To ask costs a job of Spark, or a listing of an object store.
        """
        self._versions = {}
        try:
            yield
        finally:
            self._versions = None

    def version(self, name: str) -> int | None:
        """The version that `read` reads; None when the table has not been made."""
        if self._versions is None:
            return self[name].version()
        if name not in self._versions:
            version = self[name].version()
            self._versions.setdefault(name, version)  # a commit may have been noted meanwhile
        return self._versions[name]

    def read(self, name: str) -> DataFrame:
        """Read the latest version, pinned: what else is committed meanwhile is not seen.

        Raises LostLogError when the table has lost its log, or the end of it.
        """
        version = self.version(name)
        self._refuse_lost(name, version)
        if version is None:
            return self[name].read()
        self.versions_read.setdefault(name, version)
        return self[name].pinned(version)

    def append(self, name: str, df: DataFrame, txn: Txn | None = None) -> Commit:
        return self._added(name, self.intact(name).append(df, txn))

    def merge(self, name: str, df: DataFrame, since: int | None = None) -> Commit:
        return self._added(name, self.intact(name).merge(df, since))

    def overwrite(self, name: str, df: DataFrame) -> Commit:
        return self._note(name, self.intact(name).overwrite(df))

    def replace_where(self, name: str, df: DataFrame, partition: dict[str, str]) -> Commit:
        return self._note(name, self.intact(name).replace_where(df, partition))

    def delete(self, name: str, column: str, values: Collection[str]) -> int:
        """Delete the rows whose column is one of the values; returns how many."""
        return -self._added(name, self.intact(name).delete(column, values)).rows

    def optimize(self, name: str) -> None:
        """Merge a table's small files; the version that this makes is one of this run's."""
        self.intact(name).optimize()
        self._note(name, Commit(version=self[name].version() or 0, rows=0))

    def rewritten(self, name: str) -> bool:
        """Whether a table that this run holds is not as the last holder of the root left it."""
        return self._guard is not None and self[name].version() != self._expected.get(name)

    def there(self, name: str, rows: DataFrame) -> int:
        """How many rows of a table, as it is now, have the keys of `rows`."""
        key = self[name].spec.key
        known, same = same_keys(rows, key)
        return self[name].read().select(*key).join(known, same, "left_semi").count()

    def put_run(self, row: Mapping[str, Any]) -> None:
        """Enter a run in the ledger, or replace its row."""
        self.ledger_version = NOT_ENTERED
        self.ledger_version = self["runs"].put(row).version

    @property
    def versions_before(self) -> dict[str, int]:
        """The versions that were read and that this run has not made itself."""
        read = self.versions_read.items()
        return {name: version for name, version in read if name not in self._written_first}

    @property
    def versions_left(self) -> dict[str, int]:
        """The versions that this run has written, the ledger's too."""
        ledger = {} if self.ledger_version is None else {"runs": self.ledger_version}
        return self.versions_written | ledger

    def refuse_overtaken(self) -> None:
        """Raise LeaseLostError where another run may hold the tables by now."""
        if self._guard is not None:
            self._guard()

    def note_unseen(self) -> None:
        """Note commits that an interrupt has kept from being noted: it may come between the two.

        What has changed since the root was taken is this run's, as long as it has the root: raises
        what `guard` does.
        """
        if self._guard is None:
            return
        self._guard()
        for name in self:
            began, version = self._expected.get(name), self[name].version()
            noted = self.versions_written.get(name, -1 if began is None else began)
            if name != "runs" and version is not None and version > noted:
                self.versions_written[name] = version
                self.rows_added[name] = rows_since(self[name], began)

    def intact(self, name: str) -> Table:
        """The table; raises LostLogError as `read` does."""
        table = self[name]
        if name not in self._intact:
            self._refuse_lost(name, self.version(name))
        return table

    def _refuse_lost(self, name: str, version: int | None) -> None:
        refuse_lost(self[name].location, version, self._expected.get(name))
        self._intact.add(name)

    def _added(self, name: str, commit: Commit) -> Commit:
        with self._lock:
            self.rows_added[name] += commit.rows
        return self._note(name, commit)

    def _note(self, name: str, commit: Commit) -> Commit:
        """Note a commit; of two threads' the later one counts, whichever is noted last."""
        with self._lock:
            if name not in self.versions_read:
                self._written_first.add(name)
            version = max(commit.version, self.versions_written.get(name, 0))
            self.versions_written[name] = version
            if self._versions is not None:
                self._versions[name] = version
        return commit


def rows_since(table: Table, version: int | None) -> int:
    """How many rows more a table has than it had at a version, or than none."""
    before: int = 0 if version is None else table.read(version).count()
    now: int = table.read().count()
    return now - before


@dataclass(frozen=True, kw_only=True)
class Context:
    """The session, the settings, the tables and the progress display of one job."""

    spark: SparkSession
    config: Config
    tables: TableSet
    progress: Progress
    known: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def recipe(self) -> Recipe:
        """What the config names, resolved once."""
        return Recipe(self.config)

    def fresh(self, same_run: bool = False) -> "Context":
        """The same context with no versions noted, for the next job.

        Jobs of the same run share what is worked out once.
        """
        known = self.known if same_run else {}
        return replace(self, tables=TableSet(self.tables), known=known)

    def once(self, key: Hashable, work: Callable[[], Result]) -> Result:
        """The result of `work`, which is done when a run asks for it first."""
        if key not in self.known:
            self.known[key] = work()
        result: Result = self.known[key]
        return result

    def reject(self, refused: DataFrame) -> int:
        """Append refused records that are not in `rejects` yet; return how many were new.

        `refused` has the columns of `rejects` but for rejected_at.
        """
        once = refused.dropDuplicates(list(REJECTS.key))
        stamped = once.withColumn("rejected_at", F.current_timestamp())
        return self.tables.merge("rejects", stamped.select(*REJECTS.columns)).rows
