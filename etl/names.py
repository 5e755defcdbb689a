"""Names that hold a configuration apart from every other: windowing and scorer.

Rows of two windowings, or of two scorers, live in one table and never mix; each job reads the rows
of the names its config gives.
"""

from dataclasses import replace
from pathlib import Path

from longattn.etl.config import Config
from longattn.udfs.errors import ConfigError
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.registry import scorer_version
from longattn.udfs.text.tokens import tokenizer_name, vocabulary

READ_BY_MODEL = ("longattn", "prolong")  # scorers whose model takes the windows' ids


def windowing(config: Config) -> str:
    """For example `longattn-8192:SmolLM2-135M@ab12cd34`; `-bos` when BOS is one of the tokens."""
    window = config.window
    bos = "-bos" if window.bos else ""
    return f"{window.strategy}-{window.length}{bos}:{tokenizer_name(config.tokenizer_path)}"


def packing(config: Config) -> str:
    """As windowing, for the domains that are packed: for example `best_fit-8192:SmolLM2@ab12cd34`.

    The separator and the seed are part of it where they are not the defaults.
    """
    window, pack = config.window, config.pack
    marks = "-bos" if window.bos else ""
    marks += f"-sep({pack.separator})" if pack.separator else ""
    marks += f"-seed{config.seed}" if config.seed else ""
    return f"{pack.strategy}-{window.length}{marks}:{tokenizer_name(config.tokenizer_path)}"


def refuse_other_tokenizer(config: Config) -> None:
    """Raise ConfigError where the windows' ids would be other words to the scorer's model.

    A model without a tokenizer of its own cannot be asked.
    """
    asked = config.tokenizer is not None and config.score.scorer in READ_BY_MODEL
    if not asked or not Path(config.score.model).is_dir():
        return
    try:
        own = tokenizer_name(config.score.model)
    except ConfigError:
        return
    ours = tokenizer_name(config.tokenizer_path)
    same_file = ours.rpartition("@")[2] == own.rpartition("@")[2]
    if not same_file and vocabulary(config.tokenizer_path) != vocabulary(config.score.model):
        raise ConfigError(
            f"tokenizer: {ours} is not that of score.model, {own}: its ids are other words to the"
            " model; leave `tokenizer` out"
        )


def scorer_spec(config: Config) -> ScorerSpec:
    """The scorer's settings, as the executors take them."""
    score = config.score
    return ScorerSpec(
        scorer=score.scorer,
        model=score.model,
        k=config.window.k,
        sample_rows=score.sample_rows,
        sample_keys=score.sample_keys,
        layers=tuple(score.layers),
        dtype=score.dtype,
        device=score.device,
        rope_theta=score.rope_theta,
        bos=score.bos,
        batch_tokens=score.batch,
        threads=score.threads,
        seed=config.seed,
        pairs=score.pairs,
    )


def scorer(config: Config) -> str:
    """The scorer's version: names model, weights hash, rope, k, layers and sampling."""
    return scorer_version(scorer_spec(config))


def exact_scorer_spec(config: Config) -> ScorerSpec:
    """The same scorer on all rows: what the cascade falls back on."""
    return replace(scorer_spec(config), sample_rows=None)


def scoring(config: Config) -> str:
    """What scores come from: the scorer, and `+cascade=4` where exact scores stand in for some."""
    cascade = config.score.cascade
    return scorer(config) + (f"+cascade={cascade:g}" if cascade else "")
