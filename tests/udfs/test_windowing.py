"""Rows of windows, lengths and packed windows against the tokenizer used in one go."""

import hashlib
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from longattn.udfs.scorers.kinds.recall import cross_gain
from longattn.udfs.text.tokens import load_tokenizer
from longattn.udfs.windows import cut as windowing
from longattn.udfs.windows.cut import (
    CUT_SCHEMA,
    PACKED_SCHEMA,
    PackSpec,
    WindowSpec,
    count_batches,
    cut_batches,
    pack_table,
    window_id,
)
from longattn.udfs.windows.similar import Gain
from longattn.udfs.windows.spans import longattn_windows

LENGTH = 64
WORDS = ["the", "of", "windows", "naïve", "😀", "x1", "=", "12345;\n", "\t\n", "我们"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A byte-level BPE that knows few words, so that characters are split over tokens."""
    file: Path = tmp_path_factory.mktemp("Tiny") / "tokenizer.json"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([" ".join(WORDS)], trainer)
    tokenizer.save(str(file))
    return str(file)


@pytest.fixture
def spec(tokenizer: str) -> WindowSpec:
    return WindowSpec(
        windowing="w", tokenizer=tokenizer, length=LENGTH, strategy="longattn", chunk_chars=256
    )


def texts(n: int, seed: int = 0) -> dict[str, str]:
    """Texts from far below to many times the window's length, by doc_id."""
    draw = random.Random(seed)
    return {f"d{i}": " ".join(draw.choices(WORDS, k=draw.randint(1, 200))) for i in range(n)}


def cut(contents: dict[str, str], spec: WindowSpec) -> tuple[list[Any], list[Any]]:
    """Window rows and length rows of documents that arrive in two batches."""
    rows = [{"doc_id": doc_id, "domain": "book", "text": text} for doc_id, text in contents.items()]
    batches = [pa.RecordBatch.from_pylist(half) for half in (rows[::2], rows[1::2]) if half]
    out = pa.Table.from_batches(list(cut_batches(batches, spec)), CUT_SCHEMA).to_pylist()
    windows = [row for row in out if row["window_index"] is not None]
    return windows, [row for row in out if row["window_index"] is None]


def one_go(contents: dict[str, str], tokenizer: str) -> dict[str, list[int]]:
    encode = load_tokenizer(tokenizer).encode
    return {doc_id: encode(text).ids for doc_id, text in contents.items()}


def test_windows_are_algorithm_1_on_the_tokens_of_one_go(spec: WindowSpec) -> None:
    contents = texts(30)
    expected = [
        (doc_id, index, ids[span.start : span.end])
        for doc_id, ids in one_go(contents, spec.tokenizer).items()
        for index, span in enumerate(longattn_windows(len(ids), LENGTH))
    ]
    windows, _ = cut(contents, spec)
    found = [(w["doc_id"], w["window_index"], w["token_ids"]) for w in windows]
    assert sorted(found) == sorted(expected)


def test_each_document_has_one_length(spec: WindowSpec) -> None:
    contents = texts(30)
    windows, lengths = cut(contents, spec)
    sizes = {doc_id: len(ids) for doc_id, ids in one_go(contents, spec.tokenizer).items()}
    assert {row["doc_id"]: row["n_tokens"] for row in lengths} == sizes
    for row in lengths:
        assert row["n_windows"] == sum(w["doc_id"] == row["doc_id"] for w in windows)
        assert row["reason"] == ("too_short" if row["n_tokens"] < LENGTH else None)


def test_a_window_s_characters_are_its_text(spec: WindowSpec) -> None:
    contents = texts(30)
    decode = load_tokenizer(spec.tokenizer).tokenizer.decode
    for window in cut(contents, spec)[0]:
        text = contents[window["doc_id"]][window["start_char"] : window["end_char"]]
        decoded = decode(window["token_ids"])
        first_is_cut = decoded.startswith("\ufffd")  # then the text has the whole character
        assert decoded.strip("\ufffd") == text[first_is_cut:]


def test_tiles_texts_join_up(spec: WindowSpec) -> None:
    contents = texts(30)
    windows, _ = cut(contents, replace(spec, strategy="tile"))
    for doc_id, text in contents.items():
        spans = [(w["start_char"], w["end_char"]) for w in windows if w["doc_id"] == doc_id]
        assert text.startswith("".join(text[start:end] for start, end in spans))


def test_overlap_is_what_windows_share(spec: WindowSpec) -> None:
    windows, _ = cut({"d": "the " * 160}, spec)
    starts = [w["start_token"] for w in windows]
    assert [w["overlap_tokens"] for w in windows] == [
        0,
        *(LENGTH - (b - a) for a, b in pairwise(starts)),
    ]


def test_ids_name_document_windowing_and_place() -> None:
    assert window_id("d", "w", 3) == hashlib.sha256(b"d|w|3").hexdigest()[:32]


def test_a_document_shorter_than_a_window_has_none(spec: WindowSpec) -> None:
    assert [spec.refusal(n) for n in (LENGTH - 1, LENGTH)] == ["too_short", None]
    packed = replace(spec, strategy=None)
    assert [packed.refusal(n) for n in (0, 1)] == ["too_short", None]


def test_a_document_to_be_packed_keeps_its_tokens(spec: WindowSpec) -> None:
    contents = texts(10)
    windows, lengths = cut(contents, replace(spec, strategy=None))
    assert windows == []
    for row in lengths:
        assert row["token_ids"] == one_go(contents, spec.tokenizer)[row["doc_id"]]


def test_counts_are_those_of_the_cut(spec: WindowSpec) -> None:
    contents = texts(10)
    _, lengths = cut(contents, spec)
    rows = [{"doc_id": doc_id, "text": text} for doc_id, text in contents.items()]
    (counted,) = count_batches([pa.RecordBatch.from_pylist(rows)], spec.tokenizer)
    expected = {row["doc_id"]: (row["n_tokens"], row["soft_cuts"]) for row in lengths}
    assert {r["doc_id"]: (r["n_tokens"], r["soft_cuts"]) for r in counted.to_pylist()} == expected


def test_batches_are_bounded_by_bytes(spec: WindowSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windowing, "BATCH_BYTES", 4_000)
    batch = pa.RecordBatch.from_pylist([{"doc_id": "d", "domain": "x", "text": "word " * 4_000}])
    sizes = [out.num_rows for out in cut_batches([batch], spec)]
    assert len(sizes) > 10 and max(sizes) <= 8


@pytest.mark.parametrize("strategy", ["concat", "best_fit"])
def test_a_packed_window_s_segments_are_its_documents(strategy: str) -> None:
    documents = {f"d{i}": [i] * (i % 30 + 1) for i in range(100)}
    recipe = PackSpec(strategy=strategy, length=32, separator=-1)
    whole = {doc_id: [*ids, -1] for doc_id, ids in documents.items()}
    seen = dict.fromkeys(documents, 0)
    for window in packed(documents, recipe).to_pylist():
        start = 0
        for part in window["segments"]:
            end = start + part["n_tokens"]
            place = slice(part["start_token"], part["start_token"] + part["n_tokens"])
            assert window["token_ids"][start:end] == whole[part["doc_id"]][place]
            seen[part["doc_id"]] += part["n_tokens"]
            start = end
        assert start == window["n_tokens"] == len(window["token_ids"]) <= 32
    assert all(seen[doc_id] - len(ids) in (0, 1) for doc_id, ids in documents.items())


def test_packing_depends_on_the_places_and_not_on_the_order_of_arrival() -> None:
    documents = {f"d{i}": [i] * (i % 30 + 1) for i in range(100)}
    recipe = PackSpec(strategy="concat", length=32, separator=-1)
    backwards = dict(reversed(documents.items()))
    as_they_were = packed(backwards, recipe, places=list(range(99, -1, -1)))
    assert packed(documents, recipe).equals(as_they_were)
    assert not packed(documents, recipe).equals(packed(backwards, recipe))
    segments = [s for w in packed(documents, recipe).to_pylist() for s in w["segments"]]
    assert [s["doc_id"] for s in segments if not s["start_token"]] == list(documents)


@pytest.mark.parametrize("gain", [None, cross_gain], ids=["alike", "verified"])
def test_packing_by_likeness_does_not_depend_on_the_order_of_arrival(gain: Gain | None) -> None:
    rng = np.random.default_rng(0)
    drawn = {f"d{i}": (50 * (i % 5) + rng.integers(0, 50, 20)).tolist() for i in range(60)}
    recipe = PackSpec(strategy="concat", length=64, separator=-1, order="similar")
    backwards = dict(reversed(drawn.items()))
    whole = packed(drawn, recipe, gain=gain)
    assert whole.equals(packed(backwards, recipe, places=list(range(59, -1, -1)), gain=gain))
    plain = packed(drawn, PackSpec(strategy="concat", length=64, separator=-1))
    kinds = [
        [len({int(s["doc_id"][1:]) % 5 for s in w["segments"]}) for w in table.to_pylist()]
        for table in (whole, plain)
    ]
    assert np.mean(kinds[0]) < np.mean(kinds[1]) / 2


def packed(
    documents: dict[str, list[int]],
    recipe: PackSpec,
    places: list[int] | None = None,
    gain: Gain | None = None,
) -> pa.Table:
    table = pa.table(
        {
            "doc_id": list(documents),
            "domain": ["wiki"] * len(documents),
            "packed_from": ["group"] * len(documents),
            "place": places or list(range(len(documents))),
            "token_ids": pa.array(list(documents.values()), pa.list_(pa.int32())),
        }
    )
    out = pack_table(table, recipe, gain)
    assert out.schema == PACKED_SCHEMA
    return out
