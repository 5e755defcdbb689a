"""Far gain: against one forward pass per token in float64, and against the package longppl."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longattn.udfs.errors import ModelError
from longattn.udfs.models.causal import load_causal_lm
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.kinds.fargain import FarGain, chunks, longfilter, measures
from longattn.udfs.scorers.registry import load_scorer, scorer_version
from longattn.udfs.scorers.worker import Meter, score_batches, score_windows
from tests.udfs.models import IN_MASK, SMALL, make_checkpoint, windows

LENGTH, K, STRIDE = 90, 16, 8
FAMILIES = ["llama3.1", "mistral-window", "gemma2", "gpt_neox", "gpt2"]


@given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 60))
def test_chunks_judge_every_token_once_after_k_to_k_plus_d_tokens(n: int, k: int, d: int) -> None:
    judged = [
        (token, token - chunk.start)
        for chunk in chunks(n, k, d)
        for token in range(chunk.stop - chunk.judged, chunk.stop)
    ]
    assert [token for token, _ in judged] == list(range(k + d, n))
    assert all(k <= before < k + d for _, before in judged)


def test_longfilter_and_measures_by_hand() -> None:
    long = np.array([np.nan, 1.0, 0.5, 3.0, 1.0, 0.1])
    short = np.array([np.nan, 1.0, 0.5, 6.0, 0.5, 2.2])
    terms = [0, 0, 0, 3 * math.exp(-3), -0.5 * math.exp(-1), 2.1 * math.exp(-0.1)]
    assert longfilter(long, short) == pytest.approx(sum(terms) / 6)
    assert measures(long, short, judged_from=3) == pytest.approx(
        {
            "gain": 4.6 / 6,
            "gain_pos": 5.1 / 6,
            "gain_neg": 0.5 / 6,
            "key": 1 / 6,  # the fourth token gains 3, but its loss is 3 too
            "key_loss": 0.1,
            "loss": 5.6 / 5,
            "gain_2": 3.0,
            "tokens_2": 1,
            "gain_4": 0.8,
            "tokens_4": 2,
        }
    )


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folders of random models by family, made once."""
    made: dict[str, str] = {}

    def folder(family: str) -> str:
        if family not in made:
            made[family] = str(make_checkpoint(tmp_path_factory.mktemp("m") / family, family))
        return made[family]

    return folder


def whole_model(folder: str, dtype: str = "float64") -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), attn_implementation="eager"
    ).eval()


def told_by_the_model(folder: str, length: int) -> np.ndarray:
    """A window that the model itself goes on to write, so that losses are small."""
    import torch

    torch.manual_seed(0)
    start = torch.randint(3, 101, (1, 4))
    written = whole_model(folder, "float32").generate(
        start, do_sample=True, max_new_tokens=length - 4, min_new_tokens=length - 4, top_k=0
    )
    return written[0].numpy()


def losses_one_by_one(folder: str, ids: np.ndarray, bos: int | None) -> tuple[Any, Any]:
    """LL and LS of each token in float64; LS from a pass over exactly its short context."""
    import torch

    model, first = whole_model(folder), [] if bos is None else [bos]

    def log_p(contexts: list[Any]) -> Any:
        with torch.no_grad():
            return model(torch.as_tensor(np.array(contexts))).logits.log_softmax(-1)

    text = ids.tolist()
    long = np.full(len(text), np.nan)
    seen = range(1 - len(first), len(text))
    told = log_p([first + text[:-1]])[0]
    long[1 - len(first) :] = [-told[n, text[t]] for n, t in enumerate(seen)]
    short = long.copy()
    for before in range(K, K + STRIDE):  # passes of one length go together, each in its own row
        mine = [t for t in range(K + STRIDE, len(text)) if (t - K) % STRIDE == before - K]
        told = log_p([first + text[t - before : t] for t in mine])[:, -1]
        short[mine] = [-row[text[t]] for t, row in zip(mine, told, strict=True)]
    return long, short


def spec_of(folder: str, **settings: Any) -> ScorerSpec:
    given = {"scorer": "fargain", "model": folder, "k": K, "stride": STRIDE, "device": "cpu"}
    return ScorerSpec(**{**given, **settings})


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_are_those_of_one_pass_per_token(checkpoints: Any, family: str) -> None:
    folder = checkpoints(family)
    (ids,) = windows(1, LENGTH)
    scorer = load_scorer(spec_of(folder, dtype="float64"))
    assert isinstance(scorer, FarGain)
    ((long, short),) = scorer.losses([ids])
    expected_long, expected_short = losses_one_by_one(folder, ids, None)
    np.testing.assert_allclose(long, expected_long, atol=1e-5)
    np.testing.assert_allclose(short, expected_short, atol=1e-5)
    assert np.abs(expected_short - expected_long)[K + STRIDE :].max() > 0.1
    assert np.isnan(long[0]) and not np.isnan(long[1:]).any()


