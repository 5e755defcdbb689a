"""What an export still holds of documents that were forgotten: runs of their words, by hashes.

No text is remembered, only some hashes of a document's n-grams (udfs.text.ngrams). The export's
own files are read, each by what its format keeps: text, or tokens that are decoded.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from longattn.etl.after.reading import Reader
from longattn.etl.export import FORMATS
from longattn.etl.export.formats import Decode, Texts
from longattn.etl.export.read import readable
from longattn.udfs.text.ngrams import Hashes, distinct_ngrams, ngrams, normalised

WORDS = 13  # in a row
APART = 32  # of so many runs of words that begin one after another at least one is remembered


def sketch(text: str) -> list[int]:
    """Hashes of runs of the text's words, as a table of bigints has them.

    Every passage of WORDS + APART - 1 words has one: of APART runs in a row the smallest hash is
    kept (winnowing: Schleimer, Wilkerson and Aiken, SIGMOD 2003).
    """
    runs = np.concatenate([*ngrams(normalised(text), WORDS), np.empty(0, np.uint64)])
    if len(runs) > APART:
        runs = np.lib.stride_tricks.sliding_window_view(runs, APART).min(axis=1)
    hashes: list[int] = np.unique(runs).view(np.int64).tolist()
    return hashes


def sketches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """doc_id and text in, doc_id and the sketch of the text out."""
    for batch in batches:
        rows = [sketch(text.as_py() or "") for text in batch["text"]]
        ngrams = pa.array(rows, pa.list_(pa.int64()))
        yield pa.RecordBatch.from_arrays([batch["doc_id"], ngrams], ["doc_id", "ngrams"])


def remains(known: Mapping[str, Hashes], path: str, decode: Decode | None) -> list[str]:
    """A line for each forgotten document of which the export has a run of words.

    `known` is what is `remembered`; `decode` reads token ids, None where ids are of no vocabulary.
    Raises UserError where there is no export.
    """
    every, owners = _sorted(known)
    seen: dict[str, set[int]] = defaultdict(set)
    first: dict[str, int] = {}
    for number, text in _texts(path, decode) if len(every) else ():
        runs = distinct_ngrams([text], WORDS)
        begin, end = (np.searchsorted(every, runs, side) for side in ("left", "right"))
        for place in np.flatnonzero(end > begin):
            for doc_id in owners[begin[place] : end[place]]:
                seen[doc_id].add(int(runs[place]))
                first.setdefault(doc_id, number)
    return [
        f"document {doc_id}: {len(hits)} of {len(known[doc_id])} runs of {WORDS} words that are"
        f" remembered of it are in {path}, first in sample {first[doc_id]}"
        for doc_id, hits in seen.items()
    ]


def remembered(reader: Reader) -> Mapping[str, Hashes]:
    """What is remembered of the words of each forgotten document."""
    if "forgotten" not in reader.made:
        return {}
    rows = reader.rows("SELECT DISTINCT doc_id, ngrams FROM forgotten")
    return {row["doc_id"]: np.array(row["ngrams"] or [], np.int64).view(np.uint64) for row in rows}


def _sorted(known: Mapping[str, Hashes]) -> tuple[Hashes, list[str]]:
    """All hashes in order, and the document of each."""
    every = np.concatenate([*known.values(), np.empty(0, np.uint64)])
    owners = [doc_id for doc_id, hashes in known.items() for _ in hashes]
    order = np.argsort(every, kind="stable")
    return every[order], [owners[place] for place in order]


def _texts(path: str, decode: Decode | None) -> Texts:
    """The text of every sample of an export, by its number."""
    folder, manifest = readable(path, {"sequence_length"})
    read, length = FORMATS[manifest["format"]].texts, manifest["sequence_length"]
    for file in (file for file in manifest["files"] if file["samples"]):
        for place, text in read(folder.open(file["name"]), file, length, decode or _nothing):
            yield file["first_sample"] + place, text


def _nothing(token_ids: Sequence[int]) -> str:
    return ""
