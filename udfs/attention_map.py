"""A coarse picture of a window's far attention, to be looked at beside its text."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from udfs.attention import default_k
from udfs.longattn import load_longattn
from udfs.model import AttentionCall
from udfs.scorers import ScorerSpec, TokenIds

CELLS = 64  # along each side


def attention_map(
    token_ids: TokenIds, spec: ScorerSpec, cells: int = CELLS
) -> npt.NDArray[np.float64]:
    """Mean far attention per cell [queries, keys] of the spec's first layer, over heads.

    A cell (i, j) holds the mean over its queries of the mass on its keys that are k or more back;
    its rows therefore sum to the mean far mass of those queries.
    """
    scorer = load_longattn(spec)
    k = spec.k or default_k(len(token_ids))
    drawn: list[Tensor] = []

    def visit(call: AttentionCall) -> None:
        drawn.append(far_cells(call.q_BHLD[0], call.k_BGLD[0], k, cells, **call.score_options))

    ids_BL = torch.from_numpy(np.asarray(token_ids, dtype=np.int64))[None]
    with torch.inference_mode():
        scorer.prefix.visit(ids_BL, spec.layers[:1], visit)
    return drawn[0].numpy()


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
    """The map of one layer; one strip of queries of one head is in memory at a time."""
    heads, length, dim = q_HLD.shape
    bounds = np.linspace(0, length, min(cells, length) + 1).astype(int).tolist()
    keys_L = torch.arange(length, device=q_HLD.device)
    cell_L = torch.bucketize(keys_L, torch.tensor(bounds[1:-1], device=q_HLD.device), right=True)
    found = torch.zeros(len(bounds) - 1, len(bounds) - 1, dtype=torch.float64)
    for head in range(heads):
        k_LD = k_GLD[head * len(k_GLD) // heads].float()
        for strip, (start, stop) in enumerate(pairwise(bounds)):
            scores_RL = q_HLD[head, start:stop].float() @ k_LD.T * (scale or dim**-0.5)
            if softcap is not None:
                scores_RL = softcap * torch.tanh(scores_RL / softcap)
            distance_RL = keys_L[start:stop, None] - keys_L
            seen_RL = (distance_RL >= 0) & (distance_RL < (sliding_window or length))
            mass_RL = scores_RL.masked_fill(~seen_RL, -torch.inf).softmax(-1)
            far_L = mass_RL.masked_fill(distance_RL < k, 0.0).mean(0).double().cpu()
            found[strip].index_add_(0, cell_L.cpu(), far_L)
    return found / heads
