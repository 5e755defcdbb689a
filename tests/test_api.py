"""`import longattn`: scores of texts, in pandas and as a Spark UDF, are the scorers' own."""

import os
import subprocess
import sys
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import longattn
from longattn.api import tasks_of
from longattn.udfs.errors import ConfigError, UserError
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.kinds.recurrence import Recurrence
from longattn.udfs.scorers.registry import load_scorer
from longattn.udfs.windows.spans import longattn_windows

WORDS = [f"w{i}" for i in range(50)]
SEAMS = r"window: seams finds nothing far in such a window \(64 .*\): take longer windows$"
HEAVY = ("torch", "transformers", "pyspark", "pandas", "numpy", "pyarrow", "tokenizers", "pydantic")


def text_of(count: int, seed: int = 0) -> str:
    """A text of `count` words, each one token of `words`."""
    return " ".join(np.random.default_rng(seed).choice(WORDS, count))


def words_in(file: Path) -> None:
    """A tokenizer of these words, as a file."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(file))


def own_score(words: list[str]) -> float:
    """DS of recurrence, of ids given here: the scorer sees only which words are equal."""
    numbers = {word: i for i, word in enumerate(dict.fromkeys(words))}
    scorer = load_scorer(ScorerSpec(scorer="recurrence"))
    (result,) = scorer.score([np.array([numbers[word] for word in words])])
    return result["ds"]


def fresh(code: str) -> str:
    """What a new Python prints."""
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def at_once(function: Any, *arguments: Any) -> Future[Any]:
    """What stands in for a pool's `submit`: nothing is started."""
    future: Future[Any] = Future()
    future.set_result(function(*arguments))
    return future


def ends(*_: Any) -> None:
    """What a process does that runs out of memory."""
    os._exit(1)


def test_importing_loads_nothing_heavy() -> None:
    loaded = f"import sys, longattn; print([m for m in {HEAVY} if m in sys.modules])"
    assert fresh(loaded) == "[]"


def test_a_scorer_without_a_model_needs_no_torch() -> None:
    """Nor transformers, Spark or tokenizers: what `pip install longattn-spark` need not bring."""
    code = (
        "import sys; blocked = ('torch', 'transformers', 'pyspark', 'tokenizers')\n"
        "sys.modules.update(dict.fromkeys(blocked))\n"
        "import longattn; t = longattn.score(['a b ' * 50], 'recurrence', window=64)\n"
        "print(t.ds.notna().sum())"
    )
    assert fresh(code) == "2"


@pytest.mark.parametrize(
    ("call", "extra"),
    [
        ("longattn.spark.score_udf()", "spark,java"),
        ("longattn.run({'sources': {'a': [{'path': 'b'}]}})", "spark,java"),
        ("longattn.Candidates({})", "spark,java"),
    ],
)
def test_what_is_not_installed_is_named_with_its_extra(call: str, extra: str) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'transformers', 'pyspark')))\n"
        "import longattn; from longattn.udfs.errors import ConfigError\n"
        f"try: {call}\nexcept ConfigError as error: print(error)"
    )
    assert fresh(code).endswith(f"is not installed here: pip install 'longattn-spark[{extra}]'")


def test_names_are_as_listed() -> None:
    assert set(longattn.__all__) == set(dir(longattn))
    assert all(getattr(longattn, name) for name in longattn.__all__)
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        longattn.scores  # noqa: B018


