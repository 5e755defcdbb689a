"""Every benchmark imports and says how it is run; those without a peer or a GPU run small.

`dedup`, `evidence`, `windows.similar` and `windows.judged` are run by hand: they fetch packages of
their own or need those. So are `connectors`, `fleet`, `hundredfold`, `ingest`, `small_runs` and
`windows.many`, which start Spark many times over or keep it at work for long.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.commands import longattn
from tests.udfs.models import smollm2

REPO = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(REPO).with_suffix("").parts)
    for pattern in ("*.py", "tables/*.py", "windows/*.py")
    for path in (REPO / "benchmarks").glob(pattern)
    if path.stem[0] != "_"
)
SCORER = "{repo}/data/scorer"
# Arguments, and what the table then holds; {root} has windows of 512 tokens, as the jobs cut them.
SMALL = {
    "score_cpu": ("--length 512 --runs 1", "| Llama-3.1-8B | 512 | 2 |"),
    "score_gpu": ("", "ms/window"),
}
OF_THE_DEMO = {
    "tokenizing": (
        f"{SCORER} --megabytes 1 --slots 1 --length 512 --characters 8000",
        "| base64 |",
    ),
    "windows.packing": ("{root} --length 8192", "| best_fit, groups of 16 M tokens |"),
    "sampling": (f"{{root}} {SCORER}", "| 1/8 |"),
    "efficiency": (f"{{root}} {SCORER} {{gguf}} --windows 1", "| longattn, exact |"),
}


@pytest.mark.parametrize("module", MODULES)
def test_a_benchmark_imports_and_says_how_it_is_run(module: str) -> None:
    if module in ("benchmarks.usage", "benchmarks.tables.reading", "benchmarks.tables.rows"):
        return  # what the others measure with
    assert f"python -m {module}" in (importlib.import_module(module).__doc__ or "")


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_runs_at_its_smallest(name: str) -> None:
    arguments, expected = SMALL[name]
    out = run(name, arguments)
    assert expected in out or "no CUDA device" in out


@pytest.mark.demo
@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.parametrize("name", OF_THE_DEMO)
def test_a_benchmark_of_the_demo_runs_at_its_smallest(name: str, root: Path) -> None:
    arguments, expected = OF_THE_DEMO[name]
    assert expected in run(name, arguments.format(repo=REPO, root=root, gguf=smollm2()))


def run(name: str, arguments: str) -> str:
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments.split()]
    ran = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout


@pytest.fixture(scope="module")
def root(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of a few documents, up to the windows that the demo's tokenizer makes of them."""
    folder = tmp_path_factory.mktemp("benchmarks")
    texts = [path.read_text("utf-8") for path in sorted((REPO / "docs").glob("*.md"))[:8]]
    lines = [json.dumps({"text": text}) for text in texts]
    (folder / "docs.jsonl").write_text("\n".join(lines), "utf-8")
    settings = {
        "tables": {"root": str(folder / "tables")},
        "sources": {"docs": [{"path": str(folder / "docs.jsonl")}]},
        "tokenizer": str(REPO / "data" / "scorer"),
        "window": {"length": 512},
    }
    (folder / "c.yaml").write_text(json.dumps(settings))  # JSON is YAML
    code, out = longattn("run", "--to", "windows", "--config", str(folder / "c.yaml"))
    assert code == 0, out
    return folder / "tables"


@pytest.mark.spark
def test_selection_is_timed_at_its_smallest(spark: Any, tmp_path: Path) -> None:
    from benchmarks import selecting

    lines = list(selecting.timings(spark, tmp_path, 600))
    assert len(lines) == 5 and all(line.startswith("| ") for line in lines)


@pytest.mark.spark
def test_the_cost_of_safety_is_timed_at_its_smallest(spark: Any, tmp_path: Path) -> None:
    from benchmarks.tables import reliability

    lines = list(reliability.timings(tmp_path, 600))
    assert len(lines) == 5 and all(line.startswith("| ") for line in lines)
