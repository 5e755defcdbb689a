"""The house itself: names that hide nothing, rooms that stay small."""

import sys
from collections import Counter
from pathlib import Path

REPO = Path(__file__).parents[1]
MODULES = [path for room in ("etl", "udfs", "benchmarks") for path in (REPO / room).rglob("*.py")]


def test_no_module_is_called_as_one_of_pythons_own() -> None:
    assert not [str(path) for path in MODULES if path.stem in sys.stdlib_module_names]


def test_no_room_is_crowded() -> None:
    rooms = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    assert {str(room): size for room, size in rooms.items() if size > 14} == {}


def test_the_package_is_the_two_folders() -> None:
    links = {path.name: path.resolve() for path in (REPO / "longattn").iterdir() if path.is_dir()}
    links.pop("__pycache__", None)
    assert links == {"etl": REPO / "etl", "udfs": REPO / "udfs"}
