"""Who may write to a root: one holder at a time, and a successor when it has died.

A root has a register, one small value that is replaced by compare-and-set. It is the log of a Delta
table without rows, `<root>/_lease`: a commit against a stale version fails, on every store that the
tables themselves can be on. Who holds the root renews the value four times in the lease's length.
Who wants it waits until the value has stayed the same for the holder's length by its own clock, so
clocks are never compared. The holder counts from before it began its last renewal, so it has
stopped writing by the time another may begin. Each renewal also says how far the holder is.

A holder that has slept through all that cannot commit either: who takes a root from it moves every
table on by one version, and a commit of the sleeper is against an older one (Fence, ADR 25).
"""

import itertools
import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import deltalake
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from longattn.etl.tables.files import commit_info
from longattn.etl.tables.locations import location
from longattn.udfs.errors import LeaseLostError, TableError
from longattn.udfs.storage import local_path

BEATS = 4  # renewals in a lease's length: three may fail
COMMITS = 20  # bits of a commit's number that count the commits of one holder
LOG_CONFIGURATION = {
    "delta.logRetentionDuration": "interval 1 hours",  # a value is of use until the next
    "delta.enableExpiredLogCleanup": "true",
}
COLUMN = {"name": "unused", "type": "string", "nullable": True, "metadata": {}}


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a root, or held it last; what its tables' versions were when it was taken."""

    token: str
    job: str
    run_id: str
    machine: str = ""
    pid: int = 0
    born: str = ""  # tells a process from a later one of the same pid
    since: float = 0.0  # seconds since 1970, by the holder's clock: for people
    beat: float = 0.0
    seconds: float = 60.0  # the length of this lease: who waits for it goes by it
    free: bool = False
    in_order: bool = True  # where free: no commit of an earlier holder can be under way any more
    term: int = 0  # more than that of any holder before
    versions: dict[str, int] = field(default_factory=dict)
    progress: dict[str, Any] | None = None  # how far the job was at that beat, where it says so

    @property
    def host(self) -> str:
        return self.machine.partition("/")[0]

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC)
        return (
            f"{self.job} (process {self.pid} on {self.host}, since {since:%Y-%m-%d %H:%M:%S} UTC)"
        )


def register_location(folder: str) -> str:
    """Where the register lies in a root's folder."""
    place = location(folder, "_lease")
    return local_path(place) or place


class Register(Protocol):
    """One value with a version, replaced by compare-and-set."""

    def read(self) -> tuple[int, Holder | None]:
        """The version and the value; the value is None before the first."""
        ...

    def write(self, version: int, holder: Holder) -> bool:
        """Replace the value of that version; False when it is no longer the newest."""
        ...


class DeltaRegister:
    """A register in the log of a Delta table that has no rows."""

    def __init__(self, location: str) -> None:
        self.location = location

    def exists(self) -> bool:
        """Whether anybody has held the root; reading makes the register where nobody has."""
        return bool(DeltaTable.is_deltatable(self.location))

    def tidy(self) -> None:
        """Drop old values: each renewal is one."""
        table = self._open()
        table.create_checkpoint()
        table.cleanup_metadata()

    def read(self) -> tuple[int, Holder | None]:
        version = self._open().version()
        if version == 0:
            return 0, None
        value = (commit_info(self.location, version) or {}).get("lease")
        if value is None:
            raise TableError(
                f"{self.location}: version {version} does not say who holds the tables; when no run"
                " is alive, delete this folder"
            )
        return version, self._holder(value, version)

    def _holder(self, value: str, version: int) -> Holder:
        place = f"{self.location}: version {version}"
        try:
            said = json.loads(value)
            unknown = sorted(set(said) - {field.name for field in fields(Holder)})
            if not unknown:
                return Holder(**said)
        except (TypeError, ValueError) as error:
            raise TableError(
                f"{place} does not name who holds the tables ({error}); when no run is alive,"
                " delete this folder"
            ) from None
        raise TableError(
            f"{place} was written by another version of longattn: unknown {', '.join(unknown)};"
            " use that version, or, when no run is alive, delete this folder"
        )

    def write(self, version: int, holder: Holder) -> bool:
        table = self._open()
        if table.version() != version:
            return False
        value = {"lease": json.dumps(asdict(holder))}
        properties = CommitProperties(custom_metadata=value, max_commit_retries=0)
        try:
            table.create_write_transaction(
                [], "append", table.schema(), [], commit_properties=properties
            )
        except CommitFailedError:
            return False
        return True

    def _open(self) -> DeltaTable:
        try:
            return DeltaTable(self.location)
        except TableNotFoundError:
            return self._create()

    def _create(self) -> DeltaTable:
        schema = deltalake.Schema.from_json(json.dumps({"type": "struct", "fields": [COLUMN]}))
        with suppress(
            DeltaError
        ):  # made by another just now, or else opening it says what is wrong
            DeltaTable.create(
                self.location,
                schema,
                configuration=LOG_CONFIGURATION,
                commit_properties=CommitProperties(max_commit_retries=0),  # else it is made twice
            )
        return DeltaTable(self.location)


