"""An export read back by its manifest: whether it is whole, what a sample is. Needs no Spark."""

import re
from collections.abc import Collection, Iterator
from itertools import accumulate, groupby
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np

from longattn.etl.export import FORMATS
from longattn.etl.export.files import MANIFEST, OF_FILE, SUMS, Folder, files_of
from longattn.udfs.errors import ExportError, UserError, first_line

SUFFIX = re.compile(r"\.((samples|idx)\.parquet|csv\.gz|jsonl(\.\w+)?|[a-z]+)$")

Row = dict[str, Any]


class Shard(NamedTuple):
    """A file with samples: what the manifest says of them, their rows (see READ), files beside."""

    name: str
    first: int
    samples: int
    tokens: int
    rows: Iterator[Row]
    beside: list[str]


def opened(path: str | PathLike[str]) -> tuple[Folder, dict[str, Any]]:
    """The folder of an export and its manifest; UserError where there is none.

    Raises ExportError for a manifest that lacks what those of all versions have.
    """
    folder = Folder.at(fspath(path))
    manifest = folder.manifest()
    if manifest is None:
        raise UserError(f"{path}: no export: it has no {MANIFEST}")
    _refuse_lacking(manifest, {"format", "files", *SUMS}, path)
    return folder, manifest


def _refuse_lacking(manifest: dict[str, Any], needed: set[str], path: str | PathLike[str]) -> None:
    """Raise ExportError for a manifest, or an entry of a file in it, that lacks a field."""
    of_files = {key for file in manifest.get("files", []) for key in OF_FILE.keys() - file.keys()}
    if lacking := sorted((needed - manifest.keys()) | of_files):
        raise ExportError(
            f"{path}/{MANIFEST}: it lacks {', '.join(lacking)}: damaged, or of another version"
            f" ({manifest['longattn']}): move {path} away, and export writes it again"
        )


def readable(path: str | PathLike[str], needed: set[str]) -> tuple[Folder, dict[str, Any]]:
    """As `opened`, of an export of this version's formats whose manifest has what is needed."""
    folder, manifest = opened(path)
    if manifest["format"] not in FORMATS:
        raise ExportError(f"{path} was made by version {manifest['longattn']}; export it again")
    _refuse_lacking(manifest, needed, path)
    return folder, manifest


def faults(path: str) -> Iterator[str]:
    """What is wrong with an export, a line each: files missing, changed or too many, sums, and
    samples whose documents are not as many tokens as they have.
    """
    folder, manifest = opened(path)
    if manifest["format"] not in FORMATS:
        yield f"{path} was made by version {manifest['longattn']}; export it again"
        return
    bare = {"dtype", "sequence_length"} if FORMATS[manifest["format"]].dtype else set[str]()
    _refuse_lacking(manifest, {"extras"} | bare, path)
    damaged = folder.faults(files_of(manifest), hashes=True)
    yield from damaged
    yield from (f"{name} is not in the manifest" for name in folder.strangers())
    yield from _of_sums(manifest)
    if not damaged:
        yield from _of_samples(folder, manifest)


def _of_sums(manifest: dict[str, Any]) -> Iterator[str]:
    for key in SUMS:
        total = sum(file[key] for file in manifest["files"])
        if total != (said := manifest[key]):
            yield f"the manifest says {said:,} {key}, and names files of {total:,}"


def _of_samples(folder: Folder, manifest: dict[str, Any]) -> Iterator[str]:
    """One line for each file that is not what the manifest, its samples or they themselves say."""
    for shard in _shards(folder, manifest):
        if wrong := _of_shard(shard):
            more = f", and {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
            yield f"{shard.name}: {wrong[0]}{more}"
        elif shard.beside:
            yield from _of_beside(folder, manifest, shard)


def _of_shard(shard: Shard) -> list[str]:
    """What is wrong with the samples of a file."""
    wrong, count, tokens = list[str](), 0, 0
    fields: Collection[str] = ()
    try:
        for row in shard.rows:
            fields = fields or row.keys()
            wrong += _of_sample(row, shard.first + count, fields)
            count, tokens = count + 1, tokens + row["n_tokens"]
    except Exception as error:  # of any kind: each library that reads files has its own
        return [f"{_unreadable(error)}, at sample {shard.first + count}"]
    if (count, tokens) != (shard.samples, shard.tokens):
        wrong.append(
            f"{count:,} samples of {tokens:,} tokens; the manifest says {shard.samples:,} of"
            f" {shard.tokens:,}"
        )
    return wrong


