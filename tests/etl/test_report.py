"""Figures draw what their frames say, and the page holds all it needs."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from longattn.etl import config as config_module
from longattn.etl.report import figures, intervals, picture, samples, scorers
from longattn.etl.report.build import build
from longattn.etl.report.flow import by_domain, steps
from longattn.etl.report.job import exported_contexts, job_runs
from longattn.etl.report.page import Page, render
from longattn.etl.report.style import colours, finding, whole_ticks
from longattn.etl.run.figures import Figures
from longattn.udfs.pictures.links import repeats
from longattn.udfs.scorers.meaning import MEANINGS, meaning_of
from longattn.udfs.scorers.registry import SCORERS
from tests import report_pages


@pytest.fixture
def windows() -> pd.DataFrame:
    return report_pages.facts().own


@pytest.fixture(scope="module")
def page() -> Page:
    return report_pages.page()


class TestFlow:
    def test_what_is_left_of_a_step_is_given_to_the_next(self) -> None:
        rows = steps(report_pages.document_fates(), report_pages.window_fates())
        assert rows["after"].iloc[0] == 10_000_000 + 300_000 + 300_000  # a token is 4 characters
        cut = rows.index[rows["step"] == "windows"][0]
        for part in (rows.iloc[:cut], rows.iloc[cut:]):
            assert part["before"].iloc[1:].tolist() == part["after"].iloc[:-1].tolist()
        assert rows["after"].iloc[-1] == 1_200_000

    def test_tails_are_what_windows_leave_of_documents(self) -> None:
        rows = steps(report_pages.document_fates(), report_pages.window_fates())
        (tail,) = rows[rows["step"].str.contains("tails")].to_dict("records")
        held = 48_000 + 8_300_000 + 104_000 + 1_200_000 - 400_000
        assert tail["before"] - tail["after"] == 10_000_000 - held

    def test_each_domain_has_its_own_way(self) -> None:
        """Worked out by hand: book has lost nothing as duplicates, code has no window."""
        documents, windows = report_pages.document_fates(), report_pages.window_fates()
        left = by_domain(documents, windows)
        assert list(left.columns[:2]) == ["ingested", "as duplicates"]
        assert dict(left.loc["book", ["ingested", "as duplicates"]]) == {
            "ingested": 10_000_000,
            "as duplicates": 0,
        }
        assert left.loc["book", "as contaminated"] == 48_000
        assert left.loc["book", "in the mix"] == 1_200_000
        assert left.loc["code", "in documents too short"] == 300_000
        assert left.loc["code", ["windows", "in the mix"]].sum() == 0
        whole = steps(documents, windows).set_index("step")
        lost = (whole["before"] - whole["after"])[whole["before"] > whole["after"]]
        assert (left[lost.index].sum() == lost).all()

    def test_bars_show_what_is_left_and_what_is_lost(self) -> None:
        rows = steps(report_pages.document_fates(), report_pages.window_fates(), {"broken": 4})
        drawn = figures.flow(rows)
        left, lost = (np.asarray(bar.x) for bar in drawn.data)
        assert (left + lost).tolist() == rows["before"].tolist()
        assert len(drawn.layout.annotations) == len(rows)
        assert "4 records refused before" in drawn.layout.annotations[0].text
        assert finding(drawn).startswith("1.2 M of 10.6 M tokens reach the mix (11.3 %)")


class TestFigures:
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

    def test_counts_have_whole_ticks(self) -> None:
        for largest in (1, 2, 3, 7, 13, 44, 99, 1_234):
            step = whole_ticks(largest)
            assert step == int(step) and largest / step <= 5

    def test_a_large_scatter_is_sampled(self, windows: pd.DataFrame) -> None:
        many = pd.concat([windows] * 6, ignore_index=True)
        points = sum(len(trace.x) for trace in figures.scatter(many).data)
        assert figures.MAX_POINTS / 2 < points <= figures.MAX_POINTS

    def test_a_domain_has_one_colour(self) -> None:
        assert colours(["b", "a"]) == colours(["a", "b", "b"])

    def test_mix_draws_planned_and_made(self) -> None:
        shares = pd.DataFrame({"domain": ["a"], "planned": [10], "made": [7]})
        drawn = figures.mix(shares)
        assert {bar.name: list(bar.x) for bar in drawn.data} == {"planned": [10], "made": [7]}
        assert finding(drawn) == "The mix holds 7 of 10 tokens planned; short of its plan: a"

    def test_no_domain_hides_another_in_overlap(self) -> None:
        rows = [(name, d, 0.5) for name in ("random", "ds") for d in "abc"]
        shares = pd.DataFrame(rows, columns=["name", "domain", "share"])
        drawn = figures.overlap(shares, dict.fromkeys("abc", 1))
        assert [note.text for note in drawn.layout.annotations] == ["50 %"] * 8

    def test_domains_weigh_by_their_windows_in_overlap(self) -> None:
        rows = [("random", "a", 1.0), ("random", "b", 0.1), ("ds", "a", 0.5), ("ds", "b", 0.5)]
        shares = pd.DataFrame(rows, columns=["name", "domain", "share"])
        drawn = figures.overlap(shares, {"a": 1, "b": 99})
        every = [note.text for note in drawn.layout.annotations if note.x == 2]
        assert every == ["11 %", "50 %"]  # (1 + 9.9) / 100
        assert finding(drawn).endswith("same is ds (50 \u00b1 10 %); chance gives 11 %")

    def test_names_are_shown_as_they_stand(self) -> None:
        odd = ["<b>&amp;", "2020", "mean"]
        windows = pd.DataFrame({"domain": odd, "ds": [1.0, 2.0, 3.0], "selected": True})
        label = figures.distribution(windows, "ds").layout.annotations[0].text
        assert label.startswith("<b>2020</b>")
        shares = pd.DataFrame(
            [("random", d, 0.5) for d in odd], columns=["name", "domain", "share"]
        )
        drawn = figures.overlap(shares, dict.fromkeys(odd, 1))
        assert list(drawn.data[0].x) == ["2020", "&lt;b&gt;&amp;amp;", "mean", "<b>all</b>"]
        assert drawn.data[0].z.tolist() == [[50.0] * 4] and drawn.layout.xaxis.type == "category"
        assert picture._plain("<b>&lt;b&gt;&amp;amp;</b>") == "<b>&amp;"

    def test_rows_are_as_tall_however_many_domains_there_are(self) -> None:
        """Plotly measures gaps in shares of the figure; a fixed one of 0.08 fails at 14 rows."""
        for count in (1, 3, 22):
            names = [f"d{n:02}" for n in range(count)]
            windows = pd.DataFrame({"domain": names, "ds": 1.0, "selected": True})
            drawn = figures.distribution(windows, "ds")
            low, high = drawn.layout.yaxis.domain
            assert 80 < (high - low) * (drawn.layout.height - 70) < figures.ROW + 1

    def test_a_map_leaves_out_what_cannot_be_far(self) -> None:
        far = np.tril(np.ones((20, 20)), -5)
        drawn = figures.attention_map(far, 200, 50).data[0]
        assert np.shape(drawn.z) == (15, 15)
        assert (min(drawn.y), max(drawn.x)) == (55, 145)

    def test_relative_maps_say_how_many_times_the_mean(self) -> None:
        far = np.tril(np.ones((20, 20)), -5)
        drawn = figures.attention_map(2 * far, 200, 50, far).data[0]
        assert np.nanmax(drawn.z) == np.nanmin(drawn.z) == 1.0  # log2 of 2
        assert drawn.colorbar.title.text == "times the mean"

    def test_every_figure_says_what_it_shows_and_names_its_axes(self, page: Page) -> None:
        for name, figure in page.figures.items():
            assert len(finding(figure)) > 20, name
            titles = [axis.title.text for axis in figure.select_xaxes() if axis.title.text]
            assert titles or name == "overlap", name


class TestIntervals:
    def test_a_median_lies_in_its_interval_as_often_as_said(self) -> None:
        """400 samples of 60 draws of a skewed distribution, whose median is 1."""
        draws = np.random.default_rng(0).lognormal(0, 1, (400, 60))
        ends = [intervals.median(pd.Series(sample))[1:] for sample in draws]
        assert 0.93 < np.mean([low <= 1 <= high for low, high in ends]) < 0.99
        assert intervals.median(pd.Series([1.0, 2.0]))[1:] == (-np.inf, np.inf)

    def test_a_share_lies_in_its_interval_as_often_as_said(self) -> None:
        counts = np.random.default_rng(0).binomial(40, 0.2, 400)
        found = [intervals.share(count / 40, 40) for count in counts]
        assert 0.9 < np.mean([one.low <= 0.2 <= one.high for one in found]) < 0.99

    def test_agreement_by_chance_lies_within_its_error(self) -> None:
        rng = np.random.default_rng(0)
        domains = np.repeat(["a", "b"], [30, 50])
        tries = [
            intervals.agreement(
                pd.DataFrame({"domain": domains, "x": rng.random(80), "y": rng.random(80)}),
                *("x", "y"),
            )
            for _ in range(200)
        ]
        inside = [abs(one.value) <= one.error for one in tries if one]
        assert len(inside) == 200 and 0.91 < np.mean(inside) < 0.99

    def test_differences_within_their_error_are_not_said(self) -> None:
        rng = np.random.default_rng(1)
        windows = pd.DataFrame({"domain": ["a", "b"] * 40, "ds": rng.random(80), "selected": True})
        told = finding(figures.distribution(windows, "ds", axis="DS"))
        assert told == "DS of 80 windows: no domain's median is surely above another's"
        windows["ds"] += (windows["domain"] == "b") * 1.0
        assert "DS is highest in b" in finding(figures.distribution(windows, "ds", axis="DS"))
        rows = [("ds", "a", 0.5), ("length", "a", 0.48), ("du", "a", 0.1)]
        shares = pd.DataFrame(rows, columns=["name", "domain", "share"])
        assert finding(figures.overlap(shares, {"a": 30})).startswith("Ds and length choose most")

    def test_windows_near_a_cut_are_counted_on_both_sides(self) -> None:
        """Half a deviation of 0 to 4 is 0.79; 0.05 of it reaches nobody's neighbour."""
        windows = pd.DataFrame({"domain": "a", "value": [0.0, 1.0, 2.0, 3.0, 4.0], "error": 0.0})
        (row,) = intervals.firmness(windows, {"a": 2.0})
        assert tuple(row) == ("a", 2.0, 3, 1, 0)  # the window that makes the cut
        (row,) = intervals.firmness(windows.assign(error=[0.5, 1.0, 1.0, 1.0, 1.0]), {"a": 2.0})
        assert (row.selected, row.inside, row.outside) == (3, 2, 1)
        assert "2 of 3 windows above the cut (67 %)" in intervals.firmness_finding([row])


