"""Job windows on real tables: every document accounted for, once, whatever interrupts it."""

import json
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from longattn.etl.run.context import Context
from longattn.etl.tables.schema import DOCUMENTS, DUPLICATES
from longattn.etl.windows import job
from longattn.etl.windows.current import natural_windows
from longattn.etl.windows.pack import Order, group_counts, grouped, pack_documents
from longattn.udfs.errors import NothingLeft
from longattn.udfs.text.tokens import load_tokenizer
from longattn.udfs.windows.cut import PackSpec
from longattn.udfs.windows.spans import longattn_windows

pytestmark = pytest.mark.spark

LENGTH = 64
EOS = "<|endoftext|>"
WORDS = ["the", "of", "windows", "attention", "naïve", "😀", "x1", "=", "12345;\n", "\t\n", "我们"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer") / "Tiny"
    folder.mkdir()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(WORDS)], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": EOS}))
    return str(folder)


def texts(n: int, seed: int = 0) -> list[str]:
    """Texts from far below to several times the window's length."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 120))) for _ in range(n)]


def documents(context: Context, domain: str, contents: list[str], name: str = "d") -> list[str]:
    """Append documents; return their ids."""
    ids = [f"{name}-{domain}-{i}" for i in range(len(contents))]
    rows = [
        (doc_id, domain, domain, "file", 1, doc_id, 0, len(text), None, text)
        for doc_id, text in zip(ids, contents, strict=True)
    ]
    context.tables.append("documents", context.spark.createDataFrame(rows, DOCUMENTS.schema))
    return ids


def rows(context: Context, table: str) -> list[dict[str, Any]]:
    return [row.asDict(recursive=True) for row in context.tables[table].read().collect()]


Make = Callable[..., Context]


@pytest.fixture
def make(make_context: Make, tokenizer: str) -> Make:
    def with_tokenizer(**settings: Any) -> Context:
        window = {"length": LENGTH, **settings.pop("window", {})}
        return make_context(tokenizer=tokenizer, window=window, **settings)

    return with_tokenizer


def test_without_documents_it_says_what_to_run_first(make: Make) -> None:
    with pytest.raises(NothingLeft, match="no documents: run `longattn ingest`"):
        job.run(make())


def test_every_document_is_accounted_for_once(make: Make, tokenizer: str) -> None:
    pack = {"domains": ["wiki"], "strategy": "concat", "order": "similar", "verify": True}
    context = make(pack=pack, window={"min_tokens": {"web": 10_000, "wiki": 20}})
    contents = texts(20)
    book = documents(context, "book", contents)
    wiki = documents(context, "wiki", contents)
    documents(context, "web", contents[:5])
    row = (book[0], book[1], "near", 0.9, "book")
    context.tables.append("duplicates", context.spark.createDataFrame([row], DUPLICATES.schema))

    outcome = job.run(context)

    encode = load_tokenizer(tokenizer).encode
    sizes = [len(encode(text).ids) for text in contents]
    whole, short = sizes[1:], sum(n < LENGTH for n in sizes[1:]) + 5 + sum(n < 20 for n in sizes)
    assert outcome.balances
    assert (outcome.rows_in, outcome.refused) == (44, {"too_short": short})
    lengths, windows = rows(context, "lengths"), rows(context, "windows")
    assert len(lengths) == 44 and outcome.metrics["tokens"] == sum(w["n_tokens"] for w in lengths)
    wanted = {row["window_id"] for row in natural_windows(context).collect()}
    cut = [window for window in windows if window["window_id"] in wanted]
    assert len(cut) == sum(len(longattn_windows(n, LENGTH)) for n in whole)
    assert {w["domain"] for w in cut} == {"book"} and book[0] not in {w["doc_id"] for w in cut}
    assert {w["windowing"] for w in cut} == {context.recipe.windowing}
    packed = [window for window in windows if window["segments"]]
    assert {w["windowing"] for w in packed} == {context.recipe.packing}
    kept = {doc_id for doc_id, n in zip(wiki, sizes, strict=True) if n >= 20}
    assert {part["doc_id"] for w in packed for part in w["segments"]} == kept
    fill = sum(w["n_tokens"] for w in packed) / (len(packed) * LENGTH)
    assert outcome.metrics["packed_waste"] == pytest.approx(1 - fill)

    idle = job.run(context)
    assert (idle.rows_in, idle.rows_out, idle.metrics["windows"]) == (0, 0, 0)


def test_another_windowing_and_new_documents_live_beside_the_first(make: Make) -> None:
    context = make()
    documents(context, "book", texts(5))
    job.run(context)
    documents(context, "book", texts(5, seed=1), name="new")
    assert job.run(context).rows_in == 5
    shorter = make(window={"length": 32, "strategy": "truncate", "bos": True})
    assert job.run(shorter).rows_in == 10
    windows = rows(context, "windows")
    assert len({window["window_id"] for window in windows}) == len(windows)
    assert {window["n_tokens"] for window in windows} == {64, 31}  # one less: BOS is a token
    names = {window["windowing"].partition(":")[0] for window in windows}
    assert names == {"longattn-64", "truncate-32-bos"}


class Killed(Exception):
    pass


def test_a_run_killed_between_its_commits_is_taken_up(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make(pack={"domains": ["wiki"]})
    documents(context, "book", texts(10))
    documents(context, "wiki", texts(10))
    merge = type(context.tables).merge
    fates = iter([Killed, None, Killed, None])  # of each commit of lengths: book, book, wiki, wiki

    def dying(tables: Any, name: str, df: DataFrame, since: int | None = None) -> Any:
        if name == "lengths" and next(fates):
            raise Killed
        return merge(tables, name, df, since)

    monkeypatch.setattr(type(context.tables), "merge", dying)
    for _ in range(2):
        with pytest.raises(Killed):
            job.run(context)
    committed = [window["window_id"] for window in rows(context, "windows")]
    outcome = job.run(context)
    assert outcome.balances and outcome.rows_in == 10
    windows = [window["window_id"] for window in rows(context, "windows")]
    assert set(committed) <= set(windows) and len(set(windows)) == len(windows)
    assert len(rows(context, "lengths")) == 20


def test_two_runs_at_once_commit_every_window_and_length_once(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read the tables, and found the same documents, before either commits."""
    context = make(pack={"domains": ["wiki"]})
    contents = texts(6)
    documents(context, "book", contents)
    documents(context, "wiki", contents)
    both_have_read, cut = threading.Barrier(2), job.stage.cut_documents

    def read_and_wait(*arguments: Any) -> DataFrame:
        both_have_read.wait(timeout=120)
        return cut(*arguments)

    monkeypatch.setattr(job.stage, "cut_documents", read_and_wait)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda _: job.run(context.fresh()), range(2)))
    assert all(outcome.balances and outcome.rows_in == 12 for outcome in outcomes)
    found = [window["window_id"] for window in rows(context, "windows")]
    assert len(set(found)) == len(found) > 0
    assert len(rows(context, "lengths")) == 12


