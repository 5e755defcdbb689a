"""Jobs are told of by the clients of OpenLineage and MLflow, which stand here as fakes."""

import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from longattn.etl.run.context import Outcome
from longattn.etl.run.observers import LINEAGE, TRACKING, observed

OUTCOME = Outcome(rows_in=5, rows_out=4, refused={"x": 1}, metrics={"tokens": 64})
RUN: Any = SimpleNamespace(outcome=OUTCOME, seconds=2.5)


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Any:
    for key in (*LINEAGE, *TRACKING):
        monkeypatch.delenv(key, raising=False)
    said: list[str] = []
    tables = SimpleNamespace(versions_read={}, versions_written={})
    config = SimpleNamespace(tables=SimpleNamespace(root="/lake"), hash="abc")
    progress = SimpleNamespace(say=said.append, said=said)
    return SimpleNamespace(tables=tables, config=config, progress=progress)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What OpenLineage's client was given; its modules are fakes with its names."""
    emitted: list[Any] = []
    client, event = ModuleType("openlineage.client"), ModuleType("openlineage.client.event_v2")
    client.OpenLineageClient = lambda: SimpleNamespace(emit=emitted.append)  # type: ignore[attr-defined]
    for name in ("RunEvent", "Run", "Job"):
        setattr(event, name, lambda **fields: SimpleNamespace(**fields))
    for name in ("InputDataset", "OutputDataset"):
        setattr(event, name, lambda namespace, name: (namespace, name))
    states = SimpleNamespace(START="START", COMPLETE="COMPLETE", FAIL="FAIL")
    event.RunState = states  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openlineage", ModuleType("openlineage"))
    monkeypatch.setitem(sys.modules, "openlineage.client", client)
    monkeypatch.setitem(sys.modules, "openlineage.client.event_v2", event)
    return emitted


def test_openlineage_hears_of_start_and_end_with_tables(
    context: Any, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", "http://lineage")
    with observed("score", context) as finish:
        context.tables.versions_read["windows"] = 3
        context.tables.versions_written["scores"] = 1
        finish(RUN)
    start, end = events
    assert (start.eventType, end.eventType) == ("START", "COMPLETE")
    assert start.run.runId == end.run.runId and end.job.name == "score"
    assert end.inputs == [("/lake", "windows")] and end.outputs == [("/lake", "scores")]


def test_a_failed_job_is_told_as_failed_and_still_raises(
    context: Any, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", "http://lineage")
    with pytest.raises(ZeroDivisionError), observed("score", context):
        raise ZeroDivisionError
    assert [event.eventType for event in events] == ["START", "FAIL"]


def test_mlflow_gets_the_counts(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[str, Any] = {}
    mlflow = ModuleType("mlflow")

    @contextmanager
    def start_run(run_name: str) -> Any:
        logged["run"] = run_name
        yield

    fakes = {"start_run": start_run, "set_tags": logged.update, "log_params": logged.update}
    for name, fake in {**fakes, "log_metrics": logged.update}.items():
        setattr(mlflow, name, fake)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow")
    with observed("score", context) as finish:
        finish(RUN)
    assert logged["run"] == "longattn score" and logged["longattn.state"] == "COMPLETE"
    assert (logged["score.rows_in"], logged["score.tokens"], logged["score.seconds"]) == (
        5,
        64,
        2.5,
    )


def test_a_client_that_is_missing_costs_a_line_and_no_job(
    context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setenv("MLFLOW_RUN_ID", "1")
    with observed("score", context) as finish:
        finish(RUN)
    (line,) = context.progress.said
    assert line.startswith("score: not told of: ")


def test_nothing_is_imported_where_nobody_asks(context: Any, events: list[Any]) -> None:
    with observed("score", context) as finish:
        finish(RUN)
    assert events == [] and context.progress.said == []