def _of_beside(folder: Folder, manifest: dict[str, Any], shard: Shard) -> Iterator[str]:
    """One line for each file beside samples that is not of as many tokens, cut where they are."""
    read, fits = FORMATS[manifest["format"]].read, FORMATS[manifest["format"]].fits
    rows = list(read(folder.open(shard.name), shard.name) or ())
    lengths = [max(row["n_tokens"], manifest["sequence_length"]) for row in rows]
    for name in shard.beside:
        try:
            stream = folder.open(name)
            if not (fits and fits(stream, name, rows, lengths, np.dtype(manifest["dtype"]))):
                yield f"{name}: its lengths or boundaries are not those of {shard.name}"
        except Exception as error:
            yield f"{name}: {_unreadable(error)}"


def _unreadable(error: Exception) -> str:
    return f"cannot be read: {type(error).__name__}: {first_line(error)}"


def _shards(folder: Folder, manifest: dict[str, Any]) -> Iterator[Shard]:
    """The files of samples, with what lies beside each: those of one name up to their suffix."""
    read = FORMATS[manifest["format"]].read
    for _, of_shard in groupby(sorted(manifest["files"], key=_stem), key=_stem):
        files = list(of_shard)
        first = min((file["first_sample"] for file in files if file["samples"]), default=0)
        n_samples, n_tokens = (sum(f[key] for f in files) for key in ("samples", "tokens"))
        rows = {file["name"]: read(folder.open(file["name"]), file["name"]) for file in files}
        name = next((name for name in rows if rows[name] is not None), files[0]["name"])
        yield Shard(name, first, n_samples, n_tokens, rows.pop(name) or iter(()), [*rows])


def _stem(file: Row) -> str:
    return SUFFIX.sub("", file["name"])


def _of_sample(row: Row, number: int, fields: Collection[str]) -> Iterator[str]:
    """What is wrong with one sample, of a file whose first has these fields."""
    n_tokens = row["n_tokens"]
    if row["sample"] != number:
        yield f"sample {row['sample']} where {number} should be"
    if other := sorted(row.keys() ^ fields):
        names = ", ".join(other).replace("n_ids", "input_ids")  # of which READ has the number
        yield f"sample {number}: not all samples of the file have {names}"
    if row.get("n_ids", n_tokens) != n_tokens:
        yield f"sample {number} has {row['n_ids']:,} token ids, not {n_tokens:,}"
    yield from (f"sample {number}: {wrong}" for wrong in _of_boundaries(row, n_tokens))


def _of_boundaries(row: Row, n_tokens: int) -> Iterator[str]:
    """What is wrong with the stretches and the documents of a sample."""
    lengths = row["seq_lens"]
    starts = [*accumulate(lengths, initial=0)][:-1]
    if (total := sum(lengths)) != n_tokens:
        yield f"seq_lens sum to {total:,}, and it has {n_tokens:,} tokens"
    if min(lengths, default=1) < 1:
        yield f"seq_lens has a stretch of {min(lengths):,} tokens"
    if row.get("seq_start_id", starts) != starts:
        yield "its seq_start_id is not where the stretches of seq_lens start"
    if "segments" in row and not _joined(row["segments"], n_tokens):
        yield f"its segments do not join up to its {n_tokens:,} tokens"


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
    folder, manifest = readable(path, set())
    if not 0 <= number < manifest["samples"]:
        raise UserError(f"{path}: no sample {number}; they go from 0 to {manifest['samples'] - 1}")
    if row := sample_in(folder, manifest, number):
        return row
    raise UserError(f"{path}: sample {number} is in none of its files; run `longattn verify`")


def sample_in(folder: Folder, manifest: Row, number: int) -> Row | None:
    """The row of a sample, from the files that may hold it; None where they do not."""
    files = manifest["files"]
    stems = {_stem(file) for file in files if holds(file, number)}
    shards = _shards(folder, manifest | {"files": [f for f in files if _stem(f) in stems]})
    rows = (row for shard in shards for row in shard.rows)
    return next((row for row in rows if row["sample"] == number), None)


def holds(file: Row, number: int) -> bool:
    """Whether a file of a manifest has a sample."""
    return 0 <= number - int(file["first_sample"]) < int(file["samples"])


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
