"""`longattn forget --verify`: what an export's own bytes still have of forgotten documents."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longattn.etl.after import forget
from longattn.etl.after.check import check
from longattn.etl.after.reading import read_logs
from longattn.etl.after.remains import APART, WORDS, remains, remembered, sketch
from longattn.etl.export import FORMATS
from longattn.etl.export.files import MANIFEST
from longattn.etl.export.read import lines_of
from longattn.etl.run.context import Context
from longattn.etl.tables.schema import DOCUMENTS
from longattn.udfs.errors import ExportError
from longattn.udfs.text.ngrams import distinct_ngrams
from tests.etl.test_boundaries import LONGEST, Packing, write

NAMES = [name for name in FORMATS if name != "jsonl"]  # of jsonl the text is read, as it stands


def decode(ids: Any) -> str:
    return " ".join(f"w{i}" for i in ids)


def whole(number: int) -> Packing:
    """A window that one document fills."""
    ids = np.random.default_rng(number).integers(1, 50, LONGEST).tolist()
    return Packing(f"w{number:05}", [LONGEST], ids, packed=False)


def reader(*packings: Packing, share: float = 1.0) -> Any:
    rows = []
    for packing in packings:
        hashes = sketch(decode(packing.ids))
        rows.append({"doc_id": packing.name, "ngrams": hashes[: int(share * len(hashes))]})
    return SimpleNamespace(made=["forgotten"], rows=lambda sql: rows)


@pytest.mark.parametrize("name", NAMES)
def test_words_are_found_in_the_bytes_of_every_format(name: str, tmp_path: Path) -> None:
    exported, gone = [whole(n) for n in range(6)], [whole(n) for n in (4, 77)]
    path = write(name, exported, tmp_path / "out")
    manifest = json.loads((path / MANIFEST).read_text()) | {"sequence_length": LONGEST}
    (path / MANIFEST).write_text(json.dumps(manifest))
    (line,) = remains(remembered(reader(*gone)), str(path), decode)
    n_runs = len(sketch(decode(gone[0].ids)))
    assert line == (
        f"document w00004: {n_runs} of {n_runs} runs of 13 words that are remembered of it are in"
        f" {path}, first in sample 4"
    )
    assert remains(remembered(reader(gone[1])), str(path), decode) == []
    none: Any = SimpleNamespace(made=[], rows=None)
    assert remains(remembered(none), str(path), decode) == []


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ({"format": "arrow"}, "out was made by version 0; export it again"),
        ({"sequence_length": None}, "it lacks sequence_length: damaged, or of another version"),
    ],
)
def test_an_export_of_another_version_is_told_in_a_line(
    lacking: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """It ended in a KeyError."""
    path = write("parquet", [whole(n) for n in range(2)], tmp_path / "out")
    manifest = json.loads((path / MANIFEST).read_text()) | lacking
    kept = {key: value for key, value in manifest.items() if value is not None}
    (path / MANIFEST).write_text(json.dumps(kept))
    with pytest.raises(ExportError, match=said):
        remains(remembered(reader(whole(0))), str(path), decode)
    if "format" in lacking:
        with pytest.raises(ExportError, match=said):
            list(lines_of(str(path), 0))


def test_a_sketch_is_small_and_of_words_alone() -> None:
    text = " ".join(f"word{n}" for n in range(5000))
    assert 250 < len(sketch(text)) < 400
    assert sketch(text) == sketch(text.upper().replace(" ", ",\n"))
    assert sketch("too short") == []
    gone: Any = SimpleNamespace(
        made=["forgotten"],
        rows=lambda sql: [{"doc_id": "a", "ngrams": []}, {"doc_id": "b", "ngrams": None}],
    )
    known = remembered(gone)
    assert [len(hashes) for hashes in known.values()] == [0, 0]
    assert remains(known, "never read", None) == []


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5000 - APART - WORDS + 1))
def test_no_passage_is_without_a_remembered_run(start: int) -> None:
    words = [f"word{n}" for n in range(5000)]
    passage = " ".join(words[start : start + APART + WORDS - 1])
    known = np.array(sketch(" ".join(words)), np.int64).view(np.uint64)
    assert np.isin(distinct_ngrams([passage], WORDS), known).any()


@pytest.mark.spark
def test_what_is_forgotten_leaves_hashes_and_no_text(make_context: Callable[..., Context]) -> None:
    context = make_context()
    text = " ".join(f"word{n}" for n in range(40))
    row = dict.fromkeys(DOCUMENTS.columns) | {"doc_id": "d", "domain": "book", "text": text}
    frame = context.spark.createDataFrame([tuple(row.values())], DOCUMENTS.schema)
    context.tables.append("documents", frame)
    assert forget.forget(context.fresh(), ["d"])["documents"] == 1
    assert check(context.fresh()).faults == []
    (kept,) = context.fresh().tables.read("forgotten").collect()
    assert sorted(kept["ngrams"]) == sorted(sketch(text)) and len(kept["ngrams"]) == 28
    logs = read_logs(context.config.tables)
    assert logs is not None and "word" not in str(logs.rows("SELECT * FROM forgotten"))
