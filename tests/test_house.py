"""The house itself: names that hide nothing, rooms that stay small."""

import re
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


def test_every_file_on_the_map_is_where_it_says() -> None:
    """ARCHITECTURE.md names files by their rooms, which the headings of its tables name."""
    rooms: list[str] = []
    missing = []
    for line in (REPO / "ARCHITECTURE.md").read_text().splitlines():
        if line.startswith("##"):
            rooms = re.findall(r"`([\w/]+)`", line)
        elif line.startswith("|"):
            named = re.findall(r"`([\w./*]+(?:\.\w+|/))`", line.split("|")[2])
            missing += [(rooms, name) for name in named if not _places(name, rooms)]
    assert missing == []


def _places(name: str, rooms: list[str]) -> list[Path]:
    return [place for room in ("", "longattn", *rooms) for place in (REPO / room).glob(name)]
