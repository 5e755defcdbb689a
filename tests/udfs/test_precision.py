"""Which precision `auto` stands for, and products in others on every PyTorch."""

from types import SimpleNamespace

import pytest
import torch

from longattn.udfs.attention.blocked import products_in
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
