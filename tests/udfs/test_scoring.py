"""Scoring inside a worker: order, refusals, memory, prefetch, JSON lines."""

import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from longattn.etl.tables.schema import SCORES
from longattn.udfs.errors import ConfigError
from longattn.udfs.models.build import build_scorer
from longattn.udfs.scorers import registry
from longattn.udfs.scorers import worker as scoring
from longattn.udfs.scorers.base import Score, ScorerSpec, TokenIds, default_k
from longattn.udfs.scorers.kinds.calibrated import Calibration
from longattn.udfs.scorers.lines import score_window_lines
from longattn.udfs.scorers.registry import Plugin, load_scorer, scorer_version
from longattn.udfs.scorers.worker import (
    COLUMNS,
    TIMES,
    Meter,
    prefetched,
    score_batches,
    score_windows,
)

VOCABULARY = 101


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scoring")
    config = AutoConfig.for_model(
        "llama",
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "model")
    build_scorer(str(folder / "model"), str(folder / "scorer"))
    return folder / "scorer"


def frame(*windows: list[int], first: int = 0) -> pd.DataFrame:
    ids = [f"w{first + i}" for i in range(len(windows))]
    return pd.DataFrame({"window_id": ids, "domain": "book", "token_ids": pd.Series(windows)})


def tokens(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCABULARY, length).tolist()


class Recorder:
    """A scorer without a model: notes its batches and runs out of memory above `room` tokens."""

    version = "recorder"

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.batches: list[list[int]] = []

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        return None if len(token_ids) else ("empty", "no tokens")

    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        self.batches.append([len(ids) for ids in token_ids])
        if sum(self.batches[-1]) > self.room:
            raise torch.cuda.OutOfMemoryError("out of memory\nat length")
        return [self._score_one(ids) for ids in token_ids]

    def _score_one(self, ids: TokenIds) -> Score:
        ds = float("nan") if ids[0] < 0 else float(ids.sum())
        statistics: dict[str, Any] = {"head_s1": [ds], "head_s2": [ds], "rows_sampled": len(ids)}
        errors = {"ds_se": 0.0, "du_se": 0.0}
        return Score(n_tokens=len(ids), k=1, ds=ds, du=0.0, **errors, **statistics)


def test_columns_are_those_of_the_scores_table() -> None:
    assert {*COLUMNS} - {"reason", "detail", *TIMES} == {*SCORES.columns} - {"scored_at"}


def test_rows_keep_their_order_ids_and_statistics(scorer: Path) -> None:
    spec = ScorerSpec(scorer="longattn", model=str(scorer), batch_tokens=100)
    windows = [tokens(40, 0), tokens(64, 1), tokens(40, 2), tokens(41, 3), tokens(40, 4)]
    frames = [frame(*windows[:4]), frame(windows[4], first=4)]
    scored = pd.concat(score_batches(iter(frames), spec))
    assert list(scored.columns) == list(COLUMNS)
    assert scored["window_id"].tolist() == ["w0", "w1", "w2", "w3", "w4"]
    assert set(scored["scorer"]) == {scorer_version(spec)} and scored["reason"].isna().all()
    alone = [load_scorer(spec).score([np.array(window)])[0] for window in windows]
    for column in ("ds", "du", "n_tokens", "k", "rows_sampled"):
        np.testing.assert_allclose(
            scored[column].astype(float), [score[column] for score in alone], rtol=1e-5
        )


def test_what_cannot_be_scored_has_a_reason_and_no_statistics(scorer: Path) -> None:
    spec = ScorerSpec(scorer="longattn", model=str(scorer))
    windows = [[], [1, 2, 3], [1, 2, VOCABULARY, 4], [-1, 2, 3, 4], tokens(32)]
    (scored,) = score_batches(iter([frame(*windows)]), spec)
    reasons = ["empty", "too_short", "bad_token_id", "bad_token_id", None]
    assert scored["reason"].where(scored["reason"].notna(), None).tolist() == reasons
    refused = scored[:4]
    assert refused["detail"].notna().all()
    others = {"window_id", "domain", "scorer", "measures", "reason", "detail", *TIMES}
    statistics = [c for c in COLUMNS if c not in others]
    assert refused[statistics].isna().all(axis=None) and scored[statistics][4:].notna().all(
        axis=None
    )


def test_a_result_that_is_no_number_is_refused() -> None:
    results = score_windows([np.array([-1, 2]), np.array([1, 2])], Recorder(), 100, Meter())
    assert results[0][0] == "not_finite" and results[1]["ds"] == 3.0  # type: ignore[index,call-overload]


def test_a_measure_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    (score,) = recorder.score([np.array([1, 2])])
    odd: Score = {**score, "measures": {"gain": 1.0, "loss": float("nan")}}
    monkeypatch.setattr(recorder, "score", lambda windows: [odd for _ in windows])
    results = score_windows([np.array([1, 2])], recorder, 100, Meter())
    assert results == [("not_finite", "loss nan: try a wider dtype")]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 40), st.integers(3, 30))
