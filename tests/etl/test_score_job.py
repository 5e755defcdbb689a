"""Job score: each pending window once, whatever happens between commits."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longattn.etl import config as config_module
from longattn.etl.run.context import Context
from longattn.etl.run.staging import staging
from longattn.etl.scoring import job as score
from longattn.etl.scoring.fresh import FreshCommits
from longattn.etl.selection import job as select
from longattn.etl.tables.schema import TABLES, WINDOWS
from longattn.udfs.errors import NothingLeft
from longattn.udfs.models.build import build_scorer
from longattn.udfs.scorers.registry import load_scorer
from tests.udfs.models import LENGTH, K, eager_statistics, make_checkpoint
from tests.udfs.models import windows as token_windows

pytestmark = pytest.mark.spark

MakeContext = Callable[..., Context]
WINDOW = 16


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    path = tmp_path_factory.mktemp("tok") / "tokenizer.json"
    Tokenizer(WordLevel({"a": 0}, unk_token="a")).save(str(path))
    return str(path)


@pytest.fixture
def context(make_context: MakeContext, tokenizer: str) -> Context:
    made = make_context(
        tokenizer=tokenizer,
        sources={"book": [], "code": []},
        window={"length": WINDOW},
        score={"scorer": "random", "commit": 4},
    )
    made.tables.append("windows", windows(made, range(10)))
    return made


def windows(context: Context, numbers: Any, domain: str = "book", windowing: str = "") -> Any:
    rows = [
        {
            "window_id": f"w{n:03}",
            "doc_id": f"d{n:03}",
            "domain": domain,
            "window_index": 0,
            "n_tokens": WINDOW,
            "windowing": windowing or context.recipe.windowing,
            "token_ids": [n] * WINDOW,
        }
        for n in numbers
    ]
    return context.spark.createDataFrame(rows, WINDOWS.schema)


def scored(context: Context) -> list[str]:
    return sorted(r["window_id"] for r in context.tables["scores"].read().collect())


def test_every_window_is_scored_once_and_a_second_run_does_nothing(context: Context) -> None:
    first = score.run(context.fresh())
    assert (first.rows_in, first.rows_out, first.metrics["commits"]) == (10, 10, 3)
    (spent,) = first.figures.scorers.values()
    assert spent.windows == 10 and spent.seconds > 0
    assert 0 < first.metrics["busy_share"] < 1
    again = score.run(context.fresh())
    assert (again.rows_in, again.rows_out) == (0, 0)
    assert scored(context) == [f"w{n:03}" for n in range(10)]


def test_only_new_windows_of_this_windowing_and_kept_documents_are_scored(context: Context) -> None:
    score.run(context.fresh())
    context.tables.append("windows", windows(context, [20], windowing="tile-16:other"))
    context.tables.append("windows", windows(context, [21, 22], domain="code"))
    lost = [("d021", "d001", "exact", 1.0, "code")]
    columns = context.tables["duplicates"].spec.schema
    context.tables.append("duplicates", context.spark.createDataFrame(lost, columns))
    assert score.run(context.fresh()).rows_in == 1
    assert scored(context) == [f"w{n:03}" for n in range(10)] + ["w022"]


def test_measures_are_stored_with_the_scores(
    make_context: MakeContext, tokenizer: str, tmp_path: Path
) -> None:
    model = str(make_checkpoint(tmp_path / "model", "llama3"))
    score_by = {"scorer": "fargain", "model": model, "device": "cpu"}
    settings = {"tokenizer": tokenizer, "sources": {"book": []}, "window": {"length": 16, "k": 4}}
    made = make_context(**settings, score=score_by)
    made.tables.append("windows", windows(made, range(3, 6)))
    assert score.run(made).rows_out == 3
    rows = made.tables["scores"].read().collect()
    scorer = load_scorer(made.recipe.spec())
    for row in rows:
        (expected,) = scorer.score([np.full(16, int(row["window_id"][1:]))])
        assert row["scorer"] == scorer.version and row["ds"] == pytest.approx(expected["ds"])
        assert row["measures"] == pytest.approx(expected["measures"], abs=1e-6)


def test_windows_of_another_tokenizer_are_named(context: Context, tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    Tokenizer(WordLevel({"b": 0}, unk_token="b")).save(str(tmp_path / "other.json"))
    settings = context.config.model_dump() | {"tokenizer": str(tmp_path / "other.json")}
    other = replace(context.fresh(), config=config_module.validate(settings))
    here = context.recipe.windowing
    with pytest.raises(NothingLeft, match=f"no windows of book, code by .*book by {here}"):
        score.run(other)
    # `windows` has run since, and no document was long enough
    row = dict.fromkeys(TABLES["lengths"].columns) | {"doc_id": "d", "domain": "book"}
    row |= {"windowing": other.recipe.windowing, "n_tokens": 5, "reason": "too_short"}
    made = context.spark.createDataFrame([row], TABLES["lengths"].schema)
    other.tables.append("lengths", made)
    with pytest.raises(NothingLeft, match=r"no document of book, code fills .* has 5: take"):
        score.run(other.fresh())


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ({"length": 256}, "no document of book fills a window of 256 tokens; the longest has 200:"),
        ({"length": 200, "bos": True, "max_tokens": 50}, "within window.min_tokens and .* 200 tok"),
        ({"length": 64, "min_tokens": {"book": 300}}, "no document of book that fills .* within"),
        ({"length": 256, "strategy": "whole", "min_tokens": 300}, "that fills a window is within"),
        ({"length": 64}, "no windows of book by .* run `longattn windows`"),
    ],
)
def test_why_documents_have_no_windows_is_said(
    make_context: MakeContext, tokenizer: str, window: dict[str, Any], said: str
) -> None:
    """The documents were measured: they are too short, or beyond the limits, or cut no longer."""
    sources = {"sources": {"book": []}, "score": {"scorer": "random"}}
    made = make_context(tokenizer=tokenizer, window=window, **sources)
    made.tables.append("windows", windows(made, [0], domain="code", windowing="tile-16:other"))
    row = dict.fromkeys(TABLES["lengths"].columns) | {"domain": "book"}
    row |= {"windowing": made.recipe.windowing}
    rows = [row | {"doc_id": f"d{n}", "n_tokens": n} for n in (100, 200)]
    lengths = made.spark.createDataFrame(rows, TABLES["lengths"].schema)
    made.tables.append("lengths", lengths)
    with pytest.raises(NothingLeft, match=said):
        score.run(made.fresh())


def test_two_runs_at_once_commit_a_window_once(context: Context) -> None:
    """Both saw the same windows pending, and cut them into batches of different sizes."""
    spec = context.recipe.spec()
    with staging(context, "score") as save:
        seen = score.pending(context.fresh(), spec, save)
        score.score_pending(context.fresh(), spec, seen)
        larger = context.config.score.model_copy(update={"commit": 3})
        config = context.config.model_copy(update={"score": larger})
        score.score_pending(replace(context.fresh(), config=config), spec, seen)
    assert scored(context) == [f"w{n:03}" for n in range(10)]


def test_a_run_that_finds_another_at_work_adds_what_is_left(context: Context) -> None:
    """Another run commits between two commits of this one: what it committed is left out."""
    spec, other = context.recipe.spec(), context.fresh()
    with staging(context, "score") as save:
        seen = score.pending(context.fresh(), spec, save)
        commits = FreshCommits(context.fresh(), "scores", seen.scores_version)
        rows = {n: statistics(context, range(n, n + 4)) for n in (0, 2, 6)}
        commits.commit(rows[0])
        other.tables.merge("scores", statistics(context, range(4, 8)))
        commits.commit(rows[6])
        commits.commit(rows[2])
    assert scored(context) == [f"w{n:03}" for n in range(10)]


def test_what_is_staged_lies_below_a_relative_root_and_goes(
    make_context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Java was started in another folder than the one that the process has changed to."""
    monkeypatch.chdir(tmp_path)
    context = make_context(tables={"root": "lake/tables"})
    with staging(context, "score") as save:
        assert save("rows", context.spark.range(3)).count() == 3
        (staged,) = (tmp_path / "lake" / "tables" / "_staging").iterdir()
    assert not staged.exists()


