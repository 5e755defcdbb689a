"""From how far back the far gain of a selection comes, as recall has counted it."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longattn.etl.ranking.lds import octave


def far_gain(scores: DataFrame, recall: str | None, selection: DataFrame) -> dict[int, float]:
    """Shares of the mix's far gain that come from so many tokens back and farther, by octave.

    `recall` is the version that was asked. Windows count by their tokens and copies; packed ones,
    which recall has not scored, do not count.
    Empty where recall is not asked, or nothing is gained.
    """
    if recall is None:
        return {}
    scores = scores.where(F.col("scorer") == recall)
    tokens = (F.col("copies") * F.col("n_tokens").cast("bigint")).alias("tokens")
    taken = selection.where("copies > 0").select("window_id", tokens)
    measures = scores.select("window_id", F.explode("measures").alias("measure", "mean"))
    sums = measures.join(taken, "window_id").groupBy(octave(F.col("measure")).alias("octave"))
    gain = F.sum(F.col("tokens") * F.col("mean")).alias("gain")
    gains = {row["octave"]: row["gain"] for row in sums.agg(gain).where("octave > 0").collect()}
    total = sum(gains.values())
    return {d: _from(d, gains) / total for d in sorted(gains)} if total > 0 else {}


def _from(distance: int, gains: dict[int, float]) -> float:
    return sum(gain for begins, gain in gains.items() if begins >= distance)
