"""Calibration: the fit against least squares, its errors on noise, cascades against the truth."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longattn.udfs.errors import ConfigError, ModelError, UserError
from longattn.udfs.scorers.base import ScorerSpec, one_head
from longattn.udfs.scorers.kinds import calibrated as calibration
from longattn.udfs.scorers.kinds.calibrated import Calibration, Sample, statistics
from longattn.udfs.scorers.needs import own_tokenizer
from longattn.udfs.scorers.registry import load_scorer, scorer_version

TRUTH = ScorerSpec(scorer="random", seed=3)
CHEAP = (ScorerSpec(scorer="recurrence", k=64), ScorerSpec(scorer="cohesion"))
NAMES = ("recurrence.ds", "cohesion.ds", "cohesion.du")


def sample(n: int, signal: float, seed: int = 0) -> Sample:
    """Three skewed statistics; the truth follows the first one, and its scale the domain."""
    rng = np.random.default_rng(seed)
    of_documents = rng.normal(size=(n // 4, 3)).repeat(4, axis=0)
    x = of_documents + rng.normal(size=(n, 3))
    domain = np.arange(n) // 4 % 3
    y = signal * x[:, 0] + rng.normal(size=n)
    return Sample(
        statistics={name: np.exp(x[:, i]) for i, name in enumerate(NAMES)},
        truth_N=np.exp(y / 2) * 10.0**domain,
        domain_N=np.array(["book", "code", "tex"])[domain],
        document_N=np.array([f"d{i // 4:03}" for i in range(n)]),
    )


def made(of: Sample) -> Calibration:
    version = scorer_version(TRUTH)
    return calibration.calibrate(of, truth=TRUTH, version=version, cheap=CHEAP, tokenizer="t")[0]


def test_weights_are_those_of_least_squares_on_centred_columns() -> None:
    of, penalty = sample(240, 1.0), 0.1
    found = calibration.fit(of, penalty)
    frame = pd.DataFrame({c.name: c.of(of.statistics[c.name]) for c in found})
    ranks = pd.Series(of.truth_N).groupby(of.domain_N).rank(method="first")
    counts = pd.Series(of.truth_N).groupby(of.domain_N).transform("size")
    share = normal_quantile((ranks - 0.5) / counts)
    x = (frame - frame.groupby(of.domain_N).transform("mean")).to_numpy()
    extended = np.concatenate([x, np.sqrt(penalty * len(of)) * np.eye(3)])
    expected = np.linalg.lstsq(extended, np.append(share, np.zeros(3)), rcond=None)[0]
    np.testing.assert_allclose([c.weight for c in found], expected, rtol=1e-8)
    assert found[0].weight > 0.4 > 3 * abs(found[1].weight)


def normal_quantile(p: pd.Series) -> np.ndarray:
    """By bisection of the error function."""
    from math import erf, sqrt

    low, high = np.full(len(p), -8.0), np.full(len(p), 8.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = np.array([0.5 * (1 + erf(x / sqrt(2))) for x in middle]) < p.to_numpy()
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low


def test_noise_promises_nothing_and_signal_what_it_is_worth() -> None:
    """Left out are whole documents: their windows are alike, and would tell on each other."""
    noise, signal = made(sample(600, 0.0)), made(sample(600, 1.5, seed=1))
    assert abs(noise.domains["book"].spearman) < 0.2 and 0.9 < noise.error < 1.15
    # y = 1.5 x + e with var x = 2: r = 1.5 sqrt(2) / sqrt(5.5) = 0.90, of which ranks lose a little
    assert 0.84 < signal.domains["code"].spearman < 0.93 and signal.error < 0.55
    assert signal.domains["tex"].lines[1].error > 20 * signal.domains["book"].lines[1].error
    assert signal.domains[""].windows == 600 and signal.domains["tex"].documents == 50


def test_estimates_lie_on_the_quantiles_of_the_truth() -> None:
    """Where u is the truth's normal score itself, estimates are the truth, to the next knot."""
    of = sample(600, 1.0)
    mine = of.domain_N == "code"
    u = np.zeros(600)
    u[mine] = calibration._normal_scores(of.truth_N[mine])
    placing = calibration.placings(of, u)["code"]
    estimate, error = placing.of(u[mine])
    at = [normal_quantile(pd.Series([q]))[0] for q in calibration.BENDS]
    expected = np.interp(u[mine], at, np.quantile(of.truth_N[mine], calibration.BENDS))
    inner = np.abs(u[mine]) < at[-1]
    np.testing.assert_allclose(estimate[inner], expected[inner], rtol=0.02)
    assert (np.diff(estimate[np.argsort(u[mine])]) >= 0).all()
    assert (error >= 0).all() and placing.error < 0.05