def statistics(context: Context, numbers: Any) -> Any:
    """Rows of `scores` that name these windows and hold nothing else."""
    rows = [{"window_id": f"w{n:03}", "domain": "book", "scorer": "s"} for n in numbers]
    return context.spark.createDataFrame(rows, context.tables["scores"].spec.schema)


@pytest.mark.slow
def test_kill_9_between_commits_loses_and_doubles_nothing(
    context: Context, tmp_path: Path, tokenizer: str
) -> None:
    """A process scores the windows and is killed after its first commit; a rerun ends the work."""
    code = f"""
        import os, signal
        from longattn.etl import config, console
        from longattn.etl.scoring import job as score
        settings = config.validate({context.config.model_dump()!r})
        commit = score._commit
        def die_after_the_first(*arguments):
            commit(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        score._commit = die_after_the_first
        score.run(console.open_context(settings, quiet=True))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert killed.returncode == -9, killed.stderr[-2000:]
    done = scored(context)
    assert 0 < len(done) < 10 and len(set(done)) == len(done)
    score.run(context.fresh())
    assert scored(context) == [f"w{n:03}" for n in range(10)]


@pytest.mark.slow
def test_layers_of_a_model_go_through_the_job_into_the_table(
    make_context: MakeContext, tokenizer: str, tmp_path: Path
) -> None:
    """`score.layers = [1, 0]`: the table holds what eager attention of the model says, in order."""
    checkpoint = make_checkpoint(tmp_path / "model", "llama3")
    build_scorer(str(checkpoint), str(tmp_path / "scorer"), [0, 1])
    token_ids = token_windows(6)
    settings = {"scorer": "longattn", "model": str(tmp_path / "scorer"), "layers": [1, 0]}
    settings |= {"device": "cpu", "commit": 4}
    context = scored_by(make_context, tokenizer, token_ids, settings)
    s1, s2 = eager_statistics(checkpoint, token_ids, (1, 0))
    rows = context.tables["scores"].read().orderBy("window_id").collect()
    np.testing.assert_allclose([row["head_s1"] for row in rows], s1, rtol=1e-4)
    np.testing.assert_allclose([row["head_s2"] for row in rows], s2, rtol=1e-4)
    np.testing.assert_allclose([row["ds"] for row in rows], s1.mean(1) / LENGTH, rtol=1e-4)
    assert {row["scorer"].split(":")[4] for row in rows} == {"L1,0"}


@pytest.mark.slow
def test_other_scorers_go_through_the_job_into_the_table(
    make_context: MakeContext, tokenizer: str, tmp_path: Path
) -> None:
    """Whatever partition and order: the scores are those of each scorer by itself."""
    checkpoint = make_checkpoint(tmp_path / "model", "llama3")
    token_ids = token_windows(5, 400)
    settings: dict[str, Any] = {"scorer": "cohesion", "model": str(checkpoint), "device": "cpu"}
    settings["also"] = {"prolong": {"pairs": 2}, "recurrence": {}}
    context = scored_by(make_context, tokenizer, token_ids, settings)
    assert {spec.scorer for spec in context.recipe.asked} == {"cohesion", "prolong", "recurrence"}
    scores = context.tables["scores"].read().orderBy("window_id").toPandas()
    for spec in context.recipe.asked:
        scorer = load_scorer(spec)
        found = scores.loc[scores["scorer"] == scorer.version, "ds"].tolist()
        assert found == pytest.approx([one["ds"] for one in scorer.score(token_ids)], rel=1e-5)


def scored_by(
    make_context: MakeContext, tokenizer: str, token_ids: list[Any], settings: dict[str, Any]
) -> Context:
    """A context whose windows hold these ids, after the score job has run on it."""
    context = make_context(
        tokenizer=tokenizer,
        sources={"book": []},
        window={"length": len(token_ids[0]), "k": K},
        score=settings,
    )
    rows = [
        {**row.asDict(), "n_tokens": len(ids), "token_ids": ids.tolist()}
        for row, ids in zip(
            windows(context, range(len(token_ids))).collect(), token_ids, strict=True
        )
    ]
    context.tables.append("windows", context.spark.createDataFrame(rows, WINDOWS.schema))
    outcome = score.run(context)
    asked = len(token_ids) * len(context.recipe.asked)
    assert (outcome.rows_in, outcome.rows_out) == (asked, asked)
    return context


def test_a_scorer_that_refused_all_windows_is_said_to_have(
    make_context: MakeContext, tokenizer: str
) -> None:
    """Who is told to run `longattn score` again would go round in a circle."""
    made = make_context(
        tokenizer=tokenizer,
        sources={"book": [], "code": []},
        window={"length": WINDOW},
        score={"scorer": "random", "also": {"cohesion": {"k": 8}}},
        select={"where": [{"scorer": "cohesion", "percentile": [0, 50]}]},
    )
    made.tables.append("windows", windows(made, range(3)))
    score.run(made.fresh())
    why = r"select: select\.where: cohesion:.* has refused every window .* too_short: 16 tokens in"
    with pytest.raises(NothingLeft, match=why):
        select.run(made.fresh())


def test_batches_under_way_are_waited_for_however_often_one_interrupts() -> None:
    """They may be committing: a thread that outlives the job would do so without a guard."""
    ended: list[int] = []
    asked: list[int] = []

    class Pool(ThreadPoolExecutor):
        def shutdown(self, *args: Any, **kwargs: Any) -> None:
            asked.append(1)
            if len(asked) < 3:
                raise KeyboardInterrupt
            super().shutdown(*args, **kwargs)

    pool = Pool(1)
    pool.submit(lambda: ended.append(time.sleep(0.2) or 1))
    score._end(pool)
    assert ended == [1] and len(asked) == 3
