"""Local files that a path, a folder or a glob names, each accounted for: to be read, or refused.

Names are bytes to the system. They are listed as bytes, so that no locale, no rule of hidden files
and no link loses one, and every folder and every linked file is entered once.
"""

import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from longattn.udfs.errors import SourceError
from longattn.udfs.storage import file_name, file_uri, local_path

# What programs leave beside data and nobody means: docs/laptop.md has this list.
IGNORED_FILES = (
    *("_SUCCESS", "_metadata", "_common_metadata", "_committed_*", "_started_*"),  # of Spark
    *(".*.crc", "*._COPYING_"),  # of Hadoop: checksums, unfinished copies
    "_manifest.json",  # of our exports
)
LOG = "_delta_log"  # the folder that makes another a Delta table
IGNORED_FOLDERS = (
    *(LOG, "_change_data", "_temporary", ".spark-staging-*"),
    *(".git", ".hg", ".svn"),
)
Id = tuple[int, int]  # device and inode


class Listed(NamedTuple):
    """A file that was named; `refusal` is a reason and a detail where it is not to be read."""

    uri: str
    n_bytes: int
    modified: int  # milliseconds; of local files see `_changed`
    name: str  # the part of its path below the folder, or the glob, that was named
    constants: str | None = None
    refusal: tuple[str, str] | None = None


def list_local(paths: Sequence[str], wanted: Callable[[str, str], bool]) -> list[Listed]:
    """All files below the paths that are `wanted`, by uri and name.

    A link counts after what it points to: a second name of a file or a folder is refused as such.
    Raises OSError for a path, or a glob, that names nothing, SourceError for a glob that is none.
    """
    walk = _Walk(wanted)
    for path in paths:
        walk.start(path)
    walk.follow_links()
    return list(walk.entries.values())


class _Walk:
    """One listing: what was found, and the folders and files seen on the way."""

    def __init__(self, wanted: Callable[[str, str], bool]) -> None:
        self.wanted = wanted
        self.entries: dict[bytes, Listed] = {}
        self.folders: dict[Id, bytes] = {}
        self.files: dict[Id, bytes] = {}
        self.links: list[tuple[bytes, bytes]] = []  # with the folder that their names start at
        self.following = False

    def start(self, path: str) -> None:
        """Enter what a path matches as a glob, and what it names as it stands."""
        pattern, literal = _absolute(path), file_name(path) or b""
        last, is_there = os.path.basename(pattern), os.path.lexists(literal)
        matched = _matched(pattern, is_there)
        for entry in matched:
            if last == "*":  # all of the folder is here: a link to it brings nothing
                self._meet(os.path.dirname(entry))
            if last == "**" or not (_WILD.search(last) and is_ignored(entry)):
                self._enter(entry, _without_glob(pattern))
        whole = os.path.abspath(literal)
        if is_there and whole not in matched:
            self._enter(whole, whole, follow=os.path.isdir(whole))
        elif not matched:
            raise FileNotFoundError(path)

    def _meet(self, folder: bytes) -> None:
        status = os.stat(folder)
        self.folders.setdefault((status.st_dev, status.st_ino), folder)

    def follow_links(self) -> None:
        """Enter what links point to, after all that lies in place; links below may add others."""
        self.following = True
        while self.links:
            links, self.links = sorted(set(self.links)), []
            for path, base in links:
                self._enter(path, base, follow=True)

    def _enter(self, path: bytes, base: bytes, follow: bool = False) -> None:
        """Take up a file, walk a folder, keep a link for later."""
        if not follow and os.path.islink(path):
            self.links.append((path, base))
            return
        try:
            status = os.stat(path)
        except OSError as error:
            self._refuse(path, base, *_broken(path, error))
            return
        if stat.S_ISDIR(status.st_mode):
            self._walk(path, base, (status.st_dev, status.st_ino))
        elif stat.S_ISREG(status.st_mode):
            self._add(path, base, status)
        else:
            self._refuse(path, base, "not_a_file", "a pipe, a socket or a device")

    def _walk(self, folder: bytes, base: bytes, key: Id) -> None:
        seen = self.folders.setdefault(key, folder)
        if seen != folder:
            self._refuse(folder, base, "same_folder", f"it is {file_uri(seen)}, which is read")
            return
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            self._refuse(folder, base, "unreadable", error.strerror or str(error))
            return
        for name in names:
            path = os.path.join(folder, name)
            if not is_ignored(path):
                self._enter(path, base)

    def _add(self, path: bytes, base: bytes, status: os.stat_result) -> None:
        uri, name = _uri(path), _name(path, base)
        if not self.wanted(uri, name):
            return
        key = (status.st_dev, status.st_ino)
        listed = Listed(uri, status.st_size, _changed(status), name)
        seen = self.files.setdefault(key, path)
        if seen != path and self.following:  # a hard link is a file of its own
            refusal = ("same_file", f"it is {file_uri(seen)}, which is read")
        elif file_name(uri) != path:
            refusal = ("ambiguous_name", "not UTF-8, and another file has its escaped name")
        elif not os.access(path, os.R_OK):
            refusal = ("unreadable", "no permission to read it")
        elif not status.st_size:
            refusal = ("empty_file", "0 bytes")
        else:
            self.entries[path] = listed
            return
        self.entries.setdefault(path, listed._replace(refusal=refusal))

    def _refuse(self, path: bytes, base: bytes, reason: str, detail: str) -> None:
        uri, name = _uri(path), _name(path, base)
        if self.wanted(uri, name) or reason in ("same_folder", "unreadable"):
            self.entries.setdefault(path, Listed(uri, 0, 0, name, refusal=(reason, detail)))