def test_errors_hold_two_thirds_of_a_skewed_truth() -> None:
    of = sample(3000, 1.5)
    u = calibration.estimates(of, penalty=0.1)
    for domain, placing in calibration.placings(of, u).items():
        mine = of.domain_N == domain
        estimate, error = placing.of(u[mine])
        if domain:
            assert 0.6 < (np.abs(of.truth_N[mine] - estimate) <= error).mean() < 0.8


def test_an_order_turned_round_is_no_order() -> None:
    of = sample(240, 1.0)
    placing = calibration.placings(of, -of.truth_N)["book"]
    truth = of.truth_N[of.domain_N == "book"]
    assert placing.spearman == pytest.approx(-1) and placing.knots == ()
    estimate, error = placing.of(np.array([-1.0, 0.0, 1.0]))
    np.testing.assert_allclose(estimate, np.median(truth))
    assert (error > 0).all()


def test_no_document_stands_on_both_sides() -> None:
    of = sample(200, 1.0)
    left_out = np.zeros(200, dtype=int)
    for fold in calibration._folds(of):
        assert not set(of.document_N[fold]) & set(of.document_N[~fold])
        left_out += fold
    assert (left_out == 1).all()


@given(st.lists(st.integers(0, 5), min_size=2, max_size=30), st.integers(0, 9))
def test_spearman_is_that_of_pandas(values: list[int], seed: int) -> None:
    other = np.random.default_rng(seed).integers(0, 4, len(values)).astype(float)
    frame = pd.DataFrame({"x": values, "y": other})
    expected = frame.corr(method="spearman").loc["x", "y"]
    found = calibration.spearman(np.array(values, dtype=float), other)
    assert found == pytest.approx(0.0 if np.isnan(expected) else expected)


