"""From scores to the page: select, export, trace and report on one small set of tables."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import functions as F

import longattn
from longattn.etl import config as config_module
from longattn.etl.after import selections
from longattn.etl.after.check import check
from longattn.etl.after.provenance import follow, orders_of, trace
from longattn.etl.after.reading import SessionReader, read_logs
from longattn.etl.after.vacuum import vacuum_selections
from longattn.etl.export import job as export_job
from longattn.etl.export.read import faults as export_faults
from longattn.etl.export.read import sample_at
from longattn.etl.ranking import candidates
from longattn.etl.ranking import contenders as stage
from longattn.etl.ranking.candidates import cached, considered
from longattn.etl.report import job as report_job
from longattn.etl.run.context import Context, Outcome
from longattn.etl.run.jobs import run_job
from longattn.etl.run.ledger import record
from longattn.etl.run.recipe import Recipe
from longattn.etl.scoring import job as score_job
from longattn.etl.selection import current
from longattn.etl.selection import job as select_job
from longattn.etl.selection import mix as mixing
from longattn.etl.tables.schema import TABLES
from longattn.etl.windows.current import judged_lengths
from longattn.udfs.errors import ConfigError, ExportError, NothingLeft, TableError, UserError

MODULES = {"score": score_job, "select": select_job, "export": export_job, "report": report_job}
pytestmark = pytest.mark.spark
LENGTH, N_DOCS = 32, 24
TEXT = "The long road went on past the mill, \u4e2d\u6587 and \U0001f33e, to the sea. " * 5


@pytest.fixture(scope="module")
def root(tmp_path_factory: Any) -> Path:
    return tmp_path_factory.mktemp("chosen")


@pytest.fixture(scope="module")
def tokenizer(root: Path) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({f"t{i}": i for i in range(99)}, unk_token="t0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(root / "tokenizer.json"))
    return str(root / "tokenizer.json")


@pytest.fixture(scope="module")
def settings(root: Path, tokenizer: str) -> dict[str, Any]:
    return {
        "tables": {"root": str(root / "tables")},
        "tokenizer": tokenizer,
        "window": {"length": LENGTH},
        "score": {"scorer": "random"},
        "select": {"by": "lds", "fraction": 0.5, "compare": ["random"], "ablate_alpha": [0.0]},
        "pack": {"domains": ["wiki"]},
        "mix": {"weights": {"book": 4.0, "code": 2.0, "wiki": 1.0}},
        "sources": {
            "book": [{"path": "books.jsonl", "license": "CC0"}],
            **{name: [{"path": f"{name}.jsonl"}] for name in ("code", "wiki")},
        },
        "export": {
            "jsonl": {"path": str(root / "jsonl"), "shard_tokens": 4 * LENGTH},
            "mds": {"path": str(root / "mds"), "by_domain": True, "shard_tokens": 4 * LENGTH},
        },
        "report": {"path": str(root / "report.html"), "examples": 1},
    }


@pytest.fixture(scope="module")
def context(spark: Any, settings: dict[str, Any]) -> Context:
    """Two windows of each document in two domains; one document is a duplicate."""
    from longattn.etl.run.context import TableSet
    from longattn.etl.run.progress import Progress
    from longattn.etl.tables.open import open_tables

    config = config_module.validate(settings)
    tables = TableSet(open_tables(spark, config.tables))
    context = Context(spark=spark, config=config, tables=tables, progress=Progress())
    for name, rows in corpus(config).items():
        full = [tuple(row.get(c) for c in TABLES[name].columns) for row in rows]
        tables.append(name, spark.createDataFrame(full, TABLES[name].ddl))
    run_job("select", context)
    return context.fresh()  # the next job did not write these tables itself


def corpus(config: Any) -> dict[str, list[dict[str, Any]]]:
    rng = np.random.default_rng(0)
    windowing, scorer = Recipe(config).windowing, Recipe(config).scorer.version
    tables: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("documents", "windows", "lengths", "scores", "duplicates")
    }
    for i in range(N_DOCS):
        domain = ("book", "code")[i % 2]
        doc = {"doc_id": f"d{i:02}", "domain": domain}
        record = {"source": domain, "source_uri": f"{domain}s.jsonl", "source_row": i + 1}
        text = {"n_chars": len(TEXT), "text": TEXT, "source_id": f"{domain}s:{i + 1}"}
        tables["documents"].append(doc | record | text)
        tables["lengths"].append(doc | {"windowing": windowing, "n_tokens": 50 + i, "n_windows": 2})
        for index in range(2):
            window = {"window_id": f"w{i:02}{index}", "domain": domain, "n_tokens": LENGTH}
            place = {"window_index": index, "start_char": 7 * index, "end_char": 7 * index + 60}
            place |= {"start_token": index, "end_token": index + LENGTH, "windowing": windowing}
            ids = {"token_ids": rng.integers(0, 99, LENGTH).tolist(), "overlap_tokens": 0}
            tables["windows"].append(window | place | ids | {"doc_id": doc["doc_id"]})
            ds, du = float(rng.gamma(5, 0.02)), -float(rng.lognormal(-9, 0.5))
            tables["scores"].append(window | {"scorer": scorer, "k": 8, "ds": ds, "du": du})
    for i in range(3):
        packed = {"window_id": f"p{i}", "domain": "wiki", "n_tokens": LENGTH}
        packed |= {"windowing": Recipe(config).packing, "token_ids": [i] * LENGTH}
        packed["segments"] = [("d01", 0, 20), ("d03", 0, 12)]
        tables["windows"].append(packed)
    duplicate = {"doc_id": "d00", "kept_id": "d02", "domain": "book", "method": "exact"}
    tables["duplicates"].append(duplicate)
    return tables


def changed(context: Context, settings: dict[str, Any], **sections: Any) -> Context:
    return replace(context, config=config_module.validate(settings | sections))


class TestSelectJob:
    def test_the_ledger_balances_and_no_duplicate_is_chosen(self, context: Context) -> None:
        run = context.tables["runs"].read().where("job = 'select'").first()
        assert run["rows_in"] == 2 * N_DOCS - 2 + 3
        assert run["rows_out"] + sum(run["refused"].values()) == run["rows_in"]
        chosen = context.tables["selections"].read().toPandas()
        assert not chosen["window_id"].str.startswith("w00").any()
        assert sorted(chosen.groupby("domain").size()) == [3, 11, 12]
        taken = chosen.groupby("domain")["copies"].sum()
        # 4 : 2 : 1, and no window is cut in two
        assert dict(taken) == {"book": 11, "code": 5, "wiki": 2}

    def test_the_same_inputs_give_the_same_selection(self, context: Context) -> None:
        name, rows = current.current_selection(context)
        first = rows.toPandas().sort_values("window_id", ignore_index=True)
        select_job.run(context)
        again, rows = current.current_selection(context)
        second = rows.toPandas().sort_values("window_id", ignore_index=True)
        assert name == again
        assert first.equals(second)
        assert context.tables["selections"].read().select("selection").distinct().count() == 1

    def test_its_name_is_looked_up_until_a_table_or_a_setting_moves(
        self, context: Context, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Settings may move that decide nothing, and that are of exports alone."""
        outcome = run_job("select", context.fresh()).outcome
        assert outcome is not None and outcome.selected is not None
        name = outcome.selected.id
        monkeypatch.setattr(current, "considered", lambda _: pytest.fail("worked out anew"))
        other = changed(
            context,
            settings,
            export={"parquet": {"path": "elsewhere"}},
            estimate={"currency": "EUR"},
            select=settings["select"] | {"compare": ["length"]},
        ).fresh()
        assert current.current_selection(other)[0] == name
        assert {"scores", "windows", "duplicates", "lengths"} <= set(other.tables.versions_read)
        with pytest.raises(pytest.fail.Exception):
            current.name_of_now(changed(context, settings, seed=3).fresh())
        moved = context.fresh()
        moved.tables.overwrite("duplicates", context.tables["duplicates"].read())  # as they were
        with pytest.raises(pytest.fail.Exception):
            current.name_of_now(moved)
        monkeypatch.undo()
        assert current.name_of_now(moved) == name

    @pytest.mark.parametrize(
        "select",
        [
            {},
            {"by": {"recall": 1.0}, "where": [{"scorer": "cohesion", "percentile": [10, 100]}]},
        ],
        ids=["by default", "by scorers"],
    )
    def test_packing_alone_is_a_job(
        self,
        context: Context,
        settings: dict[str, Any],
        tmp_path: Path,
        select: dict[str, Any],
    ) -> None:
        """Every domain is packed: nothing is scored, all of it is selected and exported.

        Scorers that the selection names have no scores, and no say.
        """
        parts = {"sources": {"wiki": settings["sources"]["wiki"]}, "mix": {}, "select": select}
        parts |= {"export": {"parquet": {"path": str(tmp_path / "packed")}}}
        alone = changed(context, settings, **parts, report={"path": str(tmp_path / "report.html")})
        for job, rows in (("score", 0), ("select", 3), ("export", 3), ("report", 0)):
            if job in ("score", "select") or select:
                assert record(job, alone.fresh(), MODULES[job].run).outcome.rows_out == rows, job
        assert not select or list(export_faults(str(tmp_path / "packed"))) == []

    def test_the_score_has_two_names_and_older_rows_have_one(self, context: Context) -> None:
        rows = context.tables["selections"].read()
        assert rows.where("NOT score <=> lds").isEmpty() and not rows.where("score < 0.5").isEmpty()
        scorers = {row["scorer"] for row in rows.where("score IS NOT NULL").collect()}
        assert scorers == {context.recipe.scorer.version}
        assert rows.where("score IS NULL AND scorer IS NOT NULL").isEmpty()
        older = rows.withColumn("score", F.lit(None).cast("double"))
        assert older.where(~stage.score().eqNullSafe(F.col("lds"))).isEmpty()

    def test_a_scorer_to_compare_with_has_scores(
        self, context: Context, settings: dict[str, Any]
    ) -> None:
        other = changed(context, settings, select={"compare": ["random", "cohesion"]}, seed=9)
        version = context.tables["selections"].version()
        with pytest.raises(TableError, match=r"^select\.compare: cohesion has no scores here"):
            run_job("select", other.fresh())
        assert context.tables["selections"].version() == version

    def test_other_settings_are_another_selection(
        self, context: Context, settings: dict[str, Any]
    ) -> None:
        other = changed(context, settings, seed=5)
        with pytest.raises(TableError, match="run `longattn select`"):
            current.current_selection(other)

    def test_a_name_stands_for_the_settings_that_made_it(
        self, context: Context, settings: dict[str, Any]
    ) -> None:
        """Of two configs with one select.name the last that has run has it."""
        half, third = (
            changed(context, settings, select=settings["select"] | {"name": "mine", "fraction": f})
            for f in (0.5, 0.3)
        )
        run_job("select", half.fresh())
        half.tables["scores"].fence()  # a version that changes no row, as a vacuum is
        for mine, other in ((half, third), (third, half)):
            assert current.current_selection(mine.fresh())[0] == "mine"
            with pytest.raises(TableError, match=r"what mine \(select.name\) has was made with"):
                current.current_selection(other.fresh())
            run_job("select", other.fresh())

    def test_with_a_threshold_others_are_compared_at_as_many_windows(
        self, context: Context, settings: dict[str, Any]
    ) -> None:
        """One that keeps all: so do others, which no fraction cuts."""
        select = settings["select"] | {"threshold": -1e9, "fraction": None}
        run = run_job("select", changed(context, settings, select=select).fresh())
        assert run.outcome is not None and run.outcome.figures.overlaps
        assert set(run.outcome.figures.overlaps.values()) == {1.0}

    def test_a_short_domain_stops_it_before_anything_is_written(
        self, context: Context, settings: dict[str, Any]
    ) -> None:
        mix = {"tokens": 10_000, "weights": {"book": 1.0}, "short": "error"}
        version = context.tables["selections"].version()
        with pytest.raises(ConfigError, match="book has"):
            select_job.run(changed(context, settings, mix=mix))
        assert context.tables["selections"].version() == version

    def test_a_mix_without_a_window_is_no_selection(
        self, context: Context, settings: dict[str, Any], root: Path
    ) -> None:
        """Nothing is written: the selection of that name, and its export, stay."""
        named = {"select": settings["select"] | {"name": "kept"}}
        run_job("select", changed(context, settings, **named))
        before = context.tables["selections"].version()
        tiny = named | {"mix": settings["mix"] | {"tokens": 5}}
        with pytest.raises(NothingLeft, match=r"no window fits into the mix; .* book \d+ of 3"):
            run_job("select", changed(context, settings, **tiny))
        high = {"select": settings["select"] | {"threshold": 99.0}}
        with pytest.raises(NothingLeft, match=r"the cut keeps none of \d+ scored windows"):
            run_job("select", changed(context, settings, **high))
        with pytest.raises(NothingLeft, match=r"no scores by .*seed=7.* run `longattn score`"):
            run_job("select", changed(context, settings, seed=7))
        assert context.tables["selections"].version() == before

    def test_an_empty_selection_replaces_no_export(
        self, context: Context, settings: dict[str, Any], root: Path
    ) -> None:
        target = config_module.ExportTarget(path=str(root / "kept"))
        chosen = export_job.chosen_by(context)
        nothing = replace(chosen, rows=chosen.rows.where("false"))
        good = export_job.export(context, chosen, "jsonl", target)
        with pytest.raises(ExportError, match=r"has no samples; what is in .*kept stays"):
            export_job.export(context, nothing, "jsonl", target)
        assert export_job.Folder(path=target.path).manifest() == good and good["samples"] > 0

    def test_the_summary_counts_what_was_scored(self, context: Context) -> None:
        book, code = current.selection_summary(context)
        assert (book["windows"], book["scored"], book["tokens"]) == (11, 22, 11 * LENGTH)
        assert (code["windows"], code["scored"]) == (5, 24)
        assert book["lds_min"] < book["lds_max"]


