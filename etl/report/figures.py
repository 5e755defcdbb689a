"""The report's figures: functions from a DataFrame to a plotly figure; notebooks use them too.

Each carries its finding, a sentence worked out from the data, for whoever shows it as a title.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from longattn.etl.report.intervals import Measured, agreement, median, share
from longattn.etl.report.style import (
    LOST,
    MARK,
    PALETTE,
    Palette,
    colours,
    faint,
    plain,
    short,
    styled,
    tick,
    whole_ticks,
)
from longattn.udfs.pictures.colours import ATTENTION, DIFFERENCE

SHARES = ((0.0, "rgba(76, 127, 217, 0.04)"), (1.0, "rgba(76, 127, 217, 0.75)"))
MAX_POINTS = 5_000  # of a scatter; more only slow the page down
ROW = 118  # pixels of a small multiple
GAP = 31  # of them between two, for the name of the second
STEP = 66  # pixels of a step of the flow
LABEL, CELL = 84, 56  # pixels of a heatmap's names of rows, and of a column, at least


def flow(steps: pd.DataFrame) -> go.Figure:
    """Where the tokens go, from documents to the mix.

    `steps`: step, detail, before and after (tokens); a step whose `after` is its `before` takes
    nothing away and says what there is.
    """
    figure, whole = go.Figure(), max(float(steps["before"].max()), 1.0)
    places = list(range(len(steps)))
    lost = steps["before"] - steps["after"]
    bars = {"left": (steps["after"], PALETTE[0], 0.85), "lost here": (lost, LOST, 0.9)}
    for name, (tokens, colour, strength) in bars.items():
        figure.add_bar(
            y=places,
            x=tokens,
            name=name,
            orientation="h",
            width=0.24,
            marker={"color": faint(colour, strength), "line": {"width": 0}},
            customdata=steps["step"],
            hovertemplate=f"%{{customdata}}: %{{x:,.0f}} tokens {name}<extra></extra>",
        )
    for place, text in zip(places, _step_texts(steps), strict=True):
        figure.add_annotation(
            x=0,
            y=place - 0.15,
            text=text,
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
            align="left",
        )
    figure.update_layout(barmode="stack", showlegend=False)
    figure.update_xaxes(title="tokens", range=[0, whole], exponentformat="SI", nticks=6)
    figure.update_yaxes(visible=False, range=[len(steps) - 0.6, -0.75])
    return styled(figure, 60 + STEP * len(steps), _flow_finding(steps, lost))


def lengths(
    documents: pd.DataFrame,
    long_enough: Mapping[str, int],
    window: int,
    others: Sequence[int] = (),
    palette: Palette | None = None,
    whole: bool = False,
) -> go.Figure:
    """Document lengths per domain on a log scale, a row each, with the window length marked.

    `documents`: domain, n_tokens (lower edge of a bin) and documents (how many). `long_enough`: by
    domain, how many hold a window; `whole` where each is one. `others`: further lengths to mark.
    """
    palette, domains = palette or colours(documents["domain"]), sorted(set(documents["domain"]))
    figure = _small_multiples(len(domains))
    for row, domain in enumerate(domains, start=1):
        mine = documents[documents["domain"] == domain].sort_values("n_tokens")
        name = plain(domain)
        bars = go.Scatter(
            x=mine["n_tokens"],
            y=mine["documents"],
            name=name,
            mode="lines",
            line={"color": palette[domain], "width": 2, "shape": "hv"},
            fill="tozeroy",
            fillcolor=faint(palette[domain], 0.3),
            hovertemplate=f"{name}: %{{y:,}} documents from %{{x:,.0f}} tokens<extra></extra>",
        )
        figure.add_trace(bars, row, 1)
        for place in (window, *others):
            figure.add_vline(x=place, line=MARK, row=row, col=1)
        enough, every = long_enough.get(domain, 0), mine["documents"].sum()
        label = f"<b>{name}</b>: {enough:,} of {every:,.0f} long enough"
        _row_label(figure, row, label, palette[domain])
        _count_axis(figure, row, mine["documents"].max(), "documents")
    # plotly places annotations on a log axis by the logarithm, lines by the value
    figure.add_annotation(
        x=np.log10(window),
        y=1,
        yref="y domain",
        yanchor="top",
        xanchor="left",
        showarrow=False,
        text=f" window: {window:,}",
    )
    ticks = _log_ticks(documents["n_tokens"])
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[*map(tick, ticks)])
    figure.update_xaxes(title="tokens of the document", row=len(domains), col=1)
    figure.update_layout(showlegend=False)
    enough, every = sum(long_enough.values()), documents["documents"].sum()
    size = f"{'up to ' if whole else ''}{window:,} tokens"
    finding = f"{enough:,} of {every:,.0f} documents hold a window of {size}"
    return styled(figure, 70 + ROW * len(domains), finding, top=26)


def distribution(
    windows: pd.DataFrame,
    column: str,
    cuts: Mapping[str, float] | None = None,
    palette: Palette | None = None,
    axis: str | None = None,
) -> go.Figure:
    """All windows (faint) and the selected ones (full), a row per domain, with the cut marked.

    `windows`: domain, selected and the column. `cuts`: lowest selected value of each domain.
    `axis`: the column's name and unit.
    """
    palette, domains = palette or colours(windows["domain"]), sorted(set(windows["domain"]))
    figure = _small_multiples(len(domains))
    edges, title = _edges(windows[column]), axis or column
    for row, domain in enumerate(domains, start=1):
        colour, shown = palette[domain], plain(domain)
        mine = windows[windows["domain"] == domain]
        parts = {"all": (mine, 0.28), "selected": (mine[mine["selected"]], 1.0)}
        for name, (part, strength) in parts.items():
            figure.add_trace(
                _bars(part[column], edges, f"{shown}, {name}", colour, strength), row, 1
            )
        label = f"<b>{shown}</b>: {mine['selected'].sum():,} of {len(mine):,} selected"
        if cuts and domain in cuts:
            figure.add_vline(x=cuts[domain], line=MARK, row=row, col=1)
            label += f", from {_value(cuts[domain])}"
        _row_label(figure, row, label, colour)
        tallest = np.histogram(mine[column].clip(edges[0], edges[-1]), edges)[0].max()
        _count_axis(figure, row, float(tallest), "windows")
    figure.update_layout(barmode="overlay", bargap=0.06, showlegend=False)
    figure.update_xaxes(nticks=6, exponentformat="power")
    figure.update_xaxes(title=title, row=len(domains), col=1)
    name = title.partition(" (")[0]
    finding = _cut_finding(windows, cuts) if cuts else _median_finding(windows, column, name)
    return styled(figure, 70 + ROW * len(domains), finding, 26)


def scatter(
    windows: pd.DataFrame, palette: Palette | None = None, axes: tuple[str, str] = ("DS", "DU")
) -> go.Figure:
    """DS against DU, or what the axes say they are; selected windows are filled.

    `windows`: domain, ds, du, lds, selected. More than 5,000 windows are sampled evenly.
    """
    figure = go.Figure()
    shown = windows.iloc[:: max(1, -(-len(windows) // MAX_POINTS))]
    palette = palette or colours(windows["domain"])
    size = 9 if len(shown) < 1_000 else 5
    names = [axis.partition(" (")[0] for axis in axes]
    for domain in sorted(set(windows["domain"])):
        for selected, symbol in ((False, "circle-open"), (True, "circle")):
            part = shown[(shown["domain"] == domain) & (shown["selected"] == selected)]
            figure.add_scatter(
                x=part["du"],
                y=part["ds"],
                mode="markers",
                name=f"{plain(domain)}, selected" if selected else plain(domain),
                marker={
                    "color": palette[domain],
                    "symbol": symbol,
                    "size": size + 2 * selected,
                    "opacity": 1.0 if selected else 0.75,
                    "line": {"width": 1.4},
                },
                customdata=part["lds"],
                hovertemplate=f"{plain(domain)}<br>{names[0]} %{{y:.4g}}, {names[1]} %{{x:.3g}}"
                "<br>score %{customdata:.3f}<extra></extra>",
            )
    figure.update_xaxes(title=axes[1], exponentformat="power", nticks=6)
    figure.update_yaxes(title=axes[0], nticks=6)
    relation = _relation(agreement(windows, "ds", "du"))
    return styled(figure, 460, f"{names[0]} and {names[1]} {relation}", top=64)


def overlap(shares: pd.DataFrame, selected: Mapping[str, float]) -> go.Figure:
    """How much of the selection each compared selection has too: name, domain, share.

    `selected`: windows of the selection by domain, which the last column weighs domains by.
    """
    names, domains = list(dict.fromkeys(shares["name"])), sorted(set(shares["domain"]))
    table = shares.pivot_table(index="name", columns="domain", values="share").loc[names, domains]
    weights = np.array([selected.get(domain, 0) for domain in domains])
    means = (table * weights).sum(axis=1) / (table.notna() * weights).sum(axis=1)
    percent = 100 * np.column_stack([table, means])
    figure = go.Figure(
        go.Heatmap(
            z=percent,
            x=[*map(plain, domains), "<b>all</b>"],
            y=[*map(plain, names)],
            zmin=0,
            zmax=100,
            colorscale=SHARES,
            showscale=False,
            xgap=3,
            ygap=3,
            hovertemplate="%{z:.1f} % of the selection in %{x} are chosen by %{y} too"
            "<extra></extra>",
        )
    )
    for (row, column), part in np.ndenumerate(percent):
        figure.add_annotation(x=column, y=row, text=f"{part:.0f} %", showarrow=False)
    figure.update_xaxes(type="category", side="top", showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticksuffix="  ")
    finding, width = _overlap_finding(means, weights.sum()), LABEL + CELL * (len(domains) + 1)
    return styled(figure, 60 + 34 * len(names), finding, top=30, narrowest=width)


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
            y=[*map(plain, rows["domain"])],
            x=rows[name],
            name=name,
            orientation="h",
            marker=look,
            text=[f" {short(tokens)} {name}" for tokens in rows[name]],
            textposition="outside",
            cliponaxis=False,
            hovertemplate=f"%{{y}}: %{{x:,}} tokens {name}<extra></extra>",
        )
    largest = max(float(rows[["planned", "made"]].max().max()), 1.0)
    figure.update_layout(barmode="group", bargap=0.35, bargroupgap=0.12, showlegend=False)
    figure.update_xaxes(title="tokens", exponentformat="SI", range=[0, 1.45 * largest], nticks=5)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticksuffix="  ")
    return styled(figure, 80 + 64 * len(rows), _mix_finding(rows))


def timing(runs: pd.DataFrame) -> go.Figure:
    """Seconds and rows per second of each job: job, seconds, rows_in; unit where there is one."""
    rates = runs["rows_in"] / runs["seconds"].clip(lower=1e-3)
    units = runs["unit"] if "unit" in runs else ["rows"] * len(runs)
    figure = go.Figure(
        go.Bar(
            y=runs["job"],
            x=runs["seconds"],
            orientation="h",
            marker={"color": PALETTE[0]},
            text=[
                f"  {s:,.1f} s, {r:,.1f} {unit}/s"
                for s, r, unit in zip(runs["seconds"], rates, units, strict=True)
            ],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:,.1f} s<extra></extra>",
        )
    )
    figure.update_xaxes(
        title="seconds", range=[0, 1.9 * max(runs["seconds"].max(), 1e-3)], nticks=5
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix="  ")
    figure.update_layout(bargap=0.45)
    total, most = runs["seconds"].sum(), runs.loc[runs["seconds"].idxmax()]
    share = 100 * most["seconds"] / max(total, 1e-3)
    finding = f"{most['job']} takes {share:.0f} % of {total:,.0f} seconds of work"
    return styled(figure, 80 + 40 * len(runs), finding)


def attention_map(
    far: npt.NDArray[Any], n_tokens: int, k: int, usual: npt.NDArray[Any] | None = None
) -> go.Figure:
    """A window's far attention, coarse: rows are queries from the top, columns are keys.

    `far` [Q, K]: mean attention mass per cell. Drawn against `usual`, the same of other windows,
    as how many times as much; or by itself on a log scale. The k first queries and last keys,
    which have nothing far, are left out.
    """
    cells = far.shape[0]
    kept = slice(int(k * cells / n_tokens), cells), slice(0, cells - int(k * cells / n_tokens))
    middles = (np.arange(cells) + 0.5) * n_tokens / cells
    compared, scale = usual is not None, ATTENTION if usual is None else DIFFERENCE
    alone = np.log10(np.where(far > 0, far, np.nan))
    seen = alone if usual is None else np.log2(_ratio(far, usual))
    bar = {
        "thickness": 10,
        "outlinewidth": 0,
        "tickvals": [-1, -0.5, 0, 0.5, 1],
        "ticktext": ["0.5", "0.7", "1", "1.4", "2"],
        "title": {"text": "times the mean", "side": "right"},
    }
    if not compared:
        bar = {"thickness": 10, "title": {"text": "share, 10^x", "side": "right"}}
    figure = go.Figure(
        go.Heatmap(
            z=np.round(seen, 2)[kept],
            x=np.round(middles[kept[1]]),
            y=np.round(middles[kept[0]]),
            zmin=-1 if compared else None,
            zmax=1 if compared else None,
            colorscale=list(zip(np.linspace(0, 1, len(scale)), scale, strict=True)),
            colorbar=bar,
            hovertemplate="query %{y:,.0f}, key %{x:,.0f}: %{z:.1f}<extra></extra>",
        )
    )
    figure.update_xaxes(title="key (token)", showgrid=False, nticks=4)
    figure.update_yaxes(title="query (token)", autorange="reversed", showgrid=False, nticks=5)
    return styled(figure, 300, f"Far attention, {k:,} tokens or more back")


def _step_texts(steps: pd.DataFrame) -> Iterator[str]:
    columns = (steps[name] for name in ("step", "detail", "before", "after"))
    for step, detail, before, after in zip(*columns, strict=True):
        lost = before - after
        tokens = f"\u2212{short(lost)} tokens" if lost else f"{short(after)} tokens"
        yield f"<b>{step}</b>: {tokens}<br>{detail}"


def _flow_finding(steps: pd.DataFrame, lost: pd.Series) -> str:
    first, last = steps["before"].iloc[0], steps["after"].iloc[-1]
    share = 100 * last / max(first, 1)
    worst = steps.loc[lost.idxmax(), "step"]
    end = f"; most are lost {worst}" if lost.max() else ""
    return f"{short(last)} of {short(first)} tokens reach the mix ({share:.1f} %){end}"


def _cut_finding(windows: pd.DataFrame, cuts: Mapping[str, float]) -> str:
    low, high = min(cuts, key=lambda d: cuts[d]), max(cuts, key=lambda d: cuts[d])
    said = f"{windows['selected'].sum():,} of {len(windows):,} windows are selected, from"
    if low == high:
        return f"{said} {_value(cuts[low])}"
    return f"{said} {_value(cuts[low])} in {low} to {_value(cuts[high])} in {high}"


def _median_finding(windows: pd.DataFrame, column: str, name: str) -> str:
    """The highest and the lowest median, where their intervals do not meet."""
    grouped = windows.groupby("domain")[column]
    known = {str(domain): median(values) for domain, values in grouped}
    low, high = (choose(known, key=lambda d: known[d][0]) for choose in (min, max))
    if known[low][2] >= known[high][1]:
        beside = ": no domain's median is surely above another's" if len(known) > 1 else ""
        return f"{name} of {len(windows):,} windows{beside}"
    words = {d: f"median {_value(known[d][0])}, {_between(*known[d][1:])}" for d in (low, high)}
    return f"{name} is highest in {high} ({words[high]}), lowest in {low} ({words[low]})"


def _between(low: float, high: float) -> str:
    """For example `0.14 to 0.16`, the interval's ends."""
    return f"{_value(low)} to {_value(high)}"


