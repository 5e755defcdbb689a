"""Job windows on real tables: every document accounted for, once, whatever interrupts it."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyspark.sql import DataFrame
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from etl.jobs import windows as job
from etl.jobs.base import Context
from etl.names import packing, windowing
from etl.stages.pack import group_counts, pack_documents
from etl.tables.schema import DOCUMENTS, DUPLICATES
from udfs.tokenize import load_tokenizer
from udfs.windowing import PackSpec
from udfs.windows import longattn_windows

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
        window = {"length": LENGTH, "chunk_chars": 256, **settings.pop("window", {})}
        return make_context(tokenizer=tokenizer, window=window, **settings)

    return with_tokenizer


def test_windows_are_those_of_algorithm_1_on_one_go_s_tokens(make: Make, tokenizer: str) -> None:
    context, contents = make(), texts(40)
    ids = documents(context, "book", contents)
    outcome = job.run(context)
    encode = load_tokenizer(tokenizer).encode
    expected = {
        (doc_id, span.start): encode(text).ids[span.start : span.end]
        for doc_id, text in zip(ids, contents, strict=True)
        for span in longattn_windows(len(encode(text).ids), LENGTH)
    }
    found = rows(context, "windows")
    assert {(w["doc_id"], w["start_token"]): w["token_ids"] for w in found} == expected
    assert len(found) == len(expected) == outcome.metrics["windows"]


def test_a_window_s_characters_are_its_text(make: Make, tokenizer: str) -> None:
    context, contents = make(window={"strategy": "tile"}), texts(20)
    text_of = dict(zip(documents(context, "book", contents), contents, strict=True))
    job.run(context)
    decode = load_tokenizer(tokenizer).tokenizer.decode
    for doc_id, text in text_of.items():
        tiles = [window for window in rows(context, "windows") if window["doc_id"] == doc_id]
        tiles.sort(key=lambda window: window["window_index"])
        chars = [(tile["start_char"], tile["end_char"]) for tile in tiles]
        covered = "".join(text[start:end] for start, end in chars)
        assert text.startswith(covered), "disjoint tiles join up"
        tokens = [token for tile in tiles for token in tile["token_ids"]]
        assert decode(tokens).rstrip("\ufffd") == covered  # the last character may be cut


def test_ids_name_document_windowing_and_place(make: Make) -> None:
    context = make()
    documents(context, "book", texts(10))
    job.run(context)
    name = windowing(context.config)
    assert name.startswith("longattn-64:Tiny@")
    for window in rows(context, "windows"):
        key = f"{window['doc_id']}|{name}|{window['window_index']}"
        assert window["window_id"] == hashlib.sha256(key.encode()).hexdigest()[:32]
        assert window["windowing"] == name and name.endswith(window["tokenizer"])


def test_every_document_is_kept_or_refused_by_reason(make: Make, tokenizer: str) -> None:
    context, contents = make(window={"max_tokens": 120}), texts(40)
    documents(context, "book", contents)
    outcome = job.run(context)
    sizes = [len(load_tokenizer(tokenizer).encode(text).ids) for text in contents]
    assert outcome.balances and outcome.rows_in == 40
    assert outcome.refused == {
        "too_short": sum(size < LENGTH for size in sizes),
        "too_long": sum(size > 120 for size in sizes),
    }
    assert outcome.metrics["tokens"] == sum(sizes)
    assert sorted(row["n_tokens"] for row in rows(context, "lengths")) == sorted(sizes)


def test_limits_by_domain(make: Make) -> None:
    context = make(window={"min_tokens": {"book": 10_000}})
    documents(context, "book", texts(5))
    documents(context, "code", ["word " * 200])
    assert job.run(context).refused == {"too_short": 5}
    assert {row["domain"] for row in rows(context, "windows")} == {"code"}


def test_duplicates_get_no_windows_and_no_length(make: Make) -> None:
    context = make()
    removed, kept = documents(context, "book", ["one two " * 100, "one three " * 100])
    row = (removed, kept, "near", 0.9, "book")
    context.tables.append("duplicates", context.spark.createDataFrame([row], DUPLICATES.schema))
    assert job.run(context).rows_in == 1
    assert [length["doc_id"] for length in rows(context, "lengths")] == [kept]


def test_a_second_run_has_nothing_to_do_and_new_documents_are_added(make: Make) -> None:
    context = make()
    documents(context, "book", texts(10))
    job.run(context)
    before = rows(context, "windows")
    idle = job.run(context)
    assert (idle.rows_in, idle.rows_out, idle.metrics["windows"]) == (0, 0, 0)
    documents(context, "book", texts(5, seed=1), name="new")
    assert job.run(context).rows_in == 5
    after = rows(context, "windows")
    assert len({window["window_id"] for window in after}) == len(after)
    assert {w["window_id"] for w in before} < {w["window_id"] for w in after}


def test_another_windowing_lives_beside_the_first(make: Make) -> None:
    context = make()
    documents(context, "book", texts(10))
    job.run(context)
    other = make(window={"length": 32, "strategy": "truncate"})
    assert job.run(other).rows_in == 10
    windows = rows(context, "windows")
    assert {window["n_tokens"] for window in windows} == {64, 32}
    assert len({window["windowing"] for window in windows}) == 2


class Killed(Exception):
    pass


@pytest.mark.parametrize("pack", [[], ["book"]])
def test_a_run_killed_between_its_commits_is_taken_up(
    make: Make, monkeypatch: pytest.MonkeyPatch, pack: list[str]
) -> None:
    context = make(pack={"domains": pack})
    documents(context, "book", texts(10))
    append = type(context.tables).append

    def dying(tables: Any, name: str, df: DataFrame, txn: Any = None) -> Any:
        if name == "lengths":
            raise Killed
        return append(tables, name, df, txn)

    monkeypatch.setattr(type(context.tables), "append", dying)
    with pytest.raises(Killed):
        job.run(context)
    monkeypatch.undo()
    committed = rows(context, "windows")
    outcome = job.run(context)
    assert outcome.rows_in == 10 and outcome.balances
    assert sorted(w["window_id"] for w in rows(context, "windows")) == sorted(
        w["window_id"] for w in committed
    )
    assert len(rows(context, "lengths")) == 10


def test_bos_takes_one_token_of_each_window(make: Make) -> None:
    context = make(window={"bos": True})
    documents(context, "book", ["word " * 300])
    job.run(context)
    assert {window["n_tokens"] for window in rows(context, "windows")} == {LENGTH - 1}
    assert windowing(context.config).startswith("longattn-64-bos:")


@pytest.mark.parametrize("strategy", ["concat", "best_fit"])
def test_packing_keeps_every_token_and_every_boundary(
    make: Make, tokenizer: str, strategy: str
) -> None:
    context = make(pack={"domains": ["wiki"], "strategy": strategy})
    contents = texts(40)
    ids = documents(context, "wiki", contents)
    documents(context, "book", ["word " * 300])
    outcome = job.run(context)
    loaded = load_tokenizer(tokenizer)
    eos = loaded.tokenizer.token_to_id(EOS)
    whole = {i: [*loaded.encode(t).ids, eos] for i, t in zip(ids, contents, strict=True)}
    packed = [window for window in rows(context, "windows") if window["segments"]]
    seen: dict[str, set[int]] = {doc_id: set() for doc_id in ids}
    for window in packed:
        for doc_id, start, tokens in segments_of(window):
            assert tokens == whole[doc_id][start : start + len(tokens)]
            places = set(range(start, start + len(tokens)))
            assert not seen[doc_id] & places
            seen[doc_id] |= places
    assert all(set(range(len(whole[i]) - 1)) <= seen[i] for i in ids)
    assert all(w["doc_id"] is None and w["windowing"] == packing(context.config) for w in packed)
    fill = sum(window["n_tokens"] for window in packed) / (len(packed) * LENGTH)
    assert outcome.metrics["packed_waste"] == pytest.approx(1 - fill)
    assert outcome.balances and outcome.rows_in == 41 and outcome.refused == {}


def segments_of(window: dict[str, Any]) -> Iterator[tuple[str, int, list[int]]]:
    start = 0
    for segment in window["segments"]:
        end = start + segment["n_tokens"]
        yield segment["doc_id"], segment["start_token"], window["token_ids"][start:end]
        start = end
    assert start == window["n_tokens"] == len(window["token_ids"])


@pytest.mark.parametrize("strategy", ["concat", "best_fit"])
def test_packing_follows_from_documents_and_seed_not_from_partitions(
    spark: Any, strategy: str
) -> None:
    documents = [(f"d{i}", "wiki", [i] * (i % 30 + 1)) for i in range(300)]
    frame = spark.createDataFrame(documents, "doc_id string, domain string, token_ids array<int>")

    def packed(partitions: int, seed: int = 0) -> set[tuple[str, str]]:
        recipe = PackSpec(windowing="w", strategy=strategy, length=32, separator=-1, seed=seed)
        windows = pack_documents(frame.repartition(partitions), recipe, {"wiki": 3})
        return {(w.window_id, str(w.token_ids)) for w in windows.collect()}

    assert packed(1) == packed(5) != packed(1, seed=1)


def test_groups_are_no_smaller_than_64_windows() -> None:
    assert group_counts({"wiki": 1_000_000, "web": 10}, 1, 100) == {"wiki": 157, "web": 1}
    assert group_counts({"wiki": 1_000_000}, 500_000, 100) == {"wiki": 2}
