"""The Databricks notebooks: well formed, and run in a real Jupyter kernel over a small corpus."""

import ast
import json
import re
import sys
from base64 import b64decode
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from deltalake import DeltaTable

import longattn
from longattn.etl.config import validate
from longattn.etl.run.jobs import JOBS
from longattn.etl.run.recipe import Recipe
from tests import report_pages
from tests.few_rows import FEW_ROWS
from tests.surfaces.corpus import DOMAINS, REPO, make_config

sys.path.insert(0, str(REPO / "bin"))
run_notebook = pytest.importorskip("run_notebook", reason="install the extra `notebooks`")
dbutils = pytest.importorskip("dbutils")
NOTEBOOKS = sorted((REPO / "notebooks").glob("*.py"))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("notebooks")
    conf = {**FEW_ROWS, "spark.driver.memory": "1g"}
    spark = {"master": "local[2]", "conf": conf}
    return make_config(root, spark=spark)


@pytest.fixture(scope="module")
def pipeline(config: Path) -> dict[str, int]:
    """What 01_run_pipeline gives back: rows out of each job. The others read its tables."""
    return run("01_run_pipeline", config=str(config))


def run(notebook: str, /, **widgets: str) -> Any:
    executed, value = run_notebook.run(REPO / "notebooks" / f"{notebook}.py", widgets)
    run.outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert not any(output["output_type"] == "error" for output in run.outputs)
    return json.loads(value)


def figures() -> int:
    """Plotly figures, each with its PNG beside it, that the notebook that ran last has shown."""
    shown = [output.get("data", {}) for output in run.outputs]
    drawn = [data for data in shown if "application/vnd.plotly.v1+json" in data]
    assert all(b64decode(data["image/png"]).startswith(b"\x89PNG") for data in drawn)
    return len(drawn)


