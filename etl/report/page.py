"""One HTML file that holds everything it shows: plotly.js, figures, text; it opens offline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs


@dataclass(frozen=True, kw_only=True)
class Example:
    """A window shown with its text: id, score, place and where it came from."""

    window_id: str
    domain: str
    lds: float
    ds: float
    du: float
    source: str
    text: str
    map_figure: go.Figure | None = None


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that the template shows."""

    title: str
    subtitle: str
    generated: str
    key_figures: Sequence[tuple[str, str, str]]  # value, what it counts, a word beside it
    domains: Mapping[str, str]  # domain -> colour
    figures: Mapping[str, go.Figure]
    best: Sequence[Example]
    worst: Sequence[Example]
    runs: Sequence[Mapping[str, Any]]  # the ledger
    notes: Mapping[str, str] = field(default_factory=dict)  # figure -> sentence under its title
    versions: Mapping[str, int] = field(default_factory=dict)
    config: str = "{}"


def render(page: Page) -> str:
    """The page as HTML."""
    source = resources.files("etl").joinpath("resources", "report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["figure"] = as_script
    return environment.from_string(source).render(page=page, plotly_js=get_plotlyjs())


def as_script(figure: go.Figure) -> str:
    """A figure as JSON that may stand inside a script element."""
    text: str = figure.to_json()
    return text.replace("<", "\\u003c")
