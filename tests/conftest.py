"""Fixtures shared by all tests: one Spark session, and empty tables on a fresh root."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longattn.etl import config as config_module
from longattn.etl.config import Config
from longattn.etl.run.context import Context, TableSet
from longattn.etl.run.progress import Progress
from tests.few_rows import FEW_ROWS

REPO = Path(__file__).resolve().parents[1]
JARS = REPO / "jars"
SCORER = REPO / "data" / "scorer"
DEMO = REPO / "data" / "demo"
# Files that take minutes, the longest first: a worker that takes one last would work on alone.
LONGEST = [
    "faults/test_faults.py",
    "surfaces/test_submit.py",
    "etl/test_selection_jobs.py",
    "etl/test_everywhere.py",
    "etl/test_score_job.py",
    "etl/test_lengths.py",
    "etl/test_tables.py",
    "surfaces/test_docs.py",
    "surfaces/test_notebooks.py",
    "etl/test_connect.py",
    "benchmarks/test_smoke.py",
    "etl/test_ingest.py",
    "etl/test_dedup.py",
    "etl/test_emulators.py",
    "etl/test_catalog.py",
    "browser/test_report_page.py",
    "etl/test_conservation.py",
    "etl/test_tables_model.py",
    "etl/test_calibrate.py",
    "etl/test_cascade.py",
    "etl/test_windows_job.py",
    "etl/test_ledger.py",
    "etl/test_damage.py",
    "faults/test_mending.py",
    "etl/test_first_contact.py",
]


@pytest.fixture(scope="session")
def spark() -> Any:
    """One local session with two slots; making it is most of a Spark test's time.

    It has the jars of `make jars` where they are, and so both connectors.
    """
    from longattn.etl.session import JAVA_OPTIONS, LOCAL_CONF, get_spark
    from longattn.etl.session.java import ensure_java, shared_classes

    ensure_java()
    optimising = LOCAL_CONF[JAVA_OPTIONS].replace("-XX:TieredStopAtLevel=1", "")  # it lives long
    conf = {
        **FEW_ROWS,
        "spark.driver.memory": "3g",
        JAVA_OPTIONS: f"{optimising} {shared_classes()}",
        **({"spark.jars": jars()} if has_jars() else {}),
    }
    return get_spark(config_module.SparkConfig(master="local[2]", conf=conf))


def jars(group: str = "*") -> str:
    """The jars of a group of bin/fetch_jars.py, each once, as `spark.jars` takes them."""
    found = {jar.name: str(jar) for jar in sorted(JARS.glob(f"{group}/*.jar"))}
    return ",".join(found.values())


def has_jars() -> bool:
    return (JARS / "delta").is_dir()


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


def open_at(spark: Any, root: Path, connector: str = "delta-rs") -> TableSet:
    from longattn.etl.tables.open import open_tables

    config = config_module.TablesConfig(root=str(root), connector=connector)
    return TableSet(open_tables(spark, config))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of `make test-faults`, here because only this file is read early enough."""
    parser.addoption("--faults", type=int, default=0, help="how many kills to draw; 0: none")
    parser.addoption("--faults-seed", type=int, default=0, help="draws the same again")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest files first; skip, with the reason, tests of what has not been fetched."""
    items.sort(key=_turn)
    no_jars = pytest.mark.skip(reason="no jars of Delta, S3 and Azure: run `make jars`")
    skip = pytest.mark.skip(reason="no demo model: run `make demo-data`")
    for item in items:
        if "demo" in item.keywords and not (SCORER / "scorer.json").exists():
            item.add_marker(skip)
        if "jars" in item.keywords and not has_jars():
            item.add_marker(no_jars)
        if "gpu" in item.keywords and not _has_cuda():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def _turn(item: pytest.Item) -> int:
    """The place of a test's file among the longest; all others follow in their order."""
    file = item.path.relative_to(REPO / "tests").as_posix()
    return LONGEST.index(file) if file in LONGEST else len(LONGEST)


def _has_cuda() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
