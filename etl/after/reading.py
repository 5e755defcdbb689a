"""Two ways to read tables for a view: from their logs, in a second, or through a Spark session.

Views ask in the SQL that Spark and DataFusion, which deltalake carries, have in common.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, TableNotFoundError

from longattn.etl.config import TablesConfig
from longattn.etl.run.views import names_in
from longattn.etl.tables.features import refuse_unreadable
from longattn.etl.tables.files import naming, unchanged
from longattn.etl.tables.lease import DeltaRegister, Holder, register_location
from longattn.etl.tables.locations import is_catalog_name, location
from longattn.etl.tables.lost import refuse_lost
from longattn.etl.tables.schema import BOUNDED, TABLES, TableSpec
from longattn.udfs.errors import TableError, UnsupportedTableFeature, first_line
from longattn.udfs.storage import local_path

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from longattn.etl.tables.base import Table

Row = dict[str, Any]


class Reader(ABC):
    """The tables that have been made, their sizes, and their rows by SQL."""

    made: list[str]
    holder: Holder | None  # who held the root last, as far as its lease tells
    spark: "SparkSession | None" = None

    @abstractmethod
    def size(self, name: str) -> Row:
        """version, rows, bytes and files of a table."""

    @abstractmethod
    def unchanged(self, name: str, before: int, now: int) -> bool:
        """Whether a table has the same rows at a version and at a later one."""

    @abstractmethod
    def rows(self, sql: str) -> list[Row]:
        """The rows of a query over the tables; one that is not made has none."""

    def domains(self, name: str) -> dict[str, int]:
        """Rows by domain of a table that has domains."""
        sql = f"SELECT domain, count(*) AS n FROM {name} GROUP BY domain ORDER BY domain"
        return {row["domain"]: row["n"] for row in self.rows(sql)}


class LogReader(Reader):
    """Reads tables in folders without a JVM: their logs, and columns of their files."""

    def __init__(self, tables: dict[str, DeltaTable], holder: Holder | None) -> None:
        self.tables, self.holder = tables, holder
        self.made = list(tables)

    @cached_property
    def _query(self) -> QueryBuilder:
        query = QueryBuilder()
        for name in TABLES:
            _register(query, name, self.tables.get(name))
        return query

    def size(self, name: str) -> Row:
        files = self._files(name)
        sizes, counts = (files[column] for column in ("size_bytes", "num_records"))
        rows = self._count(name) if None in counts else sum(counts)
        version = self.tables[name].version()
        return {"version": version, "rows": rows, "bytes": sum(sizes), "files": len(sizes)}

    def unchanged(self, name: str, before: int, now: int) -> bool:
        return unchanged(self.tables[name].table_uri, before, now)

    def domains(self, name: str) -> dict[str, int]:
        files = self._files(name)
        if "partition.domain" not in files or None in files["num_records"]:
            return super().domains(name)
        domains = dict.fromkeys(sorted(set(files["partition.domain"])), 0)
        for domain, count in zip(files["partition.domain"], files["num_records"], strict=True):
            domains[domain] += count
        return domains

    def rows(self, sql: str) -> list[Row]:
        try:
            table = self._query.execute(sql).read_all()
        except Exception as error:  # DataFusion has no class of its own
            raise TableError(
                f"{', '.join(self.made)}: they cannot be read: {first_line(error)}"
            ) from None
        columns = [table[name].to_pylist() for name in table.column_names]
        rows = zip(*columns, strict=True)
        return [dict(zip(table.column_names, row, strict=True)) for row in rows]

    def _count(self, name: str) -> int:
        (row,) = self.rows(f"SELECT count(*) AS n FROM {name}")
        return int(row["n"])

    def _files(self, name: str) -> dict[str, list[Any]]:
        """What the log says of a table's data files, by column."""
        with naming(self.tables[name].table_uri):
            actions = self.tables[name].get_add_actions(flatten=True)
        columns = {column: list(actions[column].to_pylist()) for column in actions.schema.names}
        return {"num_records": [None] * actions.num_rows, **columns}


def _register(query: QueryBuilder, name: str, table: DeltaTable | None) -> None:
    """A table with the columns of its spec: null where an older version of us made it without."""
    spec = TABLES[name]
    if table is None:
        query.execute(f"CREATE VIEW {name} AS SELECT {_nulls(spec, spec.columns)} WHERE 1 = 0")
    elif lacking := spec.lacking([field.name for field in table.schema().fields]):
        query.register(f"{name}_as_made", table)
        columns = _nulls(spec, lacking)
        query.execute(f"CREATE VIEW {name} AS SELECT *, {columns} FROM {name}_as_made")
    else:
        query.register(name, table)


def _nulls(spec: TableSpec, columns: Iterable[str]) -> str:
    """Columns that are null; of a type where SQL has a word for it."""
    types = {name: type_ for name, (type_, _) in spec.columns.items() if type_ in BOUNDED}
    return ", ".join(
        f"CAST(NULL AS {types[name]}) AS {name}" if name in types else f"NULL AS {name}"
        for name in columns
    )


class SessionReader(Reader):
    """Reads tables through a session, whatever they are; raises LostLogError as the other does, but
    knows of no versions that runs have left.
    """

    def __init__(self, tables: "dict[str, Table]", holder: Holder | None) -> None:
        self.holder = holder
        for table in tables.values():
            refuse_lost(table.location, table.version(), None)
        self.sizes = {name: detail for name, t in tables.items() if (detail := t.detail())}
        self.made, self.tables = list(self.sizes), tables
        self.spark: SparkSession = next(iter(tables.values())).spark

    def size(self, name: str) -> Row:
        return asdict(self.sizes[name])

    def unchanged(self, name: str, before: int, now: int) -> bool:
        return self.tables[name].unchanged(before, now)

    def rows(self, sql: str) -> list[Row]:
        from longattn.etl.run.frames import by_sql

        tables = {name: self.tables[name].read() for name in names_in(sql) if name in TABLES}
        return [row.asDict(recursive=True) for row in by_sql(self.spark, sql, tables).collect()]


def read_logs(config: TablesConfig) -> LogReader | None:
    """A reader of the tables' logs; None where only a session can open the tables.

    Raises LostLogError for a table that has lost its log, or the end of it.
    """
    if is_catalog_name(config.root) or local_path(config.root) is None:
        return None
    holder, tables = _last_holder(config.root), {}
    known = holder.versions if holder else {}
    for name in TABLES:
        path = str(local_path(location(config.root, name)))
        try:
            table = _open(path)
        except (DeltaError, UnsupportedTableFeature):
            return None
        refuse_lost(path, table.version() if table else None, known.get(name))
        if table:
            tables[name] = table
    return LogReader(tables, holder)


def _open(path: str) -> DeltaTable | None:
    try:
        table = DeltaTable(path)
    except TableNotFoundError:
        return None
    refuse_unreadable(table, path)
    return table


def _last_holder(root: str) -> Holder | None:
    """Who held the root last, and the versions at which it left the tables; None: nobody has."""
    place = register_location(root)
    register = DeltaRegister(place)
    with naming(place):
        return register.read()[1] if register.exists() else None