class TestScorers:
    def test_every_scorer_has_words(self) -> None:
        assert set(SCORERS) <= set(MEANINGS)
        assert meaning_of("recall:n=6:k=1024") is MEANINGS["recall"]
        assert meaning_of("other:1").name == "other"
        assert "misses joined documents" in MEANINGS["cohesion"].known

    def test_agreement_is_spearmans_within_domains(self) -> None:
        """A scorer that ranks each domain in reverse, with domains far apart."""
        frame = pd.DataFrame({"window_id": list("abcdef"), "domain": ["x"] * 3 + ["y"] * 3})
        one = frame.assign(scorer="longattn:1", value=[1, 2, 3, 101, 102, 103])
        other = frame.assign(scorer="recall:1", value=[3, 2, 1, 103, 102, 101])
        points = pd.concat([one, other]).assign(selected=False)
        rows = scorers.side_by_side(points, "longattn:1", meaning_of("longattn"), set(), {})
        assert [row.version for row in rows] == ["longattn:1", "recall:1"]
        assert rows[1].agreement is not None and rows[0].agreement is None
        assert rows[1].agreement.value == -1.0

    def test_common_is_the_share_of_the_selection(self) -> None:
        facts = report_pages.facts()
        rows = scorers.side_by_side(
            facts.points, facts.scorer, facts.score, facts.selected, facts.seconds
        )
        found = {row.meaning.name: row for row in rows}
        assert found["LDS"].common == 1.0 and found["LDS"].seconds == 0.25
        recall = facts.points[facts.points["scorer"] == report_pages.RECALL]
        both = set(recall.loc[recall["selected"], "window_id"]) & facts.selected
        assert found["far recall"].common == len(both) / len(facts.selected)
        assert scorers.finding(rows).startswith("LDS and far recall agree at 0.9")

    def test_others_choose_as_many_of_each_domain(self) -> None:
        frame = pd.DataFrame({"domain": ["a"] * 4 + ["b"] * 4, "ds": [4, 3, 2, 1, 1, 2, 3, 4]})
        frame = frame.assign(scorer="recall:1", du=0.0, window_id=list("abcdefgh"))
        chosen = scorers.chosen(scorers.ranked(frame, 0.5), pd.Series({"a": 1, "b": 2}))
        assert frame.loc[chosen, "window_id"].tolist() == ["a", "g", "h"]