def highest(config: Path, domain: str, column: str) -> str:
    """The window of a domain that has the largest value in a column of `scores`."""
    scores = DeltaTable(str(config.parent / "tables" / "scores")).to_pyarrow_table()
    mine = [score for score in scores.to_pylist() if score["domain"] == domain]
    return str(max(mine, key=lambda score: score[column])["window_id"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_is_text_or_python(path: Path) -> None:
    notebook = run_notebook.to_notebook(path.read_text())
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == "markdown"
    assert kinds.count("markdown") >= 3
    for cell in notebook.cells:
        if cell.cell_type == "code":
            ast.parse(cell.source)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_only_what_the_package_exports_is_used(path: Path) -> None:
    """`longattn.X` and `from longattn import X`, where X is public; no module below."""
    tree = ast.parse(path.read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {getattr(node, "module", None) or node.names[0].name for node in imports}
    assert {name for name in modules if name.startswith("longattn")} <= {"longattn"}
    used = {
        name.name
        for node in imports
        if getattr(node, "module", None) == "longattn"
        for name in node.names
    }
    used |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "longattn"
    }
    assert used and used <= set(longattn.__all__)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_explains_every_widget(path: Path) -> None:
    source = path.read_text()
    widgets = set(re.findall(r'dbutils\.widgets\.\w+\(\s*"(\w+)",', source))
    header = run_notebook.to_notebook(source).cells[0].source
    rows = re.findall(r"(?m)^\| ([\w, ]+) \|", header.split("| widget |")[1])
    explained = {name.strip() for row in rows for name in row.split(",")}
    assert widgets == explained


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_wheel_installed_is_the_one_that_dist_builds(path: Path) -> None:
    from longattn import udfs

    wheel = f"../dist/longattn_spark-{udfs.__version__}-py3-none-any.whl"
    assert f"# MAGIC %pip install --quiet {wheel}\n" in path.read_text()


@pytest.mark.parametrize(("scorer", "said"), [("recall", "far recall"), ("longattn", "LDS")])
def test_scores_are_drawn_as_the_config_ranks_them(
    scorer: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recall was shown as an LDS of attention, by an alpha that it does not have."""
    config = validate({"score": {"scorer": scorer, "model": "none"}})
    windows = report_pages.facts().own
    overlaps = pd.DataFrame({"name": ["random"], "domain": ["book"], "share": [0.1]})
    texts = pd.DataFrame({"window_id": ["w"] * 4, "source_id": "s", "text": "t"})
    context = SimpleNamespace(recipe=Recipe(config))
    choice = SimpleNamespace(context=context, windows=windows, cuts={}, overlaps=overlaps)
    asked: dict[str, Any] = {}
    drawn: list[Any] = []
    candidates = SimpleNamespace(
        config=config,
        sizes={},
        choose=lambda **select: asked.update(select) or choice,
        texts=lambda ids: texts,
    )
    monkeypatch.setattr(longattn, "Candidates", lambda *_: candidates)
    monkeypatch.setattr(longattn.figures, "show", drawn.append)
    notebook: dict[str, Any] = {}
    dbutils.install(notebook, {})
    notebook["display"] = lambda _: None
    with pytest.raises(dbutils.NotebookExit, match='"kept"'):
        exec((REPO / "notebooks" / "02_explore_scores.py").read_text(), notebook)
    assert asked.pop("percentile") == [87.5, 100.0] and asked.pop("threshold") is None
    assert asked == ({"alpha": 0.5} if scorer == "longattn" else {})
    scores, scatter = (figure.to_json() for figure in drawn[1:3])
    assert said in scores and ("dependency strength DS" in scatter) == (scorer == "longattn")


def test_an_exit_is_no_error(tmp_path: Path) -> None:
    source = "# Databricks notebook source\nprint('so far')\ndbutils.notebook.exit('well')\n"
    path = tmp_path / "tiny.py"
    path.write_text(source)
    executed, value = run_notebook.run(path, {})
    (cell,) = executed.cells
    assert value == "well"
    assert [output["output_type"] for output in cell.outputs] == ["stream", "stream"]
    assert cell.outputs[-1]["text"] == "Notebook exited: well\n"


def test_other_sources_are_no_notebooks() -> None:
    with pytest.raises(ValueError, match="not a Databricks notebook"):
        run_notebook.to_notebook("print(1)\n")


def test_the_stand_in_refuses_what_databricks_would() -> None:
    notebook: dict[str, Any] = {}
    dbutils.install(notebook, {"job": "scoer", "lost": "1"})
    widgets = notebook["dbutils"].widgets
    with pytest.raises(ValueError, match="'scoer' is none of"):
        widgets.dropdown("job", "score", ["score", "select"])
    with pytest.raises(dbutils.NotebookExit, match="no such widgets: \\['lost'\\]"):
        notebook["dbutils"].notebook.exit("done")


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.demo
class TestForReal:
    def test_the_pipeline_runs(self, pipeline: dict[str, int]) -> None:
        assert list(pipeline) == list(JOBS)
        assert pipeline["score"] >= pipeline["select"] > 0

    def test_scores_are_explored(self, config: Path, pipeline: dict[str, int]) -> None:
        """So large an alpha asks for uniformity alone: DS has no say in what is best."""
        widgets = {"alpha": "1e9", "percentile": "50", "domain": "code"}
        found = run("02_explore_scores", config=str(config), **widgets)
        assert found["alpha"] == 1e9
        assert found["scored"] == pipeline["score"]
        # above the 50th percentile lie n - floor(n / 2) windows of each domain
        assert found["kept"] * 2 - found["scored"] in range(len(DOMAINS) + 1)
        assert figures() == 4
        assert found["best"] == highest(config, "code", "du") != highest(config, "code", "ds")

    def test_a_selection_is_tuned_and_written(self, config: Path, pipeline: dict[str, int]) -> None:
        widgets = {"fraction": "0.25", "weights": "book=1, code=3", "name": "tuned"}
        found = run("03_tune_selection", config=str(config), **widgets)
        assert found["name"] == "tuned"
        assert 0 < found["windows"] < pipeline["score"]
        assert figures() == 1

    def test_a_misspelt_override_stops_with_the_name_that_was_meant(self, config: Path) -> None:
        with pytest.raises(Exception, match="did you mean 'length'"):
            run("01_run_pipeline", config=str(config), overrides="window.lenght=8")