def _overlap_finding(means: pd.Series, n_windows: float) -> str:
    """The nearest of the other rules, where it is surely the nearest, and chance."""
    named = means.drop("random", errors="ignore").drop_duplicates()
    own = named[named < 1.0].sort_values(ascending=False)
    if own.empty:
        return "Share of the selection that other rules choose too"
    nearest = {rule: share(of_all, n_windows) for rule, of_all in own.items()}
    most = nearest[own.index[0]]
    tied = [str(rule) for rule, of in nearest.items() if of.high >= most.low]
    part = f"{100 * most.value:.0f} \u00b1 {100 * most.error:.0f} %"
    chance = f"; chance gives {100 * means['random']:.0f} %" if "random" in means else ""
    if "random" in means and most.low <= means["random"]:
        return f"No other rule surely chooses more of the same than chance, {part} at most{chance}"
    if len(tied) > 1:
        rules = f"{', '.join(tied[:-1])} and {tied[-1]}"
        return f"{rules} choose most nearly the same, up to {part}{chance}"
    return f"The rule that chooses most nearly the same is {tied[0]} ({part}){chance}"


def _mix_finding(rows: pd.DataFrame) -> str:
    made, planned = rows["made"].sum(), rows["planned"].sum()
    short_of = rows.loc[rows["made"] < 0.95 * rows["planned"], "domain"]
    end = f"; short of its plan: {', '.join(short_of)}" if len(short_of) else ""
    return f"The mix holds {short(made)} of {short(planned)} tokens planned{end}"