@pytest.mark.parametrize("given", [True, False])
def test_a_bos_stands_before_the_window_and_before_every_chunk(
    checkpoints: Any, given: bool
) -> None:
    """Whether the settings ask for it or the window brings it along."""
    folder, bos = checkpoints("llama3"), 1
    (ids,) = windows(1, 60)
    window = np.append(bos, ids) if given else ids
    (score,) = load_scorer(spec_of(folder, bos=not given, dtype="float64")).score([window])
    long, short = losses_one_by_one(folder, ids, bos)
    assert score["ds"] == pytest.approx(longfilter(long, short), abs=1e-6)
    assert score["measures"] == pytest.approx(measures(long, short, K + STRIDE), abs=1e-5)
    assert score["n_tokens"] == 61 and not np.isnan(long).any()


def test_windows_in_one_batch_and_alone_score_alike(checkpoints: Any) -> None:
    folder = checkpoints("llama3")
    given = [*windows(1, 50), *windows(3, 73), *windows(1, 90)]
    single = load_scorer(spec_of(folder, batch_tokens=1))
    alone = [single.score([ids])[0] for ids in given]
    together = load_scorer(spec_of(folder)).score(given)
    for one, other in zip(alone, together, strict=True):
        assert one["ds"] == pytest.approx(other["ds"], abs=1e-5)
        assert one["measures"] == pytest.approx(other["measures"], abs=1e-4)


def test_windows_with_and_without_a_bos_go_together(checkpoints: Any) -> None:
    """Their chunks are of one length, but for the BOS."""
    scorer = load_scorer(spec_of(checkpoints("llama3")))
    given = windows(2, 60)
    given[1][0] = 1
    alone = [scorer.score([ids])[0]["ds"] for ids in given]
    assert [score["ds"] for score in scorer.score(given)] == pytest.approx(alone, abs=1e-5)


class TestLikeLongPPL:
    """The published evaluator on the same tokens; one letter is one token."""

    @pytest.fixture
    def tokenizer(self) -> Any:
        from tokenizers import Regex, Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        words = Tokenizer(models.WordLevel({chr(0x4E00 + i): i for i in range(101)}, "一"))
        words.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
        return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="一")

    @pytest.mark.parametrize("length", [90, 87])
    def test_key_tokens_and_their_perplexity(
        self, checkpoints: Any, tokenizer: Any, length: int
    ) -> None:
        longppl = pytest.importorskip("longppl.longppl")
        folder = checkpoints("llama3")
        ids = told_by_the_model(folder, length)
        model = whole_model(folder, "float32")
        theirs = longppl.compute_longppl(
            "".join(chr(0x4E00 + i) for i in ids),
            model,
            model,
            tokenizer,
            tokenizer,
            trunc_len=K,
            sliding_window=STRIDE,
        )
        (score,) = load_scorer(spec_of(folder)).score([ids])
        ours = score["measures"]
        assert theirs["n_token"] == length and theirs["n_key_token"] > 5
        assert round(ours["key"] * length) == theirs["n_key_token"]
        assert math.exp(ours["key_loss"]) == pytest.approx(float(theirs["longppl"]), rel=1e-4)
        assert math.exp(ours["loss"]) == pytest.approx(float(theirs["ppl"]), rel=1e-4)


def test_logits_of_a_half_precision_body_are_not_rounded(checkpoints: Any) -> None:
    """Losses are those of the rounded hidden states and the rounded weights, in float32."""
    import torch

    folder = checkpoints("llama3")
    (ids,) = windows(1, LENGTH)
    scorer = load_scorer(spec_of(folder, dtype="bfloat16"))
    assert isinstance(scorer, FarGain)
    ((long, _),) = scorer.losses([ids])
    model = scorer.lm.model
    with torch.inference_mode():
        hidden = model.base_model(torch.as_tensor(ids[None, :-1]))[0][0].float()
        logits = hidden @ model.lm_head.weight.float().T
    expected = torch.nn.functional.cross_entropy(logits, torch.as_tensor(ids[1:]), reduction="none")
    np.testing.assert_allclose(long[1:], expected, atol=0.05 if logits.abs().max() > 8 else 0.02)
    exact = losses_one_by_one(folder, ids, None)[0]
    assert 0 < np.nanmean(np.abs(long - exact)) < 0.2


