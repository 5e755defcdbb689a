"""Decontamination: windows by their own text, packed ones by their documents; then left out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longattn.etl.run.context import Context
from longattn.etl.run.show import contamination_words
from longattn.etl.scoring import job as score
from longattn.etl.selection import job as select
from longattn.etl.tables.schema import DOCUMENTS
from longattn.etl.windows import decontaminate as stage
from longattn.etl.windows import evaluation
from longattn.etl.windows import job as windows
from longattn.udfs.errors import SourceError, TableError

pytestmark = pytest.mark.spark
QUESTION = "what is the capital of the old kingdom"
FILLER = " ".join(f"word{i}" for i in range(40))


def test_a_window_is_judged_by_its_own_text_and_a_packed_one_by_its_documents(spark: Any) -> None:
    questions = spark.createDataFrame([(QUESTION,), ("too short",)], "text string")
    text = f"{FILLER} What is THE capital, of the old kingdom? {FILLER} too short"
    documents = spark.createDataFrame([("d1", text), ("d2", FILLER)], "doc_id string, text string")
    at, end = text.index("What"), text.index("?")
    cut = [("w1", 0, at), ("w2", at - 9, end + 9), ("w3", at + 8, end), ("w4", end, len(text))]
    rows = [(w, "book", "d1", start, stop, None) for w, start, stop in cut]
    rows += [("p1", "web", None, None, None, [("d2", 0, 4), ("d1", 9, 1)])]
    rows += [("p2", "web", None, None, None, [("d2", 4, 8)])]
    names_ = "window_id string, domain string, doc_id string, start_char bigint, end_char bigint"
    segments = "segments array<struct<doc_id:string,start_token:bigint,n_tokens:int>>"
    frame = spark.createDataFrame(rows, f"{names_}, {segments}")
    words = spark.createDataFrame([(" ".join(FILLER.split()[2:10]),)], "text string")
    known = {
        "quiz": stage.evaluation_ngrams(questions, 8).ngrams,
        "filler": stage.evaluation_ngrams(words, 8).ngrams,
        "empty": stage.evaluation_ngrams(words.limit(0), 8).ngrams,
    }
    judged = stage.judged(frame, documents, known, 8).collect()
    assert len(judged) == len(rows) * len(known)
    hits = {
        name: {r["window_id"] for r in judged if r["evaluation"] == name and r["contaminated"]}
        for name in known
    }
    # both documents hold the filler; w2 and w3 are cut so that they hold none of these words
    assert hits == {"quiz": {"p1", "w2"}, "filler": {"w1", "w4", "p1", "p2"}, "empty": set()}


@pytest.fixture
def make(make_context: Callable[..., Context], tmp_path: Path) -> Callable[..., Context]:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    def with_evaluation(*paths: Path) -> Context:
        return make_context(
            tokenizer=str(tmp_path / "tokenizer.json"),
            sources={"book": []},
            ingest={"min_chars": 100},  # a limit of documents, which a question does not reach
            window={"length": 16, "strategy": "tile"},
            score={"scorer": "random"},
            select={"fraction": 1.0, "compare": [], "ablate_alpha": []},
            decontaminate={"sources": [{"path": str(p), "text": "q"} for p in paths], "ngram": 8},
        )

    return with_evaluation


def test_contaminated_windows_are_neither_scored_nor_selected(
    make: Callable[..., Context], tmp_path: Path
) -> None:
    files = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    files[0].write_text(json.dumps({"q": QUESTION}) + "\n")
    files[1].write_text(json.dumps({"q": " ".join(f"word{i}" for i in range(16, 24))}) + "\n")
    context = make(files[0])
    text = f"{' '.join(FILLER.split()[:36])} {QUESTION} {' '.join(FILLER.split()[:20])}"
    row = ("d1", "book", "book", "file", 1, "d1", 0, len(text), None, text)
    context.tables.append("documents", context.spark.createDataFrame([row], DOCUMENTS.schema))

    outcome = windows.run(context.fresh())
    assert outcome.balances and outcome.metrics["contaminated_windows"] == 1
    assert outcome.figures.contaminated == {"one": 1}
    scored = score.run(context.fresh())  # of four tiles the third holds the question
    assert (scored.rows_in, scored.rows_out, scored.refused) == (4, 3, {"contaminated": 1})
    assert scored.balances
    refused = context.tables["rejects"].read().where("reason = 'contaminated'").collect()
    assert [row["detail"].split(":")[0] for row in refused] == ["one"]
    assert select.run(context.fresh()).rows_in == 3

    more = make(*files)
    with pytest.raises(TableError, match="run `longattn windows`"):
        select.run(more.fresh())
    outcome = windows.run(more.fresh())
    assert outcome.metrics["contaminated_windows"] == 2
    assert contamination_words(outcome.figures.contaminated) == ", contaminated by one 1, two 1"
    assert score.run(more.fresh()).rows_in == 0  # one was scored before, the other is refused
    chosen = select.run(more.fresh())
    assert (chosen.rows_in, chosen.rows_out, chosen.refused["contaminated"]) == (3, 2, 1)
    assert chosen.balances
    assert select.run(context.fresh()).rows_in == 3


def test_a_run_lists_the_evaluation_sets_once(
    make: Callable[..., Context], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.jsonl").write_text(json.dumps({"q": QUESTION}) + "\n")
    context, listed = make(tmp_path / "one.jsonl"), []
    list_all = evaluation.list_all
    monkeypatch.setattr(evaluation, "list_all", lambda *a: listed.append(a) or list_all(*a))
    first, second = (evaluation.evaluations(context.fresh(same_run=True)) for _ in range(2))
    assert first == second and len(listed) == 1
    evaluation.evaluations(context.fresh())
    assert len(listed) == 2


def test_an_evaluation_that_is_not_there_is_refused_by_name(make: Callable[..., Context]) -> None:
    with pytest.raises(SourceError, match=r"sources.evaluation: .*nowhere"):
        windows.run(make(Path("/nowhere.jsonl")))
