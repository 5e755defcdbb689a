"""Jobs are told of by OpenLineage's and MLflow's own clients, to a file and to SQLite."""

import importlib
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from longattn.etl import config as config_module
from longattn.etl.run.context import Outcome
from longattn.etl.run.observers import LINEAGE, PRODUCER, TRACKING, observed

METRICS = {"tokens": 64, "overlap/length/<b>&amp;": 0.5}
OUTCOME = Outcome(rows_in=5, rows_out=4, refused={"x": 1}, metrics=METRICS)
RUN: Any = SimpleNamespace(outcome=OUTCOME, seconds=2.5)


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    for key in (*LINEAGE, *TRACKING):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.chdir(tmp_path)
    config = config_module.validate(
        {
            "tables": {"root": "/lake"},
            "sources": {"book": [{"path": ["/data/*.jsonl", "s3a://lake/books"]}]},
            "decontaminate": {"sources": [{"path": "/eval/questions.jsonl"}]},
            "export": {"parquet": {"path": str(tmp_path / "out")}},
        }
    )
    said: list[str] = []
    tables = SimpleNamespace(versions_read={}, versions_written={})
    progress = SimpleNamespace(say=said.append, said=said)
    return SimpleNamespace(tables=tables, config=config, progress=progress)


@pytest.fixture
def events(context: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Tells OpenLineage's client to append to a file; yields a reader of its events."""
    pytest.importorskip("openlineage.client")
    log = tmp_path / "events.jsonl"
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(log))
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__APPEND", "true")
    return lambda: [json.loads(line) for line in log.read_text().splitlines()]


def test_openlineage_hears_of_start_and_end_with_versions(context: Any, events: Any) -> None:
    with observed("score", context) as finish:
        context.tables.versions_read["windows"] = 3
        context.tables.versions_written["scores"] = 1
        finish(RUN)
    start, end = events()
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == end["run"]["runId"] and end["job"]["name"] == "score"
    assert context.progress.said == [] and end["producer"] == PRODUCER
    (read,), (written,) = end["inputs"], end["outputs"]
    assert (read["namespace"], read["name"]) == ("/lake", "windows")
    assert read["facets"]["version"]["datasetVersion"] == "3"
    assert (written["name"], written["facets"]["version"]["datasetVersion"]) == ("scores", "1")


@pytest.mark.parametrize(
    ("job", "side", "names"),
    [
        ("ingest", "inputs", [("file", "/data/*.jsonl"), ("s3://lake", "books")]),
        ("windows", "inputs", [("file", "/eval/questions.jsonl")]),
        ("export", "outputs", [("file", "{tmp}/out")]),
        ("select", "inputs", []),
    ],
)
def test_files_are_datasets_of_the_jobs_at_the_ends(
    job: str, side: str, names: list[tuple[str, str]], context: Any, events: Any, tmp_path: Path
) -> None:
    with observed(job, context) as finish:
        finish(RUN)
    found = [(one["namespace"], one["name"]) for one in events()[-1][side]]
    assert found == [(space, name.replace("{tmp}", str(tmp_path))) for space, name in names]


def test_events_are_as_the_specification_says(context: Any, events: Any) -> None:
    """The client's own schema of events; the producer of each is a URI."""
    with observed("ingest", context) as finish:
        context.tables.versions_written["documents"] = 1
        finish(RUN)
    assert len(events()) == 2 and context.progress.said == []
    for event in events():
        assert event["schemaURL"].startswith("https://openlineage.io/spec/")
        assert {"eventTime", "eventType", "run", "job", "producer"} <= set(event)
        assert event["producer"].startswith("pkg:pypi/longattn-spark@")


def test_a_failed_job_is_told_as_failed_and_still_raises(context: Any, events: Any) -> None:
    with pytest.raises(ZeroDivisionError), observed("score", context):
        raise ZeroDivisionError
    assert [event["eventType"] for event in events()] == ["START", "FAIL"]


def test_every_job_of_a_command_joins_the_run_that_is_given(
    context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mlflow itself takes MLFLOW_RUN_ID out of the environment when it is left to read it."""
    joined: list[str | None] = []

    def start_run(run_id: str | None = None, run_name: str = "") -> Any:
        joined.append(run_id or os.environ.pop("MLFLOW_RUN_ID", None))
        return nullcontext()

    nothing = dict.fromkeys(("set_tags", "log_params", "log_metrics"), lambda values: None)
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(start_run=start_run, **nothing))
    monkeypatch.setattr("longattn.etl.run.observers._datasets", lambda job: [])
    monkeypatch.setenv("MLFLOW_RUN_ID", "mine")
    for job in ("ingest", "dedup"):
        with observed(job, context) as finish:
            finish(RUN)
    assert joined == ["mine", "mine"] and context.progress.said == []


def test_mlflow_gets_the_counts_and_what_was_exported(
    context: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mlflow = pytest.importorskip("mlflow")
    (tmp_path / "out").mkdir()
    store = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    mlflow.set_tracking_uri(store)
    with observed("export", context) as finish:
        context.tables.versions_read["selections"] = 7
        finish(RUN)
    assert context.progress.said == []
    (run,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    assert run.info.run_name == "longattn export"
    assert run.data.tags["longattn.state"] == "COMPLETE"
    assert run.data.metrics["export.rows_in"] == 5 and run.data.metrics["export.tokens"] == 64
    inputs = {one.dataset.name: one.dataset for one in run.inputs.dataset_inputs}
    assert json.loads(inputs["selections"].source) == {
        "path": "/lake/selections",
        "delta_table_version": 7,
    }
    assert json.loads(inputs["parquet"].source)["uri"].endswith("/out")


def test_a_client_that_is_missing_costs_a_line_and_no_job(
    context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setenv("MLFLOW_RUN_ID", "1")
    with observed("score", context) as finish:
        finish(RUN)
    (line,) = context.progress.said
    assert line.startswith("score: an observer could not be notified: ")


def test_nothing_is_imported_where_nobody_asks(
    context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: asked.append(name) or real(name))
    with observed("score", context) as finish:
        finish(RUN)
    assert asked == [] and context.progress.said == []
