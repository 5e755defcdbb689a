"""Where documents lie in a window: the types of `segments`, in tables and in exports, and what a
trainer makes of them.

In tables a packed window has the stretches of documents that it joins, and a window of one document
has null. In exports every sample has its segments, that of one document being one, and each says
where in the sample it stands and whether what follows may attend to it.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longattn.udfs.errors import ExportError

SEGMENTS = pa.list_(
    pa.struct([("doc_id", pa.string()), ("start_token", pa.int64()), ("n_tokens", pa.int32())])
)
BOUNDARIES = pa.list_(
    pa.struct(
        [
            ("start", pa.int32()),  # first token, counted in the sample
            ("length", pa.int32()),  # tokens, the separator after the document included
            ("doc_id", pa.string()),
            ("start_token", pa.int64()),  # the same first token, counted in the document
            ("attend_across", pa.bool_()),  # whether later segments may attend to this one
        ]
    )
)
OCTAVES = 31  # of context: [1, 2), [2, 4), ... tokens; the last reaches what an int32 counts


def boundaries(rows: pa.RecordBatch, *, attend_across: bool = False) -> pa.ListArray:
    """BOUNDARIES of each sample, of rows (window_id, doc_id, start_token, n_tokens, segments).

    `attend_across` holds for the segments of packed windows. Raises ExportError where segments do
    not sum to their window.
    """
    given = rows.column("segments")
    packed = given.is_valid().to_numpy(zero_copy_only=False)
    counts = np.where(packed, pc.fill_null(pc.list_value_length(given), 1).to_numpy(), 1)
    of_packed = np.repeat(packed, counts)
    parts = given.flatten()
    place = np.empty(len(of_packed), np.int64)  # in the parts, followed by the rows themselves
    place[of_packed] = np.arange(len(parts))
    place[~of_packed] = len(parts) + np.flatnonzero(~packed)

    def both(part: str, row: str, type_: pa.DataType) -> pa.Array:
        columns = (parts.field(part).cast(type_), rows.column(row).cast(type_))
        return pa.concat_arrays(columns).take(pa.array(place))

    lengths = pc.fill_null(both("n_tokens", "n_tokens", pa.int32()), 0)  # refused below
    _refuse_other_sums(rows, lengths.to_numpy(), counts)
    ends = np.cumsum(lengths.to_numpy(), dtype=np.int64)
    begun = np.repeat(_exclusive(rows.column("n_tokens").to_numpy()), counts)
    fields = [
        pa.array(ends - lengths.to_numpy() - begun, pa.int32()),
        lengths,
        both("doc_id", "doc_id", pa.string()),
        both("start_token", "start_token", pa.int64()),
        pa.array(of_packed & attend_across),
    ]
    structs = pa.StructArray.from_arrays(fields, fields=list(BOUNDARIES.value_type))
    return pa.ListArray.from_arrays(_offsets(counts), structs, type=BOUNDARIES)


def sequence_lengths(segments: pa.ListArray) -> pa.ListArray:
    """Lengths of the stretches within which attention stays, int32: those of BOUNDARIES, joined
    where the later may attend to the earlier. Their running sum is a kernel's `cu_seqlens`.
    """
    counts = pc.list_value_length(segments).to_numpy()
    parts = segments.flatten()
    across = parts.field("attend_across").to_numpy(zero_copy_only=False)
    begins = np.concatenate([[True], ~across[:-1]]) if len(across) else np.empty(0, bool)
    begins[_exclusive(counts)] = True
    lengths = np.add.reduceat(parts.field("length").to_numpy(), np.flatnonzero(begins))
    per_sample = np.add.reduceat(begins.astype(np.int64), _exclusive(counts))
    return pa.ListArray.from_arrays(_offsets(per_sample), pa.array(lengths, pa.int32()))


def position_ids(sequences: pa.ListArray) -> pa.ListArray:
    """Positions that begin at 0 with every sequence of `sequence_lengths`, int32."""
    lengths = sequences.flatten().to_numpy()
    values = np.arange(lengths.sum(), dtype=np.int64) - np.repeat(_exclusive(lengths), lengths)
    tokens = np.add.reduceat(
        lengths, sequences.offsets.to_numpy()[:-1] - sequences.offsets[0].as_py()
    )
    return pa.ListArray.from_arrays(_offsets(tokens), pa.array(values, pa.int32()))


def context_octaves(lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """How many target tokens have 1, 2-3, 4-7, ... tokens before them, int64 [OCTAVES].

    `lengths` are those of the stretches within which attention stays; the first token of each is no
    target, as nothing foretells it.

    >>> context_octaves(np.array([1, 6]))[:4].tolist()  # contexts 1; 2, 3; 4, 5
    [1, 2, 2, 0]
    """
    counts = np.zeros(OCTAVES, np.int64)
    used = int(np.max(lengths, initial=0)).bit_length()
    octave = np.int64(1) << np.arange(used, dtype=np.int64)
    in_each = np.asarray(lengths, np.int64)[:, None] - octave
    counts[:used] = np.clip(in_each, 0, octave).sum(axis=0)
    return counts


def balanced_weights(
    counts: NDArray[np.int64], longest: int, *, alpha: float = 0.15, gamma: float = 0.5
) -> NDArray[np.float64]:
    """How much a target counts in the loss, by octave of its context; float64 [OCTAVES].

    `counts` are `context_octaves` of all samples. A target is far in octaves from longest / 4 on.
    Far targets share alpha of their number as further weight, the rarer octaves more of it: 1 +
    alpha r_b / sum(q r), with r_b = q_b^-gamma of an octave's share q_b of the far targets. All
    others weigh 1 (EXACT, arXiv 2605.10544, with its alpha, gamma and quarter).

    >>> balanced_weights(np.array([4, 4, 9, 1]), 16, alpha=1, gamma=1)  # shares 0.9 and 0.1
    array([1.        , 1.        , 1.55555556, 6.        ])
    """
    far = ((1 << np.arange(len(counts), dtype=np.int64)) >= longest / 4) & (counts > 0)
    shares = counts[far] / counts[far].sum()
    rarity = shares**-gamma
    weights = np.ones(len(counts))
    weights[far] += alpha * rarity / (shares * rarity).sum()
    return weights


def by_context(sequences: pa.ListArray, weights: NDArray[np.float64]) -> pa.ListArray:
    """The weight of every token's octave of context, float32; 0 of those that are no targets."""
    positions = position_ids(sequences)
    octaves = np.frexp(positions.values.to_numpy())[1] - 1  # -1 of a position of 0
    values = np.append(weights, 0.0).astype(np.float32)[octaves]
    return pa.ListArray.from_arrays(positions.offsets, pa.array(values))


def _refuse_other_sums(
    rows: pa.RecordBatch, lengths: NDArray[np.int32], counts: NDArray[np.int64]
) -> None:
    wanted = rows.column("n_tokens").to_numpy()
    sums = np.zeros(len(counts), np.int64)
    np.add.at(sums, np.repeat(np.arange(len(counts)), counts), lengths)
    short = np.repeat(np.arange(len(counts)), counts)[lengths < 1]
    wrong = [*np.flatnonzero(sums != wanted), *short]
    if wrong:
        row = int(wrong[0])
        raise ExportError(
            f"window {rows.column('window_id')[row]}: its segments sum to {sums[row]:,} tokens, and"
            f" it has {wanted[row]:,}: the table windows is damaged"
            if sums[row] != wanted[row]
            else f"window {rows.column('window_id')[row]}: a segment without tokens"
        )


def _exclusive(sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Where each of a row of things begins, of these sizes."""
    ends: NDArray[np.int64] = np.cumsum(sizes, dtype=np.int64)
    return ends - sizes


def _offsets(sizes: NDArray[np.integer]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int32())
