"""What is asked for is what comes out: after any change a root gives what a new one would give."""

import copy
import random
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import has_jars
from tests.faults.changes import World, apply, drawn

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.faults]

# Each step changes several things at once: what stays behind of any of them shows.
STEPS = (
    ("edit_record", "edit_in_place", "prepend_record", "rename_domain", "sources.web.0.priority=1"),
    ("drop_domain", "add_file", "ingest.min_tokens=1", "sources.web.0.name=1"),
    (
        *("restore_domains", "rename_file", "move_to_other_source", "ingest.min_tokens=0"),
        *("decontaminate.sources=1", "dedup.scope=1", "window.min_tokens=1"),
    ),
)


def test_a_root_gives_what_a_new_one_gives(spark: Any, tmp_path: Path) -> None:
    world = World(tmp_path)
    world.outcome(spark, "kept")
    for number, changes in enumerate(STEPS):
        for change in changes:
            apply(world, change)
        assert world.outcome(spark, "kept") == world.outcome(spark, f"new{number}"), changes


def test_any_sequence_of_changes(spark: Any, tmp_path: Path, draw: random.Random) -> None:
    """A run after each of one to four steps; the last is compared.

    The first config may run in between, on its own outputs, and any run be of either connector.
    """
    world = World(tmp_path)
    first = copy.deepcopy(world.settings)
    world.outcome(spark, "kept")
    steps = [[drawn(draw) for _ in range(draw.randint(1, 4))] for _ in range(draw.randint(1, 4))]
    connectors = ["delta-rs"] * 5 + ["native"] * has_jars()  # it takes three times as long
    for changes in steps:
        if draw.random() < 0.25:
            world.settings, now = copy.deepcopy(first), world.settings
            world.outcome(spark, "kept", draw.choice(connectors))
            world.settings = now
        for change in changes:
            apply(world, change)
        outcome = world.outcome(spark, "kept", draw.choice(connectors))
    assert outcome == world.outcome(spark, "new"), steps