class TestScore:
    def test_windows_are_those_of_the_job_and_scores_those_of_the_scorer(self) -> None:
        text = text_of(150)
        table = longattn.score([text], "recurrence", window=64)
        spans = longattn_windows(150, 64)
        words = text.split()
        assert table["ds"].tolist() == [own_score(words[a:b]) for a, b in spans]
        assert table["window"].tolist() == list(range(len(spans)))
        for row, (a, b) in zip(table.itertuples(), spans, strict=True):
            assert text[row.start_char : row.end_char].split() == words[a:b]
            assert (row.n_tokens, row.k) == (64, 16)

    def test_a_short_text_says_why_it_has_no_score(self) -> None:
        missing = [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT]
        table = longattn.score(["too short", text_of(64), *missing], "recurrence", window=64)
        assert table["reason"].tolist() == ["too_short", None, *["null_text"] * 5]
        assert table["detail"][0] == "2 tokens; a window has 64"
        assert table["ds"].notna().tolist() == [False, True, *[False] * 5]

    def test_a_lone_surrogate_is_no_text_to_any_tokenizer(self, tmp_path: Path) -> None:
        """As `ingest` refuses it: tokenizers raised a TypeError, and `words` gave it a score."""
        words_in(tmp_path / "mine.json")
        texts = [text_of(64), text_of(64) + " \ud800"]
        for tokenizer in ("words", str(tmp_path / "mine.json")):
            table = longattn.score(texts, "recurrence", window=64, tokenizer=tokenizer)
            assert table["reason"].tolist() == [None, "invalid_text"]
            assert table["detail"][1] == f"lone surrogate at character {len(texts[1]) - 1}"
            assert table["ds"].notna().tolist() == [True, False]

    def test_what_the_scorer_refuses_keeps_its_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuses_words(_: Recurrence, ids: Any) -> tuple[str, str] | None:
            return ("odd_words", "all of them") if ids.any() else None

        monkeypatch.setattr(Recurrence, "refusal", refuses_words)
        table = longattn.score([text_of(64)], "recurrence", window=64)
        assert table["reason"].tolist() == ["odd_words"]
        assert (table["start_char"][0], table["window"][0]) == (0, 0)

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.integers(0, 200), max_size=6))
    def test_the_index_leads_back_to_the_text(self, lengths: list[int]) -> None:
        texts = [text_of(n, seed) for seed, n in enumerate(lengths)]
        table = longattn.score(texts, "recurrence", window=40)
        rows = [i for i, n in enumerate(lengths) for _ in longattn_windows(n, 40) or [None]]
        assert table.index.tolist() == rows
        alone = [longattn.score([text], "recurrence", window=40) for text in texts]
        assert table["ds"].tolist() == pytest.approx(
            [ds for one in alone for ds in one["ds"]], nan_ok=True
        )

    def test_pandas_keeps_its_labels(self) -> None:
        series = pd.Series([text_of(64), "short"], index=["x", "y"])
        frame = series.to_frame("body")
        for found in (
            longattn.score(series, "recurrence", window=64),
            longattn.score(frame, "recurrence", window=64, column="body"),
        ):
            assert found.index.tolist() == ["x", "y"]
            assert found.index.name == "text"

    def test_hugging_face_datasets(self) -> None:
        datasets = pytest.importorskip("datasets")
        data = datasets.Dataset.from_dict({"id": [1, 2], "text": [text_of(64), "short"]})
        expected = longattn.score(data["text"], "recurrence", window=64)
        for given_ in (data, data.to_iterable_dataset()):
            pd.testing.assert_frame_equal(longattn.score(given_, "recurrence", window=64), expected)
        with pytest.raises(UserError, match="give those of one of train"):
            longattn.score(datasets.DatasetDict(train=data), "recurrence")
        rows = datasets.IterableDataset.from_generator(lambda: iter([{"text": text_of(64)}]))
        assert rows.column_names is None  # which a stream may not know before it is read
        assert longattn.score(rows, "recurrence", window=64)["ds"].notna().all()
        for given_ in (data, rows):
            with pytest.raises(UserError, match=r"no txt among the columns.*'text'"):
                longattn.score(given_, "recurrence", column="txt")

    def test_a_tokenizer_of_ones_own(self, tmp_path: Any) -> None:
        words_in(tmp_path / "mine.json")
        text = text_of(64)
        ours = longattn.score([text], "recurrence", window=64)
        theirs = longattn.score(
            [text], "recurrence", window=64, tokenizer=str(tmp_path / "mine.json")
        )
        assert ours["ds"].tolist() == theirs["ds"].tolist()  # the same words, by other numbers
        assert ours["tokenizer"][0] == "words@1"
        assert theirs["tokenizer"][0].startswith("mine@")

    @pytest.mark.parametrize("window", [256, 1024, 2048])
    def test_recall_says_which_k_a_short_window_needs(self, window: int) -> None:
        """Its own k of 1,024 tokens would make all of the window near, and every DS 0."""
        with pytest.raises(
            ConfigError, match=f"window: recall.*k is 1024.*say k={window // 8}, or"
        ):
            longattn.score(["a b"], window=window)
        fresh_words = " ".join(f"new{i}" for i in range(window // 2))
        repeats = " ".join(f"once{i}" for i in range(window // 4))
        text = f"{repeats} {fresh_words} {repeats}"
        table = longattn.score([text], window=window, k=window // 8)
        assert (table["k"][0], table["ds"][0] > 0) == (window // 8, True)

    def test_a_whole_text_in_which_nothing_is_far_is_refused(self) -> None:
        """Of 1,025 to 2,048 tokens recall judges none, and gave 0.0 as if it had."""
        texts = [text_of(n) for n in (1024, 1600, 2049)]
        table = longattn.score(texts, strategy="whole")
        assert table["reason"].tolist() == ["too_short", "too_short", None]
        assert table["detail"][1] == "1600 tokens; k is 1024, and the first 2048 gain nothing"
        assert table["ds"].isna().tolist() == [True, True, False]

    def test_a_checkpoint_is_made_into_a_scorer(self, tmp_path: Path) -> None:
        """As score-window does; the table looked for a scorer.json in it."""
        from longattn.udfs.models.build import build_scorer
        from tests.udfs.models import make_checkpoint

        words_in(tmp_path / "words.json")
        checkpoint = str(make_checkpoint(tmp_path / "tiny", "llama3"))
        build_scorer(checkpoint, str(tmp_path / "scorer"))
        own, made = (
            longattn.score(
                [text_of(64)],
                "longattn",
                window=64,
                model=model,
                tokenizer=str(tmp_path / "words.json"),
                device="cpu",
            )
            for model in (checkpoint, str(tmp_path / "scorer"))
        )
        assert own["ds"].notna().all()
        pd.testing.assert_frame_equal(own, made)

    def test_nothing_gives_an_empty_table(self) -> None:
        table = longattn.score([], "recurrence")
        assert (len(table), table["ds"].dtype) == (0, np.float64)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"scorer": "recurence"}, "unknown scorer recurence .did you mean 'recurrence'"),
            ({"scorer": "longattn"}, "longattn needs model="),
            ({"window": 4}, "window: a whole number of at least 8, got 4"),
            ({"window": 1 << 40}, "window: at most 1,048,576 tokens, got 1,099,511,627,776"),
            ({"scorer": None}, "scorer: expected a name, got None"),
            ({"scorer": ["recall", 3]}, "scorer: expected a name, got 3"),
            ({"strategy": None}, "strategy: unknown None"),
            ({"model": "data/scorer"}, "model: none is read by recurrence: name a scorer that"),
            ({"tokenizer": 3}, "tokenizer: expected a path or a hub id, got 3"),
            ({"dtype": "int8", "scorer": "longattn", "model": "x"}, "score.dtype: unknown int8"),
            ({"layers": "0"}, "layers: a whole number of at least 0, got '0'"),
            ({"layers": [[0, 1], [2]]}, r"layers: a whole number of at least 0, got \[0, 1\]"),
            ({"layers": []}, "layers: none named"),
            ({"background": 3}, "background: expected a folder, 'shipped' or 'none', got 3"),
            ({"options": [1]}, r"options: expected a dict of names and plain values, got \[1\]"),
            ({"options": "x"}, "options: expected a dict of names and plain values, got 'x'"),
            ({"options": {"a": [1]}}, "options: expected a dict of names and plain values"),
            ({"bos": "yes"}, "bos: True or False, got 'yes'"),
            ({"model": "", "scorer": "longattn"}, "model: expected a path or a hub id, got ''"),
            ({"tokenizer": ""}, "tokenizer: expected a path or a hub id, got ''"),
            ({"device": None}, "device: auto, cpu or cuda, got None"),
            ({"device": 3}, "device: auto, cpu or cuda, got 3"),
            ({"device": "gpu"}, "device: auto, cpu or cuda, got 'gpu'"),
            ({"variant": "papers"}, "variant: paper or code, got 'papers'"),
            ({"rope_theta": "x"}, "rope_theta: a finite number above 0, got 'x'"),
            ({"rope_theta": True}, "rope_theta: a finite number above 0, got True"),
            ({"rope_theta": -1}, "rope_theta: a finite number above 0, got -1"),
            ({"rope_theta": float("nan")}, "rope_theta: a finite number above 0, got nan"),
            ({"rope_theta": float("inf")}, "rope_theta: a finite number above 0, got inf"),
            ({"sample_keys": "x"}, "sample_keys: a whole number of at least 0, got 'x'"),
            ({"sample_keys": -1}, "sample_keys: a whole number of at least 0, got -1"),
            ({"pairs": None}, "pairs: a whole number of at least 1, got None"),
            ({"batch_tokens": None}, "batch_tokens: a whole number of at least 1, got None"),
            ({"seed": "1"}, "seed: a whole number, got '1'"),
            ({"scorer": "cross_gain"}, "scorer: cross_gain is of packed windows"),
            ({"scorer": "seams", "window": 64}, SEAMS),
            ({"scorer": ["random", "seams"], "window": 64}, SEAMS),
            ({"strategy": "tiles"}, "unknown tiles .did you mean 'tile'"),
            ({"sed": 1}, "unknown setting sed .did you mean 'seed'"),
            ({"tokenizer": "/nowhere"}, "/nowhere: no such file"),
        ],
    )
    def test_wrong_arguments_are_one_line(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message) as refused:
            longattn.score(["a b"], **{"scorer": "recurrence", **arguments})
        assert "\n" not in str(refused.value)

    def test_what_holds_no_strings_is_named(self) -> None:
        with pytest.raises(UserError, match="text 1: expected a string, got int"):
            longattn.score(["a", 3], "recurrence")
        with pytest.raises(UserError, match="text 0: expected a string, got Timestamp"):
            longattn.score([pd.Timestamp("2026-01-01")], "recurrence")
        with open(__file__) as stream:
            for texts in (3, b"text", np.array("text"), np.array([["a", "b"]]), stream):
                with pytest.raises(UserError, match=f"expected texts, got {type(texts).__name__}"):
                    longattn.score(texts, "recurrence")
        with pytest.raises(UserError, match="give those of one of 1, two"):
            longattn.score({1: ["a"], "two": ["b"]}, "recurrence")
        twice = pd.DataFrame([["a", "b"]], columns=["text", "text"])
        with pytest.raises(UserError, match="column: 2 columns are called text"):
            longattn.score(twice, "recurrence")


def test_texts_compared_under_one_label_are_told_apart() -> None:
    """As pandas' concat leaves labels: what a window begins with is of its own text."""
    texts = [text_of(100, seed) for seed in range(6)]
    compared = longattn.compare(
        pd.Series(texts, index=["x"] * 6), ["recurrence", "random"], window=100, differ=6
    )
    assert set(compared.differ["text"]) == {"x"}
    assert set(compared.differ["begins"]) == {text[:160].strip() for text in texts}
    with pytest.raises(UserError, match="text 'x': expected a string, got int"):
        longattn.compare(pd.Series([3], index=["x"]), ["recurrence"], window=100)


def test_a_comparison_ends_with_the_text_that_fills_it() -> None:
    """Texts are read four at a time, and each of these has two windows."""
    texts = [text_of(200, seed) for seed in range(20)]
    for windows, scored in ((1, 8), (8, 8), (9, 16), (24, 24), (99, 40)):
        compared = longattn.compare(texts, ["random", "recurrence"], window=100, windows=windows)
        assert len(compared.scores) == scored


def test_several_scorers_have_the_same_windows(tmp_path: Any) -> None:
    """A BOS takes a token's place in every window, whichever scorer asks for it."""
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="w0"))
    words.save(str(tmp_path / "tokenizer.json"))
    tasks = tasks_of(
        ["recurrence", "fargain"], 64, None, str(tmp_path), "longattn", {"bos": True, "k": 8}
    )
    assert [task.length for task in tasks] == [63, 63]
    assert [task.spec.bos for task in tasks] == [False, True]


