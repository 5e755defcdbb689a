"""A source file's bytes: opened, decompressed, cut into lines, within bounds of memory."""

import bz2
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, NamedTuple, Protocol

from longattn.udfs.storage import file_name

CHUNK = 1 << 20  # bytes read at a time
COMPRESSED_CHUNK = 1 << 14  # gzip makes at most 1032 bytes of one, zstd more
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LFS_POINTER_BYTES = 1024  # by its specification
EXCERPT = 200  # characters of a refused record that are kept


class Split(NamedTuple):
    """Bytes [start, end) of a file, for one task: the lines that start in there.

    Of row groups, which are taken as equally long, those that would.
    """

    uri: str
    start: int
    end: int
    size: int  # of the whole file
    first_row: int  # 1-based number of the first line; row groups count for themselves
    name: str  # the record's id is made of it where the record has none
    constants: str | None = None  # JSON of fields that are not in the file: a table's partition
    content: bytes | None = None  # the whole file, where Python cannot open it by its uri


class BrokenStream(Exception):
    """Compressed data ends too early or is damaged."""


def compression(uri: str) -> str | None:
    """The file name's ending if it is that of a compressed file."""
    ending = os.path.splitext(uri)[1].lower()
    return ending if ending in DECODERS else None


def is_lfs_pointer(split: Split) -> bool:
    """Whether a file is what git-lfs leaves in the place of one that it has not fetched."""
    if split.size > LFS_POINTER_BYTES:
        return False
    with open_split(split) as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def count_lines(split: Split) -> int:
    """Lines that start in a split of a plain file."""
    with open_split(split) as file:
        begin = max(0, split.start - 1)
        file.seek(begin)
        newlines, left = 0, split.end - 1 - begin
        while left > 0 and (chunk := file.read(min(CHUNK, left))):
            newlines += chunk.count(b"\n")
            left -= len(chunk)
    return newlines + (split.start == 0)


class Line(NamedTuple):
    """A line without its newline; `n_bytes` exceeds len(data) when it was too long to be held."""

    data: bytes
    n_bytes: int


def split_lines(chunks: Iterable[bytes], limit: int) -> Iterator[Line]:
    """Cut a stream at newlines; of a line over `limit` bytes only the beginning is held."""
    pieces: list[bytes] = []
    n_bytes = 0
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            pieces.append(piece)
            yield _line(pieces, n_bytes + len(piece), limit)
            n_bytes = 0
        pieces.append(rest)
        n_bytes += len(rest)
        if n_bytes > limit:
            pieces = [beginning(pieces)]
    if n_bytes:
        yield _line(pieces, n_bytes, limit)


def _line(pieces: list[bytes], n_bytes: int, limit: int) -> Line:
    data = b"".join(pieces) if n_bytes <= limit else beginning(pieces)
    pieces.clear()  # the reader of a long line should hold it once
    return Line(data, n_bytes)


def beginning(pieces: list[bytes]) -> bytes:
    enough = 4 * EXCERPT  # UTF-8 takes at most 4 bytes a character
    return b"".join(piece[:enough] for piece in pieces[:enough])[:enough]


class Decoder(Protocol):
    """What zlib, bz2, lzma and zstandard have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _zstd() -> Decoder:
    import zstandard

    # The Pile's files were made with --long=31 and need as large a window.
    decoder: Decoder = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
    return decoder


DECODERS: dict[str, Callable[[], Decoder]] = {
    ".gz": lambda: zlib.decompressobj(zlib.MAX_WBITS | 16),
    ".zst": _zstd,
    ".zstd": _zstd,
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lzma.LZMADecompressor,
}


def chunks(split: Split) -> Iterator[bytes]:
    """The split's bytes, decompressed; of a plain file the lines that start in the split, whole."""
    ending = compression(split.uri)
    with open_split(split) as file:
        if ending:
            yield from decompressed(file, DECODERS[ending])
        else:
            yield from _plain(file, split)


def decompressed(file: IO[bytes], decoder_of: Callable[[], Decoder]) -> Iterator[bytes]:
    """Decompress all members of a file, between and after which zeros are no data.

    Raises BrokenStream after everything before the fault.
    """
    decoder = decoder_of()
    while chunk := file.read(COMPRESSED_CHUNK):
        while chunk := chunk.lstrip(b"\0") if decoder.eof else chunk:
            if decoder.eof:
                decoder = decoder_of()
            yield _decompress(decoder, chunk)
            chunk = decoder.unused_data if decoder.eof else b""
    if not decoder.eof:
        raise BrokenStream("the file ends before the compressed data does")


def _decompress(decoder: Decoder, chunk: bytes) -> bytes:
    try:
        return decoder.decompress(chunk)
    except Exception as error:  # each library has its own; here all mean damaged data
        raise BrokenStream(str(error)) from None


def _plain(file: IO[bytes], split: Split) -> Iterator[bytes]:
    begin = _line_start(file, split.start, split.end)
    if begin >= split.end:
        return  # it lies within one line, which starts before it
    end = split.size if split.end >= split.size else _line_start(file, split.end, split.size)
    file.seek(begin)
    while begin < end and (chunk := file.read(min(CHUNK, end - begin))):
        yield chunk
        begin += len(chunk)


def _line_start(file: IO[bytes], offset: int, stop: int) -> int:
    """Where the first line that starts at `offset` or later starts; `stop` if not before it."""
    if offset == 0:
        return 0
    position = offset - 1  # a line starts at offset if a newline stands before it
    file.seek(position)
    while position < stop and (chunk := file.read(CHUNK)):
        newline = chunk.find(b"\n")
        if newline >= 0:
            return min(stop, position + newline + 1)
        position += len(chunk)
    return stop


def open_split(split: Split) -> IO[bytes]:
    if split.content is not None:
        return io.BytesIO(split.content)
    path = file_name(split.uri)
    assert path is not None, split.uri  # the content of other files comes with the split
    return open(path, "rb")
