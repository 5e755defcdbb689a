"""Where an export holds a window, as far as its selection tells; tables are made up here."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from longattn.etl.after.provenance import _numbers, _samples, orders_of
from longattn.etl.after.reading import LogReader
from longattn.etl.config import validate
from tests.etl.test_boundaries import Packing, write


def selected(path: Path, copies: Sequence[int], order: Sequence[int] = (0, 1, 2)) -> LogReader:
    """A root with one selection: windows w0, w1, ... each with so many copies, in an order."""
    names = [f"w{n}" for n in range(len(copies))]
    rows = {"window_id": names, "copies": copies, "mix_order": list(order)[: len(copies)]}
    every = {"selection": ["mine"] * len(copies), "domain": ["book"] * len(copies), **rows}
    others = {"selection": ["other"], "domain": ["book"], "window_id": ["w0"]}
    for part in (every, others | {"copies": [1], "mix_order": [0]}):
        write_deltalake(str(path / "selections"), pa.table(part), mode="append")
    return LogReader({"selections": DeltaTable(str(path / "selections"))}, None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An export of w0 and w1, in this order."""
    windows = [Packing(f"w{n}", [4], [1] * 4, packed=False) for n in (0, 1)]
    out = write("parquet", windows, tmp_path / "out")
    manifest = json.loads((out / "_manifest.json").read_text())
    (out / "_manifest.json").write_text(json.dumps(manifest | {"selection": "mine"}))
    return out


def test_a_sample_has_the_place_of_its_window_in_the_mix(path: Path, tmp_path: Path) -> None:
    config = validate({"export": {"parquet": {"path": str(path)}}})
    (line,) = _samples(selected(tmp_path, [1, 1]), config, "w1")
    assert line == f"parquet {path}/train-00001-of-00002.parquet sample 1"


def test_copies_stand_where_their_orders_fall(path: Path, tmp_path: Path) -> None:
    """Numbers are ranks of all copies' orders, those of windows taken once counted in the table."""
    copies, order = [1, 3, 1, 2], [5 << 60, -(1 << 62), 0, 7]
    every = sorted(int(o) for n in range(4) for o in orders_of(order[n], copies[n]))
    manifest = json.loads((path / "_manifest.json").read_text()) | {"samples": sum(copies)}
    reader = selected(tmp_path, copies, order)
    for n in range(4):
        mine = sorted(every.index(int(o)) for o in orders_of(order[n], copies[n]))
        assert _numbers(reader, manifest, f"w{n}") == mine


@pytest.mark.parametrize(
    ("copies", "order"),
    [([1, 2], [0, 1]), ([1, 1, 1], [0, 1, 2]), ([1], [0]), ([1, 1], [1, 0])],
    ids=["one twice", "one more", "one less", "another order"],
)
def test_an_export_of_a_selection_as_it_was_before_tells_no_place(
    path: Path, tmp_path: Path, copies: list[int], order: list[int]
) -> None:
    """A selection of one name was made anew: its places are others, or beyond the last file."""
    config = validate({"export": {"parquet": {"path": str(path)}}})
    assert list(_samples(selected(tmp_path, copies, order), config, "w0")) == []
    assert list(_samples(LogReader({}, None), config, "w0")) == [], "nothing was ever selected"


def test_an_export_whose_file_is_lost_tells_no_place(path: Path, tmp_path: Path) -> None:
    (path / "train-00001-of-00002.parquet").unlink()
    config = validate({"export": {"parquet": {"path": str(path)}}})
    assert list(_samples(selected(tmp_path, [1, 1]), config, "w1")) == []
