"""A table that was put back to an earlier version, or emptied: the next run makes up for it."""

from typing import Any

import pytest
from deltalake import DeltaTable

from longattn.etl.after.check import check
from tests.faults.changes import VALUES, World, apply, set_value

pytestmark = [pytest.mark.spark, pytest.mark.slow]

TABLES = (
    *("documents", "origins", "listings", "source_files", "signatures", "pairs", "duplicates"),
    *("lengths", "windows", "contamination", "scores", "selections", "rejects", "runs"),
)
IN_CI = ("signatures",)
CHANGES = (
    *("edit_record", "add_file", "prepend_record", "rename_domain"),
    *("sources.web.0.priority=1", "window.min_tokens=1", "ingest.max_tokens=1"),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, spark: Any) -> World:
    """A root after one run, and then changes of files, sources and settings for the next."""
    world = World(tmp_path_factory.mktemp("mending"))
    set_value(world, "decontaminate.sources", VALUES["decontaminate.sources"][1])
    world.outcome(spark, "kept")
    for change in CHANGES:
        apply(world, change)
    return world


@pytest.fixture(scope="module")
def history(world: World, spark: Any) -> None:
    """Its tables have versions to be put back to."""
    world.outcome(spark, "kept")


@pytest.fixture(scope="module")
def undisturbed(world: World, spark: Any) -> dict[str, Any]:
    return world.outcome(spark, "undisturbed")


@pytest.mark.parametrize("name", IN_CI)
def test_an_emptied_table_is_filled_again(
    world: World, undisturbed: dict[str, Any], spark: Any, name: str
) -> None:
    DeltaTable(world.folder / "kept" / name).delete()
    assert world.outcome(spark, "kept") == undisturbed
    assert check(world.context(spark, "kept")).faults == []


@pytest.mark.faults
@pytest.mark.parametrize("name", [name for name in TABLES if name not in IN_CI])
def test_every_other_table_too(
    world: World, undisturbed: dict[str, Any], spark: Any, name: str
) -> None:
    if (world.folder / "kept" / name).exists():
        test_an_emptied_table_is_filled_again(world, undisturbed, spark, name)


@pytest.mark.faults
@pytest.mark.parametrize("name", TABLES)
def test_a_table_put_back_catches_up(
    world: World, history: None, undisturbed: dict[str, Any], spark: Any, name: str
) -> None:
    if not (world.folder / "kept" / name).exists():
        pytest.skip("this table was not made")
    table = DeltaTable(world.folder / "kept" / name)
    earlier = max(1, table.version() // 2)
    if earlier == table.version():
        pytest.skip("this table has no earlier version with rows")
    table.restore(earlier)
    assert world.outcome(spark, "kept") == undisturbed
    assert check(world.context(spark, "kept")).faults == []
