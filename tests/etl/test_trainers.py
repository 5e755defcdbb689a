"""One step of a two-layer model in each trainer's own code: documents see what they see alone.

Each trainer reads an export by its own reader and makes its own masks of it. Kernels that need a
GPU are stood in for by eager attention, which is given what they would be given. Of the trainers
only megatron-core is among the pins; docs/trainers.md says with which versions the others were run.
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.etl.test_boundaries import (
    LONGEST,
    SEPARATOR,
    VOCABULARY,
    Packing,
    draw,
    fsl_dataset,
    gpt_dataset,
    parquet_rows,
    write,
)

torch = pytest.importorskip("torch")
F = torch.nn.functional
Loss = Callable[[], Any]


@pytest.fixture(scope="module")
def packings() -> list[Packing]:
    rng = np.random.default_rng(34)
    drawn = [draw(rng, number) for number in range(60)]
    return [p for p in drawn if len(p.lengths) > 2 and len(p.ids) == LONGEST][:8]


def assert_same_step(model: Any, whole: Loss, apart: Loss) -> None:
    """Loss and gradients of the samples are those of their documents one by one."""
    found, expected = step(model, whole), step(model, apart)
    assert found[0] == pytest.approx(expected[0], abs=1e-5)
    assert found[0] > 1
    for mine, theirs in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def step(model: Any, loss_of: Loss) -> tuple[float, list[Any]]:
    model.zero_grad()
    loss = loss_of()
    loss.backward()
    gradients = [p.grad.clone().numpy() for p in model.parameters() if p.grad is not None]
    assert gradients
    return float(loss.detach()), gradients


def documents_of(packings: list[Packing]) -> list[Any]:
    """Those in which something foretells something."""
    return [torch.tensor(ids) for p in packings for ids in p.documents if len(ids) > 1]


def mean_loss(logits_of: Callable[[Any], Any], packings: list[Packing]) -> Any:
    """Of documents one by one; `logits_of` takes the tokens [length] of one."""
    documents = documents_of(packings)
    sums = [F.cross_entropy(logits_of(d)[:-1], d[1:], reduction="sum") for d in documents]
    return sum(sums) / sum(len(d) - 1 for d in documents)


def eager(q_BHLD: Any, k_BHLD: Any, v_BHLD: Any, allowed: Any, scale: float | None = None) -> Any:
    """Attention where `allowed`; stands in for kernels of GPUs."""
    return F.scaled_dot_product_attention(q_BHLD, k_BHLD, v_BHLD, attn_mask=allowed, scale=scale)


def within_documents(bounds: list[int]) -> Any:
    """Who may attend to whom, by the bounds that a variable-length kernel is given."""
    document = torch.repeat_interleave(torch.arange(len(bounds) - 1), torch.tensor(bounds).diff())
    return torch.tril(document[:, None] == document)


def test_megatron_core(
    packings: list[Packing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = megatron_model(monkeypatch)
    path = write("megatron", packings, tmp_path / "out")
    prefixes = [str(file.with_suffix("")) for file in sorted(path.glob("*.bin"))]
    samples = [sample for prefix in prefixes for sample in gpt_dataset(prefix)]

    def whole() -> Any:
        rows = {name: torch.stack([s[name] for s in samples]) for name in samples[0]}
        given = (rows[name] for name in ("tokens", "position_ids", "attention_mask"))
        losses, mask = model(*given, labels=rows["labels"]), rows["loss_mask"]
        return (losses * mask).sum() / mask.sum()

    def logits_of(tokens: Any) -> Any:
        later = torch.ones(len(tokens), len(tokens), dtype=torch.bool).triu(1)
        return model(tokens[None], torch.arange(len(tokens))[None], later[None, None])[0]

    assert len(samples) == len(packings)
    assert_same_step(model, whole, lambda: mean_loss(logits_of, packings))


def megatron_model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """GPTModel on a CPU: buffers of scores and states of dropout are asked of no GPU."""
    gpt = pytest.importorskip("megatron.core.models.gpt.gpt_model")
    from megatron.core import parallel_state, tensor_parallel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer.transformer_config import TransformerConfig

    tracker = SimpleNamespace(fork=lambda *_: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: "cpu")
    monkeypatch.setattr(tensor_parallel, "get_cuda_rng_tracker", lambda: tracker)
    if not torch.distributed.is_initialized():
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        parallel_state.initialize_model_parallel()
    fused = ("bias_activation", "bias_dropout", "gradient_accumulation", "masked_softmax")
    config = TransformerConfig(
        num_layers=2,
        hidden_size=32,
        num_attention_heads=4,
        use_cpu_initialization=True,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        persist_layer_norm=False,
        **{f"{name}_fusion": False for name in fused},
    )
    torch.manual_seed(1)
    spec = get_gpt_layer_local_spec()
    return gpt.GPTModel(config, spec, vocab_size=VOCABULARY, max_sequence_length=LONGEST)


def test_trl(packings: list[Packing], tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = LlamaConfig(vocab_size=VOCABULARY, num_attention_heads=4, use_cache=False, **sizes)
    model = LlamaForCausalLM._from_config(config, attn_implementation="eager")
    words = Tokenizer(models.WordLevel({str(i): i for i in range(VOCABULARY)}, unk_token="0"))
    rows = list(parquet_rows(write("parquet", packings, tmp_path / "out")))
    features = [{"input_ids": r["input_ids"], "seq_lengths": r["seq_lens"]} for r in rows]
    trainer = trl.SFTTrainer(
        model,
        args=trl.SFTConfig(
            output_dir=str(tmp_path / "run"),
            per_device_train_batch_size=len(rows),
            padding_free=True,
            remove_unused_columns=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            report_to=[],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            max_length=None,
        ),
        train_dataset=Dataset.from_list(features),
        processing_class=PreTrainedTokenizerFast(
            tokenizer_object=words, eos_token="0", pad_token="0"
        ),
    )
    batch = next(iter(trainer.get_train_dataloader()))

    def logits_of(tokens: Any) -> Any:
        return model(input_ids=tokens[None]).logits[0]

    assert_same_step(
        model,
        lambda: trainer.compute_loss(model, dict(batch)),
        lambda: mean_loss(logits_of, packings),
    )


def test_torchtitan(
    packings: list[Packing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its data sets give `positions`, which are the export's `position_ids`."""
    llama = pytest.importorskip("torchtitan.models.llama3")
    from torch.nn.attention.flex_attention import create_mask
    from torchtitan.models.common.attention import FlexAttention

    def kernel(q: Any, k: Any, v: Any, *, block_mask: Any, scale: Any, **_: Any) -> Any:
        rule, (batch, _, length, _) = block_mask.mask_mod, q.shape
        allowed = create_mask(rule, batch, None, length, length, device="cpu")
        return eager(q, k, v, allowed, scale), SimpleNamespace(lse=None)

    monkeypatch.setattr(FlexAttention, "compiled_flex_attn", staticmethod(kernel))
    config = llama.llama3_configs["debugmodel"]("flex")
    config.layers = config.layers[:2]
    torch.manual_seed(1)
    model = config.build()
    model.init_states()
    rows = list(parquet_rows(write("parquet", packings, tmp_path / "out", position_ids=True)))
    ids = torch.tensor([row["input_ids"] for row in rows])
    positions = torch.tensor([row["position_ids"] for row in rows])

    def logits(tokens_BL: Any, positions_BL: Any) -> Any:
        masks = model.get_attention_masks(positions_BL)
        return model(tokens_BL, positions=positions_BL, attention_masks=masks)

    def whole() -> Any:
        foretold = positions[:, 1:] != 0
        predicted = logits(ids, positions)[:, :-1]
        return F.cross_entropy(predicted[foretold], ids[:, 1:][foretold])

    def logits_of(tokens: Any) -> Any:
        return logits(tokens[None], torch.arange(len(tokens))[None])[0]

    assert_same_step(model, whole, lambda: mean_loss(logits_of, packings))


