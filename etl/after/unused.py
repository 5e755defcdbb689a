"""Rows that no job reads: of documents that no source has, and of windows that are gone.

Tables are a cache, so a job leaves such rows where they are and reads past them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame

from longattn.etl.after.forget import Step, steps
from longattn.etl.ingest.current import not_in_sources, refuse_unlisted
from longattn.etl.run.context import Context
from longattn.etl.tables.base import Table

# table, the table that its rows are of, the column that names them
OF = (
    ("scores", "windows", "window_id"),
    ("selections", "windows", "window_id"),
    ("lengths", "documents", "doc_id"),
)


@dataclass(frozen=True, kw_only=True)
class Stranger:
    """Rows of a table that name what another table has not."""

    table: str
    of: str
    column: str
    count: int  # of distinct names
    example: str


def strangers(tables: Mapping[str, Table]) -> Iterator[Stranger]:
    """Those of the tables that are given, of which none may be damaged."""
    for table, of, column in OF:
        if {table, of} <= set(tables):
            alone = _alone(tables[table].read(), tables[of].read(), column)
            if row := alone.first():
                n = alone.count()
                yield Stranger(table=table, of=of, column=column, count=n, example=row[0])


def _alone(rows: DataFrame, of: DataFrame, column: str) -> DataFrame:
    return rows.select(column).distinct().join(of.select(column), column, "left_anti")


def unused(context: Context) -> Iterator[Step]:
    """What takes such rows of all tables; a file that names their documents again is read again.

    Raises TableError where no ingest has listed the sources: all documents would be of none.
    """
    refuse_unlisted(context)
    ids = [row["doc_id"] for row in not_in_sources(context).select("doc_id").collect()]
    yield from steps(context, ids)
    for table, of, column in OF:
        alone = _alone(context.tables.read(table), context.tables.read(of), column).collect()
        yield Step(table=table, column=column, values=[row[0] for row in alone])
