"""A job holds its root while it runs: it waits for it, renews it, and commits nothing without."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from deltalake.exceptions import DeltaError

from longattn.etl.run.context import Context, rows_since
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
            dead = _look_around(lease, context)
            context.tables.expect(lease.known, lease)
            yield dead
    finally:
        context.tables.expect({}, None)
        if lease.took_over is None or (dead and dead.closed):
            _release(lease, context)  # else what the dead run left is the next one's to close


def register_of(context: Context) -> DeltaRegister | None:
    """The register of a root, which lies in its folder; None for a schema that has none."""
    folder = _folder_of(context)
    return DeltaRegister(register_location(folder)) if folder else None


def _folder_of(context: Context) -> str | None:
    """The root, where it is a folder; of a schema what the config names, or the catalog."""
    tables = context.config.tables
    if not is_catalog_name(tables.root):
        return tables.root
    if tables.lease_folder:
        return f"{tables.lease_folder.rstrip('/')}/{tables.root}"  # many schemas may share it
    return schema_folder(context.spark, tables.root)


def last_holder(context: Context) -> Holder | None:
    """Who held the root last; None where nobody has, and where no register can be read."""
    register = register_of(context)
    with suppress(DeltaError, OSError):  # as `_claim`, which then goes on without a lease
        return register.read()[1] if register and register.exists() else None
    return None


def _claim(context: Context, job: str, run_id: str) -> Lease | None:
    """Take the root; None where there can be no lease: what only Spark reaches."""
    root, settings = context.config.tables.root, context.config.tables
    register = register_of(context)
    if register is None:
        return None
    me = Holder(token=run_id, job=job, run_id=run_id, since=time.time(), **this_process())  # type: ignore[arg-type]
    lease = Lease(register, me, settings.lease, steady_clock, context.progress.so_far)
    try:
        _wait_for(lease, context, root)
    except (DeltaError, OSError) as error:
        reason = f"{root}: no lease can be kept in {register.location}: {one_line(error)}"
        if isinstance(context.tables["runs"], DeltaRsTable):
            raise TableError(reason) from None
        context.progress.say(f"{reason}; no other run may write to this root meanwhile")
        return None
    return lease


def _wait_for(lease: Lease, context: Context, root: str) -> None:
    limit, started, pause = context.config.tables.wait, time.monotonic(), LOOK_AGAIN
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
            context.progress.say(
                f"{lease.me.job}: waiting up to {limit - waited:.0f} s for {root}, held by {holder}"
            )
        time.sleep(min(pause, max(limit - waited, 0)))
        pause = min(pause * 1.5, LOOK_AT_MOST)


def _look_around(lease: Lease, context: Context) -> Predecessor | None:
    """Note the tables' versions where no run has left them in order; say what a dead one did."""
    if lease.known and lease.in_order:
        return None
    before = lease.known
    fenced = set() if lease.in_order else _fence(lease, _versions(context, before), context)
    lease.known = _versions(context, before)
    if not lease.took_over:
        return None
    left = {name: version - (name in fenced) for name, version in lease.known.items()}
    written = {name: v for name, v in left.items() if v != before.get(name) and name != "runs"}
    added = {name: rows_since(context.tables[name], before.get(name)) for name in written}
    return Predecessor(holder=lease.took_over, written=written, rows_added=added)


def _fence(lease: Lease, versions: Mapping[str, int], context: Context) -> set[str]:
    """Make stale what a holder that did not give the root back, asleep or dead, has under way.

    Returns the tables that have one version more by this.
    """
    context.tables.expect(versions, lease)
    fenced = set()
    for name in versions:
        with suppress(UnsupportedTableFeature):  # nor could it have written there
            context.tables[name].fence()
            fenced.add(name)
    lease.in_order = True
    return fenced


def _versions(context: Context, known: Mapping[str, int]) -> dict[str, int]:
    """The tables' versions; raises LostLogError for one that is behind what is known of it."""
    versions = {}
    for name, table in context.tables.items():
        version = table.version()
        refuse_lost(table, version, known.get(name))
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
