"""Source files into staged rows, and staged rows into documents, rejects and finished files."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from longattn.etl.config import Config
from longattn.etl.run.frames import in_columns_of
from longattn.etl.tables.schema import DOCUMENTS, LENGTHS, ORIGINS, REJECTS
from longattn.udfs.documents import bytes as raw
from longattn.udfs.documents import formats as sources
from longattn.udfs.documents.bytes import Split
from longattn.udfs.documents.formats import Item, SourceSpec
from longattn.udfs.documents.records import STAGED_DDL, to_batches, to_row
from longattn.udfs.text.tokens import tokenizer_name
from longattn.udfs.windows.cut import count_batches

if TYPE_CHECKING:
    import pyarrow as pa

SAME_AS = "the same document as another record: "  # before its id
SPLITTABLE = ("jsonl", "longattn", "parquet", "delta")
FILES_DDL = "source_uri string, reading string, file_name string, fingerprint string"
COUNTED_DDL = "doc_id string, n_tokens bigint, soft_cuts int"
WORK_DDL = (
    "task bigint, spec int, uri string, start bigint, end bigint, size bigint, first_row bigint, "
    "name string, constants string"
)


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file to read, and by which of the sources' specs."""

    uri: str
    n_bytes: int
    spec: int
    name: str  # path below the folder or glob that the config names
    fingerprint: str
    constants: str | None = None
    refusal: tuple[str, str] | None = None  # reason and detail, where it is not to be read

    def split(self, start: int, end: int) -> Split:
        """Its bytes [start, end), whose first row is not known yet."""
        return Split(self.uri, start, end, self.n_bytes, 1, self.name, self.constants)


