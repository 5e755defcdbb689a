"""Figures where scripts do not run: the same marks as a PNG, drawn by matplotlib.

GitHub, and a notebook exported from Databricks, show no plotly figure. Here bars, lines, points and
heatmaps are drawn, which is what `figures` makes; drawing needs no browser.
"""

import html
import io
import math
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from longattn.etl.report.style import finding, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 110
WIDTH = 9.0  # inches
INK = "#3c434e"


def show(figure: go.Figure) -> None:
    """Display a figure in a notebook, interactive with its PNG beside; whoever can shows either.

    On Databricks, which draws no plotly of a display bundle, plotly's own renderer adds the
    interactive one.
    """
    import os

    from IPython.display import display

    titled = go.Figure(figure)
    if said := finding(figure):
        text = "<br>".join(map(plain, textwrap.wrap(said, 80)))
        titled.update_layout(title={"text": text, "font": {"size": 15}}, margin_t=70)
    bundle = {
        "application/vnd.plotly.v1+json": titled.to_plotly_json(),
        "image/png": as_png(figure),
        "text/plain": said or "figure",
    }
    display(bundle, raw=True)
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        titled.show()


def as_png(figure: go.Figure) -> bytes:
    """The figure as a PNG on white, with its finding as title."""
    from matplotlib.figure import Figure

    height = (figure.layout.height or 420) / DPI + 0.8
    drawn = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    panels = {pair: _panel(drawn, figure, *pair) for pair in _pairs(figure)}
    for pair, axes in panels.items():
        traces = [trace for trace in figure.data if _pair(trace) == pair]
        _draw(axes, traces, figure)
    for shape in figure.layout.shapes:
        _line(panels[_axis_pair(shape)], shape)
    for note in figure.layout.annotations:
        _note(panels, note)
    for pair, axes in panels.items():
        _finish(axes, figure, *pair)
    title = "\n".join(textwrap.wrap(finding(figure), 78)).replace("$", r"\$")  # no formula
    drawn.suptitle(title, x=0.02, y=0.99, ha="left", va="top", fontsize=12, weight="bold")
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.15)
    return buffer.getvalue()


def _pairs(figure: go.Figure) -> list[tuple[str, str]]:
    return list(dict.fromkeys(_pair(trace) for trace in figure.data))


def _pair(trace: Any) -> tuple[str, str]:
    return trace.xaxis or "x", trace.yaxis or "y"


def _axis_pair(mark: Any) -> tuple[str, str]:
    """The axes that a shape stands on."""
    return str(mark.xref).split()[0], str(mark.yref).split()[0]


def _layout_of(figure: go.Figure, axis: str) -> Any:
    return figure.layout[f"{axis[0]}axis{axis[1:]}"]


def _panel(drawn: Any, figure: go.Figure, x: str, y: str) -> "Axes":
    """Axes where plotly has the pair's domains, with room for titles around them."""
    left, right = _layout_of(figure, x).domain or (0, 1)
    low, high = _layout_of(figure, y).domain or (0, 1)
    (x0, y0), (x1, y1) = _on_paper(left, low), _on_paper(right, high)
    axes: Axes = drawn.add_axes((x0, y0, x1 - x0, y1 - y0))
    axes.tick_params(colors=INK, labelsize=9, length=0)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    if _layout_of(figure, x).type == "log":
        axes.set_xscale("log")
    return axes


def _on_paper(x: float, y: float) -> tuple[float, float]:
    """A place of plotly's paper, the room of all panels, as shares of the picture."""
    return 0.1 + 0.88 * x, 0.1 + 0.77 * y


def _draw(axes: "Axes", traces: list[Any], figure: go.Figure) -> None:
    bars = [trace for trace in traces if trace.type == "bar"]
    for number in range(len(bars)):
        _bar(axes, bars, number, figure.layout.barmode)
    draw: Mapping[str, Callable[..., None]] = {"scatter": _points, "heatmap": _heatmap}
    for trace in traces:
        if trace.type in draw:
            draw[trace.type](axes, trace, figure)