def test_olmo_core(
    packings: list[Packing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("olmo_core.data.numpy_dataset")
    from olmo_core.data.collator import DataCollator
    from olmo_core.data.utils import get_labels
    from olmo_core.nn.attention import AttentionBackendName, backend, flash_attn_api
    from olmo_core.nn.transformer import TransformerConfig

    def kernel(
        q: Any, k: Any, v: Any, cu_seqlens: Any, *_: Any, softmax_scale: float, **__: Any
    ) -> Any:
        q_BHLD, k_BHLD, v_BHLD = (part.transpose(0, 1)[None] for part in (q, k, v))
        allowed = within_documents(cu_seqlens.tolist())
        return eager(q_BHLD, k_BHLD, v_BHLD, allowed, softmax_scale)[0].transpose(0, 1)

    def plain(q: Any, k: Any, v: Any, *, softmax_scale: float, **_: Any) -> Any:
        bounds = torch.tensor([0, q.shape[1]])
        return kernel(q[0], k[0], v[0], bounds, softmax_scale=softmax_scale)[None]

    library = SimpleNamespace(flash_attn_varlen_func=kernel, flash_attn_func=plain)
    monkeypatch.setattr(flash_attn_api, "flash_attn_2", library)
    monkeypatch.setattr(backend, "has_flash_attn_2", lambda: True)
    torch.manual_seed(1)
    config = TransformerConfig.llama_like(
        d_model=32,
        vocab_size=VOCABULARY,
        n_layers=2,
        n_heads=4,
        attn_backend=AttentionBackendName.flash_2,
    )
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)  # else it takes another kernel
        model = config.build(init_device="cpu")
    arrays = sorted(write("numpy", packings, tmp_path / "out").glob("*.npy"))
    dataset = fsl_dataset(arrays)
    rows = DataCollator(pad_token_id=SEPARATOR)([dataset[i] for i in range(len(dataset))])

    def whole() -> Any:
        lengths = {name: rows[name] for name in ("doc_lens", "max_doc_lens")}
        predicted, labels = model(rows["input_ids"], **lengths), get_labels(rows)
        return F.cross_entropy(predicted.flatten(0, 1), labels.flatten(), ignore_index=-100)

    assert_same_step(model, whole, lambda: mean_loss(lambda t: model(t[None])[0], packings))


def test_bounds_say_who_may_attend_to_whom() -> None:
    allowed = within_documents([0, 2, 3])
    assert allowed.tolist() == [[True, False, False], [True, True, False], [False, False, True]]
