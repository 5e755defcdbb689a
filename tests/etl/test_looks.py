"""What `check` and `estimate` make of sources that are odd and right, and of those that are not."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from longattn.etl.before.check import check
from longattn.etl.before.estimate import estimate
from longattn.etl.before.findings import Finding, faults
from longattn.etl.before.probe import MOST, RECORDS
from longattn.etl.config import Config, validate

TEXT = "far near long short " * 100


def config_of(path: Path, **source: Any) -> Config:
    """A config of one source, `book`."""
    return validate(
        {
            "sources": {"book": [{"path": str(path), "id": "id", **source}]},
            "tables": {"root": str(path.parent / "tables")},
            "window": {"length": 64},
            "score": {"scorer": "recurrence"},
        }
    )


def findings(path: Path, **source: Any) -> list[Finding]:
    """What check says of the source."""
    said = check(config_of(path, **source), jobs=["ingest"])
    return [finding for finding in said if finding.where.startswith("sources")]


def lines(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


# --- what is asked for may come late

LATE = {
    "a text": ({"text": ""}, {}),
    "a field": ({"body": "x"}, {"meta": ["body", "doi"]}),
    "a value": ({"text": TEXT, "lang": "en"}, {"where": {"lang": ["de"]}}),
}


@pytest.mark.parametrize("name", LATE)
def test_what_comes_after_the_first_records_is_seen(name: str, tmp_path: Path) -> None:
    first, source = LATE[name]
    last = {"id": "x", "text": TEXT, "lang": "de", "doi": 1}
    path = lines(tmp_path / "a.jsonl", *[{"id": n, **first} for n in range(2 * RECORDS)], last)
    assert not faults(findings(path, **source))


@pytest.mark.parametrize("name", LATE)
def test_of_many_records_a_field_is_missed_and_a_value_may_come(name: str, tmp_path: Path) -> None:
    """Nobody means a field that none of 1,000 records has; a corpus may be sorted by language."""
    first, source = LATE[name]
    path = lines(tmp_path / "a.jsonl", *[{"id": n, **first} for n in range(MOST + 1)])
    bad = [str(finding) for finding in faults(findings(path, **source))]
    if name == "a field":
        assert bad[0].startswith("sources.book.meta: no field doi")
    else:
        assert not bad
        notes = [str(f) for f in findings(path, **source) if f.kind == "note"]
        assert any(f"none of the first {MOST} records has a text" in said for said in notes)


# --- tables


def test_a_delta_table_is_looked_at_as_it_is_read(tmp_path: Path) -> None:
    """Partition columns, columns added later, names with spaces, rows that were deleted."""
    table = tmp_path / "my table"
    rows = {"id": ["0", "1", "2"], "lang": ["en", "d e", "fr"], "text": [TEXT, TEXT * 2, TEXT * 3]}
    write_deltalake(table, pa.table(rows), partition_by=["lang"])
    added = {"id": ["3"], "lang": ["en"], "text": [TEXT * 4], "doi": ["x"]}
    write_deltalake(table, pa.table(added), mode="append", schema_mode="merge")
    DeltaTable(table).delete("id = '2'")
    source = {"format": "delta", "where": {"lang": ["en", "d e"]}, "meta": ["doi", "lang"]}
    assert not faults(findings(table, **source))
    made = estimate(config_of(table, **source))
    assert made.documents.value == 3


def test_a_table_with_deletion_vectors_is_refused_with_a_way_out(tmp_path: Path) -> None:
    """Another connector of the config's own tables would not help: sources are read without it."""
    table = tmp_path / "table"
    on = {"delta.enableDeletionVectors": "true"}
    write_deltalake(table, pa.table({"id": ["0"], "text": [TEXT]}), configuration=on)
    (bad,) = faults(findings(table, format="delta"))
    assert "deletionVectors (deleted rows would come back)" in bad.text
    assert "give its name in a catalog" in bad.text and "connector;" not in bad.text


def test_parquet_files_of_a_delta_table_are_refused(tmp_path: Path) -> None:
    """Rows that were deleted from the table are in its files still."""
    table = tmp_path / "table"
    write_deltalake(
        table, pa.table({"id": ["0"], "lang": ["en"], "text": [TEXT]}), partition_by="lang"
    )
    for path in (table, table / "lang=en", table / "*" / "*.parquet"):
        (bad,) = faults(findings(path, format="parquet"))
        assert f"{table} is a Delta table" in bad.text and "say format: delta" in bad.text


def test_what_jobs_have_written_below_a_source_is_not_looked_at(tmp_path: Path) -> None:
    """The tables of the config are Delta tables too, in the folder that it reads."""
    pq.write_table(pa.table({"id": ["0"], "text": [TEXT]}), tmp_path / "a.parquet")
    write_deltalake(tmp_path / "tables" / "documents", pa.table({"doc_id": ["x"]}))
    config = validate(
        {
            "sources": {"book": [{"path": str(tmp_path), "format": "parquet", "id": "id"}]},
            "tables": {"root": str(tmp_path / "tables")},
            "window": {"length": 64},
            "score": {"scorer": "recurrence"},
        }
    )
    said = [str(finding) for finding in check(config, jobs=["ingest"])]
    assert any(line.startswith("sources.book: 1 files") for line in said)


# --- damage


def cut_gzip(path: Path, records: bytes) -> None:
    path.with_name("b.jsonl.gz").write_bytes(gzip.compress(records)[:-12])


def garbage_after_gzip(path: Path, records: bytes) -> None:
    path.with_name("b.jsonl.gz").write_bytes(gzip.compress(records) + b"garbage")


def no_parquet(path: Path, records: bytes) -> None:
    rows = [json.loads(line) for line in records.splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), path.with_name("b.parquet"))
    path.with_name("c.parquet").write_bytes(b"no parquet at all")


@pytest.mark.parametrize("damage", [cut_gzip, garbage_after_gzip, no_parquet])
def test_damage_is_told_and_the_rest_is_estimated(
    damage: Callable[[Path, bytes], None], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    records = [{"id": str(n), "text": TEXT + str(n)} for n in range(50)]
    damage(folder / "x", "".join(json.dumps(record) + "\n" for record in records).encode())
    format_ = "parquet" if damage is no_parquet else "jsonl"
    assert not faults(findings(folder, format=format_))
    assert 45 <= estimate(config_of(folder, format=format_)).documents.value <= 55


def test_fields_that_no_encoding_has_are_shown(tmp_path: Path) -> None:
    """JSON can write half of a pair; what shows a source's fields must not end of it."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "0", "text": "' + TEXT + '", "\\ud800": 1}\n')
    config = tmp_path / "c.json"
    config.write_text(json.dumps(config_of(path).model_dump(mode="json", exclude_unset=True)))
    command = [sys.executable, "-m", "longattn", "check", "--config", str(config)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert said.returncode == 0 and "fields: id, text, \\ud800" in said.stdout
