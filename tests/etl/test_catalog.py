"""Tables by names of a catalog, Hive's metastore: all jobs that write them, and commands."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.spark, pytest.mark.jars, pytest.mark.slow]
TABLES = (
    "documents lengths listings origins pairs runs scores selections signatures source_files"
    " windows"
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("catalog")
    program = [sys.executable, "-m", "tests.etl.in_a_catalog", str(folder)]
    done = subprocess.run(program, cwd=REPO, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_all_jobs_that_write_tables_run_on_those_of_a_catalog(found: Any) -> None:
    assert found["run"]["code"] == 0, found["run"]["out"][-3000:]
    assert "score    16 in, 16 out" in found["run"]["out"]
    assert found["tables"] == TABLES.split()  # what the jobs staged is gone
    assert found["vacuum"]["code"] == 0 and "_rows" in found["vacuum"]["out"]


def test_a_second_run_finds_nothing_to_do(found: Any) -> None:
    assert found["again"]["code"] == 0, found["again"]["out"][-3000:]
    for job in ("ingest", "dedup", "windows", "score"):
        assert f"{job:<8} 0 in, 0 out" in found["again"]["out"]


def test_status_trace_and_check_read_a_catalog(found: Any) -> None:
    assert found["check"] == {"code": 0, "out": "11 tables, 67 rows: nothing is wrong\n"}
    assert (found["status"]["code"], found["trace"]["code"]) == (0, 0)
    assert "random:seed=0" in found["status"]["out"]
    assert "1.jsonl" in found["trace"]["out"]


def test_a_schema_that_is_not_there_is_one_line(found: Any) -> None:
    said = found["no schema"]["out"].strip().splitlines()[-1]
    assert found["no schema"]["code"] == 1
    assert said.startswith("longattn: tables.root: there is no schema spark_catalog.longattn;")


def test_a_catalog_is_held_by_one_run_at_a_time(found: Any) -> None:
    """As a folder is: its lease lies in the schema's folder, and remembers the tables' versions."""
    assert found["held"]["code"] == 1
    assert "held by windows (process 7 on elsewhere" in found["held"]["out"]
    assert set(found["held"]["known"]) == set(TABLES.split())


def test_a_schema_keeps_its_lease_where_the_config_says(found: Any) -> None:
    """For catalogs that name no folder, as Unity Catalog does not."""
    said = found["held by a folder named"]
    assert said["code"] == 1 and "held by windows (process 7 on elsewhere" in said["out"]
    assert said["known"] == {}  # another register than that of the schema's own folder
