"""A damaged log: its rows are told, or one line names the table; it is never `not made yet`."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longattn.etl import config as config_module
from longattn.etl.after.status import status_of_logs
from longattn.etl.config import Config
from longattn.etl.tables.delta_rs import DeltaRsTable
from longattn.etl.tables.lease import DeltaRegister, Holder, Lease, steady_clock
from longattn.etl.tables.schema import TABLES
from longattn.udfs.errors import LongAttnError, LostLogError

SPEC = TABLES["lengths"]
NEWEST = 3
TYPES = {"bigint": "long", "int": "integer"}  # as Delta's log spells them
HARMLESS = [b"", b"{}", b'{"unknown": {"a": 1}}', b'{"commitInfo": {}}']
ODD = [
    b"[]",
    b"null",
    b'"x"',
    b'{"add": null}',
    b'{"add": {"path": 1}}',
    b'{"add": {"path": "gone", "partitionValues": {}, "size": -1, "modificationTime": 0}}',
    b'{"metaData": {}}',
    b'{"protocol": {"minReaderVersion": 99, "minWriterVersion": 99}}',
    b'{"remove": {"path": "nosuch", "dataChange": true}}',
    b"\xff\xfe",
    b"[" * 5000,
]
Damage = Callable[[bytes], bytes]


def flipped(data: bytes, seed: int) -> bytes:
    draw, found = random.Random(seed), bytearray(data)
    found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
    return bytes(found)


def cut(data: bytes, seed: int) -> bytes:
    return data[: random.Random(seed).randrange(1, len(data))]


def zeroed(data: bytes, seed: int) -> bytes:
    """Zeros from somewhere on, as a file system leaves a file whose blocks were not written."""
    kept = cut(data, seed)
    return kept + bytes(len(data) - len(kept))


def by_seed(damage: Callable[[bytes, int], bytes]) -> st.SearchStrategy[Damage]:
    return st.integers(0, 10**6).map(lambda seed: lambda data: damage(data, seed))


damages = st.one_of(
    by_seed(flipped),
    by_seed(cut),
    by_seed(zeroed),
    st.sampled_from(ODD).map(lambda line: lambda data: data + b"\n" + line),
    st.sampled_from([*ODD, *HARMLESS[1:]]).map(lambda line: lambda _: line),
    st.binary(min_size=1, max_size=60).map(lambda found: lambda _: found),
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A root with one table of three rows, left in order by a run."""
    root = tmp_path_factory.mktemp("log") / "tables"
    fields = [
        {"name": name, "type": TYPES.get(kind, kind), "nullable": True, "metadata": {}}
        for name, (kind, _) in SPEC.columns.items()
        if not kind.startswith("array")
    ]
    schema = deltalake.Schema.from_json(json.dumps({"type": "struct", "fields": fields}))
    table = DeltaTable.create(root / SPEC.name, schema, partition_by=list(SPEC.partition_by))
    for number in range(NEWEST):
        rows = pa.Table.from_pylist([a_row(number)], schema=pa.schema(table.schema().to_arrow()))
        write_deltalake(root / SPEC.name, rows, mode="append")
    me = Holder(token="t", job="windows", run_id="r")
    lease = Lease(DeltaRegister(str(root / "_lease")), me, 60.0, steady_clock)
    assert lease.take() is None
    lease.release({SPEC.name: NEWEST})
    return config_module.validate({"tables": {"root": str(root)}})


def a_row(number: int) -> dict[str, Any]:
    text = {name: f"{name}{number}" for name, (kind, _) in SPEC.columns.items() if kind == "string"}
    return text | {"n_tokens": number, "n_windows": 1}


def entry_of(config: Config, version: int) -> Path:
    return Path(config.tables.root) / SPEC.name / "_delta_log" / f"{version:020}.json"


def rows_of(config: Config) -> int:
    """Rows as `status` tells them, by the log or, where it leaves that to a session, by a table."""
    found = status_of_logs(config)
    if found is None:
        DeltaRsTable(None, SPEC, f"{config.tables.root}/{SPEC.name}").version()  # type: ignore[arg-type]
        raise AssertionError("a session can open what the log reader cannot")
    return int(found.tables[SPEC.name]["rows"])


def told_or_refused(config: Config, entry: Path, data: bytes | None) -> int | str:
    """What becomes of a log with one entry replaced, or without it; the log is mended after."""
    whole = entry.read_bytes()
    try:
        entry.unlink() if data is None else entry.write_bytes(data)
        return rows_of(config)
    except LongAttnError as error:
        assert SPEC.name in str(error) and "\n" not in str(error)
        return str(error)
    finally:
        entry.write_bytes(whole)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(version=st.integers(0, NEWEST), damage=damages)
def test_any_damage_is_read_or_refused_by_name(
    config: Config, version: int, damage: Damage
) -> None:
    entry = entry_of(config, version)
    told_or_refused(config, entry, damage(entry.read_bytes()))


@pytest.mark.parametrize("version", range(NEWEST + 1))
@pytest.mark.parametrize("line", HARMLESS)
def test_what_is_unknown_changes_no_row(config: Config, version: int, line: bytes) -> None:
    entry = entry_of(config, version)
    assert told_or_refused(config, entry, entry.read_bytes() + b"\n" + line) == NEWEST


@pytest.mark.parametrize("version", range(NEWEST + 1))
def test_an_entry_that_is_gone_is_missed(config: Config, version: int) -> None:
    assert "table" in str(told_or_refused(config, entry_of(config, version), None))


def test_a_last_entry_without_a_byte_is_missed(config: Config) -> None:
    """deltalake reads it as a commit that did nothing."""
    found = told_or_refused(config, entry_of(config, NEWEST), b"")
    assert "is empty" in str(found) and "restore" in str(found)


def test_a_log_that_is_gone_is_not_a_table_not_yet_made(config: Config) -> None:
    log = entry_of(config, 0).parent
    hidden = log.rename(log.with_name("hidden"))
    try:
        with pytest.raises(LostLogError, match=r"lengths: its log is gone"):
            status_of_logs(config)
    finally:
        hidden.rename(log)
