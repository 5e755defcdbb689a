"""Documents to rows of windows and lengths in one pass: Arrow batches in, Arrow batches out.

A document gives one row per window and one row of its length (window_index null), so that nothing
is tokenised twice. A document to be packed gives the length row only, with its tokens.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from longattn.udfs.digest import hex_digest
from longattn.udfs.text.tokens import TextTokenizer, Tokens, encode_long, load_tokenizer
from longattn.udfs.windows.imports import imported, repositories_in_order
from longattn.udfs.windows.packing import STRATEGIES as PACKERS
from longattn.udfs.windows.packing import tokens_of
from longattn.udfs.windows.segments import SEGMENTS
from longattn.udfs.windows.similar import Gain, similar_order, sketch
from longattn.udfs.windows.spans import STRATEGIES, Span, overlaps

BATCH_BYTES = 16 << 20  # of token ids in one output batch; a window of 1M tokens has 4 MiB

CUT_SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("domain", pa.string()),
        ("window_id", pa.string()),
        ("window_index", pa.int32()),
        ("start_token", pa.int64()),
        ("end_token", pa.int64()),
        ("start_char", pa.int64()),
        ("end_char", pa.int64()),
        ("overlap_tokens", pa.int64()),
        ("n_tokens", pa.int64()),
        ("n_windows", pa.int32()),
        ("reason", pa.string()),
        ("soft_cuts", pa.int32()),
        ("sketch", pa.list_(pa.int64())),
        ("imports", pa.list_(pa.string())),
        ("token_ids", pa.list_(pa.int32())),
    ]
)

# The documents of a packed window, in order.
PACKED_SCHEMA = pa.schema(
    [
        ("window_id", pa.string()),
        ("domain", pa.string()),
        ("window_index", pa.int32()),
        ("n_tokens", pa.int32()),
        ("packed_from", pa.string()),
        ("segments", SEGMENTS),
        ("token_ids", pa.list_(pa.int32())),
    ]
)

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class WindowSpec:
    """How documents become windows. `length` is in tokens of text: one less than asked with BOS."""

    windowing: str
    tokenizer: str
    length: int
    strategy: str | None  # None keeps a document's tokens whole, to be packed
    order: str | None = None  # of documents to be packed: what of them decides on their place
    chunk_chars: int = 1 << 18

    def refusal(self, n_tokens: int) -> str | None:
        """Why a document of this many tokens gives no window, or None."""
        least = 1 if self.strategy in (None, "whole") else self.length
        return "too_short" if n_tokens < least else None


@dataclass(frozen=True, kw_only=True)
class PackSpec:
    """How a group of documents is packed."""

    strategy: str
    length: int
    separator: int
    order: str | None = None  # similar, repository; else as they are given


def cut_batches(batches: Iterable[pa.RecordBatch], spec: WindowSpec) -> Iterator[pa.RecordBatch]:
    """Tokenise documents (doc_id, domain, text) and cut them: batches of CUT_SCHEMA."""
    tokenizer = load_tokenizer(spec.tokenizer)
    rows = (
        row
        for batch in batches
        for doc_id, domain, text in zip(*(batch.column(i) for i in range(3)), strict=True)
        for row in cut_document(doc_id.as_py(), domain.as_py(), text.as_py(), tokenizer, spec)
    )
    return _batched(rows, CUT_SCHEMA)


def count_batches(batches: Iterable[pa.RecordBatch], tokenizer: str) -> Iterator[pa.RecordBatch]:
    """Tokens of documents (doc_id, text): batches of doc_id, n_tokens and soft_cuts."""
    encoder = load_tokenizer(tokenizer)
    for batch in batches:
        tokens = [encode_long(encoder, text.as_py()) for text in batch.column(1)]
        counts = pa.array([len(one) for one in tokens], pa.int64())
        soft_cuts = pa.array([one.soft_cuts for one in tokens], pa.int32())
        yield pa.record_batch(
            [batch.column(0), counts, soft_cuts], names=["doc_id", "n_tokens", "soft_cuts"]
        )


def cut_document(
    doc_id: str, domain: str, text: str, tokenizer: TextTokenizer, spec: WindowSpec
) -> Iterator[Row]:
    """A document's window rows, then the row of its length."""
    tokens = encode_long(tokenizer, text, spec.chunk_chars)
    reason = spec.refusal(len(tokens))
    document: Row = {"doc_id": doc_id, "domain": domain}
    strategy = None if reason else spec.strategy
    spans = STRATEGIES[strategy](len(tokens), spec.length) if strategy else []
    windows = _window_rows(doc_id, tokens, spec.windowing, spans)
    yield from ({**document, **window} for window in windows)
    yield {
        **document,
        "n_tokens": len(tokens),
        "n_windows": None if spec.strategy is None and not reason else len(windows),
        "reason": reason,
        "soft_cuts": tokens.soft_cuts,
        "sketch": sketch(tokens.ids) if spec.order == "similar" and not reason else None,
        "imports": imported(text) if spec.order == "repository" and not reason else None,
        "token_ids": tokens.ids if spec.strategy is None and not reason else None,
    }


