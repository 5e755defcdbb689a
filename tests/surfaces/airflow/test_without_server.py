"""`airflow dags test`: the tasks of a DAG in one process, each a real spark-submit, no server."""

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


def test_a_run_by_hand_selects_exports_and_reports(airflow: Airflow, scored: Path) -> None:
    conf = {"config": str(scored), "overrides": ["select.name=by_hand", "select.alpha=0.3"]}
    made = airflow("dags", "test", "longattn_reselect", "-c", json.dumps(conf), timeout=400)
    assert made.returncode == 0, made.stdout[-8000:]
    manifest = json.loads((scored.parent / "selected" / "_manifest.json").read_text())
    assert manifest["selection"] == "by_hand"
    assert (scored.parent / "report.html").stat().st_size > 0