def test_batches_hold_one_length_and_their_tokens(
    lengths: list[int], batch_tokens: int, room: int
) -> None:
    windows = [np.full(length, i) for i, length in enumerate(lengths)]
    recorder = Recorder(room)
    results = score_windows(windows, recorder, batch_tokens, Meter())
    for i, (length, result) in enumerate(zip(lengths, results, strict=True)):
        if length == 0:
            assert result[0] == "empty"  # type: ignore[index,call-overload]
        elif length > room:
            assert result[0] == "out_of_memory"  # type: ignore[index,call-overload]
        else:
            assert result["ds"] == i * length  # type: ignore[index,call-overload]
    for batch in recorder.batches:
        assert len(set(batch)) == 1 and (len(batch) == 1 or sum(batch) <= batch_tokens)


def test_an_empty_window_that_a_plugin_scores_is_a_batch() -> None:
    class Measure(Recorder):
        def refusal(self, token_ids: TokenIds) -> None:
            return None

        def _score_one(self, ids: TokenIds) -> Score:
            return super()._score_one(np.append(ids, 7))

    found = score_windows([np.array([], int), np.array([1])], Measure(), 60, Meter())
    assert [result["ds"] for result in found] == [7.0, 8.0]  # type: ignore[index,call-overload]


def test_out_of_memory_halves_the_batch_and_goes_on() -> None:
    recorder, windows = Recorder(room=25), [np.full(10, i) for i in range(6)]
    results = score_windows(windows, recorder, 60, Meter())
    assert [result["ds"] for result in results] == [10.0 * i for i in range(6)]  # type: ignore[index,call-overload]
    assert [len(batch) for batch in recorder.batches] == [6, 3, 1, 2, 3, 1, 2]


def test_the_model_is_loaded_once_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[ScorerSpec] = []
    monkeypatch.setattr(scoring, "load_scorer", lambda spec: loads.append(spec) or Recorder())
    spec = ScorerSpec(scorer="longattn", seed=123)
    for _ in range(3):
        list(score_batches(iter([frame([1, 2])]), spec))
    list(score_batches(iter([frame([1, 2])]), spec, gpu_address="3"))
    assert [spec.device for spec in loads] == ["auto", "cuda:3"]


def test_a_scorer_whose_files_change_is_loaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a background and of a calibration's cheap scorers as of a model."""
    loads: list[ScorerSpec] = []
    monkeypatch.setattr(scoring, "load_scorer", lambda spec: loads.append(spec) or Recorder())
    file = tmp_path / "background" / "background.json"
    file.parent.mkdir()
    spec = ScorerSpec(scorer="recall", background=str(file.parent))
    cheap = SimpleNamespace(cheap=[spec])
    monkeypatch.setattr(Calibration, "read", lambda folder: cheap)
    for number in (1, 22):
        file.write_text(str(number))
        for asked in (spec, ScorerSpec(scorer="calibrated", model=str(tmp_path / "none"))):
            for _ in range(2):
                scoring.loaded(asked, None)
    assert [spec.scorer for spec in loads] == ["recall", "calibrated"] * 2


def test_the_next_frame_is_fetched_while_one_is_scored() -> None:
    fetched = threading.Semaphore(0)

    def frames() -> Iterator[int]:
        for number in range(3):
            fetched.release()
            yield number

    items = prefetched(frames())
    assert next(items) == 0
    assert fetched.acquire(timeout=10) and fetched.acquire(timeout=10)
    assert list(items) == [1, 2]


def test_an_error_of_the_source_reaches_the_caller() -> None:
    def frames() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(prefetched(frames()))


def test_busy_share_is_of_the_time_since_the_start() -> None:
    meter = Meter()
    score_windows([np.arange(1, 5)], Recorder(), 10, meter)
    assert 0 < meter.busy_share <= 1 and (meter.windows, meter.tokens) == (1, 4)


def test_laps_share_out_all_seconds_among_rows() -> None:
    meter = Meter(busy_seconds=3.0)
    first, second = meter.lap(2), meter.lap(4)
    assert first["busy_seconds"] == 1.5 and second["busy_seconds"] == 0.0
    assert 2 * first["seconds"] + 4 * second["seconds"] == meter.lapped[1] > 0


def test_random_is_seeded_uniform_and_says_so() -> None:
    windows = [np.array(tokens(8, seed)) for seed in range(500)]

    def ds(seed: int) -> list[float]:
        scored = load_scorer(ScorerSpec(scorer="random", seed=seed)).score(windows)
        return [score["ds"] for score in scored]

    assert ds(1) == ds(1) != ds(2)
    assert abs(np.mean(ds(1)) - 0.5) < 0.05 and abs(np.std(ds(1)) - 12**-0.5) < 0.03
    assert scorer_version(ScorerSpec(scorer="random", seed=1)) == "random:seed=1"


