"""What a model gains of the documents packed before: by the model itself, on each segment alone."""

from itertools import accumulate
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.windows import judged
from benchmarks.windows.similar import windows as built_windows
from longattn.udfs.models.causal import load_causal_lm
from longattn.udfs.scorers.kinds.recall import cross_gain
from tests.udfs.models import make_checkpoint, windows

SIZES = [11, 1, 20, 8]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_checkpoint(tmp_path_factory.mktemp("model") / "tiny", "llama3.1"))


def by_the_model(checkpoint: str, ids: np.ndarray) -> list[float]:
    """-log p of each token but the first, from the logits of a forward pass in float64."""
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float64, attn_implementation="eager"
    )
    with torch.no_grad():
        logits = model(torch.as_tensor(ids)[None]).logits[0]
    return [-float(torch.log_softmax(row, 0)[t]) for row, t in zip(logits, ids[1:], strict=False)]


def test_losses_are_the_models_own_in_the_window_and_in_each_segment_alone(checkpoint: str) -> None:
    (ids,) = windows(1, sum(SIZES))
    lm = load_causal_lm(checkpoint, "float64", "cpu", "fargain")
    whole, own = judged.losses(lm, ids, np.array(SIZES))
    np.testing.assert_allclose(whole, [np.nan, *by_the_model(checkpoint, ids)], rtol=1e-6)
    ends = list(accumulate(SIZES))
    segments = [ids[end - size : end] for size, end in zip(SIZES, ends, strict=True)]
    alone = [[np.nan, *by_the_model(checkpoint, segment)] for segment in segments]
    np.testing.assert_allclose(own, np.concatenate(alone), rtol=1e-6)

    row = judged.judged(lm, ("c", "random", 3), (ids, np.array(SIZES)))
    gains = [alone[s][t] - whole[ends[s - 1] + t] for s in (1, 2, 3) for t in range(1, SIZES[s])]
    weights = [np.exp(-whole[ends[s - 1] + t]) for s in (1, 2, 3) for t in range(1, SIZES[s])]
    assert row["gain"] == pytest.approx(np.mean(gains), abs=1e-5)
    assert row["longfilter"] == pytest.approx(np.dot(weights, gains) / len(ids), abs=1e-5)
    assert row["counts"] == pytest.approx(cross_gain(ids, np.array(SIZES)).mean())


def test_a_window_of_one_document_gains_nothing(checkpoint: str) -> None:
    lm = load_causal_lm(checkpoint, "float64", "cpu", "fargain")
    row = judged.judged(lm, ("c", "random", 0), (windows(1, 9)[0], np.array([9])))
    assert (row["gain"], row["longfilter"], row["counts"]) == (0, 0, 0)


def test_windows_that_were_judged_are_not_judged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [("go", order, n) for n in (0, 1) for order in ("random", "similar")]
    asked: list[judged.Key] = []
    monkeypatch.setattr(judged, "load_causal_lm", lambda *_: None)
    monkeypatch.setattr(judged, "judged", lambda _, key, window: asked.append(key) or row_of(key))
    out = tmp_path / "evidence" / "packed.jsonl"
    for some in (keys[:3], keys):
        judged.judge([(key, (np.zeros(0), np.zeros(0))) for key in some], out, np.inf)
    assert asked == keys and len(judged.read(out)) == len(keys)


def row_of(key: judged.Key) -> dict[str, object]:
    return dict(zip(("corpus", "order", "window"), key, strict=True))


def test_windows_take_turns_over_corpora_and_orders() -> None:
    documents = [np.arange(10 * n, 10 * n + 5) for n in range(12)]
    of = {order: built_windows(documents, 16) for order in ("random", "similar")}
    drawn = list(judged.drawn({"go": of, "tex": of}, 2))
    assert [key[:2] for key, _ in drawn] == 2 * [
        (corpus, order) for corpus in ("go", "tex") for order in ("random", "similar")
    ]
    assert len({key for key, _ in drawn}) == 8
    assert all(of[order][n] is window for (_, order, n), window in drawn)


def test_tables_have_ratios_to_random_and_the_rank_correlation() -> None:
    gains = {"random": [1.0, 2, 3], "similar": [2.0, 4, 6], judged.CONTROL: [9.0, 9, 9]}
    rows = pd.DataFrame(
        {"corpus": c, "order": order, "gain": gain, "longfilter": -gain, "counts": gain + shift}
        for c, shift in (("go", 0), ("tex", 100))
        for order, of in gains.items()
        for gain in of
    )
    lines = list(judged.tables(rows))
    table = [cell.strip() for cell in lines[3].split("|")]
    assert table[1:3] == ["go", "9"] and table[3].startswith("2.000 (")
    assert table[6].startswith("2.00 (") and table[7].startswith("4.50 (")
    packed, filtered = lines[-4:-2]
    assert packed.startswith("| packed | 12 | judge's gain | 1.00 (1.00 to 1.00) | 0.")
    assert "| -1.00 (-1.00 to -1.00) |" in filtered
