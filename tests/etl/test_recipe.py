"""The recipe: what a config's windows and scores are called, and which scorers may read them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import longattn
from longattn.etl import config
from longattn.etl.run.recipe import Recipe
from longattn.udfs.errors import ConfigError
from longattn.udfs.scorers.background import write_counted


def save_words(folder: Path, words: dict[str, int], pretty: bool = False) -> str:
    """A folder with a tokenizer of these words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    folder.mkdir()
    made = Tokenizer(WordLevel(words, unk_token="b"))
    made.save(str(folder / "tokenizer.json"), pretty=pretty)
    return str(folder)


def recipe(**settings: Any) -> Recipe:
    return Recipe(config.validate(settings))


@pytest.fixture
def model(tmp_path: Path) -> str:
    return save_words(tmp_path / "model", {"a": 0, "b": 1})


@pytest.fixture
def other(tmp_path: Path) -> str:
    return save_words(tmp_path / "other", {"b": 0})


def test_windows_of_other_ids_than_the_models_are_refused(
    model: str, other: str, tmp_path: Path
) -> None:
    """Equal ids in another file are the same words; a model without a tokenizer says nothing."""
    same = save_words(tmp_path / "same", {"b": 1, "a": 0}, pretty=True)
    for tokenizer in (model, same, None):
        asked = recipe(tokenizer=tokenizer, score={"model": model, "scorer": "fargain"})
        assert [spec.scorer for spec in asked.specs] == ["fargain"]
    assert recipe(tokenizer=other, score={"model": str(tmp_path), "scorer": "ladm"}).specs
    refusal = r"tokenizer: other@.* is not that of score.model, model@.*leave `tokenizer` out"
    with pytest.raises(ConfigError, match=refusal):
        _ = recipe(tokenizer=other, score={"model": model, "scorer": "longattn"}).specs


def test_further_scorers_are_asked_too(model: str, other: str) -> None:
    also = {"fargain": {"model": other}}
    asked = recipe(tokenizer=model, score={"scorer": "recall", "also": also})
    with pytest.raises(ConfigError, match=r"not that of the model of fargain, other@"):
        _ = asked.specs
    asked = recipe(score={"scorer": "longattn", "model": model, "also": also})
    with pytest.raises(ConfigError, match=r"not that of the model of fargain, other@"):
        _ = asked.specs
    weighed = {"by": {"recall": 1.0, "ladm": 2.0}, "where": [_filter("cohesion")]}
    asked = recipe(tokenizer=model, score={"scorer": "recall", "model": model}, select=weighed)
    assert [spec.scorer for spec in asked.specs] == ["recall", "ladm", "cohesion"]


def _filter(scorer: str) -> dict[str, Any]:
    return {"scorer": scorer, "percentile": [50.0, 100.0]}


def test_a_background_of_other_ids_is_refused(model: str, tmp_path: Path) -> None:
    folder = str(write_counted(tmp_path, [np.arange(5)] * 2, tokenizer="words@1"))
    score = {"scorer": "recall", "background": folder}
    assert recipe(tokenizer="words", score=score).specs[0].background == folder
    refusal = r"score.background: .* counts tokens of words@1, and windows are made of model@"
    for settings in (score, {"scorer": "random", "also": {"seams": {"background": folder}}}):
        with pytest.raises(ConfigError, match=refusal):
            _ = recipe(tokenizer=model, score=settings).specs
    with pytest.raises(ConfigError, match=refusal):
        longattn.score([], background=folder, tokenizer=model)


def test_a_distance_is_one_of_recalls_octaves() -> None:
    def refused(distance: Any, **window: Any) -> str:
        asked = recipe(window={"length": 8192, **window}, select={"distance": distance})
        with pytest.raises(ConfigError) as error:
            asked.refuse_other_distances()
        return str(error.value)

    said = "select.distance: 8,192 is no octave of recall's gain; of windows of 8,192 tokens these"
    assert refused(8192) == f"{said} are 1,024, 2,048, 4,096"
    assert "1,000 is no octave" in refused({1024: 1.0, 1000: 2.0})
    assert refused(1024, k=2048).endswith("these are 2,048, 4,096")
    whole = recipe(window={"length": 32768}, select={"distance": 16384})
    whole.refuse_other_distances()
    assert whole.ranking == "recall from 16,384 tokens"


def test_jobs_without_a_scorer_need_no_model() -> None:
    missing = {"model": "/no/such/model"}
    asked = recipe(tokenizer="words", score={**missing, "scorer": "longattn"})
    assert asked.windowings == ("longattn-32768:words@1", "best_fit-32768:words@1")
    assert asked.version_of("longattn") is None
    assert str(asked.version_of("recall")).startswith("recall:")


@pytest.mark.parametrize(
    ("select", "as_scored"),
    [
        ({"by": "recall"}, True),
        ({"by": "recall", "distance": 1024}, False),
        ({"by": {"recall": 1.0}}, False),
        ({}, False),
    ],
    ids=str,
)
def test_rows_name_what_they_are_ranked_by_where_that_is_a_score(
    select: dict[str, Any], as_scored: bool
) -> None:
    """A gain from a distance is no score: exports look for recall's by the config's version."""
    asked = recipe(window={"length": 8192}, select=select)
    assert asked.ranked_as_scored == as_scored
    assert (asked.ranker == asked.recall) == (as_scored or not select)
