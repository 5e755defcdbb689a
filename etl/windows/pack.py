"""Short documents packed into windows, group by group, each group in one task."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from longattn.udfs.ddl import ddl
from longattn.udfs.windows.cut import PACKED_SCHEMA, PackSpec, pack_table
from longattn.udfs.windows.similar import Gain

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_TOKENS = 1 << 24  # packed together, in one task
TOGETHER = 4096  # records of a file that stay together
KIN = 1024  # documents that have an n-gram, beyond which it says nothing of any of them

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

    Their columns are doc_id, source_uri, source_row and meta, by source `files` too; at random the
    id alone, and where they follow their like, the id and kin.
    """

    name: str | None  # source, repository, similar, or at random
    seed: int
    repository: str | None = None  # the field of `meta` that names it
    path: str | None = None  # the field of `meta` that has a file's path there

    @property
    def scattered(self) -> bool:
        """Whether a document's place follows from the group's members, wherever they are from."""
        return self.name in (None, "similar")

    def unit(self) -> Column:
        """What a group has as a whole: a document, or those that share an n-gram; a part of a file,
        a folder or a repository.
        """
        if self.name is None:
            return F.col("doc_id")
        if self.name == "similar":
            return F.coalesce(F.col("kin").cast("string"), "doc_id")
        row = F.col("source_row")  # null where a file or a table does not number its records
        numbered = F.concat_ws("|", "source_uri", F.floor(row / TOGETHER))
        part = F.when(row.isNull(), F.col("doc_id")).otherwise(numbered)
        if self.name == "repository":
            return F.coalesce(_field(self.repository), part)
        share = F.pmod(F.xxhash64("source_uri"), F.ceil(F.col("files") / TOGETHER))
        in_folder = F.concat(_folder(), F.lit("|"), share)  # null where files is
        return F.coalesce(in_folder, part)

    def place(self) -> Column:
        """What documents of a group are sorted by, and after it by id."""
        if self.scattered:
            return F.sha2(F.concat_ws("|", F.lit(self.seed), "doc_id"), 256)
        return F.struct(self.unit(), self.file(), "source_uri", "source_row")

    def file(self) -> Column:
        """The path of a file in its repository, or that of the source's file."""
        return F.coalesce(_field(self.path), "source_uri")


def grouped(
    documents: DataFrame, groups: Mapping[str, int], order: Order, recipe: str
) -> DataFrame:
    """doc_id, domain and n_tokens if it is there, `packed_from` and `place`.

    `packed_from` is a name of the group that a document is packed in, and `place` its number there.
    Groups are drawn by a hash of what stays together. The name is a digest of the recipe and of all
    documents of the group, so that a group with another member is another group.
    """
    if order.name == "similar":
        documents = _with_kin(documents)
    if order.name == "source":
        documents = _with_files(documents)
    drawn = documents.withColumn("group", _group(groups, order))
    members = F.sort_array(F.collect_list(F.struct(order.place().alias("place"), "doc_id")))
    ids = F.transform(members, lambda member: member["doc_id"])
    digested = F.sort_array(ids) if order.scattered else ids
    named = F.sha2(F.concat_ws("|", F.lit(recipe), "domain", F.array_join(digested, ",")), 256)
    name = F.substring(named, 1, 32).alias("packed_from")
    names = drawn.groupBy("domain", "group").agg(name, ids.alias("ids"))
    placed = names.select("packed_from", F.posexplode("ids").alias("place", "doc_id"))
    if order.name == "repository":
        documents = documents.withColumns({"repository": order.unit(), "path": order.file()})
    else:
        documents = documents.drop("imports")
    rest = ("source_uri", "source_row", "meta", "sketch", "kin", "files")
    return documents.drop(*rest).join(placed, "doc_id")


def pack_documents(documents: DataFrame, spec: PackSpec, gain: Gain | None = None) -> DataFrame:
    """Pack documents (doc_id, domain, packed_from, place, token_ids), group by group.

    What is packed together follows from the documents and their order, not from partitions or
    slots. A gain checks what is joined for being alike.
    """

    def pack(group: "pa.Table") -> "pa.Table":
        return pack_table(group, spec, gain)

    needed = ["doc_id", "domain", "packed_from", "place", "token_ids"]
    needed += ["repository", "path", "imports"] if spec.order == "repository" else []
    groups = documents.select(*needed).groupBy("packed_from")
    return groups.applyInArrow(pack, ddl(PACKED_SCHEMA))


def _field(name: str | None) -> Column:
    """A field of `meta`, JSON, as text; null where none is named, or it is not there."""
    if name is None:
        return F.lit(None).cast("string")
    return F.try_element_at(F.from_json("meta", "map<string, string>"), F.lit(name))


def _folder() -> Column:
    return F.regexp_replace("source_uri", "[^/]*$", "")


def _with_files(documents: DataFrame) -> DataFrame:
    """Adds files: how many files of one document each the folder of such a file has; else null."""
    of_file = Window.partitionBy("domain", "source_uri")
    single = documents.withColumn("single", F.count("*").over(of_file) == 1)
    of_folder = Window.partitionBy("domain", "single", _folder())
    files = F.when(F.col("single"), F.count("*").over(of_folder))
    return single.withColumn("files", files).drop("single")


def _with_kin(documents: DataFrame) -> DataFrame:
    """Adds kin: of a document's n-grams in `sketch` the one that most others of the domain have."""
    each = documents.select("doc_id", "domain", F.explode("sketch").alias("ngram"))
    counts = each.groupBy("domain", "ngram").agg(F.count("*").alias("n"))
    shared = each.join(counts.where(F.col("n").between(2, KIN)), ["domain", "ngram"])
    kin = F.max_by("ngram", F.struct("n", "ngram")).alias("kin")
    return documents.join(shared.groupBy("doc_id").agg(kin), "doc_id", "left")


def _group(groups: Mapping[str, int], order: Order) -> Column:
    n_groups = F.lit(1)
    for domain, count in groups.items():
        n_groups = F.when(F.col("domain") == domain, count).otherwise(n_groups)
    return F.pmod(F.xxhash64(order.unit(), F.lit(order.seed)), n_groups)
