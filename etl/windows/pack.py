"""Short documents packed into windows, group by group, each group in one task."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longattn.udfs.ddl import ddl
from longattn.udfs.windows.cut import PACKED_SCHEMA, PackSpec, pack_table

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_TOKENS = 1 << 24  # packed together, in one task

# Documents whose first token stands in a window, as SQL: each is cut once at its beginning.
BEGUN = "size(filter(segments, segment -> segment.start_token = 0))"


def group_counts(tokens: Mapping[str, int], length: int) -> dict[str, int]:
    """Groups per domain: of about GROUP_TOKENS, and of 64 windows or more while there are such.

    A group's last window is the one that stays part empty, so small groups would waste room.
    """
    size = max(GROUP_TOKENS, 64 * length)
    return {domain: max(1, math.ceil(total / size)) for domain, total in tokens.items()}


def grouped(documents: DataFrame, groups: Mapping[str, int], seed: int, recipe: str) -> DataFrame:
    """Add `packed_from` to documents (doc_id, domain): a name of the group that each is packed in.

    Groups are drawn by a hash of the id. The name is a digest of the recipe and of all documents
    of the group, so that a group with another member is another group.
    """
    drawn = documents.withColumn("group", _group(groups, seed))
    members = F.array_join(F.sort_array(F.collect_list("doc_id")), ",")
    named = F.sha2(F.concat_ws("|", F.lit(recipe), "domain", members), 256)
    names = drawn.groupBy("domain", "group").agg(F.substring(named, 1, 32).alias("packed_from"))
    return drawn.join(names, ["domain", "group"]).drop("group")


def pack_documents(documents: DataFrame, spec: PackSpec) -> DataFrame:
    """Pack documents (doc_id, domain, packed_from, token_ids), group by group.

    What is packed together follows from the documents and the seed, not from partitions or slots.
    """

    def pack(group: "pa.Table") -> "pa.Table":
        return pack_table(group, spec)

    columns = documents.select("doc_id", "domain", "packed_from", "token_ids")
    return columns.groupBy("packed_from").applyInArrow(pack, ddl(PACKED_SCHEMA))


def _group(groups: Mapping[str, int], seed: int) -> Column:
    n_groups = F.lit(1)
    for domain, count in groups.items():
        n_groups = F.when(F.col("domain") == domain, count).otherwise(n_groups)
    return F.pmod(F.xxhash64("doc_id", F.lit(seed)), n_groups)
