"""Staged rows of what only Spark can open: files at s3a://, abfss://, hdfs://, and tables."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from longattn.etl.ingest.stage import SourceFile, refused_files, union
from longattn.etl.tables.locations import as_pattern
from longattn.udfs.documents import bytes as raw
from longattn.udfs.documents import formats as sources
from longattn.udfs.documents.bytes import Split
from longattn.udfs.documents.formats import SourceSpec
from longattn.udfs.documents.records import STAGED_DDL, Row, to_batches, to_row

if TYPE_CHECKING:
    import pyarrow as pa

MOST_BYTES = (1 << 31) - 1  # of a file that Spark gives in one piece
WHOLE_ONLY = (".zst", ".zstd", ".xz")  # Hadoop's text reader has no codec for these


def read_with_spark(
    spark: SparkSession, files: Sequence[SourceFile], spec: SourceSpec, whole_bytes: int
) -> DataFrame:
    """Read one source's files through Spark's file systems; rows of STAGED_DDL.

    Files up to whole_bytes, whole-file documents and .zst are handed to the Python reader in one
    piece and give what read_splits gives; one too long for that is refused. Larger ones go through
    Spark's own readers, which differ: a line has no number, so an id made of the row is made of the
    text's hash; a truncated gzip, a damaged Parquet file or one with a type that Spark has not
    (nanoseconds) fails the job.
    """
    files = [_judged(file, spec) for file in files]
    refused = [f for f in files if f.refusal]
    small = [f for f in files if not f.refusal and _is_whole(f, spec, whole_bytes)]
    large = [f for f in files if not f.refusal and not _is_whole(f, spec, whole_bytes)]
    frames = [refused_files(spark, refused, [spec])] if refused else []
    frames += [_read_whole(spark, small, spec)] if small else []
    if large and spec.format in ("parquet", "delta"):
        # one file's columns are not another's: a table may have got one later
        rows = spark.read.option("mergeSchema", "true").parquet(*_uris(large))
        frames.append(_read_rows(rows, large, spec))
    elif large:
        frames.append(_read_lines(spark, large, spec))
    return union(frames)


def read_table(table: DataFrame, name: str, spec: SourceSpec) -> DataFrame:
    """Rows of a table that Spark has opened, as STAGED_DDL; they have no file and no number."""
    places = (F.lit(name).alias("_uri"), F.lit(None).cast("bigint").alias("_row"))
    rows = table.select(*places, *_mapped(table, spec))
    return rows.mapInArrow(partial(_read_records, spec, {name: (name, {})}), STAGED_DDL)


def _read_rows(rows: DataFrame, files: Sequence[SourceFile], spec: SourceSpec) -> DataFrame:
    uri, row = F.col("_metadata.file_path"), F.col("_metadata.row_index") + 1
    columns = rows.select(uri.alias("_uri"), row.alias("_row"), *_mapped(rows, spec))
    places = {f.uri: (f.name, json.loads(f.constants or "{}")) for f in files}
    return columns.mapInArrow(partial(_read_records, spec, places), STAGED_DDL)


def _mapped(rows: DataFrame, spec: SourceSpec) -> list[Column]:
    return [F.col(f"`{name.replace('`', '``')}`") for name in spec.columns_in(rows.columns)]


def _judged(file: SourceFile, spec: SourceSpec) -> SourceFile:
    """The file, refused if it can only be read in one piece and is too long for that."""
    is_text = spec.format == "text" and not raw.compression(file.uri)
    most = min(MOST_BYTES, spec.max_bytes) if is_text else MOST_BYTES
    if file.n_bytes <= most or not _is_whole(file, spec, 0):
        return file
    detail = f"{file.n_bytes:,} bytes, more than the {most:,} that are read in one piece"
    return replace(file, spec=0, refusal=("too_long", detail))


def _is_whole(file: SourceFile, spec: SourceSpec, whole_bytes: int) -> bool:
    return (
        file.n_bytes <= whole_bytes
        or spec.format == "text"
        or raw.compression(file.uri) in WHOLE_ONLY
    )


def _read_whole(spark: SparkSession, files: Sequence[SourceFile], spec: SourceSpec) -> DataFrame:
    contents = spark.read.format("binaryFile").load(_uris(files)).select("path", "content")
    places = {file.uri: (file.name, file.constants) for file in files}
    return contents.mapInArrow(partial(_read_contents, spec, places), STAGED_DDL)


def _read_lines(spark: SparkSession, files: Sequence[SourceFile], spec: SourceSpec) -> DataFrame:
    # As binary: Spark does not check UTF-8, so that here a bad line can be told from a good one.
    line = F.col("value").cast("binary").alias("_line")
    lines = spark.read.text(_uris(files)).select(F.col("_metadata.file_path").alias("_uri"), line)
    return lines.mapInArrow(partial(_read_loose_lines, spec, _names(files)), STAGED_DDL)


def _uris(files: Sequence[SourceFile]) -> list[str]:
    """As patterns that match nothing but themselves."""
    return [as_pattern(file.uri) for file in files]


def _names(files: Sequence[SourceFile]) -> dict[str, str]:
    return {file.uri: file.name for file in files}


def _read_contents(
    spec: SourceSpec,
    places: dict[str, tuple[str, str | None]],
    batches: "Iterator[pa.RecordBatch]",
) -> "Iterator[pa.RecordBatch]":
    splits = (
        Split(row["path"], 0, size := len(row["content"]), size, 1, name, constants, row["content"])
        for batch in batches
        for row in batch.to_pylist()
        for name, constants in [places[row["path"]]]
    )
    return to_batches(
        to_row(item, split.uri, split.name, spec)
        for split in splits
        for item in sources.read(split, spec)
    )


def _read_loose_lines(
    spec: SourceSpec, names: dict[str, str], batches: "Iterator[pa.RecordBatch]"
) -> "Iterator[pa.RecordBatch]":
    parse = sources.PARSERS[spec.format]

    def rows() -> Iterator[Row]:
        for batch in batches:
            for uri, data in zip(batch["_uri"].to_pylist(), batch["_line"], strict=True):
                line = data.as_py()
                item = sources.line_item(None, raw.Line(line, len(line)), parse)
                if item:
                    yield to_row(item, unquote(uri), names[unquote(uri)], spec)

    return to_batches(rows())


def _read_records(
    spec: SourceSpec,
    places: dict[str, tuple[str, dict[str, Any]]],
    batches: "Iterator[pa.RecordBatch]",
) -> "Iterator[pa.RecordBatch]":
    def rows() -> Iterator[Row]:
        for batch in batches:
            uris, numbers = batch["_uri"].to_pylist(), batch["_row"].to_pylist()
            records = sources.batch_records(batch.drop_columns(["_uri", "_row"]))
            for uri, number, record in zip(uris, numbers, records, strict=True):
                name, constants = places[unquote(uri)]
                yield to_row(
                    sources.record_item(number, record, constants), unquote(uri), name, spec
                )

    return to_batches(rows())
