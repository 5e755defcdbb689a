"""Every benchmark imports and says how it is run; those without a peer or a GPU run small."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).parents[2]
MODULES = sorted(
    f"benchmarks.{path.stem}" for path in (REPO / "benchmarks").glob("*.py") if path.stem[0] != "_"
)
SMALL = {
    "score_cpu": (["--length", "512", "--runs", "1"], "| Llama-3.1-8B | 512 | 2 |"),
    "score_gpu": ([], "ms/window"),
}


@pytest.mark.parametrize("module", MODULES)
def test_a_benchmark_imports_and_says_how_it_is_run(module: str) -> None:
    if module == "benchmarks.usage":
        return  # what the others measure with
    assert f"python -m {module}" in (importlib.import_module(module).__doc__ or "")


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_runs_at_its_smallest(name: str) -> None:
    arguments, expected = SMALL[name]
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    ran = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert expected in ran.stdout or "no CUDA device" in ran.stdout


@pytest.mark.spark
def test_selection_is_timed_at_its_smallest(spark: Any, tmp_path: Path) -> None:
    from benchmarks import selecting

    lines = list(selecting.timings(spark, tmp_path, 600))
    assert len(lines) == 5 and all(line.startswith("| ") for line in lines)


@pytest.mark.spark
def test_the_cost_of_safety_is_timed_at_its_smallest(spark: Any, tmp_path: Path) -> None:
    from benchmarks.tables import reliability

    lines = list(reliability.timings(spark, tmp_path, 600))
    assert len(lines) == 5 and all(line.startswith("| ") for line in lines)
