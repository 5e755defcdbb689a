"""What a folder of files seems to hold: domains, formats, fields, and how long its texts are."""

import codecs
import os
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import escape
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from longattn.etl.before.probe import spread
from longattn.etl.ingest.local_files import LOG, is_ignored
from longattn.etl.ingest.own import OwnFiles
from longattn.udfs.documents.bytes import BrokenStream, Split, compression
from longattn.udfs.documents.formats import UTF_16, SourceSpec, batch_records, read
from longattn.udfs.documents.records import as_text
from longattn.udfs.errors import SourceError, first_line
from longattn.udfs.storage import file_uri
from longattn.udfs.text.words import split_words
from longattn.udfs.windows.spans import STRATEGIES

RECORDS = 100  # of a domain's files of one kind that are looked at
FILES = 20  # that they come from, spread over all
TEXTS = ("text", "content", "body", "document", "raw_content", "article", "markdown")
IDS = ("id", "doc_id", "document_id", "uuid", "url", "path")
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
ALL = "*"  # names without an ending have nothing that tells them from others
SNIFFED = 4096  # bytes of a file that say whether it is text
LENGTHS = (32_768, 16_384, 8192, 4096, 2048, 1024)  # of windows, in tokens
TEXTS_FILLED = 0.25  # of a domain's texts should hold a window
TOKENS_KEPT = 0.5  # of its tokens should be in windows


@dataclass
class Source:
    """Files of one domain and one format, and what their first records have."""

    domain: str
    folder: Path
    format: str
    include: list[str] = field(default_factory=list)  # globs of file names
    exclude: list[str] = field(default_factory=list)  # of what is not to be among these
    below: bool = True  # whether files of subfolders count
    files: list[Path] = field(default_factory=list)
    text: str | None = None  # the field, of formats with fields
    id: str | None = None
    other: list[str] = field(default_factory=list)
    words: list[int] = field(default_factory=list)  # of each text looked at

    def take(self, file: Path, pattern: str) -> None:
        """Add a file, and the pattern of its name where that is a new one."""
        self.files.append(file)
        self.include += [pattern] if pattern not in self.include else []

    def tell_apart(self, others: set[str], tables: set[str]) -> None:
        """Exclude other files where any name is included, and Delta tables among them."""
        if ALL in self.include:
            self.include, self.exclude = [ALL], sorted(others - {*self.include})
        self.exclude += sorted(tables)


@dataclass
class Guess:
    """All that was found in a folder, and the names of what was left aside, with the reason."""

    folder: Path
    sources: list[Source]
    ignored: dict[str, str]

    @property
    def domains(self) -> dict[str, list[int]]:
        """Tokens of each text looked at, by domain."""
        domains: dict[str, list[int]] = {}
        for source in self.sources:
            domains.setdefault(source.domain, []).extend(source.words)
        return domains

    @property
    def window(self) -> int:
        """The longest window that suits every domain; one whose texts are too short for any waits.

        It suits where a quarter of the texts can fill it and half of the tokens are in windows.
        """
        longest = map(_longest, self.domains.values())
        return min((n for n in longest if n), default=LENGTHS[-1])

    @property
    def choice(self) -> str:
        """What the window's length is, in words."""
        unsuited = [name for name, counts in self.domains.items() if not _longest(counts)]
        if len(unsuited) == len(self.domains):
            return "the shortest, as none suits any domain"
        but = f" but {', '.join(unsuited)}, which none suits" if unsuited else ""
        return f"the longest that suits every domain{but}"

    def table(self) -> list[str]:
        """What each length of window would keep of each domain, as lines for people."""
        width = max(len("domain"), *map(len, self.domains))
        lines = [
            f"{'domain':<{width}}  texts  median  windows of so many tokens: texts that fill one,"
            " share of tokens in them",
            f"{'':<{width}}               " + "".join(f"{n:>11,}" for n in reversed(LENGTHS)),
        ]
        for domain, counts in self.domains.items():
            cells = "".join(_cell(counts, n) for n in reversed(LENGTHS))
            lines.append(
                f"{domain:<{width}}  {len(counts):>5}  {statistics.median(counts):>6,.0f}{cells}"
            )
        return lines


