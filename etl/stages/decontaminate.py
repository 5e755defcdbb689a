"""Windows that share a long run of words with an evaluation set."""

from functools import partial

from pyspark.sql import DataFrame

from udfs.ngrams import Hashes, distinct_ngrams, overlapping_batches


def evaluation_ngrams(files: DataFrame, n: int) -> Hashes:
    """Hashes of every n words in a row of evaluation files (text), for `contaminated`.

    Evaluation sets are small: they are read on the driver, 8 bytes a word. Words are those of
    udfs.ngrams; items of fewer than n words cannot be looked for and add nothing of their own.
    """
    texts = (row["text"] for row in files.select("text").toLocalIterator())
    return distinct_ngrams(texts, n)


def contaminated(windows: DataFrame, evaluation: Hashes, n: int) -> DataFrame:
    """The window_id of windows (window_id, text) that share n words in a row with an evaluation."""
    find = partial(overlapping_batches, known=evaluation, n=n)
    return windows.select("window_id", "text").mapInArrow(find, "window_id string")
