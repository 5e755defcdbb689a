"""Names that hold a configuration apart from every other: windowing and scorer.

Rows of two windowings, or of two scorers, live in one table and never mix; each job reads the rows
of the names its config gives.
"""

from dataclasses import replace
from pathlib import Path

from longattn.etl.config import Config, ScorerSettings, own_ranking
from longattn.udfs.errors import ConfigError
from longattn.udfs.models.precision import dtype_of
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.kinds.calibrated import Calibration, run_as
from longattn.udfs.scorers.meaning import Meaning, meaning_of
from longattn.udfs.scorers.registry import plugin, reads_model, scorer_version
from longattn.udfs.text.tokens import tokenizer_name, vocabulary

SAME_TOKENS = 0.99  # of a vocabulary: an instructed model's has a few special tokens of its own


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
    asked = config.tokenizer is not None and reads_model(config.score.scorer)
    if not asked or not Path(config.score.model).is_dir():
        return
    try:
        own, its_ids = tokenizer_name(config.score.model), vocabulary(config.score.model)
    except ConfigError:
        return
    ours, our_ids = tokenizer_name(config.tokenizer_path), vocabulary(config.tokenizer_path)
    same = sum(its_ids.get(token) == number for token, number in our_ids.items())
    if same < SAME_TOKENS * len(our_ids):
        raise ConfigError(
            f"tokenizer: {ours} is not that of score.model, {own}: its ids are other words to the"
            " model; leave `tokenizer` out"
        )


def scorer_spec(config: Config, name: str | None = None) -> ScorerSpec:
    """The settings of the config's scorer, or of another one by name, as the executors take them.

    Another scorer has the settings that score.also gives it, and else the defaults; its model is
    score.model where it names none.
    """
    score = config.score
    settings: ScorerSettings = score
    if name is not None and name != score.scorer:
        settings = score.also.get(name, ScorerSettings())
    scorer = name or score.scorer
    k = settings.k or (config.window.k if "k" in plugin(scorer).settings else None)
    return ScorerSpec(
        scorer=scorer,
        model=settings.model or score.model,
        k=k,
        sample_rows=settings.sample_rows,
        sample_keys=settings.sample_keys,
        layers=tuple(settings.layers),
        dtype=dtype_of(settings.dtype, score.device),
        device=score.device,
        rope_theta=settings.rope_theta,
        bos=settings.bos,
        batch_tokens=score.batch,
        threads=score.threads,
        seed=config.seed,
        pairs=settings.pairs,
        stride=settings.stride,
        variant=settings.variant,
        options=tuple(sorted(settings.options.items())),
    )


def scorer_specs(config: Config) -> list[ScorerSpec]:
    """All scorers that the config has scores of: its own, score.also, and those select names."""
    select = config.select
    named = [n for n in (*select.by_scorers, *select.where_scorers) if ":" not in n]
    wanted = dict.fromkeys([config.score.scorer, *config.score.also, *named])
    return [scorer_spec(config, name) for name in wanted]


def scorer(config: Config) -> str:
    """The scorer's version: names model, weights hash, rope, k, layers and sampling."""
    return scorer_version(scorer_spec(config))


def exact_scorer_spec(config: Config) -> ScorerSpec:
    """What the cascade falls back on: the same scorer on all rows, or what a calibration is of."""
    spec = scorer_spec(config)
    if spec.scorer == "calibrated":
        return run_as(Calibration.read(spec.model).truth, spec)
    return replace(spec, sample_rows=None)


def calibration(config: Config) -> Calibration | None:
    """What turns the scores of the scorer calibrated into its truth's; None for other scorers."""
    score = config.score
    return Calibration.read(score.model) if score.scorer == "calibrated" else None


def ranking(config: Config) -> str:
    """What a selection ranks by, for people: `LDS`, `recall`, `length`, `recall + 0.5 cohesion`."""
    by, scorer_ = config.select.by, config.score.scorer
    if isinstance(by, dict):
        terms = (name if weight == 1 else f"{weight:g} {name}" for name, weight in by.items())
        return " + ".join(terms)
    if by == "column":
        return str(config.select.column)
    if scorer_ != "longattn" and by in ("lds", "ds", "du"):
        return scorer_ if by == own_ranking(scorer_) else f"{by.upper()} of {scorer_}"
    return by.upper() if by in ("lds", "ds", "du") else by


def scoring(config: Config) -> str:
    """What scores come from: the scorer, and `+cascade=4` where exact scores stand in for some."""
    cascade = config.score.cascade
    return scorer(config) + (f"+cascade={cascade:g}" if cascade else "")


def ranked_by(config: Config) -> Meaning:
    """What the number is that the selection ranks by, in words."""
    by, own = config.select.by, meaning_of(config.score.scorer)
    longattn = config.score.scorer == "longattn"
    if by == "lds":
        return own if longattn else replace(own, unit="DS and DU, each standardised, and added")
    if by == "ds":
        return replace(own, name="DS", unit="share of attention") if longattn else own
    if by == "du":
        return replace(own, name="DU", unit="minus variance", measures="how evenly it is spread")
    if by == "length":
        return replace(
            own, name="length", unit="tokens", measures="how long the document is", known=""
        )
    if isinstance(by, dict):
        weighted = " + ".join(f"{weight:g} {name}" for name, weight in by.items())
        return replace(own, name=weighted, unit="standardised", measures="several scores", known="")
    return meaning_of(config.select.column or by)
