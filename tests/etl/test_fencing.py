"""A holder that slept while another took its root commits nothing when it wakes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from longattn.etl.tables.base import Table, Txn
from longattn.etl.tables.delta_rs import DeltaRsTable
from longattn.etl.tables.lease import DeltaRegister, Holder, Lease, steady_clock
from longattn.etl.tables.native import NativeTable
from longattn.etl.tables.schema import LENGTHS
from longattn.udfs.errors import LeaseLostError

SECONDS = 1.0
SLEEPER = """
import os, signal, sys
from deltalake import DeltaTable
from tests.etl.test_fencing import held
from longattn.udfs.errors import LeaseLostError

commit = DeltaTable.create_write_transaction
def asleep(table, *args, **settings):
    if table.metadata().name:  # not the register
        os.kill(os.getpid(), signal.SIGSTOP)
    return commit(table, *args, **settings)

table, lease = held(sys.argv[1], "sleeper")
DeltaTable.create_write_transaction = asleep
try:
    table.fence()  # a commit like any other, and the one that needs no Spark
except LeaseLostError as error:
    sys.exit(f"lost: {error}")
"""


def held(root: str, name: str) -> tuple[DeltaRsTable, Lease]:
    """A table of a root that is held, without Spark."""
    table = DeltaRsTable(None, LENGTHS, f"{root}/lengths")  # type: ignore[arg-type]
    lease = claim(root, name)
    assert lease.take() is None
    return bound(table, lease), lease


def claim(
    root: str, name: str, seconds: float = SECONDS, clock: Callable[[], float] = steady_clock
) -> Lease:
    me = Holder(token=name, job=name, run_id=name)
    return Lease(DeltaRegister(f"{root}/_lease"), me, seconds, clock)


def bound(table: Any, lease: Lease) -> Any:
    table.guard, table.number = lease.check, lease.number
    return table


def test_a_process_stopped_at_its_commit_is_refused_when_it_wakes(tmp_path: Path) -> None:
    root = str(tmp_path)
    schema = pa.schema([(name, pa.string()) for name in ("doc_id", "windowing", "domain")])
    place = f"{root}/lengths"
    DeltaTable.create(place, schema, name="lengths", partition_by=["domain"])  # type: ignore[arg-type]
    table = DeltaRsTable(None, LENGTHS, place)  # type: ignore[arg-type]
    repo = Path(__file__).resolve().parents[2]
    sleeper = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, root],
        env=os.environ | {"PYTHONPATH": str(repo)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert os.WIFSTOPPED(os.waitpid(sleeper.pid, os.WUNTRACED)[1])
    lease = claim(root, "successor", 60)
    while lease.take():
        time.sleep(0.1)
    assert lease.took_over and lease.took_over.job == "sleeper"
    bound(table, lease).fence()
    version = table.version()
    sleeper.send_signal(signal.SIGCONT)
    _, said = sleeper.communicate(timeout=60)
    assert sleeper.returncode == 1 and said.startswith("lost: sleeper: "), said
    assert table.version() == version
    lease.check()


WRITES: dict[str, Callable[[Table, Any], Any]] = {
    "append": lambda table, rows: table.append(rows),
    "append of known work": lambda table, rows: table.append(
        rows, Txn(app_id=uuid4().hex, version=1)
    ),
    "merge": lambda table, rows: table.merge(rows),
    "overwrite": lambda table, rows: table.overwrite(rows),
}


def row_of(spark: Any, doc_id: str) -> Any:
    values = {"doc_id": doc_id, "windowing": "w", "domain": "d"}
    row = tuple(values.get(name) for name in LENGTHS.columns)
    return spark.createDataFrame([row], LENGTHS.schema).coalesce(1)


@pytest.mark.spark
@pytest.mark.parametrize("name", ["append of known work", "merge"])
def test_who_wakes_to_find_its_work_done_is_refused_too(
    spark: Any, tmp_path: Path, name: str
) -> None:
    """There is nothing left to commit; a job that went on would speak for a root it has lost."""
    place, txn, now = str(tmp_path / "lengths"), Txn(app_id="work", version=1), [0.0]
    table, other = (DeltaRsTable(spark, LENGTHS, place) for _ in range(2))
    table.append(row_of(spark, "before"))
    sleeper = claim(str(tmp_path), "sleeper", clock=lambda: 0.0)
    successor = claim(str(tmp_path), "successor", clock=lambda: now[0])
    assert sleeper.take() is None

    def write(table: DeltaRsTable) -> Any:
        rows = row_of(spark, "work")
        return table.merge(rows) if name == "merge" else table.append(rows, txn)

    def falls_asleep() -> None:
        sleeper.check()
        table.guard = sleeper.check
        assert successor.take()
        now[0] += SECONDS
        assert successor.take() is None
        bound(other, successor).fence()
        write(other)

    bound(table, sleeper).guard = falls_asleep
    with pytest.raises(LeaseLostError, match="run it again"):
        write(table)
    assert sorted(row.doc_id for row in table.read().collect()) == ["before", "work"]


@pytest.mark.spark
@pytest.mark.parametrize(
    ("kind", "writes"),
    [
        (DeltaRsTable, list(WRITES)),
        pytest.param(
            NativeTable,
            ["append", "append of known work", "merge"],
            marks=[pytest.mark.jars, pytest.mark.slow],
        ),
    ],
)
def test_a_commit_that_was_allowed_before_another_took_over_is_refused(
    spark: Any, tmp_path: Path, kind: type[Table], writes: list[str]
) -> None:
    """The moment between what the lease says and what the log does; for each way to write."""
    place, rows = str(tmp_path / "lengths"), partial(row_of, spark)
    table, other, now = kind(spark, LENGTHS, place), kind(spark, LENGTHS, place), [0.0]
    expected: list[str] = []
    for name in writes:
        write = WRITES[name]
        sleeper = claim(str(tmp_path), f"sleeper at {name}", clock=lambda: 0.0)
        successor = claim(str(tmp_path), f"successor at {name}", clock=lambda: now[0])
        assert sleeper.take() is None
        write(bound(table, sleeper), rows(f"{name} awake"))
        expected = [*([] if name == "overwrite" else expected), f"{name} awake"]

        def falls_asleep(sleeper: Lease = sleeper, successor: Lease = successor) -> None:
            sleeper.check()
            assert successor.take()
            now[0] += SECONDS
            assert successor.take() is None and not successor.in_order
            bound(other, successor).fence()
            table.guard = sleeper.check

        table.guard = falls_asleep
        with pytest.raises(LeaseLostError, match="run it again"):
            write(table, rows(f"{name} asleep"))
        other.append(rows(f"{name} successor"))
        expected.append(f"{name} successor")
        successor.release({})
        assert sorted(row.doc_id for row in table.read().collect()) == sorted(expected)
