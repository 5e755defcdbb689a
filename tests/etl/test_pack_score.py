"""Packed windows scored by cross gain, from files to exports; counting by hand and pandas agree."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from longattn.etl import config as config_module
from longattn.etl.after.provenance import trace
from longattn.etl.after.reading import SessionReader
from longattn.etl.after.status import status_of, status_of_logs
from longattn.etl.ranking.candidates import considered
from longattn.etl.report.build import build
from longattn.etl.report.job import gather
from longattn.etl.run.context import Context
from longattn.etl.run.jobs import run_job
from longattn.etl.selection.current import current_selection
from tests.conftest import context_for
from tests.udfs.test_recall import likelihood

pytestmark = pytest.mark.spark

LENGTH = 48
JOBS = ("ingest", "windows", "score", "select", "export")
WORDS = [f"w{n}" for n in range(300)]
CROSS = "cross_gain:n=6:strength=3:unseen=0.01"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Books; short texts, most of which have a phrase of one of three topics; a question."""
    folder, draw = tmp_path_factory.mktemp("packscore"), random.Random(1)
    phrases = [" ".join(draw.choices(WORDS, k=6)) for _ in range(3)]
    books = [" ".join(draw.choices(WORDS, k=100 + 9 * n)) for n in range(8)]
    short = [
        " ".join([*draw.choices(WORDS, k=6 + n % 9), phrases[n % 4] if n % 4 < 3 else "w1"])
        for n in range(60)
    ]
    question = " ".join(short[10].split()[:7])  # the words that no other text has
    for name, texts in {"book": books, "short": short, "eval": [question]}.items():
        rows = [json.dumps({"text": text}) for text in texts]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    vocabulary = {word: number for number, word in enumerate(["<eos>", "?", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def settings(folder: Path, **sections: Any) -> dict[str, Any]:
    return {
        "tables": {"root": str(folder / "tables")},
        "sources": {name: [{"path": str(folder / f"{name}.jsonl")}] for name in ("book", "short")},
        "tokenizer": str(folder / "tokenizer.json"),
        "window": {"length": LENGTH, "strategy": "tile"},
        "dedup": {"enabled": False},
        "score": {"scorer": "recall", "k": 8},
        "pack": {"domains": ["short"], "strategy": "concat", "separator": "<eos>", "score": True},
        "select": {"fraction": {"book": 0.5, "short": 0.3}, "compare": ["length"]},
        "export": {"parquet": {"path": str(folder / "parquet")}},
        "report": {"path": str(folder / "report.html"), "examples": 1},
    } | sections


def context_of(spark: Any, folder: Path, **sections: Any) -> Context:
    config = config_module.validate(settings(folder, **sections))
    return context_for(spark, config, folder / "tables")


@pytest.fixture(scope="module")
def context(spark: Any, folder: Path) -> Context:
    """All jobs have run."""
    context = context_of(spark, folder)
    for job in JOBS:
        run_job(job, context.fresh())
    return context.fresh()


def frame(rows: Any) -> pd.DataFrame:
    found: pd.DataFrame = rows.toPandas()
    return found


def share(of_all: float, n: int) -> int:
    """Rounded half up."""
    return int(of_all * n + 0.5)


def packed_scores(context: Context) -> pd.Series:
    """What counting token by token gives, by window."""
    windows = context.tables["windows"].read().where(f"windowing = '{context.recipe.packing}'")
    return pd.Series({row["window_id"]: cross_gain(row) for row in windows.collect()})


def cross_gain(row: Any) -> float:
    ids = list(row["token_ids"])
    sizes = [segment["n_tokens"] for segment in row["segments"]]
    starts = np.repeat(np.cumsum([0, *sizes])[:-1], sizes).tolist()
    whole = np.array([likelihood(ids, t, 0) for t in range(len(ids))])
    own = np.array([likelihood(ids, t, start) for t, start in enumerate(starts)])
    return float((whole * np.log(whole / own)).mean())


def test_packed_windows_have_the_score_that_counting_gives(context: Context) -> None:
    scores = frame(context.tables["scores"].read().where(f"scorer = '{CROSS}'"))
    found = scores.set_index("window_id")["ds"]
    pd.testing.assert_series_equal(
        found.sort_index(), packed_scores(context).sort_index(), check_names=False, rtol=1e-9
    )
    assert len(found) > 10 and found.nunique() > 10
    versions = frame(context.tables["scores"].read().groupBy("domain", "scorer").count())
    assert dict(zip(versions["domain"], versions["scorer"], strict=True)) == {
        "short": CROSS,
        "book": context.recipe.scorer.version,
    }


def test_the_best_of_them_are_selected(context: Context) -> None:
    expected = packed_scores(context)
    best = sorted(expected.index, key=lambda window: (-expected[window], window))
    chosen = frame(current_selection(context)[1].where("domain = 'short'")).sort_values("rank")
    assert chosen["window_id"].tolist() == best[: share(0.3, len(best))]
    np.testing.assert_allclose(chosen["score"], expected[chosen["window_id"]], rtol=1e-9)
    n = len(best)
    np.testing.assert_allclose(chosen["percentile"], 100 * (n - np.arange(len(chosen))) / n)
    run = context.tables["runs"].read().where("job = 'select'").first()
    n_books = considered(context).count()
    assert run["rows_in"] == n + n_books
    assert run["refused"]["below_cut"] == n - len(chosen) + n_books - share(0.5, n_books)


def test_exports_say_what_each_score_is_of(context: Context, folder: Path) -> None:
    files = (folder / "parquet").glob("*.parquet")
    samples = pd.concat(pq.read_table(file).to_pandas() for file in files)
    by_domain = samples.groupby("domain")["scorer"].unique().map(list)
    assert dict(by_domain) == {"short": [CROSS], "book": [context.recipe.scorer.version]}
    assert samples["score"].notna().all()
    manifest = json.loads((folder / "parquet" / "_manifest.json").read_text())
    assert manifest["packed_scorer"] == CROSS
    assert f"- scorer of packed windows: `{CROSS}`" in (folder / "parquet/README.md").read_text()


def test_the_manifest_says_from_how_far_back_the_gain_comes(context: Context, folder: Path) -> None:
    """Of books alone, by their tokens and copies; the card and the report have it as well."""
    scores = frame(context.tables["scores"].read().where(f"scorer != '{CROSS}'"))
    mix = frame(current_selection(context)[1].where("copies > 0 AND domain = 'book'"))
    both = mix.merge(scores[["window_id", "measures"]], on="window_id")
    weight = both["copies"] * both["n_tokens"]
    gains = {
        d: (both["measures"].map(lambda m, d=d: m[f"gain_from_{d}"]) * weight).sum()
        for d in (8, 16)
    }
    shares = {"8": 1.0, "16": round(gains[16] / (gains[8] + gains[16]), 4)}
    assert json.loads((folder / "parquet/_manifest.json").read_text())["far_gain"] == shares
    assert (
        f"farther: 100% from 8, {shares['16']:.0%} from 16."
        in (folder / "parquet/README.md").read_text()
    )
    figures = build(gather(context, considered(context)), []).key_figures
    said = (
        f"{shares['16']:.0%}",
        "of the far gain",
        "from 16 tokens back and farther",
    )
    assert said in figures


def test_the_report_and_trace_say_it_too(context: Context, folder: Path) -> None:
    chosen = frame(current_selection(context)[1].where("domain = 'short'"))
    facts = gather(context, considered(context))
    page = build(facts, [])
    n = len(packed_scores(context))
    assert "Packed windows by cross gain, what counts" in page.subtitle
    assert f"{len(chosen)} of {n} of short" in page.subtitle
    fates = facts.windows[facts.windows["domain"] == "short"].set_index("fate")["windows"]
    assert fates["below the cut"] == n - len(chosen) and fates.sum() == n
    reader = SessionReader(dict(context.tables), None)
    lines = trace(reader, context.config, chosen["window_id"].iloc[0])
    assert any(line.startswith("score      cross gain") for line in lines)
    assert any(", percentile 100.00," in line for line in lines)


def test_status_counts_what_is_not_scored_as_the_job_does(context: Context, folder: Path) -> None:
    """Windows of a group that was packed anew since are scored too, and then count no more."""
    assert pending(context) == {}
    more = folder / "more.jsonl"
    more.write_text(json.dumps({"text": "w1 w2 w3"}) + "\n")
    sources = settings(folder)["sources"]
    sources = sources | {"short": [*sources["short"], {"path": str(more)}]}
    pack = settings(folder)["pack"] | {"score": False, "strategy": "best_fit"}
    first = context_of(context.spark, folder, pack=pack)
    second = context_of(context.spark, folder, pack=pack, sources=sources)
    for other in (first, second):
        for job in ("ingest", "windows"):
            run_job(job, other.fresh())
    assert "score" not in pending(second)
    scored = context_of(context.spark, folder, pack=pack | {"score": True}, sources=sources)
    windows = scored.tables["windows"].read().where(f"windowing = '{scored.recipe.packing}'")
    assert windows.select("packed_from").distinct().count() == 2
    assert pending(scored)["score"] == {"rows": windows.count()}
    assert run_job("score", scored.fresh()).outcome.rows_out == windows.count()
    assert "score" not in pending(scored)


def pending(context: Context) -> dict[str, Any]:
    """What the logs say and the session too, but for what export and select have to do anew."""
    fresh = context.fresh()
    by_session = status_of(SessionReader(dict(fresh.tables), None), context.config).pending
    by_logs = status_of_logs(context.config)
    assert by_logs is not None and by_logs.pending == by_session
    return {
        job: of for job, of in by_session.items() if job in ("windows", "score") and "rows" in of
    }


def test_without_the_setting_all_of_them_are_taken_as_before(
    context: Context, folder: Path
) -> None:
    n = len(packed_scores(context))
    select = {"fraction": {"book": 0.5}}
    plain = context_of(
        context.spark, folder, pack=settings(folder)["pack"] | {"score": False}, select=select
    )
    run_job("select", plain.fresh())
    chosen = frame(current_selection(plain.fresh())[1].where("domain = 'short'"))
    assert len(chosen) == n and chosen["score"].isna().all() and chosen["percentile"].isna().all()


def test_a_random_arm_draws_from_packed_windows_too(context: Context, folder: Path) -> None:
    by = settings(folder)["select"] | {"by": "random"}
    arm = context_of(context.spark, folder, select=by)
    run_job("select", arm.fresh())
    chosen = frame(current_selection(arm.fresh())[1].where("domain = 'short'"))
    n = len(packed_scores(context))
    assert len(chosen) == share(0.3, n) and chosen["score"].between(0, 1).all()
    best = frame(current_selection(context)[1].where("domain = 'short'"))
    assert set(chosen["window_id"]) != set(best["window_id"])


def test_packed_windows_alone_are_scored_and_clean(context: Context, folder: Path) -> None:
    """Of a config whose domains are all packed; those with a question are refused."""
    sections = {
        "sources": {"short": settings(folder)["sources"]["short"]},
        "select": {"fraction": 0.5, "compare": []},
        "decontaminate": {"sources": [{"path": str(folder / "eval.jsonl")}], "ngram": 5},
        "export": {},
        "seed": 3,
    }
    alone = context_of(context.spark, folder, **sections)
    for job in ("ingest", "windows", "score", "select"):
        run_job(job, alone.fresh())
    alone = alone.fresh()
    windows = alone.tables["windows"].read().where(f"windowing = '{alone.recipe.packing}'")
    scores = alone.tables["scores"].read().join(windows.select("window_id"), "window_id")
    hits = windows.count() - scores.count()
    assert 0 < hits < windows.count() / 2
    runs = alone.tables["runs"].read().where("job = 'score'")
    run = runs.orderBy("started", ascending=False).first()
    assert run["refused"] == {"contaminated": hits} and run["rows_out"] == scores.count()
    assert current_selection(alone)[1].count() == share(0.5, scores.count())
    assert pending(alone) == {}


def test_lengths_rank_what_is_packed_apart(context: Context, folder: Path) -> None:
    sections = {"mix": {"buckets": {16: 0.5, 48: 0.5}}, "export": {}}
    several = context_of(context.spark, folder, **sections)
    for job in ("ingest", "windows", "score", "select"):
        run_job(job, several.fresh())
    chosen = frame(current_selection(several.fresh())[1].where("domain = 'short'"))
    mine = frame(current_selection(context)[1].where("domain = 'short'"))
    assert set(chosen["window_id"]) == set(mine["window_id"])
