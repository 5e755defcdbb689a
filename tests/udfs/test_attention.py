"""Far statistics: the definition by hand, and the blocked twin against it."""

import math

import pytest
import torch
from attention_cases import CASES, assert_within_budget
from hypothesis import given, settings
from hypothesis import strategies as st

from longattn.udfs.attention import blocked, output
from longattn.udfs.attention.dependency import dependency, spans
from longattn.udfs.attention.dispatch import far_statistics
from longattn.udfs.attention.reference import far_statistics_reference

KERNELS = [far_statistics_reference, far_statistics]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_window_worked_out_by_hand(kernel: object) -> None:
    # one head, D = 1, scale 1: scores are q_n * k_i = log 1, log 2, log 3 along the keys
    q_BHLD = torch.ones(1, 1, 3, 1, dtype=torch.float64)
    k_BGLD = torch.log(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)).view(1, 1, 3, 1)
    # rows: (1), (1/3, 2/3), (1/6, 2/6, 3/6); far at k = 1: (), (1/3), (1/6, 2/6)
    found = kernel(q_BHLD, k_BGLD, k=1, scale=1.0, keep_rows=True)  # type: ignore[operator]
    assert found.row_mass_BHR[0, 0].tolist() == pytest.approx([0, 1 / 3, 1 / 2])
    assert found.s1_BH.item() == pytest.approx(5 / 6)
    assert found.s2_BH.item() == pytest.approx(1 / 9 + 1 / 36 + 4 / 36)


def test_dependency_by_hand_in_both_supports() -> None:
    s1_H, s2_H = torch.tensor([0.5]), torch.tensor([0.25])
    ds, du = dependency(s1_H, s2_H, length=3, k=1)
    assert ds.item() == pytest.approx(1 / 6)
    assert du.item() == pytest.approx(-(0.25 - 0.25 / 9) / 8)
    _, du_block = dependency(s1_H, s2_H, length=3, k=1, support="block")
    assert du_block.item() == pytest.approx(-(0.25 - 0.25 / 4) / 3)


def test_dependency_is_torch_mean_and_variance_of_the_zero_filled_matrix() -> None:
    torch.manual_seed(0)
    q_BHLD, k_BGLD = torch.randn(2, 1, 2, 64, 8, dtype=torch.float64)
    attention = (q_BHLD @ k_BGLD.transpose(-1, -2) / math.sqrt(8)).masked_fill(
        torch.ones(64, 64).triu(1).bool(), -math.inf
    )
    far = attention.softmax(-1).tril(-16)
    found = far_statistics(q_BHLD, k_BGLD, k=16)
    ds_H, du_H = dependency(found.s1_BH[0], found.s2_BH[0], 64, 16)
    assert torch.allclose(ds_H, far.sum((-1, -2))[0] / 64)
    assert torch.allclose(du_H, -far[0].flatten(1).var(dim=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_blocked_twin_errs_no_more_than_plain_torch(case: tuple, dtype: torch.dtype) -> None:
    assert_within_budget(far_statistics, case, dtype)


def test_tiles_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    q_BHLD, k_BGLD = torch.randn(1, 4, 201, 16), torch.randn(1, 2, 201, 16)
    whole = far_statistics_reference(q_BHLD.double(), k_BGLD.double(), k=50)
    for rows, keys in ((64, 32), (128, 200), (512, 7)):
        monkeypatch.setattr("longattn.udfs.attention.blocked.TILE_ROWS", rows)
        monkeypatch.setattr("longattn.udfs.attention.blocked.TILE_KEYS", keys)
        found = far_statistics(q_BHLD, k_BGLD, k=50)
        assert torch.allclose(found.s1_BH, whole.s1_BH, rtol=1e-5)
        assert torch.allclose(found.s2_BH, whole.s2_BH, rtol=1e-5)


@st.composite
def problems(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, dict[str, object]]:
    """Any small window: q, k and options, with k anywhere from 1 to past the last distance."""
    group, key_heads, length = (
        draw(st.integers(1, 4)),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 70)),
    )
    generator = torch.manual_seed(draw(st.integers(0, 1000)))
    q_BHLD = torch.randn(1, group * key_heads, length, 8, generator=generator) * 2
    k_BGLD = torch.randn(1, key_heads, length, 8, generator=generator) * 2
    rows = draw(st.none() | st.sets(st.integers(0, length - 1), min_size=1).map(sorted))
    return (
        q_BHLD,
        k_BGLD,
        {
            "k": draw(st.integers(1, length + 1)),
            "softcap": draw(st.none() | st.floats(1, 60)),
            "sliding_window": draw(st.none() | st.integers(1, length + 5)),
            "rows": None if rows is None else torch.tensor(rows),
        },
    )