def _bar(axes: "Axes", bars: list[Any], number: int, mode: str | None) -> None:
    trace = bars[number]
    flat = trace.orientation == "h"
    places, sizes = (trace.y, trace.x) if flat else (trace.x, trace.y)
    sizes = np.asarray(sizes, float)
    categories = isinstance(places[0], str) if len(places) else False
    at = np.arange(len(places)) if categories else np.asarray(places, float)
    step = float(np.diff(np.unique(at)).min()) if len(np.unique(at)) > 1 else 1.0
    width = (trace.width or 0.9) * step if mode != "group" else 0.7 * step / len(bars)
    offset = (number - (len(bars) - 1) / 2) * width if mode == "group" else 0.0
    before = [np.asarray(b.x if flat else b.y, float) for b in bars[:number]]
    start = np.sum(before, axis=0) if mode == "stack" and before else np.zeros(len(sizes))
    colour, outline = trace.marker.color, trace.marker.line
    look = {"color": _colours(colour), "linewidth": outline.width or 0}
    if outline.color is not None:
        look["edgecolor"] = _colours(outline.color)
    if flat:
        axes.barh(at + offset, sizes, width, left=start, **look)
        for text, place, end in zip(trace.text or (), at + offset, start + sizes, strict=False):
            axes.text(end, place, _plain(text), va="center", fontsize=9, color=INK)
        if categories:
            axes.set_yticks(at, [str(place) for place in places])
    else:
        axes.bar(at + offset, sizes, width, bottom=start, **look)


def _points(axes: "Axes", trace: Any, figure: go.Figure) -> None:
    x, y = np.asarray(trace.x, float), np.asarray(trace.y, float)
    if "markers" in (trace.mode or "lines"):
        colour = _colour(trace.marker.color)
        hollow = str(trace.marker.symbol or "").endswith("open")
        face = "none" if hollow else colour
        size = (trace.marker.size or 6) * 0.75
        axes.plot(x, y, "o", ms=size, mfc=face, mec=colour, label=trace.name)
        return
    steps = trace.line.shape == "hv"
    axes.plot(x, y, color=_colour(trace.line.color), drawstyle="steps-post" if steps else "default")
    if trace.fill:
        axes.fill_between(x, y, step="post" if steps else None, color=_colour(trace.fillcolor))


def _heatmap(axes: "Axes", trace: Any, figure: go.Figure) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shared = figure.layout.coloraxis
    scale = trace.colorscale or shared.colorscale
    stops = [(place, _colour(colour)) for place, colour in scale]
    z = np.asarray(trace.z, float)
    low, high = (_first(a, b) for a, b in ((trace.zmin, shared.cmin), (trace.zmax, shared.cmax)))
    names = [None if axis is None else list(axis) for axis in (trace.x, trace.y)]
    at = [_edges(name, n) for name, n in zip(names, z.shape[::-1], strict=True)]
    colours = LinearSegmentedColormap.from_list("scale", stops)
    image = axes.pcolormesh(*at, z, cmap=colours, vmin=low, vmax=high)
    for axis, labels, edges in zip((axes.xaxis, axes.yaxis), names, at, strict=True):
        if labels and isinstance(labels[0], str):
            axis.set_ticks((edges[1:] + edges[:-1]) / 2, [_plain(label) for label in labels])
    if trace.showscale is not False and trace.colorbar.title.text:
        assert axes.figure is not None
        bar = axes.figure.colorbar(image, ax=axes, label=trace.colorbar.title.text)
        if trace.colorbar.tickvals is not None:
            bar.set_ticks(list(trace.colorbar.tickvals), labels=list(trace.colorbar.ticktext))


def _line(axes: "Axes", shape: Any) -> None:
    look = {"color": _colour(shape.line.color), "lw": shape.line.width or 1, "ls": ":"}
    if "domain" in str(shape.yref):
        axes.axvline(shape.x0, **look)
    else:
        axes.plot([shape.x0, shape.x1], [shape.y0, shape.y1], **look)


