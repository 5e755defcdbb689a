"""Fixtures shared by all tests: one Spark session, and empty tables on a fresh root."""

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longattn.etl import config as config_module
from longattn.etl.config import Config
from longattn.etl.progress import Progress
from longattn.etl.run.context import Context, TableSet

REPO = Path(__file__).resolve().parents[1]
SCORER = REPO / "data" / "scorer"
DEMO = REPO / "data" / "demo"


@pytest.fixture(scope="session")
def spark() -> Any:
    """One local session with two slots; making it is most of a Spark test's time."""
    from longattn.etl.session import get_spark

    conf = {
        "spark.sql.shuffle.partitions": "4",  # a task costs more than the rows it would carry
        "spark.driver.memory": "3g",
    }
    return get_spark(config_module.SparkConfig(master="local[2]", conf=conf))


@pytest.fixture
def tables(spark: Any, tmp_path: Path) -> TableSet:
    """All tables, none of them made yet, on a root of this test's own."""
    return open_at(spark, tmp_path / "tables")


@pytest.fixture
def make_context(spark: Any, tmp_path: Path) -> Callable[..., Context]:
    """A job Context for settings given as nested dicts; the root is this test's own."""

    def make(**settings: Any) -> Context:
        root = settings.setdefault("tables", {}).setdefault("root", str(tmp_path / "tables"))
        return context_for(spark, config_module.validate(settings), Path(root))

    return make


def context_for(spark: Any, config: Config, root: Path) -> Context:
    return Context(spark=spark, config=config, tables=open_at(spark, root), progress=Progress())


def open_at(spark: Any, root: Path) -> TableSet:
    from longattn.etl.tables.open import open_tables

    return TableSet(open_tables(spark, config_module.TablesConfig(root=str(root))))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of `make test-faults`, here because only this file is read early enough."""
    parser.addoption("--faults", type=int, default=0, help="how many kills to draw; 0: none")
    seed = random.SystemRandom().randrange(10**6)
    parser.addoption("--faults-seed", type=int, default=seed, help="draws the same again")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip demo tests, with the reason, where `make demo-data` has not been run."""
    skip = pytest.mark.skip(reason="no demo model: run `make demo-data`")
    for item in items:
        if "demo" in item.keywords and not (SCORER / "scorer.json").exists():
            item.add_marker(skip)
        if "gpu" in item.keywords and not _has_cuda():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def _has_cuda() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
