"""Exports that would delete something, or be read back as a source, are refused by name."""

from pathlib import Path
from typing import Any

import pytest

from longattn.etl import config as config_module
from longattn.etl.export.files import MANIFEST
from longattn.etl.export.job import owner
from longattn.etl.export.places import no_page, refusals, refuse
from longattn.udfs.errors import ConfigError


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    for name in ("books", "out/parquet"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "books" / "a.jsonl").write_text("{}\n")
    return {
        "sources": {"book": [{"path": str(tmp_path / "books" / "*.jsonl")}]},
        "tables": {"root": str(tmp_path / "tables")},
        "export": {"parquet": {"path": str(tmp_path / "out/parquet")}},
        "report": {"path": str(tmp_path / "report.html")},
    }


def refused(settings: dict[str, Any]) -> list[str]:
    config = config_module.validate(settings)
    return [f"{key}: {text}" for key, text in refusals(config)]


PLACES = {
    "one path": ("export.jsonl.path", "out/parquet", "hold one another"),
    "one in another": ("export.jsonl.path", "out/parquet/jsonl", "hold one another"),
    "one around another": ("export.jsonl.path", "out", "hold one another"),
    "through a link": ("export.jsonl.path", "link", "hold one another"),
    "the tables": ("export.jsonl.path", "tables", "tables.root"),
    "in the tables": ("export.jsonl.path", "tables/out", "tables.root"),
    "a source's folder": ("export.jsonl.path", "books", "sources.book"),
    "a folder over a source": ("export.jsonl.path", ".", "sources.book"),
    "the report in an export": ("report.path", "out/parquet/report.html", "report.path"),
}


@pytest.mark.parametrize("case", PLACES)
def test_what_an_export_would_delete_is_named(
    settings: dict[str, Any], tmp_path: Path, case: str
) -> None:
    key, path, said = PLACES[case]
    (tmp_path / "link").symlink_to(tmp_path / "out/parquet")
    section, name, *_ = key.split(".")
    value = str(tmp_path / path)
    settings[section] = (
        {"path": value} if section == "report" else settings[section] | {name: {"path": value}}
    )
    found = refused(settings)
    assert any(said in line for line in found)
    assert all("\n" not in line for line in found)
    with pytest.raises(ConfigError, match=r"^export\."):
        refuse(config_module.validate(settings))
    assert (tmp_path / "books" / "a.jsonl").exists()


def test_an_export_that_a_source_would_read_is_named(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    for pattern, wrong in (
        (".", 1),
        ("**/*.jsonl", 1),
        ("out/*", 1),
        ("out/*.jsonl", 0),
        ("{a,out}/*", 1),
    ):
        settings["sources"]["web"] = [{"path": str(tmp_path / pattern)}]
        assert len(refused(settings)) == wrong, pattern


def test_a_person_s_file_is_named(settings: dict[str, Any], tmp_path: Path) -> None:
    assert refused(settings) == []
    (tmp_path / "out/parquet" / MANIFEST).write_text('{"files": [{"name": "a"}]}')
    (tmp_path / "out/parquet" / "a").write_text("")
    assert refused(settings) == []
    (tmp_path / "out/parquet" / "notes.txt").write_text("mine")
    (line,) = refused(settings)
    assert "the folder holds other files, as notes.txt, which the export would delete" in line


def test_a_prefix_is_a_name(settings: dict[str, Any], tmp_path: Path) -> None:
    target = {"path": str(tmp_path / "m"), "prefix": "a/b"}
    with pytest.raises(ConfigError, match=r"export.megatron.prefix.*it names files in"):
        config_module.validate(settings | {"export": {"megatron": target}})


@pytest.mark.parametrize("root", ["s3a://lake/tables", "abfss://c@a.dfs.core.windows.net/t"])
def test_who_exports_from_a_store_is_the_same_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    """What a killed run had staged was a stranger's to a run that began in another folder."""
    here = owner(root)
    monkeypatch.chdir(tmp_path)
    assert owner(root) == here != owner(f"{root}2")
    assert owner("tables") == owner(str(tmp_path / "tables")) == owner(f"file:{tmp_path}/tables")
    assert owner("catalog.schema") != owner("catalog.schema")  # there is no lease


@pytest.mark.parametrize(
    ("content", "fine"),
    [
        (b"<!DOCTYPE html>\n<html>", True),
        (b"\n  <!doctype html>", True),
        (b"", True),
        (b'{"text": "a source"}\n', False),
        (b"PAR1\0\0", False),
        (b"\xff\xfe", False),
    ],
)
def test_a_report_replaces_pages_alone(tmp_path: Path, content: bytes, fine: bool) -> None:
    path = tmp_path / "report.html"
    assert no_page(str(path)) is None and no_page("s3://bucket/report.html") is None
    path.write_bytes(content)
    assert (no_page(str(path)) is None) == fine
    assert "is a folder" in str(no_page(str(tmp_path)))
    assert path.read_bytes() == content
