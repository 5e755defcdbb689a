"""Which device and which precision a model runs in."""

from pathlib import Path
from typing import TYPE_CHECKING

from longattn.udfs.errors import ConfigError

if TYPE_CHECKING:
    import torch


def device_of(name: str) -> "torch.device":
    """The device a spec names; raises ConfigError where this machine does not have it."""
    import torch

    device = _named(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device: this machine has no {name}: say cpu or auto")
    return device


def _named(name: str) -> "torch.device":
    """A device by its name, wherever it may be; `auto` is the GPU where there is one."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device: auto, cpu or cuda, got {name!r}") from None


def dtype_of(name: str, device: str) -> str:
    """The dtype a spec names; `auto` is bfloat16 where that is known to be faster, else float32."""
    if name != "auto":
        return name
    return "bfloat16" if prefers_bfloat16(_named(device)) else "float32"


def prefers_bfloat16(device: "torch.device") -> bool:
    """Whether bfloat16 is known to be faster than float32 on a device.

    So it is on a GPU that multiplies it, on a CPU with AMX, and by AVX-512's instructions on AMD's
    (ADR 9). On others' these make dense products at half of float32's speed.
    """
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if torch.cpu._is_amx_tile_supported():
        return True
    return torch.cpu._is_avx512_bf16_supported() and "AuthenticAMD" in _cpu_info()


def _cpu_info() -> str:
    """What Linux says of the CPU; nothing elsewhere."""
    file = Path("/proc/cpuinfo")
    return file.read_text() if file.exists() else ""
