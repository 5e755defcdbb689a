"""`longattn status --check` and vacuum: each kind of damage is named, and nothing else is."""

import json
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from longattn.etl.after.check import check
from longattn.etl.after.vacuum import list_garbage, vacuum, vacuum_rows
from longattn.etl.export import read
from longattn.etl.export.files import MANIFEST, Folder, HashedFile
from longattn.etl.ingest import job as ingest
from longattn.etl.run.context import Context, Outcome
from longattn.etl.run.frames import refuse_repeated
from longattn.etl.run.ledger import record
from longattn.etl.run.reasons import one_line
from longattn.etl.tables.schema import DOCUMENTS, LENGTHS, SCORES, WINDOWS, TableSpec
from longattn.udfs.errors import ExportError, TableError

pytestmark = pytest.mark.spark
MakeContext = Callable[..., Context]


def frame(context: Context, spec: TableSpec, ids: range, **values: Any) -> Any:
    """Rows with ids in the key columns, the same domain, and what else is given."""
    rows = [
        {"doc_id": f"d{i}", "window_id": f"w{i}", "domain": "book", "windowing": "t"} | values
        for i in ids
    ]
    kept = [{k: v for k, v in row.items() if k in spec.columns} for row in rows]
    return context.spark.createDataFrame(kept, spec.schema).coalesce(1)


def fill(context: Context) -> Outcome:
    tables = context.tables
    tables.append("documents", frame(context, DOCUMENTS, range(5), text="t" * 4000))
    tables.append("windows", frame(context, WINDOWS, range(5), token_ids=list(range(900))))
    tables.append("lengths", frame(context, LENGTHS, range(5), n_windows=1))
    tables.append("scores", frame(context, SCORES, range(5), scorer="s"))
    return Outcome(rows_in=5, rows_out=5)


@pytest.fixture
def context(make_context: MakeContext, tmp_path: Path) -> Context:
    target = {"parquet": {"path": str(tmp_path / "out")}}
    made = make_context(tokenizer="words", export=target)
    record("score", made, fill)
    return made.fresh()


def faults(context: Context) -> list[str]:
    return check(context.fresh()).faults


def data_file(context: Context, table: str) -> Path:
    (file,) = Path(context.config.tables.root, table).glob("*/**/*.parquet")
    return file


def test_each_fault_is_named_and_a_sound_root_has_none(context: Context) -> None:
    """One root, damaged step by step: each step adds its own faults."""
    assert faults(context) == []
    again = frame(context, SCORES, range(2), scorer="s")
    context.tables["scores"].append(again)
    repeated, sums = faults(context)
    assert "2 rows repeat a key, as window_id=w" in repeated and "restore a version" in repeated
    assert "scores: 7 rows, but the runs left 5" in sums

    named = {"windowing": context.recipe.windowing, "window_index": 0}
    context.tables["windows"].append(frame(context, WINDOWS, range(9, 10), **named))
    assert not any("run windows again" in fault for fault in faults(context))  # d9 is not kept
    named["window_id"] = "w7"
    context.tables["windows"].append(frame(context, WINDOWS, range(3, 4), **named))
    assert any("doc_id=d3: 1, not 0; run windows again" in fault for fault in faults(context))

    first = Path(context.config.tables.root) / "scores/_delta_log/00000000000000000001.json"
    first.write_bytes(b"")  # of a version before the newest
    assert any("00000000000000000001.json is empty; restore" in fault for fault in faults(context))

    data_file(context, "documents").unlink()
    assert any("part-" in fault and "is missing" in fault for fault in faults(context))
    (Path(context.config.tables.root) / "lengths/_delta_log/00000000000000000001.json").unlink()
    assert any("log ends at version 0, and version 1" in fault for fault in faults(context))


def test_a_flipped_bit_in_a_data_file_is_found_by_whoever_reads_it(context: Context) -> None:
    file = data_file(context, "windows")
    metadata = pq.read_metadata(file).row_group(0)
    column = next(
        metadata.column(i)
        for i in range(metadata.num_columns)
        if metadata.column(i).path_in_schema.startswith("token_ids")
    )
    data = bytearray(file.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start + column.total_compressed_size - 20] ^= 1
    file.write_bytes(data)
    (file.parent / f".{file.name}.crc").unlink()
    with pytest.raises(Exception, match=r"(?i)crc|checksum|corrupt") as caught:
        context.tables.read("windows").select("token_ids").collect()
    line = one_line(caught.value)
    assert file.name in line and "damaged or cut short" in line


