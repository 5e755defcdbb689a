"""Without `make test-faults` its long tests are left out; one case of each kind stays."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long tests unless --faults asks for them."""
    if config.getoption("--faults"):
        return
    long = [item for item in items if item.get_closest_marker("faults")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


def pytest_report_header(config: pytest.Config) -> str:
    return f"faults: {config.getoption('--faults')} kills, seed {config.getoption('--faults-seed')}"