def _note(panels: Mapping[tuple[str, str], "Axes"], note: Any) -> None:
    """An annotation where plotly has it: on data, on a panel's domain or on the paper."""
    x, y = str(note.xref or "x").split(), str(note.yref or "y").split()
    if x[0] == y[0] == "paper":
        whole = next(iter(panels.values())).figure
        assert whole is not None
        whole.text(*_on_paper(note.x, note.y), _plain(note.text), ha="center", va="bottom")
        return
    matches = [axes for pair, axes in panels.items() if {x[0], y[0]} - {"paper"} <= set(pair)]
    axes = matches[0] if matches else next(iter(panels.values()))
    by_axes = [ref[0] == "paper" or len(ref) > 1 for ref in (x, y)]
    place = float(note.x), float(note.y)
    if axes.get_xscale() == "log" and not by_axes[0]:
        place = 10 ** place[0], place[1]
    transforms = {
        (True, True): axes.transAxes,
        (False, True): axes.get_xaxis_transform(),
        (True, False): axes.get_yaxis_transform(),
        (False, False): axes.transData,
    }
    vertical = {"middle": "center"}.get(note.yanchor or "middle", note.yanchor)
    axes.text(
        *place,
        _plain(note.text),
        transform=transforms[by_axes[0], by_axes[1]],
        ha=note.xanchor if note.xanchor in ("left", "right") else "center",
        va=vertical,
        fontsize=9,
        color=_colour(note.font.color) if note.font.color else INK,
    )


def _finish(axes: "Axes", figure: go.Figure, x: str, y: str) -> None:
    for axis, name in ((axes.xaxis, x), (axes.yaxis, y)):
        layout = _layout_of(figure, name)
        axis.set_label_text(_plain(layout.title.text or ""), color=INK, fontsize=9)
        axis.set_visible(layout.visible is not False)
        if layout.showticklabels is False:
            axis.set_ticklabels([])
        if layout.dtick and layout.type != "log":
            axis.set_major_locator(_every(float(layout.dtick)))
        if layout.exponentformat == "SI":
            axis.set_major_formatter(_with_units())
    layout_x, layout_y = (_layout_of(figure, _shared(figure, axis)) for axis in (x, y))
    if layout_x.range and layout_x.type != "log":
        axes.set_xlim(*layout_x.range)
    if layout_y.range:
        axes.set_ylim(*layout_y.range)
    elif layout_y.autorange == "reversed":
        axes.invert_yaxis()
    if axes.get_legend_handles_labels()[1] and figure.layout.showlegend is not False:
        axes.legend(fontsize=8, frameon=False, ncols=3)


def _shared(figure: go.Figure, axis: str) -> str:
    """The axis whose range this one takes."""
    return str(_layout_of(figure, axis).matches or axis)


def _every(step: float) -> Any:
    from matplotlib.ticker import MultipleLocator

    return MultipleLocator(step)


def _with_units() -> Any:
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")


def _edges(names: list[Any] | None, n: int) -> np.ndarray[Any, Any]:
    """Edges of n cells, whose middles `names` are unless they are words."""
    if not names or isinstance(names[0], str) or n < 2:
        return np.arange(n + 1) - 0.5
    middles = np.asarray(names, float)
    half = (middles[1] - middles[0]) / 2
    return np.append(middles - half, middles[-1] + half)


def _colours(colour: Any) -> Any:
    return [_colour(c) for c in colour] if isinstance(colour, list | tuple) else _colour(colour)


def _colour(colour: str) -> Any:
    """What matplotlib takes for a CSS colour, `rgba(1, 2, 3, 0.4)` too."""
    numbers = [float(n) for n in re.findall(r"[\d.]+", colour)] if colour.startswith("rgb") else []
    if not numbers:
        return colour
    return tuple(n / 255 for n in numbers[:3]) + tuple(numbers[3:4])


def _first(*values: Any) -> Any:
    return next((v for v in values if v is not None and not math.isnan(v)), None)


def _plain(text: str) -> str:
    read = html.unescape(re.sub(r"<[^>]*>", "", text.replace("<br>", "\n")))
    return read.replace("$", r"\$").strip()
