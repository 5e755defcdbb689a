"""Figures draw what their frames say, and the page holds all it needs."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from longattn.etl.report import figures
from longattn.etl.report.page import Example, Page, render


@pytest.fixture
def windows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    parts = []
    for i, domain in enumerate(("arxiv", "book", "code")):
        n = (900, 700, 500)[i]
        frame = pd.DataFrame({"domain": domain, "ds": rng.gamma(6, 0.02 + 0.006 * i, n)})
        frame["du"] = -rng.lognormal(-18 + 0.3 * i, 0.4, n)
        frame["lds"] = rng.normal(0, 1.1, n) + 0.3 * rng.exponential(1, n)
        frame["selected"] = frame["lds"] >= frame["lds"].quantile(0.875)
        parts.append(frame)
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def runs() -> pd.DataFrame:
    columns = ["job", "rows_in", "rows_out", "refused", "seconds"]
    data = [
        ("ingest", 1294, 1260, {"missing_text": 30, "broken_json": 4}, 12.1),
        ("dedup", 1260, 1108, {"exact": 52, "near": 100}, 33.7),
        ("windows", 1108, 921, {"too_short": 187}, 40.2),
        ("score", 2100, 2100, {}, 300.5),
        ("select", 2100, 250, {"below_cut": 1837, "no_room_in_mix": 13}, 9.4),
        ("export", 500, 500, {}, 7.9),
    ]
    return pd.DataFrame(data, columns=columns)


@pytest.fixture
def page(windows: pd.DataFrame, runs: pd.DataFrame) -> Page:
    cuts = windows[windows["selected"]].groupby("domain")["lds"].min().to_dict()
    bins = pd.DataFrame(
        [(d, 2.0 ** (10 + i / 2), 40 - abs(12 - i) * 3) for d in cuts for i in range(22)],
        columns=["domain", "n_tokens", "documents"],
    )
    shares = pd.DataFrame(
        [
            (n, d, min(1.0, 0.12 + 0.15 * i + 0.05 * j))
            for i, n in enumerate(COMPARED)
            for j, d in enumerate(cuts)
        ],
        columns=["name", "domain", "share"],
    )
    planned = pd.DataFrame(
        {
            "domain": list(cuts),
            "planned": [3_000_000] * 3,
            "made": [2_990_080, 2_981_888, 1_638_400],
        }
    )
    far = np.tril(np.random.default_rng(1).random((24, 24)) ** 6)
    example = Example(
        window_id="3f9a17c04be2d815",
        domain="book",
        lds=3.21,
        ds=0.2,
        du=-1.2e-8,
        source="books.jsonl, record 12",
        text="It was a dull <evening>, and Anne had no wish to go & meet them.\n" * 6,
        map_figure=figures.attention_map(far, 32_768),
    )
    return Page(
        title="What was selected, and why",
        subtitle="selection 0123456789abcdef by llama@3f2a, windows longattn-32768",
        generated="2026-11-23 22:00 UTC",
        key_figures=[
            ("1,294", "records", "3 domains"),
            ("1,108", "documents", "152 duplicates removed"),
            ("2,100", "windows scored", "32,768 tokens each"),
            ("250", "windows in the mix", "11.9 % of them"),
            ("7.6 M", "tokens in the mix", "of 9.0 M planned"),
            ("6 min", "of work", "6 jobs"),
        ],
        domains=figures.colours(cuts),
        figures={
            "funnel": figures.funnel(runs),
            "lengths": figures.lengths(bins, 32_768),
            "lds": figures.distribution(windows, "lds", cuts),
            "ds": figures.distribution(windows, "ds"),
            "du": figures.distribution(windows, "du"),
            "scatter": figures.scatter(windows),
            "overlap": figures.overlap(shares),
            "mix": figures.mix(planned),
            "timing": figures.timing(runs),
        },
        best=[example, example],
        worst=[example],
        runs=[
            row | {"started": "2026-11-23 21:00", "refused_text": ""}
            for row in runs.to_dict("records")
        ],
        notes={"lds": "Sampled to 2,100 windows."},
        versions={"scores": 3},
        config=json.dumps({"seed": 0}, indent=2),
    )


COMPARED = ("random", "length", "ds", "du", "alpha=0", "alpha=1")


class TestFigures:
    def test_the_funnel_loses_no_row(self, runs: pd.DataFrame) -> None:
        drawn = figures.funnel(runs)
        totals = np.sum([bar.customdata for bar in drawn.data], axis=0)
        assert totals.tolist() == runs["rows_in"].tolist()

    def test_distributions_count_every_window(self, windows: pd.DataFrame) -> None:
        drawn = figures.distribution(windows, "lds", {"book": 1.0})
        counts = {bar.name: int(np.sum(bar.y)) for bar in drawn.data}
        sizes = windows.groupby("domain").size()
        assert counts["book, all"] == sizes["book"]
        assert counts["book, selected"] == windows.query("domain == 'book'")["selected"].sum()
        assert [shape.x0 for shape in drawn.layout.shapes] == [1.0]

    def test_equal_scores_are_drawn_too(self) -> None:
        equal = pd.DataFrame({"domain": "a", "ds": [0.5, 0.5], "selected": [True, False]})
        bar = figures.distribution(equal, "ds").data[0]
        assert np.sum(bar.y) == 2

    def test_a_large_scatter_is_sampled(self, windows: pd.DataFrame) -> None:
        many = pd.concat([windows] * 6, ignore_index=True)
        points = sum(len(trace.x) for trace in figures.scatter(many).data)
        assert figures.MAX_POINTS / 2 < points <= figures.MAX_POINTS

    def test_a_domain_has_one_colour(self) -> None:
        assert figures.colours(["b", "a"]) == figures.colours(["a", "b", "b"])

    def test_mix_draws_planned_and_made(self) -> None:
        shares = pd.DataFrame({"domain": ["a"], "planned": [10], "made": [7]})
        drawn = figures.mix(shares)
        assert {bar.name: list(bar.x) for bar in drawn.data} == {"planned": [10], "made": [7]}


class TestPage:
    def test_it_needs_no_network(self, page: Page) -> None:
        own = re.sub(r"<script>/\*.*?</script>", "", render(page), count=1, flags=re.DOTALL)
        assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", own)
        assert "@import" not in own

    def test_text_is_escaped(self, page: Page) -> None:
        html = render(page)
        assert "a dull &lt;evening&gt;" in html
        assert "a dull <evening>" not in html

    def test_no_figure_closes_its_script(self, page: Page) -> None:
        hostile = figures.mix(
            pd.DataFrame({"domain": ["</script><b>"], "planned": [1], "made": [1]})
        )
        html = render(Page(**{**vars(page), "figures": {"mix": hostile, "funnel": hostile}}))
        assert "</script><b>" not in html

    def test_what_there_is_nothing_of_has_no_section(self, page: Page) -> None:
        bare = {name: page.figures[name] for name in ("funnel", "timing", "lds")}
        html = render(Page(**{**vars(page), "figures": bare, "best": [], "worst": []}))
        assert 'id="lengths"' not in html
        assert 'id="windows"' not in html
