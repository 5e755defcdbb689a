"""The report's figures: functions from a DataFrame to a plotly figure; notebooks use them too.

A domain has one colour everywhere: give all figures of a page one palette, made by `colours`.
Backgrounds are clear and inks middle grey, so that a figure reads on a light and on a dark page.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

PALETTE = (
    *("#4c7fd9", "#e0803f", "#2f9e8f", "#b0609f"),
    *("#93982f", "#cf5a5f", "#7a6fd0", "#5f8296"),
)
INK = "#808794"
GRID = "rgba(128, 135, 148, 0.18)"
REFUSED = ("#c9853f", "#b8605c", "#8f6fa8", "#6f86a8", "#8d8a5c", "#6b8f86")
ATTENTION = ("#f4f1e8", "#f0c36d", "#d9713c", "#8e2f52", "#2b1745")
FONT = '-apple-system, "Segoe UI", Inter, Roboto, "Helvetica Neue", Arial, sans-serif'
AXIS_NAMES = {
    "ds": "dependency strength (DS)",
    "du": "dependency uniformity (DU)",
    "lds": "long-dependency score (LDS)",
}
Palette = Mapping[str, str]  # domain -> colour
MAX_POINTS = 5_000  # of a scatter; more only slow the page down
MARK = {"color": INK, "width": 1.5, "dash": "dot"}
ROW = 92  # pixels of a small multiple


def colours(domains: Iterable[str]) -> dict[str, str]:
    """One colour per domain, by its place in alphabetical order."""
    return {d: PALETTE[i % len(PALETTE)] for i, d in enumerate(sorted(set(domains)))}


def funnel(runs: pd.DataFrame) -> go.Figure:
    """What each job kept and refused, as shares of what it was given.

    `runs`: job, rows_in, rows_out and refused (reason -> rows), in the order of the jobs.
    """
    figure = go.Figure()
    jobs, whole = runs["job"].tolist(), runs["rows_in"].clip(lower=1).to_numpy()
    reasons = list(dict.fromkeys(r for refused in runs["refused"] for r, n in refused.items() if n))
    bars = {"kept": (runs["rows_out"].to_numpy(), PALETTE[0])}
    for i, reason in enumerate(reasons):
        counts = np.array([refused.get(reason, 0) for refused in runs["refused"]])
        bars[reason.replace("_", " ")] = (counts, REFUSED[i % len(REFUSED)])
    for name, (counts, colour) in bars.items():
        figure.add_bar(
            y=jobs,
            x=100 * counts / whole,
            name=name,
            orientation="h",
            marker={"color": colour, "line": {"width": 0}},
            text=[f"{n:,}" if 100 * n / w > 6 else "" for n, w in zip(counts, whole, strict=True)],
            textposition="inside",
            insidetextanchor="middle",
            textfont={"color": "#ffffff"},
            customdata=counts,
            hovertemplate=f"%{{y}}: %{{customdata:,}} {name} (%{{x:.1f}} %)<extra></extra>",
        )
    figure.update_layout(barmode="stack", bargap=0.35, legend_traceorder="normal")
    figure.update_xaxes(range=[0, 100], ticksuffix=" %", showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix="  ")
    return _styled(figure, 90 + 46 * len(runs))


def lengths(documents: pd.DataFrame, window: int, palette: Palette | None = None) -> go.Figure:
    """Document lengths per domain on a log scale, with the window length marked.

    `documents`: domain, n_tokens (lower edge of a bin) and documents (how many).
    """
    figure = go.Figure()
    palette = palette or colours(documents["domain"])
    for domain, rows in documents.sort_values("n_tokens").groupby("domain"):
        figure.add_scatter(
            x=rows["n_tokens"],
            y=rows["documents"],
            name=str(domain),
            mode="lines",
            line={"color": palette[str(domain)], "width": 2, "shape": "hvh"},
            fill="tozeroy",
            fillcolor=_faint(palette[str(domain)], 0.14),
            hovertemplate=f"{domain}: %{{y:,}} documents from %{{x:,.0f}} tokens<extra></extra>",
        )
    figure.add_vline(x=window, line=MARK)
    # plotly places annotations on a log axis by the logarithm, lines by the value
    figure.add_annotation(
        x=np.log10(window), y=1, yref="paper", xanchor="left", showarrow=False, text=" window"
    )
    figure.update_xaxes(type="log", title="tokens of the document", dtick=1)
    figure.update_yaxes(title="documents", rangemode="tozero")
    return _styled(figure, 320)


def distribution(
    windows: pd.DataFrame,
    column: str,
    cuts: Mapping[str, float] | None = None,
    palette: Palette | None = None,
) -> go.Figure:
    """All windows (faint) and the selected ones (full), a row per domain, with the cut marked.

    `windows`: domain, selected and the column. `cuts`: lowest selected value of each domain.
    """
    palette, domains = palette or colours(windows["domain"]), sorted(set(windows["domain"]))
    figure = make_subplots(rows=len(domains), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    edges = _edges(windows[column])
    for row, domain in enumerate(domains, start=1):
        colour = palette[domain]
        mine = windows[windows["domain"] == domain]
        parts = {"all": (mine, 0.28), "selected": (mine[mine["selected"]], 1.0)}
        for name, (part, strength) in parts.items():
            figure.add_trace(
                _bars(part[column], edges, f"{domain}, {name}", colour, strength), row, 1
            )
        if cuts and domain in cuts:
            label = {"annotation_text": f"cut {cuts[domain]:.2f}", "annotation_font_size": 11}
            figure.add_vline(x=cuts[domain], line=MARK, row=row, col=1, **label)
        figure.update_yaxes(title={"text": domain, "font": {"color": colour}}, row=row, col=1)
    figure.update_layout(barmode="overlay", bargap=0.04, showlegend=False)
    figure.update_yaxes(showticklabels=False, showgrid=False, rangemode="tozero")
    title = AXIS_NAMES.get(column, column)
    figure.update_xaxes(title=title, nticks=6, exponentformat="power", row=len(domains), col=1)
    return _styled(figure, 60 + ROW * len(domains), top=16)


def scatter(windows: pd.DataFrame, palette: Palette | None = None) -> go.Figure:
    """DS against DU; selected windows stand out. More than 5,000 windows are sampled evenly."""
    figure = go.Figure()
    shown = windows.iloc[:: max(1, -(-len(windows) // MAX_POINTS))]
    palette = palette or colours(windows["domain"])
    for domain in sorted(set(windows["domain"])):
        for selected, strength, size in ((False, 0.3, 5), (True, 0.95, 7)):
            part = shown[(shown["domain"] == domain) & (shown["selected"] == selected)]
            figure.add_scatter(
                x=part["du"],
                y=part["ds"],
                mode="markers",
                name=domain,
                legendgroup=domain,
                showlegend=selected,
                marker={"color": palette[domain], "opacity": strength, "size": size},
                customdata=part["lds"],
                hovertemplate=f"{domain}<br>DS %{{y:.4g}}, DU %{{x:.3g}}"
                "<br>LDS %{customdata:.3f}<extra></extra>",
            )
    figure.update_xaxes(title=AXIS_NAMES["du"], exponentformat="power", nticks=6)
    figure.update_yaxes(title=AXIS_NAMES["ds"])
    return _styled(figure, 430)


def overlap(shares: pd.DataFrame, palette: Palette | None = None) -> go.Figure:
    """How much of the selection each compared selection has too: name, domain, share."""
    figure = go.Figure()
    names = list(dict.fromkeys(shares["name"]))
    palette = palette or colours(shares["domain"])
    for name in names:
        mine = shares.loc[shares["name"] == name, "share"] * 100
        figure.add_scatter(
            x=[mine.min(), mine.max()],
            y=[name, name],
            mode="lines",
            line={"color": GRID, "width": 4},
            showlegend=False,
            hoverinfo="skip",
        )
    for domain, mine in shares.groupby("domain"):
        figure.add_scatter(
            x=mine["share"] * 100,
            y=mine["name"],
            mode="markers",
            name=domain,
            marker={"color": palette[str(domain)], "size": 12, "line": {"width": 0}},
            hovertemplate=f"{domain}: %{{x:.1f}} % in common with %{{y}}<extra></extra>",
        )
    figure.update_xaxes(range=[-2, 102], ticksuffix=" %", title="of the selection in common")
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], ticksuffix="  ")
    return _styled(figure, 130 + 30 * len(names))


def mix(shares: pd.DataFrame, palette: Palette | None = None) -> go.Figure:
    """Tokens planned (outline) and made (solid) of each domain: domain, planned, made."""
    palette = palette or colours(shares["domain"])
    figure = go.Figure()
    rows = shares.sort_values("domain")
    tints = [palette[domain] for domain in rows["domain"]]
    looks = {
        "planned": {"color": "rgba(0,0,0,0)", "line": {"color": tints, "width": 2}},
        "made": {"color": tints, "line": {"width": 0}},
    }
    for name, look in looks.items():
        figure.add_bar(
            y=rows["domain"],
            x=rows[name],
            name=name,
            orientation="h",
            marker=look,
            hovertemplate=f"%{{y}}: %{{x:,}} tokens {name}<extra></extra>",
        )
    figure.update_layout(barmode="group", bargap=0.35, bargroupgap=0.12, showlegend=False)
    figure.update_xaxes(title="tokens, planned (outline) and made", exponentformat="SI")
    figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix="  ")
    return _styled(figure, 80 + 64 * len(rows))


def timing(runs: pd.DataFrame) -> go.Figure:
    """Seconds and rows per second of each job: job, seconds, rows_in."""
    rates = runs["rows_in"] / runs["seconds"].clip(lower=1e-3)
    figure = go.Figure(
        go.Bar(
            y=runs["job"],
            x=runs["seconds"],
            orientation="h",
            marker={"color": PALETTE[0]},
            text=[
                f"  {s:,.1f} s  \u00b7  {r:,.1f} rows/s"
                for s, r in zip(runs["seconds"], rates, strict=True)
            ],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:,.1f} s<extra></extra>",
        )
    )
    figure.update_xaxes(range=[0, 1.9 * max(runs["seconds"].max(), 1e-3)], visible=False)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix="  ")
    figure.update_layout(bargap=0.45)
    return _styled(figure, 60 + 40 * len(runs))


def attention_map(far: npt.NDArray[Any], n_tokens: int) -> go.Figure:
    """A window's far attention, coarse: rows are queries from the top, columns are keys.

    `far` [Q, K]: mean attention mass per cell; drawn on a log scale.
    """
    steps = np.linspace(0, 1, len(ATTENTION))
    positions = (np.arange(far.shape[1]) + 0.5) * n_tokens / far.shape[1]
    rows = (np.arange(far.shape[0]) + 0.5) * n_tokens / far.shape[0]
    seen = np.where(far > 0, np.log10(np.maximum(far, 1e-30)), np.nan)
    figure = go.Figure(
        go.Heatmap(
            z=seen,
            x=positions,
            y=rows,
            colorscale=list(zip(steps, ATTENTION, strict=True)),
            showscale=False,
            hovertemplate="query %{y:,.0f}, key %{x:,.0f}: 10^%{z:.1f}<extra></extra>",
        )
    )
    figure.update_xaxes(showgrid=False, nticks=4)
    figure.update_yaxes(autorange="reversed", showgrid=False, nticks=4)
    return _styled(figure, 240)


def _edges(values: pd.Series) -> npt.NDArray[np.float64]:
    """Bin edges over all but the outermost 0.1 % on each side, so that outliers do not squash."""
    low, high = values.quantile(0.001), values.quantile(0.999)
    return np.linspace(low, high if high > low else low + 1, 61)


def _bars(
    values: pd.Series, edges: npt.NDArray[np.float64], name: str, colour: str, strength: float
) -> go.Bar:
    counts, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
    return go.Bar(
        x=(edges[1:] + edges[:-1]) / 2,
        y=counts,
        name=name,
        marker={"color": _faint(colour, strength), "line": {"width": 0}},
        hovertemplate=f"%{{y:,}} windows near %{{x:.4g}} ({name})<extra></extra>",
    )


def _faint(colour: str, strength: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {strength})"


def _styled(figure: go.Figure, height: int, top: int = 36) -> go.Figure:
    clear = "rgba(0, 0, 0, 0)"
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 8, "r": 16, "t": top, "b": 8},
        paper_bgcolor=clear,
        plot_bgcolor=clear,
        font={"family": FONT, "size": 13, "color": INK},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "title": None},
        hoverlabel={"font": {"family": FONT, "size": 13}},
        dragmode=False,
    )
    axis = {"gridcolor": GRID, "zeroline": False, "automargin": True, "ticks": ""}
    figure.update_xaxes(**axis, title_standoff=10)
    figure.update_yaxes(**axis, title_standoff=10)
    return figure
