"""Which settings scorers have, and scorers of other packages."""

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from longattn.udfs.errors import ConfigError
from longattn.udfs.scorers import registry
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.registry import Plugin, known_scorers, load_scorer, scorer_version


@pytest.mark.parametrize(
    ("scorer", "setting", "value", "has"),
    [
        ("cohesion", "layers", (0, 1), "it has k"),
        ("recurrence", "bos", True, "it has k"),
        ("prolong", "k", 512, "it has dtype, pairs"),
        ("ladm", "rope_theta", 1e6, "it has dtype, variant"),
        ("fargain", "sample_rows", 64, "it has bos, dtype, k, stride"),
        ("calibrated", "dtype", "bfloat16", "it has none"),
    ],
)
def test_a_setting_that_a_scorer_lacks_is_refused_by_name(
    scorer: str, setting: str, value: object, has: str
) -> None:
    spec = ScorerSpec(scorer=scorer, **{setting: value})  # type: ignore[arg-type]
    for ask in (scorer_version, load_scorer):
        with pytest.raises(ConfigError) as error:
            ask(spec)
        assert str(error.value) == f"score.{setting}: {scorer} has no such setting; {has}"


def test_how_to_run_is_no_setting_of_a_scorer() -> None:
    spec = ScorerSpec(
        scorer="cohesion", model="elsewhere", device="cpu", threads=2, batch_tokens=8, seed=4
    )
    assert scorer_version(spec) == scorer_version(ScorerSpec(scorer="cohesion"))


def test_another_package_brings_a_scorer_with_options(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("their_scorer")
    room = "longattn.udfs.scorers.kinds.control"
    module.PLUGIN = Plugin(  # type: ignore[attr-defined]
        f"{room}:RandomScorer", "their_scorer:version", frozenset({"depth"})
    )
    module.version = lambda spec: f"theirs:depth={spec.option('depth', 3)}"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_scorer", module)
    points = {
        "theirs": EntryPoint("theirs", "their_scorer:PLUGIN", registry.GROUP),
        "cohesion": EntryPoint("cohesion", "no_such_module:PLUGIN", registry.GROUP),
    }
    monkeypatch.setattr(registry, "_outside", lambda: points)
    assert known_scorers()[-1] == "theirs" and known_scorers().count("cohesion") == 1
    spec = ScorerSpec(scorer="theirs", options=(("depth", 5),))
    assert scorer_version(spec) == "theirs:depth=5"
    assert ScorerSpec.from_json(spec.to_json()) == spec
    assert scorer_version(ScorerSpec(scorer="theirs")) == "theirs:depth=3"
    with pytest.raises(ConfigError, match=r"score\.width: theirs has no such setting; it has dept"):
        scorer_version(ScorerSpec(scorer="theirs", options=(("width", 1),)))
    assert scorer_version(ScorerSpec(scorer="cohesion")).startswith("cohesion:")
