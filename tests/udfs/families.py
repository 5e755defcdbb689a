"""Tiny random models of sixty families: what a checkpoint's config may ask for."""

import random
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.udfs.models import SMALL

# Whatever a family calls its parts, they are small.
TINY = {
    **SMALL,
    **dict.fromkeys(("n_routed_experts", "num_experts", "num_local_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "n_group", "topk_group"), 2),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "v_head_dim", "rotary_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim"), 16),
    "n_shared_experts": 1,
    "ffn_hidden_size": 96,
    "word_embed_proj_dim": 64,
    "n_inner": 96,
    **dict.fromkeys(("mamba_n_heads", "linear_num_value_heads", "linear_num_key_heads"), 4),
    **dict.fromkeys(("head_dim", "linear_key_head_dim", "linear_value_head_dim"), 16),
    "mamba_d_head": 32,
    "mamba_d_state": 16,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "ssm_state_size": 16,
}
SCORED = (
    *("afmoe", "apertus", "arcee", "codegen", "cohere", "cohere2", "cwm", "deepseek_v3", "dots1"),
    *("ernie4_5", "ernie4_5_moe", "exaone4", "flex_olmo", "gemma", "gemma2"),
    *("gemma3_text", "glm", "glm4", "glm4_moe", "gpt2", "gpt_neox", "gptj", "granite"),
    *("granitemoe", "helium", "hunyuan_v1_dense", "jais2", "llama", "ministral", "mistral"),
    *("mixtral", "nanochat", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "opt", "persimmon"),
    *("phi", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3"),
    *("solar_open", "stablelm", "starcoder2", "vaultgemma", "minimax_m2"),
)
LATENT = ("deepseek_v3",)  # whose keys are of all heads
NO_ATTENTION = r"layer 0 is \w+, which has no attention to score; layers that have"
REFUSED = {
    "bert": "not causal|no decoder-only",
    "bloom": "ALiBi",
    "falcon": "every layer does not pass through transformers' AttentionInterface",
    "gpt_oss": "depends on s_aux",
    "granitemoehybrid": NO_ATTENTION,
    "jamba": NO_ATTENTION,
    "mamba": NO_ATTENTION,
    "mpt": "ALiBi",
    "nemotron_h": NO_ATTENTION,
    "qwen3_next": NO_ATTENTION,
    "t5": "no decoder-only",
}


def make_tiny(folder: Path, kind: str, seed: int) -> None:
    """Save a random model of a family, its shape drawn by the seed; weights far from uniform."""
    draw = random.Random(f"{kind} {seed}")
    settings: dict[str, Any] = {
        "num_key_value_heads": draw.choice([1, 2, 4]),
        "rope_theta": draw.choice([1e4, 5e5, 2.5e6]),
        "tie_word_embeddings": draw.random() < 0.5,
        "attention_bias": draw.random() < 0.5,
        "vocab_size": draw.choice([101, 128]),
    }
    if kind in LATENT:
        settings["num_key_value_heads"] = SMALL["num_attention_heads"]
    config = AutoConfig.for_model(kind, **(TINY | settings))
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.2)
    model.save_pretrained(folder)