@given(problems())
@settings(max_examples=60, deadline=None)
def test_any_window_scores_as_defined(problem: tuple) -> None:
    q_BHLD, k_BGLD, options = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "longattn.udfs.attention.blocked.TILE_KEYS", 24
        )  # several tiles even in a small window
        patch.setattr("longattn.udfs.attention.blocked.TILE_ROWS", 32)
        found = far_statistics(q_BHLD, k_BGLD, keep_rows=True, **options)
    truth = far_statistics_reference(q_BHLD.double(), k_BGLD.double(), keep_rows=True, **options)
    for name in ("row_mass_BHR", "row_square_BHR"):
        assert torch.allclose(getattr(found, name).double(), getattr(truth, name), atol=2e-6), name
    assert torch.allclose(found.row_mass_BHR.double().sum(-1), found.s1_BH)


def test_keys_may_be_a_view_of_another_layout() -> None:
    """Models hand over [B, L, H, D] transposed."""
    torch.manual_seed(4)
    q_BLHD, k_BLGD = torch.randn(2, 60, 4, 8), torch.randn(2, 60, 2, 8)
    views = (q_BLHD.transpose(1, 2), k_BLGD.transpose(1, 2))
    found, truth = (f(*views, k=15) for f in KERNELS[::-1])
    assert torch.allclose(found.s1_BH, truth.s1_BH) and torch.allclose(found.s2_BH, truth.s2_BH)


def test_inputs_are_left_as_they_were() -> None:
    q_BHLD, k_BGLD = torch.randn(1, 2, 40, 8), torch.randn(1, 1, 40, 8)
    before = q_BHLD.clone(), k_BGLD.clone()
    far_statistics(q_BHLD, k_BGLD, k=10, softcap=5.0)
    assert torch.equal(q_BHLD, before[0]) and torch.equal(k_BGLD, before[1])


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([(1, 1), (2, 1), (3, 3), (6, 2)]))
@settings(max_examples=40, deadline=None)
def test_uniform_attention_has_a_closed_form(length: int, k: int, heads: tuple[int, int]) -> None:
    """All scores equal: row n spreads 1 / (n + 1) on each key, n - k + 1 of them far."""
    q_BHLD = torch.zeros(1, heads[0], length, 4)
    found = far_statistics(q_BHLD, torch.randn(1, heads[1], length, 4), k=k)
    rows = range(k, length)
    s1 = sum((n - k + 1) / (n + 1) for n in rows)
    s2 = sum((n - k + 1) / (n + 1) ** 2 for n in rows)
    assert found.s1_BH.flatten().tolist() == pytest.approx([s1] * heads[0], rel=1e-5)
    assert found.s2_BH.flatten().tolist() == pytest.approx([s2] * heads[0], rel=1e-5)


@pytest.mark.parametrize("size", [1e2, 1e4])
def test_huge_scores_do_not_overflow(size: float) -> None:
    torch.manual_seed(2)
    q_BHLD, k_BGLD = torch.randn(1, 2, 80, 8) * size, torch.randn(1, 1, 80, 8) * size
    found = far_statistics(q_BHLD, k_BGLD, k=20)
    truth = far_statistics_reference(q_BHLD.double(), k_BGLD.double(), k=20)
    assert torch.isfinite(found.s1_BH).all()
    assert torch.allclose(found.s1_BH, truth.s1_BH, atol=0.05)


def test_two_log_sum_exps_say_the_same() -> None:
    """S1 row = exp(lse_far - lse), S2 row = exp(lse_far(2 s) - 2 lse), as flash attention gives."""
    torch.manual_seed(3)
    length, k = 120, 30
    q_BHLD, k_BGLD = torch.randn(2, 1, 2, length, 16, dtype=torch.float64)
    scores = q_BHLD @ k_BGLD.transpose(-1, -2) / 4
    seen = torch.ones(length, length).tril().bool()
    far = torch.ones(length, length).tril(-k).bool()
    lse = scores.masked_fill(~seen, -math.inf).logsumexp(-1)
    lse_far = scores.masked_fill(~far, -math.inf).logsumexp(-1)
    lse_far_2 = (2 * scores).masked_fill(~far, -math.inf).logsumexp(-1)
    found = far_statistics(q_BHLD, k_BGLD, k=k)
    assert torch.allclose(found.s1_BH, (lse_far - lse).exp().sum(-1))
    assert torch.allclose(found.s2_BH, (lse_far_2 - 2 * lse).exp().sum(-1))


