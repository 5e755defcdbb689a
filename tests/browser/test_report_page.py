"""The report in headless Chromium: every chart is drawn, nothing is logged, nothing is fetched."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from longattn.etl.report.page import render
from tests.report_pages import DOMAINS, EACH, page

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


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(page()), encoding="utf-8")
    return path


def browse(html: Path, *flags: str) -> tuple[str, list[str]]:
    """The page's DOM after it has run, and what it wrote to the console."""
    profile = html.parent / "profile"
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", *flags, html.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def seen(html: Path) -> tuple[str, list[str]]:
    return browse(html, "--dump-dom", "--window-size=1280,900")


class TestReportPage:
    def test_the_console_is_silent(self, seen: tuple[str, list[str]]) -> None:
        assert seen[1] == []

    def test_every_chart_is_drawn(self, seen: tuple[str, list[str]]) -> None:
        dom = seen[0]
        charts = re.findall(r'id="(chart-[a-z]+)" data-figure', dom)
        assert f'data-drawn="{len(charts)}"' in dom
        assert {f"chart-{name}" for name in page().figures} == set(charts)
        for chart in charts:
            drawn = dom.split(f'id="{chart}"')[1].split("<script")[0]
            assert "main-svg" in drawn, f"{chart} has no picture"

    def test_marks_are_where_the_data_is(self, seen: tuple[str, list[str]]) -> None:
        scatter = seen[0].split('id="chart-scatter"')[1].split("<script")[0]
        assert len(re.findall(r'class="point[ "]', scatter)) == EACH * len(DOMAINS)

    def test_the_viewer_shows_a_window_with_its_links_and_map(
        self, seen: tuple[str, list[str]]
    ) -> None:
        viewer = seen[0].split('id="viewer"')[1].split('id="samples"')[0]
        assert "1 of 3" in viewer
        assert "<mark>&lt;t60&gt; &lt;t61&gt; &lt;t62&gt;</mark>" in viewer
        assert "25.0 % of a token's attention goes to one token, 90 tokens back" in viewer
        assert "main-svg" in viewer

    def test_the_viewer_pages_through_what_is_asked_for(self, html: Path) -> None:
        click = """<script>setTimeout(() => {
          const choose = (id, value) => { const select = document.getElementById(id);
            select.value = value; select.dispatchEvent(new Event("change")); };
          const read = () => document.getElementById("place").textContent + " "
            + document.querySelector("#sample strong").textContent;
          const seen = [read()];
          document.getElementById("on").click(); seen.push(read());
          document.getElementById("back").click(); document.getElementById("back").click();
          seen.push(read());
          choose("of", "code"); seen.push(read());
          const whole = document.querySelector("details.whole");
          whole.open = true; whole.dispatchEvent(new Event("toggle"));
          seen.push(whole.querySelector("blockquote").textContent.length);
          document.title = seen.join("; ");
        }, 8000)</script></body>"""
        paged = html.with_name("paged.html")
        paged.write_text(html.read_text().replace("</body>", click))
        dom, console = browse(paged, "--dump-dom", "--window-size=1280,900")
        title = re.search(r"<title>(.*?)</title>", dom)
        assert title and console == []
        first, second, last, code, length = title[1].split("; ")
        (sample, *_) = page().samples
        assert int(length) == len(sample.beginning + sample.rest)
        assert [first[:6], second[:6], last[:6]] == ["1 of 3", "2 of 3", "3 of 3"]
        assert {step[7:] for step in (first, second, last)} == set(DOMAINS)
        assert code == "1 of 1 code"

    def test_nothing_is_wider_than_a_phone(self, html: Path) -> None:
        measure = "<script>setTimeout(() => { document.title = 'wide ' + (document"
        measure += ".documentElement.scrollWidth - innerWidth) + ' ' + document.getElementById("
        measure += "'chart-overlap').style.minWidth; }, 8000)</script></body>"
        narrow = html.with_name("phone.html")
        narrow.write_text(html.read_text().replace("</body>", measure))
        dom, console = browse(narrow, "--dump-dom", "--window-size=500,900")
        least = page().figures["overlap"].layout.meta["narrowest"]
        assert f"<title>wide 0 {least}px</title>" in dom  # no column of a heatmap vanishes
        assert console == []
