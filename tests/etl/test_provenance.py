"""Where an export holds a window, as far as its selection tells; tables are made up here."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from longattn.etl.after.provenance import _samples
from longattn.etl.after.reading import Reader
from longattn.etl.config import validate
from tests.etl.test_boundaries import Packing, write


class Selected(Reader):
    """A root with one selection: windows w0, w1, ... each with so many copies, in an order."""

    def __init__(self, copies: Sequence[int], order: Sequence[int] = (0, 1, 2)) -> None:
        self.made, self.holder = ["selections"], None
        self.copies, self.order = copies, order

    def size(self, name: str) -> dict[str, Any]:
        raise NotImplementedError

    def rows(self, sql: str) -> list[dict[str, Any]]:
        return [
            {"window_id": f"w{n}", "domain": "book", "copies": count, "mix_order": self.order[n]}
            for n, count in enumerate(self.copies)
        ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An export of w0 and w1, in this order."""
    windows = [Packing(f"w{n}", [4], [1] * 4, packed=False) for n in (0, 1)]
    out = write("parquet", windows, tmp_path / "out")
    manifest = json.loads((out / "_manifest.json").read_text())
    (out / "_manifest.json").write_text(json.dumps(manifest | {"selection": "mine"}))
    return out


def test_a_sample_has_the_place_of_its_window_in_the_mix(path: Path) -> None:
    config = validate({"export": {"parquet": {"path": str(path)}}})
    (line,) = _samples(Selected([1, 1]), config, "w1")
    assert line == f"parquet {path}/train-00001-of-00002.parquet sample 1"


@pytest.mark.parametrize(
    ("copies", "order"),
    [([1, 2], [0, 1]), ([1, 1, 1], [0, 1, 2]), ([1], [0]), ([1, 1], [1, 0])],
    ids=["one twice", "one more", "one less", "another order"],
)
def test_an_export_of_a_selection_as_it_was_before_tells_no_place(
    path: Path, copies: list[int], order: list[int]
) -> None:
    """A selection of one name was made anew: its places are others, or beyond the last file."""
    config = validate({"export": {"parquet": {"path": str(path)}}})
    assert list(_samples(Selected(copies, order), config, "w0")) == []


def test_an_export_whose_file_is_lost_tells_no_place(path: Path) -> None:
    (path / "train-00001-of-00002.parquet").unlink()
    config = validate({"export": {"parquet": {"path": str(path)}}})
    assert list(_samples(Selected([1, 1]), config, "w1")) == []