@pytest.mark.parametrize("softcap", [None, 20.0])
@pytest.mark.parametrize("units", [False, True])
def test_bfloat16_windows_lose_nothing_in_their_products(
    units: bool, softcap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the definition in float64 of the same rounded inputs, with the CPU's units or without."""
    settings_seen = []
    matmul = torch.backends.mkldnn.matmul
    before, multiply = matmul.fp32_precision, torch.mm

    def watched(*arguments: torch.Tensor, **options: torch.Tensor) -> torch.Tensor:
        settings_seen.append(matmul.fp32_precision)
        return multiply(*arguments, **options)

    monkeypatch.setattr(blocked, "has_bfloat16_products", lambda: units)
    monkeypatch.setattr(torch, "mm", watched)
    torch.manual_seed(0)
    q_BHLD = torch.randn(1, 4, 700, 64).bfloat16() * 3
    k_BGLD = torch.randn(1, 2, 700, 64).bfloat16()
    found = blocked.far_statistics_blocked(q_BHLD, k_BGLD, k=175, softcap=softcap)
    exact = far_statistics_reference(q_BHLD.double(), k_BGLD.double(), k=175, softcap=softcap)
    torch.testing.assert_close(found.s1_BH, exact.s1_BH, rtol=1e-5, atol=0)
    torch.testing.assert_close(found.s2_BH, exact.s2_BH, rtol=1e-5, atol=0)
    assert set(settings_seen) == {"bf16" if units else before}
    assert matmul.fp32_precision == before


@pytest.mark.parametrize("units", [False, True])
@pytest.mark.parametrize("sliding_window", [None, 1, 70])
@pytest.mark.parametrize(
    ("heads", "key_heads", "length", "dim", "values", "scale"),
    [(6, 2, 300, 64, 64, None), (4, 4, 257, 16, 48, 0.3), (512, 1, 5, 8, 8, None)],
)
def test_bfloat16_output_errs_no_more_than_pytorchs_kernel(
    heads: int,
    key_heads: int,
    length: int,
    dim: int,
    values: int,
    scale: float | None,
    sliding_window: int | None,
    units: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against float64 of the same rounded inputs; the last case has more heads than tile rows."""
    monkeypatch.setattr(blocked, "has_bfloat16_products", lambda: units)
    torch.manual_seed(length)
    q_BHLD = torch.randn(2, heads, length, dim).bfloat16() * 3
    k_BGLD = torch.randn(2, key_heads, length, dim).bfloat16()
    v_BGLD = torch.randn(2, key_heads, length, values).bfloat16()
    seen_LL = torch.ones(length, length, dtype=torch.bool).tril()
    if sliding_window:
        seen_LL &= ~seen_LL.tril(-sliding_window)

    def stock(*inputs: torch.Tensor) -> torch.Tensor:
        found = torch.nn.functional.scaled_dot_product_attention(
            *inputs, attn_mask=seen_LL, scale=scale, enable_gqa=True
        )
        return found.transpose(1, 2).double()

    exact = stock(q_BHLD.double(), k_BGLD.double(), v_BGLD.double())
    found = output.causal_output(q_BHLD, k_BGLD, v_BGLD, scale, sliding_window)
    assert found.dtype == torch.bfloat16 and found.is_contiguous()
    error, allowed = (
        torch.linalg.norm(one - exact) for one in (found.double(), stock(q_BHLD, k_BGLD, v_BGLD))
    )
    assert error <= 1.5 * allowed


@pytest.mark.parametrize("length", [1, 31, 257, 8192, 32_768])
def test_products_have_few_widths(length: int) -> None:
    found = [output._keys(rows, length, None) for rows in spans(0, length, 64)]
    stops = [min(64 * (i + 1), length) for i in range(len(found))]
    assert all(
        keys.start == 0 and a <= keys.stop <= length for a, keys in zip(stops, found, strict=True)
    )
    assert len({keys.stop for keys in found}) <= output.SHAPES
    assert sum(keys.stop for keys in found) <= 1.04 * sum(stops) + length  # little in vain


def test_the_way_to_the_output_is_chosen_by_what_the_cpu_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    q_BHLD = torch.zeros(1, 1, output.SHORTEST, 8, dtype=torch.bfloat16)
    monkeypatch.setattr(output, "has_bfloat16_products", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert output.is_faster(q_BHLD)
    assert not output.is_faster(q_BHLD.float())
    assert not output.is_faster(q_BHLD[:, :, 1:])
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert not output.is_faster(q_BHLD)
