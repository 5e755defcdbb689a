"""What all figures of the report have in common: inks, axes, and the sentence that each one says.

A domain has one colour everywhere: give all figures of a page one palette, made by `colours`.
Backgrounds are clear and inks middle grey, so that a figure reads on a light and on a dark page.
"""

import html
import math
from collections.abc import Iterable, Mapping

import plotly.graph_objects as go

PALETTE = (
    *("#4c7fd9", "#e0803f", "#2f9e8f", "#b0609f"),
    *("#93982f", "#cf5a5f", "#7a6fd0", "#5f8296"),
)
INK = "#808794"
GRID = "rgba(128, 135, 148, 0.18)"
LOST = "#c9655b"
FONT = '-apple-system, "Segoe UI", Inter, Roboto, "Helvetica Neue", Arial, sans-serif'
MARK = {"color": INK, "width": 1.5, "dash": "dot"}
CLEAR = "rgba(0, 0, 0, 0)"

Palette = Mapping[str, str]  # domain -> colour


def colours(domains: Iterable[str]) -> dict[str, str]:
    """One colour per domain, by its place in alphabetical order."""
    return {d: PALETTE[i % len(PALETTE)] for i, d in enumerate(sorted(set(domains)))}


def faint(colour: str, strength: float) -> str:
    """A `#rrggbb` colour at an opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {strength})"


def plain(name: str) -> str:
    """A name escaped for plotly, whose texts are HTML.

    >>> plain("<b> & co")
    '&lt;b&gt; &amp; co'
    """
    return html.escape(name, quote=False)


def short(n: float) -> str:
    """For example 812, 12.3 k or 7.6 M."""
    for unit, size in ((" B", 1e9), (" M", 1e6), (" k", 1e4)):
        if abs(n) >= size:
            return f"{n / min(size, 1e3 if unit == ' k' else size):.1f}{unit}"
    return f"{n:,.0f}"


def tick(n: int) -> str:
    """A number of an axis: 500, 20k or 1M.

    >>> tick(500), tick(20_000), tick(1_000_000)
    ('500', '20k', '1M')
    """
    return f"{n / 1e6:g}M" if n >= 1e6 else f"{n / 1e3:.3g}k" if n >= 1e3 else str(n)


def whole_ticks(largest: float) -> int:
    """Distance of at most five ticks up to `largest` that all stand at whole numbers.

    >>> whole_ticks(3), whole_ticks(13), whole_ticks(900)
    (1, 5, 200)
    """
    decade: int = 10 ** math.floor(math.log10(max(largest, 1)))
    steps = (max(1, share * decade // 10) for share in (2, 5, 10, 20))
    return next(step for step in steps if largest / step <= 5)


def plural(n: float, what: str) -> str:
    """For example `1 window`, `1,200 windows`."""
    return f"{n:,.0f} {what}{'s' if n != 1 else ''}"


def signed(x: float) -> str:
    """Two decimals, with a minus sign that is as wide as a plus."""
    return f"{x:.2f}".replace("-", "\u2212")


def styled(
    figure: go.Figure, height: int, finding: str, top: int = 12, narrowest: int = 0
) -> go.Figure:
    """Give a figure the common look; `finding` is what it shows, in a sentence for its title.

    A page that has less than `narrowest` pixels for it lets the reader scroll.
    """
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 8, "r": 16, "t": top, "b": 8},
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        font={"family": FONT, "size": 13, "color": INK},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "title": None},
        hoverlabel={"font": {"family": FONT, "size": 13}},
        dragmode=False,
        meta={"finding": finding[:1].upper() + finding[1:], "narrowest": narrowest},
    )
    axis = {"gridcolor": GRID, "zeroline": False, "automargin": True, "ticks": ""}
    figure.update_xaxes(**axis, title_standoff=10)
    figure.update_yaxes(**axis, title_standoff=10)
    return figure


def finding(figure: go.Figure) -> str:
    """The sentence that a figure says."""
    return str((figure.layout.meta or {}).get("finding", ""))
