"""What is collected here depends on the venv: Airflow's tests run in one of their own."""

import importlib.util

HAS_AIRFLOW = importlib.util.find_spec("airflow") is not None
collect_ignore = [] if HAS_AIRFLOW else ["airflow"]


def pytest_report_header() -> str | None:
    return None if HAS_AIRFLOW else "tests/surfaces/airflow: run by `make test-airflow`, not here"
