"""LongAttn on Spark: find the long training data whose far-apart tokens depend on each other.

    import longattn

    scores = longattn.score(texts, window=2048)  # pandas, no Spark
    udf = longattn.spark.score_udf(window=2048)  # a pandas UDF for a Spark column

The code is in two folders beside this one, which the links here make `longattn.etl` (tables, jobs,
commands) and `longattn.udfs` (what runs inside a worker). The wheel holds them as such.
"""

import importlib
from typing import TYPE_CHECKING, Any

from longattn.udfs import __version__

if TYPE_CHECKING:
    from longattn import spark
    from longattn.api import score

__all__ = ["__version__", "score", "spark"]


def __getattr__(name: str) -> Any:
    """`score` and `spark`, imported when they are first asked for (PEP 562)."""
    if name == "score":
        return importlib.import_module("longattn.api").score
    if name == "spark":
        return importlib.import_module("longattn.spark")
    raise AttributeError(f"module 'longattn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
