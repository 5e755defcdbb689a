"""Short documents packed into windows, group by group, each group in one task."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longattn.udfs.ddl import ddl
from longattn.udfs.windows.cut import PACKED_SCHEMA, PackSpec, pack_table

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_TOKENS = 1 << 24  # packed together, in one task
TOGETHER = 4096  # records of a file that stay together

# Documents whose first token stands in a window, as SQL: each is cut once at its beginning.
BEGUN = "size(filter(segments, segment -> segment.start_token = 0))"


def group_counts(tokens: Mapping[str, int], length: int) -> dict[str, int]:
    """Groups per domain: of about GROUP_TOKENS, and of 64 windows or more while there are such.

    A group's last window is the one that stays part empty, so small groups would waste room.
    """
    size = max(GROUP_TOKENS, 64 * length)
    return {domain: max(1, math.ceil(total / size)) for domain, total in tokens.items()}


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which documents are packed together, and one after the other.

    Their columns are doc_id, source_uri, source_row and meta; at random the id alone.
    """

    name: str | None  # source, repository, or at random
    seed: int
    repository: str | None = None  # the field of `meta` that names it

    def unit(self) -> Column:
        """What a group has as a whole: a document, a part of a file, a folder or a repository."""
        if self.name is None:
            return F.col("doc_id")
        if self.name == "repository":
            return F.coalesce(F.col("meta")[self.repository], "source_uri")
        part = F.concat_ws("|", "source_uri", F.floor(F.col("source_row") / TOGETHER))
        folder = F.regexp_replace("source_uri", "[^/]*$", "")
        return F.when(F.col("source_row").isNull(), folder).otherwise(part)

    def place(self) -> Column:
        """What documents of a group are sorted by, and after it by id."""
        if self.name is None:
            return F.sha2(F.concat_ws("|", F.lit(self.seed), "doc_id"), 256)
        return F.struct(self.unit(), "source_uri", "source_row")


def grouped(
    documents: DataFrame, groups: Mapping[str, int], order: Order, recipe: str
) -> DataFrame:
    """doc_id, domain and n_tokens if it is there, `packed_from` and `place`.

    `packed_from` is a name of the group that a document is packed in, and `place` its number there.
    Groups are drawn by a hash of what stays together. The name is a digest of the recipe and of all
    documents of the group, so that a group with another member is another group.
    """
    drawn = documents.withColumn("group", _group(groups, order))
    members = F.sort_array(F.collect_list(F.struct(order.place().alias("place"), "doc_id")))
    ids = F.transform(members, lambda member: member["doc_id"])
    digested = F.sort_array(ids) if order.name is None else ids
    named = F.sha2(F.concat_ws("|", F.lit(recipe), "domain", F.array_join(digested, ",")), 256)
    name = F.substring(named, 1, 32).alias("packed_from")
    names = drawn.groupBy("domain", "group").agg(name, ids.alias("ids"))
    placed = names.select("packed_from", F.posexplode("ids").alias("place", "doc_id"))
    return documents.drop("source_uri", "source_row", "meta").join(placed, "doc_id")


def pack_documents(documents: DataFrame, spec: PackSpec) -> DataFrame:
    """Pack documents (doc_id, domain, packed_from, place, token_ids), group by group.

    What is packed together follows from the documents and their order, not from partitions or
    slots.
    """

    def pack(group: "pa.Table") -> "pa.Table":
        return pack_table(group, spec)

    columns = documents.select("doc_id", "domain", "packed_from", "place", "token_ids")
    return columns.groupBy("packed_from").applyInArrow(pack, ddl(PACKED_SCHEMA))


def _group(groups: Mapping[str, int], order: Order) -> Column:
    n_groups = F.lit(1)
    for domain, count in groups.items():
        n_groups = F.when(F.col("domain") == domain, count).otherwise(n_groups)
    return F.pmod(F.xxhash64(order.unit(), F.lit(order.seed)), n_groups)
