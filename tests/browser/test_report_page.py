"""The report in headless Chromium: every chart is drawn, nothing is logged, nothing is fetched."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from longattn.etl.report import figures
from longattn.etl.report.page import Example, Page, render

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium"),
]
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
    *("--enable-logging=stderr", "--virtual-time-budget=20000"),
)
DOMAINS = ("arxiv", "book", "code")


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(page()), encoding="utf-8")
    return path


def page() -> Page:
    rng = np.random.default_rng(0)
    windows = pd.DataFrame({"domain": np.repeat(DOMAINS, 400), "ds": rng.gamma(6, 0.02, 1200)})
    windows["du"] = -rng.lognormal(-18, 0.4, 1200)
    windows["lds"] = rng.normal(0, 1.1, 1200)
    windows["selected"] = windows["lds"] > 1.2
    runs = pd.DataFrame(
        [("ingest", 1294, 1260, {"missing_text": 34}, 12.1), ("score", 1260, 1260, {}, 300.5)],
        columns=["job", "rows_in", "rows_out", "refused", "seconds"],
    )
    bins = pd.DataFrame(
        [
            (d, 2.0 ** (10 + i / 2 + j), 40 - abs(12 - i) * 3)
            for j, d in enumerate(DOMAINS)
            for i in range(22)
        ],
        columns=["domain", "n_tokens", "documents"],
    )
    shares = pd.DataFrame(
        [(name, d, 0.2 + 0.2 * i) for i, name in enumerate(("random", "ds")) for d in DOMAINS],
        columns=["name", "domain", "share"],
    )
    planned = pd.DataFrame({"domain": DOMAINS, "planned": [3_000_000] * 3, "made": [2_990_080] * 3})
    example = Example(
        window_id="3f9a17c04be2d815",
        domain="book",
        lds=3.21,
        ds=0.2,
        du=-1.2e-8,
        source="books.jsonl, record 12",
        text="It was a dull <evening>, and Anne had no wish to go & meet them.\n" * 6,
        map_figure=figures.attention_map(np.tril(rng.random((24, 24))), 32_768),
    )
    ledger = {"started": "2026-11-23 21:00", "refused_text": "34 missing text"}
    return Page(
        title="What was selected, and why",
        subtitle="Selection 0123456789abcdef by llama@3f2a, windows longattn-32768",
        generated="2026-11-23 22:00 UTC",
        key_figures=[("1,294", "records", "3 domains"), ("7.6 M", "tokens in the mix", "")],
        domains=figures.colours(DOMAINS),
        figures={
            "funnel": figures.funnel(runs),
            "lengths": figures.lengths(bins, 32_768),
            "lds": figures.distribution(windows, "lds", dict.fromkeys(DOMAINS, 1.2)),
            "ds": figures.distribution(windows, "ds"),
            "du": figures.distribution(windows, "du"),
            "scatter": figures.scatter(windows),
            "overlap": figures.overlap(shares),
            "mix": figures.mix(planned),
            "timing": figures.timing(runs),
        },
        best=[example],
        worst=[example],
        runs=[dict(row) | ledger for row in runs.to_dict("records")],
        config=json.dumps({"seed": 0}),
    )


def browse(html: Path, *flags: str) -> tuple[str, list[str]]:
    """The page's DOM after it has run, and what it wrote to the console."""
    profile = html.parent / "profile"
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", *flags, html.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


class TestReportPage:
    @pytest.fixture(scope="class")
    def seen(self, html: Path) -> tuple[str, list[str]]:
        return browse(html, "--dump-dom", "--window-size=1280,900")

    def test_the_console_is_silent(self, seen: tuple[str, list[str]]) -> None:
        assert seen[1] == []

    def test_every_chart_is_drawn(self, seen: tuple[str, list[str]]) -> None:
        dom = seen[0]
        assert 'data-drawn="11"' in dom
        charts = re.findall(r'id="(chart-[a-z]+|map-[a-z]+-\d)" data-figure', dom)
        assert len(charts) == 11
        for chart in charts:
            drawn = dom.split(f'id="{chart}"')[1].split("<script")[0]
            assert "main-svg" in drawn, f"{chart} has no picture"

    def test_marks_are_where_the_data_is(self, seen: tuple[str, list[str]]) -> None:
        scatter = seen[0].split('id="chart-scatter"')[1].split("<script")[0]
        assert scatter.count('class="point ') == 1200

    def test_nothing_is_wider_than_a_phone(self, html: Path) -> None:
        measure = "<script>setTimeout(() => { document.title = 'wide ' + (document"
        measure += ".documentElement.scrollWidth - innerWidth); }, 8000)</script></body>"
        narrow = html.with_name("phone.html")
        narrow.write_text(html.read_text().replace("</body>", measure))
        dom, console = browse(narrow, "--dump-dom", "--window-size=500,900")
        assert "<title>wide 0</title>" in dom
        assert console == []
