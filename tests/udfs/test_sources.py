"""Readers of source files: exact rows, nothing lost, nothing fatal, on files as users have them."""

import codecs
import gzip
import io
import json
import lzma
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from longattn.udfs import storage
from longattn.udfs.documents import bytes as raw
from longattn.udfs.documents import formats as sources
from longattn.udfs.documents import records
from longattn.udfs.documents.bytes import LFS_POINTER, Split
from longattn.udfs.documents.formats import Item, SourceSpec
from longattn.udfs.documents.records import doc_id, lookup, to_batches, to_row

SPEC = SourceSpec(domain="book", source="books")


def split_of(
    data: bytes, uri: str = "memory.jsonl", start: int = 0, end: int | None = None
) -> Split:
    end = len(data) if end is None else end
    return Split(uri, start, end, len(data), 1, uri, None, data)


def read(data: bytes, spec: SourceSpec = SPEC, uri: str = "memory.jsonl") -> list[dict[str, Any]]:
    split = split_of(data, uri)
    return [to_row(item, uri, uri, spec) for item in sources.read(split, spec)]


def reasons(rows: list[dict[str, Any]]) -> list[tuple[int | None, str | None]]:
    return [(row["source_row"], row.get("reason")) for row in rows]


def jsonl(*records: Any) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


# --- lines


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20)), st.integers(1, 7))
def test_lines_are_those_of_bytes_split_whatever_the_chunks(pieces: list[bytes], size: int) -> None:
    data = b"\n".join(pieces)
    chunks = [data[i : i + size] for i in range(0, len(data), size)]
    expected = data.split(b"\n")
    expected = expected[:-1] if expected[-1] == b"" else expected
    assert [line.data for line in raw.split_lines(chunks, 1 << 20)] == expected


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1), st.integers(1, 9), st.integers(1, 30))
def test_lines_over_the_limit_keep_their_length_and_not_their_bytes(
    lengths: list[int], size: int, limit: int
) -> None:
    data = b"".join(b"x" * n + b"\n" for n in lengths)
    chunks = [data[i : i + size] for i in range(0, len(data), size)]
    lines = list(raw.split_lines(chunks, limit))
    assert [line.n_bytes for line in lines] == lengths
    assert all(line.data == b"x" * n for line, n in zip(lines, lengths, strict=True) if n <= limit)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=12), st.integers(1, 40))
def test_splits_give_each_line_once_and_its_number(lines: list[bytes], step: int) -> None:
    data = b"\n".join(lines)
    whole = list(enumerate(data.split(b"\n"), 1))
    whole = whole if whole[-1][1] else whole[:-1]
    cuts = [*range(0, len(data), step), len(data)]
    first, found = 1, []
    for start, end in pairwise(cuts):
        split = split_of(data, start=start, end=end)
        part = list(raw.split_lines(raw.chunks(split), 1 << 20))
        assert raw.count_lines(split) == len(part)
        found += [(first + i, line.data) for i, line in enumerate(part)]
        first += len(part)
    assert found == whole


