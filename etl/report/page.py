"""One HTML file that holds everything it shows: plotly.js, figures, text; it opens offline."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import jinja2
import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from longattn.etl.report.intervals import Firmness
from longattn.etl.report.refused import Pair, Refused
from longattn.etl.report.samples import Sample
from longattn.etl.report.scorers import Scorer
from longattn.etl.report.style import finding
from longattn.udfs.scorers.meaning import Meaning


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that the template shows."""

    title: str
    subtitle: str
    names: tuple[str, str]  # of the scorer and of the windows, in full
    generated: str
    score: Meaning  # of the number selected by
    scorer: str  # the one selected by
    key_figures: Sequence[tuple[str, str, str]]  # value, what it counts, a word beside it
    domains: Mapping[str, str]  # domain -> colour
    figures: Mapping[str, go.Figure]
    scorers: Sequence[Scorer]
    scorers_finding: str
    samples: Sequence[Sample]
    runs: Sequence[Mapping[str, Any]]  # the ledger
    last_runs: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=dict)
    currency: str = ""  # of what a core costs for a run
    firmness: Sequence[Firmness] = ()
    firmness_finding: str = ""
    refused_records: str = ""  # by reason
    steps: Sequence[str] = ()  # columns of `left`, those that take tokens away and the milestones
    left: Mapping[str, Sequence[str]] = field(default_factory=dict)  # domain -> tokens by step
    refused: Sequence[Refused] = ()
    near_pairs: Sequence[Pair] = ()
    wanted: int = 0  # samples that were to be shown
    contamination: Sequence[Mapping[str, Any]] = ()  # set, windows, domains
    notes: Mapping[str, str] = field(default_factory=dict)  # figure -> sentence under it
    contexts: Sequence[str] = ()  # of each export, how far back its tokens see
    selections: Sequence[Mapping[str, Any]] = ()  # selection, made, windows, tokens, common
    versions: Mapping[str, int] = field(default_factory=dict)
    config: str = "{}"


def render(page: Page) -> str:
    """The page as HTML."""
    source = resources.files("longattn.etl").joinpath("resources", "report.html.j2")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "figure": as_script,
        "finding": finding,
        "script": in_script,
        "number": _number,
    }
    template = environment.from_string(source.read_text("utf-8"))
    return template.render(
        page=page,
        plotly_js=get_plotlyjs(),
        samples=[sample.as_dict() for sample in page.samples],
        names=_names(page.scorers),
    )


def samples_on(html: str) -> int:
    """How many samples a rendered page holds."""
    match = re.search(r'<script type="application/json" id="samples">(.*?)</script>', html, re.S)
    return len(json.loads(match[1])) if match else 0


def _names(scorers: Sequence[Scorer]) -> dict[str, str]:
    """What each scorer's number is called; the version, too, where two would be called the same."""
    count = Counter(row.meaning.name for row in scorers)
    return {
        row.version: row.meaning.name if count[row.meaning.name] == 1 else row.version
        for row in scorers
    }


def as_script(figure: go.Figure) -> str:
    """A figure as JSON that may stand inside a script element."""
    text: str = figure.to_json()
    return text.replace("<", "\\u003c")


def in_script(value: Any) -> str:
    """Plain values as JSON that may stand inside a script element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # these two end a line in older JavaScript
    text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return text.replace("<", "\\u003c")


def _number(value: float, digits: int = 2, nothing: str = "\u2013") -> str:
    return nothing if np.isnan(value) else f"{value:.{digits}f}".replace("-", "\u2212")
