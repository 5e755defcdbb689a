"""What a folder of files seems to hold: domains, formats, fields, and how long its texts are."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from longattn.udfs.documents.bytes import BrokenStream, Split, compression
from longattn.udfs.documents.formats import SourceSpec, read
from longattn.udfs.errors import SourceError, first_line
from longattn.udfs.text.words import split_words

RECORDS = 20  # of a domain's files of one kind that are looked at
TEXTS = ("text", "content", "body", "document", "raw_content", "article", "markdown")
IDS = ("id", "doc_id", "document_id", "uuid", "url", "path")
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
SNIFFED = 4096  # bytes of a file that say whether it is text
LENGTHS = (32_768, 16_384, 8192, 4096, 2048, 1024)  # of windows, in tokens
ENOUGH = 0.25  # of the texts looked at must hold a window


@dataclass
class Source:
    """Files of one domain and one format, and what their first records have."""

    domain: str
    folder: Path
    format: str
    include: list[str]  # globs of file names
    below: bool = True  # whether files of subfolders count
    files: int = 0
    text: str | None = None  # the field, of formats with fields
    id: str | None = None
    other: list[str] = field(default_factory=list)
    words: list[int] = field(default_factory=list)  # of each text looked at


@dataclass
class Guess:
    """All that was found in a folder, and the names of what was left aside, with the reason."""

    folder: Path
    sources: list[Source]
    ignored: dict[str, str]

    @property
    def window(self) -> int:
        """The longest window that a quarter of the texts can fill, in tokens."""
        words = [count for source in self.sources for count in source.words]
        wanted = ENOUGH * len(words)
        fits = (n for n in LENGTHS if words and sum(count >= n for count in words) >= wanted)
        return next(fits, LENGTHS[-1])


def guess(folder: str) -> Guess:
    """Look at the files of a folder; every subfolder is a domain, files beside them another.

    Raises SourceError where there is no folder, or nothing in it that can be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise SourceError(f"init: no such folder: {folder}")
    found = Guess(folder=root, sources=[], ignored={})
    for place, domain in _domains(root):
        for source in _by_format(place, domain, found.ignored, below=place != root):
            _look(source, found)
    if not found.sources:
        reasons = [f"{name}: {why}" for name, why in islice(found.ignored.items(), 3)]
        raise SourceError(f"init: {folder} holds no documents ({'; '.join(reasons) or 'empty'})")
    return found


def _domains(root: Path) -> Iterator[tuple[Path, str]]:
    """The folder itself, then its subfolders, each with the name of its domain."""
    yield root, _name(root.resolve().name)
    for place in sorted(path for path in root.iterdir() if path.is_dir()):
        if place.name[0] not in "._":
            yield place, _name(place.name)


def _name(text: str) -> str:
    return re.sub(r"\W+", "_", text.lower()).strip("_") or "documents"


def _by_format(place: Path, domain: str, ignored: dict[str, str], below: bool) -> Iterator[Source]:
    """The files of a place by format; `below`: those of its subfolders too."""
    sources: dict[str, Source] = {}
    for file in sorted(place.rglob("*") if below else place.iterdir()):
        if not file.is_file() or any(p[0] in "._" for p in file.relative_to(place).parts):
            continue
        format_, reason = _format(file)
        if reason:
            ignored[str(file)] = reason
            continue
        new = Source(domain=domain, folder=place, format=format_, include=[], below=below)
        source = sources.setdefault(format_, new)
        source.files += 1
        pattern = f"*{_ending(file)}"
        source.include += [pattern] if pattern not in source.include else []
    yield from sources.values()


def _ending(file: Path) -> str:
    """The suffix, with that of a compression."""
    packed = compression(file.name)
    return "".join(file.suffixes[-2:]) if packed else file.suffix


def _format(file: Path) -> tuple[str, str | None]:
    """Format of a file, or why it is left aside."""
    ending = _ending(file).lower()
    plain = ending.removesuffix(compression(file.name) or "")
    if plain in FORMATS:
        return FORMATS[plain], None
    if plain in (".csv", ".tsv"):
        return "", "tables of text are read as Parquet or JSON lines"
    if not compression(file.name) and not _is_text(file):
        return "", "neither JSON lines nor Parquet nor text"
    return "text", None


def _is_text(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(SNIFFED)
    try:
        head[:-4].decode()  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return bool(head) and b"\0" not in head


def _look(source: Source, found: Guess) -> None:
    """Read a source's first records, choose its fields, and add it, or say why not."""
    records = list(islice(_records(source, found.ignored), RECORDS))
    name = "text" if source.format == "text" else _text_field(records)
    if source.format != "text":
        source.text, source.id = name, _id_field(records, name)
        names = {key for record in records for key in record}
        source.other = sorted(names - {source.text, source.id})
    texts = [r[name] for r in records if isinstance(r.get(name), str)] if name else []
    if not texts:
        ending = source.include[0]
        found.ignored[str(source.folder / ending)] = "no record with a text field"
        return
    source.words = [len(split_words(text)[0]) for text in texts]
    found.sources.append(source)


def _records(source: Source, ignored: dict[str, str]) -> Iterator[dict[str, Any]]:
    reader = _parquet_records if source.format == "parquet" else _read_records
    for ending in source.include:
        glob = source.folder.rglob if source.below else source.folder.glob
        for file in sorted(glob(ending)):
            try:
                yield from reader(file, source)
            except (OSError, BrokenStream, pa.ArrowInvalid) as error:
                ignored[str(file)] = first_line(error)


def _parquet_records(file: Path, source: Source) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(file).iter_batches(batch_size=RECORDS):
        yield from batch.to_pylist()


def _read_records(file: Path, source: Source) -> Iterator[dict[str, Any]]:
    size = file.stat().st_size
    split = Split(str(file), 0, size, size, 1, file.name)
    spec = SourceSpec(domain=source.domain, source=source.domain, format=source.format)
    return (item.record for item in read(split, spec) if item.record is not None)


def _text_field(records: list[dict[str, Any]]) -> str | None:
    """A field of the usual name, else the one with the longest strings."""
    lengths: Counter[str] = Counter()
    for record in records:
        lengths.update({k: len(v) for k, v in record.items() if isinstance(v, str)})
    usual = next((name for name in TEXTS if lengths[name]), None)
    return usual or next((name for name, _ in lengths.most_common(1)), None)


def _id_field(records: list[dict[str, Any]], text: str | None) -> str | None:
    """A field of the usual name whose values differ from record to record."""
    for name in IDS:
        values = [r.get(name) for r in records]
        usable = name != text and all(isinstance(v, str | int) for v in values)
        if usable and len(set(values)) == len(values) > 0:
            return name
    return None
