"""Without `make test-faults` its long tests are left out; one case of each kind stays."""

import random
from typing import Any

import pytest

from tests.faults.world import Sources, Stages, World


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long tests unless --faults asks for them."""
    if config.getoption("--faults"):
        return
    long = [item for item in items if item.get_closest_marker("faults")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


def pytest_report_header(config: pytest.Config) -> str:
    return f"faults: {config.getoption('--faults')} kills, seed {config.getoption('--faults-seed')}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """As many trials as `make test-faults` draws kills."""
    if "draw" in metafunc.fixturenames:
        trials = range(metafunc.config.option.faults)
        metafunc.parametrize("draw", trials, indirect=True)


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> random.Random:
    """What a trial is drawn by: the seed and the trial's number."""
    return random.Random(request.config.getoption("--faults-seed") * 1000 + request.param)


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Two files that a world sees at first, and a third."""
    return Sources(tmp_path_factory.mktemp("faults") / "sources", files="abc")


@pytest.fixture(scope="session")
def fresh(spark: Any, sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """A first run that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("fresh")
    return Stages(folder, World(folder / "empty", sources), "[ab]")