def splits_of(file: SourceFile, spec: SourceSpec, split_bytes: int) -> list[Split]:
    """Cut a file at multiples of split_bytes; compressed and whole-document files stay one."""
    whole = spec.format not in SPLITTABLE or raw.compression(file.uri)
    step = file.n_bytes if whole else split_bytes
    ends = [*range(step, file.n_bytes, max(1, step)), file.n_bytes]
    return [file.split(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def first_rows(spark: SparkSession, splits: Iterable[Split]) -> dict[tuple[str, int], int]:
    """Number of the first line of each split of plain line files: counts newlines in executors."""
    work = _work(spark, [[(0, split)] for split in splits])
    counts = work.mapInArrow(_count, "uri string, start bigint, n bigint").distinct().collect()
    firsts, row = {}, 1
    for uri, start, n in sorted(counts):
        row = 1 if start == 0 else row
        firsts[uri, start] = row
        row += n
    return firsts


def pack(splits: Iterable[tuple[int, Split]], task_bytes: int) -> list[list[tuple[int, Split]]]:
    """Group (spec, split) pairs, in order, into tasks of about task_bytes."""
    tasks: list[list[tuple[int, Split]]] = []
    room = 0
    for pair in splits:
        n_bytes = pair[1].end - pair[1].start
        if not tasks or n_bytes > room:
            tasks.append([])
            room = task_bytes
        tasks[-1].append(pair)
        room -= n_bytes
    return tasks


def read_splits(
    spark: SparkSession, tasks: list[list[tuple[int, Split]]], specs: Sequence[SourceSpec]
) -> DataFrame:
    """Read local or mounted files in Python, a task per group of splits; rows of STAGED_DDL."""
    return _work(spark, tasks).mapInArrow(partial(_read, specs), STAGED_DDL)


def _work(spark: SparkSession, tasks: list[list[tuple[int, Split]]]) -> DataFrame:
    """The splits, each task's in a partition of its own.

    A range has one id in each partition, which a broadcast join keeps; a shuffle by hash would put
    some tasks together and leave slots idle.
    """
    rows = [
        (task, spec, *split[: split._fields.index("content")])
        for task, pairs in enumerate(tasks)
        for spec, split in pairs
    ]
    work = F.broadcast(spark.createDataFrame(rows, WORK_DDL))
    ids = spark.range(0, len(tasks), 1, len(tasks))
    return ids.join(work, ids["id"] == work["task"]).drop("id")


def _splits_in(batches: "Iterator[pa.RecordBatch]") -> Iterator[tuple[int, Split]]:
    for batch in batches:
        for row in batch.to_pylist():
            _, spec, *fields = row.values()
            yield spec, Split(*fields)


def _count(batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa

    for _, split in _splits_in(batches):
        row = {"uri": split.uri, "start": split.start, "n": raw.count_lines(split)}
        yield pa.RecordBatch.from_pylist([row])


def _read(
    specs: Sequence[SourceSpec], batches: "Iterator[pa.RecordBatch]"
) -> "Iterator[pa.RecordBatch]":
    return to_batches(
        to_row(item, split.uri, split.name, specs[spec])
        for spec, split in _splits_in(batches)
        for item in sources.read(split, specs[spec])
    )


def refused_files(
    spark: SparkSession, files: Sequence[SourceFile], specs: Sequence[SourceSpec]
) -> DataFrame:
    """A refusal of STAGED_DDL for each file that its listing has refused."""
    columns = [column.split()[0] for column in STAGED_DDL.split(", ")]
    rows = []
    for file in files:
        reason, detail = file.refusal or ("unreadable", "")
        item = Item(None, None, None, reason, detail, file.name)
        row = to_row(item, file.uri, file.name, specs[file.spec])
        rows.append(tuple(row.get(column) for column in columns))
    return spark.createDataFrame(rows, STAGED_DDL)


def union(frames: Sequence[DataFrame]) -> DataFrame:
    """All rows of frames with the same columns."""
    return reduce(DataFrame.unionByName, frames)


# --- staged rows, which carry a staged_id, into the tables' rows


def record_hash() -> Column:
    """What a record is known by under every name of its domain, source and file."""
    return F.md5(F.concat_ws("\n", "source_id", "text").cast("binary")).alias("record_hash")


def text_hash() -> Column:
    """What a record without an id of its own is known by, in whichever file and row."""
    return F.md5(F.col("text").cast("binary")).alias("text_hash")


def named_anew(staged: DataFrame, forgotten: DataFrame) -> DataFrame:
    """staged_id of records that are forgotten documents under other ids."""
    good = staged.where(F.col("reason").isNull())
    by_row = F.col("source_id").startswith(F.concat("file_name", F.lit("#")))
    nameless = by_row | (F.col("source_id") == F.col("file_name"))
    hashes = F.array(record_hash(), F.when(nameless, text_hash()))
    keys = good.select("staged_id", F.explode(hashes).alias("hash"))
    known = forgotten.select(F.explode(F.array("record_hash", "text_hash")).alias("hash"))
    return keys.join(F.broadcast(known), "hash", "left_semi").select("staged_id").distinct()


def refusals(staged: DataFrame, documents: DataFrame, forgotten: DataFrame | None) -> DataFrame:
    """Documents that are there already, came twice, or are to stay away: staged_id, file, reason.

    Texts stay where they are: only ids are shuffled. `forgotten` is None where nothing is.
    """
    order = Window.partitionBy("doc_id").orderBy("domain", "source_uri", "source_row", "staged_id")
    ids = (
        staged.where(F.col("reason").isNull())
        .select("staged_id", "doc_id", "domain", "source", "source_uri", "source_row")
        .withColumn("copy", F.row_number().over(order))
    )
    known = documents.select("doc_id").distinct().withColumn("known", F.lit(True))
    judged = _with_forgotten(ids.join(known, "doc_id", "left"), staged, forgotten)
    reason = F.when(F.col("gone"), "forgotten").when(F.col("known"), "already_ingested")
    reason = reason.when(F.col("again"), "forgotten").when(F.col("copy") > 1, "repeated")
    judged = judged.withColumn("reason", reason).where(F.col("reason").isNotNull())
    return judged.drop("known", "gone", "again", "copy")


def _with_forgotten(ids: DataFrame, staged: DataFrame, forgotten: DataFrame | None) -> DataFrame:
    """The ids, `gone` if that document was forgotten, `again` if one was under another id."""
    if forgotten is None:
        return ids.withColumns({"gone": F.lit(False), "again": F.lit(False)})
    gone = forgotten.select("doc_id").distinct().withColumn("gone", F.lit(True))
    again = named_anew(staged, forgotten).withColumn("again", F.lit(True))
    return ids.join(gone, "doc_id", "left").join(again, "staged_id", "left")


def remembered(staged: DataFrame, refused: DataFrame) -> DataFrame:
    """The staged rows less those of forgotten documents, of which no origin is kept."""
    gone = refused.where(F.col("reason") == "forgotten").select("staged_id")
    return staged.join(gone, "staged_id", "left_anti")


def new_documents(staged: DataFrame, refused: DataFrame) -> DataFrame:
    """Rows of `documents`."""
    good = staged.where(F.col("reason").isNull())
    return good.join(refused.select("staged_id"), "staged_id", "left_anti").select(
        *DOCUMENTS.columns
    )


def origins(staged: DataFrame, files: DataFrame) -> DataFrame:
    """Rows of `origins`: every document of the files (FILES_DDL), once for each."""
    file = ["source_uri", "reading", "file_name"]
    good = staged.where(F.col("reason").isNull()).join(F.broadcast(files), file)
    place = ["doc_id", "source_uri", "fingerprint"]
    first = Window.partitionBy(*place).orderBy("source_row", "staged_id")
    numbered = good.withColumn("nth", F.row_number().over(first))
    return numbered.where("nth = 1").select(*ORIGINS.columns)


def token_counts(documents: DataFrame, config: Config) -> DataFrame:
    """Tokens of documents with their texts; their other columns stay, but for the text."""
    count = partial(count_batches, tokenizer=config.tokenizer_path)
    counted = documents.select("doc_id", "text").mapInArrow(count, COUNTED_DDL)
    return documents.drop("text").join(counted, "doc_id")


def as_lengths(measured: DataFrame, config: Config) -> DataFrame:
    """Counted documents as rows of `lengths`, of a windowing of their own that cuts nothing."""
    windowing = F.lit(f"count:{tokenizer_name(config.tokenizer_path)}")
    return in_columns_of(LENGTHS, measured, windowing=windowing)


def beyond_limits(beyond: DataFrame) -> DataFrame:
    """Documents (with n_tokens and reason) that `ingest` limits away, as rows of `rejects`."""
    detail = F.concat(F.format_number("n_tokens", 0), F.lit(" tokens"))
    given = {"job": F.lit("ingest"), "detail": detail, "excerpt": F.lit(None).cast("string")}
    columns = [name for name in REJECTS.columns if name != "rejected_at"]
    return beyond.withColumns(given).select(*columns)


def rejects(staged: DataFrame, refused: DataFrame) -> DataFrame:
    """Rows of `rejects`: bad input and repeated documents.

    What was filtered or is there already was not wrong, is counted, and has no row.
    """
    bad = staged.where(F.col("reason").isNotNull() & (F.col("reason") != "filtered"))
    again = refused.where(F.col("reason") == "repeated").select("staged_id", "reason")
    detail = F.concat(F.lit(SAME_AS), "doc_id")
    repeated = (
        staged.drop("reason")
        .join(again, "staged_id")
        .withColumn("detail", detail)
        .withColumn("excerpt", F.substring("text", 1, raw.EXCERPT))
    )
    columns = [name for name in REJECTS.columns if name not in ("job", "rejected_at")]
    both = bad.select(*columns).unionByName(repeated.select(*columns))
    return both.select(F.lit("ingest").alias("job"), *columns)


def counts(staged: DataFrame, refused: DataFrame) -> DataFrame:
    """Records by domain, source, file and reason; a new document has none."""
    key = ["domain", "source", "source_uri", "reason"]
    late = refused.select("staged_id", F.col("reason").alias("late"))
    columns = staged.select("staged_id", *key).join(late, "staged_id", "left")
    columns = columns.withColumn("reason", F.coalesce("reason", "late"))
    return columns.groupBy(*key).agg(F.count(F.lit(1)).alias("n"))
