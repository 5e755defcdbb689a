"""Tasks write shards into staging and name them; the driver shows those that were named."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from longattn.etl.export.formats import Format, Options, Part
from longattn.etl.export.samples import Plan
from longattn.udfs.ddl import ddl

PART_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("number", pa.int32()),
        ("staged", pa.string()),
        ("suffix", pa.string()),
        ("samples", pa.int64()),
        ("tokens", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
    ]
)
Batches = Iterator[pa.RecordBatch]


@dataclass(frozen=True, kw_only=True)
class Written:
    """The files of an export: staged name -> name, and their entries for the manifest."""

    names: dict[str, str]
    files: list[dict[str, Any]]

    @property
    def samples(self) -> int:
        return sum(file["samples"] for file in self.files)

    @property
    def tokens(self) -> int:
        return sum(file["tokens"] for file in self.files)


def write_shards(rows: DataFrame, plan: Plan, format_: Format, options: Options) -> Written:
    """Write rows of `samples` shard by shard into the staging folder.

    A task that is repeated writes under new names, and only the names that the finished attempt
    returned are used: what a killed or a speculative attempt left behind is never part of it.
    """
    parts = rows.mapInArrow(_task(plan.first_sample, format_, options), ddl(PART_SCHEMA)).toPandas()
    ordered = parts.sort_values(["shard", "number"]).itertuples(index=False, name=None)
    named = [dict(zip(parts.columns, row, strict=True)) for row in ordered]
    return _named(named, format_, options.prefix)


def _task(
    first_sample: dict[int, int], format_: Format, options: Options
) -> Callable[[Batches], Batches]:
    def write(batches: Batches) -> Batches:
        for shard, pieces in groupby(_by_shard(batches), key=lambda piece: piece[0]):
            writer, number = format_.writer(options), first_sample[shard]
            for _, piece in pieces:
                writer.write(_numbered(piece, number))
                number += piece.num_rows
            yield _described(shard, writer.close())

    return write


def _by_shard(batches: Batches) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Cut batches, which are sorted by shard, where the shard changes."""
    for batch in batches:
        shards = batch.column("shard").to_numpy()
        bounds = [0, *(np.flatnonzero(np.diff(shards)) + 1).tolist(), len(shards)]
        for start, end in pairwise(bounds):
            if end > start:
                yield int(shards[start]), batch.slice(start, end - start)


def _numbered(batch: pa.RecordBatch, first: int) -> pa.RecordBatch:
    numbers = pa.array(range(first, first + batch.num_rows), pa.int64())
    return batch.append_column("sample", numbers)


def _described(shard: int, parts: Sequence[Part]) -> pa.RecordBatch:
    rows = [{"shard": shard, "number": i} | asdict(part) for i, part in enumerate(parts)]
    return pa.RecordBatch.from_pylist(rows, schema=PART_SCHEMA)


def _named(parts: Sequence[dict[str, Any]], format_: Format, prefix: str) -> Written:
    """Name each file by its place among those of its suffix, so that numbers have no gaps."""
    totals, seen = Counter(part["suffix"] for part in parts), Counter[str]()
    names, files, first = {}, [], 0
    for part in parts:
        suffix = part["suffix"]
        name = format_.file_name(prefix, suffix, seen[suffix], totals[suffix])
        sizes = {key: int(part[key]) for key in ("samples", "tokens", "bytes")}
        files.append({"name": name, "first_sample": first, **sizes, "sha256": part["sha256"]})
        names[part["staged"]] = name
        first += sizes["samples"]
        seen[suffix] += 1
    return Written(names=names, files=files)