# --- bad input


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "cut sho', "broken_json"),
        (b"[" * 100_000, "broken_json"),
        (b'{"text": ' + b"9" * 5000 + b"}", "text_not_string"),
        (b'"only a string"', "not_an_object"),
        (b"[1, 2]", "not_an_object"),
        (b'{"text": "\xff\xfe"}', "invalid_utf8"),
        (b'{"body": "x"}', "missing_text"),
        (b'{"text": null}', "null_text"),
        (b'{"text": 7}', "text_not_string"),
        (b'{"text": {"en": "x"}}', "text_not_string"),
        (b'{"text": ""}', "empty_text"),
        (b'{"text": " \\n\\t\\u00a0"}', "empty_text"),
        (b'{"text": "ab"}', "too_short"),
        (b'{"text": "a lone \\ud800 surrogate"}', "invalid_text"),
        (b'{"text": "%b"}' % (b"x" * 200_001), "too_long"),
        (b'{"text": "%b"}' % (b"x" * 1_600_000), "line_too_long"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_line_is_refused_by_name_and_its_neighbours_are_kept(
    line: bytes, reason: str
) -> None:
    spec = SourceSpec(domain="book", source="books", min_chars=3, max_bytes=200_000)
    good = b'{"text": "good enough"}\n'
    rows = read(good + line + b"\n" + good, spec)
    assert reasons(rows) == [(1, None), (2, reason), (3, None)]
    assert rows[1]["excerpt"][:5] == line[:5].decode(errors="replace")
    assert len(rows[1]["excerpt"]) <= 200 and rows[1]["detail"]


def test_text_is_kept_as_it_is() -> None:
    text = "NUL \0, CRLF \r\n, a separator \u2028, an emoji \U0001f600, <|endoftext|>"
    (row,) = read(jsonl({"text": text}))
    assert row["text"].decode() == text and row["n_chars"] == len(text)


def test_blank_lines_count_as_lines_and_not_as_records() -> None:
    rows = read(b'\n  \n{"text": "a"}\r\n\r\n{"text": "b"}')
    assert reasons(rows) == [(3, None), (5, None)]


def test_a_byte_order_mark_is_no_text() -> None:
    marked = b'\xef\xbb\xbf{"text": "a"}\n'
    joined = marked + b"\xef\xbb\xbf\n" + marked
    assert reasons(read(joined)) == [(1, None), (3, None)]


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 200), st.integers(0, 100))
def test_garbled_lines_never_crash_and_every_line_is_accounted_for(
    noise: bytes, at: int, cut: int
) -> None:
    good = jsonl(
        {"text": "one"}, {"text": "two\nlines"}, {"id": 1, "text": None}, {"text": "three"}
    )
    data = good[:at] + noise + good[at + cut :]
    assume(not data.startswith(LFS_POINTER))  # hypothesis tries constants of the code under test
    rows = read(data)
    lines = [line.removeprefix(codecs.BOM_UTF8).strip() for line in data.split(b"\n")]
    expected = [i for i, line in enumerate(lines, 1) if line]
    assert [row["source_row"] for row in rows] == expected
    assert all(("text" in row) != ("reason" in row) for row in rows)
    assert sum(batch.num_rows for batch in to_batches(rows)) == len(rows)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    ".xz": lzma.compress,
}


@pytest.mark.parametrize("ending", COMPRESS)
def test_compressed_members_one_after_the_other_are_one_file(ending: str) -> None:
    halves = [jsonl({"text": "a"}, {"text": "b"}), jsonl({"text": "c"})]
    rows = read(b"".join(map(COMPRESS[ending], halves)), uri=f"x.jsonl{ending}")
    assert [row["text"] for row in rows] == [b"a", b"b", b"c"]


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("zeros", [4, 1 << 16])
def test_zeros_between_and_after_members_are_no_data(ending: str, zeros: int) -> None:
    """Tapes and xz pad with them, and the programs that made the files read on."""
    members = [COMPRESS[ending](jsonl({"text": text})) for text in "ab"]
    rows = read(b"".join(member + b"\0" * zeros for member in members), uri=f"x.jsonl{ending}")
    assert [row.get("text") for row in rows] == [b"a", b"b"]


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_of_a_damaged_file_the_lines_before_the_damage_are_kept(ending: str, damage: str) -> None:
    import random

    rng = random.Random(7)  # text that does not compress, so that there are many blocks
    texts = ["".join(rng.choices("abcdefghij0123456789", k=5000)) for _ in range(200)]
    whole = COMPRESS[ending](jsonl(*({"text": text} for text in texts)))
    at = len(whole) * 2 // 3
    data = whole[:at] if damage == "cut" else whole[:at] + b"\xff" * 40 + whole[at + 40 :]
    *kept, last = read(data, uri=f"x.jsonl{ending}")
    if damage == "cut":
        assert len(kept) > 80
        assert [row["text"].decode() for row in kept] == texts[: len(kept)]
    assert (last["reason"], last["source_row"]) == ("truncated_file", len(kept) + 1)


def test_a_line_of_64_megabytes() -> None:
    text = "0123456789abcdef" * (1 << 22)
    rows = read(jsonl({"text": "a"}, {"text": text}, {"text": "b"}))
    assert [row["n_chars"] for row in rows] == [1, 1 << 26, 1]
    assert [batch.num_rows for batch in to_batches(rows)] == [1, 1, 1]