def is_ignored(path: bytes) -> bool:
    """True for the names that are left out on purpose; folders have names of their own."""
    name = os.path.basename(path).decode(errors="surrogateescape")
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in IGNORED_FILES):
        return not os.path.isdir(path)
    return any(fnmatch.fnmatchcase(name, p) for p in IGNORED_FOLDERS) and os.path.isdir(path)


def _changed(status: os.stat_result) -> int:
    """When a file was changed last, in milliseconds.

    Copies and editors set the time of its last write back. That of its inode nobody can set, and
    some file systems do not keep it.
    """
    return max(status.st_mtime_ns, status.st_ctime_ns) // 1_000_000


def _broken(path: bytes, error: OSError) -> tuple[str, str]:
    """Why a path cannot be followed: a link to nothing, a link to itself, no permission."""
    if os.path.islink(path) and isinstance(error, FileNotFoundError):
        return "dangling_link", f"it points to {os.readlink(path).decode(errors='replace')}"
    return "unreadable", error.strerror or str(error)


def _uri(path: bytes) -> str:
    """A file's uri; where that is another's, which is read, one by which none can be opened."""
    uri = file_uri(path)
    return uri if file_name(uri) == path else f"file:{path.decode(errors='backslashreplace')}"


def _name(path: bytes, base: bytes) -> str:
    below = path.removeprefix(base.rstrip(b"/") + b"/")
    return file_uri(os.path.basename(path) if below == path else below).removeprefix("file:")


# --- globs, as Hadoop has them: * ? [ab] [^ab] {a,b} \x, and ** for any number of folders

_WILD = re.compile(r"[*?\[{\\]")


def _absolute(path: str) -> str:
    literal = (local_path(path) or path).encode(errors="surrogateescape")
    return os.path.abspath(literal).decode(errors="surrogateescape")


def _without_glob(pattern: str) -> bytes:
    """The folder above the first part of a path that is a pattern."""
    wild = _WILD.search(pattern)
    plain = pattern[: wild.start()].rpartition("/")[0] if wild else pattern
    return plain.encode(errors="surrogateescape")


