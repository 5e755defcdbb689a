"""What scorers say of judged windows: agreement and cost by hand, judges side by side."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from benchmarks.evidence import agreement
from benchmarks.evidence import scores as module
from benchmarks.evidence.agreement import cascade_table, frontier
from benchmarks.evidence.figure import draw
from benchmarks.evidence.filters import Band, cohesion, ratio, refused, refused_table
from benchmarks.evidence.gain import JUDGES, Judged, Place, retold
from benchmarks.evidence.intervals import interval, redrawn
from benchmarks.evidence.judges import in_common, of_windows, table
from benchmarks.evidence.lift import filtered, lift_of, lift_table, lifts
from benchmarks.evidence.scores import FILE, JUDGE, calibrated, lds_of, scored

LENGTH = 2048  # enough for LZMA's smallest dictionary to be a part of the window
SMOLLM2 = JUDGES["SmolLM2-135M"]


def ramp(length: int) -> np.ndarray:
    return np.linspace(0.5, 1.5, length, dtype=np.float32)


def made(number: int, domain: str, gain: float, length: int = 64) -> Judged:
    """A window whose tokens gain so much in the mean, later ones more."""
    rng = np.random.default_rng(number)
    long = np.zeros(length, np.float32)
    long[0] = np.nan
    return Judged(
        place=Place(domain=domain, document=f"{domain} {number}", start=0),
        token_ids=rng.integers(0, 50, length),
        long=long,
        short=long + np.float32(gain) * ramp(length),
        seconds=2.0,
    )


def by_hand(scorer: str, sign: int, counts: dict[str, int]) -> pd.DataFrame:
    rows = [
        {
            "domain": domain,
            "document": f"{domain} {i}",
            "file": f"{domain}-{i}",
            "scorer": scorer,
            "ds": float(sign * i),
            "truth": float(i) ** 3,
            "seconds": 0.01 * (1 + i),
        }
        for domain, count in counts.items()
        for i in range(count)
    ]
    return pd.DataFrame(rows)


def test_every_score_is_worked_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "reading", lambda judge: {})
    monkeypatch.setattr(module, "reading_all", lambda judge: {})
    judged = [made(i, domain, i / 10, LENGTH) for domain in ("code", "wiki") for i in range(6)]
    found = scored(judged[:-1], SMOLLM2, tmp_path)
    before = (tmp_path / FILE).read_text().splitlines()
    again = scored(judged, SMOLLM2, tmp_path)
    after = (tmp_path / FILE).read_text().splitlines()
    assert after[: len(before)] == before
    assert {json.loads(line)["file"] for line in after[len(before) :]} == {judged[-1].place.file}
    assert len(after) == len(judged) * len(module.CHEAP)
    assert (found.groupby("scorer").size() == len(judged) - 1).all()
    truth = again[again.scorer == JUDGE].set_index("file")
    assert truth.ds[judged[3].place.file] == pytest.approx(0.3 * ramp(LENGTH)[1:].sum() / LENGTH)
    assert truth.seconds.eq(2).all() and set(again.kind) == {"code", "prose"}
    keys = again[again.scorer == "key tokens"]
    assert keys.ds.eq(0).all()  # no token gains two nats
    gains = again[again.scorer == "mean gain"].set_index("file")
    assert np.allclose(gains.ds, gains.truth)  # e^-0 = 1


def test_agreement_is_the_mean_over_domains_with_enough_windows() -> None:
    counts = {"code": 8, "wiki": 5, "go": 4}
    found = pd.concat([by_hand("up", 1, counts), by_hand("down", -1, counts)])
    table_ = frontier(found).set_index("scorer")
    assert table_.draws["up"][0] == pytest.approx(1) and table_.draws["down"][0] == -1
    assert table_.windows["up"] == 13 and table_.domains["up"] == 2
    assert table_.seconds["up"] == pytest.approx(
        np.median([*range(1, 9), *range(1, 6), *range(1, 5)]) / 100
    )


def test_lds_is_standardised_within_the_domain() -> None:
    rows = pd.concat(
        [by_hand("longattn DS", 1, {"code": 3, "go": 1}), by_hand("recall", 1, {"code": 3})]
    )
    rows["du"] = [0.0, 3.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    found = lds_of(rows)
    du = np.array([-1, 2, -1]) / np.sqrt(3)
    assert np.allclose(found.ds, [-1, 0, 1] + 0.5 * du)  # the only window of Go has no order


def test_a_calibration_of_what_the_truth_follows_finds_it_on_documents_left_out() -> None:
    rng, rows = np.random.default_rng(0), by_hand("recall", 1, {"code": 60, "wiki": 60})
    others = [rows.assign(scorer=name, ds=rng.normal(size=120)) for name in module.CALIBRATED[1:]]
    found = calibrated(pd.concat([rows, *others]).assign(du=0.0))
    assert frontier(found).draws[0][0] > 0.95
    assert np.allclose(found.seconds, 4 * found.file.map(rows.set_index("file").seconds))
    lines = list(cascade_table(pd.concat([rows, found])))
    exact, common, lift = (float(cell.strip(" %")) for cell in lines[-1].split("|")[2:5])
    assert 0 < exact < 100 and common > 90 and 0.95 < lift <= 1


def test_tables_of_a_few_windows_are_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a run prints them that was cut short, or has only begun."""
    monkeypatch.setattr(module, "reading", lambda judge: {})
    monkeypatch.setattr(agreement, "K", 512)
    judged = [made(i, "code", i / 10, LENGTH) for i in range(2)]
    lines = list(agreement.tables(judged, SMOLLM2, tmp_path))
    assert any(line.startswith("| fargain | 2 |") for line in lines)
    assert lines.count("| width | scored exactly | of the exact selection | lift |") == 1