KINDS = [("concat", None), ("best_fit", None), ("concat", "similar")]


@pytest.mark.parametrize(("strategy", "name"), KINDS)
def test_packing_follows_from_documents_and_seed_not_from_partitions(
    spark: Any, strategy: str, name: str | None
) -> None:
    """Documents of ten share two tokens in a row."""
    documents = [(f"d{i}", "wiki", [i] * (i % 30 + 1), [i // 10]) for i in range(300)]
    ddl = "doc_id string, domain string, token_ids array<int>, sketch array<bigint>"
    frame = spark.createDataFrame(documents, ddl)

    def packed(partitions: int, seed: int = 0, n: int = 300) -> dict[str, str]:
        recipe = PackSpec(strategy=strategy, length=32, separator=-1, order=name)
        rows = frame.where(f"size(token_ids) > 0 and int(substr(doc_id, 2)) < {n}")
        order = Order(name=name, seed=seed)
        groups = grouped(rows.repartition(partitions), {"wiki": 3}, order, "w|-1")
        if name == "similar":
            homes = groups.selectExpr("int(substr(doc_id, 2)) div 10 AS kin", "packed_from")
            assert homes.distinct().count() == 30
        return {w.window_id: str(w.token_ids) for w in pack_documents(groups, recipe).collect()}

    assert packed(1) == packed(5) != packed(1, seed=1)
    one_less = packed(1, n=299)
    assert set(one_less) & set(packed(1)), "groups without the document are the same windows"
    assert set(one_less) != set(packed(1))


PLACES = "source_uri string, source_row bigint, meta string, imports array<string>"


@pytest.mark.parametrize(("name", "unit"), [("source", "file"), ("repository", "repo")])
def test_what_belongs_together_is_packed_in_its_order(spark: Any, name: str, unit: str) -> None:
    """Three files of records and a folder of files; repositories lie across them."""
    rows = [
        {
            "doc_id": f"d{(7 * n) % 60:02}",
            "file": f"file:/r{n % 3}.jsonl" if n < 45 else "file:/folder/",
            "uri": f"file:/r{n % 3}.jsonl" if n < 45 else f"file:/folder/{n}.py",
            "row": n // 3 if n < 45 else 1,
            "repo": f"repo{n % 4}",
        }
        for n in range(60)
    ]
    ddl = f"doc_id string, domain string, token_ids array<int>, {PLACES}"
    given = [
        (r["doc_id"], "code", [1] * 9, r["uri"], r["row"], json.dumps({"repo": r["repo"]}), [])
        for r in rows
    ]
    frame = spark.createDataFrame(given, ddl)
    order = Order(name=name, seed=0, repository="repo" if name == "repository" else None)
    groups = grouped(frame.repartition(5), {"code": 2}, order, "w|-1")
    recipe = PackSpec(strategy="concat", length=32, separator=-1, order=name)
    found = pack_documents(groups, recipe).orderBy("packed_from", "window_index").collect()
    by_group: dict[str, list[str]] = {}
    for window in found:
        starts = [s.doc_id for s in window.segments if s.start_token == 0]
        by_group.setdefault(window.packed_from, []).extend(starts)
    assert sorted(doc_id for ids in by_group.values() for doc_id in ids) == sorted(
        row["doc_id"] for row in rows
    )
    of = {row["doc_id"]: row for row in rows}
    for ids in by_group.values():
        assert ids == sorted(
            ids,
            key=lambda i: (of[i][unit], of[i]["uri"], -1 if of[i]["row"] is None else of[i]["row"]),
        )
    homes = {of[i][unit]: name for name, ids in by_group.items() for i in ids}
    assert all(homes[of[i][unit]] == name for name, ids in by_group.items() for i in ids)


def test_records_without_a_repository_are_divided_as_by_source(spark: Any) -> None:
    """By 4,096 in a row: all of a file would be one task's."""
    given = [
        ("file:/r.jsonl", 0, None, "file:/r.jsonl|0"),
        ("file:/r.jsonl", 4095, "{}", "file:/r.jsonl|0"),
        ("file:/r.jsonl", 4096, '{"path": "a"}', "file:/r.jsonl|1"),
        ("file:/r.jsonl", 4097, '{"repo": "mine"}', "mine"),
        ("s3a://b/large.jsonl", None, None, "d"),  # not numbered, so not all of one task
    ]
    ddl = "source_uri string, source_row bigint, meta string, expected string"
    unit = Order(name="repository", seed=0, repository="repo").unit()
    rows = spark.createDataFrame(given, ddl).withColumn("doc_id", F.lit("d"))
    found = rows.select("expected", unit.alias("unit")).collect()
    assert len(found) == len(given) and all(row["unit"] == row["expected"] for row in found)


def test_imports_come_before_what_imports_them(make: Make) -> None:
    pack = {"domains": ["code"], "strategy": "concat", "order": "repository"}
    context = make(pack={**pack, "repository": "repo", "path": "path"})
    texts = {"app.py": "from lib import tool", "lib/tool.py": "import os", "more.py": "x = 1"}
    rows_of = [
        (f"{repo}/{path}", "code", "code", "file", 1, path, 0, len(text), meta, text)
        for repo in ("one", "two")
        for path, text in texts.items()
        for meta in [json.dumps({"repo": repo, "path": path})]
    ]
    context.tables.append("documents", context.spark.createDataFrame(rows_of, DOCUMENTS.schema))
    assert job.run(context).balances
    windows = sorted(rows(context, "windows"), key=lambda window: window["window_index"])
    begun = [s["doc_id"] for w in windows for s in w["segments"] if s["start_token"] == 0]
    wanted = ["lib/tool.py", "app.py", "more.py"]
    assert begun == [f"{repo}/{path}" for repo in ("one", "two") for path in wanted]
    assert job.run(context).rows_in == 0


def test_groups_are_no_smaller_than_64_windows() -> None:
    """By 16,777,216 tokens; by 64 windows where those are more."""
    assert group_counts({"wiki": 100_000_000, "web": 10}, 1_000) == {"wiki": 6, "web": 1}
    assert group_counts({"wiki": 100_000_000}, 1_000_000) == {"wiki": 2}
