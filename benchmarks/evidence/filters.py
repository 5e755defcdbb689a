"""What filters by percentile refuse of broken windows, where they refuse so many real ones."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from benchmarks.evidence.markdown import head, row
from benchmarks.evidence.scoring import BROKEN, NOISE

Band = tuple[float, float]
COLUMNS = {"cohesion": "ds", "compress": "ratio"}
BANDS: dict[str, list[Band]] = {
    "cohesion": [(5, 100), (10, 100), (20, 100)],
    "compress": [(5, 100), (5, 95), (10, 90), (20, 80)],
}


def refused_table(table: pd.DataFrame) -> Iterator[str]:
    """Shares refused, each the mean over domains; of real windows a band refuses what it says."""
    yield "### What filters refuse of broken windows"
    bands = [(scorer, band) for scorer, some in BANDS.items() for band in some]
    yield from head("windows", *(f"{scorer} {low:g} to {high:g}" for scorer, (low, high) in bands))
    for version in ("real", *BROKEN, *NOISE):
        yield row(version, *(f"{refused(table, version, *band):.0%}" for band in bands))


def refused(table: pd.DataFrame, version: str, scorer: str, band: Band) -> float:
    """The share of a version's windows outside a band of the real ones; the mean over domains."""
    rows, column = table[table.scorer == scorer], COLUMNS[scorer]
    shares = []
    for _, some in rows.groupby("domain"):
        low, high = np.percentile(some[column][some.version == "real"], band)
        of_version = some[column][some.version == version]
        outside = (of_version < low) | (of_version > (np.inf if band[1] == 100 else high))
        shares.append(outside.mean())
    return float(np.mean(shares))