class TestSamples:
    def test_both_ends_and_both_sides_of_the_cut_are_shown(self) -> None:
        values = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]
        points = pd.DataFrame({"window_id": list("abcdef"), "domain": "x", "scorer": "r:1"})
        points = points.assign(value=values, selected=[True] * 3 + [False] * 3)
        assert samples.to_show(points, 1) == ["a", "f", "c", "d"]
        assert set(samples.to_show(points, 5)) == set("abcdef")

    def test_a_window_without_a_value_is_not_shown_for_it(self) -> None:
        """As of a measure that its score has not: NaN is no number that JSON knows."""
        points = pd.DataFrame({"window_id": list("abc"), "domain": "x", "scorer": "r:1"})
        points = points.assign(value=[2.0, float("nan"), 1.0], selected=[True, False, False])
        assert samples.to_show(points, 1) == ["a", "c"]
        (standing,) = samples.standings(points, ["a", "b"])["a"]
        assert standing.percentile == 100.0
        assert "b" not in samples.standings(points, ["a", "b"])

    def test_whole_windows_are_bounded_too(self) -> None:
        each = report_pages.shown()
        room = len(each[0].rest) + len(each[1].rest)
        assert [bool(one.rest) for one in samples.with_room(each, room)] == [True, True, False]

    def test_the_page_is_bounded(self) -> None:
        points = report_pages.points()
        assert len(samples.to_show(points, 10_000)) == samples.MOST
        link = repeats(np.tile(np.arange(5000), 3), 1024, 1)[0]
        (passage,) = samples.passages([link], lambda start, stop: "x" * (stop - start))
        assert len("".join(passage["here"])) <= samples.LONGEST + 2 * samples.AROUND + 2

    def test_text_is_read_by_the_tokens_of_words(self) -> None:
        text = "Far, \u4e2d\u6587 so far away."  # far , 2 characters so far away .
        text_of = samples.text_by_words(text, 8)
        assert text_of is not None
        assert (text_of(0, 2), text_of(2, 4)) == ("Far, ", "\u4e2d\u6587 ")
        assert text_of(6, 99) == "away."
        assert samples.text_by_words(text, 7) is None

    def test_the_weakest_place_has_its_token_its_character_and_both_sides(self) -> None:
        text_of = samples.text_by_words("one  text ends\nand another begins", 6)
        assert text_of and samples.weakest(3, text_of, 6) == (
            "token 3, character 15: one text ends \u2016 and another begins"
        )

    def test_a_window_stands_by_each_scorer(self) -> None:
        points = report_pages.points()
        (standings,) = samples.standings(points, ["w00000"]).values()
        assert [s.scorer for s in standings] == sorted(set(points["scorer"]), key=len, reverse=True)