def test_an_export_that_fails_names_the_file_and_leaves_no_staging(tmp_path: Path) -> None:
    folder = Folder(path=str(tmp_path / "out"))
    with FileIO("/dev/full", "wb") as full, pytest.raises(OSError) as caught, folder.filling():
        HashedFile(full, f"{folder.staging}/part-1").write(b"a")
    assert one_line(caught.value).startswith(
        f"{folder.staging}/part-1: No space left on device: the disk is full"
    )
    assert list(tmp_path.iterdir()) == []


def test_exported_files_are_compared_with_the_manifest(tmp_path: Path) -> None:
    folder = Folder(path=str(tmp_path / "out"))
    folder.begin()
    staged, file = folder.new_file()
    file.write(b"abc")
    file.close()
    entry = {"name": "train.parquet", "bytes": 3, "sha256": file.sha256}
    folder.publish(
        {staged: "train.parquet"}, {MANIFEST: json.dumps({"longattn": "0", "files": [entry]})}
    )
    shard = tmp_path / "out" / "train.parquet"
    assert folder.faults([entry], hashes=True) == []
    shard.write_bytes(b"abd")
    assert folder.faults([entry]) == []
    assert folder.faults([entry], hashes=True) == [
        "train.parquet is damaged: its SHA-256 is another"
    ]
    shard.write_bytes(b"ab")
    assert folder.faults([entry]) == ["train.parquet has 2 bytes, not 3"]
    shard.unlink()
    assert folder.faults([entry]) == ["train.parquet is missing"]
    (tmp_path / "out" / MANIFEST).write_text("{")
    with pytest.raises(ExportError, match=r"_manifest.json: not JSON .* delete"):
        folder.manifest()


FILES = [{"bytes": 1}, {"name": 5}, {"name": "a", "bytes": "1"}, "a", None]
NO_MANIFESTS = [
    [],
    5,
    *({"longattn": "0", "files": files} for files in ("a", *([f] for f in FILES))),
]
NO_MANIFESTS += [{}, {"files": [{"name": "mine.txt"}]}]  # another program's


@pytest.mark.parametrize("manifest", NO_MANIFESTS)
def test_what_is_no_manifest_is_refused_by_name(manifest: Any, tmp_path: Path) -> None:
    """Another program's, or a damaged one: nothing of the folder is replaced."""
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    (tmp_path / "mine.txt").write_text("a person's")
    for do in (Folder(path=str(tmp_path)).begin, lambda: list(read.faults(str(tmp_path)))):
        with pytest.raises(ExportError, match=r"_manifest.json: no manifest of an export"):
            do()
    assert {path.name for path in tmp_path.iterdir()} == {MANIFEST, "mine.txt"}


