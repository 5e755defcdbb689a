"""The Triton kernel in Triton's interpreter, against the definition; the same cases as on a CPU.

The interpreter must be chosen before triton is imported, so those tests run in a process of their
own when the variable is not set yet. Compiling for a GPU needs none: that is tested out here.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="this is the inner process")
def test_kernel_in_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__))]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, run.stdout[-3000:]


if INTERPRETED:
    from attention_cases import CASES, KERNEL_CASES, assert_within_budget

    from longattn.udfs.attention.reference import far_statistics_reference
    from longattn.udfs.attention.triton import far_statistics_triton

    # bfloat16 is left to the GPU: the interpreter multiplies its bit patterns as whole numbers
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
    @pytest.mark.parametrize("case", CASES + KERNEL_CASES, ids=str)
    def test_kernel_errs_no_more_than_plain_torch(case: tuple, dtype: torch.dtype) -> None:
        assert_within_budget(far_statistics_triton, case, dtype)

    @pytest.mark.parametrize("size", [1e2, 1e4])
    def test_huge_scores_do_not_overflow(size: float) -> None:
        torch.manual_seed(2)
        q_BHLD, k_BGLD = torch.randn(1, 2, 80, 16) * size, torch.randn(1, 1, 80, 16) * size
        found = far_statistics_triton(q_BHLD, k_BGLD, k=20)
        truth = far_statistics_reference(q_BHLD.double(), k_BGLD.double(), k=20)
        assert torch.allclose(found.s1_BH, truth.s1_BH, atol=0.05)

    def test_rows_are_those_of_the_definition() -> None:
        torch.manual_seed(3)
        q_BHLD, k_BGLD = torch.randn(2, 6, 75, 16), torch.randn(2, 2, 75, 16)
        rows = torch.tensor([0, 20, 21, 40, 74])
        found, truth = (
            statistics(q_BHLD, k_BGLD, k=20, rows=rows, keep_rows=True)
            for statistics in (far_statistics_triton, far_statistics_reference)
        )
        assert torch.allclose(found.row_mass_BHR.double(), truth.row_mass_BHR, atol=1e-6)
        assert torch.allclose(found.row_square_BHR.double(), truth.row_square_BHR, atol=1e-6)


POINTERS = {
    "q_ptr": "*bf16",
    "k_ptr": "*bf16",
    "position_ptr": "*i32",
    "mass_ptr": "*fp32",
    "square_ptr": "*fp32",
}
SHARED_KIB = {80: 163, 90: 227}  # of one program, at most


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize("capability", [80, 90])
def test_kernel_compiles_for_a_gpu_that_is_not_here(capability: int) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from longattn.udfs.attention.triton import LAUNCH, _far_kernel

    shape = {"D": 64, "BLOCK_D": 64, "GROUP": 3, "HAS_SOFTCAP": False, "HAS_WINDOW": False}
    constants = {**shape, "BLOCK_M": 64, "BLOCK_N": 64}
    floats = dict.fromkeys(("cap_scale", "unit"), "fp32")
    types = POINTERS | floats | dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, "i32") for name in _far_kernel.arg_names}
    built = compile(
        ASTSource(_far_kernel, signature, constants),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": 4, "num_stages": 3, **LAUNCH},
    )
    assert built.metadata.shared <= SHARED_KIB[capability] << 10
    matrix_unit = "wgmma" if capability == 90 else "mma.sync"
    assert matrix_unit in built.asm["ptx"]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_kernel_on_a_gpu(dtype: torch.dtype) -> None:
    from longattn.udfs.attention.dispatch import far_statistics

    torch.manual_seed(0)
    q_BHLD, k_BGLD = torch.randn(2, 8, 4099, 128), torch.randn(2, 2, 4099, 128)
    found = far_statistics(q_BHLD.to("cuda", dtype), k_BGLD.to("cuda", dtype), k=1027)
    truth = far_statistics(q_BHLD.to(dtype).double(), k_BGLD.to(dtype).double(), k=1027)
    assert torch.allclose(found.s1_BH.cpu(), truth.s1_BH, rtol=1e-3)
    assert torch.allclose(found.s2_BH.cpu(), truth.s2_BH, rtol=1e-2)
