"""Where the long-range attention of one window comes from and goes to, drawn as a PNG."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longattn.udfs.errors import UserError
from longattn.udfs.pictures.colours import ATTENTION
from longattn.udfs.scorers.base import Scorer, TokenIds

if TYPE_CHECKING:
    from longattn.udfs.pictures.attention_map import FarMap

CELLS = 128  # of the map along each side


def draw_window(scorer: Scorer, token_ids: TokenIds, path: Path) -> None:
    """Draw the far mass from query n to key i as a coarse map, and DS_n, to a PNG.

    Raises UserError for a scorer without attention, or where matplotlib is not installed.
    """
    from longattn.udfs.pictures.attention_map import far_map
    from longattn.udfs.scorers.kinds.longattn import LongAttn

    if not isinstance(scorer, LongAttn):
        raise UserError(f"--plot: {scorer.version} has no attention to draw")
    drawn = far_map(scorer, token_ids, CELLS)
    figure = _figure(drawn)
    figure.suptitle(f"far attention at {drawn.k} tokens or more: DS = {drawn.ds_R.mean():.3f}")
    figure.savefig(path, dpi=120)


def _figure(drawn: "FarMap") -> Any:
    try:
        from matplotlib.colors import LinearSegmentedColormap, LogNorm
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("--plot needs matplotlib: pip install longattn-spark[plot]") from None
    mass_QK, length = drawn.mass_QK, len(drawn.rows_R)
    figure = Figure(figsize=(7, 9), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[3, 1])
    largest = max(mass_QK.max(), 1e-12)
    image = above.imshow(
        np.where(mass_QK > 0, mass_QK, np.nan),
        norm=LogNorm(largest / 1e4, largest),
        cmap=LinearSegmentedColormap.from_list("attention", ATTENTION),
        extent=(0, length, length, 0),
    )
    figure.colorbar(image, ax=above, label="share of a query's attention in a cell of keys")
    # nothing is far for the first k queries, nor of the last k keys
    far = {"xlim": (0, max(length - drawn.k, 1)), "ylim": (length, min(drawn.k, length - 1))}
    above.set(xlabel="key i (token)", ylabel="query n (token)", **far)
    below.plot(drawn.rows_R, drawn.ds_R, linewidth=0.5, color=ATTENTION[3])
    below.set(xlabel="query n (token)", ylabel="far share DS_n", xlim=(drawn.k, length))
    below.set_ylim(0, 1)
    return figure
