"""Where an export holds a window, as far as its selection tells; tables are made up here."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from longattn.etl.after.provenance import _samples
from longattn.etl.after.reading import Reader
from longattn.etl.config import validate


class Selected(Reader):
    """A root with one selection: windows w0, w1, ... each with so many copies."""

    def __init__(self, copies: Sequence[int]) -> None:
        self.made, self.holder, self.copies = ["selections"], None, copies

    def size(self, name: str) -> dict[str, Any]:
        raise NotImplementedError

    def rows(self, sql: str) -> list[dict[str, Any]]:
        return [
            {"window_id": f"w{n}", "domain": "book", "copies": count, "mix_order": n}
            for n, count in enumerate(self.copies)
        ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    files = [{"name": "train.jsonl", "first_sample": 0, "samples": 2}]
    manifest = {"longattn": "0", "selection": "mine", "samples": 2, "files": files}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_manifest.json").write_text(json.dumps(manifest))
    return tmp_path / "out"


def test_a_sample_has_the_place_of_its_window_in_the_mix(path: Path) -> None:
    config = validate({"export": {"parquet": {"path": str(path)}}})
    assert list(_samples(Selected([1, 1]), config, "w1")) == [
        f"parquet {path}/train.jsonl sample 1"
    ]


@pytest.mark.parametrize("copies", [[1, 2], [1, 1, 1], [1]])
def test_an_export_of_a_selection_as_it_was_before_tells_no_place(
    path: Path, copies: list[int]
) -> None:
    """A selection of one name was made anew: its places are others, or beyond the last file."""
    config = validate({"export": {"parquet": {"path": str(path)}}})
    assert list(_samples(Selected(copies), config, "w0")) == []
