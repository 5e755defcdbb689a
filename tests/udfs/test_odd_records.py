"""Records that Python cannot hold, values as configs spell them, files that are not there."""

import datetime as dt
import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longattn.udfs.documents.bytes import Split
from longattn.udfs.documents.formats import Item, SourceSpec, read
from longattn.udfs.documents.records import to_row

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    f"oid sha256:{'0123456789abcdef' * 4}\nsize 123456789\n"
)


def items(path: Path, **spec: Any) -> list[Item]:
    size = path.stat().st_size
    split = Split(f"file:{path}", 0, size, size, 1, path.name)
    return list(read(split, spec_of(**spec)))


def spec_of(**spec: Any) -> SourceSpec:
    return SourceSpec(**{"domain": "d", "source": "d", "text": "text", **spec})


@pytest.mark.parametrize(
    ("name", "format_"),
    [("a.txt", "text"), ("a.jsonl", "jsonl"), ("a.jsonl.gz", "jsonl"), ("a.parquet", "parquet")],
)
def test_a_pointer_of_git_lfs_is_refused_by_name(tmp_path: Path, name: str, format_: str) -> None:
    path = tmp_path / name
    path.write_text(POINTER)
    (item,) = items(path, format=format_)
    row = to_row(item, f"file:{path}", name, spec_of(format=format_))
    assert row["reason"] == "git_lfs_pointer" and "git lfs pull" in row["detail"]


def test_a_text_about_git_lfs_is_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"It says: {POINTER}")
    (item,) = items(path, format="text")
    assert item.record and item.record["text"].startswith("It says")


@pytest.mark.parametrize("compress", [False, True])
def test_an_integer_of_any_length_leaves_the_text_alone(tmp_path: Path, compress: bool) -> None:
    path = tmp_path / ("a.jsonl.gz" if compress else "a.jsonl")
    lines = [f'{{"text": "t", "small": 7, "big": {"7" * n}}}' for n in (20, 641, 5000)]
    data = "\n".join([*lines, '{"text": "t", "big": 7']).encode()
    path.write_bytes(gzip.compress(data) if compress else data)
    *good, broken = items(path, meta=("big",))
    assert [str(item.record and item.record["big"]) for item in good] == [
        "7" * n for n in (20, 641, 5000)
    ]
    assert all(item.record and item.record["small"] == 7 for item in good)
    assert broken.reason == "broken_json"
    row = to_row(good[2], "u", "n", spec_of(meta=("big",)))
    assert json.loads(row["meta"])["big"] == "7" * 5000


DEEP = "[" * 600 + "NaN" + "]" * 600


@pytest.mark.parametrize("spec", [{"where": {"deep": ("x",)}}, {"meta": ("deep",)}, {}])
def test_a_field_that_is_nested_deep_costs_its_record_at_most(tmp_path: Path, spec: Any) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "a", "deep": {DEEP}}}\n{{"text": "b", "deep": "x"}}\n')
    found = [to_row(item, "u", "n", spec_of(**spec)) for item in items(path)]
    assert [row.get("reason") for row in found] == ["bad_value" if spec else None, None]


@pytest.mark.parametrize("number", ["7" * 5000, "0x" + "f" * 5000])
def test_an_integer_of_any_length_leaves_an_object_in_a_string_alone(number: str) -> None:
    """The second is Python's alone, which reads it and writes it in no digits."""
    quote = "'" if number.startswith("0x") else '"'
    raw = f"{{{quote}text{quote}: {quote}t{quote}, {quote}n{quote}: {number}}}"
    spec = spec_of(text="raw.text", meta=("raw.n",), id="raw.n")
    row = to_row(Item(1, {"raw": raw}), "u", "n", spec)
    assert (row["text"], row["source_id"]) == (b"t", number)
    assert json.loads(row["meta"]) == {"raw.n": number}
    spec = spec_of(text="raw.text", where={"raw.n": ("7",)})
    assert to_row(Item(1, {"raw": raw}), "u", "n", spec)["reason"] == "filtered"


def test_a_long_text_in_a_string_of_json_is_read() -> None:
    raw = json.dumps({"text": "x" * 100_000})
    assert to_row(Item(1, {"raw": raw}), "u", "n", spec_of(text="raw.text"))["n_chars"] == 100_000


def test_what_a_refusal_says_is_bounded() -> None:
    """Names may be data: an object by ids, of which each refusal would list millions."""
    row = to_row(Item(1, {str(n): n for n in range(10_000)}), "u", "n", spec_of())
    assert row["reason"] == "missing_text" and len(row["detail"]) == 1000


FAR = {
    "date": pa.array([19_000, 3_664_000, -800_000], pa.int32()).cast(pa.date32()),
    "time": pa.array([0, 316_000_000_000_000_000, 1], pa.int64()).cast(pa.timestamp("us")),
}


@pytest.mark.parametrize("kind", FAR)
def test_dates_that_python_has_not_refuse_their_record_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b", "c"], "created": FAR[kind]}), path)
    found = items(path, format="parquet", meta=("created",))
    refused = [item.row for item in found if item.reason == "bad_value"]
    expected = {"date": [2, 3], "time": [2]}[kind]
    assert refused == expected and "column created" in str(found[1].detail)
    assert items(path, format="parquet")[1].record == {"text": "b"}  # nobody asked for it


