"""Scores of a Spark column: `longattn.spark.score_udf`."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from longattn.api import STRUCT, WINDOW, Loaded, Windowed, tasks_of
from longattn.udfs.errors import ConfigError, extras_named
from longattn.udfs.scorers import worker

TYPES = {"object": "string", "Int32": "int", "Int64": "bigint", "float64": "double"}
FIELDS = {name: TYPES[kind] for name, kind in STRUCT.items()} | {"measures": "map<string,double>"}
DDL = f"array<struct<{', '.join(f'{name}: {kind}' for name, kind in FIELDS.items())}>>"


def score_udf(
    scorer: str = "recall",
    *,
    window: int = WINDOW,
    tokenizer: str | None = None,
    model: str | None = None,
    strategy: str = "longattn",
    **settings: Any,
) -> Any:
    """A pandas UDF from a column of texts to a column of arrays: a struct per window, never empty.

    The struct has the columns of `longattn.score` but for `scorer` and `tokenizer`, which are
    the same for all; so are the arguments. Scorer and tokenizer are loaded once per worker. The
    workers need this package: the wheel, or `--py-files dist/longattn.zip`.

        score = longattn.spark.score_udf("recall", window=2048)
        rows = df.select("id", F.explode(score("text")).alias("s")).select("id", "s.*")

    Raises ConfigError for an unknown scorer or setting, or without pyspark.
    """
    with extras_named():
        from pyspark.sql.pandas.functions import pandas_udf
    made: Any = pandas_udf  # its types know no function to arrays of structs
    task, *others = tasks_of(scorer, window, tokenizer, model, strategy, settings)
    if others:
        raise ConfigError(f"scorer: a udf has one, got {1 + len(others)}: make a udf of each")
    return made(_scored_by(task), DDL)


def _scored_by(task: Windowed) -> Any:
    def score(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        loaded = Loaded(task, worker.loaded(task.spec, _gpu_address()))
        for texts in batches:
            yield pd.Series([rows for _, rows in loaded.rows(enumerate(texts))], dtype=object)

    # pandas_udf reads the kind of function from these, and not from postponed annotations
    score.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.Series]}
    return score


def _gpu_address() -> str | None:
    """The GPU that Spark gave this task; None where it gave none."""
    from pyspark import TaskContext

    context = TaskContext.get()
    resources = context.resources() if context else {}
    return resources["gpu"].addresses[0] if "gpu" in resources else None