def test_a_decompression_bomb_is_refused_without_being_held() -> None:
    spec = SourceSpec(domain="book", source="books", max_bytes=1 << 16)
    bomb = gzip.compress(b"0" * (64 << 20) + b"\n" + b'{"text": "after it"}\n')
    assert reasons(read(bomb, spec, "x.jsonl.gz")) == [(1, "line_too_long"), (2, None)]


# --- formats


def test_redpajama_meta_as_object_as_json_and_as_python() -> None:
    meta = {"arxiv_id": "2101.00001", "language": "en", "yymm": None}
    spec = SourceSpec(domain="arxiv", source="rp", id="meta.arxiv_id", meta=("meta.yymm", "meta"))
    rows = read(
        jsonl(*({"text": "x", "meta": m} for m in (meta, json.dumps(meta), str(meta)))), spec
    )
    assert [row["source_id"] for row in rows] == ["2101.00001"] * 3
    assert json.loads(rows[0]["meta"]) == {"meta.yymm": None, "meta": meta}


def test_longattn_lines_have_an_id_and_a_tab() -> None:
    spec = SourceSpec(domain="book", source="published", format="longattn", text="content")
    good = b'Arxiv_0000001\t{"content": "x"}\n'
    rows = read(good + b'{"content": "no prefix"}\n' + good, spec)
    assert reasons(rows) == [(1, None), (2, "broken_json"), (3, None)]
    assert rows[0]["source_id"] == "Arxiv_0000001"


def test_a_text_file_is_one_document() -> None:
    spec = SourceSpec(domain="code", source="tree", format="text", max_bytes=20)
    (row,) = read(b"def f():\r\n    pass", spec, "pkg/f.py")
    assert (row["text"], row["source_id"]) == (b"def f():\r\n    pass", "pkg/f.py")
    assert reasons(read(b"x" * 21, spec)) == [(1, "too_long")]
    assert reasons(read(b"caf\xe9", spec)) == [(1, "invalid_utf8")]
    assert reasons(read(b"", spec)) == [(1, "empty_text")]
    assert reasons(read(gzip.compress(b"abc")[:-6], spec, "f.py.gz")) == [(1, "truncated_file")]


STACK = SourceSpec(
    domain="code",
    source="stack",
    format="parquet",
    text="content",
    id="id",
    meta=("max_stars_repo_path", "size"),
    where={"lang": ("Python",)},
)


def parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, **options)
    return sink.getvalue()


def stack_rows(n: int) -> list[dict[str, Any]]:
    return [
        {"id": i, "content": f"text {i}", "max_stars_repo_path": f"a/{i}.py", "size": i}
        | {"lang": "Python" if i % 3 else "C", "unused": {"deep": [i]}}
        for i in range(n)
    ]


def test_stack_parquet_maps_fields_and_filters() -> None:
    rows = read(parquet(stack_rows(4)), STACK)
    assert reasons(rows) == [(1, "filtered"), (2, None), (3, None), (4, "filtered")]
    assert rows[1]["source_id"] == "1"
    assert json.loads(rows[1]["meta"]) == {"max_stars_repo_path": "a/1.py", "size": 1}


@pytest.mark.parametrize("step", [1, 100, 700, 10**9])
def test_row_groups_are_read_by_one_split_each_with_exact_rows(step: int) -> None:
    data = parquet(stack_rows(50), row_group_size=7)
    found = [
        (item.row, item.record["id"])
        for start in range(0, len(data), step)
        for item in sources.read(
            split_of(data, start=start, end=min(len(data), start + step)), STACK
        )
        if item.record
    ]
    assert found == [(i + 1, i) for i in range(50)]


def test_parquet_text_that_is_not_utf8_or_binary() -> None:
    text = pa.array([b"good", b"caf\xe9"]).view(pa.string())
    sink = io.BytesIO()
    pq.write_table(pa.table({"content": text}), sink)
    spec = SourceSpec(domain="code", source="s", format="parquet", text="content")
    assert reasons(read(sink.getvalue(), spec)) == [(1, None), (2, "invalid_utf8")]
    assert reasons(read(parquet([{"content": b"ok"}, {"content": b"\xff"}]), spec)) == [
        (1, None),
        (2, "invalid_utf8"),
    ]


