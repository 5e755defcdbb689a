"""Weights of fewer bits: read as the numbers they stand for, or refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from longattn.udfs.errors import ModelError
from longattn.udfs.models.build import build_scorer
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.registry import load_scorer
from tests.udfs.models import K, make_checkpoint, windows

Tensors = dict[str, Tensor]
Q = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("plain") / "model", "llama3")


def with_tensors(plain: Path, folder: Path, tensors: Tensors, **settings: Any) -> Path:
    folder.mkdir()
    config = json.loads((plain / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def score(model: Path, folder: Path) -> dict[str, Any]:
    build_scorer(str(model), str(folder))
    (found,) = load_scorer(
        ScorerSpec(scorer="longattn", model=str(folder), k=K, dtype="float64")
    ).score(windows(1))
    return dict(found)


def linear(name: str) -> bool:
    return name.endswith(("q_proj.weight", "k_proj.weight"))


def int8_rows(name: str, weight: Tensor) -> tuple[Tensors, Tensor]:
    """bitsandbytes: a row's largest magnitude is 127."""
    largest = weight.abs().amax(1)
    q = (weight / largest[:, None] * 127).round().to(torch.int8)
    beside = {f"{name}.SCB": largest, f"{name}.weight_format": torch.tensor(0, dtype=torch.uint8)}
    return {f"{name}.weight": q, **beside}, q.float() * largest[:, None] / 127


def fp8_tensor(name: str, weight: Tensor) -> tuple[Tensors, Tensor]:
    """compressed-tensors: one scale, and one of the activations that changes nothing."""
    scale = weight.abs().max() / 448
    q = (weight / scale).to(torch.float8_e4m3fn)
    beside = {f"{name}.weight_scale": scale[None], f"{name}.input_scale": torch.tensor(3.0)}
    return {f"{name}.weight": q, **beside}, q.float() * scale


def int8_channels(name: str, weight: Tensor) -> tuple[Tensors, Tensor]:
    scale = weight.abs().amax(1, keepdim=True) / 127
    q = (weight / scale).round().to(torch.int8)
    return {f"{name}.weight": q, f"{name}.weight_scale": scale}, q.float() * scale


def fp8_blocks(name: str, weight: Tensor) -> tuple[Tensors, Tensor]:
    """DeepSeek's form with blocks of 16 x 32; the scales of a block multiply it."""
    scale = 0.001 + torch.rand(len(weight) // 16, weight.shape[1] // 32) / 100
    whole = torch.kron(scale, torch.ones(16, 32))
    q = (weight / whole).clamp(-448, 448).to(torch.float8_e4m3fn)
    return {f"{name}.weight": q, f"{name}.weight_scale_inv": scale}, q.float() * whole


def mlx(bits: int) -> Callable[[str, Tensor], tuple[Tensors, Tensor]]:
    """Groups of 32 inputs: scale * q + bias, q packed low bits first into words of 32."""

    def pack(name: str, weight: Tensor) -> tuple[Tensors, Tensor]:
        groups = weight.reshape(len(weight), -1, 32)
        low, high = groups.amin(-1), groups.amax(-1)
        scale = (high - low) / (2**bits - 1)
        q = ((groups - low[..., None]) / scale[..., None]).round()
        ids = q.flatten(1).numpy().astype(np.uint64).reshape(len(weight), -1, 32 // bits)
        shifts = np.arange(0, 32, bits, dtype=np.uint64)
        words = (ids << shifts).sum(-1).astype(np.uint32)
        beside = {f"{name}.scales": scale, f"{name}.biases": low}
        numbers = (q * scale[..., None] + low[..., None]).flatten(1)
        return {f"{name}.weight": torch.from_numpy(words), **beside}, numbers

    return pack


LAYOUTS = {
    "int8_rows": int8_rows,
    "fp8_tensor": fp8_tensor,
    "int8_channels": int8_channels,
    "fp8_blocks": fp8_blocks,
    "mlx_4": mlx(4),
    "mlx_8": mlx(8),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_known_layout_scores_as_its_numbers_do(layout: str, plain: Path, tmp_path: Path) -> None:
    """No quantization_config says what they are: their neighbours do."""
    stored: Tensors = {}
    numbers: Tensors = {}
    for name, tensor in load_file(plain / "model.safetensors").items():
        if linear(name) or (layout.startswith("mlx") and "embed" in name):
            made, numbers[name] = LAYOUTS[layout](name.removesuffix(".weight"), tensor)
            stored |= made
        else:
            stored[name] = numbers[name] = tensor
    packed = layout.startswith("mlx")
    said = {"quantization": {"group_size": 32, "bits": int(layout[-1])}} if packed else {}
    few = with_tensors(plain, tmp_path / "few", stored, **said)
    many = with_tensors(plain, tmp_path / "many", {n: t.contiguous() for n, t in numbers.items()})
    got, expected = score(few, tmp_path / "a"), score(many, tmp_path / "b")
    np.testing.assert_allclose(got["head_s2"], expected["head_s2"], rtol=1e-5)
    np.testing.assert_allclose(got["head_s1"], expected["head_s1"], rtol=1e-5)


def changed(tensors: Tensors, case: str) -> Tensors:
    weight = tensors[f"{Q}.weight"]
    return {
        "bare": {f"{Q}.weight": weight.to(torch.int8)},
        "4 bits": {f"{Q}.weight": weight.to(torch.uint8), f"{Q}.absmax": weight[0].clone()},
        "shape": {
            f"{Q}.weight": weight.to(torch.int8),
            f"{Q}.weight_scale": torch.ones(3, 7),
        },
        "scale of floats": {f"{Q}.weight": weight, f"{Q}.weight_scale": torch.ones(64, 1)},
        "adapter": {f"{Q}.weight": weight, f"{Q}.lora_A": torch.ones(4, 64)},
        "packed": {f"{Q}.qweight": weight.to(torch.int32), f"{Q}.qzeros": torch.ones(1)},
    }[case]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("bare", f"{Q}.weight is int8, which is no layout that is known"),
        ("4 bits", f"{Q}.weight is uint8 with absmax beside it"),
        ("shape", r"q_proj.weight is \(64, 64\) and its weight_scale \(3, 7\)"),
        ("scale of floats", f"{Q}.weight is float32 with weight_scale beside it"),
        ("adapter", f"nothing reads {Q}.lora_A"),
        ("packed", rf"lacks {Q}.weight; there are {Q}.qweight, {Q}.qzeros: packed weights"),
    ],
)
def test_any_other_is_refused_by_name(case: str, words: str, plain: Path, tmp_path: Path) -> None:
    tensors = load_file(plain / "model.safetensors")
    tensors = changed(tensors, case) | {n: t for n, t in tensors.items() if n != f"{Q}.weight"}
    model = with_tensors(plain, tmp_path / "m", tensors)
    with pytest.raises(ModelError, match=words) as caught:
        build_scorer(str(model), str(tmp_path / "s"))
    assert "\n" not in str(caught.value)
