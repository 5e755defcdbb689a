"""Columns of a Delta table for a benchmark that ends soon after."""

from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder


def columns_of(root: str | Path, name: str, *columns: str) -> pa.Table:
    """These columns of a table of a root, rows in the order of the first.

    Not by `to_pyarrow_table`: its files are Python objects in threads of Arrow's, and a process
    that ends while a thread lets go of one is aborted (one of five, on two busy cores).
    """
    query = QueryBuilder().register(name, DeltaTable(f"{root}/{name}"))
    sql = f"SELECT {', '.join(columns)} FROM {name} ORDER BY 1"
    return pa.table(query.execute(sql).read_all())
