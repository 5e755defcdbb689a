"""Exports that would delete something are refused by name."""

from pathlib import Path
from typing import Any

import pytest

from longattn.etl import config as config_module
from longattn.etl.export.files import MANIFEST
from longattn.etl.export.job import owner
from longattn.etl.export.places import TITLE, no_page, refusals, refuse
from longattn.etl.ingest.own import OwnFiles
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
    "one path": ("export.jsonl.path", "out/parquet", "lies inside the other"),
    "one in another": ("export.jsonl.path", "out/parquet/jsonl", "lies inside the other"),
    "one around another": ("export.jsonl.path", "out", "lies inside the other"),
    "through a link": ("export.jsonl.path", "link", "lies inside the other"),
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


@pytest.mark.parametrize(
    ("pattern", "wrong"),
    [
        *((above, 0) for above in (".", "**/*.jsonl", "out", "out/*", "{a,out}/*", "out/*.jsonl")),
        *((onto, 1) for onto in ("out/parquet", "out/parquet/*", "out/parquet/a/*.txt")),
        ("{a,out/parquet}", 1),
    ],
)
def test_an_export_may_lie_below_a_source_and_replaces_none(
    settings: dict[str, Any], tmp_path: Path, pattern: str, wrong: int
) -> None:
    """What lies below is left out of the source (test_listing.py)."""
    settings["sources"]["web"] = [{"path": str(tmp_path / pattern)}]
    assert len(refused(settings)) == wrong


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3a://lake/out", "s3://lake/out"),
        ("s3n://lake//out/", "s3://lake/a/../out"),
        ("abfs://c@a.dfs.core.windows.net/out", "abfss://c@a.dfs.core.windows.net/out"),
        ("dbfs:/out", "dbfs:///out"),
        ("{tmp}/out", "file://{tmp}/a/../out"),
    ],
)
def test_a_place_has_several_names(
    settings: dict[str, Any], tmp_path: Path, one: str, other: str
) -> None:
    (tmp_path / "a").mkdir()
    one, other = (name.replace("{tmp}", str(tmp_path)) for name in (one, other))
    both = settings | {"export": {"jsonl": {"path": one}, "parquet": {"path": other}}}
    assert "lies inside the other" in refused(both)[0]
    alone = settings | {"export": {"jsonl": {"path": one}}}
    assert "replaced as a whole" in refused(alone | {"sources": {"d": [{"path": other}]}})[0]
    inside = settings | {"export": {"jsonl": {"path": f"{one}/x"}}}
    assert "tables.root" in refused(inside | {"tables": {"root": other}})[0]
    own = OwnFiles(config_module.validate(alone))
    assert own.has(f"{other}/x.jsonl") and not own.has(f"{other}2/x.jsonl")


def test_a_person_s_file_is_named(settings: dict[str, Any], tmp_path: Path) -> None:
    assert refused(settings) == []
    files = '"files": [{"name": "a"}]'
    (tmp_path / "out/parquet" / "a").write_text("")
    (tmp_path / "out/parquet" / MANIFEST).write_text(f"{{{files}}}")
    (line,) = refused(settings)
    assert f"{MANIFEST}: no manifest of an export" in line  # another program's
    (tmp_path / "out/parquet" / MANIFEST).write_text(f'{{"longattn": "0", {files}}}')
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
        (f"<!doctype html>\n<title>{TITLE}</title>".encode(), True),
        (b"<!doctype html>\n<title>A page of a source</title>", False),
        (b"", True),
        (b'{"text": "a source"}\n', False),
        (b"PAR1\0\0", False),
        (b"\xff\xfe", False),
    ],
)
def test_a_report_replaces_reports_alone(tmp_path: Path, content: bytes, fine: bool) -> None:
    path = tmp_path / "report.html"
    assert no_page(str(path)) is None and no_page("s3://bucket/report.html") is None
    path.write_bytes(content)
    assert (no_page(str(path)) is None) == fine
    assert "is a folder" in str(no_page(str(tmp_path)))
    assert path.read_bytes() == content