def test_times_of_a_zone_that_nobody_knows_refuse_their_records(tmp_path: Path) -> None:
    path, kind = tmp_path / "a.parquet", pa.timestamp("us", tz="Atlantis/Capital")
    times = pa.array([0, 1], pa.int64()).cast(kind)
    pq.write_table(pa.table({"text": ["a", "b"], "created": times}), path)
    found = items(path, format="parquet", meta=("created",))
    assert [item.reason for item in found] == ["bad_value"] * 2
    assert "Atlantis" in str(found[0].detail)


WHERE = [
    (dt.date(2024, 1, 1), "2024-01-01", "2024-01-02"),
    (dt.datetime(2024, 1, 1, 12), "2024-01-01 12:00:00", "2024-01-01"),
    (dt.datetime(2024, 1, 1, 12), "2024-01-01T12:00:00", "12:00:00"),
    (Decimal("0.50"), "0.50", "0.51"),
    (Decimal("0.50"), "0.5", "50"),
    (["en", "news"], "en", "de"),
    ([Decimal("1.0"), 2], "1", "3"),
    (True, "true", "false"),
    (True, "True", "1"),
    (1.0, "1", "2"),
    (1.0, "1.0", "10"),
    (7, "7", "8"),
    (7, "7.0", "7.1"),
    ("7", "7", "7.0"),
    (0.10000000149011612, "0.1", "0.2"),  # of 32 bits, as Parquet has them
    (0.10000000149011612, "0.10000000149011612", "0.100000002"),
    (2.0**32, "4294967296", "4294967300"),
    (1e300, "1e+300", "1e301"),
    (Decimal("0.500"), "0.50", "0.501"),
    ([0.5], "0.50", "sNaN"),
    (dt.datetime(2024, 1, 1), "2024-01-01", "2024-01-02"),
    (dt.datetime(2024, 1, 1, tzinfo=dt.UTC), "2024-01-01T00:00:00Z", "2024-01-01"),
    (None, "null", "None"),
    ("en", "en", '"en"'),
    ({"a": 1}, '{"a": 1}', "a"),
    (UUID(int=7), "00000000-0000-0000-0000-000000000007", "7"),
    (dt.timedelta(seconds=1), "0:00:01", "1"),
    (dt.time(12), "12:00:00", "12"),
    (b"en", "en", "b'en'"),
    ([b"en"], "en", "b'en'"),
    (float("nan"), "NaN", "nan"),
    (-0.0, "-0", "+1"),
]


@pytest.mark.parametrize(("value", "accepted", "other"), WHERE)
def test_where_compares_values_as_people_write_them(value: Any, accepted: str, other: str) -> None:
    item = Item(1, {"text": "t", "field": value})
    for words, reason in [((accepted,), None), ((other,), "filtered"), ((other, accepted), None)]:
        row = to_row(item, "u", "n", spec_of(where={"field": words}))
        assert row.get("reason") == reason


IDS = [
    (7, "7"),
    (7.0, "7"),
    (Decimal("10000000000000000000"), "10000000000000000000"),
    (Decimal("7.00"), "7"),
    (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    (b"seven", "seven"),
    (7.5, None),
    (2.0**53, None),
    (float("nan"), None),
    (b"\xff\x01", "ff01"),
    (b"", None),
    (True, None),
    (None, None),
    ("", None),
]


@pytest.mark.parametrize(("value", "name"), IDS)
def test_ids_are_names_whatever_type_a_column_has(value: Any, name: str | None) -> None:
    row = to_row(Item(3, {"text": "t", "id": value}), "u", "a.parquet", spec_of(id="id"))
    assert row["source_id"] == name if name else row["source_id"] == "a.parquet#3"


def test_uuids_in_a_column_that_does_not_call_them_so_are_ids(tmp_path: Path) -> None:
    ids = [UUID(int=(0xFE << 120) + n) for n in range(3)]
    binary = pa.array([one.bytes for one in ids], pa.binary(16))
    pq.write_table(pa.table({"text": ["a", "b", "c"], "id": binary}), tmp_path / "a.parquet")
    spec = {"format": "parquet", "id": "id"}
    found = [to_row(i, "u", "a", spec_of(**spec)) for i in items(tmp_path / "a.parquet", **spec)]
    assert [row["source_id"] for row in found] == [str(one).replace("-", "") for one in ids]


def test_bytes_that_are_text_are_filtered_kept_and_looked_into(tmp_path: Path) -> None:
    """Writers without a logical type for strings leave binary columns."""
    path = tmp_path / "a.parquet"
    columns = {"text": [b"one", b"two"], "lang": [b"en", b"de"], "meta": [b'{"url": "u"}'] * 2}
    columns |= {"tags": [[b"x"]] * 2}
    pq.write_table(pa.table(columns), path)
    spec = {"format": "parquet", "where": {"lang": ("en",)}, "meta": ("lang", "meta.url", "tags")}
    rows = [to_row(item, "u", "a", spec_of(**spec)) for item in items(path, **spec)]
    assert [row.get("reason") for row in rows] == [None, "filtered"]
    assert json.loads(rows[0]["meta"]) == {"lang": "en", "meta.url": "u", "tags": ["x"]}