class Lease:
    """One run's claim to a root. Not taken until `take` has returned None."""

    def __init__(
        self,
        register: Register,
        me: Holder,
        seconds: float,
        clock: Callable[[], float],
        progress: Callable[[], dict[str, Any] | None] = lambda: None,
    ) -> None:
        self.register = register
        self.me = replace(me, seconds=seconds)
        self.seconds = seconds
        self.clock = clock
        self.progress = progress
        self.took_over: Holder | None = None  # who held the root and did not give it back
        self.in_order = False  # whether who held it before gave it back, or can commit no more
        self.known: dict[str, int] = {}  # versions of the tables when they were last written
        self._version = -1
        self._renewed = float("-inf")
        self._seen = (-1, 0.0)  # the version that is waited on, and since when
        self._commits = itertools.count(1)

    def take(self) -> Holder | None:
        """Take the root if it is free or its holder is dead; else return who holds it."""
        started = self.clock()
        version, holder = self.register.read()
        if holder and not holder.free and not self._is_dead(version, holder):
            return holder
        known = holder.versions if holder else {}
        self.me = replace(self.me, term=_next_term(holder))
        if not self.register.write(version, self._stamped(versions=known)):
            return self.register.read()[1] or self.me  # somebody was quicker
        self._version, self._renewed = version + 1, started
        self.known, self.took_over = known, None if holder is None or holder.free else holder
        self.in_order = holder is not None and holder.free and holder.in_order
        return None

    def renew(self) -> None:
        """Say that this run lives, and how far it is."""
        if not self._write(self._stamped(versions=self.known, progress=self.progress())):
            self._renewed = float("-inf")

    def release(self, written: dict[str, int]) -> None:
        """Give the root back, with the versions that this run has written."""
        versions = self.known | written
        self._write(self._stamped(versions=versions, free=True, in_order=self.in_order))
        self._renewed = float("-inf")

    def check(self) -> None:
        """Raise LeaseLostError when another run may have taken the root, or the lease is gone.

        Read a table's version, call this, then commit against that version: where another run has
        taken the root meanwhile, its fence has moved the version on, and the commit fails.
        """
        if self.clock() - self._renewed >= self.seconds:
            raise LeaseLostError(
                f"{self.me.job}: this run did not renew its lease for {self.seconds:g} s and"
                " another may hold the tables now, so it writes no more; run it again"
            )
        holder = self.register.read()[1]
        if holder is None or holder.token != self.me.token or holder.free:
            now = f"{holder} holds the tables now" if holder else "its lease has been deleted"
            raise LeaseLostError(f"{self.me.job}: {now}, so this run writes no more; run it again")

    def number(self) -> int:
        """A number for the next commit: more than those before, of this holder and of others."""
        return (self.me.term << COMMITS) + next(self._commits)

    def _write(self, holder: Holder) -> bool:
        """Replace our value; a value of ours whose writing was reported as failed counts."""
        started = self.clock()
        if not self.register.write(self._version, holder):
            version, current = self.register.read()
            if current is None or current.token != self.me.token:
                return False
            self._version = version
            if not self.register.write(version, holder):
                return False
        self._version, self._renewed = self._version + 1, started
        return True

    def _stamped(self, **changes: object) -> Holder:
        return replace(self.me, beat=time.time(), **changes)  # type: ignore[arg-type]

    def _is_dead(self, version: int, holder: Holder) -> bool:
        if is_gone(holder):
            return True
        if self._seen[0] != version:
            self._seen = (version, self.clock())
        return self.clock() - self._seen[1] >= holder.seconds


def steady_clock() -> float:
    """Seconds that go on while the machine sleeps, where it can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def this_process() -> dict[str, str | int]:
    """What names this process in a Holder."""
    pid = os.getpid()
    return {"machine": _machine(), "pid": pid, "born": _born(pid) or ""}


def is_gone(holder: Holder) -> bool:
    """True when the holder ran on this machine and its process has ended."""
    if not holder.born or holder.machine != _machine():
        return False
    born = _born(holder.pid)
    return not _exists(holder.pid) if born is None else born != holder.born


def _next_term(before: Holder | None) -> int:
    """Later than a term that is known, and, where the register is new, than those forgotten."""
    return max(int(time.time() * 1000), before.term + 1 if before else 0)


def _machine() -> str:
    """Host, boot and process namespace: where process numbers mean the same."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _born(pid: int) -> str | None:
    """When a process started, in ticks since the boot; empty when it has ended; None if not said.

    What /proc does not show may be alive: mounted with hidepid=2 it hides those of other users.
    """
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if words[0] in "ZX" else words[19]


def _exists(pid: int) -> bool:
    """Whether there is a process of this number; another user's may not be asked, but is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
