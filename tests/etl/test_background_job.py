"""Counting a corpus: as one process counts it, whatever the partitions; recall then takes it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longattn.etl.run.context import Context
from longattn.etl.run.ledger import record
from longattn.etl.scoring import background
from longattn.etl.tables.schema import WINDOWS
from longattn.udfs.errors import NothingLeft
from longattn.udfs.scorers.background import Background
from longattn.udfs.text import counts
from longattn.udfs.text.tokens import tokenizer_name

pytestmark = pytest.mark.spark
LENGTH, KINDS, N_DOCUMENTS = 64, 40, 30


@pytest.fixture
def context(make_context: Callable[..., Context], tmp_path: Path) -> Context:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    tokenizer = str(tmp_path / "tokenizer.json")
    Tokenizer(WordLevel({"a": 0}, unk_token="a")).save(tokenizer)
    return make_context(tokenizer=tokenizer, window={"length": LENGTH}, score={"scorer": "recall"})


def fill(context: Context) -> list[list[np.ndarray[Any, Any]]]:
    """Two windows of each document; returns their tokens."""
    rng = np.random.default_rng(5)
    documents = [[rng.integers(0, KINDS, LENGTH) for _ in range(2)] for _ in range(N_DOCUMENTS)]
    rows = [
        {
            "window_id": f"w{number:02}{index}",
            "doc_id": f"d{number:02}",
            "domain": ("book", "code")[number % 2],
            "window_index": index,
            "n_tokens": LENGTH,
            "windowing": context.recipe.windowing,
            "token_ids": token_ids.tolist(),
        }
        for number, windows in enumerate(documents)
        for index, token_ids in enumerate(windows)
    ]
    context.tables.append("windows", context.spark.createDataFrame(rows, WINDOWS.schema))
    return documents


def test_it_is_what_one_process_counts(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = fill(context)
    monkeypatch.setattr(background, "TASK_TOKENS", 7 * LENGTH)
    monkeypatch.setattr(background, "SLICE_NGRAMS", 100)
    result = background.Result()
    count = partial(background.run, out=tmp_path / "all", most_tokens=10**9, result=result)
    run = record("background", context, count)
    assert run.outcome and run.outcome.rows_out == N_DOCUMENTS
    ngrams = counts.besides_one(counts.held_by(documents))
    expected = background.write_ngrams(
        tmp_path / "one",
        ngrams,
        documents=N_DOCUMENTS,
        tokenizer=tokenizer_name(context.config.tokenizer_path),
    )
    assert result.folder and result.folder.name == expected.name


def test_a_part_is_drawn_and_the_rarest_are_left_out(context: Context, tmp_path: Path) -> None:
    fill(context)
    result = background.Result()
    half = N_DOCUMENTS * LENGTH
    outcome = background.run(context, tmp_path, half, result, most=200)
    assert outcome.balances and 5 < outcome.rows_out < N_DOCUMENTS - 5
    assert KINDS <= outcome.metrics["ngrams"] <= 200 + KINDS
    assert result.folder and Background(result.folder).manifest.kinds == KINDS


def test_a_budget_that_draws_no_document_makes_no_background(
    context: Context, tmp_path: Path
) -> None:
    fill(context)
    with pytest.raises(NothingLeft, match="background: 1 of 3,840 tokens are too few: none of 30"):
        background.run(context, tmp_path / "out", 1, background.Result())
    assert not (tmp_path / "out").exists()


def test_there_must_be_windows(context: Context, tmp_path: Path) -> None:
    with pytest.raises(NothingLeft, match="run `longattn windows` first"):
        background.run(context, tmp_path, 10, background.Result())
