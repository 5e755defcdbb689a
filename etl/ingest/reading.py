"""Pending source files as rows of records, each with what became of it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from longattn.etl.ingest import stage
from longattn.etl.ingest.spark_readers import read_table, read_with_spark
from longattn.etl.ingest.stage import SourceFile
from longattn.etl.run.frames import slots
from longattn.etl.tables.locations import is_table_name, sql_name
from longattn.udfs.digest import hex_digest
from longattn.udfs.documents.bytes import Split
from longattn.udfs.documents.formats import SourceSpec
from longattn.udfs.storage import local_path

SPLIT_BYTES = 64 << 20  # plain files are cut into tasks of about this size


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What there is to read."""

    specs: list[SourceSpec]
    pending: list[SourceFile]
    n_finished: int
    begun: frozenset[int] = frozenset()  # specs of which some file was read before

    @property
    def key(self) -> str:
        """Names the pending files as they are now."""
        named = "\n".join(f"{file.uri} {file.fingerprint}" for file in self.pending)
        return hex_digest(named)[:32]


def read_all(spark: SparkSession, plan: Plan) -> DataFrame:
    """All pending files as staged rows: in Python where it can open them, else through Spark."""
    by_spec = by_reader(plan)
    refused, by_python, tables = (by_spec.pop(r, []) for r in ("refused", "python", "table"))
    frames = [stage.refused_files(spark, refused, plan.specs)] if refused else []
    frames += [read_locally(spark, by_python, plan.specs)] if by_python else []
    for table in tables:
        rows = spark.read.table(sql_name(table.uri))
        frames.append(read_table(rows, table.uri, plan.specs[table.spec]))
    for number, files in by_spec.items():
        frames.append(read_with_spark(spark, files, plan.specs[int(number)], SPLIT_BYTES))
    return stage.union(frames)


def by_reader(plan: Plan) -> dict[str | int, list[SourceFile]]:
    """The pending files by what reads them."""
    files: dict[str | int, list[SourceFile]] = defaultdict(list)
    for file in plan.pending:
        files[reader_of(file, plan.specs[file.spec])].append(file)
    return files


def reader_of(file: SourceFile, spec: SourceSpec) -> str | int:
    """What reads a file: nothing, Python, Spark's catalog, or Spark with its spec's other files."""
    if file.refusal:
        return "refused"
    if spec.format == "delta" and is_table_name(file.uri):
        return "table"
    return "python" if local_path(file.uri) else file.spec


def read_locally(
    spark: SparkSession, files: Sequence[SourceFile], specs: Sequence[SourceSpec]
) -> DataFrame:
    """Files that Python can open, in tasks of about SPLIT_BYTES."""
    splits = [
        (file.spec, split)
        for file in files
        for split in stage.splits_of(file, specs[file.spec], SPLIT_BYTES)
    ]
    cut = [split for spec, split in splits if is_cut_in_lines(split, specs[spec])]
    firsts = stage.first_rows(spark, cut) if cut else {}
    numbered = [
        (spec, split._replace(first_row=firsts.get((split.uri, split.start), 1)))
        for spec, split in splits
    ]
    share = sum(file.n_bytes for file in files) // slots(spark)
    tasks = stage.pack(numbered, min(SPLIT_BYTES, max(share, 1 << 20)))
    return stage.read_splits(spark, tasks, specs)


def is_cut_in_lines(split: Split, spec: SourceSpec) -> bool:
    """True for a part of a plain line file, whose lines must be counted to be numbered."""
    return spec.format in ("jsonl", "longattn") and split.end - split.start < split.size
