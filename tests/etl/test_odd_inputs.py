"""Inputs that are not wrong enough to stop for: what becomes of each."""

from pathlib import Path

import pyarrow as pa
import pytest

from longattn.etl import console
from longattn.etl.after import forget
from longattn.etl.config import Config
from longattn.etl.scoring.job import _commit
from longattn.etl.tables.schema import SCORES
from longattn.udfs.errors import UserError


def test_a_batch_without_scores_is_no_commit() -> None:
    """Spark makes no frame of no rows."""
    types = {name: pa.string() for name in SCORES.columns}
    nothing = pa.schema(types).empty_table()
    assert _commit(None, nothing, None) == (0, 0)  # type: ignore[arg-type]


def test_ids_to_forget_are_read_as_editors_write_them(tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_bytes(b"\xef\xbb\xbfone\r\n\r\n  two \n")
    assert forget.ids_in(str(ids)) == ["one", "two"]
    for data, said in ((b"\xff\xfeo\0", "can't decode"), (b"\n", "no id is in it")):
        ids.write_bytes(data)
        with pytest.raises(UserError, match=said) as refused:
            forget.ids_in(str(ids))
        assert "ids.txt" in str(refused.value)


def test_ids_that_nobody_has_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who forgets ten and misspells one would think that ten are forgotten."""
    (tmp_path / "ids.txt").write_text("a\nb\nb\nc\n")
    monkeypatch.setattr(console, "open_context", lambda *_args, **_settings: None)
    monkeypatch.setattr(forget, "known_ids", lambda _context, _ids: ["a"])
    monkeypatch.setattr(forget, "count", lambda _context, _ids: {})
    console.show_forget(Config(), str(tmp_path / "ids.txt"), None, dry_run=True)
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == "2 of 3 ids are no document's here, b for one"
    assert last.startswith("1 documents would be forgotten")
