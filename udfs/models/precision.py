"""Which device and which precision a model runs in."""

from typing import TYPE_CHECKING

from longattn.udfs.errors import ConfigError

if TYPE_CHECKING:
    import torch


def device_of(name: str) -> "torch.device":
    """The device a spec names; `auto` is the GPU where there is one."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device: auto, cpu or cuda, got {name!r}") from None


def dtype_of(name: str, device: str) -> str:
    """The dtype a spec names; `auto` is bfloat16 where the device multiplies it, else float32."""
    if name != "auto":
        return name
    return "bfloat16" if has_bfloat16(device_of(device)) else "float32"


def has_bfloat16(device: "torch.device") -> bool:
    """Whether the device multiplies bfloat16 in hardware; AMX or AVX-512 BF16 on a CPU."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
