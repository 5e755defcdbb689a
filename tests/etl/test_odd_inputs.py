"""Inputs that are not wrong enough to stop for: what becomes of each."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from longattn.etl import console
from longattn.etl.after import forget
from longattn.etl.config import Config
from longattn.etl.ingest.delta_files import delta_files
from longattn.etl.ingest.listing import LOOKUPS, check_columns
from longattn.etl.ingest.spark_readers import _judged
from longattn.etl.ingest.stage import SourceFile
from longattn.etl.scoring.job import _commit
from longattn.etl.tables.schema import SCORES
from longattn.udfs.documents.formats import SourceSpec
from longattn.udfs.errors import SourceError, UserError


def test_a_batch_without_scores_is_no_commit() -> None:
    """Spark makes no frame of no rows."""
    types = {name: pa.string() for name in SCORES.columns}
    nothing = pa.schema(types).empty_table()
    assert _commit(None, nothing, None) == (0, 0)  # type: ignore[arg-type]


def test_ids_to_forget_are_read_as_editors_write_them(tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_bytes(b"\xef\xbb\xbfone\r\n\r\n  two \n")
    assert forget.ids_in(str(ids)) == ["one", "two"]
    for data, said in ((b"\xff\xfeo\0", "can't decode"), (b"\n", "no id is in it")):
        ids.write_bytes(data)
        with pytest.raises(UserError, match=said) as refused:
            forget.ids_in(str(ids))
        assert "ids.txt" in str(refused.value)


def test_ids_that_nobody_has_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who forgets ten and misspells one would think that ten are forgotten."""
    (tmp_path / "ids.txt").write_text("a\nb\nb\nc\n")
    monkeypatch.setattr(console, "open_context", lambda *_args, **_settings: None)
    monkeypatch.setattr(forget, "known_ids", lambda _context, _ids: ["a"])
    monkeypatch.setattr(forget, "count", lambda _context, _ids: {})
    console.show_forget(Config(), str(tmp_path / "ids.txt"), None, dry_run=True)
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == "2 of 3 ids belong to no document of these tables, for example b"
    assert last.startswith("1 documents would be forgotten")


FAR = pa.array([0, 3_664_000], pa.int32()).cast(pa.date32())  # the second in the year 12001


@pytest.mark.parametrize("partitions", [[], ["n"], ["far"], ["n", "far"]])
def test_dates_that_python_has_not_hide_no_file_of_a_table(
    tmp_path: Path, partitions: list[str]
) -> None:
    """They are in the log's statistics, or name a partition, whether or not a source maps them."""
    rows = pa.table({"id": ["a", "b"], "text": ["x", "y"], "far": FAR, "n": [1, 1]})
    write_deltalake(tmp_path, rows, partition_by=partitions)
    spec = SourceSpec(domain="d", source="s", format="delta", id="id")
    files = list(delta_files(str(tmp_path), spec))
    assert all((tmp_path / file.name).stat().st_size == file.n_bytes for file in files)
    found = [json.loads(file.constants or "") for file in files]
    days = ["1970-01-01", "12001-09-10"] if "far" in partitions else [None]
    assert sorted(str(one.get("far")) for one in found) == sorted(map(str, days))
    assert {one.get("n") for one in found} == ({1} if "n" in partitions else {None})


def source_file(uri: str, constants: str | None = None) -> SourceFile:
    return SourceFile(uri=uri, n_bytes=9, spec=0, name="a", fingerprint="", constants=constants)


@pytest.mark.parametrize("error", [ValueError("[CANNOT_READ_FILE_FOOTER]"), None])
def test_a_remote_file_whose_columns_spark_cannot_say_is_left_to_its_reader(error: Any) -> None:
    """A pointer of git-lfs, say, or one with times in nanoseconds, which Python reads."""
    asked: list[str] = []

    def parquet(uri: str) -> Any:
        asked.append(uri)
        if error:
            raise error
        return SimpleNamespace(columns=["text"])

    spark: Any = SimpleNamespace(read=SimpleNamespace(parquet=parquet))
    spec = SourceSpec(domain="d", source="s", format="parquet", where={"lang": ("en",)})
    check_columns(spark, [source_file("s3a://b/a [1].parquet", '{"lang": "en"}')], [spec])
    assert asked == [r"s3a://b/a \[1\].parquet"]


def test_columns_of_remote_files_are_looked_up_at_once_and_told_in_order() -> None:
    """A job for each, one after the other, would take hours of many files."""
    all_asked = threading.Barrier(LOOKUPS, timeout=60)
    last_is_answered = threading.Event()

    def parquet(uri: str) -> Any:
        all_asked.wait()
        if uri.endswith("/0"):
            last_is_answered.wait(60)
        elif uri.endswith(f"/{LOOKUPS - 1}"):
            last_is_answered.set()
        return SimpleNamespace(columns=["id"])

    spark: Any = SimpleNamespace(read=SimpleNamespace(parquet=parquet))
    spec = SourceSpec(domain="d", source="s", format="parquet")
    files = [source_file(f"s3a://b/{number}") for number in range(LOOKUPS)]
    with pytest.raises(SourceError, match=r"no column 'text' in s3a://b/0 \(columns: id\)"):
        check_columns(spark, files, [spec])


@pytest.mark.parametrize(
    ("uri", "format_", "n_bytes", "refused"),
    [
        ("s3a://b/a.txt", "text", 1 << 20, False),
        ("s3a://b/a.txt", "text", 1 << 29, True),  # more than max_bytes, which is read nowhere
        ("s3a://b/a.txt.gz", "text", 1 << 29, False),
        ("s3a://b/a.jsonl.zst", "jsonl", 1 << 30, False),
        ("s3a://b/a.jsonl.zst", "jsonl", 1 << 31, True),
        ("s3a://b/a.jsonl.gz", "jsonl", 1 << 40, False),
        ("s3a://b/a.parquet", "parquet", 1 << 40, False),
    ],
)
def test_a_remote_file_too_long_for_one_piece_is_refused_alone(
    uri: str, format_: str, n_bytes: int, refused: bool
) -> None:
    """Spark would end the job at it."""
    spec = SourceSpec(domain="d", source="s", format=format_)
    file = _judged(replace(source_file(uri), n_bytes=n_bytes), spec)
    assert (file.refusal and file.refusal[0]) == ("too_long" if refused else None)


def test_a_local_file_whose_columns_are_no_names_is_left_to_its_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"tëxt": ["a"]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace("tëxt".encode(), b"t\xff\xffxt"))
    spec = SourceSpec(domain="d", source="s", format="parquet")
    check_columns(None, [source_file(f"file:{path}")], [spec])
