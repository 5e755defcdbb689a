"""Whatever stands in a source file, a config or an override: read, or refused in one line."""

import bz2
import codecs
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from longattn.etl import config as config_module
from longattn.etl.config import Config, SourceConfig
from longattn.udfs.documents import formats
from longattn.udfs.documents.bytes import LFS_POINTER, Split
from longattn.udfs.documents.formats import SourceSpec
from longattn.udfs.documents.records import STAGED_DDL, to_batches, to_row
from longattn.udfs.errors import ConfigError

SPEC = SourceSpec(domain="book", source="s", id="id", meta=("meta.a", "n"), where={"k": ("v",)})
COLUMNS = [column.split()[0] for column in STAGED_DDL.split(", ")]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
quick = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
names = st.sampled_from(["id", "text", "meta", "a", "n", "k", "v", ""]) | st.text(max_size=4)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)
lines = st.one_of(
    st.binary(max_size=40).filter(lambda line: b"\n" not in line),
    values.map(lambda value: json.dumps(value, default=str).encode()),
    values.map(lambda value: json.dumps({"text": value, "k": "v"}, default=str).encode()[:-1]),
)


def rows_of(data: bytes, uri: str) -> list[dict[str, Any]]:
    split = Split(uri, 0, len(data), len(data), 1, uri, None, data)
    return [to_row(item, uri, uri, SPEC) for item in formats.read(split, SPEC)]


def check(rows: list[dict[str, Any]]) -> None:
    """Each is a document or a refusal, and Arrow takes them all."""
    for row in rows:
        assert (row.get("text") is None) != (row.get("reason") is None)
        assert set(row) <= set(COLUMNS)
    assert sum(batch.num_rows for batch in to_batches(rows)) == len(rows)


@quick
@given(st.lists(lines, max_size=8))
def test_each_line_is_a_document_or_a_refusal(found: list[bytes]) -> None:
    data = b"\n".join(found)
    assume(not data.startswith(LFS_POINTER))  # hypothesis tries constants of the code under test
    rows = rows_of(data, "a.jsonl")
    check(rows)
    lines = [line.removeprefix(codecs.BOM_UTF8).strip() for line in found]
    assert [row["source_row"] for row in rows] == [n for n, line in enumerate(lines, 1) if line]


@quick
@given(st.lists(lines, min_size=1, max_size=5), st.sampled_from(sorted(COMPRESS)), st.data())
def test_a_damaged_archive_is_read_up_to_its_fault(
    found: list[bytes], suffix: str, data: st.DataObject
) -> None:
    packed = bytearray(COMPRESS[suffix](b"\n".join(found)))
    place = data.draw(st.integers(0, len(packed) - 1))
    if data.draw(st.booleans()):
        packed[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del packed[place:]
    check(rows_of(bytes(packed), f"a.jsonl{suffix}"))


SOURCE = SourceSpec(domain="book", source="s", format="parquet", id="id", meta=("n",))


def parquet_of_rows() -> bytes:
    table = pa.table({"id": range(40), "text": ["x y"] * 40, "n": [{"k": i} for i in range(40)]})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=10)
    return sink.getvalue()


@quick
@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 7)), min_size=1, max_size=3))
def test_of_damaged_parquet_no_row_is_lost_in_silence(flips: list[tuple[int, int]]) -> None:
    """Most of so small a file is its footer, of which a bit may hide a group or end pyarrow."""
    data = bytearray(parquet_of_rows())
    for place, bit in flips:
        data[-1 - place % len(data)] ^= 1 << bit
    split = Split("a", 0, len(data), len(data), 1, "a", None, bytes(data))
    rows = [to_row(item, "a", "a", SOURCE) for item in formats.read(split, SOURCE)]
    check(rows)
    assert len(rows) == 40 or any(row.get("reason") for row in rows)


def accepted(load: Callable[[], Config]) -> bool:
    """True when a config was read; a refusal must be one line that names something."""
    try:
        return isinstance(load(), Config)
    except ConfigError as error:
        assert str(error) and "\n" not in str(error)
        return False


sections = st.sampled_from([*Config.model_fields, "windw"])
keys = st.sampled_from(
    sorted(
        key
        for field in Config.model_fields.values()
        for key in getattr(field.annotation, "model_fields", ())
    )
)


@quick
@given(st.dictionaries(sections, values | st.dictionaries(keys, values, max_size=3), max_size=3))
def test_settings_are_read_or_refused_in_one_line(found: dict[str, Any]) -> None:
    accepted(lambda: config_module.validate(found))


@quick
@given(sections, keys, st.text(max_size=12) | values.map(lambda v: yaml.safe_dump(v)))
def test_overrides_are_read_or_refused_in_one_line(section: str, key: str, text: str) -> None:
    accepted(lambda: config_module.load(None, [f"{section}.{key}={text}"]))


@quick
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_a_file_of_anything_is_read_or_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(data)
    accepted(lambda: config_module.load(path))


@pytest.mark.parametrize("text", ["a: &a [*a]", "? [1, 2]\n: 3", "!!python/object:os.system x"])
def test_yaml_of_other_kinds_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert not accepted(lambda: config_module.load(path))


ODD: list[Any] = [
    *(None, -1, 0, 10**30, 1e308, float("nan"), True, "", "x", "\0", "\ud800", "a\nb"),
    *([], [[]], [{}], [None], [0], ["x"], {}, {"": 1}, {"x": None}, {"x": [0, 50]}, {"x": {}}),
]


def every_setting(model: type[BaseModel], *parents: str) -> Iterator[tuple[str, ...]]:
    """Where each setting stands: ("window", "length")."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from every_setting(kind, *parents, name)
        else:
            yield *parents, name


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_any_setting_may_have_an_odd_value(odd: Any) -> None:
    """By enumeration, so that a new setting joins by itself."""
    for section, *rest in every_setting(Config):
        settings = {section: {rest[0]: odd} if rest else odd}
        accepted(lambda settings=settings: config_module.validate(settings))
    for name in SourceConfig.model_fields:
        source = {"path": "a", name: odd}
        accepted(lambda source=source: config_module.validate({"sources": {"web": [source]}}))
    accepted(lambda: config_module.validate({"sources": {str(odd): [{"path": "a"}]}}))