def test_lift_is_the_share_of_what_the_best_choice_adds() -> None:
    truth = np.array([0.0, 0, 0, 2, 0, 0, 6, 8])  # mean 2, best quarter 7
    assert lift_of(truth, truth, 0.25) == 1
    assert lift_of(np.array([9.0, 0, 0, 0, 0, 0, 0, 8]), truth, 0.25) == pytest.approx(2 / 5)
    assert np.isnan(lift_of(truth, np.ones(8), 0.25))
    counts = {"code": 8, "wiki": 8, "go": 4}  # too few windows of Go
    up, down = by_hand("up", 1, counts), by_hand("down", -1, counts)
    found = lift_table(pd.concat([up, down]).assign(ratio=np.nan), 0.25)
    (up_line, down_line) = list(found)[2:]
    truth = np.arange(8.0) ** 3
    over_all = truth[-2:].mean() / truth.mean()
    assert up_line.startswith(f"| up | 2 | 16 | {over_all:.2f} | 1.00 (1.00 to 1.00)")
    below = (truth[:2].mean() - truth.mean()) / (truth[-2:].mean() - truth.mean())
    assert down_line.startswith(f"| down | 2 | 16 | 0.01 | {below:.2f} (")
    assert lifts(up[up.domain == "code"], 0.25)[0] == 1


def test_filters_refuse_by_percentile() -> None:
    """Ten windows of a domain: a window at each tenth of the percentiles."""
    rows = {name: by_hand(name, 1, {"code": 10, "go": 10}) for name in ("recall", "cohesion")}
    shrunk = by_hand("compress", 1, {"code": 10, "go": 10})
    shrunk["ratio"] = np.tile([10.0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 2)
    scores = pd.concat([*rows.values(), shrunk])

    def refused_by(band: Band) -> list[str]:
        found = filtered(scores, "narrow", band)
        assert set(found.scorer) == {"narrow"} and len(found) == 20
        return found[np.isneginf(found.ds)].file.tolist()

    assert refused_by(cohesion(10)) == ["code-0", "go-0"]
    # the one that shrinks least, and the one that shrinks most
    assert refused_by(ratio(10, 90)) == ["code-0", "code-1", "go-0", "go-1"]


def test_what_a_filter_refuses_of_broken_windows() -> None:
    real = pd.DataFrame({"version": "real", "ratio": np.arange(101.0), "domain": "code"})
    broken = pd.DataFrame({"version": "repeated", "ratio": [4.0, 50.0, 96.0, 999.0]})
    table_ = pd.concat([real, broken.assign(domain="code")]).assign(scorer="compress")
    assert refused(table_, "repeated", ratio(5, 95)) == 0.75
    assert refused(table_, "repeated", ratio(5, 100)) == 0.25
    assert refused(table_, "real", ratio(20, 80)) == pytest.approx(40 / 101)
    other = real.assign(domain="tex", scorer="compress")
    twice = pd.concat([table_, other, other.assign(version="repeated")])
    assert refused(twice, "repeated", ratio(5, 95)) == pytest.approx((0.75 + 10 / 101) / 2)
    every = pd.concat([table_, table_.assign(scorer="cohesion", ds=table_.ratio)])
    assert any(line.startswith("| repeated | 25% |") for line in refused_table(every))


def test_draws_are_of_documents_with_all_their_windows() -> None:
    drawn = list(redrawn(np.array(["a", "b", "a"])))
    assert drawn[0].tolist() == [0, 1, 2]
    assert {tuple(index) for index in drawn[1:]} == {(0, 2, 0, 2), (0, 2, 1), (1, 0, 2), (1, 1)}
    assert interval(np.array([7.0, *range(1, 42)])) == "7.00 (2.00 to 40.00)"


def test_judges_are_set_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "K", 8)
    assert agreement.block_means(np.arange(38.0)).tolist() == [19.5, 27.5]  # none of what is over
    first = [made(i, "code", gain=i) for i in range(8)]
    second = [made(i, "code", gain=9 - i) for i in range(7)]
    pairs = in_common(first, second)
    assert [(a.place, b.place) for a, b in pairs] == [(w.place, w.place) for w in second]
    assert of_windows(first[:7], second)[0] == pytest.approx(-1)
    *_, line = table(first, {"other": second})
    assert line.startswith("| other | 7 | -1.00 (")
    other_tokens = [made(i + 100, "code", gain=i) for i in range(7)]
    told = [replace(w, token_ids=o.token_ids) for w, o in zip(second, other_tokens, strict=True)]
    *_, line = table(first, {"other": told})
    assert line.split("|")[4].strip() == ""  # blocks of other tokens are not the same blocks


def test_a_text_is_told_in_another_tokenizers_tokens() -> None:
    told, teller = (
        Tokenizer(WordLevel({w: i for i, w in enumerate(w)}, "a")) for w in ("abc", "acb")
    )
    teller.pre_tokenizer = WhitespaceSplit()
    place = made(1, "code", 0.0).place
    losses = np.zeros(4, np.float32)
    judged = Judged(place=place, token_ids=np.array([0, 1, 2, 1]), long=losses, short=losses)
    ((found, ids),) = retold([judged], told, teller)
    assert found == place and ids.tolist() == [0, 2, 1, 2]


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    scores = pd.concat([by_hand("recall", 1, {"code": 6}), by_hand(JUDGE, 1, {"code": 6})])
    draw(frontier(scores), scores[scores.scorer == JUDGE], tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
