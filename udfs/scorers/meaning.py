"""What each scorer's number is called, its unit, and what is known of it: for people to read."""

from collections.abc import Mapping
from dataclasses import dataclass

from longattn.udfs.scorers.identity import ScorerId


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """The words for a scorer's DS; `known` is what measurements say, docs/evidence.md has them."""

    name: str  # of the number, short enough for a table's head
    unit: str
    measures: str
    known: str
    strength: str = "DS"  # what ds and du are called on axes
    uniformity: str = "DU"

    @property
    def axis(self) -> str:
        return f"{self.name} ({self.unit})"


MEANINGS: Mapping[str, Meaning] = {
    "longattn": Meaning(
        name="LDS",
        unit="standard deviations within the domain",
        measures="how much of the first layer's attention goes far back, and how evenly",
        known="Published with gains in training. Of SmolLM2-135M it neither tells coherent text"
        " from shuffled nor ranks windows as the model's gain from far context does (rank"
        " correlation -0.09, 254 windows of 11 domains).",
        strength="dependency strength DS (share of attention)",
        uniformity="dependency uniformity DU (minus variance of attention)",
    ),
    "cohesion": Meaning(
        name="cohesion",
        unit="standard deviations from random order",
        measures="whether near parts share more rare words than far ones",
        known="Tells coherent text from shuffled in every domain tried, and misses joined"
        " documents. No measure of need: it runs against the gain (-0.13).",
        strength="cohesion (standard deviations)",
        uniformity="minus the share of copies",
    ),
    "recurrence": Meaning(
        name="far recurrence",
        unit="tokens of match a token",
        measures="n-grams that come back after k tokens and were not said since",
        known="Finds planted far copies. Follows the model's gain in part (0.55; 0.64 with"
        " k = 1,024). Scores shuffled text above coherent text, as the gain does.",
        strength="far recurrence (tokens of match a token)",
        uniformity="minus the variance over tokens",
    ),
    "recall": Meaning(
        name="far recall",
        unit="nats a token",
        measures="what counts of n-grams gain from far context over near",
        known="The cheap twin of the far gain: no model, milliseconds a window. Follows it at a"
        " rank correlation of 0.77 (254 windows of 11 domains), 0.46 in novels.",
        strength="far recall (nats a token)",
        uniformity="minus the variance over tokens",
    ),
    "cross_gain": Meaning(
        name="cross gain",
        unit="nats a token",
        measures="what counts of n-grams gain from the earlier documents of a packed window",
        known="Recall's counts over those of the own document. Two to three times as much where"
        " documents follow their like as at random; a language model was asked of 22 windows.",
        strength="cross gain (nats a token)",
        uniformity="minus the variance over tokens",
    ),
    "seams": Meaning(
        name="wholeness",
        unit="share of its neighbourhood",
        measures="how much less ties the text together at its weakest place than around it",
        known="A filter against joined texts, and no ranking: with a background it tells one text"
        " from 2 to 16 joined with an AUC of 0.93 to 0.96 (twelve domains).",
        strength="wholeness (share of its neighbourhood)",
        uniformity="DU (always 0)",
    ),
    "compress": Meaning(
        name="far compression",
        unit="bits a token",
        measures="what LZMA saves with the whole window as its dictionary over k tokens of it",
        known="Sees exact repetition alone (0.64). Its compression ratio is a filter more than a"
        " ranking.",
        strength="far compression (bits a token)",
        uniformity="minus the variance",
    ),
    "fargain": Meaning(
        name="far gain",
        unit="nats a token, weighted",
        measures="what a language model predicts better with far context than without (LongFilter)",
        known="The strongest published answer and the truth that the others are judged by here."
        " Costs two passes of a whole model.",
        strength="far gain (nats a token, weighted)",
        uniformity="minus the variance over tokens",
    ),
    "calibrated": Meaning(
        name="estimated far gain",
        unit="standard deviations; in a cascade nats a token, weighted",
        measures="what cheap scores say the far gain is, by a model fitted to a sample of it",
        known="As good as its fit: `longattn scorer calibrate` prints its error by document.",
        strength="estimated far gain",
        uniformity="DU (no meaning)",
    ),
    "ladm": Meaning(
        name="LADM",
        unit="attention mass",
        measures="attention between spans of 128 tokens, weighted by distance and spread (LADM)",
        known="Published with gains over random choice. Rewards a single heavy span too. Of"
        " SmolLM2-135M its rank correlation with the gain is 0.22 (55 windows of 11 domains).",
        strength="contextual dependency (attention mass)",
        uniformity="minus the variance",
    ),
    "prolong": Meaning(
        name="ProLong",
        unit="no unit",
        measures="how much one segment lowers another's perplexity, by distance (ProLong)",
        known="Follows the gain in part (0.43, 55 windows of 11 domains). Scores shuffled text"
        " above coherent text. Below random choice on one model in LADM's table.",
        strength="ProLong score",
        uniformity="DU",
    ),
    "random": Meaning(
        name="random number",
        unit="0 to 1",
        measures="nothing: the control",
        known="What agreement by chance looks like. A scorer that agrees no better tells nothing.",
        strength="random number (0 to 1)",
        uniformity="DU (always 0)",
    ),
}


def meaning_of(scorer: str) -> Meaning:
    """The meaning of a scorer, given by name or by version; of one that is not listed, its name."""
    name = ScorerId.of(scorer).name
    plain = Meaning(
        name=name, unit="its own unit", measures="see its documentation", known="Nothing yet."
    )
    return MEANINGS.get(name, plain)
