"""Weights stored in fewer bits, as the numbers they stand for, where the layout is known.

What lies beside a weight tells the layout: block or channel scales (FP8 and INT8 as DeepSeek,
compressed-tensors and bitsandbytes write them), group scales and biases (MLX). A config need not
say so, and a weight without its scales scores as another model: anything else is refused by name.

Shapes: O outputs, I inputs of a linear layer, or O tokens and I features of an embedding.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from longattn.udfs.errors import ModelError

NUMBERS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
EIGHT_BITS = (torch.int8, torch.float8_e4m3fn, torch.float8_e5m2)
SCALES = ("weight_scale_inv", "weight_scale", "scale", "SCB")
LAYOUTS = {
    *SCALES,
    *("scales", "biases", "zeros", "qzeros", "weight_zero_point", "weight_scale_2"),
    *("weight_shape", "absmax", "quant_map", "weight_packed", "g_idx"),
}
# Beside a weight and no part of it: of activations, of the cache, of how a file was written.
HARMLESS = ("input_scale", "activation_scale", "k_scale", "v_scale", "q_scale", "weight_format")
INT8_RANGE = 127  # bitsandbytes keeps a row's largest magnitude


class Weights:
    """Reads a checkpoint's tensors as numbers, and knows what lies beside each."""

    def __init__(
        self,
        name: str,
        names: Iterable[str],
        read: Callable[[str], Tensor],
        bits: int | None = None,
    ) -> None:
        self.name = name
        self.read = read
        self.bits = bits  # of MLX's packed weights, as the config says
        self.beside: dict[str, set[str]] = {}
        for stored in names:
            module, _, leaf = stored.rpartition(".")
            self.beside.setdefault(module, set()).add(leaf)

    def numbers(self, stored: str) -> Tensor:
        """One tensor in a floating dtype.

        Raises ModelError for a dtype or scales that are no part of any layout known here.
        """
        module, _, leaf = stored.rpartition(".")
        others = self.beside[module] & LAYOUTS
        tensor = self.read(stored)
        if leaf != "weight" or (tensor.dtype in NUMBERS and not others):
            return self._plain(stored, tensor)
        if tensor.dtype == torch.uint32 and others == {"scales", "biases"}:
            scales, biases = (self.read(f"{module}.{other}") for other in ("scales", "biases"))
            return _grouped(tensor, scales, biases, self._bits(stored, tensor, scales))
        if tensor.dtype in EIGHT_BITS and len(others) == 1 and others < set(SCALES):
            (kind,) = others
            return self._scaled(stored, tensor, kind, self.read(f"{module}.{kind}"))
        raise ModelError(self._unknown(stored, tensor, sorted(others)))

    def strangers(self, stored: str) -> list[str]:
        """Names beside a tensor that no weight, bias, scale or known by-product has."""
        module, _, leaf = stored.rpartition(".")
        others = self.beside[module] - {leaf, "weight", "bias", *HARMLESS, *LAYOUTS}
        return sorted(f"{module}.{other}" for other in others)

    def _plain(self, stored: str, tensor: Tensor) -> Tensor:
        if tensor.dtype not in NUMBERS:
            raise ModelError(self._unknown(stored, tensor, []))
        return tensor

    def _scaled(self, stored: str, tensor: Tensor, kind: str, scale: Tensor) -> Tensor:
        values, scale = tensor.float(), scale.float()
        if kind == "SCB":
            scale = scale / INT8_RANGE
        if scale.ndim == 1 and len(scale) in (1, len(values)):
            scale = scale[:, None]
        if scale.ndim == 2 and values.ndim == 2:
            scale = _spread(scale, values.shape)
        if scale.numel() != 1 and scale.shape != values.shape:
            shapes = f"{stored} is {tuple(tensor.shape)} and its {kind} {tuple(scale.shape)}"
            raise ModelError(f"{self.name}: {shapes}: no layout that is known")
        return values * scale

    def _bits(self, stored: str, packed: Tensor, scales: Tensor) -> int:
        """As the config says, else as the shapes allow with MLX's groups of 64."""
        bits = self.bits or 32 * packed.shape[1] // (64 * scales.shape[1])
        if bits not in (2, 4, 8):
            raise ModelError(
                f"{self.name}: {stored} has {bits} bits a weight: 2, 4 and 8 are known"
            )
        return bits

    def _unknown(self, stored: str, tensor: Tensor, others: list[str]) -> str:
        dtype = str(tensor.dtype).removeprefix("torch.")
        beside = f" with {', '.join(others)} beside it" if others else ""
        return (
            f"{self.name}: {stored} is {dtype}{beside}, which is no layout that is known: score"
            " from the unquantised checkpoint"
        )


def _spread(scale: Tensor, shape: torch.Size) -> Tensor:
    """Scales of blocks [O / b, I / b], or of rows [O, 1], for each weight."""
    for axis, size in enumerate(shape):
        n = scale.shape[axis]
        block = size if n == 1 else 1 << max(0, (-(-size // n) - 1).bit_length())
        if n not in (1, size) and -(-size // block) != n:
            return scale  # the caller says that they do not fit
        step = -(-size // n) if n in (1, size) else block
        scale = scale.repeat_interleave(step, dim=axis).narrow(axis, 0, size)
    return scale


def _grouped(packed: Tensor, scales: Tensor, biases: Tensor, bits: int) -> Tensor:
    """MLX's affine weights: scale * q + bias for each group of inputs; q lie low bits first."""
    shifts = torch.arange(0, 32, bits)
    words_OW = packed.view(torch.int32).long() & 0xFFFFFFFF
    q_OI = (words_OW[..., None] >> shifts & ((1 << bits) - 1)).flatten(-2).float()
    group = q_OI.shape[1] // scales.shape[1]
    scale_OI, bias_OI = (x.float().repeat_interleave(group, dim=1) for x in (scales, biases))
    return scale_OI * q_OI + bias_OI


def packed_bits(settings: Mapping[str, Any]) -> int | None:
    """Bits of MLX's weights, as a config.json says; None where it says nothing of them."""
    mlx = settings.get("quantization")
    return int(mlx["bits"]) if isinstance(mlx, Mapping) and "bits" in mlx else None
