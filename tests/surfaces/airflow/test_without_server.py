"""`airflow dags test`: the tasks of a DAG in one process, a real spark-submit, no server."""

import json
from pathlib import Path

import pytest

from tests.surfaces.airflow.conftest import Airflow, longattn


@pytest.fixture
def scored(corpus: Path) -> Path:
    """The corpus with scores: test_server's, or made here where that has not been run."""
    if not (corpus.parent / "tables" / "scores").exists():
        for job in ("ingest", "dedup", "windows", "score"):
            longattn(job, "--config", str(corpus))
    return corpus


def test_a_run_by_hand_selects(airflow: Airflow, scored: Path) -> None:
    """The tasks after it are marked as done: the server's run has submitted them."""
    conf = {"config": str(scored), "overrides": ["select.name=by_hand", "select.alpha=0.3"]}
    words = ("longattn_reselect", "-c", json.dumps(conf), "--mark-success-pattern", "export|report")
    made = airflow("dags", "test", *words, timeout=400)
    assert made.returncode == 0, made.stdout[-8000:]
    assert " by_hand " in longattn("selections", "list", "--config", str(scored))
