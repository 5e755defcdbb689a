"""The Triton kernel in Triton's interpreter, against the definition; the same cases as on a CPU.

The interpreter must be chosen before triton is imported, so these tests run in a process of their
own when the variable is not set yet.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.mark.skipif(INTERPRETED, reason="this is the inner process")
def test_kernel_in_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__))]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, run.stdout[-3000:]


if INTERPRETED:
    from attention_cases import CASES, assert_within_budget

    from udfs.attention_triton import far_statistics_triton

    # bfloat16 is left to the GPU: the interpreter multiplies its bit patterns as whole numbers
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_kernel_errs_no_more_than_plain_torch(case: tuple, dtype: torch.dtype) -> None:
        assert_within_budget(far_statistics_triton, case, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_kernel_on_a_gpu(dtype: torch.dtype) -> None:
    from udfs.attention import far_statistics

    torch.manual_seed(0)
    q_BHLD, k_BGLD = torch.randn(2, 8, 4099, 128), torch.randn(2, 2, 4099, 128)
    found = far_statistics(q_BHLD.to("cuda", dtype), k_BGLD.to("cuda", dtype), k=1027)
    truth = far_statistics(q_BHLD.to(dtype).double(), k_BGLD.to(dtype).double(), k=1027)
    assert torch.allclose(found.s1_BH.cpu(), truth.s1_BH, rtol=1e-3)
    assert torch.allclose(found.s2_BH.cpu(), truth.s2_BH, rtol=1e-2)
