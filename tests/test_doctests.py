"""The examples in docstrings are true."""

import doctest
import importlib
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
ROOMS = (REPO / "etl", REPO / "udfs")
EXAMPLES = [
    "longattn.api",
    *(
        "longattn." + ".".join(path.relative_to(REPO).with_suffix("").parts)
        for room in ROOMS
        for path in sorted(room.rglob("*.py"))
        if ">>>" in path.read_text(encoding="utf-8")
    ),
]


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_of(module: str) -> None:
    found = doctest.testmod(
        importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert found.attempted > 0 and found.failed == 0
