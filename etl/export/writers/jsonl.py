"""JSON lines with every field that the Parquet export has, and the published data set's `data_id`.

{"text": ..., "data_id": "LongAttn_0000001", "sample": 0, "window_id": ..., "input_ids": [...]}.
LongABC-32K calls the text `content` (`text_key`). A packed window is no stretch of one document:
its text is decoded from its tokens.
"""

import gzip
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from longattn.etl.export.formats import (
    READ,
    Decode,
    Format,
    Options,
    Part,
    Texts,
    as_split,
    part,
)
from longattn.etl.export.writers.parquet import COLUMNS, sample_batch, sample_schema
from longattn.udfs.text.tokens import load_tokenizer

SUFFIXES = {"none": ".jsonl", "gzip": ".jsonl.gz", "zstd": ".jsonl.zst"}


class JsonlWriter:
    """One file of lines, compressed as it is written."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.staged, self.file = options.folder.new_file()
        self.stream = _compressed(self.file, options.compression)
        self.schema = sample_schema(options)
        self.samples = self.tokens = 0

    def write(self, batch: pa.RecordBatch) -> None:
        for row in sample_batch(batch, self.schema).to_pylist():
            text = row.pop("text")
            text = text if text is not None else self._decoded(row["input_ids"])
            number = data_id(self.options.prefix, row["sample"])
            named = {self.options.text_key: text, "data_id": number}
            record = {**named, **row}
            self.stream.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            self.samples += 1
            self.tokens += row["n_tokens"]

    def close(self) -> list[Part]:
        if self.stream is not self.file:
            self.stream.close()
        self.file.close()
        suffix = SUFFIXES[self.options.compression]
        return [part(self.staged, self.file, suffix, self.samples, self.tokens)]

    def _decoded(self, token_ids: list[int]) -> str:
        """The text of a packed window, which is no stretch of one document."""
        tokenizer = load_tokenizer(self.options.tokenizer).tokenizer
        text: str = tokenizer.decode(token_ids, skip_special_tokens=False)
        return text


def _schema(options: Options) -> pa.Schema:
    """Parquet's columns, with the text in the published place."""
    named = [(options.text_key, pa.string()), ("data_id", pa.string())]
    return pa.schema([*named, *(f for f in sample_schema(options) if f.name != "text")])


def data_id(prefix: str, sample: int) -> str:
    """The published id of a sample: numbered from 1, with seven digits or more."""
    return f"{prefix}_{sample + 1:07d}"


def _compressed(file: Any, compression: str) -> Any:
    if compression == "gzip":
        return gzip.GzipFile(fileobj=file, mode="wb", mtime=0)  # no clock in the bytes
    if compression == "zstd":
        import zstandard

        return zstandard.ZstdCompressor().stream_writer(file, closefd=False)
    return file


def _read(stream: Any, name: str) -> Iterator[dict[str, Any]]:
    for line in lines(stream, name):
        row = json.loads(line)
        n_ids = {"n_ids": len(row["input_ids"])} if "input_ids" in row else {}
        yield {key: row[key] for key in READ if key in row} | n_ids


def _texts(stream: Any, entry: Mapping[str, Any], length: int, decode: Decode) -> Texts:
    for place, line in enumerate(lines(stream, entry["name"])):
        row = json.loads(line)
        yield place, row.get("text") or row.get("content") or ""


def lines(stream: Any, name: str) -> Iterator[bytes]:
    """The lines of a shard, whatever it is compressed with."""
    yield from io.BufferedReader(_decompressed(stream, name))


def _decompressed(stream: Any, name: str) -> Any:
    if name.endswith(".gz"):
        return gzip.GzipFile(fileobj=stream)
    if name.endswith(".zst"):
        import zstandard

        return zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
    return stream


JSONL = Format(
    columns=COLUMNS,
    writer=JsonlWriter,
    file_name=as_split,
    read=_read,
    texts=_texts,
    schema=_schema,
)
