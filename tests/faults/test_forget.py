"""Documents that are forgotten: gone from every table, and the root as if they had never been."""

import json
import random
import signal
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from longattn.etl.after import forget
from longattn.etl.after.check import check
from longattn.etl.after.vacuum import vacuum_rows
from longattn.etl.config import validate
from longattn.etl.ingest.current import query
from longattn.etl.run.context import Context
from longattn.etl.run.jobs import run_job
from longattn.etl.tables import base
from longattn.udfs.errors import UserError
from tests.conftest import context_for, has_jars
from tests.faults import world as kills
from tests.faults.changes import World, apply, drawn, record

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.faults]
# What `forget` commits to, in its order; `pairs` and `duplicates` go by two columns.
COMMITS = (
    *("forgotten", "selections", "scores", "contamination", "windows", "rejects", "rejects@2"),
    *("pairs", "pairs@2", "duplicates", "duplicates@2", "signatures", "lengths", "origins"),
    "documents",
)


def test_a_root_without_documents_is_one_that_never_had_them(spark: Any, tmp_path: Path) -> None:
    """One that had beaten a copy, one of a pack, one that is alone."""
    world = World(tmp_path)
    world.outcome(spark, "kept")
    context = world.context(spark, "kept")
    duplicates = context.tables.read("duplicates").collect()
    assert [row.method for row in duplicates] == ["exact"]
    documents = {row.source_id: row for row in context.tables.read("documents").collect()}
    wanted = [duplicates[0].kept_id, documents["s3"].doc_id, documents["a1"].doc_id]

    expected = forget.count(context, wanted)
    assert expected["documents"] == 3 and expected["windows"] > 2 and expected["selections"] > 0
    with pytest.raises(UserError, match="no document has any of the 1 ids, none for one"):
        forget.known_ids(context, ["none"])
    assert forget.known_ids(context, [*wanted, "none"]) == sorted(wanted)
    assert forget.forget(context.fresh(), wanted) == expected
    assert check(context.fresh()).faults == []

    again = world.outcome(spark, "kept")  # a record of a file that is as it was is not read again
    names = {name for name, row in documents.items() if row.doc_id in wanted}
    for name, rows in world.files.items():
        world.files[name] = [row for row in rows if row.get("id") not in names]
        world.write(name)
    assert again == world.outcome(spark, "never")
    assert world.outcome(spark, "kept") == again, "files that have changed bring nothing back"
    for table in ("documents", "origins", "signatures", "lengths"):
        left = world.context(spark, "kept").tables.read(table)
        assert not left.where(left.doc_id.isin(*wanted)).count(), table


@pytest.mark.parametrize("ids", ["id", None])
def test_a_forgotten_record_stays_away_under_another_name(
    spark: Any, tmp_path: Path, ids: str | None
) -> None:
    """Of a domain, a source or a file, or in another row; a condition finds it by any of these."""
    texts = [" ".join(f"{name}{n}" for n in range(80)) for name in "abc"]
    files = tmp_path / "in"
    files.mkdir()

    def run(domain: str, file: str, first: str = "", **source: str) -> Context:
        rows = [{"id": str(n), "text": text} for n, text in enumerate(texts)]
        lines = [{"id": "9", "text": first}] * bool(first) + rows
        (files / file).write_text("\n".join(map(json.dumps, lines)) + "\n")
        given = {"path": str(files / file), **({"id": ids} if ids else {}), **source}
        return ingested(spark, tmp_path, domain, given)

    context = run("old", "a.jsonl")
    run("new", "b.jsonl", name="named")
    for condition in ("domain = 'new'", "source_uri LIKE '%b.jsonl'", "domain = 'old'"):
        assert len(forget.documents_where(context, f"text LIKE 'b0 %' AND {condition}")) == 1
    doc_ids = forget.documents_where(context, "text LIKE 'b0 %'")
    forget.forget(context.fresh(), doc_ids)
    for context in (
        run("old", "a.jsonl", first="d e f"),
        run("other", "a.jsonl", first="d e f"),
        run("other", "c.jsonl", name="third"),
    ):
        left = context.tables.read("documents").where("text LIKE 'b0 %'").count()
        assert left == 0
        assert query(context, "SELECT * FROM current").count() >= 2


def test_a_forgotten_file_stays_away_when_it_is_renamed(spark: Any, tmp_path: Path) -> None:
    source = {"path": str(tmp_path / "in"), "format": "text"}
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / "in" / f"{name}.txt").write_text(" ".join(f"{name}{n}" for n in range(80)))
    context = ingested(spark, tmp_path, "book", source)
    forget.forget(context.fresh(), forget.documents_where(context, "text LIKE 'b0 %'"))
    (tmp_path / "in" / "b.txt").rename(tmp_path / "in" / "c.txt")
    left = ingested(spark, tmp_path, "book", source).tables.read("documents").collect()
    assert [row.source_id for row in left] == ["a.txt"]


