"""LongAttn on Spark: find the long training data whose far-apart tokens depend on each other.

The code is in two folders beside this one, which the links here make `longattn.etl` (tables, jobs,
commands) and `longattn.udfs` (what runs inside a worker). The wheel holds them as such.
"""

from longattn.udfs import __version__

__all__ = ["__version__"]
