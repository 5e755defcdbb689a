"""Which precision `auto` stands for, and products in others on every PyTorch."""

from types import SimpleNamespace

import pytest
import torch

from longattn.udfs.attention.blocked import products_in
from longattn.udfs.errors import ConfigError
from longattn.udfs.models import precision


@pytest.mark.parametrize(
    ("amx", "avx512", "maker", "dtype"),
    [
        (False, False, "GenuineIntel", "float32"),
        (True, True, "GenuineIntel", "bfloat16"),
        (False, True, "AuthenticAMD", "bfloat16"),  # 44 s for 102: docs/evidence.md
        (False, True, "GenuineIntel", "float32"),  # its dense products take twice as long
        (False, True, "", "float32"),
    ],
)
def test_auto_is_bfloat16_where_that_is_known_to_be_faster(
    amx: bool, avx512: bool, maker: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(precision, "_cpu_info", lambda: f"vendor_id\t: {maker}\n")
    assert precision.dtype_of("auto", "cpu") == dtype
    assert precision.dtype_of("bfloat16", "cpu") == "bfloat16"


@pytest.mark.parametrize(("device", "there"), [("cuda", 0), ("cuda:3", 3)])
def test_a_gpu_that_is_not_there_is_named(
    device: str, there: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine that asks which dtype is faster need not be the one that scores."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    with pytest.raises(ConfigError, match=f"device: this machine has no {device}: say cpu or"):
        precision.device_of(device)
    assert precision.dtype_of("auto", device) == "bfloat16"


def test_a_setting_is_put_back_and_none_is_needed() -> None:
    matmul = SimpleNamespace(fp32_precision="ieee")
    with pytest.raises(ZeroDivisionError), products_in("bf16", SimpleNamespace(matmul=matmul)):
        assert matmul.fp32_precision == "bf16"
        1 / 0  # noqa: B018
    assert matmul.fp32_precision == "ieee"
    before_2_9 = (SimpleNamespace(), SimpleNamespace(matmul=object()))
    for backend in before_2_9:
        with products_in("bf16", backend):
            pass