def ingested(spark: Any, folder: Path, domain: str, source: dict[str, Any]) -> Context:
    """The context of a root after an ingest of one source."""
    config = validate(
        {
            "sources": {domain: [source]},
            "tables": {"root": str(folder / "tables")},
            "tokenizer": "words",
            "window": {"length": 32},
            "score": {"scorer": "random"},
        }
    )
    context = context_for(spark, config, folder / "tables")
    run_job("ingest", context)
    return context.fresh()


def test_rows_of_no_source_go_on_request_and_come_back_with_their_file(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "MANY", 1)  # as of many documents
    world = World(tmp_path)
    world.files["few.jsonl"] = [record(f"f{i}", 70) for i in range(5)]
    world.write("few.jsonl")
    world.settings["sources"]["short"].append({"path": [world.place("few.jsonl")], "id": "id"})
    everything = world.outcome(spark, "kept")
    taken = json.loads(json.dumps(world.settings["sources"]))
    world.settings["sources"].pop("web")
    world.settings["sources"]["short"].pop()  # of each pack a part
    before = world.outcome(spark, "kept")
    context = world.context(spark, "kept")
    gone = {
        row.doc_id for row in context.tables.read("origins").collect() if "/a" in row.source_uri
    }
    expected = vacuum_rows(context.fresh(), apply=False)
    assert expected["origins"] >= len(gone) > 0 and expected["windows"] > 0
    assert vacuum_rows(context.fresh(), apply=True) == expected
    for table in ("origins", "lengths", "signatures"):
        left = world.context(spark, "kept").tables.read(table)
        alone = left.where(left.doc_id.isin(*gone)).select("doc_id").distinct().count()
        assert alone <= 1, table  # the copy that the other source has too
    assert world.outcome(spark, "kept") == before == world.outcome(spark, "never")
    world.settings["sources"] = taken
    assert world.outcome(spark, "kept") == everything


def test_any_documents_of_any_root(spark: Any, tmp_path: Path, draw: random.Random) -> None:
    """Up to four documents, of a root after up to three changes, on either connector."""
    connector = "native" if draw.random() < 0.25 and has_jars() else "delta-rs"  # it takes long
    world = World(tmp_path)
    changes = [drawn(draw) for _ in range(draw.randint(0, 3))]
    for change in changes:
        apply(world, change)
    world.outcome(spark, "kept", connector)
    context = world.context(spark, "kept", connector)
    origins = context.tables.read("origins").collect()
    doc_ids = sorted({row.doc_id for row in origins})
    wanted = draw.sample(doc_ids, k=min(len(doc_ids), draw.randint(1, 4)))
    forget.forget(context.fresh(), wanted)
    assert check(context.fresh()).faults == [], changes

    without(world, (row for row in origins if row.doc_id in wanted))
    never = world.outcome(spark, "never", connector)
    assert world.outcome(spark, "kept", connector) == never, (connector, changes, wanted)


def without(world: World, origins: Iterable[Any]) -> None:
    """Take the records that documents came from out of their files."""
    numbers = defaultdict(set)
    for row in origins:
        numbers[Path(row.source_uri).name].add(row.source_row)
    for name, gone in numbers.items():
        rows = enumerate(world.files[name], 1)
        world.files[name] = [row for number, row in rows if number not in gone]
        world.write(name)


@pytest.fixture(scope="module")
def forgotten(fresh: kills.Stages, tmp_path_factory: pytest.TempPathFactory) -> kills.World:
    """A root that has forgotten a document with a copy, and another; nothing disturbed it."""
    world = fresh.done.copy(tmp_path_factory.mktemp("forgotten") / "world", fresh.files)
    (kept, *_) = sorted(json.loads(row)["kept_id"] for row in world.rows("duplicates"))
    other = next(i for row in world.rows("documents") if (i := json.loads(row)["doc_id"]) != kept)
    ids = world.folder / "ids"
    ids.write_text(f"{kept}\n{other}\n")
    code, out = world.run("forget", "--ids", str(ids))
    assert code == 0 and "2 documents are forgotten" in out, out
    return world


@pytest.mark.parametrize("commit", COMMITS)
def test_killed_anywhere_and_forgotten_again(
    fresh: kills.Stages, forgotten: kills.World, tmp_path: Path, commit: str
) -> None:
    world = fresh.done.copy(tmp_path / "world", fresh.files)
    argv = ("forget", "--ids", str(forgotten.folder / "ids"))
    code, out = world.run_alone(*argv, fault=f"before commit {commit}=kill")
    assert code == -signal.SIGKILL, out
    kills.run_to_the_end(world, *argv)
    assert world.tables() == forgotten.tables()
