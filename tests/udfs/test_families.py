"""A fuzz over families: scored as the model's own eager attention, or refused with the reason.

A few are drawn for each run of the tests; LONGATTN_FAMILIES=all takes all sixty and more, and
LONGATTN_FAMILIES=3 draws others than the default 0.
"""

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from longattn.udfs.errors import ModelError
from longattn.udfs.models.build import build_scorer
from longattn.udfs.models.prefix import check_supported, needed_parameters
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.registry import load_scorer
from tests.udfs.families import REFUSED, SCORED, TINY, make_tiny
from tests.udfs.models import K, windows

ASKED = os.environ.get("LONGATTN_FAMILIES", "0")
DRAWN = SCORED if ASKED == "all" else sorted(random.Random(ASKED).sample(SCORED, 5))


@pytest.mark.parametrize("kind", DRAWN)
def test_a_family_is_scored_as_its_own_attention_does(kind: str, tmp_path: Path) -> None:
    make_tiny(tmp_path / "model", kind, seed=sum(map(ord, ASKED)))
    build_scorer(str(tmp_path / "model"), str(tmp_path / "scorer"))
    spec = ScorerSpec(scorer="longattn", model=str(tmp_path / "scorer"), k=K, dtype="float32")
    (got,) = load_scorer(spec).score(windows(1))
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", attn_implementation="eager", dtype=torch.float32
    )
    with torch.no_grad():
        ids = torch.as_tensor(np.stack(windows(1)))
        far = model(ids, output_attentions=True).attentions[0][0].double().tril(-K)
    np.testing.assert_allclose(got["head_s1"], far.sum((-1, -2)), rtol=2e-4)
    np.testing.assert_allclose(got["head_s2"], far.square().sum((-1, -2)), rtol=2e-4)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_family_is_refused_with_the_true_reason(kind: str) -> None:
    settings = TINY | {"num_hidden_layers": 4}
    if kind == "falcon":
        del settings["head_dim"]  # it works that out
    config = AutoConfig.for_model(kind, **settings)
    with pytest.raises(ModelError, match=REFUSED[kind]) as caught:
        check_supported(config)
        needed_parameters(config, (0,))
    assert "\n" not in str(caught.value)


def test_sixty_families_are_known() -> None:
    assert len({*SCORED, *REFUSED}) >= 60
