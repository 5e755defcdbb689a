"""Which scorer for these texts: `longattn.compare`, on a sample and without a judge."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from longattn.api import WINDOW, Loaded, Table, Text, batched, labelled, tasks_of, whole
from longattn.udfs.errors import UserError

MODEL_FREE = ("recall", "compress", "recurrence", "cohesion", "random")
EXCERPT = 160  # characters of a window that are shown


@dataclass(frozen=True)
class Comparison:
    """What several scorers say to the same windows.

    - `agreement`: rank correlation (Spearman) of every two scorers, a table with their names on
      both sides. Below some 50 windows it says little
    - `cost`: CPU seconds a window on one core of this machine, by scorer
    - `differ`: the windows that the first scorer and another one place farthest apart: scorer,
      text, window, both percentiles (100 is the best) and how the window begins
    - `scores`: every window's score by every scorer
    """

    agreement: pd.DataFrame
    cost: pd.Series
    differ: pd.DataFrame
    scores: pd.DataFrame

    def __str__(self) -> str:
        shown = [
            f"{len(self.scores)} windows; rank correlations:",
            self.agreement.round(2).to_string(),
            "CPU seconds a window:",
            self.cost.map("{:.4f}".format).to_string(),
            "placed farthest apart (percentiles, 100 is the best):",
            self.differ.drop(columns="begins").to_string(index=False, float_format="%.0f"),
        ]
        return "\n".join(shown)


def compare(
    texts: Any,
    scorers: str | Sequence[str] = MODEL_FREE,
    *,
    window: int = WINDOW,
    windows: int = 200,
    differ: int = 3,
    seed: int = 0,
    tokenizer: str | None = None,
    model: str | None = None,
    column: str = "text",
    strategy: str = "longattn",
    **settings: Any,
) -> Comparison:
    """Score a sample of texts by several scorers and say where they agree, at what cost.

    Texts are drawn until they have given `windows` windows; of every other scorer the `differ`
    windows are shown that it and the first one place farthest apart. No scorer is the truth:
    docs/evidence.md says how each agrees with a language model's own gain from far context. The
    other arguments and the errors are those of `longattn.score`.
    """
    tasks = tasks_of(scorers, window, tokenizer, model, strategy, settings)
    windows, differ = whole("windows", windows, 1), whole("differ", differ, 0)
    drawn = list(enumerate(labelled(texts, column)))  # by number: labels need not differ
    random.Random(whole("seed", seed)).shuffle(drawn)
    loaded, tables = [Loaded(task) for task in tasks], [Table(task) for task in tasks]
    seconds, scored = [0.0] * len(tasks), 0
    for chunk in batched(drawn, 4):
        before = len(tables[0].rows)
        for number, one in enumerate(loaded):
            started = time.process_time()
            rows = one.scored([text for _, text in chunk])
            seconds[number] += time.process_time() - started
            for (place, _), text_rows in zip(chunk, rows, strict=True):
                tables[number].add(place, text_rows)
        scored += sum(row["window"] is not None for row in tables[0].rows[before:])
        if scored >= windows:
            break
    if not scored:
        longest = max((row["n_tokens"] or 0 for row in tables[0].rows), default=0)
        raise UserError(f"no text fills a window of {window:,} tokens; the longest has {longest:,}")
    names = [task.spec.scorer for task in tasks]
    scores = _side_by_side(names, tables)
    given = dict(drawn)
    begins = _beginnings(given, scores)
    scores["text"] = [given[place][0] for place in scores["text"]]
    return Comparison(
        agreement=scores[names].corr(method="spearman"),
        cost=pd.Series(seconds, index=names) / max(scored, 1),
        differ=_differing(names, scores.assign(begins=begins), differ),
        scores=scores,
    )


def _side_by_side(names: Sequence[str], tables: Sequence[Table]) -> pd.DataFrame:
    """A row per window that all have scored: text, window, characters, and a column a scorer."""
    place = ["text", "window", "start_char", "end_char"]
    scores = tables[0].frame().reset_index()[place]
    for name, table in zip(names, tables, strict=True):
        scores[name] = table.frame()["ds"].to_numpy()
    return scores.dropna().reset_index(drop=True)


def _beginnings(texts: dict[int, Text], scores: pd.DataFrame) -> list[str]:
    spans = zip(scores["text"], scores["start_char"], strict=True)
    return [" ".join(texts[place][1][start : start + EXCERPT].split()) for place, start in spans]


def _differing(names: Sequence[str], scores: pd.DataFrame, count: int) -> pd.DataFrame:
    first, *others = names
    percentiles = scores[list(names)].rank(pct=True) * 100
    parts = []
    for other in others:
        apart = (percentiles[first] - percentiles[other]).abs().nlargest(count).index
        part = scores.loc[apart, ["text", "window", "begins"]]
        at = {"first": percentiles.loc[apart, first], "other": percentiles.loc[apart, other]}
        parts.append(part.assign(scorer=other, **at))
    columns = ["scorer", "text", "window", "first", "other", "begins"]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)
