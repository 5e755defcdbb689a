"""Rows as a multiset: a number that tells two apart, and the refusal of rows that repeat."""

from pyspark.sql import Column
from pyspark.sql import functions as F

from longattn.udfs.errors import TableError

WIDE = "decimal(20,0)"  # holds 64 bits; Spark widens it by ten digits when it adds up


def refuse_repeated(rows: int, distinct: int, where: str) -> None:
    """Raise TableError when there are fewer distinct keys than rows."""
    if rows != distinct:
        raise TableError(
            f"{where}: {rows - distinct} of {rows} rows are there more than once, and what follows"
            " would be wrong; `longattn status --check` says which, and how to mend it"
        )


def multiset_hash(*columns: str) -> Column:
    """The sum of the rows' hashes, in digits; "0" of no rows.

    Equal rows add up, where an xor would cancel them in pairs. A null changes no hash of Spark's,
    so each column is hashed with whether it is null: (null, a) and (a, null) differ.
    """
    values = [value for name in columns for value in (F.col(name), F.isnull(F.col(name)))]
    total = F.sum(F.xxhash64(*values).cast(WIDE))
    return F.coalesce(total.cast("string"), F.lit("0"))