@pytest.fixture(scope="module")
def manifest(context: Context, root: Path) -> dict[str, Any]:
    export_job.run(context.fresh())
    found: dict[str, Any] = json.loads((root / "jsonl" / "_manifest.json").read_text())
    return found


class TestExportAndTrace:
    def test_the_manifest_tells_where_it_came_from(
        self, context: Context, manifest: dict[str, Any]
    ) -> None:
        name, _ = current.current_selection(context)
        assert (manifest["selection"], manifest["samples"]) == (name, 18)
        assert manifest["config"] == context.config.hash
        assert manifest["domains"]["book"]["sources"][0]["license"] == "CC0"
        assert {"windows", "documents", "selections"} <= set(manifest["tables"])

    def test_exporting_again_changes_nothing(
        self, context: Context, root: Path, manifest: dict[str, Any]
    ) -> None:
        before = {p: p.stat().st_mtime_ns for p in (root / "jsonl").iterdir()}
        assert export_job.run(context).balances
        assert {p: p.stat().st_mtime_ns for p in (root / "jsonl").iterdir()} == before

    def test_the_check_says_what_exports_lack(
        self, context: Context, settings: dict[str, Any], root: Path
    ) -> None:
        for job in ("select", "export"):
            run_job(job, context.fresh())
        jsonl = settings["export"]["jsonl"] | {"path": str(root / "elsewhere")}
        elsewhere = settings["export"] | {"jsonl": jsonl}
        for changes, said in (
            ({}, ""),
            ({"seed": 7}, "the config is not that of the last export; "),
            ({"export": elsewhere}, "export.jsonl: another selection than the last one is there, "),
        ):
            notes = check(changed(context, settings, **changes).fresh()).notes
            assert [n for n in notes if "export" in n] == [n for n in notes if said and said in n]
            assert not said or len(notes) == 1, notes

    @pytest.mark.parametrize(("name", "others"), [("jsonl", 1), ("megatron", 2)])
    def test_an_export_that_was_moved_is_another_where_its_files_name_the_place(
        self, context: Context, name: str, others: int
    ) -> None:
        chosen = export_job.chosen_by(context)
        targets = [config_module.ExportTarget(path=path) for path in ("here", "there")]
        found = {export_job.identity_of(context.config, chosen, name, each) for each in targets}
        assert len(found) == others

    def test_a_trace_leads_from_the_source_to_the_line_exported(
        self, context: Context, root: Path, manifest: dict[str, Any]
    ) -> None:
        import zstandard

        _, rows = current.current_selection(context)
        books = rows.where("copies = 1 and domain = 'book'").orderBy("window_id")
        window_id = books.first()["window_id"]
        lines = trace(read_logs(context.config.tables), context.config, window_id)
        (exported,) = [line for line in lines if "jsonl" in line and line.startswith("exported")]
        _, _, file, _, _, data_id = exported.split()
        records = zstandard.open(root / "jsonl" / Path(file).name, "rt").read().splitlines()
        index = int(window_id[-1])
        content = {r["data_id"]: r["text"] for r in map(json.loads, records)}
        assert content[data_id.strip("()")] == TEXT[7 * index : 7 * index + 60]
        number = int(window_id[1:3]) + 1
        assert any(line.endswith(f"s.jsonl, record {number}") for line in lines)

    def test_every_copy_is_found_in_an_export_by_domain(
        self, context: Context, root: Path, manifest: dict[str, Any]
    ) -> None:
        _, rows = current.current_selection(context)
        taken = {row["window_id"]: row for row in rows.where("copies > 0").collect()}
        logs, found = read_logs(context.config.tables), Counter[int]()
        for window_id, row in taken.items():
            lines = [line.split() for line in follow(logs, context.config, window_id).samples]
            numbers = [int(number) for kind, _, _, number, *_ in lines if kind == "mds"]
            assert len(numbers) == row["copies"]
            for number in numbers:
                sample = sample_at(str(root / "mds"), number)
                assert (sample["window_id"], sample["domain"]) == (window_id, row["domain"])
            found.update(numbers)
        assert found == dict.fromkeys(range(manifest["samples"]), 1)

    def test_an_unknown_window_is_named(self, context: Context) -> None:
        with pytest.raises(UserError, match="trace nosuch: no window"):
            trace(read_logs(context.config.tables), context.config, "nosuch")

    def test_logs_and_a_session_tell_the_same(
        self, context: Context, settings: dict[str, Any], manifest: dict[str, Any]
    ) -> None:
        """Of traces and of selections; the order of copies is that of the export's Spark."""
        two = {"select": settings["select"] | {"name": "other", "fraction": 0.25}}
        run_job("select", changed(context, settings, **two))
        logs = read_logs(context.config.tables)
        session = SessionReader(dict(context.fresh().tables), None)
        name, rows = current.current_selection(context)
        kept = rows.where("copies > 0").toPandas()
        for window_id in kept.sort_values("copies")["window_id"].iloc[[0, -1]]:
            mine = follow(logs, context.config, window_id)
            assert mine == follow(session, context.config, window_id)
            assert mine.samples and mine.window["window_id"] == window_id
        assert selections.listed(logs) == selections.listed(session)
        by_domain = selections.shown(logs, name)
        assert by_domain == selections.shown(session, name)
        for domain, of in kept.groupby("domain"):
            assert by_domain[domain].windows == len(of)
            assert by_domain[domain].tokens == (of["copies"] * of["n_tokens"]).sum()
        both = selections.differing(logs, name, "other")
        assert both == selections.differing(session, name, "other")
        others = context.fresh().tables.read("selections").where("selection = 'other'")
        theirs = set(others.where("copies > 0").toPandas()["window_id"])
        ours = set(kept["window_id"])
        counts = [sum(windows[i] for windows in both.domains.values()) for i in range(3)]
        assert counts == [len(ours & theirs), len(ours - theirs), len(theirs - ours)]
        with pytest.raises(UserError, match=r"none is called othr .did you mean 'other'"):
            selections.shown(logs, "othr")
        orders = context.spark.createDataFrame([(-5, c) for c in (1, 2, 3, 9)], "o long, c int")
        theirs = orders.select(mixing.copy_order(F.col("o"), F.col("c"))).toPandas().iloc[:, 0]
        assert theirs.tolist() == orders_of(-5, 9)[[0, 1, 2, 8]].tolist()

    def test_an_old_selection_is_deleted_and_the_others_stay(
        self, context: Context, settings: dict[str, Any]
    ) -> None:
        run_job("select", changed(context, settings, select=settings["select"] | {"name": "old"}))
        before = selections.listed(read_logs(context.config.tables))
        counts = {"old": before["old"].windows}
        for apply in (False, True):
            assert selections.listed(read_logs(context.config.tables)) == before
            assert vacuum_selections(context.fresh(), ["old"], apply) == counts
        del before["old"]
        assert selections.listed(read_logs(context.config.tables)) == before
        name, _ = current.current_selection(context)
        with pytest.raises(UserError, match=f"--selections {name}: this config describes it"):
            vacuum_selections(context.fresh(), [name], apply=True)


