"""A job holds its root while it runs: it waits for the lease, renews it and commits by it."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from deltalake.exceptions import DeltaError
from pyspark.sql import SparkSession

from longattn.etl.config import TablesConfig
from longattn.etl.run.context import Context, TableSet, rows_since
from longattn.etl.run.reasons import one_line
from longattn.etl.tables.delta_rs import DeltaRsTable
from longattn.etl.tables.lease import (
    BEATS,
    DeltaRegister,
    Holder,
    Lease,
    register_location,
    steady_clock,
    this_process,
)
from longattn.etl.tables.locations import is_catalog_name
from longattn.etl.tables.lost import refuse_lost
from longattn.etl.tables.native import schema_folder
from longattn.udfs.errors import ConcurrentWriteError, TableError, UnsupportedTableFeature


@dataclass(kw_only=True)
class Predecessor:
    """A run that held the root and ended without giving it back; what it had done by then."""

    holder: Holder
    written: dict[str, int]  # table -> version
    rows_added: dict[str, int]  # table -> rows more than when it began
    closed: bool = False  # its rows in the ledger have been closed


LOOK_AGAIN = 0.5  # seconds between two looks at a root that is held, at first
LOOK_AT_MOST = 5.0  # and in the end


@contextmanager
def hold(context: Context, job: str, run_id: str) -> Iterator[Predecessor | None]:
    """Hold the config's root while the block runs; yields the dead run that it was taken from.

    Waits `tables.wait` seconds for a root that another run holds. Where there can be no register
    nothing is held. Raises ConcurrentWriteError when the wait is over.
    """
    lease = _claim(context, job, run_id)
    if lease is None:
        yield None
        return
    dead = None
    try:
        with _renewed(lease):
            dead = _look_around(lease, context.tables)
            context.tables.expect(lease.known, lease)
            yield dead
    finally:
        context.tables.expect({}, None)
        if lease.took_over is None or (dead and dead.closed):
            _release(lease, context)  # else what the dead run left is the next one's to close


def register_of(spark: SparkSession, settings: TablesConfig) -> DeltaRegister | None:
    """The register of a root, which lies in its folder; None for a schema that has none.

    That of a schema lies where the config names a folder, or where the catalog keeps the schema.
    """
    folder: str | None = settings.root
    if is_catalog_name(settings.root):
        shared = settings.lease_folder  # many schemas may have theirs in it
        own = f"{shared.rstrip('/')}/{settings.root}" if shared else None
        folder = own or schema_folder(spark, settings.root)
    return DeltaRegister(register_location(folder)) if folder else None


def last_holder(spark: SparkSession, settings: TablesConfig) -> Holder | None:
    """Who held the root last; None where nobody has, and where no register can be read."""
    register = register_of(spark, settings)
    with suppress(DeltaError, OSError):  # as `_claim`, which then goes on without a lease
        return register.read()[1] if register and register.exists() else None
    return None


def _claim(context: Context, job: str, run_id: str) -> Lease | None:
    """Take the root; None where there can be no lease: what only Spark reaches."""
    settings, progress = context.config.tables, context.progress
    register = register_of(context.spark, settings)
    if register is None:
        return None
    me = Holder(token=run_id, job=job, run_id=run_id, since=time.time(), **this_process())  # type: ignore[arg-type]
    lease = Lease(register, me, settings.lease, steady_clock, progress.so_far)
    try:
        _wait_for(lease, settings, progress.say)
    except (DeltaError, OSError) as error:
        reason = f"{settings.root}: no lease can be kept in {register.location}: {one_line(error)}"
        if isinstance(context.tables["runs"], DeltaRsTable):
            raise TableError(reason) from None
        progress.say(f"{reason}; no other run may write to this root meanwhile")
        return None
    return lease


def _wait_for(lease: Lease, settings: TablesConfig, say: Callable[[str], None]) -> None:
    root, limit = settings.root, settings.wait
    started, pause = time.monotonic(), LOOK_AGAIN
    announced: str | None = None
    while holder := lease.take():
        waited = time.monotonic() - started
        if waited >= limit:
            raise ConcurrentWriteError(
                f"tables {root} are held by {holder}; waited {waited:.0f} s (tables.wait); "
                "run this again when it has ended"
            )
        if announced != holder.token:
            announced = holder.token
            left = f"{limit - waited:.0f} s"
            say(f"{lease.me.job}: waiting up to {left} for {root}, held by {holder}")
        time.sleep(min(pause, max(limit - waited, 0)))
        pause = min(pause * 1.5, LOOK_AT_MOST)


def _look_around(lease: Lease, tables: TableSet) -> Predecessor | None:
    """Note the tables' versions where no run has left them in order; say what a dead one did."""
    if lease.known and lease.in_order:
        return None
    before = lease.known
    fenced = set() if lease.in_order else _fence(lease, tables, _versions(tables, before))
    lease.known = _versions(tables, before)
    if not lease.took_over:
        return None
    left = {name: version - (name in fenced) for name, version in lease.known.items()}
    written = {name: v for name, v in left.items() if v != before.get(name) and name != "runs"}
    added = {name: rows_since(tables[name], before.get(name)) for name in written}
    return Predecessor(holder=lease.took_over, written=written, rows_added=added)


def _fence(lease: Lease, tables: TableSet, versions: Mapping[str, int]) -> set[str]:
    """Make stale what a holder that did not give the root back, asleep or dead, has under way.

    Returns the tables that have one version more by this.
    """
    tables.expect(versions, lease)
    fenced = set()
    for name in versions:
        with suppress(UnsupportedTableFeature):  # nor could it have written there
            tables[name].fence()
            fenced.add(name)
    lease.in_order = True
    return fenced


def _versions(tables: TableSet, known: Mapping[str, int]) -> dict[str, int]:
    """The tables' versions; raises LostLogError for one that is behind what is known of it."""
    versions = {}
    for name, table in tables.items():
        version = table.version()
        refuse_lost(table.location, version, known.get(name))
        if version is not None:
            versions[name] = version
    return versions


@contextmanager
def _renewed(lease: Lease) -> Iterator[None]:
    """Renew the lease in a thread of its own while the block runs."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(lease.seconds / BEATS):
            with suppress(Exception):  # a store may be away for a moment; `check` counts the time
                lease.renew()

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(lease.seconds)


def _release(lease: Lease, context: Context) -> None:
    """Give the root back; where that fails, the next run finds that its holder is dead."""
    try:
        lease.release(context.tables.versions_left)
    except Exception as error:
        context.progress.say(f"{lease.me.job}: the lease could not be given back: {error}")