def _relation(rank: Measured | None) -> str:
    if rank is None:
        return "cannot be compared: one of them is the same for all windows"
    if abs(rank.value) <= rank.error:
        return f"rank windows in orders without a sure relation (Spearman {rank})"
    ways = (
        ("much the same", "a like")
        if rank.value > 0
        else ("much the opposite", "a rather opposite")
    )
    sure = abs(rank.value) - rank.error > 0.5
    return f"rank windows in {ways[0] if sure else ways[1]} order (Spearman {rank})"


def _ratio(far: npt.NDArray[Any], usual: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """far / usual where there is any, within half and twice; else nan."""
    there = usual > 0
    ratio = np.divide(far, usual, out=np.full(far.shape, np.nan), where=there)
    clipped: npt.NDArray[np.float64] = np.clip(ratio, 0.5, 2.0)
    return clipped


def _log_ticks(values: pd.Series) -> list[int]:
    """1, 2 and 5 of every decade that the values span; 1 alone where that is two decades or more.

    >>> _log_ticks(pd.Series([900, 6_000])), _log_ticks(pd.Series([8, 20_000]))
    ([1000, 2000, 5000], [10, 100, 1000, 10000])
    >>> _log_ticks(pd.Series([1024, 1448]))
    [1024, 1448]
    """
    low, high = max(float(values.min()), 1.0), max(float(values.max()), 1.0)
    steps = (1, 2, 5) if high < 100 * low else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = (step * 10**decade for decade in decades for step in steps)
    inside = [one for one in ticks if low <= one <= high]
    return inside if len(inside) > 1 else [round(low), round(high)]


def _edges(values: pd.Series) -> npt.NDArray[np.float64]:
    """Bin edges over all but the outermost 0.1 % on each side, so that outliers do not squash."""
    low, high = values.quantile(0.001), values.quantile(0.999)
    bins = int(np.clip(3 * np.sqrt(len(values)), 12, 60))
    return np.linspace(low, high if high > low else low + 1, bins + 1)


def _bars(
    values: pd.Series, edges: npt.NDArray[np.float64], name: str, colour: str, strength: float
) -> go.Bar:
    counts, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
    return go.Bar(
        x=(edges[1:] + edges[:-1]) / 2,
        y=counts,
        name=name,
        marker={"color": faint(colour, strength), "line": {"width": 0}},
        hovertemplate=f"%{{y:,}} windows near %{{x:.4g}} ({name})<extra></extra>",
    )


def _small_multiples(rows: int) -> go.Figure:
    """A row for each domain, of one height however many there are."""
    return make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=GAP / (ROW * rows))


def _row_label(figure: go.Figure, row: int, text: str, colour: str) -> None:
    """A small multiple's name above its left corner, in its colour."""
    axis = "y" if row == 1 else f"y{row}"
    figure.add_annotation(
        text=text,
        x=0,
        xref="paper",
        y=1,
        yref=f"{axis} domain",
        xanchor="left",
        yanchor="bottom",
        showarrow=False,
        font={"color": colour},
        name="own colour",
    )


def _count_axis(figure: go.Figure, row: int, largest: float, unit: str) -> None:
    figure.update_yaxes(
        title=unit,
        dtick=whole_ticks(largest),
        range=[0, max(largest, 1) * 1.08],
        tickformat=",d",
        row=row,
        col=1,
    )


def _value(x: float) -> str:
    return f"{x:.3g}".replace("-", "\u2212")
