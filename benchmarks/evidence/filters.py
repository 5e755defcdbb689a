"""What filters by percentile refuse of broken windows, where they refuse so many real ones."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.evidence.markdown import head, row

BROKEN = ("shuffled", "pieces of 512", "pieces of 2048", "repeated")
NOISE = ("tokens shuffled", "random tokens")


class Band(NamedTuple):
    """Percentiles of a domain, by a column of a scorer's."""

    scorer: str
    column: str
    low: float
    high: float


def cohesion(low: float) -> Band:
    return Band("cohesion", "ds", low, 100)


def ratio(low: float, high: float) -> Band:
    return Band("compress", "ratio", low, high)


BANDS = (
    *(cohesion(low) for low in (5, 10, 20)),
    *(ratio(low, high) for low, high in ((5, 100), (5, 95), (10, 90), (20, 80))),
)


def refused_table(table: pd.DataFrame) -> Iterator[str]:
    """Shares refused, each the mean over domains; of real windows a band refuses what it says."""
    yield "### What filters refuse of broken windows"
    yield from head("windows", *(f"{b.scorer} {b.low:g} to {b.high:g}" for b in BANDS))
    for version in ("real", *BROKEN, *NOISE):
        yield row(version, *(f"{refused(table, version, band):.0%}" for band in BANDS))


def refused(table: pd.DataFrame, version: str, band: Band) -> float:
    """The share of a version's windows outside a band of the real ones; the mean over domains."""
    rows, shares = table[table.scorer == band.scorer], []
    for _, some in rows.groupby("domain"):
        low, high = np.percentile(some[band.column][some.version == "real"], (band.low, band.high))
        of_version = some[band.column][some.version == version]
        outside = (of_version < low) | (of_version > (np.inf if band.high == 100 else high))
        shares.append(outside.mean())
    return float(np.mean(shares))