class TestCandidates:
    def test_a_choice_is_what_select_would_write(
        self, context: Context, settings: dict[str, Any]
    ) -> None:
        tried = longattn.Candidates(settings)
        choice = tried.choose()
        _, rows = current.current_selection(context)
        written = rows.where("score is not null").toPandas()
        windows = choice.windows
        assert set(windows.loc[windows["selected"], "window_id"]) == set(written["window_id"])
        assert choice.cuts == written.groupby("domain")["score"].min().to_dict()
        totals = choice.totals.set_index("domain")
        assert totals["windows"].to_dict() == written.groupby("domain").size().to_dict()
        assert set(choice.overlaps["name"]) == {"random", "alpha=0"}
        assert set(choice.mix["domain"]) == {"book", "code", "wiki"}
        fewer = tried.choose(fraction=0.25).totals.set_index("domain")
        assert (fewer["windows"] < totals["windows"]).all()
        (first, *_) = written["window_id"]
        assert tried.texts([first], 5)["text"].str.len().tolist() == [5]
        with pytest.raises(ConfigError, match="did you mean 'fraction'"):
            tried.choose(fractoin=0.25)


class TestReport:
    def test_the_page_shows_the_selection(self, context: Context, root: Path) -> None:
        drawn: list[int] = []

        def attention(token_ids: Any) -> Any:
            drawn.append(len(token_ids))
            return np.tril(np.ones((4, 4))), [], 8

        page = report_job.make_page(context, attention)
        name, rows = current.current_selection(context)
        assert name in page.subtitle
        shown = {sample.window_id: sample for sample in page.samples}
        best = rows.where("rank = 1 and lds is not null").collect()
        assert {row["window_id"] for row in best} <= set(shown)
        chosen = {r["window_id"] for r in rows.collect()}  # with room in the mix or without
        for window_id, sample in shown.items():
            assert sample.standings[0].selected == (window_id in chosen)
            record = int(window_id[1:3]) + 1
            assert sample.provenance["file"].endswith(f"s.jsonl, record {record}")
        assert drawn == [LENGTH] * len(shown) and len(shown) == 8  # best, worst, about the cut
        assert {"flow", "lengths", "lds", "overlap", "mix"} <= set(page.figures)

    def test_the_flow_accounts_for_every_window(self, context: Context) -> None:
        with cached(considered(context)) as rows:
            facts = report_job.gather(context, rows)
        mine = (F.col("job") == "select") & (F.col("config") == context.config.hash)
        run = context.tables["runs"].read().where(mine).orderBy(F.desc("started")).first()
        counts = facts.windows.groupby("fate")["windows"].sum().to_dict()
        assert counts["in the mix"] == run["rows_out"]
        assert counts["below the cut"] == run["refused"]["below_cut"]
        assert sum(counts.values()) == 2 * (N_DOCS - 1) + 3
        fates = facts.documents.groupby("fate")["documents"].sum().to_dict()
        assert fates == {"exact": 1, "kept": N_DOCS - 1}

    def test_the_selections_of_the_root_are_told(
        self, context: Context, settings: dict[str, Any]
    ) -> None:
        two = {"select": settings["select"] | {"name": "other", "fraction": 0.25}}
        run_job("select", changed(context, settings, **two))
        with cached(considered(context)) as rows:
            facts = report_job.gather(context, rows)
        mixed = context.tables["selections"].read().where("copies > 0").toPandas()
        own = set(mixed.loc[mixed["selection"] == facts.selection, "window_id"])
        found = {row["selection"]: row for row in facts.selections}
        assert {"other", facts.selection} <= set(found) == set(mixed["selection"])
        for name, of in mixed.groupby("selection"):
            common, tokens = len(own & set(of["window_id"])), (of["copies"] * of["n_tokens"]).sum()
            row = {key: found[name][key] for key in ("windows", "tokens", "common")}
            assert row == {"windows": len(of), "tokens": tokens, "common": common}
        assert found["other"]["made"] >= found[facts.selection]["made"] > ""

    def test_the_job_writes_one_file(self, context: Context, root: Path) -> None:
        assert run_job("report", context).outcome is not None
        assert "<title>What was selected, and why</title>" in (root / "report.html").read_text()
        assert not list(root.glob("*.part"))

    def test_runs_that_take_up_what_is_new_add_up(self, context: Context) -> None:
        def outcome(rows: int) -> Callable[[Context], Outcome]:
            return lambda _: Outcome(rows_in=rows, rows_out=rows - 1, refused={"broken_json": 1})

        for rows in (10, 4):
            record("ingest", context, outcome(rows))
        done = report_job.runs_done(context.tables)
        latest = [run["rows_in"] for run in report_job.last_runs(done)["ingest"]]
        assert latest[:2] == [4, 10]
        runs = report_job.job_runs(done, context.config.hash).set_index("job")
        assert runs.loc["ingest", "rows_in"] == 14
        assert runs.loc["ingest", "refused"] == {"broken_json": 2}
        assert runs.loc["select", "rows_in"] == 2 * N_DOCS - 2 + 3

    def test_lengths_show_empty_bins(self, context: Context) -> None:
        bins = report_job.document_lengths(judged_lengths(context, packed=False))
        assert bins["documents"].sum() == N_DOCS - 1  # one is a duplicate
        assert bins.groupby("domain")["n_tokens"].agg(tuple).nunique() == 1

    def test_documents_are_counted_by_the_windows_length_itself(
        self, context: Context, settings: dict[str, Any]
    ) -> None:
        """Bins begin elsewhere: of half an octave some may be long enough, and some not."""
        cut = judged_lengths(context, packed=False)
        sizes = [row["n_tokens"] for row in cut.collect()]
        for length in {*sizes, max(sizes) + 1, min(sizes) - 1}:
            config = changed(context, settings, window={"length": length}).config
            found = sum(report_job.long_enough(cut, config).values())
            assert found == sum(size >= length for size in sizes)

    def test_a_domain_that_no_window_was_scored_of_is_drawn_too(self, context: Context) -> None:
        short = {"doc_id": "short", "domain": "poem", "n_tokens": 9, "reason": "too_short"}
        short["windowing"] = context.recipe.windowing
        for name in ("documents", "lengths"):
            row = tuple(short.get(column) for column in TABLES[name].columns)
            frame = context.spark.createDataFrame([row], TABLES[name].ddl)
            context.tables.append(name, frame)
        drawn = report_job.make_page(context.fresh()).figures["lengths"]
        assert "poem" in drawn.to_json()


