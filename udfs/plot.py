"""Where the long-range attention of one window comes from and goes to, drawn as a PNG."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from udfs.errors import UserError
from udfs.scorers import Scorer, TokenIds

if TYPE_CHECKING:
    from udfs.longattn import LongAttn
    from udfs.model import AttentionCall

CELLS = 128  # of the map along each side
ROWS = 64  # query rows of all heads held at a time

Floats = NDArray[np.float64]


def draw_window(scorer: Scorer, token_ids: TokenIds, path: Path) -> None:
    """Draw the far mass from query n to key i as a coarse map, and DS_n, to a PNG.

    Raises UserError for a scorer without attention, or where matplotlib is not installed.
    """
    from udfs.longattn import LongAttn

    if not isinstance(scorer, LongAttn):
        raise UserError(f"--plot: {scorer.version} has no attention to draw")
    map_NI, ds_L, k = far_map(scorer, token_ids)
    figure = _figure(map_NI, ds_L, k)
    figure.suptitle(f"far attention at {k} tokens or more: DS = {ds_L.mean():.3f}")
    figure.savefig(path, dpi=120)


def far_map(
    scorer: "LongAttn", token_ids: TokenIds, cells: int = CELLS
) -> tuple[Floats, Floats, int]:
    """Far mass summed by cell [queries, keys], far mass of each query [L], and k.

    Means over the heads of all layers; the map's total and the curve's total are both DS * L.
    """
    import torch

    ids_BL = scorer.with_bos([token_ids])
    length, k = ids_BL.shape[1], scorer.k_of(ids_BL.shape[1])
    cell_L = torch.arange(length) * min(cells, length) // length
    map_NI, ds_L = torch.zeros(2 * [min(cells, length)]).double(), torch.zeros(length).double()

    def visit(call: "AttentionCall") -> None:
        for start in range(0, length, ROWS):
            far_RN = _far_rows(call, start, k)
            rows, keys = slice(start, start + len(far_RN)), slice(0, far_RN.shape[1])
            ds_L[rows] += far_RN.sum(1)
            by_key_RI = far_RN.new_zeros(len(far_RN), len(map_NI)).index_add_(
                1, cell_L[keys], far_RN
            )
            map_NI.index_add_(0, cell_L[rows], by_key_RI)

    layers = scorer.spec.layers
    with torch.inference_mode():
        scorer.prefix.visit(ids_BL, layers, visit)
    return map_NI.numpy() / len(layers), ds_L.numpy() / len(layers), k


def _far_rows(call: "AttentionCall", start: int, k: int) -> Any:
    """Far attention of query rows from `start` on, mean over heads: float64 [R, keys]."""
    q_BHRD, k_BGND = call.q_BHLD[:, :, start : start + ROWS], call.k_BGLD[:, :, : start + ROWS]
    weights_BHRN = call.eager(q_BHRD, k_BGND, call.causal_mask(start, q_BHRD))[1]
    return weights_BHRN[0].mean(0).double().cpu().tril(start - k)


def _figure(map_NI: Floats, ds_L: Floats, k: int) -> Any:
    try:
        from matplotlib.colors import LogNorm
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("--plot needs matplotlib: pip install longattn-spark[plot]") from None
    length = len(ds_L)
    figure = Figure(figsize=(7, 9), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[3, 1])
    largest = max(map_NI.max(), 1e-12)
    image = above.imshow(
        np.where(map_NI > 0, map_NI, np.nan),
        norm=LogNorm(largest / 1e4, largest),
        extent=(0, length, length, 0),
    )
    figure.colorbar(image, ax=above, label="far mass, mean over heads")
    above.set(xlabel="key i", ylabel="query n")
    below.plot(np.arange(length), ds_L, linewidth=0.5)
    below.axvline(k, color="grey", linestyle=":")
    below.set(xlabel="query n", ylabel="DS_n", xlim=(0, length), ylim=(0, 1))
    return figure
