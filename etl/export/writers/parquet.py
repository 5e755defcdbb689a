"""Parquet that `datasets` loads: tokens, text, where documents lie and where they came from."""

import pyarrow as pa
import pyarrow.parquet as pq

from longattn.etl.export.formats import (
    Format,
    Options,
    Part,
    as_split,
    part,
    read_parquet,
    texts_of_parquet,
)
from longattn.udfs.windows.segments import BOUNDARIES

FIELDS = pa.schema(
    [
        ("sample", pa.int64()),
        ("window_id", pa.string()),
        ("domain", pa.string()),
        ("source", pa.string()),
        ("doc_id", pa.string()),
        ("start_char", pa.int64()),
        ("end_char", pa.int64()),
        ("score", pa.float64()),  # what was selected by; null for a packed window
        ("scorer", pa.string()),  # what gave it
        ("percentile", pa.float64()),  # of it within the domain, 100 for the best
        ("lds", pa.float64()),  # the score under its first name, which scripts read
        ("copy", pa.int32()),
        ("n_tokens", pa.int32()),
        ("segments", BOUNDARIES),  # the stretches of documents that the sample is made of
        ("seq_lens", pa.list_(pa.int32())),  # tokens within which attention stays, in order
        ("position_ids", pa.list_(pa.int32())),  # from 0 in each of these
        ("target_weights", pa.list_(pa.float32())),  # of each token in the loss
        ("text", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
    ]
)


class ParquetWriter:
    """One Parquet file; a row group per Arrow batch, so memory is bounded by a batch."""

    def __init__(self, options: Options) -> None:
        self.staged, self.file = options.folder.new_file()
        # ids rarely repeat within a page: a dictionary of them costs time and saves little
        self.schema = sample_schema(options)
        self.writer = pq.ParquetWriter(
            self.file,
            self.schema,
            compression="zstd",
            use_dictionary=["domain", "source", "scorer"],
            write_page_checksum=True,
        )
        self.samples = self.tokens = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self.writer.write_batch(sample_batch(batch, self.schema))
        self.samples += batch.num_rows
        self.tokens += sum(batch.column("n_tokens").to_pylist())

    def close(self) -> list[Part]:
        self.writer.close()
        self.file.close()
        return [part(self.staged, self.file, ".parquet", self.samples, self.tokens)]


def sample_schema(options: Options) -> pa.Schema:
    """The columns of a sample; no `input_ids` where no model knows them."""
    asked = {
        "input_ids": options.with_ids,
        "position_ids": options.position_ids,
        "target_weights": bool(options.target_weights),
    }
    return pa.schema([field for field in FIELDS if asked.get(field.name, True)])


def sample_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The columns of `schema`."""
    columns = {"input_ids": "token_ids"}
    arrays = [batch.column(columns.get(f.name, f.name)).cast(f.type) for f in schema]
    return pa.record_batch(arrays, schema=schema)


MADE = {"sample", "segments", "seq_lens", "position_ids", "target_weights"}  # by `as_samples`
COLUMNS = tuple("token_ids" if n == "input_ids" else n for n in FIELDS.names if n not in MADE)
PARQUET = Format(
    columns=COLUMNS,
    writer=ParquetWriter,
    file_name=as_split,
    read=read_parquet,
    texts=texts_of_parquet,
    schema=sample_schema,
)
