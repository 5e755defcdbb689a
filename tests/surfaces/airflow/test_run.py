"""`airflow dags test`: every task of the chain in one process, each a real spark-submit."""

import json
from pathlib import Path

from tests.surfaces.airflow.conftest import Airflow, longattn
from tests.surfaces.corpus import DOMAINS


def test_the_chain_runs_and_balances(airflow: Airflow, corpus: Path) -> None:
    conf = {"config": str(corpus), "overrides": ["select.name=first"]}
    made = airflow("dags", "test", "longattn_pipeline", "-c", json.dumps(conf), timeout=600)
    assert made.returncode == 0, made.stdout[-8000:]
    status = json.loads(longattn("status", "--config", str(corpus), "--json"))
    jobs = ["ingest", "dedup", "windows", "score", "select", "export", "report"]
    assert {name: status["jobs"][name]["status"] for name in jobs} == dict.fromkeys(jobs, "done")
    assert all(status["jobs"][name]["balances"] for name in jobs)
    assert set(status["tables"]["scores"]["domains"]) == set(DOMAINS)
    assert (corpus.parent / "selected" / "_manifest.json").exists()
    assert (corpus.parent / "report.html").stat().st_size > 0
