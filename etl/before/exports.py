"""What each export takes: windows of the sample, written by the format's own writer."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pyarrow as pa

from longattn.etl.before.sampling import Document, Range
from longattn.etl.config import Config, ExportTarget
from longattn.etl.export import FORMATS
from longattn.etl.export.files import Folder
from longattn.etl.export.formats import Format
from longattn.etl.export.job import options_of
from longattn.etl.export.write import as_samples
from longattn.udfs.text.tokens import encode_long, load_tokenizer
from longattn.udfs.windows.segments import OCTAVES, SEGMENTS

DOCUMENTS = 64  # whose beginnings are written in each format
# Columns of `samples` whose values say nothing of a sample's size, and what stands for them.
ALIKE = {
    **dict.fromkeys(("window_id", "doc_id"), "0" * 32),
    **dict.fromkeys(("domain", "source", "scorer"), "recall"),
    **dict.fromkeys(("score", "percentile", "lds"), 0.5),
    **dict.fromkeys(("start_char", "end_char", "start_token"), 0),
    "copy": 1,
}


@dataclass(frozen=True)
class Size:
    """Bytes of an export: those of every token, text and ids alike, and those of every file."""

    per_token: float
    per_file: float
    shard_tokens: int

    def of(self, tokens: Range) -> Range:
        """The bytes of an export of so many tokens."""
        files = max(1.0, tokens.value / self.shard_tokens) if tokens.value else 0.0
        return tokens * self.per_token + Range(1, 1, 1) * (files * self.per_file)


def sizes(config: Config, documents: Sequence[Document]) -> dict[str, Size]:
    """How large each of the config's exports is, as windows of these documents show it."""
    rows = windows_of(config, documents)
    return {
        name: _size(FORMATS[name], target, rows, config)
        for name, target in config.export.targets.items()
    }


def windows_of(config: Config, documents: Sequence[Document]) -> pa.RecordBatch:
    """Beginnings of documents in windows no longer than the config's, as `samples` has them."""
    tokenizer, length = load_tokenizer(config.tokenizer_path), config.window.length
    texts, ids = [], []
    for document in documents[:: -(-len(documents) // DOCUMENTS)]:
        tokens = encode_long(tokenizer, document.text)
        for start, end in pairwise([*range(0, len(tokens), length), len(tokens)]):
            texts.append(document.text[tokens.char_at(start) : tokens.char_at(end)])
            ids.append(tokens.ids[start:end])
    columns = {name: pa.array([value] * len(ids)) for name, value in ALIKE.items()}
    columns["text"] = pa.array(texts, pa.string())
    columns["token_ids"] = pa.array(ids, pa.list_(pa.int32()))
    columns["n_tokens"] = pa.array([len(one) for one in ids], pa.int32())
    columns["segments"] = pa.nulls(len(ids), SEGMENTS)
    return pa.RecordBatch.from_pydict(columns)


def _size(format_: Format, target: ExportTarget, rows: pa.RecordBatch, config: Config) -> Size:
    """A line through the files of one window and of all: what a file takes lies at no token."""
    few, few_tokens = _written(format_, target, rows[:1], config)
    many, many_tokens = _written(format_, target, rows, config)
    further = many_tokens - few_tokens
    per_token = (many - few) / further if further else many / max(1, many_tokens)
    per_file = max(0.0, few - few_tokens * per_token)
    return Size(per_token=per_token, per_file=per_file, shard_tokens=target.shard_tokens)


def _written(
    format_: Format, target: ExportTarget, rows: pa.RecordBatch, config: Config
) -> tuple[int, int]:
    """The bytes and the tokens of one shard of these windows."""
    with tempfile.TemporaryDirectory() as folder:
        size = load_tokenizer(config.tokenizer_path).vocabulary_size
        place, largest_id = Folder.at(f"{folder}/export"), (size or 1 << 31) - 1
        options = options_of(config, target, place, largest_id)
        if target.target_weights:  # any that differ take the same room
            options = replace(options, target_weights=tuple(map(float, range(OCTAVES))))
        options.folder.begin()
        writer = format_.writer(options)
        writer.write(as_samples(rows, 0, options))
        parts = writer.close()
    return sum(part.bytes for part in parts), sum(part.tokens for part in parts)
