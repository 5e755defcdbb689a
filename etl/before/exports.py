"""What a token takes in each export: windows of the sample, written by the format's own writer."""

import tempfile
from collections.abc import Sequence
from itertools import pairwise

import pyarrow as pa

from longattn.etl.before.sampling import Document
from longattn.etl.config import Config, ExportTarget
from longattn.etl.export import FORMATS
from longattn.etl.export.files import Folder
from longattn.etl.export.formats import Format, Options
from longattn.etl.export.job import knows_ids
from longattn.etl.export.write import as_samples
from longattn.udfs.text.tokens import encode_long, load_tokenizer
from longattn.udfs.windows.segments import SEGMENTS

DOCUMENTS = 64  # whose beginnings are written in each format
# Columns of `samples` whose values say nothing of a sample's size, and what stands for them.
ALIKE = {
    **dict.fromkeys(("window_id", "doc_id"), "0" * 32),
    **dict.fromkeys(("domain", "source", "scorer"), "recall"),
    **dict.fromkeys(("score", "percentile", "lds"), 0.5),
    **dict.fromkeys(("start_char", "end_char", "start_token"), 0),
    "copy": 1,
}


def bytes_a_token(config: Config, documents: Sequence[Document]) -> dict[str, float]:
    """Bytes that a token of a sample takes in each of the config's exports, text and ids alike."""
    rows = windows_of(config, documents)
    return {
        name: _bytes(FORMATS[name], target, rows, config)
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


def _bytes(format_: Format, target: ExportTarget, rows: pa.RecordBatch, config: Config) -> float:
    with tempfile.TemporaryDirectory() as folder:
        options = _options(target, Folder.at(f"{folder}/export"), config)
        options.folder.begin()
        writer = format_.writer(options)
        writer.write(as_samples(rows, 0, options))
        parts = writer.close()
    return sum(part.bytes for part in parts) / max(1, sum(part.tokens for part in parts))


def _options(target: ExportTarget, folder: Folder, config: Config) -> Options:
    size = load_tokenizer(config.tokenizer_path).vocabulary_size
    return Options(
        folder=folder,
        compression=target.compression,
        prefix=target.prefix,
        tokenizer=config.tokenizer_path,
        largest_id=(size or 1 << 31) - 1,
        with_ids=knows_ids(config),
        position_ids=target.position_ids,
        token_column=target.token_column,
        text_key=target.text_key,
    )
