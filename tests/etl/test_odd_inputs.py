"""Inputs that are not wrong enough to stop for: what becomes of each."""

import pyarrow as pa

from longattn.etl.scoring.job import _commit
from longattn.etl.tables.schema import SCORES


def test_a_batch_without_scores_is_no_commit() -> None:
    """Spark makes no frame of no rows."""
    types = {name: pa.string() for name in SCORES.columns}
    nothing = pa.schema(types).empty_table()
    assert _commit(None, nothing, None) == (0, 0)  # type: ignore[arg-type]