@pytest.mark.spark
@pytest.mark.parametrize("scorer", ["recurrence", "compress"])
def test_the_udf_gives_what_score_gives(spark: Any, scorer: str) -> None:
    """`compress` has measures too."""
    from pyspark.sql import functions as F

    texts = [text_of(5000), None, "short", text_of(2048, seed=1)]
    frame = spark.createDataFrame(list(enumerate(texts)), "id int, text string").repartition(2)
    score = longattn.spark.score_udf(scorer, window=2048, k=1024)
    rows = frame.select("id", F.explode(score("text")).alias("s")).select("id", "s.*")
    found = rows.orderBy("id", "window").toPandas().set_index("id")
    expected = longattn.score(texts, scorer, window=2048, k=1024)
    assert (scorer == "compress") == (expected["measures"].map(bool).sum() > 0)
    columns = list(found.columns)
    assert columns == [c for c in expected.columns if c not in ("scorer", "tokenizer")]
    pd.testing.assert_frame_equal(
        found.astype(expected[columns].dtypes),
        expected[columns],
        check_index_type=False,
        check_names=False,
    )


@pytest.mark.parametrize(
    ("scorer", "said"),
    [
        ("nope", "unknown scorer nope"),
        (["recall", "cohesion"], "scorer: a udf has one, got 2: make a udf of each"),
    ],
)
def test_the_udf_checks_its_arguments_before_a_job_runs(scorer: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        longattn.spark.score_udf(scorer)


@pytest.mark.parametrize("config", [None, 3, [("window", {})]])
def test_what_is_no_config_is_named(config: Any) -> None:
    said = f"config: expected a path or a mapping, got {type(config).__name__}$"
    with pytest.raises(ConfigError, match=said):
        longattn.run(config)


@pytest.mark.parametrize("name", ["documnts", 3])
def test_a_table_that_there_is_not_is_named(name: Any) -> None:
    tables = SimpleNamespace(tables={"documents": None, "windows": None})
    context: Any = SimpleNamespace(fresh=lambda: tables)
    result = longattn.Result(config=longattn.etl.config.Config(), runs=[], context=context)
    for look in (result.table, result.pandas):
        with pytest.raises(UserError, match=f"table: there is no {name} .*documents"):
            look(name)


class TestSeveral:
    def test_several_scorers_give_what_each_gives(self) -> None:
        texts = [text_of(600), "short", text_of(300, seed=1)]
        both = longattn.score(texts, ["recurrence", "cohesion"], window=256, k=32)
        for name in ("recurrence", "cohesion"):
            alone = longattn.score(texts, name, window=256, k=32)
            mine = both[both["scorer"] == alone["scorer"].iloc[0]]
            pd.testing.assert_frame_equal(mine, alone)
        with pytest.raises(ConfigError, match="dtype: no such setting of recall, random"):
            longattn.score(texts, ["recall", "random"], window=256, dtype="float32")

    @pytest.mark.parametrize("workers", [2, np.int64(2)])
    def test_processes_change_nothing_but_time(self, workers: int, capsys: Any) -> None:
        texts = [text_of(70 + n, seed=n) for n in range(150)]
        many = longattn.score(iter(texts), "recurrence", window=64, workers=workers, progress=True)
        assert "150 texts" in capsys.readouterr().err
        pd.testing.assert_frame_equal(many, longattn.score(texts, "recurrence", window=64))

    @pytest.mark.parametrize(("texts", "started"), [(0, 1), (2, 1), (130, 3), (700, 5)])
    def test_no_more_processes_start_than_there_are_chunks(
        self, texts: int, started: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A million were asked for, and thousands started for two texts."""
        pool = SimpleNamespace(submit=at_once)
        asked: list[int] = []
        monkeypatch.setattr(
            "longattn.api._pool", lambda _, workers: asked.append(workers) or nullcontext(pool)
        )
        table = longattn.score(["a b"] * texts, "recurrence", window=64, workers=5)
        assert (asked, len(table)) == ([started], texts)

    def test_a_script_needs_no_guard_though_it_has_torch(self, tmp_path: Any) -> None:
        """Only where a scorer runs a model are processes started anew, which runs a script anew."""
        script = tmp_path / "mine.py"
        script.write_text(
            "import torch, longattn; print('once')\n"
            "t = longattn.score(['a b ' * 50] * 99, 'recurrence', window=64, workers=2)\n"
            "print(len(t))"
        )
        assert fresh(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')") == (
            "once\n198"
        )

    def test_processes_that_end_early_are_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("longattn.api._scored_elsewhere", ends)
        with pytest.raises(UserError, match=r"workers: a process ended before .* `if __name__"):
            longattn.score([text_of(64)], "recurrence", window=64, workers=2)

    def test_windows_under_one_label_begin_with_their_own_words(self) -> None:
        texts = pd.Series([f"{name} " + text_of(300, n) for n, name in enumerate("xy")], ["a", "a"])
        differ = longattn.compare(
            texts, ["recurrence", "random"], window=256, k=16, differ=9
        ).differ
        first = differ[differ["window"] == 0]["begins"].str[0]
        assert set(first) == {"x", "y"} and set(differ["text"]) == {"a"}

    def test_one_scorer_may_be_compared(self) -> None:
        assert list(longattn.compare([text_of(300)], "random", window=256).scores)[-1] == "random"
        for given_, said in (
            ({"windows": 0}, "windows: a whole number of at least 1, got 0"),
            ({"seed": 0.5}, "seed: a whole number, got 0.5"),
        ):
            with pytest.raises(ConfigError, match=said):
                longattn.compare([text_of(300)], "random", window=256, **given_)
        with pytest.raises(ConfigError, match=SEAMS):
            longattn.compare([text_of(300)], ["random", "seams"], window=64)

    def test_a_comparison_finds_where_scorers_part(self) -> None:
        """Recurrence against itself with other words agrees; against random it need not."""
        texts = pd.Series([text_of(400, seed) for seed in range(12)], index=list("abcdefghijkl"))
        found = longattn.compare(texts, ["recurrence", "cohesion", "random"], window=256, k=16)
        names = ["recurrence", "cohesion", "random"]
        alone = longattn.score(texts, "recurrence", window=256, k=16)
        assert sorted(found.scores["recurrence"]) == sorted(alone["ds"])
        ranks = found.scores[names].rank()
        expected = np.corrcoef(ranks["recurrence"], ranks["random"])[0, 1]
        assert found.agreement.loc["recurrence", "random"] == pytest.approx(expected)
        assert (found.cost > 0).all() and set(found.differ["scorer"]) == {"cohesion", "random"}
        worst = (ranks["recurrence"] - ranks["random"]).abs().idxmax()
        apart = found.differ[found.differ["scorer"] == "random"].iloc[0]
        assert (apart["text"], apart["window"]) == tuple(
            found.scores.loc[worst, ["text", "window"]]
        )
        assert texts[apart["text"]].startswith(apart["begins"].split()[0]) or apart["window"] > 0
        assert "rank correlations" in str(found) and len(found.scores) == 24


class TestInputs:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"k": -3}, "k: a whole number of at least 1, got -3"),
            ({"k": 0}, "k: a whole number of at least 1, got 0"),
            ({"k": 2.5}, "k: a whole number of at least 1, got 2.5"),
            ({"k": 64}, "k: 64 is not below window, 64: nothing is far"),
            ({"window": True}, "window: a whole number of at least 8, got True"),
            ({"workers": 0}, "workers: a whole number of at least 1, got 0"),
            ({"scorer": []}, "scorer: none named"),
        ],
    )
    def test_numbers_that_mean_nothing_are_refused(
        self, arguments: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            longattn.score(["a b"], **{"scorer": "recurrence", "window": 64, **arguments})

    def test_numbers_of_numpy_are_numbers(self) -> None:
        given = {"window": np.int64(64), "k": np.int32(8), "seed": np.int64(1)}
        table = longattn.score([text_of(64)], "random", **given)
        expected = longattn.score([text_of(64)], "random", window=64, k=8, seed=1)
        pd.testing.assert_frame_equal(table, expected)
        texts = [text_of(99, n) for n in range(9)]
        same, drawn = (
            longattn.compare(texts, "random", window=64, windows=1, seed=seed).scores
            for seed in (np.int64(3), 3)
        )
        pd.testing.assert_frame_equal(same, drawn)

    def test_labels_of_several_levels_lead_back(self) -> None:
        index = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])
        table = longattn.score(pd.Series([text_of(64), "x"], index=index), "random", window=64)
        assert table.index.tolist() == [("a", 1), ("b", 2)] and table.index.name == "text"

    def test_the_name_of_a_file_is_not_its_text(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "book.txt"
        file.write_text("once upon a time")
        (tmp_path / "docs").mkdir()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in (str(file), "book.txt", "~/book.txt"):
            with pytest.raises(UserError, match=r"is a file, and not its text: give open\("):
                longattn.score([name], "random", window=8)
        for name in (str(tmp_path), "/tmp", "./", "../", "docs/", "~/docs"):
            with pytest.raises(UserError, match=f"{name} is a folder, and not its text"):
                longattn.score(name, "random", window=8)
        texts = ["see book.txt", "docs", "/", "~", ".", "//", "/no/such", "~nobody", "a\n./"]
        assert set(longattn.score(texts, "random", window=8)["reason"]) == {"too_short"}