def test_what_is_not_parquet_is_refused_and_told_once() -> None:
    data = parquet(stack_rows(50), row_group_size=7)
    for damaged in (b"", b"PAR1", b"no such thing", data[:-20]):
        assert reasons(read(damaged, STACK)) == [(1, "corrupt_file")]
        later = split_of(damaged, start=1)
        assert list(sources.read(later, STACK)) == []


@pytest.mark.parametrize("n_splits", [1, 30])
def test_parquet_pages_that_are_damaged_end_the_split_there(n_splits: int) -> None:
    spec = SourceSpec(domain="code", source="s", format="parquet", text="content")
    rows = [{"content": f"{i} " * 300} for i in range(60)]
    data = bytearray(parquet(rows, row_group_size=20, compression="zstd"))
    third = pq.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(2).column(0)
    data[third.dictionary_page_offset : third.dictionary_page_offset + 60] = b"\xff" * 60
    cuts = [len(data) * n // n_splits for n in range(n_splits + 1)]
    splits = [split_of(bytes(data), start=start, end=end) for start, end in pairwise(cuts)]
    *kept, last = [item for split in splits for item in sources.read(split, spec)]
    assert [item.row for item in kept] == list(range(1, 41))
    assert (last.reason, last.row) == ("corrupt_file", 41)


def test_rows_that_pyarrow_passes_over_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """By some damaged footers a row group has none, and pyarrow says nothing."""
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *_args, **_options: iter(()))
    (row,) = read(parquet(stack_rows(4)), STACK)
    assert (row["reason"], row["detail"][:10]) == ("corrupt_file", "0 of the 4")


@pytest.mark.parametrize(
    ("names", "fault"),
    [([], "it has no columns"), (["content", "content", "x"], "column 'content' twice")],
)
def test_parquet_without_columns_or_with_one_twice_is_refused(names: list[str], fault: str) -> None:
    table = pa.Table.from_arrays([pa.array(["a"])] * len(names), names=names)
    spec = SourceSpec(domain="code", source="s", format="parquet", text="content")
    (row,) = read(parquet_of(table), spec)
    assert (row["reason"], row["detail"]) == ("corrupt_file", fault)
    assert len(read(parquet_of(table), replace(spec, text="x"))) == 1


# --- records


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-bom"])
def test_a_text_file_in_unicode_is_read(encoding: str) -> None:
    text = "naïve 我们\n"
    data = text.encode(encoding.removesuffix("-bom"))
    data = b"\xfe\xff" + data if encoding.endswith("-bom") else data
    (row,) = read(data, SourceSpec(domain="d", source="s", format="text"), "a.txt")
    assert row["text"].decode() == text


def test_other_encodings_are_refused_with_the_place() -> None:
    text = SourceSpec(domain="d", source="s", format="text")
    (row,) = read("über Bücher".encode("latin-1"), text, "a.txt")
    assert row["reason"] == "invalid_utf8" and row["detail"].startswith("byte 0xfc at offset 0")
    (row,) = read("plain".encode("utf-16-le"), text, "a.txt")
    assert row["reason"] == "binary_text"
    row, *_ = read('{"text": "a"}\n'.encode("utf-16"))
    assert (row["reason"], row["detail"]) == ("invalid_utf8", "UTF-16: convert the file to UTF-8")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("text", ["plain", "naïve", "слово за словом"])
def test_every_line_of_utf_16_says_so(encoding: str, text: str) -> None:
    lines = json.dumps({"text": text, "n": 1}, ensure_ascii=False) + "\n"
    rows = read((lines * 3).encode(encoding))
    assert len(rows) >= 3
    assert {row["reason"] for row in rows} == {"invalid_utf8"}
    assert all("UTF-16" in row["detail"] and "to UTF-8" in row["detail"] for row in rows)


def test_a_line_with_a_zero_byte_is_broken_and_not_utf_16() -> None:
    (row,) = read(b'{"text": "a\0b"}\n')
    assert row["reason"] == "broken_json" and "control character" in row["detail"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("text", ["plain", "слово", "слово за словом", "כל מילה", "مرحبا", "λόγος"])
def test_utf_16_without_a_mark_is_no_text(encoding: str, text: str) -> None:
    (row,) = read(text.encode(encoding), SourceSpec(domain="d", source="s", format="text"), "a.txt")
    assert row["reason"] in ("binary_text", "invalid_utf8")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "text",
    ["N\bNA\bAM\bME\bE", "\x1b[1mB\x1b[0m", "\f\f\f1", "\t\t\t1\r\n", f"\1\2\3{'a' * 9}"],
)
def test_what_terminals_and_printers_read_is_text(encoding: str, text: str) -> None:
    spec = SourceSpec(domain="d", source="s", format="text")
    (row,) = read(text.encode(encoding), spec, "a.txt")
    assert row["text"].decode() == text


