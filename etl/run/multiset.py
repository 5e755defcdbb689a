"""A number that says whether two tables hold the same rows, whatever their order."""

from pyspark.sql import Column
from pyspark.sql import functions as F

WIDE = "decimal(20,0)"  # holds 64 bits; Spark widens it by ten digits when it adds up


def multiset_hash(*columns: str) -> Column:
    """The sum of the rows' hashes, in digits; "0" of no rows.

    Equal rows add up, where an xor would cancel them in pairs. A null changes no hash of Spark's,
    so each column is hashed with whether it is null: (null, a) and (a, null) differ.
    """
    values = [value for name in columns for value in (F.col(name), F.isnull(F.col(name)))]
    total = F.sum(F.xxhash64(*values).cast(WIDE))
    return F.coalesce(total.cast("string"), F.lit("0"))
