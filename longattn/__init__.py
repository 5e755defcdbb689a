"""LongAttn on Spark: rank long documents by what their far context is worth to a language model.

    import longattn

    scores = longattn.score(texts)  # a pandas DataFrame, a row a window; no Spark
    print(longattn.compare(texts))  # what several scorers say of the same windows
    udf = longattn.spark.score_udf()  # a pandas UDF for a Spark column
    result = longattn.run("longattn.yaml", to="select")  # the jobs, on Spark and Delta tables
    choice = longattn.Candidates("longattn.yaml").choose(fraction=0.2)  # nothing is written

The code is in two folders beside this one, which the links here make `longattn.etl` (tables, jobs,
commands) and `longattn.udfs` (what runs inside a worker). The wheel holds them as such.
"""

import importlib
from typing import TYPE_CHECKING, Any

from longattn.udfs import __version__

if TYPE_CHECKING:
    from longattn import figures, spark
    from longattn.api import score
    from longattn.choosing import Candidates, Choice
    from longattn.comparison import Comparison, compare
    from longattn.etl.export.blend import blend
    from longattn.etl.export.order import epoch_order
    from longattn.etl.run.jobs import JOBS
    from longattn.pipeline import Result, run

__all__ = [
    "JOBS",
    "Candidates",
    "Choice",
    "Comparison",
    "Result",
    "__version__",
    "blend",
    "compare",
    "epoch_order",
    "figures",
    "run",
    "score",
    "spark",
]

HOMES = {
    "score": "api",
    "compare": "comparison",
    "Comparison": "comparison",
    "Candidates": "choosing",
    "Choice": "choosing",
    "run": "pipeline",
    "Result": "pipeline",
    "JOBS": "etl.run.jobs",
    "blend": "etl.export.blend",
    "epoch_order": "etl.export.order",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first asked for (PEP 562)."""
    if name in ("figures", "spark"):
        return importlib.import_module(f"longattn.{name}")
    if name in HOMES:
        return getattr(importlib.import_module(f"longattn.{HOMES[name]}"), name)
    raise AttributeError(f"module 'longattn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