def tokens_kept(counts: Sequence[int], length: int, strategy: str = "longattn") -> float:
    """The share of documents' tokens that is in windows of a length.

    >>> tokens_kept([1000, 3000], 1000), tokens_kept([1000, 3000], 2048)
    (1.0, 0.75)
    """
    cut = STRATEGIES[strategy]
    kept = sum(min(count, length * len(cut(count, length))) for count in counts)
    return kept / max(sum(counts), 1)


def _longest(counts: Sequence[int]) -> int | None:
    """The longest window that suits texts of so many tokens; None where none does."""
    return next((length for length in LENGTHS if _suits(counts, length)), None)


def _suits(counts: Sequence[int], length: int) -> bool:
    filled = _filling(counts, length) / max(len(counts), 1)
    return filled >= TEXTS_FILLED and tokens_kept(counts, length) >= TOKENS_KEPT


def _filling(counts: Sequence[int], length: int) -> int:
    """How many of the texts fill a window."""
    return sum(count >= length for count in counts)


def _cell(counts: Sequence[int], length: int) -> str:
    return f"{_filling(counts, length):>6,}{tokens_kept(counts, length):>5.0%}"


def guess(folder: str, own: OwnFiles) -> Guess:
    """Look at the files of a folder; every subfolder is a domain, files beside them another.

    Those that jobs have written, as `own` knows, are left aside.
    Raises SourceError where there is no folder, or nothing in it that can be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise SourceError(f"init: no such folder: {folder}")
    corpus = Guess(folder=root, sources=[], ignored={})
    for place, domain in _domains(corpus):
        for source in _by_format(place, domain, corpus.ignored, own, below=place != root):
            _look(source, corpus)
    if not corpus.sources:
        reasons = [f"{name}: {why}" for name, why in islice(corpus.ignored.items(), 3)]
        raise SourceError(f"init: {folder} holds no documents ({'; '.join(reasons) or 'empty'})")
    return corpus


def _domains(corpus: Guess) -> Iterator[tuple[Path, str]]:
    """The folder itself, then its subfolders, each with the name of its domain.

    Hidden ones are left aside: as a rule they are those of programs, such as .venv and .cache.
    """
    root = corpus.folder
    yield root, _name(root.resolve().name)
    for place in sorted(path for path in root.iterdir() if path.is_dir()):
        if is_ignored(os.fsencode(place)):
            continue
        if place.name.startswith("."):
            corpus.ignored[shown(place)] = "hidden"
        else:
            yield place, _name(place.name)


def _name(text: str) -> str:
    return re.sub(r"\W+", "_", text.lower()).strip("_") or "documents"


def _by_format(
    place: Path, domain: str, ignored: dict[str, str], own: OwnFiles, below: bool
) -> Iterator[Source]:
    """The files of a place by format; `below`: those of its subfolders too."""
    sources: dict[str, Source] = {}
    others: set[str] = set()  # patterns of what is left aside
    tables: set[str] = set()  # and of Delta tables, which lie among Parquet files
    for file in sorted(_plain_files(place, below)):
        if left := _left_aside(file, own):
            where, ignored[shown(where)] = left
            others.add(_pattern(file, below))
            tables |= {f"*/{escape(where.name)}/*"} if (where / LOG).is_dir() else set()
            continue
        new = Source(domain=domain, folder=place, format=_format(file) or "text", below=below)
        sources.setdefault(new.format, new).take(file, _pattern(file, below))
    for source in sources.values():
        patterns = {p for other in sources.values() if other != source for p in other.include}
        source.tell_apart(patterns | others, tables)
    yield from sources.values()


def _plain_files(place: Path, below: bool) -> Iterator[Path]:
    """Files of a place, less those that ingest leaves out by their names or their folders'."""
    for folder, folders, names in os.walk(place):
        paths = {name: Path(folder, name) for name in [*folders, *names]}
        read = {name for name, path in paths.items() if not is_ignored(os.fsencode(path))}
        folders[:] = read.intersection(folders) if below else ()
        yield from (paths[name] for name in read.intersection(names) if paths[name].is_file())


