"""What is trained on: a pool of scored windows, split by document, and the arms drawn of it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.tables.reading import columns_of

Tokens = NDArray[np.int64]

QUARTER = 0.25
DRAWS = 3  # random arms: a scorer must beat the best of them
HELD_OUT = 0.1  # of the documents, never trained on


@dataclass(frozen=True)
class Arm:
    """A part of the pool to train on, by row number."""

    name: str
    rows: list[int]


def read_pool(root: str) -> pd.DataFrame:
    """Windows of a root (window_id, doc_id, domain, token_ids) with a column of ds by scorer.

    A scorer's column has the short name of its version: `recall:k=1024` is `recall`. Windows that a
    scorer refused are left out.
    """
    windows = columns_of(root, "windows", "window_id", "doc_id", "domain", "token_ids").to_pandas()
    scores = columns_of(root, "scores", "window_id", "scorer", "ds").to_pandas()
    scores["scorer"] = scores["scorer"].str.partition(":")[0]
    by_scorer = scores.pivot_table(index="window_id", columns="scorer", values="ds")
    return windows.join(by_scorer, on="window_id", how="inner").dropna().reset_index(drop=True)


def split(pool: pd.DataFrame, held_out: float = HELD_OUT) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The pool without, and with only, about this share of its documents, chosen by hash."""
    share = pool["doc_id"].map(_uniform)
    return (
        pool[share >= held_out].reset_index(drop=True),
        pool[share < held_out].reset_index(drop=True),
    )


def arms(pool: pd.DataFrame, scorers: list[str]) -> Iterator[Arm]:
    """Top quarter by each scorer, bottom quarter by `fargain`, and random quarters.

    Quarters are taken within each domain, so that all arms have the same mix.
    """
    for scorer in scorers:
        yield Arm(f"top {scorer}", _quarter(pool, pool[scorer]))
    if "fargain" in scorers:
        yield Arm("bottom fargain", _quarter(pool, -pool["fargain"]))
    for draw in range(DRAWS):
        drawn = pd.Series(np.random.default_rng(draw).random(len(pool)), index=pool.index)
        yield Arm(f"random {draw}", _quarter(pool, drawn))


def sequences(
    pool: pd.DataFrame, arm: Arm, tokens: int, short_share: float, short_length: int, seed: int
) -> Iterator[Tokens]:
    """Windows to train on in order, until `tokens` are reached; a share of them of short pieces.

    Short sequences are pieces of short_length tokens drawn from the whole pool and laid end to end,
    the same for every arm of a seed. Windows of the arm come round again when all were seen.
    """
    length = len(pool["token_ids"].iloc[0])
    long_order, short_order = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    turn: list[int] = []
    for number in range(tokens // length):
        if short_order.random() < short_share:
            yield _short(pool, length, short_length, np.random.default_rng([seed, 2, number]))
            continue
        turn = turn or [arm.rows[i] for i in long_order.permutation(len(arm.rows))]
        yield np.asarray(pool["token_ids"].iloc[turn.pop()], np.int64)


def _quarter(pool: pd.DataFrame, score: pd.Series) -> list[int]:
    place = score.groupby(pool["domain"]).rank(pct=True, method="first")
    return np.flatnonzero(place > 1 - QUARTER).tolist()


def _short(pool: pd.DataFrame, length: int, piece: int, rng: np.random.Generator) -> Tokens:
    rows = rng.integers(0, len(pool), -(-length // piece))
    starts = rng.integers(0, length - piece + 1, len(rows))
    pieces = [
        np.asarray(pool["token_ids"].iloc[row])[start : start + piece]
        for row, start in zip(rows, starts, strict=True)
    ]
    return np.concatenate(pieces)[:length].astype(np.int64)


def _uniform(doc_id: str) -> float:
    return int(hashlib.sha256(doc_id.encode()).hexdigest()[:12], 16) / 16.0**12
