"""An export read back by its manifest: whether it is whole, what a sample is. Needs no Spark."""

import re
from collections.abc import Iterator
from itertools import groupby
from os import PathLike, fspath
from typing import Any

from longattn.etl.export import FORMATS
from longattn.etl.export.files import Folder, files_of
from longattn.udfs.errors import LongAttnError, UserError, first_line

SUFFIX = re.compile(r"\.((samples|idx)\.parquet|csv\.gz|jsonl(\.\w+)?|[a-z]+)$")

SUMS = ("samples", "tokens", "bytes")

Row = dict[str, Any]


def opened(path: str | PathLike[str]) -> tuple[Folder, dict[str, Any]]:
    """The folder of an export and its manifest; UserError where there is none."""
    folder = Folder.at(fspath(path))
    manifest = folder.manifest()
    if manifest is None:
        raise UserError(f"{path}: no export: it has no _manifest.json")
    return folder, manifest


def faults(path: str) -> Iterator[str]:
    """What is wrong with an export, a line each: files missing, changed or too many, sums, and
    samples whose documents are not as many tokens as they have.
    """
    folder, manifest = opened(path)
    if manifest.get("format") not in FORMATS or "extras" not in manifest:
        yield f"{path} was made by version {manifest.get('longattn')}; export it again"
        return
    damaged = folder.faults(files_of(manifest), hashes=True)
    yield from damaged
    yield from (f"{name} is not in the manifest" for name in folder.strangers())
    for key in SUMS:
        total = sum(file.get(key, 0) for file in manifest.get("files", []))
        if total != (said := manifest.get(key, 0)):
            yield f"the manifest says {said:,} {key}, and names files of {total:,}"
    if not damaged:
        yield from _of_samples(folder, manifest)


def _of_samples(folder: Folder, manifest: dict[str, Any]) -> Iterator[str]:
    """One line for each file whose samples are not what the manifest or they themselves say."""
    for name, first, n_samples, n_tokens, rows in _shards(folder, manifest):
        wrong: list[str] = []
        count = tokens = 0
        try:
            for row in rows:
                wrong += _of_sample(row, first + count)
                count, tokens = count + 1, tokens + row["n_tokens"]
        except (LongAttnError, KeyError, ValueError, OSError) as error:
            yield f"{name}: cannot be read: {type(error).__name__}: {first_line(error)}"
            continue
        if (count, tokens) != (n_samples, n_tokens):
            wrong.append(
                f"{count:,} samples of {tokens:,} tokens; the manifest says {n_samples:,} of"
                f" {n_tokens:,}"
            )
        if wrong:
            more = f", and {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
            yield f"{name}: {wrong[0]}{more}"


def _shards(
    folder: Folder, manifest: dict[str, Any]
) -> Iterator[tuple[str, int, int, int, Iterator[Row]]]:
    """Each file with samples: its name, first sample, samples, tokens and rows (see READ).

    Files of one shard have one name up to their suffix.
    """
    read = FORMATS[manifest["format"]].read
    for _, of_shard in groupby(sorted(manifest["files"], key=_stem), key=_stem):
        files = list(of_shard)
        first = min((file["first_sample"] for file in files if file["samples"]), default=0)
        n_samples, n_tokens = (sum(f[key] for f in files) for key in ("samples", "tokens"))
        for file in files:
            rows = read(folder.open(file["name"]), file["name"])
            if rows is not None:
                yield file["name"], first, n_samples, n_tokens, rows


def _stem(file: Row) -> str:
    return SUFFIX.sub("", file["name"])


def _of_sample(row: Row, number: int) -> list[str]:
    """What is wrong with one sample."""
    n_tokens, wrong = row["n_tokens"], list[str]()
    if row["sample"] != number:
        wrong.append(f"sample {row['sample']} where {number} should be")
    if row.get("n_ids", n_tokens) != n_tokens:
        wrong.append(f"sample {number} has {row['n_ids']:,} token ids, not {n_tokens:,}")
    if sum(row["seq_lens"]) != n_tokens:
        total = sum(row["seq_lens"])
        wrong.append(f"sample {number}: seq_lens sum to {total:,}, and it has {n_tokens:,} tokens")
    if "segments" in row and not _joined(row["segments"], n_tokens):
        wrong.append(f"sample {number}: its segments do not join up to its {n_tokens:,} tokens")
    return wrong


def _joined(segments: list[Row], n_tokens: int) -> bool:
    """Whether segments follow one another without a gap, from the first token to the last."""
    place = 0
    for segment in segments:
        if segment["start"] != place or segment["length"] < 1:
            return False
        place += segment["length"]
    return place == n_tokens


def sample_at(path: str, number: int) -> Row:
    """The row of a sample by its number; UserError where the export has no such sample."""
    folder, manifest = opened(path)
    if not 0 <= number < manifest["samples"]:
        raise UserError(f"{path}: no sample {number}; they go from 0 to {manifest['samples'] - 1}")
    for _, first, n_samples, _, rows in _shards(folder, manifest):
        if first <= number < first + n_samples:
            return next(row for row in rows if row["sample"] == number)
    raise UserError(f"{path}: sample {number} is in none of its files; run `longattn verify`")


def lines_of(path: str, number: int) -> Iterator[str]:
    """What a sample is, for people."""
    row = sample_at(path, number)
    lengths = ", ".join(f"{length:,}" for length in row["seq_lens"])
    window = f"window {row['window_id']} of {row['domain']}, {row['n_tokens']:,} tokens"
    yield f"sample     {number}: {window}"
    yield f"attention  within stretches of {lengths} tokens"
    for segment in row.get("segments") or ():
        end = segment["start"] + segment["length"]
        begun = f"from its token {segment['start_token']:,} on"
        yield f"document   {segment['doc_id']}: tokens {segment['start']:,} to {end:,}, {begun}"
