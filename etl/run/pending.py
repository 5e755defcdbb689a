"""What a job has still to decide on, defined once: jobs read it, and `status` counts it by SQL."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING

from longattn.etl.run.recipe import Recipe

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

Values = Sequence[str] | Sequence[bool]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of a table: those that have one of the values in every column named."""

    table: str
    having: Mapping[str, Values] = field(default_factory=dict)
    lacking: Mapping[str, Values] = field(default_factory=dict)  # and none of these

    def of(self, rows: "DataFrame") -> "DataFrame":
        """Those of the table's rows."""
        return reduce(lambda found, condition: found.where(condition), self._columns(), rows)

    def _columns(self) -> "Iterator[Column]":
        from pyspark.sql import functions as F

        yield from (F.col(name).isin(*values) for name, values in self.having.items())
        yield from (~F.col(name).isin(*values) for name, values in self.lacking.items() if values)

    def sql(self, alias: str) -> str:
        """The same as a condition of SQL."""
        having = [f"{alias}.{c} IN ({_listed(v)})" for c, v in self.having.items()]
        lacking = [f"{alias}.{c} NOT IN ({_listed(v)})" for c, v in self.lacking.items() if v]
        return " AND ".join([*having, *lacking]) or "1 = 1"


@dataclass(frozen=True, kw_only=True)
class Pending:
    """Rows that have no counterpart, of the same key, among rows that say what is done."""

    wanted: Rows
    done: tuple[tuple[str, Rows], ...]  # key, and the rows that have it

    def left(self, rows: "DataFrame", read: "Callable[[str], DataFrame]") -> "DataFrame":
        """What is pending of `wanted.of` the table; `read` gives the other tables."""
        for key, done in self.done:
            rows = rows.join(done.of(read(done.table)).select(key), key, "left_anti")
        return rows

    def sql(self, made: Collection[str]) -> str:
        """A query for `n`, their number; of the tables only those that are made can be named."""
        conditions = [self.wanted.sql("w")]
        conditions += [
            f"NOT EXISTS (SELECT 1 FROM {done.table} x WHERE x.{key} = w.{key} AND {done.sql('x')})"
            for key, done in self.done
            if done.table in made
        ]
        return f"SELECT count(*) AS n FROM {self.wanted.table} w WHERE {' AND '.join(conditions)}"


TO_HASH = Pending(wanted=Rows(table="documents"), done=(("doc_id", Rows(table="signatures")),))


def to_measure(recipe: Recipe) -> list[Pending]:
    """Documents to be cut, and documents to be packed."""
    packed, duplicates = recipe.config.pack.domains, ("doc_id", Rows(table="duplicates"))
    cut = Rows(table="documents", lacking={"domain": packed})
    joined = Rows(table="documents", having={"domain": packed})
    parts = [(cut, recipe.windowing), *([(joined, recipe.packing)] if packed else [])]
    return [
        Pending(wanted=rows, done=(duplicates, ("doc_id", _measured(windowing))))
        for rows, windowing in parts
    ]


def _measured(windowing: str) -> Rows:
    return Rows(table="lengths", having={"windowing": [windowing]})


def to_score(recipe: Recipe, version: str, evaluations: Collection[str] = ()) -> Pending:
    """Windows of kept documents that a scorer has not seen, less those that an evaluation has."""
    mine: dict[str, Values] = {"windowing": [recipe.windowing], "domain": recipe.scored_domains}
    hits: dict[str, Values] = {"evaluation": list(evaluations), "contaminated": [True]}
    clean = [("window_id", Rows(table="contamination", having=hits))] if evaluations else []
    return Pending(
        wanted=Rows(table="windows", having=mine),
        done=(
            ("doc_id", Rows(table="duplicates")),
            ("window_id", Rows(table="scores", having={"scorer": [version]})),
            *clean,
        ),
    )


def _listed(values: Values) -> str:
    """Values as SQL lists them; of no values, what nothing is equal to."""
    return ", ".join(map(_literal, values)) or "NULL"


def _literal(value: str | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "'" + value.replace("'", "''") + "'"
