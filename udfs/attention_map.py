"""A coarse picture of a window's far attention, to be looked at beside its text."""

from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from udfs.attention import default_k
from udfs.longattn import LongAttn, load_longattn
from udfs.model import AttentionCall
from udfs.scorers import ScorerSpec, TokenIds

CELLS = 64  # along each side
ROWS_PER_CELL = 16  # query rows looked at for each row of cells: a picture needs no more


def attention_map(
    token_ids: TokenIds, spec: ScorerSpec, cells: int = CELLS
) -> npt.NDArray[np.float64]:
    """Mean far attention per cell [queries, keys] of the spec's first layer, over heads.

    A cell (i, j) holds the mean, over evenly spaced queries of it, of the mass on its keys that are
    k or more back; its rows therefore sum to the mean far mass of those queries.
    """
    scorer = _loaded(spec)
    k = spec.k or default_k(len(token_ids))
    drawn: list[Tensor] = []

    def visit(call: AttentionCall) -> None:
        drawn.append(far_cells(call.q_BHLD[0], call.k_BGLD[0], k, cells, **call.score_options))

    ids_BL = torch.from_numpy(np.asarray(token_ids, dtype=np.int64))[None]
    with torch.inference_mode():
        scorer.prefix.visit(ids_BL, spec.layers[:1], visit)
    return drawn[0].numpy()


@cache
def _loaded(spec: ScorerSpec) -> LongAttn:
    torch.set_num_threads(spec.threads or 1)
    return load_longattn(spec)


def far_cells(
    q_HLD: Tensor,
    k_GLD: Tensor,
    k: int,
    cells: int,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
) -> Tensor:
    """The map of one layer; one strip of queries, all heads together, is in memory at a time."""
    heads, length, dim = q_HLD.shape
    bounds = np.linspace(0, length, min(cells, length) + 1).astype(int).tolist()
    keys_L = torch.arange(length, device=q_HLD.device)
    cell_L = torch.bucketize(keys_L, torch.tensor(bounds[1:-1], device=q_HLD.device), right=True)
    k_HDL = k_GLD.float().repeat_interleave(heads // len(k_GLD), dim=0).transpose(1, 2)
    found = torch.zeros(len(bounds) - 1, len(bounds) - 1, dtype=torch.float64)
    for strip, (start, stop) in enumerate(pairwise(bounds)):
        rows_R = torch.linspace(start, stop - 1, min(stop - start, ROWS_PER_CELL)).long()
        scores_HRK = q_HLD[:, rows_R].float() @ k_HDL[:, :, :stop] * (scale or dim**-0.5)
        if softcap is not None:
            scores_HRK = softcap * torch.tanh(scores_HRK / softcap)
        distance_RK = rows_R.to(keys_L.device)[:, None] - keys_L[:stop]
        seen_RK = (distance_RK >= 0) & (distance_RK < (sliding_window or length))
        mass_HRK = scores_HRK.masked_fill(~seen_RK, -torch.inf).softmax(-1)
        far_K = mass_HRK.masked_fill(distance_RK < k, 0.0).mean((0, 1)).double().cpu()
        found[strip].index_add_(0, cell_L[:stop].cpu(), far_K)
    return found
