"""Documents that are forgotten: gone from every table, and the root as if they had never been."""

import json
from pathlib import Path
from typing import Any

import pytest

from longattn.etl.after import forget
from longattn.etl.after.check import check
from longattn.etl.after.vacuum import vacuum_rows
from longattn.udfs.errors import UserError
from tests.faults.changes import World, record

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.faults]


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


def test_rows_of_no_source_go_on_request_and_come_back_with_their_file(
    spark: Any, tmp_path: Path
) -> None:
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