def _matched(pattern: str, is_there: bool) -> list[bytes]:
    """What a path matches as a glob. Raises SourceError for one that is none and is not there."""
    try:
        return list(_matches(pattern)) if _WILD.search(pattern) else []
    except SourceError:
        if is_there:
            return []
        raise


def _matches(pattern: str) -> Iterator[bytes]:
    """Every entry that a pattern matches, once, in order."""
    matches: dict[bytes, None] = {}
    for plain in alternatives(pattern):
        matches.update(dict.fromkeys(_below(b"/", plain.strip("/").split("/"))))
    yield from sorted(matches)


def alternatives(pattern: str) -> list[str]:
    """The patterns that {a,b} stands for.

    >>> alternatives("x{a,b{c,d}}.txt")
    ['xa.txt', 'xbc.txt', 'xbd.txt']
    """
    start = _outside_escapes(pattern, "{")
    if start is None:
        return [pattern]
    depth, cuts = 0, [start]
    for i in range(start, len(pattern)):
        depth += {"{": 1, "}": -1}.get(pattern[i], 0)
        if (pattern[i] == "," and depth == 1) or depth == 0:
            cuts.append(i)
        if depth == 0:
            break
    if depth:
        raise SourceError(f"{pattern}: the brace at character {start + 1} is not closed")
    head, tail = pattern[:start], pattern[cuts[-1] + 1 :]
    parts = [pattern[a + 1 : b] for a, b in pairwise(cuts)]
    return [whole for part in parts for whole in alternatives(head + part + tail)]


def _outside_escapes(pattern: str, letter: str) -> int | None:
    plain = re.sub(r"\\.", "\0\0", pattern)
    return plain.index(letter) if letter in plain else None


def _below(folder: bytes, parts: Sequence[str]) -> Iterator[bytes]:
    if set(parts) <= {"**"}:  # with a folder comes all that is below it
        yield folder
        return
    part, *rest = parts
    if part == "**":
        yield from _below(folder, rest)
        for child in _folders(folder):
            yield from _below(child, parts)
    elif _WILD.search(part):
        matches = _compiled(part).fullmatch
        for name in _names(folder):
            path = os.path.join(folder, name)
            if matches(name.decode(errors="surrogateescape")) and not (rest and is_ignored(path)):
                yield from _below(path, rest)
    elif os.path.lexists(path := os.path.join(folder, part.encode(errors="surrogateescape"))):
        yield from _below(path, rest)


def _names(folder: bytes) -> list[bytes]:
    try:
        return sorted(os.listdir(folder))
    except OSError:  # a file, or a folder that may not be read: nothing below it matches
        return []


def _folders(folder: bytes) -> Iterable[bytes]:
    paths = (os.path.join(folder, name) for name in _names(folder))
    return [p for p in paths if os.path.isdir(p) and not os.path.islink(p) and not is_ignored(p)]


def _compiled(part: str) -> re.Pattern[str]:
    """A pattern of one name; raises SourceError for one that nothing could match, as [z-a]."""
    try:
        return re.compile(_regex(part), re.DOTALL)
    except re.error as error:
        raise SourceError(f"{part}: no pattern of names: {error.msg}") from None


def _regex(part: str) -> str:
    """A pattern of one name as a regular expression."""
    made, i = "", 0
    while i < len(part):
        end = part.find("]", i + 2)
        if part[i] == "[" and end > 0:
            inside = re.sub(r"[\\\[&|~]", r"\\\g<0>", part[i + 1 : end])
            inside = "^" + inside[1:] if inside[0] in "!^" else inside
            made, i = f"{made}[{inside}]", end
        elif part[i] == "\\" and i + 1 < len(part):
            made, i = made + re.escape(part[i + 1]), i + 1
        else:
            made += {"*": ".*", "?": "."}.get(part[i]) or re.escape(part[i])
        i += 1
    return made
