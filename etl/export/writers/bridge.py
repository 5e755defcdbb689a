"""Megatron-Bridge's packed Parquet: `input_ids`, `seq_start_id`, `loss_mask`.

Its GPTSFTPackedParquetDataset cuts each row where sequences start and takes the last token of each
as a label alone: `cu_seqlens` counts one token less for each sequence than `seq_lens`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from longattn.etl.export.formats import (
    Format,
    Options,
    Part,
    arrays,
    part,
    read_parquet,
    texts_of_parquet,
)
from longattn.udfs.windows.segments import BOUNDARIES

SUFFIX = ".idx.parquet"  # by which the reader knows a packed file
ROW_GROUP = 500  # samples that the reader loads for one, as its own writer has it
SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("seq_start_id", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.int8())),
        # its reader takes the three above; these are for people, `verify` and `trace`
        ("sample", pa.int64()),
        ("window_id", pa.string()),
        ("domain", pa.string()),
        ("n_tokens", pa.int32()),
        ("seq_lens", pa.list_(pa.int32())),
        ("segments", BOUNDARIES),
        ("score", pa.float64()),
        ("scorer", pa.string()),
        ("percentile", pa.float64()),
    ]
)


class BridgeWriter:
    """One Parquet file of packed rows."""

    def __init__(self, options: Options) -> None:
        self.staged, self.file = options.folder.new_file()
        self.writer = pq.ParquetWriter(self.file, SCHEMA, compression="zstd")
        self.samples = self.tokens = 0

    def write(self, batch: pa.RecordBatch) -> None:
        columns = {
            **dict(zip(batch.schema.names, batch.columns, strict=True)),
            "input_ids": batch["token_ids"],
            "seq_start_id": _starts(batch),
            "loss_mask": _ones(batch["token_ids"]),
        }
        rows = pa.Table.from_arrays([columns[f.name].cast(f.type) for f in SCHEMA], schema=SCHEMA)
        self.writer.write_table(rows, row_group_size=ROW_GROUP)
        self.samples += batch.num_rows
        self.tokens += sum(batch["n_tokens"].to_pylist())

    def close(self) -> list[Part]:
        self.writer.close()
        self.file.close()
        return [part(self.staged, self.file, SUFFIX, self.samples, self.tokens)]


def _starts(batch: pa.RecordBatch) -> pa.ListArray:
    """Where the sequences of each sample start."""
    starts = [np.cumsum(lengths) - lengths for lengths in arrays(batch, "seq_lens")]
    flat = np.concatenate(starts) if starts else np.empty(0, np.int64)
    offsets = np.cumsum([0, *map(len, starts)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat, pa.int32()))


def _ones(token_ids: pa.ListArray) -> pa.ListArray:
    """Every token is a target."""
    offsets = token_ids.offsets.to_numpy() - token_ids.offsets[0].as_py()
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(np.ones(offsets[-1], np.int8))
    )


MEGATRON_BRIDGE = Format(
    columns=("token_ids",),
    writer=BridgeWriter,
    read=read_parquet,
    texts=texts_of_parquet,
)