def _pattern(file: Path, below: bool) -> str:
    """The glob of files with the same ending; of a name without one, the name, or any name.

    Where subfolders are domains of their own, any name would be that of one of them.
    """
    ending = _ending(file)
    return escape(file.name) if not ending and not below else f"*{escape(ending)}"


def shown(file: Path) -> str:
    """A path as one line of text, whatever the bytes of its name."""
    text = os.fsencode(file).decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _ending(file: Path) -> str:
    """The suffix, with that of a compression; all of a name such as .env."""
    whole = Path(f"x{file.name}")
    return "".join(whole.suffixes[-2:]) if compression(whole.name) else whole.suffix


def _plain_ending(file: Path) -> str:
    """The ending in small letters, without that of a compression."""
    return _ending(file).lower().removesuffix(compression(file.name) or "")


def _format(file: Path) -> str | None:
    """What the ending says; None where that is nothing."""
    return FORMATS.get(_plain_ending(file))


def _left_aside(file: Path, own: OwnFiles) -> tuple[Path, str] | None:
    """The file, or its folder, and why it is no source; None where it is one."""
    if own.has(file_uri(os.fsencode(file.absolute()))):
        return file.parent, "a job has written it"
    if table := next((folder for folder in file.parents if (folder / LOG).is_dir()), None):
        return table, "a Delta table: name it, with format: delta and an id"
    if _format(file):
        return None
    if _ending(file) == file.name:
        return file, "hidden"
    if _plain_ending(file) in (".csv", ".tsv"):
        return file, "tables of text are read as Parquet or JSON lines"
    if not file.stat().st_size:
        return file, "empty"
    try:
        known = bool(compression(file.name)) or _is_text(file)
    except OSError as error:
        return file, first_line(error)
    return None if known else (file, "neither JSON lines nor Parquet nor text")


def _is_text(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(SNIFFED)
    encoding = "utf-16" if head.startswith(UTF_16) else "utf-8"
    try:  # the last character may be cut
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    return "\0" not in text


def _look(source: Source, corpus: Guess) -> None:
    """Read a source's first records, choose its fields, and add it, or say why not."""
    records = list(islice(_records(source, corpus.ignored), RECORDS))
    name = "text" if source.format == "text" else _text_field(records)
    if source.format != "text":
        source.text, source.id = name, _id_field(records, name)
        names = {key for record in records for key in record}
        source.other = sorted(names - {source.text, source.id})
    texts = [r[name] for r in records if isinstance(r.get(name), str)] if name else []
    if not texts:
        ending = source.include[0]
        corpus.ignored[shown(source.folder / ending)] = "no record with a text field"
        return
    source.words = [len(split_words(text)[0]) for text in texts]
    corpus.sources.append(source)


def _records(source: Source, ignored: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Records of files all over the source, so many of each that all have their turn."""
    reader = _parquet_records if source.format == "parquet" else _read_records
    files = spread(source.files, RECORDS if source.format == "text" else FILES)
    each = -(-RECORDS // max(len(files), 1)) if source.format != "text" else 1
    for file in files:
        try:
            yield from islice(reader(file, source), each)
        except (OSError, BrokenStream, pa.ArrowInvalid) as error:
            ignored[shown(file)] = first_line(error)


def _parquet_records(file: Path, source: Source) -> Iterator[dict[str, Any]]:
    with file.open("rb") as opened:  # Arrow takes no name that is not UTF-8
        for batch in pq.ParquetFile(opened).iter_batches(batch_size=RECORDS):
            for record in batch_records(batch):
                if isinstance(record, dict):
                    yield {name: as_text(value) for name, value in record.items()}


def _read_records(file: Path, source: Source) -> Iterator[dict[str, Any]]:
    size = file.stat().st_size
    uri = file_uri(os.fsencode(file.absolute()))  # a name may have a colon, as a scheme has
    split = Split(uri, 0, size, size, 1, file.name)
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
