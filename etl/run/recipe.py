"""What a run is made with: the names of its windows and scores, and the scorers that it asks.

Rows of two windowings, or of two scorers, live in one table and never mix; each job reads the rows
of the names that the recipe gives. A name is worked out when it is first asked for, so that a job
without a scorer needs no model.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from longattn.etl.config import Config, ScorerSettings, own_ranking
from longattn.etl.config.identity import decisive
from longattn.udfs.digest import fields_digest
from longattn.udfs.errors import ConfigError, LongAttnError
from longattn.udfs.models.precision import dtype_of
from longattn.udfs.scorers.background import refuse_other_ids
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.identity import ScorerId
from longattn.udfs.scorers.kinds.calibrated import Calibration, run_as
from longattn.udfs.scorers.kinds.recall import K, octaves
from longattn.udfs.scorers.meaning import Meaning, meaning_of
from longattn.udfs.scorers.needs import own_tokenizer, with_background
from longattn.udfs.scorers.registry import (
    CROSS_GAIN,
    checked,
    plugin,
    reads_model,
    scorer_version,
)
from longattn.udfs.text.tokens import tokenizer_name, vocabulary

SAME_TOKENS = 0.99  # of a vocabulary: an instructed model's has a few special tokens of its own


@dataclass(frozen=True)
class Recipe:
    """All that a run's config names, as tokenizer and scorers are now."""

    config: Config

    @cached_property
    def tokenizer(self) -> str:
        """For example `SmolLM2-135M@ab12cd34`."""
        return tokenizer_name(self.config.tokenizer_path)

    @cached_property
    def windowing(self) -> str:
        """For example `longattn-8192:SmolLM2-135M@ab12cd34`; `-bos` when BOS is a token of it.

        Of several lengths all of them, `tile-8192+32768:...`; rows have a name of `cuttings`.
        """
        return self._windowing("+".join(map(str, self.config.lengths)))

    @cached_property
    def cuttings(self) -> dict[int, str]:
        """The windowing of each length that documents are cut at, the shortest first."""
        return {length: self._windowing(str(length)) for length in self.config.lengths}

    def _windowing(self, length: str) -> str:
        window = self.config.window
        bos = "-bos" if window.bos else ""
        return f"{window.strategy}-{length}{bos}:{self.tokenizer}"

    @cached_property
    def packing(self) -> str:
        """As windowing, for the domains that are packed: for example `best_fit-8192:SmolLM2@ab12`.

        The order, the separator and the seed are part of it where they are not the defaults.
        """
        window, pack, seed = self.config.window, self.config.pack, self.config.seed
        marks = "-bos" if window.bos else ""
        fields = ".".join(name for name in (pack.order, pack.repository, pack.path) if name)
        marks += f"-by({fields})" if fields else ""
        marks += "-verified" if pack.verify else ""
        marks += f"-sep({pack.separator})" if pack.separator else ""
        marks += f"-seed{seed}" if seed else ""
        return f"{pack.strategy}-{window.length}{marks}:{self.tokenizer}"

    @property
    def windowings(self) -> tuple[str, str]:
        """Of windows that are cut, and of those that are packed."""
        return self.windowing, self.packing

    @cached_property
    def scored_domains(self) -> list[str]:
        """score.domains, or all domains that are not packed."""
        packed = self.config.pack.domains
        return self.config.score.domains or [d for d in self.config.sources if d not in packed]

    def spec(self, name: str | None = None) -> ScorerSpec:
        """The settings of the config's scorer, or of another one by name, as executors take them.

        Another scorer has the settings that score.also gives it, and else the defaults; its model
        is score.model where it names none. Raises ConfigError for settings that it does not have.
        """
        score, scorer = self.config.score, name or self.config.score.scorer
        settings, key = self.settings_of(scorer), self.key_of(scorer)
        own = plugin(scorer, "score.scorer" if key == "score" else "score.also").settings
        k = settings.k or (self.config.window.k if "k" in own else None)
        spec = ScorerSpec(
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
            seed=self.config.seed,
            pairs=settings.pairs,
            stride=settings.stride,
            variant=settings.variant,
            background=settings.background,
            options=tuple(sorted(settings.options.items())),
        )
        checked(spec, key)
        return with_background(spec, self.config.tokenizer_path)

    def settings_of(self, scorer: str) -> ScorerSettings:
        """What the config sets of a scorer by name: score is its own scorer's."""
        score = self.config.score
        return score if scorer == score.scorer else score.also.get(scorer, ScorerSettings())

    def key_of(self, scorer: str) -> str:
        """Where the settings of a scorer stand in the config."""
        return "score" if scorer == self.config.score.scorer else f"score.also.{scorer}"

    @property
    def scorers(self) -> list[str]:
        """Names of all scorers of which the config has scores, its own first."""
        select, score = self.config.select, self.config.score
        named = [n for n in (*select.by_scorers, *select.where_scorers) if ":" not in n]
        return [*dict.fromkeys([score.scorer, *score.also, *named])]

    @cached_property
    def specs(self) -> tuple[ScorerSpec, ...]:
        """All scorers that the config has scores of: its own, score.also, and those select names.

        Raises ConfigError for one whose model reads other ids than the windows have.
        """
        return tuple(self.readable(self.spec(name)) for name in self.scorers)

    @cached_property
    def cross_gain(self) -> ScorerSpec | None:
        """What scores packed windows, with recall's background; None where nothing does."""
        if not (self.config.pack.score and self.config.pack.domains):
            return None
        return self.readable(replace(self.spec("recall"), scorer=CROSS_GAIN, k=None))

    @property
    def recall(self) -> str | None:
        """The version of the scorer recall; None where the config does not ask it."""
        asked = {self.config.score.scorer, *self.config.score.also, *self.config.select.by_scorers}
        return scorer_version(self.spec("recall")) if "recall" in asked else None

    @property
    def asked(self) -> tuple[ScorerSpec, ...]:
        """All that job score asks: specs where a domain is cut and scored, and cross gain."""
        return (*(self.specs if self.cuts_windows else ()), *filter(None, [self.cross_gain]))

    @property
    def cuts_windows(self) -> bool:
        """Whether windows are cut of any domain; packed ones are scored by cross gain alone."""
        return bool(self.scored_domains or not self.config.pack.domains)

    @cached_property
    def scorer(self) -> ScorerId:
        """The config's own scorer: its version names model, weights, rope, k, layers, sampling."""
        return ScorerId.of(scorer_version(self.spec()))

    def version_of(self, named: str) -> str | None:
        """The config's version of a scorer; None of one that it cannot have, as with no model."""
        try:
            return None if ":" in named else scorer_version(self.spec(named))
        except LongAttnError:
            return None

    @cached_property
    def exact(self) -> ScorerSpec:
        """What the cascade falls back on: the scorer on all rows, or what a calibration is of."""
        spec = self.spec()
        if spec.scorer == "calibrated":
            return run_as(Calibration.read(spec.model).truth, spec)
        return replace(spec, sample_rows=None)

    @property
    def near_cut(self) -> str | None:
        """The version of the exact scores that the cascade adds, of windows near the cut alone."""
        return scorer_version(self.exact) if self.config.score.cascade else None

    @cached_property
    def calibration(self) -> Calibration | None:
        """What turns scores of the scorer calibrated into its truth's; None for other scorers."""
        score = self.config.score
        return Calibration.read(score.model) if score.scorer == "calibrated" else None

    @cached_property
    def scoring(self) -> str:
        """What scores come from: the scorer, and `+cascade=4` where exact scores replace some."""
        cascade = self.config.score.cascade
        return self.scorer.version + (f"+cascade={cascade:g}" if cascade else "")

    @property
    def ranking(self) -> str:
        """What a selection ranks by, for people: `LDS`, `length`, `recall + 0.5 cohesion`."""
        by, scorer = self.config.select.by, self.config.score.scorer
        if isinstance(by, dict):
            factors = ("" if weight == 1 else f"{weight:g} " for weight in by.values())
            names = map(self._from_afar, by)
            return " + ".join(map(str.__add__, factors, names))
        if by == "column":
            return str(self.config.select.column)
        if self.config.select.distance:
            return self._from_afar("recall")
        if scorer != "longattn" and by in ("lds", "ds", "du"):
            return scorer if by == own_ranking(scorer) else f"{by.upper()} of {scorer}"
        return by.upper() if by in ("lds", "ds", "du") else by

    def _from_afar(self, scorer: str) -> str:
        """The scorer as it ranks: recall may count from a distance on."""
        distance = self.config.select.distance
        if not distance or ScorerId.of(scorer).name != "recall":
            return scorer
        far = f"{distance:,} tokens" if isinstance(distance, int) else "weighted distances"
        return f"recall from {far}"

    @property
    def ranker(self) -> str:
        """What a selected score is of: a scorer's version, several with weights, or `length`."""
        select = self.config.select
        if select.distance:
            return f"{scorer_version(self.spec('recall'))}: {self.ranking}"
        if select.by_scorer == self.config.score.scorer:
            return self.scoring
        if name := select.by_scorer:
            return name if ":" in name else scorer_version(self.spec(name))
        return self.scoring if select.by in (None, "lds", "ds", "du") else self.ranking

    @property
    def ranked_as_scored(self) -> bool:
        """Whether windows are ranked by one scorer's scores as they are: their rows name it."""
        select, cascade = self.config.select, self.config.score.cascade
        by_cascade = cascade and select.by_scorer == self.config.score.scorer
        return bool(select.by_scorer and not select.distance and not by_cascade)

    @property
    def packed_ranker(self) -> str | None:
        """What the score of packed windows is of; None where they have none."""
        if self.cross_gain is None:
            return None
        at_random = self.config.select.by == "random"
        return self.ranker if at_random else scorer_version(self.cross_gain)

    @property
    def meaning(self) -> Meaning:
        """What the number is that the selection ranks by, in words."""
        by, own = self.config.select.by, meaning_of(self.config.score.scorer)
        longattn = self.config.score.scorer == "longattn"
        if by == "lds":
            return own if longattn else replace(own, unit="DS and DU, each standardised, and added")
        if by == "ds":
            return replace(own, name="DS", unit="share of attention") if longattn else own
        if by == "du":
            measures = "how evenly it is spread"
            return replace(own, name="DU", unit="minus variance", measures=measures)
        if by == "length":
            measures = "how long the document is"
            return replace(own, name="length", unit="tokens", measures=measures, known="")
        if isinstance(by, dict):
            words = {"unit": "standardised", "measures": "several scores", "known": ""}
            return replace(own, name=self.ranking, **words)
        return meaning_of(str(self.config.select.column if by == "column" else by))

    def refuse_other_distances(self) -> None:
        """Raise ConfigError where select.distance is at no octave of recall's gain."""
        distance = self.config.select.distance
        if distance is None:
            return
        length = self.config.lengths[0]  # the shortest
        known = octaves(length, self.spec("recall").k or K)
        asked = [distance] if isinstance(distance, int) else distance
        for one in asked:
            if one not in known:
                listed = ", ".join(f"{octave:,}" for octave in known)
                raise ConfigError(
                    f"select.distance: {one:,} is no octave of recall's gain; of windows of"
                    f" {length:,} tokens these are {listed}"
                )

    def selects(self, evaluations: Collection[str]) -> str:
        """16 hex digits that name all that a selection depends on but the rows of tables."""
        config = self.config
        scorers = [config.score.scorer, *config.select.by_scorers, *config.select.where_scorers]
        return fields_digest(
            config={key: value for key, value in decisive(config).items() if key != "export"},
            windowings=self.windowings,
            scorers={scorer: self.version_of(scorer) for scorer in scorers},
            cross_gain=self.cross_gain and scorer_version(self.cross_gain),
            evaluations=sorted(evaluations),
        )[:16]

    def readable(self, spec: ScorerSpec) -> ScorerSpec:
        """The scorer, if the windows' ids are the same words to its model, as far as it tells.

        Raises ConfigError where they are not, and for a background of other ids. A model without a
        tokenizer cannot be asked.
        """
        refuse_other_ids(spec.background, self.tokenizer)
        own = _own_tokenizer(spec) if reads_model(spec.scorer) else None
        if own is None or own[0] == self.tokenizer:
            return spec
        (name, its_ids), our_ids = own, vocabulary(self.config.tokenizer_path)
        same = sum(its_ids.get(token) == number for token, number in our_ids.items())
        if same < SAME_TOKENS * len(our_ids):
            main = spec.scorer == self.config.score.scorer
            where = "score.model" if main else f"the model of {spec.scorer}"
            way_out = "leave `tokenizer` out" if main else "give that scorer a config of its own"
            raise ConfigError(
                f"tokenizer: {self.tokenizer} is not that of {where}, {name}: its ids are other"
                f" words to the model; {way_out}"
            )
        return spec


def _own_tokenizer(spec: ScorerSpec) -> tuple[str, dict[str, int]] | None:
    """Name and ids of the tokenizer that belongs to a scorer's model; None where it has none."""
    if not Path(spec.model).is_dir():
        return None
    try:
        path = own_tokenizer(spec)
        return tokenizer_name(path), vocabulary(path)
    except ConfigError:
        return None
