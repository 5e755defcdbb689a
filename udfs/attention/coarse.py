"""A cheap estimate of every row's far statistics, from few keys drawn by importance.

Far attention stands in columns: the same few keys draw the most of many query rows. PILOTS rows,
scored whole, show which. Keys are then drawn with a chance in proportion to what they drew, the
heaviest for certain, and count for one over that chance; the nearest keys of a row, which its
softmax leans on, are all taken. What such an estimate misses is found by `sampled`, on the rows
that it scores exactly, and taken off.

Shapes: B windows, H query heads, G key heads, L tokens, D head dimension, R rows of a block, N of
the drawn keys that a block sees, J nearest keys, P pilot rows, C keys drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from longattn.udfs.attention.dependency import LOG2_E, score_scale, spans

PILOTS = 64
NEAREST = 16  # keys of a row, itself included, that are taken whole
FLOOR = 0.2  # of the mean importance, that a key which drew nothing from the pilots still has
BLOCK_ROWS, GPU_BLOCK_ROWS = 256, 4096  # what stays in a core's cache; what fills a GPU

Scores = Callable[[Tensor, Tensor], Tensor]  # q_HRD, k_ND or k_RDJ -> scores in base 2, [H, R, N]


@dataclass(frozen=True)
class KeySample:
    """Keys drawn of a window, and how many keys each stands for."""

    keys_C: Tensor  # int64, ascending
    weight_C: Tensor


def coarse_statistics(
    q_BHLD: Tensor,
    k_BGLD: Tensor,
    *,
    k: int,
    n_keys: int,
    scale: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Estimate each row's far mass and far sum of squares; [B, H, L] twice, 0 in rows below k.

    Arguments are those of `dispatch.far_statistics`. Exact, up to rounding, where `n_keys` is L or
    more. The same keys for the same inputs: no chance is in it.
    """
    dtype = torch.float64 if q_BHLD.dtype == torch.float64 else torch.float32
    scores = _scores(score_scale(q_BHLD, scale), softcap)
    reach = sliding_window or q_BHLD.shape[2]
    mass_BHL = q_BHLD.new_zeros(q_BHLD.shape[:3], dtype=dtype)
    square_BHL = torch.zeros_like(mass_BHL)
    group = q_BHLD.shape[1] // k_BGLD.shape[1]
    block_rows = GPU_BLOCK_ROWS if q_BHLD.is_cuda else BLOCK_ROWS
    for window, key_head in product(range(k_BGLD.shape[0]), range(k_BGLD.shape[1])):
        heads = slice(key_head * group, (key_head + 1) * group)
        q_HLD, k_LD = q_BHLD[window, heads].to(dtype), k_BGLD[window, key_head].to(dtype)
        sample = draw_keys(importance(q_HLD, k_LD, scores, k, reach), n_keys)
        nearest_HLJ = _nearest(q_HLD, k_LD, scores, reach)
        for rows in spans(k, len(k_LD), block_rows):
            mass_BHL[window, heads, rows], square_BHL[window, heads, rows] = _block(
                q_HLD[:, rows], k_LD, rows, nearest_HLJ[:, rows], sample, scores, k, reach
            )
    return mass_BHL, square_BHL


def importance(q_HLD: Tensor, k_LD: Tensor, scores: Scores, k: int, reach: int) -> Tensor:
    """What a key is worth: the root mean square of its shares in the pilots' sums; [L].

    Of two sums together, S1 and S2, over pilots that see the key as more than one of their nearest.
    """
    length, tiny = len(k_LD), torch.finfo(k_LD.dtype).tiny
    row_P = torch.linspace(min(k, length - 1), length - 1, PILOTS, device=k_LD.device).long()
    distance_PL = row_P[:, None] - torch.arange(length, device=k_LD.device)
    seen_PL = (distance_PL >= 0) & (distance_PL < reach)
    s_HPL = scores(q_HLD[:, row_P], k_LD).masked_fill_(~seen_PL, -torch.inf)
    p_HPL = s_HPL.sub_(s_HPL.amax(-1, keepdim=True)).exp2_()
    p_HPL /= p_HPL.sum(-1, keepdim=True)
    p_HPL.masked_fill_(distance_PL < NEAREST, 0.0)
    worth_L = p_HPL.square().sum((0, 1)) / p_HPL.sum().square().clamp_(min=tiny)
    p_HPL.square_().masked_fill_(distance_PL < k, 0.0)
    worth_L += p_HPL.square().sum((0, 1)) / p_HPL.sum().square().clamp_(min=tiny)
    pilots_L = (seen_PL & (distance_PL >= NEAREST)).sum(0).clamp_(min=1)
    importance_L = (worth_L / pilots_L).sqrt_()
    return importance_L + (FLOOR * importance_L.mean()).clamp_(min=tiny)


