"""What airflow_dags/longattn.yaml says means something to this project; see airflow/ for DAGs."""

from typing import Any

import pytest
import yaml

from longattn.etl import config as config_module
from longattn.etl.run.jobs import JOBS
from tests.surfaces.corpus import REPO


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((REPO / "airflow_dags" / "longattn.yaml").read_text())
    return found


def test_the_standing_selection_writes_nothing_that_a_run_writes(settings: dict[str, Any]) -> None:
    run = config_module.load(REPO / settings["config"])
    standing = config_module.load(REPO / settings["config"], settings["reselect"])
    assert standing.select.name != run.select.name
    assert standing.report.path != run.report.path
    paths = [[target.path for _, target in c.export if target] for c in (run, standing)]
    assert paths[1] and not set(paths[0]) & set(paths[1])


def test_profiles_and_limits_are_of_jobs(settings: dict[str, Any]) -> None:
    known = {"default", *JOBS}
    assert set(settings["timeout_minutes"]) <= known
    for profile in settings["profiles"].values():
        for section in profile.values():
            assert set(section) <= known
            assert "default" in section


def test_only_score_asks_for_gpus(settings: dict[str, Any]) -> None:
    conf = settings["profiles"]["gpu"]["conf"]
    asking = {job for job, keys in conf.items() if any(".resource.gpu." in key for key in keys)}
    assert asking == {"score"}
    assert all(isinstance(value, str) for keys in conf.values() for value in keys.values())
