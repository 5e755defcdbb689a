"""Tasks write shards into staging and name them; the driver shows those that were named."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from longattn.etl.export.files import folder_of
from longattn.etl.export.formats import Format, Options, Part
from longattn.etl.export.samples import Plan
from longattn.udfs.ddl import ddl
from longattn.udfs.errors import ExportError
from longattn.udfs.windows import segments

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
        # target tokens by how much context they have, see context_octaves; with a shard's first
        ("masked", pa.list_(pa.int64())),
        ("unmasked", pa.list_(pa.int64())),
    ]
)
Batches = Iterator[pa.RecordBatch]


@dataclass(frozen=True, kw_only=True)
class Written:
    """The files of an export: staged name -> name, and their entries for the manifest."""

    names: dict[str, str]
    files: list[dict[str, Any]]
    context: dict[str, Any]

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
    rows_ = [dict(zip(parts.columns, row, strict=True)) for row in ordered]
    folders = {shard: folder_of(plan.domain_of(shard)) for shard in plan.first_sample}
    names, files = _named(rows_, format_, options.prefix, folders)
    return Written(names=names, files=files, context=context_of(rows_))


def targets_by_context(rows: DataFrame, options: Options) -> NDArray[np.int64]:
    """Target tokens of all rows of `bounds` by octave of their context, int64 [OCTAVES]."""

    def count(batches: Batches) -> Batches:
        for batch in batches:
            lengths = segments.boundaries(batch, attend_across=options.attend_across)
            within = segments.sequence_lengths(lengths).flatten().to_numpy()
            octaves = segments.context_octaves(within).tolist()
            yield pa.RecordBatch.from_pydict({"masked": [octaves]}, schema=counted)

    counted = pa.schema([PART_SCHEMA.field("masked")])
    total = np.zeros(segments.OCTAVES, np.int64)
    for row in rows.mapInArrow(count, ddl(counted)).collect():
        total += row["masked"]
    return total


def _task(
    first_sample: dict[int, int], format_: Format, options: Options
) -> Callable[[Batches], Batches]:
    def write(batches: Batches) -> Batches:
        for shard, pieces in groupby(_by_shard(batches), key=lambda piece: piece[0]):
            writer, number = format_.writer(options), first_sample[shard]
            context = Context()
            for _, piece in pieces:
                sample_rows = as_samples(piece, number, options)
                writer.write(sample_rows)
                context.add(sample_rows)
                number += piece.num_rows
            yield _described(shard, writer.close(), context)

    return write


def _by_shard(batches: Batches) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Cut batches, which are sorted by shard, where the shard changes."""
    for batch in batches:
        shards = batch.column("shard").to_numpy()
        bounds = [0, *(np.flatnonzero(np.diff(shards)) + 1).tolist(), len(shards)]
        for start, end in pairwise(bounds):
            if end > start:
                yield int(shards[start]), batch.slice(start, end - start)


def as_samples(windows: pa.RecordBatch, first: int, options: Options) -> pa.RecordBatch:
    """Rows of windows as samples numbered from `first`: `segments` as BOUNDARIES, and `seq_lens`.

    Raises ExportError for a window whose segments, or whose tokens, are not as many as it says.
    """
    _refuse_other_lengths(windows)
    numbers = pa.array(range(first, first + windows.num_rows), pa.int64())
    boundaries = segments.boundaries(windows, attend_across=options.attend_across)
    lengths = segments.sequence_lengths(boundaries)
    place = windows.schema.get_field_index("segments")
    rows = windows.set_column(place, "segments", boundaries).append_column("sample", numbers)
    rows = rows.append_column("seq_lens", lengths)
    if options.position_ids:
        rows = rows.append_column("position_ids", segments.position_ids(lengths))
    if options.target_weights:
        weights = np.asarray(options.target_weights)
        rows = rows.append_column("target_weights", segments.by_context(lengths, weights))
    return rows


def _refuse_other_lengths(windows: pa.RecordBatch) -> None:
    if "token_ids" not in windows.schema.names:
        return
    lengths = pc.list_value_length(windows["token_ids"])
    wrong = pc.fill_null(pc.not_equal(lengths, windows["n_tokens"]), True)
    if place := pc.index(wrong, True).as_py() + 1:
        raise ExportError(
            f"window {windows['window_id'][place - 1]}: {lengths[place - 1]} token ids, and its row"
            f" says {windows['n_tokens'][place - 1]}: the table windows is damaged"
        )


class Context:
    """How much context the target tokens of a shard have, with and without masks."""

    def __init__(self) -> None:
        self.masked = np.zeros(segments.OCTAVES, np.int64)
        self.unmasked = np.zeros(segments.OCTAVES, np.int64)

    def add(self, samples: pa.RecordBatch) -> None:
        within = samples["seq_lens"].flatten().to_numpy()
        self.masked += segments.context_octaves(within)
        self.unmasked += segments.context_octaves(samples["n_tokens"].to_numpy())


def context_of(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The manifest's `context`: target tokens by octave of context, in all shards together.

    `half_below` is the smallest power of two that at least half of the target tokens have less
    context than.
    """
    described = {}
    for kind in ("masked", "unmasked"):
        histograms = [np.asarray(part[kind]) for part in parts if part[kind] is not None]
        counts = np.trim_zeros(np.sum(histograms, axis=0), "b")
        half = np.searchsorted(np.cumsum(counts) * 2, counts.sum())
        described[kind] = {
            "targets": int(counts.sum()),
            "octaves": {str(1 << octave): int(n) for octave, n in enumerate(counts)},
            "half_below": 2 << int(half) if len(counts) else 0,
        }
    return described


def _described(shard: int, parts: Sequence[Part], context: Context) -> pa.RecordBatch:
    rows = [{"shard": shard, "number": i} | asdict(part) for i, part in enumerate(parts)]
    rows[0] |= {"masked": context.masked.tolist(), "unmasked": context.unmasked.tolist()}
    return pa.RecordBatch.from_pylist(rows, schema=PART_SCHEMA)


def _named(
    parts: Sequence[dict[str, Any]],
    format_: Format,
    prefix: str,
    folders: Mapping[int, str],
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Name each file by its place in its folder among those of its suffix: numbers have no gaps."""
    kinds = [(folders[part["shard"]], part["suffix"]) for part in parts]
    totals, seen = Counter(kinds), Counter[tuple[str, str]]()
    names, files, first = {}, [], 0
    for part, kind in zip(parts, kinds, strict=True):
        folder, suffix = kind
        name = folder + format_.file_name(prefix, suffix, seen[kind], totals[kind])
        sizes = {key: int(part[key]) for key in ("samples", "tokens", "bytes")}
        files.append({"name": name, "first_sample": first, **sizes, "sha256": part["sha256"]})
        names[part["staged"]] = name
        first += sizes["samples"]
        seen[kind] += 1
    return names, files
