"""docs/own-scorer.md does what it says: its code, as it stands, is a scorer."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from longattn.udfs.scorers import registry
from longattn.udfs.scorers.base import ScorerSpec

PAGE = Path(__file__).parents[2] / "docs" / "own-scorer.md"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's Python, importable as my_package.scorer."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("")
    (tmp_path / "my_package" / "scorer.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("my_package", "my_package.scorer"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_the_page_s_scorer_is_loaded_and_scores(
    package: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert importlib.util.find_spec("my_package.scorer")
    from my_package.scorer import PLUGIN  # type: ignore[import-not-found]

    monkeypatch.setitem(registry.SCORERS, "variety", PLUGIN)
    spec = ScorerSpec(scorer="variety")
    assert registry.scorer_version(spec) == "variety:1" and not registry.reads_model("variety")
    scorer = registry.load_scorer(spec)
    (found,) = scorer.score([np.array([7, 7, 8, 9])])
    assert found["ds"] == 0.75
    assert scorer.refusal(np.array([], dtype=int)) == ("empty", "no tokens")