def parquet_of(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_a_map_column_is_an_object() -> None:
    tags = pa.map_(pa.string(), pa.string())
    numbers = pa.list_(pa.struct([("m", pa.map_(pa.int32(), pa.float64()))]))
    pairs = pa.list_(tags, 1)
    table = pa.table(
        {
            "text": ["a", "b", "c"],
            "tags": pa.array([[("lang", "en"), ("id", "x")], [("lang", "fr")], None], tags),
            "deep": pa.array([[{"m": [(1, 0.5)]}], [], None], numbers),
            "fixed": pa.array([[[("a", "b")]], None, None], pairs),
        }
    )
    spec = SourceSpec(
        domain="d",
        source="s",
        format="parquet",
        id="tags.id",
        meta=("tags", "tags.lang", "deep", "fixed"),
        where={"tags.lang": ("en",)},
    )
    rows = read(parquet_of(table), spec, "m.parquet")
    assert reasons(rows) == [(1, None), (2, "filtered"), (3, "filtered")]
    assert rows[0]["source_id"] == "x"
    assert json.loads(rows[0]["meta"]) == {
        "tags": {"lang": "en", "id": "x"},
        "tags.lang": "en",
        "deep": [{"m": {"1": 0.5}}],
        "fixed": [{"a": "b"}],
    }


def test_column_names_may_have_dots() -> None:
    inner = [{"b.c": "deep", "d": "x"}]
    table = pa.table({"doc.text": ["a"], "doc": ["no object"], "a": inner, "a.b": [{"c": "near"}]})
    spec = SourceSpec(
        domain="d", source="s", format="parquet", text="doc.text", meta=("a.b.c", "a.d", "a.x")
    )
    assert spec.columns_in(table.column_names) == ["doc.text", "doc", "a", "a.b"]
    assert spec.missing_in(["doc", "a.b"]) == ["a.d", "a.x"]
    (row,) = read(parquet_of(table), spec, "m.parquet")
    assert row["text"] == b"a"
    assert json.loads(row["meta"]) == {"a.b.c": "near", "a.d": "x"}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("NaN", "NaN"),
        ("[1.5, -Infinity]", [1.5, "-Infinity"]),
        ('{"score": Infinity, "n": 1}', {"score": "Infinity", "n": 1}),
    ],
)
def test_meta_is_json_for_every_reader(value: str, kept: Any) -> None:
    """JSON has no NaN: a reader that is strict would make all fields of the row null."""
    line = f'{{"text": "a", "m": {value}, "id": 7}}\n'.encode()
    (row,) = read(line, SourceSpec(domain="d", source="s", meta=("m", "id")))

    def refuse(word: str) -> None:
        raise ValueError(word)

    assert json.loads(row["meta"], parse_constant=refuse) == {"m": kept, "id": 7}