@pytest.fixture(scope="module")
def more(context: Context) -> Context:
    """The tables with scores of cohesion and of two versions of recurrence too."""
    base = context.fresh().tables.read("scores")  # at this version, not with what is added below
    for scorer in ("cohesion:cell=64:copy=0.5:k=8", "recurrence:n=8:k=4", "recurrence:n=8:k=5"):
        drawn = F.xxhash64("window_id", F.lit(scorer)) % 1_000_003 / 1e6
        ratio = F.create_map(F.lit("ratio"), 1 - drawn)
        measures = F.when(F.xxhash64("window_id") % 5 != 0, ratio) if "cohesion" in scorer else None
        own = {"scorer": F.lit(scorer), "ds": drawn, "measures": measures}
        columns = {name: column for name, column in own.items() if column is not None}
        context.tables.append("scores", base.withColumns(columns))
    return context


class TestByOtherScorers:
    """The root gets scores of cohesion and of two versions of recurrence beside its own."""

    def run(
        self, more: Context, settings: dict[str, Any], **select: Any
    ) -> tuple[Context, Outcome]:
        chosen = {**settings["select"], **select}
        other = changed(more, settings, select=chosen, pack={}, mix={})
        return other, select_job.run(other)

    def scores(self, more: Context, settings: dict[str, Any]) -> Any:
        """ds by window and scorer name of the windows whose document was kept."""
        rows = more.tables["scores"].read().toPandas()
        rows = rows[~rows["window_id"].str.startswith("w00")]
        rows["name"] = rows["scorer"].str.split(":").str[0]
        return rows[~rows["scorer"].str.endswith("k=5")].pivot(
            index=["domain", "window_id"], columns="name", values="ds"
        )

    def test_filter_rank_and_ledger(self, more: Context, settings: dict[str, Any]) -> None:
        where = [{"scorer": "cohesion", "percentile": [25.0, 100.0]}]
        by = "recurrence:n=8:k=4"
        other, outcome = self.run(more, settings, by=by, where=where, per_document=1)
        _, selection = current.current_selection(other)
        found = selection.toPandas()
        assert outcome.balances and outcome.rows_out == len(found)
        tried = longattn.Candidates(settings).choose(by=by, where=where, per_document=1).windows
        ds, low = self.scores(more, settings), {}
        for domain, mine in ds.groupby("domain"):
            ranked = mine["cohesion"].sort_values(ascending=False)
            n = len(ranked)
            passed = mine.loc[ranked.index[: n - int(0.25 * n)]].reset_index()
            passed["doc"] = passed["window_id"].str[:3]
            best = passed.sort_values("recurrence", ascending=False).drop_duplicates("doc")
            expected = best["window_id"][: int(0.5 * n + 0.5)].tolist()
            chosen = found[found["domain"] == domain].sort_values("rank")
            assert chosen["window_id"].tolist() == expected
            own = tried[tried["domain"] == domain].set_index("window_id")
            assert set(own.index[own["selected"]]) == set(expected)
            assert own["lds"].to_dict() == mine.droplevel("domain")["recurrence"].to_dict()
            low[domain] = (n - len(passed), len(passed) - len(best))
        assert outcome.refused["where_cohesion"] == sum(filtered for filtered, _ in low.values())
        assert outcome.refused["per_document"] == sum(doubled for _, doubled in low.values())
        assert {choice for choice, _ in outcome.figures.overlaps} >= {
            "cohesion",
            "random",
            "recurrence",
        }

    def test_a_band_of_a_measure(self, more: Context, settings: dict[str, Any]) -> None:
        """The middle of `ratio`, which four windows of five have."""
        where = [{"scorer": "cohesion", "measure": "ratio", "percentile": [20.0, 80.0]}]
        other, outcome = self.run(more, settings, where=where, fraction=1.0)
        _, selection = current.current_selection(other)
        chosen = set(selection.toPandas()["window_id"])
        rows = more.tables["scores"].read().toPandas()
        rows = rows[rows["scorer"].str.startswith("cohesion") & ~rows["window_id"].str.match("w00")]
        ratio = rows.set_index("window_id")["measures"].map(lambda m: dict(m or []).get("ratio"))
        expected = set[str]()
        for _, mine in rows.groupby("domain"):
            ranked = ratio[mine["window_id"]].dropna().sort_values()
            expected |= set(ranked.index[len(ranked) // 5 : 4 * len(ranked) // 5])
        assert chosen == expected and 0 < len(chosen) < len(ratio)
        assert outcome.refused["no_cohesion_ratio_score"] == int(ratio.isna().sum())
        assert outcome.balances and outcome.refused["where_cohesion_ratio"] > 0

    def test_a_measure_that_the_scores_do_not_have(
        self, more: Context, settings: dict[str, Any]
    ) -> None:
        where = [{"scorer": "cohesion", "measure": "rato", "percentile": [20.0, 80.0]}]
        with pytest.raises(ConfigError, match=r"has no measure rato \(did you mean 'ratio'"):
            self.run(more, settings, where=where)
        with pytest.raises(ConfigError, match=r"^select.column: the scorer has no measure ratio$"):
            self.run(more, settings, by="column", column="measures.ratio")

    def test_an_export_names_the_version_that_gave_the_scores(
        self, more: Context, settings: dict[str, Any]
    ) -> None:
        """The only version of cohesion in the root is not the one of the config."""
        other, _ = self.run(more, settings, by="cohesion")
        given = "cohesion:cell=64:copy=0.5:k=8"
        assert export_job.chosen_by(other).scorer == given != other.recipe.ranker

    def test_the_report_sets_all_side_by_side(self, more: Context) -> None:
        page = report_job.make_page(more.fresh())
        found = {row.version: row for row in page.scorers}
        assert len(found) == 4
        for version, row in found.items():
            assert row.windows == 2 * N_DOCS - 2, version  # the duplicate's two are left out
        cohesion = found["cohesion:cell=64:copy=0.5:k=8"]
        assert cohesion.meaning.name == "cohesion" and 0 <= cohesion.common < 1
        seen = {s.scorer for sample in page.samples for s in sample.standings}
        assert seen == set(found)

    def test_a_weighted_sum(self, more: Context, settings: dict[str, Any]) -> None:
        by = {"cohesion": 2.0, "random": 1.0}
        other, outcome = self.run(more, settings, by=by)
        _, selection = current.current_selection(other)
        lds = selection.toPandas().set_index("window_id")["lds"]
        ds = self.scores(more, settings)
        z = ds.groupby("domain").transform(lambda x: (x - x.mean()) / x.std(ddof=1))
        total = (2 * z["cohesion"] + z["random"]).droplevel("domain")
        np.testing.assert_allclose(lds, total.reindex(lds.index), rtol=1e-9)
        assert outcome.balances
        assert other.recipe.ranking == "2 cohesion + random"

    def test_names_that_stand_for_nothing_or_too_much(
        self, more: Context, settings: dict[str, Any]
    ) -> None:
        with pytest.raises(
            TableError, match=r"select\.by: ladm has no scores here: run `longattn sc"
        ):
            self.run(more, settings, by="ladm")
        with pytest.raises(TableError, match=r"recurrence may be any of .*k=4, .*k=5: name one"):
            where = [{"scorer": "recurrence", "percentile": [0.0, 50.0]}]
            self.run(more, settings, where=where)
        # the one that the config gives is taken
        other = changed(
            more,
            settings,
            score={"scorer": "random", "also": {"recurrence": {"k": 5}}},
            select={**settings["select"], "by": "recurrence"},
        )
        found = candidates.considered(other).select("scorer").distinct().collect()
        assert [row["scorer"] for row in found] == ["recurrence:n=8:k=5"]

    def test_other_settings_are_another_name(self, more: Context, settings: dict[str, Any]) -> None:
        named = set()
        for select in (
            {},
            {"per_document": 1},
            {"by": "cohesion"},
            {"by": {"cohesion": 1.0}},
            {"where": [{"scorer": "cohesion", "percentile": [0.0, 50.0]}]},
            {"where": [{"scorer": "cohesion", "percentile": [0.0, 60.0]}]},
        ):
            other = changed(more, settings, select={**settings["select"], **select})
            named.add(current.selection_name(other, candidates.considered(other)))
        assert len(named) == 6
