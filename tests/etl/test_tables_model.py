"""Tables against a model, a dict of rows by key; and writers, readers and housekeeping at once."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from longattn.etl.tables.base import Table, Txn
from longattn.etl.tables.delta_rs import DeltaRsTable
from longattn.etl.tables.native import NativeTable
from longattn.etl.tables.schema import TableSpec

pytestmark = pytest.mark.spark
SPEC = TableSpec(
    name="probe",
    key=("id",),
    partition_by=("domain",),
    columns={
        "id": ("string", "key"),
        "domain": ("string", "partition"),
        "n": ("bigint", "a number"),
    },
)
CONNECTORS = [
    pytest.param(DeltaRsTable, id="delta-rs"),
    pytest.param(NativeTable, id="native", marks=pytest.mark.jars),
]
KEYS = st.sampled_from("abcdefgh")
DOMAINS = st.sampled_from(["x", "y"])
ROWS = st.dictionaries(KEYS, DOMAINS, max_size=4)
Rows = dict[str, tuple[str, int]]  # key -> domain and number


class TableMachine(RuleBasedStateMachine):
    """Each write goes to the table and to the dict; every version must stay what it was."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table
        self.rows: Rows = {}
        self.versions: dict[int, Rows] = {}
        self.transactions: dict[str, int] = {}
        self.numbers = 0

    def numbered(self, domains: dict[str, str]) -> Rows:
        """Rows that no other write has the number of."""
        self.numbers += 1
        return {key: (domain, self.numbers) for key, domain in domains.items()}

    def frame(self, rows: Rows) -> Any:
        found = [(key, domain, n) for key, (domain, n) in rows.items()]
        return self.table.spark.createDataFrame(found, SPEC.schema).coalesce(1)

    def now(self, rows: Rows, version: int) -> None:
        self.rows = rows
        self.versions[version] = rows

    @rule(rows=ROWS, app=st.sampled_from(["p", "q", None]), version=st.integers(1, 3))
    def append(self, rows: dict[str, str], app: str | None, version: int) -> None:
        """A transaction that the table has seen, or one before it, changes nothing."""
        added = self.numbered({k: d for k, d in rows.items() if k not in self.rows})
        txn = Txn(app_id=app, version=version) if app else None
        seen = app is not None and self.transactions.get(app, 0) >= version
        commit = self.table.append(self.frame(added), txn)
        assert commit.skipped == seen and commit.rows == (0 if seen else len(added))
        if app and not seen:
            self.transactions[app] = version
        self.now(self.rows if seen else self.rows | added, commit.version)

    @rule(rows=ROWS)
    def merge(self, rows: dict[str, str]) -> None:
        """Adds the keys that are not there, and changes no other."""
        given = self.numbered(rows)
        commit = self.table.merge(self.frame(given))
        assert commit.rows == len(given.keys() - self.rows.keys())
        self.now(given | self.rows, commit.version)

    @rule(rows=ROWS)
    def overwrite(self, rows: dict[str, str]) -> None:
        given = self.numbered(rows)
        self.now(given, self.table.overwrite(self.frame(given)).version)

    @rule(keys=st.sets(KEYS, max_size=3), domain=DOMAINS)
    def replace_where(self, keys: set[str], domain: str) -> None:
        others = {k: row for k, row in self.rows.items() if row[0] != domain}
        given = self.numbered(dict.fromkeys(keys - others.keys(), domain))
        commit = self.table.replace_where(self.frame(given), {"domain": domain})
        self.now(others | given, commit.version)

    @rule(key=KEYS, domain=DOMAINS)
    def put(self, key: str, domain: str) -> None:
        given = self.numbered({key: domain})
        row = {"id": key, "domain": domain, "n": self.numbers}
        self.now(self.rows | given, self.table.put(row).version)

    @rule()
    def optimize(self) -> None:
        self.table.optimize()

    @rule(dry_run=st.booleans())
    def vacuum(self, dry_run: bool) -> None:
        self.table.vacuum(dry_run=dry_run)

    @precondition(lambda self: self.versions)
    @rule(data=st.data())
    def travel(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(self.versions)))
        assert found(self.table, version) == self.versions[version]

    @invariant()
    def the_rows_are_those_of_the_dict(self) -> None:
        assert found(self.table) == self.rows


def found(table: Table, version: int | None = None) -> Rows:
    """The rows by key; a key that is there twice fails."""
    rows = [(row["id"], (row["domain"], row["n"])) for row in table.read(version).collect()]
    assert len(rows) == len(dict(rows))
    return dict(rows)


@pytest.mark.slow
def test_a_table_does_what_a_dict_does(spark: Any, tmp_path: Path) -> None:
    places = (str(tmp_path / str(number)) for number in range(10**6))
    run_state_machine_as_test(
        lambda: TableMachine(DeltaRsTable(spark, SPEC, next(places))),
        settings=settings(
            max_examples=4,
            stateful_step_count=10,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("connector", CONNECTORS)
def test_eight_append_while_others_read_optimize_and_vacuum(
    connector: Callable[..., Table], spark: Any, tmp_path: Path
) -> None:
    """No row is lost or doubled, and a reader always sees whole appends."""
    table, over, counts = connector(spark, SPEC, str(tmp_path / "probe")), threading.Event(), []

    def frame(writer: int, turn: int) -> Any:
        rows = [(f"{writer}.{turn}.{n}", "xy"[n % 2], n) for n in range(4)]
        return spark.createDataFrame(rows, SPEC.schema).coalesce(1)

    def write(writer: int) -> None:
        for turn in range(2):
            table.append(frame(writer, turn), Txn(app_id=f"writer {writer}", version=turn))

    def read() -> None:
        while not over.is_set():
            counts.append(table.read().count())

    def tidy() -> None:
        while not over.is_set():
            table.optimize()
            table.vacuum()
            time.sleep(0.5)

    with ThreadPoolExecutor(10) as pool:
        others = [pool.submit(read), pool.submit(tidy)]
        writers = [pool.submit(write, number) for number in range(8)]
        try:
            for writer in writers:
                writer.result()
        finally:
            over.set()
        for other in others:
            other.result()
    assert len(found(table)) == 8 * 2 * 4
    assert counts == sorted(counts) and {count % 4 for count in counts} == {0}
