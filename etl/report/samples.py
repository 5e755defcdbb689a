"""Windows to look at: which ones, and the passages around their far links. Bounded in size."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from longattn.udfs.pictures.links import Link
from longattn.udfs.text.words import split_words

TextOf = Callable[[int, int], str]  # the text of tokens [start, stop) of a window

LINKS = 4  # shown of a window
AROUND = 28  # tokens before and after a link's end
LONGEST = 60  # tokens shown of a long repeat
MOST = 240  # windows on a page, whatever the config asks for
TEXT_CHARS = 8_000_000  # of whole windows on a page; those that are left have their beginnings


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A window's place by one scorer."""

    scorer: str
    score: float
    percentile: float
    selected: bool


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A window shown: where it came from, how it stands, and what it links to from far away."""

    window_id: str
    domain: str
    provenance: Mapping[str, str]  # what it is called -> what it is
    beginning: str
    rest: str  # of its text; empty where the page has no room for it
    standings: Sequence[Standing]
    links: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    map_figure: go.Figure | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "id": self.window_id,
            "domain": self.domain,
            "provenance": dict(self.provenance),
            "beginning": self.beginning,
            "rest": self.rest,
            "by": {s.scorer: [s.score, s.percentile, s.selected] for s in self.standings},
            "links": {kind: list(links) for kind, links in self.links.items()},
            "map": json.loads(self.map_figure.to_json()) if self.map_figure is not None else None,
        }


def to_show(points: pd.DataFrame, each: int) -> list[str]:
    """Windows of every scorer and domain worth a look: best, worst, and both sides of the cut.

    `points`: window_id, domain, scorer, value, selected. Of each kind `each`, and of all no more
    than MOST: the most telling ones of every scorer first. A window without a value is of none.
    """
    kinds = []
    best_first = points.dropna(subset="value").sort_values(["value", "window_id"], ascending=False)
    for _, rows in best_first.groupby(["scorer", "domain"]):
        inside = rows.loc[rows["selected"], "window_id"].tolist()
        outside = rows.loc[~rows["selected"], "window_id"].tolist()
        kinds.append([inside[:each], outside[::-1][:each], inside[::-1][:each], outside[:each]])
    in_turn = chain.from_iterable(chain.from_iterable(turn) for turn in zip(*kinds, strict=True))
    return list(dict.fromkeys(in_turn))[:MOST]


def weakest(seam: int, text_of: TextOf, length: int) -> str:
    """Where a window of so many tokens is tied together least, and the text on both sides of it.

    The character is that of the window's text.
    """
    spans = (max(seam - AROUND, 0), seam), (seam, min(seam + AROUND, length))
    before, after = (" ".join(text_of(*span).split()) for span in spans)
    return f"token {seam:,}, character {len(text_of(0, seam)):,}: {before} \u2016 {after}"


def with_room(windows: Sequence[Sample], room: int = TEXT_CHARS) -> list[Sample]:
    """The windows with their whole text as long as all together have room, the first ones first."""
    ends = accumulate(len(sample.rest) for sample in windows)
    pairs = zip(windows, ends, strict=True)
    return [one if end <= room else replace(one, rest="") for one, end in pairs]


def standings(points: pd.DataFrame, wanted: Sequence[str]) -> dict[str, list[Standing]]:
    """How the windows wanted stand by every scorer that has a value of them; percentile 100 is the
    best of its domain.
    """
    points = points.dropna(subset="value")
    groups = points.groupby(["scorer", "domain"])["value"]
    places = 100 * groups.rank(method="first") / groups.transform("size")
    by_window: dict[str, list[Standing]] = {}
    rows = points.assign(percentile=places)[points["window_id"].isin(wanted)]
    for row in rows.to_dict("records"):
        standing = Standing(
            scorer=row["scorer"],
            score=float(f"{row['value']:.4g}"),
            percentile=round(float(row["percentile"]), 1),
            selected=bool(row["selected"]),
        )
        by_window.setdefault(row["window_id"], []).append(standing)
    return by_window


def passages(links: Sequence[Link], text_of: TextOf) -> list[dict[str, Any]]:
    """Each link as text: its two ends with what stands around them, and how far they are apart."""
    return [
        {
            "far": _passage(link.source, link.source_stop, text_of),
            "here": _passage(link.start, link.stop, text_of),
            "at": link.start,
            "distance": link.distance,
            "tokens": link.stop - link.start,
            "weight": float(f"{link.weight:.3g}"),
        }
        for link in sorted(links, key=lambda link: link.start)
    ]


def shared_map(maps: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any] | None:
    """The mean map of the windows shown, that each is drawn against; None of a single one."""
    return np.mean(maps, axis=0) if len(maps) > 1 else None


def text_by_words(text: str, n_tokens: int) -> TextOf | None:
    """Reads a text by the tokens of `words`, which have no way back; None if it has other ones."""
    _, starts = split_words(text)
    if len(starts) != n_tokens:
        return None
    places = [*starts.tolist(), len(text)]
    return lambda start, stop: text[places[start] : places[min(stop, n_tokens)]]


def _passage(start: int, stop: int, text_of: TextOf) -> list[str]:
    """Text before, inside and after tokens [start, stop)."""
    end = min(stop, start + LONGEST)
    before, inside = text_of(max(0, start - AROUND), start), text_of(start, end)
    after = text_of(end, end + AROUND)
    return [before, inside + (" \u2026" if end < stop else ""), after]
