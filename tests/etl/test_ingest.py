"""Job ingest: every format of its true shape, bad input refused by name, nothing read twice."""

import gzip
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from deltalake import write_deltalake

from longattn.etl.ingest import job as ingest
from longattn.etl.ingest import reading, stage
from longattn.etl.ingest.current import current_documents, with_text
from longattn.etl.ingest.listing import list_files
from longattn.etl.ingest.remote_files import Folders, list_remote
from longattn.etl.ingest.sources import specs_of
from longattn.etl.ingest.spark_readers import read_with_spark
from longattn.etl.run.context import Context, Outcome, TableSet
from longattn.etl.run.staging import stale
from longattn.udfs.errors import ConfigError, NothingLeft, SourceError, UserError

pytestmark = pytest.mark.spark

Make = Callable[..., Context]


def write(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def jsonl(*records: Any) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def stack(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def ingest_all(context: Context) -> Outcome:
    outcome = ingest.run(context.fresh())
    assert outcome.balances
    return outcome


def texts(context: Context, domain: str) -> dict[str, str]:
    rows = context.tables.read("documents").where(f"domain = '{domain}'").collect()
    assert len({row.doc_id for row in rows}) == len(rows)
    assert all(row.n_chars == len(row.text) for row in rows)
    return {row.source_id: row.text for row in rows}


def refused(context: Context) -> dict[tuple[str, int | None], str]:
    rows = context.tables.read("rejects").collect()
    return {(os.path.basename(row.source_uri), row.source_row): row.reason for row in rows}


def test_all_formats_as_users_have_them(make_context: Make, tmp_path: Path) -> None:
    meta = {"arxiv_id": "1", "language": "en"}
    dolma = {"source": "s", "added": "2024-01-01", "created": "2023-01-01", "metadata": {"u": "v"}}
    write(
        tmp_path / "rp.jsonl",
        jsonl({"text": "a", "meta": meta}, {"text": "b", "meta": str(meta | {"arxiv_id": "2"})}),
    )
    write(tmp_path / "d/0.json.gz", gzip.compress(jsonl({"id": "g", "text": "c", **dolma})))
    zstd = zstandard.ZstdCompressor().compress(jsonl({"id": "z", "text": "d", **dolma}))
    write(tmp_path / "d/1.json.zst", zstd)
    stack(tmp_path / "stack.parquet", [{"content": "e", "max_stars_repo_path": "x.py", "id": "s"}])
    stack(tmp_path / "hf.parquet", [{"text": "f", "label": 1}])
    write(tmp_path / "tree/pkg/a b.py", b"g")
    write(tmp_path / "tree/c.txt", b"h")
    write(tmp_path / "la.txt", b'Code_0000001\t{"content": "i"}\n')
    table = pa.table({"key": [1, 2], "body": ["j", "k"], "lang": ["en", "fr"]})
    write_deltalake(tmp_path / "delta", table, partition_by=["lang"])

    at = lambda name, **more: [{"path": str(tmp_path / name), **more}]  # noqa: E731
    context = make_context(
        sources={
            "arxiv": at("rp.jsonl", id="meta.arxiv_id", meta=["meta.language"]),
            "dolma": at("d/*.json*", id="id", meta=["metadata"]),
            "stack": at("stack.parquet", format="parquet", text="content", id="id"),
            "hf": at("hf.parquet", format="parquet"),
            "tree": at("tree", format="text"),
            "published": at("la.txt", format="longattn"),
            "delta": at("delta", format="delta", text="body", id="key", where={"lang": ["fr"]}),
        }
    )
    outcome = ingest_all(context)
    assert texts(context, "arxiv") == {"1": "a", "2": "b"}
    assert texts(context, "dolma") == {"g": "c", "z": "d"}
    assert texts(context, "stack") == {"s": "e"}
    assert texts(context, "hf") == {"hf.parquet#1": "f"}
    assert texts(context, "tree") == {"pkg/a b.py": "g", "c.txt": "h"}
    assert texts(context, "published") == {"Code_0000001": "i"}
    assert texts(context, "delta") == {"2": "k"}
    assert outcome.refused == {"filtered": 1}
    assert (outcome.rows_in, outcome.metrics["files"]) == (11, 10)
    stored = context.tables.read("documents").where("domain = 'arxiv'").first()
    assert json.loads(stored.meta) == {"meta.language": "en"}
    files = {"files": 0, "refused_files": 0, "skipped_files": 10}
    assert ingest_all(context).metrics == files | {"bytes": 0, "not_in_sources": 0}


def current_sizes(context: Context) -> dict[str, list[int]]:
    """Words of the current documents of each domain."""
    rows = with_text(context, current_documents(context)).collect()
    sizes: dict[str, list[int]] = {}
    for row in rows:
        sizes.setdefault(row.domain, []).append(len(row.text.split()))
    return {domain: sorted(words) for domain, words in sizes.items()}


def test_documents_of_too_few_or_too_many_tokens_are_refused_before_dedup(
    make_context: Make, tmp_path: Path
) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    sizes = (1, 4, 5, 9, 10)
    write(tmp_path / "a.jsonl", jsonl(*({"text": " ".join(["word"] * n)} for n in sizes)))
    source = [{"path": str(tmp_path / "a.jsonl")}]
    context = make_context(
        tokenizer=str(tmp_path / "tokenizer.json"),
        sources={"book": source, "code": source, "web": source},
        ingest={"min_tokens": {"book": 5, "web": 4}, "max_tokens": {"web": 9}},
    )
    outcome = ingest_all(context)
    assert current_sizes(context) == {
        "book": [5, 9, 10],
        "web": [4, 5, 9],
        "code": [1, 4, 5, 9, 10],
    }
    assert outcome.refused == {"too_short": 3, "too_long": 1}
    rejected = context.tables.read("rejects").groupBy("domain", "reason").count().collect()
    expected = {("book", "too_short", 2), ("web", "too_short", 1), ("web", "too_long", 1)}
    assert {tuple(row) for row in rejected} == expected
    wider = make_context(
        tokenizer=str(tmp_path / "tokenizer.json"),
        sources={"book": source, "code": source, "web": source},
        ingest={"min_tokens": 4},
    )
    write(tmp_path / "a.jsonl", b"")  # limits are applied to what is known: no file is read again
    assert current_sizes(wider) == {domain: [4, 5, 9, 10] for domain in ("book", "web", "code")}


@pytest.mark.parametrize("dies_at", ["rejects", "lengths"])
def test_a_run_that_dies_while_it_measures_enters_what_is_too_short_later(
    make_context: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    """Lengths were there and rejects were not, and no later run looked at these documents."""
    write(tmp_path / "a.jsonl", jsonl({"text": "a b c d"}, {"text": "a"}))
    sources = {"book": [{"path": str(tmp_path / "a.jsonl")}]}
    context = make_context(sources=sources, tokenizer="words", ingest={"min_tokens": 2})
    merge = TableSet.merge

    def dying(self: Any, name: str, *arguments: Any) -> Any:
        if name == dies_at:
            raise KeyboardInterrupt
        return merge(self, name, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TableSet, "merge", dying)
        with pytest.raises(KeyboardInterrupt):
            ingest.run(context.fresh())
    ingest_all(context)
    assert [row["reason"] for row in context.tables.read("rejects").collect()] == ["too_short"]
    assert current_sizes(context) == {"book": [4]}


def test_bad_input_is_refused_with_file_and_line_and_the_run_goes_on(
    make_context: Make, tmp_path: Path
) -> None:
    good = {"text": "good"}
    lines = [b'{"text": "cut', b"\xff\xfe", b"[]", *map(bytes.strip, bad_texts())]
    write(tmp_path / "bad.jsonl", jsonl(good) + b"\n".join(lines) + b"\n" + jsonl({"text": "end"}))
    rng = random.Random(1)
    noise = [{"text": "".join(rng.choices("abcdefgh", k=2000))} for _ in range(100)]
    cut = gzip.compress(jsonl(*noise))[:-3000]
    write(tmp_path / "cut.jsonl.gz", cut)
    write(tmp_path / "not.parquet", b"this is not parquet")
    stack(tmp_path / "fine.parquet", [{"text": "fine"}, {"text": None}])
    context = make_context(
        sources={
            "lines": [{"path": str(tmp_path / "*.jsonl*")}],
            "tables": [{"path": str(tmp_path / "*.parquet"), "format": "parquet"}],
        }
    )
    outcome = ingest_all(context)
    found = refused(context)
    kept = len(texts(context, "lines")) - 2
    assert 50 < kept < 100
    assert found == {
        ("bad.jsonl", 2): "broken_json",
        ("bad.jsonl", 3): "invalid_utf8",
        ("bad.jsonl", 4): "not_an_object",
        ("bad.jsonl", 5): "missing_text",
        ("bad.jsonl", 6): "null_text",
        ("bad.jsonl", 7): "text_not_string",
        ("bad.jsonl", 8): "empty_text",
        ("cut.jsonl.gz", kept + 1): "truncated_file",
        ("not.parquet", 1): "corrupt_file",
        ("fine.parquet", 2): "null_text",
    }
    assert outcome.refused == Counter(found.values())
    assert outcome.rows_in == 2 + 7 + kept + 1 + 1 + 2
    files = context.tables.read("source_files").collect()
    assert sum(row.n_records for row in files) == outcome.rows_in

    again = ingest_all(context)
    assert (again.rows_in, again.metrics["files"]) == (0, 0)
    assert refused(context) == found


def bad_texts() -> list[bytes]:
    return [jsonl(record) for record in ({"x": 1}, {"text": None}, {"text": 3}, {"text": " \n"})]


def test_a_changed_file_adds_only_what_is_new(make_context: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    first = jsonl({"id": 1, "text": "one"}, {"id": 2, "text": None}, {"id": 3, "text": "three"})
    write(path, first)
    context = make_context(sources={"book": [{"path": str(path), "id": "id"}]})
    assert ingest_all(context).rows_out == 2
    write(path, first + jsonl({"id": 4, "text": "four"}, {"id": 4, "text": "four"}))
    outcome = ingest_all(context)
    assert (outcome.rows_in, outcome.rows_out) == (5, 1)
    assert outcome.refused == {"null_text": 1, "already_ingested": 2, "repeated": 1}
    assert texts(context, "book") == {"1": "one", "3": "three", "4": "four"}
    assert refused(context) == {("a.jsonl", 2): "null_text", ("a.jsonl", 5): "repeated"}


def test_finished_files_are_not_opened_again(
    make_context: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.jsonl", jsonl({"text": "a"}))
    context = make_context(sources={"book": [{"path": str(tmp_path / "*.jsonl")}]})
    ingest_all(context)
    before = {name: context.tables[name].version() for name in context.tables}
    monkeypatch.setattr(ingest, "read_all", None)
    assert ingest_all(context).rows_in == 0
    assert {name: context.tables[name].version() for name in context.tables} == before
    assert not list((tmp_path / "tables" / "_staging").glob("*"))


def test_what_killed_runs_left_is_removed_after_a_day(make_context: Make, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", jsonl({"text": "a"}))
    staging = tmp_path / "tables" / "_staging"
    for name, hours in (("old", 25), ("recent", 1)):
        (staging / name / "rows").mkdir(parents=True)
        when = time.time() - 3600 * hours
        os.utime(staging / name, (when, when))
    ingest_all(make_context(sources={"book": [{"path": str(tmp_path / "a.jsonl")}]}))
    assert [path.name for path in staging.iterdir()] == ["recent"]


def test_what_a_run_takes_along_meanwhile_is_not_stale(tmp_path: Path) -> None:
    """`vacuum` lists what is staged, and holds no root while it does."""
    (tmp_path / "_staging").mkdir()
    (tmp_path / "_staging" / "gone").symlink_to(tmp_path / "nothing")
    assert stale(str(tmp_path)) == []


@pytest.mark.parametrize("dies_at", ["documents", "origins", "source_files"])
def test_a_run_that_dies_between_appends_loses_and_doubles_nothing(
    make_context: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    records = [{"id": "1", "text": "a"}, {"text": None}, {"id": "2", "text": "b"}]
    write(tmp_path / "a.jsonl", jsonl(*records, records[0]))
    context = make_context(sources={"book": [{"path": str(tmp_path / "a.jsonl"), "id": "id"}]})

    def dying(write: Callable[..., Any]) -> Callable[..., Any]:
        def written(self: Any, name: str, *arguments: Any) -> Any:
            if name == dies_at:
                raise KeyboardInterrupt
            return write(self, name, *arguments)

        return written

    with monkeypatch.context() as patch:
        for how in ("append", "merge"):
            patch.setattr(TableSet, how, dying(getattr(TableSet, how)))
        with pytest.raises(KeyboardInterrupt):
            ingest.run(context.fresh())
    outcome = ingest_all(context)
    assert outcome.rows_in == 4
    assert texts(context, "book") == {"1": "a", "2": "b"}
    assert refused(context) == {("a.jsonl", 2): "null_text", ("a.jsonl", 4): "repeated"}
    assert context.tables.read("rejects").count() == 2
    assert context.tables.read("source_files").count() == 1


def test_rows_are_the_same_whatever_the_splits(
    make_context: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(3)
    records = [{"text": "x" * rng.randrange(1, 400) + f" {i}"} for i in range(120)]
    lines = [json.dumps(record).encode() for record in records]
    lines[7] = lines[60] = b""
    lines[40] = b"{broken"
    lines[80] = json.dumps({"text": "y" * 5000}).encode()  # longer than several splits
    write(tmp_path / "a.jsonl", b"\n".join(lines))
    rows = {}
    for split_bytes in (10**9, 1500):
        context = make_context(
            tables={"root": str(tmp_path / f"tables{split_bytes}")},
            sources={"book": [{"path": str(tmp_path / "a.jsonl")}]},
        )
        monkeypatch.setattr(reading, "SPLIT_BYTES", split_bytes)
        ingest_all(context)
        found = context.tables.read("documents").select("doc_id", "source_row", "n_chars")
        rows[split_bytes] = sorted(map(tuple, found.collect()))
        assert refused(context) == {("a.jsonl", 41): "broken_json"}
    assert rows[10**9] == rows[1500]
    expected = {i for i, line in enumerate(lines, 1) if line and i != 41}
    assert {row for _, row, _ in rows[10**9]} == expected


def test_what_is_wrong_with_a_source_is_said_before_any_work(
    make_context: Make, tmp_path: Path
) -> None:
    write(tmp_path / "a.jsonl", jsonl({"text": "a"}))
    parquet = stack(tmp_path / "b.parquet", [{"content": "x", "path": "y"}])
    fine = {"path": str(tmp_path / "a.jsonl")}

    def told(**book: Any) -> str:
        context = make_context(sources={"arxiv": [fine], "book": [{"format": "jsonl", **book}]})
        with pytest.raises(UserError) as caught:
            ingest.run(context)
        assert isinstance(caught.value, SourceError) and caught.value.exit_code == 2
        assert all(context.tables[name].version() is None for name in context.tables)
        return str(caught.value)

    gone = str(tmp_path / "gone" / "*.jsonl")
    assert "sources.book" in told(path=gone) and gone in told(path=gone)
    assert "No FileSystem" in told(path="nosuch://bucket/x")
    message = told(path=parquet, format="parquet", text="text")
    assert "'text'" in message and "content, path" in message and "b.parquet" in message
    assert "'lang'" in told(path=parquet, format="parquet", text="content", where={"lang": ["en"]})
    assert "include" in told(path=str(tmp_path), include=["*.txt"])
    assert "Delta" in told(path=str(tmp_path / "nothing"), format="delta", id="id")
    assert "set id" in told(path=str(tmp_path / "nothing"), format="delta")
    with pytest.raises(ConfigError, match="sources"):
        ingest.run(make_context())


def test_a_source_that_gives_nothing_fails_and_shows_a_record(
    make_context: Make, tmp_path: Path
) -> None:
    record = {"title": "T", "body": "a text", "lang": "en"}
    good = write(tmp_path / "good.jsonl", jsonl({"text": "a"}))
    other = write(tmp_path / "other.jsonl", jsonl(record, record))

    def told(**book: Any) -> str:
        sources = {"good": [{"path": good}], "book": [{"path": other, **book}]}
        context = make_context(sources=sources)
        with pytest.raises(NothingLeft) as caught:
            ingest.run(context)
        assert all(context.tables[name].version() is None for name in context.tables)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    said = told(text="bdy")
    assert "sources.book: all of its 2 records were refused: 2 missing_text" in said
    assert "other.jsonl, record 1: no field bdy (there are: title, body, lang)" in said
    assert '{"title": "T", "body": "a text"' in told(text="body", where={"lang": ["de"]})
    assert "no field language (there are:" in told(text="body", where={"language": ["en"]})
    assert "no record in its 1 files" in told(path=write(tmp_path / "blank.jsonl", b"\n\n"))
    assert "1 empty_file" in told(path=write(tmp_path / "empty.jsonl", b""))


def test_a_source_that_was_read_before_may_have_a_bad_day(
    make_context: Make, tmp_path: Path
) -> None:
    write(tmp_path / "in/a.jsonl", jsonl({"text": "a"}))
    context = make_context(sources={"book": [{"path": str(tmp_path / "in")}]})
    ingest_all(context)
    write(tmp_path / "in/b.jsonl", jsonl({"txt": "b"}))
    assert ingest_all(context).refused == {"missing_text": 1}


def test_files_refused_are_in_the_ledger_and_in_rejects_once(
    make_context: Make, tmp_path: Path
) -> None:
    write(tmp_path / "t/__init__.py", b"a")
    write(tmp_path / "t/_b [1]: 100%.py", b"b")
    write(tmp_path / "t/ü/日本.py", b"c")
    write(tmp_path / "t/empty.py", b"")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/t/b\xfccher.py")).write_bytes(b"d")
    (tmp_path / "t/gone.py").symlink_to("nowhere")
    (tmp_path / "t/loop").symlink_to(".")
    context = make_context(sources={"code": [{"path": str(tmp_path / "t"), "format": "text"}]})
    outcome = ingest_all(context)
    assert texts(context, "code") == {
        "__init__.py": "a",
        "_b [1]: 100%.py": "b",
        "ü/日本.py": "c",
        "b%FCcher.py": "d",
    }
    found = {("empty.py", None), ("gone.py", None), ("loop", None)}
    assert set(refused(context)) == found
    assert outcome.refused == {"empty_file": 1, "dangling_link": 1, "same_folder": 1}
    assert (outcome.metrics["files"], outcome.metrics["refused_files"]) == (7, 3)
    assert outcome.rows_in == 7

    again = ingest_all(context)
    assert (again.rows_in, again.metrics["skipped_files"]) == (0, 7)
    (tmp_path / "t/gone.py").unlink()
    write(tmp_path / "t/gone.py", b"there")
    assert ingest_all(context).rows_out == 1


def test_a_remote_listing_says_what_spark_hides(spark: Any, tmp_path: Path) -> None:
    """`file:` stands in for an object store: the listing is Hadoop's."""
    for name in ("a.jsonl", "_b.jsonl", "sub/c.jsonl", ".d/e.jsonl", "_SUCCESS", "_delta_log/0"):
        write(tmp_path / name, b"x")
    write(tmp_path / "empty.jsonl", b"")

    def reasons(path: str) -> dict[str, str | None]:
        found = list_remote(spark, f"file:{tmp_path}{path}", "book")
        assert all(file.uri == f"file:{tmp_path}/{file.name}" for file in found)
        return {file.name: file.refusal and file.refusal[0] for file in found}

    plain = {"a.jsonl": None, "_b.jsonl": "hidden_name", "empty.jsonl": "empty_file"}
    assert reasons("") == plain | {"sub/c.jsonl": None, ".d/e.jsonl": "hidden_name"}
    assert reasons("/*.jsonl") == plain
    with pytest.raises(SourceError, match="no such file or folder"):
        reasons("/gone/*")


@pytest.mark.parametrize("path", ["", "/t", "/t/*.parquet", "/t/day=*", "/t/day=*/*.parquet", "/*"])
def test_a_remote_listing_meets_the_tables_that_its_files_are_of(
    spark: Any, tmp_path: Path, path: str
) -> None:
    """`file:` stands in for an object store."""
    table = pa.table({"id": [1], "day": ["1"], "text": ["a"]})
    write_deltalake(tmp_path / "t", table, partition_by=["day"])
    stack(tmp_path / "t/a.parquet", [{"text": "a"}])
    stack(tmp_path / "plain/b.parquet", [{"text": "b"}])
    met = Folders(set(), set())
    found = list_remote(spark, f"file:{tmp_path}{path}", "book", met)
    assert met.tables == {f"file:{tmp_path}/t"}
    assert found and not any("_delta_log" in file.uri for file in found)
    list_remote(spark, f"file:{tmp_path}/plain/*.parquet", "book", plain := Folders(set(), set()))
    assert plain.tables == set()


def test_a_column_added_later_to_a_table_is_null_before(make_context: Make, tmp_path: Path) -> None:
    path = str(tmp_path / "delta")
    write_deltalake(path, pa.table({"id": ["1"], "text": ["a"]}))
    more = pa.table({"id": ["2"], "text": ["b"], "lang": ["en"]})
    write_deltalake(path, more, mode="append", schema_mode="merge")
    source = {"path": path, "format": "delta", "id": "id", "meta": ["lang"]}
    context = make_context(sources={"book": [source]})
    assert ingest_all(context).rows_out == 2
    rows = context.tables.read("documents").select("source_id", "meta").collect()
    assert {row.source_id: json.loads(row.meta)["lang"] for row in rows} == {"1": None, "2": "en"}


def test_a_shallow_clone_reads_the_files_of_another_table(
    make_context: Make, tmp_path: Path
) -> None:
    write_deltalake(tmp_path / "table", pa.table({"id": ["1"], "text": ["a"]}))
    (log,) = (tmp_path / "table/_delta_log").glob("*.json")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if "add" in line:
            line["add"]["path"] = f"file://{tmp_path}/table/{line['add']['path']}"
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write(tmp_path / "clone/_delta_log" / log.name, text.encode())
    source = {"path": str(tmp_path / "clone"), "format": "delta", "id": "id"}
    context = make_context(sources={"book": [source]})
    ingest_all(context)
    assert texts(context, "book") == {"1": "a"}


def test_a_column_twice_is_named(make_context: Make, tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["text", "x", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    source = {"path": str(tmp_path / "a.parquet"), "format": "parquet"}
    with pytest.raises(SourceError, match=r"column 'text' twice in .*a\.parquet"):
        ingest.run(make_context(sources={"book": [source]}))


def test_a_file_in_two_domains_and_twice_in_one(make_context: Make, tmp_path: Path) -> None:
    write(tmp_path / "x/a.jsonl", jsonl({"text": "a", "lang": "en"}, {"text": "b", "lang": "fr"}))
    write(tmp_path / "x/b.jsonl", jsonl({"text": "c", "lang": "en"}))
    folder = str(tmp_path / "x")
    context = make_context(
        sources={
            "english": [{"path": [folder, f"{folder}/a.jsonl"], "where": {"lang": ["en"]}}],
            "french": [{"path": folder, "where": {"lang": ["fr"]}, "exclude": ["b.*"]}],
        }
    )
    outcome = ingest_all(context)
    assert texts(context, "english") == {"a.jsonl#1": "a", "b.jsonl#1": "c"}
    assert texts(context, "french") == {"a.jsonl#2": "b"}
    assert outcome.refused == {"filtered": 2}
    assert context.tables.read("rejects").count() == 0


def test_a_big_compressed_file_is_named_with_the_way_out(
    make_context: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path / "a.jsonl.gz", gzip.compress(jsonl({"text": "a"})))
    path = str(tmp_path / "a.jsonl.gz")
    monkeypatch.setattr(ingest, "BIG_FILE_BYTES", 10)
    ingest_all(make_context(sources={"b": [{"path": path}]}))
    assert "a.jsonl.gz" in (said := capsys.readouterr().err) and "split it" in said


@pytest.mark.parametrize("whole_bytes", [1 << 20, 1])
def test_spark_readers_give_what_the_python_readers_give(
    make_context: Make, tmp_path: Path, whole_bytes: int
) -> None:
    lines = jsonl({"id": 1, "text": "a"}, {"text": None}) + b'\n\xff\n{"id": 2, "text": "b"}\n'
    write(tmp_path / "l/a [1].jsonl", lines)
    write(tmp_path / "l/b.jsonl.gz", gzip.compress(lines))
    write(tmp_path / "l/c.jsonl.zst", zstandard.ZstdCompressor().compress(lines))
    stack(tmp_path / "p/x y.parquet", [{"text": "c", "id": 1, "m": {"k": i}} for i in range(3)])
    write(tmp_path / "t/sub/d.txt", b"d")
    context = make_context(
        sources={
            "lines": [{"path": str(tmp_path / "l"), "id": "id"}],
            "rows": [{"path": str(tmp_path / "p"), "format": "parquet", "meta": ["m.k"]}],
            "files": [{"path": str(tmp_path / "t"), "format": "text"}],
        }
    )
    numbered = list(enumerate(specs_of(context.config)))
    specs = [spec for _, (spec, _) in numbered]
    for number, (spec, source) in numbered:
        files = list_files(context.spark, number, spec, source)
        splits = [(number, split) for f in files for split in stage.splits_of(f, spec, 1 << 20)]
        by_python = stage.read_splits(context.spark, stage.pack(splits, 1 << 20), specs)
        by_spark = read_with_spark(context.spark, files, spec, whole_bytes)
        numberless = spec.format == "jsonl" and whole_bytes == 1
        columns = [c for c in by_python.columns if not numberless or c != "source_row"]
        expected = {tuple(row) for row in by_python.select(*columns).collect()}
        found = {tuple(row) for row in by_spark.select(*columns).collect()}
        assert found == expected and expected


def test_a_line_of_64_megabytes_goes_through(make_context: Make, tmp_path: Path) -> None:
    text = "0123456789abcdef" * (1 << 22)
    write(tmp_path / "a.jsonl", jsonl({"text": "a"}, {"text": text}, {"text": "b"}))
    path = str(tmp_path / "a.jsonl")
    context = make_context(sources={"b": [{"path": path}]}, ingest={"max_bytes": 1 << 26})
    assert ingest_all(context).rows_out == 3
    lengths = context.tables.read("documents").selectExpr("n_chars", "length(text)").collect()
    assert sorted(map(tuple, lengths)) == [(1, 1), (1, 1), (1 << 26, 1 << 26)]