class TestPage:
    def test_it_needs_no_network(self, page: Page) -> None:
        own = re.sub(r"<script>/\*.*?</script>", "", render(page), count=1, flags=re.DOTALL)
        assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", own)
        assert "@import" not in own

    def test_samples_are_plain_text_in_the_page(self, page: Page) -> None:
        html = render(page)
        held = re.search(r'id="samples">(.*?)</script>', html, re.DOTALL)
        assert held and "<evening>" not in held[1]
        first = json.loads(held[1])[0]
        assert "a dull <evening>" in first["beginning"]
        assert first["links"]["repeats"][0]["here"][1] == "<t60> <t61> <t62>"
        assert first["by"][report_pages.LONGATTN][2] in (True, False)

    def test_a_root_whose_ledger_is_lost_has_one(self) -> None:
        """It ended in a KeyError: no run, no columns."""
        facts = replace(report_pages.facts(), runs=job_runs([], "any"), last_runs={})
        lost = build(replace(facts, counted=Figures()), [])
        assert "timing" not in lost.figures and "flow" in lost.figures
        assert "0 jobs" in render(lost)

    def test_no_figure_closes_its_script(self, page: Page) -> None:
        hostile = figures.mix(
            pd.DataFrame({"domain": ["</script><b>"], "planned": [1], "made": [1]})
        )
        html = render(replace(page, figures={"mix": hostile, "flow": hostile}))
        assert "</script><b>" not in html

    def test_what_there_is_nothing_of_has_no_section(self, page: Page) -> None:
        bare = {name: page.figures[name] for name in ("flow", "timing", "lds")}
        html = render(replace(page, figures=bare, samples=[], contamination=[]))
        assert 'id="lengths"' not in html
        assert 'id="windows"' not in html
        assert "evaluation set" not in html

    def test_what_was_refused_and_removed_is_shown_as_text(self, page: Page) -> None:
        html = render(page)
        assert "&lt;b&gt;half a" in html and "<b>half a" not in html
        assert "similarity 0.83" in html and "def add(x, y):" in html
        row = re.search(r"<tr><td>code</td>(.*?)</tr>", html)
        tokens = re.findall(r"<td>(.*?)</td>", row[1]) if row else []
        assert tokens[0] == "600.0 k" and tokens[-1] == "0"  # what there is
        lost = [place for place, text in enumerate(tokens) if text.startswith("\u2212")]
        assert lost and all(
            page.steps[place] not in ("ingested", "windows", "in the mix") for place in lost
        )

    def test_the_last_runs_and_the_firmness_of_the_cut_stand_in_tables(self, page: Page) -> None:
        html = render(page)
        assert "<th>1 before</th>" in html and "1,294 records" in html
        once = {job: runs[:1] for job, runs in page.last_runs.items()}
        first = render(replace(page, last_runs=once))
        assert "<th>latest</th>" in first and "<th>1 before</th>" not in first
        assert "estimate.cpu_hour" not in html  # no price is known
        priced = config_module.validate({"estimate": {"cpu_hour": 36.0, "currency": "EUR"}})
        html = render(build(replace(report_pages.facts(), config=priced), []))
        assert "1,200 windows, 3 EUR" in html  # 300.5 s of an hour at 36
        assert "windows above the cut" in page.firmness_finding
        assert sum(row.selected for row in page.firmness) == len(report_pages.facts().selected)

    def test_how_far_back_the_tokens_of_each_export_see_is_a_line(
        self, page: Page, tmp_path: Path
    ) -> None:
        """Of exports of another selection, of earlier versions and damaged ones there is none."""
        half = {"masked": {"half_below": 512}, "unmasked": {"half_below": 8192}}
        whole = {kind: {"half_below": 8192} for kind in half}
        manifests = {
            "jsonl": {"selection": "s", "context": half},
            "mds": {"selection": "s", "context": whole},
            "parquet": {"selection": "other", "context": whole},
            "megatron": {"selection": "s"},
            "numpy": {"selection": "s", "context": whole, "files": "damaged"},
        }
        for name, manifest in manifests.items():
            (tmp_path / name).mkdir()
            text = json.dumps({"longattn": "0.2.0"} | manifest)
            (tmp_path / name / "_manifest.json").write_text(text)
        targets = {name: {"path": str(tmp_path / name)} for name in (*manifests, "megatron_bridge")}
        config = config_module.validate({"export": targets, "tokenizer": "none"})
        lines = exported_contexts(config, "s")
        assert sorted(lines) == [
            "jsonl: half of the target tokens see less than 512 tokens, without masks between"
            " documents 8,192",
            "mds: half of the target tokens see less than 8,192 tokens",
        ]
        assert all(line in render(replace(page, contexts=lines)) for line in lines)

    def test_several_selections_of_a_root_stand_in_a_table(self, page: Page) -> None:
        row = {"selection": "a<b", "made": "2026-11-23 21:00", "common": 150}
        row |= {"windows": 1_500, "tokens": 12_000_000}
        assert "selections of this root" not in render(replace(page, selections=[row]))
        html = render(replace(page, selections=[row, row]))
        assert "The 2 selections of this root" in html
        assert "<td>a&lt;b</td><td>2026-11-23 21:00</td><td>1,500</td><td>12,000,000</td>" in html

    def test_a_scorer_has_one_name_on_the_page(self) -> None:
        """In the heatmap as in the table; rules of select.compare keep theirs."""
        overlaps = {(name, "book"): 0.5 for name in ("compress", "random", "length")}
        counted = replace(report_pages.facts().counted, overlaps=overlaps)
        drawn = build(replace(report_pages.facts(), counted=counted), []).figures["overlap"]
        assert list(drawn.data[0].y) == ["random", "length", "far compression"]

    def test_what_no_scorer_has_is_no_column(self, page: Page) -> None:
        assert "<th>with far gain</th>" not in render(page)
        judged = replace(page.scorers[0], judged=intervals.Measured(0.5, 0.1))
        assert "<th>with far gain</th>" in render(replace(page, scorers=[judged]))

    def test_selected_and_mixed_are_told_apart(self, page: Page) -> None:
        """150 windows are selected of 1,200; the mix has 150 samples of them. Documents are those
        of now: a run that found nothing new counted none.
        """
        assert page.key_figures[:2] == [
            ("1,260", "documents", "of 1,294 records"),
            ("1,108", "after dedup", "152 removed"),
        ]
        assert ("150", "windows selected", "12.5 % of them; 150 samples mixed") in page.key_figures

    def test_hits_stand_by_evaluation_set(self, page: Page) -> None:
        assert [(row["set"], row["windows"]) for row in page.contamination] == [
            ("gsm8k", 4),
            ("mmlu", 2),
        ]

    def test_exports_say_how_many_formats_there_are(self, page: Page) -> None:
        units = {run["job"]: run["unit"] for run in page.runs}
        assert units["export"] == "samples: 150 in each of 2 formats"

    def test_a_score_is_named_for_what_it_is(self) -> None:
        facts = report_pages.facts()
        recall = facts.points.assign(
            scorer=facts.points["scorer"].replace(
                {report_pages.LONGATTN: report_pages.RECALL, report_pages.RECALL: "other:1"}
            )
        )
        other = build(
            replace(facts, scorer=report_pages.RECALL, points=recall, score=meaning_of("recall")),
            [],
        )
        html = re.sub(r"<script.*?</script>", "", render(other), flags=re.DOTALL)
        assert "far recall" in html
        assert "LDS" not in html
        assert "ds" not in other.figures