@pytest.mark.parametrize("family", IN_MASK)
def test_a_window_that_is_in_the_mask_alone_is_kept_to(checkpoints: Any, family: str) -> None:
    import torch

    folder, ids = checkpoints(family), torch.as_tensor(windows(1, LENGTH)[0])[None]
    found = load_causal_lm(folder, "float32", "cpu", "fargain").losses(ids, LENGTH - 1)
    with torch.no_grad():
        logits = whole_model(folder, "float32")(ids).logits[0, :-1]
    expected = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
    torch.testing.assert_close(found[0], expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_that_sees_what_it_predicts_is_refused(tmp_path: Path, dtype: str) -> None:
    """BERT's weights also load as a decoder's: then it is one, and far from itself."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("bert", **SMALL, is_decoder=True)
    decoder = AutoModelForCausalLM.from_config(config)
    for parameter in decoder.parameters():
        parameter.data.mul_(5 if parameter.ndim > 1 else 1)
    decoder.save_pretrained(tmp_path / "decoder")
    decoder.config.is_decoder = False
    decoder.save_pretrained(tmp_path / "encoder")
    with pytest.raises(ModelError, match=r"^score\.model: bert is not causal: "):
        load_scorer(spec_of(str(tmp_path / "encoder"), dtype=dtype))
    scorer = load_scorer(spec_of(str(tmp_path / "decoder"), dtype=dtype))
    assert scorer.score(windows(1, LENGTH))[0]["measures"]["loss"] > 0


def test_windows_it_cannot_score_have_a_reason(checkpoints: Any) -> None:
    folder = checkpoints("llama3")
    frame = pd.DataFrame({"window_id": list("abcde"), "domain": "book"})
    frame["token_ids"] = [[], [3] * (K + STRIDE), [3] * 40 + [101], [3] * 257, [3, 4] * 20]
    (scored,) = score_batches(iter([frame]), spec_of(folder))
    assert scored["reason"].tolist()[:4] == ["empty", "too_short", "bad_token_id", "too_long"]
    assert pd.isna(scored["reason"][4])
    assert scored["measures"][4]["loss"] > 0 and scored["measures"][0] is None


@pytest.mark.parametrize(("bos", "place"), [(False, 0), (False, -1), (True, 0)])
@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_loss_that_is_no_number_refuses_the_window(
    checkpoints: Any, monkeypatch: pytest.MonkeyPatch, bos: bool, place: int, odd: float
) -> None:
    """It counted 0, as a first token does that nothing stands before."""
    scorer = load_scorer(spec_of(checkpoints("llama3"), bos=bos))
    assert isinstance(scorer, FarGain)
    known = scorer.lm.losses

    def losses(ids_BL: Any, last: int) -> Any:
        losses_BJ = known(ids_BL, last)
        losses_BJ[0, place] = odd
        return losses_BJ

    monkeypatch.setattr(scorer.lm, "losses", losses)
    assert score_windows(windows(1, LENGTH), scorer, 1000, Meter()) == [
        ("not_finite", "ds nan: try a wider dtype")
    ]


def test_a_window_that_is_bos_alone_is_empty(checkpoints: Any) -> None:
    scorer = load_scorer(spec_of(checkpoints("llama3"), k=None, stride=None))
    assert scorer.refusal(np.array([1])) == ("empty", "no tokens")


def test_the_name_says_which_model_and_what_settings(checkpoints: Any) -> None:
    folder = checkpoints("llama3")
    name = scorer_version(spec_of(folder, bos=True))
    assert name.startswith("fargain:llama3@") and name.endswith(":k=16:d=8:f32:bos")
    assert scorer_version(ScorerSpec(scorer="fargain", model=folder)).endswith(":k=L/4:d=k:f32")
    assert load_scorer(spec_of(folder, bos=True)).version == name


def test_k_is_a_quarter_of_the_window_and_d_is_k(checkpoints: Any) -> None:
    folder = checkpoints("llama3")
    (ids,) = windows(1, 80)
    (default,) = load_scorer(ScorerSpec(scorer="fargain", model=folder)).score([ids])
    (named,) = load_scorer(spec_of(folder, k=20, stride=20)).score([ids])
    assert default == named and default["k"] == 20
    assert default["measures"]["tokens_32"] + default["measures"]["tokens_64"] == 40


def test_first_layers_alone_are_not_a_language_model(tmp_path: Path) -> None:
    (tmp_path / "scorer.json").write_text("{}")
    with pytest.raises(ModelError, match="the first layers only; fargain needs the whole"):
        scorer_version(ScorerSpec(scorer="fargain", model=str(tmp_path)))