def pack_table(documents: pa.Table, spec: PackSpec, gain: Gain | None = None) -> pa.Table:
    """Pack one group of documents (doc_id, domain, packed_from, place, token_ids): PACKED_SCHEMA.

    They are of one domain and one group, and a window is named by its group and its place there.

    The order of the documents given does not matter: `place` says it, and `spec.order` what is more
    than that. A gain checks what `similar` joins.
    """
    documents = _in_order(documents.sort_by("place"), spec, gain)
    ids, tokens = documents["doc_id"].to_pylist(), _token_arrays(documents["token_ids"])
    windows = PACKERS[spec.strategy]([len(t) for t in tokens], spec.length)
    domain, group = (documents[name][0].as_py() for name in ("domain", "packed_from"))
    rows: list[Row] = []
    for index, window in enumerate(windows):
        rows.append(
            {
                "window_id": _digest(f"{group}|{index}"),
                "packed_from": group,
                "domain": domain,
                "window_index": index,
                "n_tokens": sum(part.n_tokens for part in window),
                "segments": [
                    {"doc_id": ids[document], "start_token": start, "n_tokens": n_tokens}
                    for document, start, n_tokens in window
                ],
                "token_ids": tokens_of(window, tokens, spec.separator),
            }
        )
    return pa.Table.from_batches(list(_batched(rows, PACKED_SCHEMA)), PACKED_SCHEMA)


def _in_order(documents: pa.Table, spec: PackSpec, gain: Gain | None) -> pa.Table:
    """With `repository` the documents have their repository, path and imports."""
    if spec.order == "similar":
        tokens = _token_arrays(documents["token_ids"])
        return documents.take(similar_order(tokens, spec.length, gain))
    if spec.order == "repository":
        columns = (documents[name].to_pylist() for name in ("repository", "path", "imports"))
        return documents.take(repositories_in_order(*columns))
    return documents


def window_id(doc_id: str, windowing: str, index: int) -> str:
    """Stable id of a window: 32 hex digits."""
    return _digest(f"{doc_id}|{windowing}|{index}")


def _window_rows(doc_id: str, tokens: Tokens, windowing: str, spans: list[Span]) -> list[Row]:
    return [
        {
            "window_id": window_id(doc_id, windowing, index),
            "window_index": index,
            "start_token": start,
            "end_token": end,
            "start_char": tokens.char_at(start),
            "end_char": tokens.char_at(end),
            "overlap_tokens": overlap,
            "n_tokens": end - start,
            "token_ids": tokens.ids[start:end],
        }
        for index, ((start, end), overlap) in enumerate(zip(spans, overlaps(spans), strict=True))
    ]


def _batched(rows: Iterable[Row], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Rows in batches of about BATCH_BYTES of token ids."""
    batch: list[Row] = []
    n_bytes = 0
    for row in rows:
        batch.append(row)
        token_ids = row.get("token_ids")
        n_bytes += 256 + (0 if token_ids is None else token_ids.nbytes)
        if n_bytes >= BATCH_BYTES:
            yield _record_batch(batch, schema)
            batch, n_bytes = [], 0
    if batch:
        yield _record_batch(batch, schema)


def _record_batch(rows: list[Row], schema: pa.Schema) -> pa.RecordBatch:
    def column(name: str, type_: pa.DataType) -> pa.Array:
        values = [row.get(name) for row in rows]
        return _token_lists(values) if name == "token_ids" else pa.array(values, type_)

    return pa.RecordBatch.from_arrays([column(f.name, f.type) for f in schema], schema=schema)


def _token_lists(values: list[NDArray[np.int32] | None]) -> pa.ListArray:
    """Arrays as one list column without a Python object per token."""
    present = [value for value in values if value is not None]
    ends = np.cumsum([0, *(0 if value is None else len(value) for value in values)])
    flat = np.concatenate(present) if present else np.empty(0, dtype=np.int32)
    missing = pa.array([value is None for value in values])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(flat), mask=missing)


def _token_arrays(column: pa.ChunkedArray) -> list[NDArray[np.int32]]:
    return [np.asarray(value.values) for chunk in column.chunks for value in chunk]


def _digest(text: str) -> str:
    return hex_digest(text)[:32]