def test_lookup_prefers_the_literal_name_and_never_runs_what_it_reads() -> None:
    assert lookup({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert lookup({"a": {"b": {"c": 3}}}, "a.b.c") == 3
    for odd in ("__import__('os').getcwd()", "{" * 1000, "{1: 2", "", "null", "{'b': [}"):
        assert lookup({"a": odd}, "a.b") is records.MISSING
    assert lookup({"a": [1]}, "a.b") is records.MISSING


@settings(deadline=None)
@given(st.text(), st.text(), st.text(), st.integers(0, 3), st.integers(0, 3))
def test_doc_ids_differ_wherever_the_fields_are_cut(
    source: str, name: str, text: str, i: int, j: int
) -> None:
    joined = (source + name + text).encode("utf-8", "replace").decode()
    one = (joined[:i], joined[i : i + j], joined[i + j :].encode())
    other = (joined[: i + 1], joined[i + 1 : i + 1 + j], joined[i + 1 + j :].encode())
    assert (doc_id(*one) == doc_id(*other)) == (one == other)


def test_a_record_without_an_id_to_go_by_is_named_by_file_and_row() -> None:
    spec = SourceSpec(domain="book", source="books", id="id")
    names = ["own", 7, None, "", True, ["x"], {"a": 1}, 1.5]
    rows = read(jsonl(*({"id": name, "text": "x"} for name in names), {"text": "x"}), spec)
    assert [row["source_id"] for row in rows[:2]] == ["own", "7"]
    assert [row["source_id"] for row in rows[2:]] == [f"memory.jsonl#{i}" for i in range(3, 10)]


def test_a_refused_record_keeps_its_own_id_and_prints_whatever_it_holds() -> None:
    spec = SourceSpec(domain="book", source="books", id="id", where={"lang": ("en", "null")})
    rows = read(
        jsonl(
            {"id": "a\ud800", "text": None, "lang": "en"},
            {"id": "b", "text": "x", "lang": "fr"},
            {"id": "c", "text": "x", "lang": None},
        ),
        spec,
    )
    assert [row["source_id"] for row in rows] == ["a\\ud800", "b", "c"]
    assert [row.get("reason") for row in rows] == ["null_text", "filtered", None]
    assert sum(batch.num_rows for batch in to_batches(rows)) == 3


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), max_size=40), st.booleans())
def test_batches_are_bounded_by_bytes_and_keep_the_order(sizes: list[int], of_meta: bool) -> None:
    """Of texts, or of meta, which may hold a page of HTML beside each."""
    field, byte = ("meta", "x") if of_meta else ("text", b"x")
    rows = [{"source_row": i, field: byte * n} for i, n in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BATCH_BYTES", 60)
        batches = list(to_batches(rows))
    assert [i for batch in batches for i in batch["source_row"].to_pylist()] == list(
        range(len(sizes))
    )
    assert all(sum(map(len, batch[field].to_pylist())) <= 60 for batch in batches)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("data/a.jsonl", "data/a.jsonl"),
        ("file:/a b.jsonl", "/a b.jsonl"),
        ("file:///a.jsonl", "/a.jsonl"),
        ("dbfs:/Volumes/c/s/v/a.gz", "/Volumes/c/s/v/a.gz"),
        ("dbfs:/other/a.gz", None),
        ("s3a://bucket/a.gz", None),
        ("abfss://c@account.dfs.core.windows.net/a", None),
        ("/odd/name:with.colon", "/odd/name:with.colon"),
    ],
)
def test_local_path(uri: str, path: str | None) -> None:
    assert storage.local_path(uri) == path


def test_a_file_that_cannot_be_opened_is_an_error_and_no_reject(tmp_path: Path) -> None:
    gone = Split(str(tmp_path / "gone.jsonl"), 0, 10, 10, 1, "gone")
    for format_ in sources.READERS:
        with pytest.raises(FileNotFoundError):
            list(sources.read(gone, SourceSpec(domain="d", source="s", format=format_)))


def test_items_without_a_record_are_refusals() -> None:
    row = to_row(Item(None, None, None, "broken_json", "d"), "u", "n", SPEC)
    assert (row["reason"], row["detail"], row["excerpt"]) == ("broken_json", "d", None)


# --- identity


def test_a_source_is_named_by_the_fields_that_decide_what_is_read() -> None:
    """The hash is recorded: a field that is new changes it only where it is set."""
    spec = SourceSpec(domain="book", source="books", where={"lang": ("en", "de")})
    assert spec.reading == "2273f4d4162737f5"
    decides: dict[str, Any] = {"format": "text", "text": "body", "id": "id", "meta": ("url",)}
    decides |= {"source": "tree", "where": {"lang": ("en",)}, "min_chars": 2, "max_bytes": 99}
    every = [replace(spec, **{name: value}) for name, value in decides.items()]
    assert len({other.reading for other in [spec, *every]}) == len(every) + 1
    beside: dict[str, Any] = {"domain": "code", "priority": 3, "tokenizer": "words"}
    beside |= {"min_tokens": 5, "max_tokens": 9}
    assert replace(spec, **beside, where={"lang": ("de", "en")}).reading == spec.reading
    assert {*decides, *beside} == {field.name for field in fields(SourceSpec)}
