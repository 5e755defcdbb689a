"""Where a window's far attention comes from and goes to: a coarse map and a curve, to look at."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longattn.udfs.attention.dependency import score_scale
from longattn.udfs.digest import while_unchanged
from longattn.udfs.models.prefix import AttentionCall
from longattn.udfs.scorers.base import ScorerSpec, TokenIds
from longattn.udfs.scorers.kinds.longattn import LongAttn, load_longattn

CELLS = 48  # along each side of the report's maps
ROWS_PER_CELL = 8  # query rows looked at for each row of cells: a picture needs no more
ROWS = 64  # query rows of all heads held at a time

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FarMap:
    """Far attention of some query rows of a window, means over the heads of all layers."""

    mass_QK: Floats  # mean over the queries looked at of a cell, of their mass on a cell's keys
    rows_R: NDArray[np.int64]  # queries looked at
    ds_R: Floats  # their far mass
    keys_R: NDArray[np.int64]  # the far key that each attends to most, BOS counted
    weights_R: Floats  # how much of its attention that is
    k: int


def attention_map(token_ids: TokenIds, spec: ScorerSpec, cells: int = CELLS) -> FarMap:
    """The map of a window by the spec's scorer, from a few rows of each cell."""
    return far_map(_loaded(spec), token_ids, cells, ROWS_PER_CELL)


@while_unchanged(lambda spec: [spec.model])
def _loaded(spec: ScorerSpec) -> LongAttn:
    torch.set_num_threads(spec.threads or 1)
    return load_longattn(spec)


def far_map(
    scorer: LongAttn, token_ids: TokenIds, cells: int, rows_per_cell: int | None = None
) -> FarMap:
    """Look at `rows_per_cell` evenly spaced queries of each row of cells, or at all of them.

    Rows of the map sum to the mean far mass of the queries looked at there.
    """
    ids_BL = scorer.with_bos([token_ids])
    length, k = ids_BL.shape[1], scorer.k_of(ids_BL.shape[1])
    bounds = np.linspace(0, length, min(cells, length) + 1).astype(int)
    rows = [_spread(start, stop, rows_per_cell) for start, stop in pairwise(bounds.tolist())]
    cell_L = torch.bucketize(torch.arange(length), torch.tensor(bounds[1:-1]), right=True)
    drawn: list[tuple[Tensor, Tensor, Tensor]] = []

    def visit(call: AttentionCall) -> None:
        parts = [by_cell(call, rows_R, cell_L, k) for rows_R in rows]
        mass_R, weight_R, key_R = (torch.cat(part) for part in zip(*parts, strict=True))
        drawn.append((mass_R, weight_R, key_R))

    with torch.inference_mode():
        scorer.prefix.visit(ids_BL, scorer.spec.layers, visit)
    mass_LRK, weight_LR, key_LR = (torch.stack(part) for part in zip(*drawn, strict=True))
    mass_RK = mass_LRK.mean(0)
    mass_QK = torch.stack([part.mean(0) for part in torch.split(mass_RK, [len(r) for r in rows])])
    weight_R, layer_R = weight_LR.max(0)
    return FarMap(
        mass_QK=mass_QK.numpy(),
        rows_R=torch.cat(rows).numpy(),
        ds_R=mass_RK.sum(1).numpy(),
        keys_R=key_LR.gather(0, layer_R[None])[0].numpy(),
        weights_R=weight_R.numpy(),
        k=k,
    )


def _spread(start: int, stop: int, count: int | None) -> Tensor:
    """Rows of [start, stop), evenly spaced."""
    return torch.linspace(start, stop - 1, min(stop - start, count or stop)).long()


def by_cell(
    call: AttentionCall, rows_R: Tensor, cell_L: Tensor, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Far mass of query rows on the keys of each cell, mean over heads: float64 [R, cells].

    And the far key that has most of it, with its share: [R] and [R].
    """
    masses, weights, keys, cells = [], [], [], int(cell_L[-1]) + 1
    for part_R in torch.split(rows_R, ROWS):
        far_RN = far_rows(call, part_R, k)
        mass_RK = far_RN.new_zeros(len(part_R), cells)
        masses.append(mass_RK.index_add_(1, cell_L[: far_RN.shape[1]], far_RN))
        weight_R, key_R = far_RN.max(1)
        weights.append(weight_R)
        keys.append(key_R)
    return torch.cat(masses), torch.cat(weights), torch.cat(keys)


def far_rows(call: AttentionCall, rows_R: Tensor, k: int) -> Tensor:
    """Far attention of the first window's query rows, mean over heads: float64 [R, keys], CPU."""
    groups, dim = call.k_BGLD.shape[1], call.q_BHLD.shape[3]
    stop = int(rows_R[-1]) + 1
    q_GQD = call.q_BHLD[0][:, rows_R].float().reshape(groups, -1, dim)
    k_GND = call.k_BGLD[0, :, :stop].float()
    scores_HRN = (q_GQD @ k_GND.mT).view(-1, len(rows_R), stop)
    scores_HRN *= score_scale(call.q_BHLD, call.scale)
    if call.softcap is not None:
        scores_HRN = call.softcap * torch.tanh(scores_HRN / call.softcap)
    distance_RN = (rows_R[:, None] - torch.arange(stop)).to(scores_HRN.device)
    seen_RN = (distance_RN >= 0) & (distance_RN < (call.sliding_window or stop))
    mass_HRN = scores_HRN.masked_fill(~seen_RN, -torch.inf).softmax(-1)
    return mass_HRN.masked_fill(distance_RN < k, 0.0).mean(0).double().cpu()
