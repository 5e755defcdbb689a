"""The figures of the report, for notebooks: functions from a DataFrame to a plotly figure.

Each carries its finding, a sentence worked out from the data; `show` draws it with that as title,
as plotly and as PNG.
"""

from longattn.etl.report.figures import distribution, lengths, mix, overlap, scatter
from longattn.etl.report.picture import show
from longattn.etl.report.style import MARK
from longattn.udfs.pictures.colours import ATTENTION

__all__ = ["ATTENTION", "MARK", "distribution", "lengths", "mix", "overlap", "scatter", "show"]
