"""LADM: a case by hand, and eager attention of whole small models in float64, span by span."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from longattn.udfs.errors import ModelError
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.kinds.ladm import Ladm, Spans, accumulated, received, span_mass
from longattn.udfs.scorers.registry import load_scorer, scorer_version
from longattn.udfs.scorers.worker import score_batches
from tests.udfs.models import make_checkpoint, make_multimodal, smollm2, windows

LENGTH = 77
SMALL = Spans(size=4, sink=1, near=2, stride=2, first=4)


def test_spans_are_those_of_the_paper_and_of_its_code() -> None:
    """Windows of 32,768 tokens: N = 256 spans, n0 = 16, m = 1, n = 4, d = 4."""
    spans, length = Spans(), 32_768
    paper = [start // 128 for start in spans.queries(length, "paper")]
    assert paper == list(range(16, 256, 4))
    assert [start // 128 for start in spans.keys(24 * 128, "paper")] == [1, 5, 9, 13, 17]
    code = spans.queries(length, "code")
    assert code[0] == length - 128 and code[-1] == 2432 and len(code) == 60
    assert spans.keys(2432, "code") == [1920, 1408, 896, 384]


def test_one_query_span_by_hand() -> None:
    """Two heads, far spans at 4 and 12 of 32 tokens, queries at 20."""
    mass = np.array([[1.0, 3.0], [2.0, 2.0]])
    # sums weighted by (20 - 4)/32 and (20 - 12)/32, deviations sqrt(2) and 0 in samples of two
    assert accumulated(mass, 20, [4, 12], 32, "paper") == pytest.approx(2**0.5 * 1.25 / 2)
    # over heads (1.5, 2.5): sqrt(0.5) * (0.75 + 0.625)
    assert accumulated(mass, 20, [4, 12], 32, "code") == pytest.approx(0.5**0.5 * 1.375)
    assert accumulated(mass[:, :1], 20, [4], 32, "code") == 0.0


def test_span_mass_sums_neighbouring_keys() -> None:
    torch = pytest.importorskip("torch")
    received = torch.arange(24.0).view(2, 12)
    found = span_mass(received, [8, 4], SMALL)
    assert found.tolist() == [[38.0, 22.0], [86.0, 70.0]]


def eager(folder: str, ids: np.ndarray, gguf: str | None = None) -> list[Any]:
    """Attention [H, L, L] of each layer in float64."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=gguf, attn_implementation="eager", dtype=torch.float64
    )
    with torch.no_grad():
        found = model(torch.as_tensor(ids[None]), output_attentions=True).attentions
    return [layer[0].numpy() for layer in found]


def paper(layers: list[Any], length: int) -> float:
    """Equations 2 to 5 with spans numbered from 0, one number after another."""
    size, sink, near, stride, first = 4, 1, 2, 2, 4
    count, heads = length // size, []
    for layer in layers:
        for weights in layer:
            cds = 0.0
            for j in range(first, count, stride):
                rows = slice(j * size, (j + 1) * size)
                far = range(sink, j - near, stride)
                pfs = [weights[rows, i * size : (i + 1) * size].sum() for i in far]
                weighted = sum((j - i) * size / length * p for i, p in zip(far, pfs, strict=True))
                spread = np.std(pfs, ddof=1) if len(pfs) > 1 else 0.0
                cds += j * size / length * spread * weighted
            heads.append(cds)
    return float(np.mean(heads))


def code(layers: list[Any], length: int) -> float:
    """As the repository is described to do it: from the end, own keys left out, heads first."""
    size, sink, near, stride, first = 4, 1, 2, 2, 4
    scores = []
    for layer in layers:
        terms = []
        for start in range(length - size, (sink + first) * size, -stride * size):
            before = layer[:, start : start + size, :start]
            # leaving keys out of a softmax is dividing by what the others have
            got = (before / before.sum(-1, keepdims=True)).sum(1).mean(0)
            back = np.arange(near * size, start - sink * size + 1, stride * size)
            pfs = np.array([got[start - t : start - t + size].sum() for t in back])
            spread = pfs.std(ddof=1) if len(pfs) > 1 else 0.0
            terms.append((pfs * back / length).sum() * spread * start / length)
        scores.append(np.mean(terms))
    return float(np.mean(scores))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ladm")


