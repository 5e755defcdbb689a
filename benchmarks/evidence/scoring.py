"""Scores of every version of every window, as one table; and what is read off a score."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing.pool import Pool

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.evidence.corpus import Tokens, Vocabulary, Window, versions
from benchmarks.evidence.intervals import Vector, standardised, wins
from longattn.udfs.scorers.base import Score, Scorer, ScorerSpec
from longattn.udfs.scorers.registry import load_scorer

BROKEN = ("shuffled", "pieces of 512", "pieces of 2048", "repeated")
NOISE = ("tokens shuffled", "random tokens")
ALL = ("real", *BROKEN, *NOISE, "copy", "foreign")
ORDER = ("real", "shuffled")  # the two that the settings of longattn are compared on
PLANTED = ("copy", "foreign")
LAYERS = tuple(range(12))  # of 30; beyond them SmolLM2 looks little at what is far
BEST_HEADS = 3
COUNTED = ("recurrence", "recall", "compress")  # of what comes back from far away
CHEAP = ("longattn", "cohesion", *COUNTED, "random")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A scorer, and the versions of a window that it is run on."""

    spec: ScorerSpec
    versions: tuple[str, ...] = ALL
    part: float = 1.0  # of a window; below 1 the mean over its parts is taken


def runs(model: str, length: int) -> dict[str, Run]:
    """Scorers by name. Those beside the paper's settings look at a quarter of the rows."""
    quarter = length // 4

    def longattn(**settings: object) -> ScorerSpec:
        return ScorerSpec(model=model, **settings)  # type: ignore[arg-type]

    def cohesion(k: int) -> ScorerSpec:
        return ScorerSpec(scorer="cohesion", k=k)

    return cheap_runs(model, ALL) | {
        "k=L/8": Run(spec=longattn(k=length // 8, sample_rows=quarter), versions=ORDER),
        "k=L/2": Run(spec=longattn(k=length // 2, sample_rows=quarter), versions=ORDER),
        "layers": Run(spec=longattn(layers=(1, 2), sample_rows=quarter), versions=ORDER),
        "sampled": Run(spec=longattn(sample_rows=length // 8), versions=ORDER),
        "half": Run(spec=longattn(), versions=("real",), part=0.5),
        "cohesion k=L/8": Run(spec=cohesion(length // 8)),
        "cohesion k=L/4": Run(spec=cohesion(length // 4)),
    }


def deep_runs(model: str, length: int) -> dict[str, Run]:
    """Layers up to the eleventh, an eighth of the rows; and what to set beside them."""
    both = (*ORDER, *PLANTED)
    deep = ScorerSpec(model=model, layers=LAYERS, sample_rows=length // 8)
    return {"deep": Run(spec=deep, versions=both)} | cheap_runs(model, both)


def cheap_runs(model: str, versions: tuple[str, ...]) -> dict[str, Run]:
    """Each scorer that takes no more than layer 0 does, as it is by default."""
    return {
        name: Run(spec=ScorerSpec(scorer=name, model=model), versions=versions) for name in CHEAP
    }


def one_thread() -> None:
    torch.set_num_threads(1)


@contextmanager
def workers(processes: int) -> Iterator[Pool]:
    """Processes of one thread each: numpy's own would spin, and count as time spent."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read by numpy where it starts, so before they do
    with multiprocessing.get_context("spawn").Pool(processes, one_thread) as pool:
        yield pool


def score_window(
    numbered: tuple[int, Window], vocabulary: Vocabulary, runs: dict[str, Run]
) -> list[dict[str, object]]:
    """One row for each scorer and version of a window; the same ones whoever scores it when."""
    number, window = numbered
    texts = versions(window, vocabulary, np.random.default_rng([number, len(window.token_ids)]))
    return [
        {
            "domain": window.domain,
            "document": window.document,
            "window": number,
            "scorer": name,
            "version": version,
            **_statistics(_scores(_loaded(run.spec), texts[version], run.part)),
        }
        for name, run in runs.items()
        for version in run.versions
    ]


@cache
def _loaded(spec: ScorerSpec) -> Scorer:
    return load_scorer(spec)


def _scores(scorer: Scorer, token_ids: Tokens, part: float) -> list[Score]:
    size = round(part * len(token_ids))
    return scorer.score(list(token_ids[: len(token_ids) // size * size].reshape(-1, size)))


def _statistics(scores: list[Score]) -> dict[str, object]:
    heads = [np.array(score["head_s1"]) / score["n_tokens"] for score in scores]
    return {
        "ds": float(np.mean([score["ds"] for score in scores])),
        "du": float(np.mean([score["du"] for score in scores])),
        "head_ds": np.mean(heads, axis=0),
        **{name: _mean_of(scores, name) for name in scores[0].get("measures", {})},
    }


def _mean_of(scores: list[Score], measure: str) -> float:
    return float(np.mean([score["measures"][measure] for score in scores]))


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The same windows of one domain scored twice: coherent (or planted), and broken."""

    documents: list[str]
    positive: pd.DataFrame
    negative: pd.DataFrame

    def wins(self, measure: Callable[[pd.DataFrame], Vector]) -> NDArray[np.float64]:
        """`wins` of a measure, which sees both sides together, as a selection would."""
        values = measure(pd.concat([self.positive, self.negative], ignore_index=True))
        return wins(*np.split(values, 2))


def pairs(table: pd.DataFrame, domain: str, scorer: str, positive: str, negative: str) -> Pairs:
    of_scorer = table[(table.domain == domain) & (table.scorer == scorer)]
    sides = [
        of_scorer[of_scorer.version == version].sort_values("window").reset_index(drop=True)
        for version in (positive, negative)
    ]
    return Pairs(documents=list(sides[0].document), positive=sides[0], negative=sides[1])


def strength(rows: pd.DataFrame) -> Vector:
    return rows.ds.to_numpy(float)


def uniformity(rows: pd.DataFrame) -> Vector:
    return rows.du.to_numpy(float)


def long_dependency(alpha: float) -> Callable[[pd.DataFrame], Vector]:
    """LDS: standardised over the rows that are compared (paper eq. 8)."""
    return lambda rows: standardised(strength(rows)) + alpha * standardised(uniformity(rows))


def of_heads(heads: Iterable[int]) -> Callable[[pd.DataFrame], Vector]:
    """DS of some heads alone."""
    chosen = list(heads)
    return lambda rows: np.stack(rows.head_ds.to_list())[:, chosen].mean(1)


def of_layers(scored: int, first: int, last: int) -> Callable[[pd.DataFrame], Vector]:
    """DS of some layers alone, of `scored` ones whose heads come layer by layer."""

    def measure(rows: pd.DataFrame) -> Vector:
        heads = len(rows.head_ds.iloc[0]) // scored
        return of_heads(range(first * heads, (last + 1) * heads))(rows)

    return measure


def over_null(table: pd.DataFrame) -> pd.DataFrame:
    """longattn's rows; `ds` and `head_ds` less those of the window's tokens in random order."""
    rows = table[table.scorer == "longattn"]
    null = rows[rows.version == "tokens shuffled"].set_index("window")
    ds = rows.ds - rows.window.map(null.ds)
    head_ds = rows.head_ds - rows.window.map(null.head_ds)
    return rows.assign(scorer="over null", ds=ds, head_ds=head_ds)


def best_heads(table: pd.DataFrame, scorer: str, sides: tuple[str, str]) -> list[int]:
    """The heads whose DS tells one side from the other best, on average over the domains."""
    found = []
    for domain in table.domain.unique():
        both = pairs(table, domain, scorer, *sides)
        heads = range(len(both.positive.head_ds[0]))
        found.append([both.wins(of_heads([head])).mean() for head in heads])
    return np.argsort(-np.mean(found, axis=0))[:BEST_HEADS].tolist()


def best_heads_elsewhere(
    table: pd.DataFrame, scorer: str, sides: tuple[str, str] = ORDER
) -> tuple[pd.DataFrame, list[list[int]]]:
    """The scorer's rows; `ds` is that of the heads chosen on the other half of the documents.

    The halves share out the documents of every domain. The heads come too, chosen on the second
    half and on the first.
    """
    rows = table[table.scorer == scorer]
    places = {name: i for i, name in enumerate(dict.fromkeys(rows.document))}
    half = rows.document.map(places) % 2
    scored, chosen = [], []
    for side in (0, 1):
        heads = best_heads(rows[half != side], scorer, sides)
        chosen.append(sorted(heads))
        scored.append(rows[half == side].assign(ds=lambda part, h=heads: of_heads(h)(part)))
    return pd.concat(scored), chosen