def test_an_export_killed_after_its_renames_wedges_nothing(tmp_path: Path) -> None:
    """What is left is the new export and the old one aside: the next deletes that, and goes on."""
    here, aside = tmp_path / "out", tmp_path / "out.before-x-1"
    for place in (here, aside):
        place.mkdir()
        (place / MANIFEST).write_text('{"longattn": "0"}')
    for _ in range(2):
        folder = Folder(path=str(here))
        folder.begin()
        folder.publish({}, {MANIFEST: '{"longattn": "1"}'})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_exports_to_one_place_leave_one_whole(tmp_path: Path) -> None:
    first, second = (Folder(path=str(tmp_path / "out"), owner=name) for name in ("a", "b"))
    first.begin()
    second.begin()
    first.publish({}, {MANIFEST: '{"longattn": "a"}'})
    second.publish({}, {MANIFEST: '{"longattn": "b"}'})
    assert Folder(path=str(tmp_path / "out")).manifest() == {"longattn": "b"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("asleep", ["before it is shown", "between the renames"])
def test_an_export_that_was_taken_for_dead_destroys_no_other(
    tmp_path: Path, asleep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wakes when another of the same root has deleted its staging and shown an export."""
    place = str(tmp_path / "out")
    for first_time in (True, False):
        sleeper, other = Folder(path=place), Folder(path=place)
        sleeper.begin()

        def overtake(other: Folder = other) -> None:
            monkeypatch.undo()
            other.begin()
            other.publish({}, {MANIFEST: '{"longattn": "other"}'})

        if asleep == "between the renames":
            rename = Path.rename

            def renaming(path: Path, target: Path, rename: Any = rename) -> Path:
                if path.name == "ready":
                    overtake()
                return rename(path, target)  # type: ignore[no-any-return]

            monkeypatch.setattr(Path, "rename", renaming)
        else:
            monkeypatch.setattr(Folder, "_make_folders", lambda folder, names: overtake())
        with pytest.raises((ExportError, OSError)):
            sleeper.publish({}, {MANIFEST: '{"longattn": "sleeper"}'})
        monkeypatch.undo()
        assert Folder(path=place).manifest() == {"longattn": "other"}, first_time
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_vacuum_lists_first_and_deletes_what_nothing_names(context: Context) -> None:
    root = Path(context.config.tables.root)
    staged = root / "_staging" / "ingest_dead"
    staged.mkdir(parents=True)
    folders = [Folder(path=context.config.export.parquet.path)]  # type: ignore[union-attr]
    half = Path(f"{folders[0].staging}")
    half.mkdir()
    sound = {path for path in root.rglob("*.parquet") if "runs" not in path.parts}
    context.tables["scores"].overwrite(frame(context, SCORES, range(5), scorer="s"))
    old = [p for p in sound if p.is_relative_to(root / "scores")]

    listed = list_garbage(context, folders, hours=0)
    assert staged.exists() and half.exists() and all(path.exists() for path in old)
    assert str(old[0]) in listed[0].paths
    deleted = vacuum(context.fresh(), folders, hours=0)
    assert str(staged) in deleted[1].paths and deleted[2].paths == [str(half)]
    assert not staged.exists() and not half.exists() and not any(p.exists() for p in old)
    assert all(path.exists() for path in sound - set(old))
    assert faults(context) == []


def test_rows_of_what_is_gone_are_a_note_and_vacuum_deletes_them(context: Context) -> None:
    context.tables.delete("windows", "window_id", ["w1", "w2"])
    context.tables.delete("documents", "doc_id", ["d1", "d2"])
    (scores, lengths) = check(context.fresh()).notes
    assert "scores: 2 of its window_ids are not in windows" in scores
    assert "lengths: 2 of its doc_ids are not in documents" in lengths
    counts = {"scores": 2, "lengths": 2}
    assert {t: n for t, n in vacuum_rows(context.fresh(), apply=False).items() if n} == counts
    assert {t: n for t, n in vacuum_rows(context.fresh(), apply=True).items() if n} == counts
    assert check(context.fresh()).notes == []
    assert not any(vacuum_rows(context.fresh(), apply=False).values())


def test_vacuum_of_sources_that_no_ingest_has_listed_deletes_nothing(
    make_context: MakeContext, tmp_path: Path
) -> None:
    """Every document would be one that no source has: a setting of reading was changed."""
    (tmp_path / "book.jsonl").write_text('{"text": "some words"}\n{"text": "some others"}\n')
    sources = {"book": [{"path": str(tmp_path / "book.jsonl")}]}
    listed = make_context(tokenizer="words", sources=sources)
    record("ingest", listed, ingest.run)
    changed = make_context(tokenizer="words", sources=sources, ingest={"min_chars": 3})
    for apply in (False, True):
        with pytest.raises(TableError, match=r"were never listed here: run `longattn ingest`"):
            vacuum_rows(changed.fresh(), apply)
    assert listed.fresh().tables.read("documents").count() == 2
    assert not any(vacuum_rows(listed.fresh(), apply=True).values())


def test_jobs_refuse_repeated_input() -> None:
    refuse_repeated(3, 3, "documents")
    with pytest.raises(TableError, match=r"documents: 1 of 3 rows .* `longattn status --check`"):
        refuse_repeated(3, 2, "documents")