class TestPictures:
    def test_marks_are_drawn_where_plotly_has_them(self) -> None:
        """The share of blue pixels in the picture of one bar is that of the bar in its panel."""
        shares = pd.DataFrame({"domain": ["a"], "planned": [0], "made": [100]})
        figure = figures.mix(shares)
        pixels = matplotlib.image.imread(io.BytesIO(picture.as_png(figure)))[..., :3]
        blue = np.isclose(pixels, [0x4C / 255, 0x7F / 255, 0xD9 / 255], atol=0.02).all(-1)
        columns = np.flatnonzero(blue.any(0))
        # the axis reaches to 1.45 times the bar, over 0.88 of the picture's nine inches
        assert np.ptp(columns) == pytest.approx(0.88 * 9 * picture.DPI / 1.45, rel=0.02)

    def test_every_figure_of_the_report_has_one(self, page: Page) -> None:
        maps = [sample.map_figure for sample in page.samples]
        for figure in (*page.figures.values(), *maps[:1]):
            assert picture.as_png(figure).startswith(b"\x89PNG")

    def test_panels_that_share_an_axis_run_the_same_way(self) -> None:
        import plotly.express as px

        ramp = np.repeat(np.arange(8.0)[:, None], 8, 1)  # dark below, where rows grow downwards
        figure = px.imshow(np.stack([ramp, ramp]), facet_col=0, color_continuous_scale="gray_r")
        pixels = matplotlib.image.imread(io.BytesIO(picture.as_png(figure)))[..., :3].mean(-1)
        height, width = pixels.shape
        for column in (width // 4, 3 * width // 4):
            inside = pixels[int(0.35 * height) : int(0.8 * height), column]
            assert inside[0] > inside[-1]