@given(st.integers(2, 60), st.floats(0.05, 0.95), st.integers(0, 99))
def test_a_cascade_wide_enough_keeps_what_the_truth_keeps(n: int, part: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, keep = rng.normal(size=n), max(1, int(part * n))
    estimate = truth + rng.uniform(-0.3, 0.3, n)
    exact, kept = calibration.cascade(truth, estimate, np.full(n, 0.1), keep=keep, width=3.0)
    assert set(np.flatnonzero(kept)) == set(np.argsort(-truth, kind="stable")[:keep])
    far = np.abs(estimate - np.sort(truth)[-keep]) > 1.2
    assert not exact[far].any()


def test_costs_grow_with_the_width_and_so_does_what_they_buy() -> None:
    of = sample(600, 1.5)
    found = calibration.costs(of, calibration.estimates(of), fraction=0.25)
    exact, common = [cost.exact for cost in found], [cost.common for cost in found]
    assert exact == sorted(exact) and 0 < exact[0] < 0.3
    assert common[-1] >= 0.95 > common[0] > 0.5
    assert all(cost.common < cost.lift <= 1 for cost in found)  # what is missed lies near the cut


def test_a_truth_that_is_the_same_everywhere_has_no_lift() -> None:
    of = replace(sample(60, 1.0), truth_N=np.ones(60))
    assert all(np.isnan(c.lift) for c in calibration.costs(of, np.arange(60.0), fraction=0.25))


def test_lift_by_hand() -> None:
    truth = np.array([0.0, 0, 0, 8])  # mean 2: the best adds 6, the worst takes 2
    best = np.array([3])
    assert calibration.lift(truth, best, best) == 1
    assert calibration.lift(truth, np.array([0]), best) == pytest.approx(-1 / 3)
    assert calibration.lift(truth, np.array([0, 3]), best) == pytest.approx(1 / 3)
    assert np.isnan(calibration.lift(np.ones(4), best, best))


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    wrote = made(sample(120, 1.0))
    wrote.write(tmp_path / "made")
    assert Calibration.read(str(tmp_path / "made")) == wrote
    wrote.write(tmp_path / "made")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(UserError, match="exists and holds no calibration"):
        wrote.write(tmp_path / "other")
    with pytest.raises(ModelError, match="make one with `longattn scorer calibrate"):
        Calibration.read(str(tmp_path / "none"))
    old = (tmp_path / "made" / "calibration.json").read_text().replace('"format": 2', '"format": 1')
    (tmp_path / "other" / "calibration.json").write_text(old)
    with pytest.raises(ModelError, match="format 1; this is 2: make it again"):
        Calibration.read(str(tmp_path / "other"))
    with pytest.raises(ConfigError, match="3 documents with all scores; 10 are needed"):
        made(sample(12, 1.0))


def test_a_file_is_no_place_for_one_and_that_is_known_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for refuse in (calibration.refuse_taken, made(sample(120, 1.0)).write):
        with pytest.raises(UserError, match=f"^--out {tmp_path}/file: is a file: name a folder$"):
            refuse(tmp_path / "file")
    calibration.refuse_taken(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_estimates_are_made_of_the_scores_they_were_fitted_to(tmp_path: Path) -> None:
    wrote, spec = made(sample(120, 1.0)), ScorerSpec(scorer="calibrated", model=str(tmp_path))
    recurrence, cohesion = wrote.cheap_versions
    assert recurrence.endswith(":k=64") and cohesion == "cohesion:cell=64:copy=0.5:k=L/16"
    other = cohesion.replace("cell=64", "cell=32")
    replace(wrote, cheap_versions=(recurrence, other)).write(tmp_path)
    with pytest.raises(ModelError, match=r"calibrated with cohesion:cell=32.*, now cohesion:cell="):
        load_scorer(spec)


def test_an_older_file_without_versions_keeps_its_name(tmp_path: Path) -> None:
    wrote, spec = made(sample(120, 1.0)), ScorerSpec(scorer="calibrated", model=str(tmp_path))
    fields = json.loads(wrote.to_json())
    del fields["cheap_versions"]
    old = json.dumps(fields, indent=1, sort_keys=True)
    (tmp_path / "calibration.json").write_text(old + "\n")
    name = hashlib.sha256(old.encode()).hexdigest()[:8]
    assert load_scorer(spec).version == f"calibrated:{name}:random:seed=3"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 2}', '{"format": 2, "truth": 3}'])
def test_a_broken_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(ModelError, match=f"{tmp_path} is broken: calibration.json"):
        Calibration.read(str(tmp_path))


def test_heads_are_columns_and_a_score_without_heads_is_two() -> None:
    score: Any = one_head(100, 25, ds=0.5, du=-0.25)
    assert statistics("cohesion", score) == {"cohesion.ds": 0.5, "cohesion.du": -0.25}
    two = {**score, "head_s1": [10.0, 20.0], "head_s2": [1.0, 2.0]}
    assert statistics("longattn", two) == {
        "longattn.s1[0]": 0.1,
        "longattn.s1[1]": 0.2,
        "longattn.s2[0]": 0.01,
        "longattn.s2[1]": 0.02,
    }


def test_as_a_scorer(tmp_path: Path) -> None:
    wrote = made(sample(120, 1.0))
    wrote.write(tmp_path)
    rng = np.random.default_rng(0)
    windows = [rng.integers(0, 40, 512) for _ in range(3)]
    scorer = load_scorer(ScorerSpec(scorer="calibrated", model=str(tmp_path)))
    found = scorer.score(windows)
    parts = [load_scorer(spec).score(windows) for spec in CHEAP]
    for i, score in enumerate(found):
        known = statistics("recurrence", parts[0][i]) | statistics("cohesion", parts[1][i])
        values = [float(np.interp(known[c.name], c.knots, c.scores)) for c in wrote.columns]
        expected = sum(c.weight * v for c, v in zip(wrote.columns, values, strict=True))
        assert score["ds"] == pytest.approx(expected)
        assert score["ds_se"] == wrote.error and score["k"] == 128
    assert scorer.version == f"calibrated:{wrote.hash[:8]}:random:seed=3"
    assert scorer.refusal(np.arange(64)) == ("too_short", "64 tokens; k is 64")
    assert own_tokenizer(ScorerSpec(scorer="calibrated", model=str(tmp_path))) == wrote.tokenizer
    assert own_tokenizer(ScorerSpec(scorer="fargain", model="a/model")) == "a/model"