@pytest.mark.parametrize(
    ("family", "variant"),
    [("llama3", "paper"), ("llama3", "code"), ("gemma2", "paper"), ("images too", "paper")],
)
def test_scores_are_those_of_eager_attention(folder: Path, family: str, variant: str) -> None:
    model = str(folder / family)
    if not Path(model).exists():
        made = make_multimodal if family == "images too" else make_checkpoint
        made(Path(model), *([family] if made is make_checkpoint else []))
    (ids,) = windows(1, LENGTH)
    spec = ScorerSpec(scorer="ladm", model=model, variant=variant, dtype="float64", device="cpu")
    scorer = load_scorer(spec)
    assert isinstance(scorer, Ladm)
    scorer.spans = SMALL
    (score,) = scorer.score([ids])
    expected = {"paper": paper, "code": code}[variant](eager(model, ids), LENGTH)
    assert expected > 0 and score["ds"] == pytest.approx(expected, rel=1e-4)


def test_only_queries_that_see_no_key_count_nothing() -> None:
    """Of 4 queries with 2 keys each, the first alone sees one of those before the span."""
    torch = pytest.importorskip("torch")
    from longattn.udfs.models.prefix import AttentionCall

    q_BHLD = torch.randn(1, 1, 12, 4)
    settings = {"layer": 0, "scale": None, "softcap": None, "eager": None, "mask": None}
    call: Any = AttentionCall(q_BHLD=q_BHLD, k_BGLD=q_BHLD, sliding_window=2, **settings)
    assert received(call, 8, 4, "code").tolist() == [[0.0] * 7 + [1.0]]
    q_BHLD[0, 0, 8] = torch.nan
    assert received(call, 8, 4, "code").isnan().all()


def test_a_dtype_too_narrow_for_the_model_is_named(folder: Path) -> None:
    """The architecture was blamed: no two ways to attend agree on what is no number."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(make_checkpoint(folder / "small", "llama3"))
    model.model.layers[0].mlp.down_proj.weight.data.mul_(1e6)
    model.save_pretrained(folder / "wide")
    spec = {"scorer": "ladm", "model": str(folder / "wide"), "device": "cpu"}
    assert load_scorer(ScorerSpec(**spec, dtype="float32"))
    with pytest.raises(ModelError, match=r"score\.dtype: what llama computes in float16 is not"):
        load_scorer(ScorerSpec(**spec, dtype="float16"))


@pytest.mark.demo
@pytest.mark.slow
def test_a_gguf_file_is_a_model_like_any_other() -> None:
    """Its config says that its weights are quantised, which is no matter to a whole model."""
    model = smollm2()
    (ids,) = windows(1, LENGTH)
    scorer = load_scorer(ScorerSpec(scorer="ladm", model=str(model), dtype="float64", device="cpu"))
    assert isinstance(scorer, Ladm)
    scorer.spans = SMALL
    (score,) = scorer.score([ids])
    expected = paper(eager(str(model.parent), ids, model.name), LENGTH)
    assert expected > 0 and score["ds"] == pytest.approx(expected, rel=1e-4)


def test_windows_it_cannot_score_have_a_reason(folder: Path) -> None:
    model = str(make_checkpoint(folder / "long", "llama3"))
    frame = pd.DataFrame({"window_id": list("abc"), "domain": "book"})
    frame["token_ids"] = [[], [3] * 200, [3] * 257]
    (scored,) = score_batches(iter([frame]), ScorerSpec(scorer="ladm", model=model))
    assert scored["reason"].tolist() == ["empty", "too_short", "too_short"]
    assert "2176 tokens" in scored["detail"][1]
    name = scorer_version(ScorerSpec(scorer="ladm", model=model, variant="code"))
    assert name.startswith("ladm:long@") and name.endswith(":code:span=128:f32")
