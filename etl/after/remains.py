"""What an export still holds of documents that were forgotten: runs of their words, by hashes.

No text is remembered, only the smallest hashes of a document's n-grams (udfs.text.ngrams). The
export's own files are read, each by what its format keeps: text, or tokens that are decoded.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from longattn.etl.after.reading import Reader
from longattn.etl.export.files import Folder
from longattn.etl.export.read import opened
from longattn.etl.export.writers.jsonl import lines
from longattn.etl.export.writers.mds import decode_shard
from longattn.udfs.text.ngrams import Hashes, distinct_ngrams

WORDS = 13  # in a row
REMEMBERED = 64  # hashes of a document at most

Decode = Callable[[Sequence[int]], str]
Texts = Iterator[tuple[int, str]]  # place in the file, text


def sketch(text: str) -> list[int]:
    """The smallest hashes of the text's n-grams, as a table of bigints has them."""
    hashes: list[int] = distinct_ngrams([text], WORDS)[:REMEMBERED].view(np.int64).tolist()
    return hashes


def sketches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """doc_id and text in, doc_id and the sketch of the text out."""
    for batch in batches:
        rows = [sketch(text.as_py() or "") for text in batch["text"]]
        ngrams = pa.array(rows, pa.list_(pa.int64()))
        yield pa.RecordBatch.from_arrays([batch["doc_id"], ngrams], ["doc_id", "ngrams"])


def remains(reader: Reader, path: str, decode: Decode | None) -> list[str]:
    """A line for each forgotten document of which the export has a run of words.

    `decode` reads token ids; None where ids are of no vocabulary. Raises UserError where there is
    no export.
    """
    known = _known(reader)
    every = np.sort(np.concatenate([*known.values(), np.empty(0, np.uint64)]))
    seen: dict[str, set[int]] = defaultdict(set)
    first: dict[str, int] = {}
    for number, text in _texts(path, decode) if len(every) else ():
        hashes = np.intersect1d(distinct_ngrams([text], WORDS), every)
        for doc_id, mine in known.items() if len(hashes) else ():
            if hits := set(np.intersect1d(hashes, mine).tolist()):
                seen[doc_id] |= hits
                first.setdefault(doc_id, number)
    return [
        f"document {doc_id}: {len(hits)} of {len(known[doc_id])} runs of {WORDS} words that are"
        f" remembered of it are in {path}, first in sample {first[doc_id]}"
        for doc_id, hits in seen.items()
    ]


def _known(reader: Reader) -> Mapping[str, Hashes]:
    """Forgotten documents of which there is a sketch."""
    if "forgotten" not in reader.made:
        return {}
    rows = reader.rows("SELECT DISTINCT doc_id, ngrams FROM forgotten WHERE ngrams IS NOT NULL")
    return {row["doc_id"]: np.array(row["ngrams"], np.int64).view(np.uint64) for row in rows}


def _texts(path: str, decode: Decode | None) -> Texts:
    """The text of every sample of an export, by its number."""
    folder, manifest = opened(path)
    read = READERS[manifest["format"]]
    for file in manifest["files"]:
        for place, text in read(folder, file, manifest["sequence_length"], decode or _nothing):
            yield file["first_sample"] + place, text


def _nothing(token_ids: Sequence[int]) -> str:
    return ""


def _of_parquet(folder: Folder, file: Mapping[str, Any], length: int, decode: Decode) -> Texts:
    shard, place = pq.ParquetFile(folder.open(file["name"])), 0
    columns = [name for name in ("text", "input_ids") if name in shard.schema_arrow.names]
    for batch in shard.iter_batches(256, columns=columns):
        for row in batch.to_pylist():
            yield place, row.get("text") or decode(row.get("input_ids") or [])
            place += 1


def _of_jsonl(folder: Folder, file: Mapping[str, Any], length: int, decode: Decode) -> Texts:
    for place, line in enumerate(lines(folder.open(file["name"]), file["name"])):
        row = json.loads(line)
        yield place, row.get("text") or row.get("content") or ""


def _of_mds(folder: Folder, file: Mapping[str, Any], length: int, decode: Decode) -> Texts:
    for place, row in enumerate(decode_shard(folder.open(file["name"]).read())):
        yield place, decode((row["tokens"] if "tokens" in row else row["input_ids"]).tolist())


def _of_bare_tokens(folder: Folder, file: Mapping[str, Any], length: int, decode: Decode) -> Texts:
    """Every sample has `length` tokens, of as many bytes as the file has for them."""
    if not file["samples"]:
        return
    width = file["bytes"] // (file["samples"] * length)
    data = folder.open(file["name"]).read()
    rows = np.frombuffer(data, "<u2" if width == 2 else "<i4").reshape(-1, length)
    yield from enumerate(decode(row.tolist()) for row in rows)


READERS: Mapping[str, Callable[[Folder, Mapping[str, Any], int, Decode], Texts]] = {
    "parquet": _of_parquet,
    "megatron_bridge": _of_parquet,
    "jsonl": _of_jsonl,
    "mds": _of_mds,
    "megatron": _of_bare_tokens,
    "numpy": _of_bare_tokens,
}