def draw_keys(importance_L: Tensor, count: int) -> KeySample:
    """Draw keys with a chance in proportion to importance, at even steps of its running sum.

    Chances add up to `count`; those that would be above one are one (Horvitz and Thompson 1952).
    """
    if count >= len(importance_L):
        return KeySample(
            torch.arange(len(importance_L), device=importance_L.device),
            torch.ones_like(importance_L),
        )
    chance_L = _chances(importance_L.double(), count)
    steps_L = (chance_L.cumsum(0) + 0.5).floor()
    drawn_L = torch.diff(steps_L, prepend=steps_L.new_zeros(1)) > 0
    return KeySample(
        torch.nonzero(drawn_L).squeeze(1), chance_L[drawn_L].reciprocal().to(importance_L.dtype)
    )


def _chances(importance_L: Tensor, count: int) -> Tensor:
    """min(1, c * importance), with the c for which they add up to count."""
    falling_L = importance_L.sort(descending=True).values
    rest_L = falling_L.flip(0).cumsum(0).flip(0)  # of a key and all below it
    left_C = count - torch.arange(count, device=importance_L.device)
    certain = int((left_C * falling_L[:count] > rest_L[:count]).sum())
    return (importance_L * (count - certain) / rest_L[certain]).clamp_(max=1.0)


def _nearest(q_HLD: Tensor, k_LD: Tensor, scores: Scores, reach: int) -> Tensor:
    """Scores of each row's nearest keys, farthest first; [H, L, J], -inf where there is none."""
    padded_LD = torch.cat([k_LD.new_zeros(NEAREST - 1, k_LD.shape[1]), k_LD])
    s_HLJ = scores(q_HLD, padded_LD.unfold(0, NEAREST, 1))
    distance_J = torch.arange(NEAREST - 1, -1, -1, device=k_LD.device)
    seen_LJ = torch.arange(len(k_LD), device=k_LD.device)[:, None] >= distance_J
    return s_HLJ.masked_fill_(~seen_LJ | (distance_J >= reach), -torch.inf)


def _block(
    q_HRD: Tensor,
    k_LD: Tensor,
    rows: slice,
    nearest_HRJ: Tensor,
    sample: KeySample,
    scores: Scores,
    k: int,
    reach: int,
) -> tuple[Tensor, Tensor]:
    """Far mass and sum of squares of neighbouring rows, from drawn keys and their nearest.

    Drawn keys ascend, so each mask touches one stretch of columns:

        far       all of them | to some rows | to none ......
        hidden    from none .................. | from some rows
    """
    row_R1 = torch.arange(rows.start, rows.stop, device=k_LD.device)[:, None]
    ends = row_R1[[0, -1]] - torch.tensor([k, NEAREST], device=k_LD.device)
    (all_far, clear), (far, drawn) = torch.searchsorted(sample.keys_C, ends, right=True).tolist()
    drawn = max(drawn, 1)  # hidden where it is one of the nearest
    if reach < rows.stop:  # a sliding window hides keys at the other end too
        clear = 0
    key_N, weight_N = sample.keys_C[:drawn], sample.weight_C[:drawn]
    s_HRN = scores(q_HRD, k_LD[key_N]).add_(weight_N.log2())
    distance_RN = row_R1 - key_N[clear:]
    s_HRN[..., clear:].masked_fill_((distance_RN < NEAREST) | (distance_RN >= reach), -torch.inf)
    most_HR1 = torch.maximum(s_HRN.amax(-1, keepdim=True), nearest_HRJ.amax(-1, keepdim=True))
    p_HRN, p_HRJ = s_HRN.sub_(most_HR1).exp2_(), (nearest_HRJ - most_HR1).exp2_()
    l_HR = p_HRN.sum(-1) + p_HRJ.sum(-1)
    far_HRN, far_HRJ = p_HRN[..., :far], p_HRJ[..., : max(NEAREST - k, 0)]
    far_HRN[..., all_far:].masked_fill_(row_R1 - key_N[all_far:far] < k, 0.0)
    mass_HR = far_HRN.sum(-1) + far_HRJ.sum(-1)
    square_HR = far_HRN.square() @ weight_N[:far].reciprocal() + far_HRJ.square().sum(-1)
    return mass_HR / l_HR, square_HR / l_HR.square()


def _scores(scale: float, softcap: float | None) -> Scores:
    """Scaled and capped scores in base 2, as longattn.udfs.attention.blocked takes them."""

    def scores(q_HRD: Tensor, k_ND: Tensor) -> Tensor:
        if softcap is None:
            return _product(q_HRD * (scale * LOG2_E), k_ND)
        return _product(q_HRD * (scale / softcap), k_ND).tanh_().mul_(softcap * LOG2_E)

    return scores


def _product(q_HRD: Tensor, k_ND: Tensor) -> Tensor:
    """Each query with keys common to all rows, k_ND, or with its own, k_RDJ."""
    if k_ND.dim() == 2:
        return q_HRD @ k_ND.T
    return (q_HRD.transpose(0, 1) @ k_ND).transpose(0, 1)