def test_random_statistics_follow_from_its_head() -> None:
    from longattn.udfs.attention.dependency import dependency

    (score,) = load_scorer(ScorerSpec(scorer="random")).score([np.array(tokens(9))])
    heads = torch.tensor(score["head_s1"]), torch.tensor(score["head_s2"])
    ds_H, du_H = dependency(*heads, 9, score["k"])
    np.testing.assert_allclose([ds_H.item(), du_H.item()], [score["ds"], score["du"]], rtol=1e-5)


def test_a_scorer_is_one_entry_of_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Plugin(
        load="longattn.udfs.scorers.kinds.control:RandomScorer",
        version="longattn.udfs.scorers.kinds.control:random_version",
    )
    monkeypatch.setitem(registry.SCORERS, "mine", plugin)
    assert scorer_version(ScorerSpec(scorer="mine", seed=4)) == "random:seed=4"
    with pytest.raises(ConfigError, match=r"unknown scorer longatn \(did you mean 'longattn'\?\)"):
        scorer_version(ScorerSpec(scorer="longatn"))


def test_lines_give_statistics_per_head(scorer: Path) -> None:
    spec = ScorerSpec(scorer="longattn", model=str(scorer), k=10)
    lines = [json.dumps({"input_ids": tokens(length)}) for length in (40, 57)]
    found = list(score_window_lines(iter([*lines, "\n"]), spec))
    for length, got in zip((40, 57), found, strict=True):
        (score,) = load_scorer(spec).score([np.array(tokens(length))])
        variance = [
            (s2 - s1**2 / length**2) / (length**2 - 1)
            for s1, s2 in zip(score["head_s1"], score["head_s2"], strict=True)
        ]
        assert got["n_tokens"] == length and got["k"] == 10
        np.testing.assert_allclose(got["ds_per_head"], np.array(score["head_s1"]) / length)
        np.testing.assert_allclose(got["var_per_head"], variance)
        np.testing.assert_allclose([got["ds"], got["du"]], [score["ds"], score["du"]])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "Expecting property name"),
        ("[1, 2]", 'expected {"input_ids"'),
        ('{"ids": [1]}', 'expected {"input_ids"'),
        ('{"input_ids": [1.5, 2, 3, 4]}', "input_ids must be"),
        ('{"input_ids": [1, "a"]}', "input_ids must be"),
        ('{"input_ids": [[1, 2]]}', "input_ids must be"),
        ('{"input_ids": [[1, 2], [3]]}', "input_ids must be"),
        ('{"input_ids": [true, 2, 3, 4]}', "input_ids must be"),
        ('{"input_ids": "1234"}', "input_ids must be"),
        ('{"input_ids": [9223372036854775808, 2, 3, 4]}', "input_ids must be"),
        ('{"text": "a lone \\ud800"}', "invalid_text: lone surrogate at character 7"),
        ('{"input_ids": [1, 1e99]}', "input_ids must be"),
        ('{"input_ids": [100000000000000000000000]}', "input_ids must be"),
        ('{"input_ids": []}', "empty: no tokens"),
        ('{"input_ids": [1, 2]}', "too_short: 2 tokens"),
        ('{"input_ids": [1, 2, 3, 101]}', "bad_token_id: ids 1 to 101; there are 101"),
        ("[" * 100_000, "maximum recursion depth"),
    ],
)
def test_a_bad_line_is_answered_and_the_next_one_scored(
    scorer: Path, line: str, words: str
) -> None:
    good = json.dumps({"input_ids": tokens(16)})
    first, bad, last = score_window_lines(
        iter([good, line, good]), ScorerSpec(scorer="longattn", model=str(scorer))
    )
    assert bad["line"] == 2 and bad["error"].startswith(words)
    assert first == last and "ds" in first


@pytest.mark.parametrize("name", [n for n, plugin in registry.SCORERS.items() if not plugin.model])
def test_no_scorer_scores_an_empty_window(name: str) -> None:
    empty = score_window_lines(['{"input_ids": []}'], ScorerSpec(scorer=name))
    assert list(empty) == [{"line": 1, "error": "empty: no tokens"}]


def test_a_checkpoint_can_be_scored_without_a_scorer_folder(scorer: Path) -> None:
    line = json.dumps({"input_ids": tokens(40)})
    built = list(score_window_lines(iter([line]), ScorerSpec(scorer="longattn", model=str(scorer))))
    direct = ScorerSpec(scorer="longattn", model=str(scorer.parent / "model"))
    assert list(score_window_lines(io.StringIO(line), direct)) == built


def test_importing_scorers_and_scoring_is_light() -> None:
    code = (
        "import sys, longattn.udfs.scorers.base, longattn.udfs.scorers.worker;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'etl')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("length", "k"), [(8192, 2048), (8, 2), (9, 3), (10, 4), (11, 5), (4, 1)])
def test_default_k(length: int, k: int) -> None:
    assert default_k(length) == k
