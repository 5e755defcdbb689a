"""Files of a repository in an order in which what is imported comes before what imports it.

What a file imports is read off its lines by patterns, for Python, JavaScript and TypeScript, Java,
Go and C. An import is a path without what its language adds: `pandas/core/frame`, `./sibling` from
the file's own folder, `net/http/` for all files of a folder. It means the files of the repository
whose paths end so, or that one beside the importing file where it has one word. Most imports are of
other repositories, and mean none.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from posixpath import basename, dirname, join, normpath, splitext

_PYTHON = re.compile(
    r"^[ \t]*from[ \t]+(?P<base>[\w.]+)[ \t]+import[ \t]+"
    r"(?P<names>\([^)#]*(?:#[^\n]*\n[^)#]*)*\)|[^\n#;]+)"  # a comment may hold the bracket
    r"|^[ \t]*import[ \t]+(?P<modules>[\w.]++[^\n#;'\"]*+)(?=#|$)",  # ++: none shorter is tried
    re.MULTILINE,
)
_SCRIPT = re.compile(
    r"(?:^[ \t]*import[ \t]*(?=['\"]\.)|\bfrom[ \t]*|\b(?:require|import)[ \t]*\([ \t]*)"
    r"(?P<quote>['\"])(?P<path>[.@\w][^'\"\n]*)(?P=quote)",
    re.MULTILINE,
)
_JAVA = re.compile(
    r"^[ \t]*import[ \t]+(?P<static>static[ \t]+)?(?P<name>\w[\w.]*)(?P<all>\.\*)?[ \t]*;",
    re.MULTILINE,
)
_GO = re.compile(
    r"^import[ \t]*+(?:\((?P<block>[^)]*)\)|[\w. \t]*(?P<one>\"[^\"\n]+\"))", re.MULTILINE
)
_C = re.compile(r"^[ \t]*#[ \t]*include[ \t]*[<\"](?P<path>[^>\"\n]+)[>\"]", re.MULTILINE)
_OF_FOLDERS = ("__init__", "index")  # files that stand for their folder
_SCRIPTS = (".js", ".jsx", ".mjs", ".ts", ".tsx")


def imported(text: str) -> list[str]:
    """What a file imports, each once.

    >>> imported("from ..core import frame as f, base")
    ['../core', '../core/frame', '../core/base']
    """
    names = [*_python(text), *_scripts(text), *_java(text), *_go(text)]
    names += [match["path"] for match in _C.finditer(text)]
    return list(dict.fromkeys(names))


def imports_first(paths: Sequence[str], imports: Sequence[Sequence[str]]) -> list[int]:
    """Indices of a repository's files by path, each after those that it imports.

    Of files that import each other in a circle, the first by path comes last.
    """
    by_path = sorted(range(len(paths)), key=lambda file: (paths[file], file))
    place = {file: at for at, file in enumerate(by_path)}
    known = _Paths(paths)
    begun: set[int] = set()
    order: list[int] = []

    def begin(file: int) -> tuple[int, Iterator[int]]:
        begun.add(file)
        meant = {i for name in imports[file] for i in known.meant(name, dirname(paths[file]))}
        return file, iter(sorted(meant, key=place.__getitem__))

    for first in by_path:
        waiting = [] if first in begun else [begin(first)]
        while waiting:
            file, needed = waiting[-1]
            missing = next((other for other in needed if other not in begun), None)
            if missing is None:
                order.append(file)
                waiting.pop()
            else:
                waiting.append(begin(missing))
    return order


def repositories_in_order(
    repositories: Sequence[str], paths: Sequence[str], imports: Sequence[Sequence[str]]
) -> list[int]:
    """As imports_first, within each of several repositories, whose files stand in a row."""
    order: list[int] = []
    for _, files in groupby(range(len(paths)), key=repositories.__getitem__):
        own = list(files)
        ordered = imports_first([paths[file] for file in own], [imports[file] for file in own])
        order += [own[file] for file in ordered]
    return order


class _Paths:
    """A repository's files by their paths, their folders, and what these end in."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.named: dict[str, list[int]] = defaultdict(list)  # by all of the path
        self.ending: dict[str, list[int]] = defaultdict(list)  # by its last two parts or more
        for file, path in enumerate(paths):
            for name in {path, _module(path), dirname(path) + "/"}:
                self.named[name].append(file)
                for ending in _endings(name):
                    self.ending[ending].append(file)

    def meant(self, name: str, folder: str) -> list[int]:
        """Files that an import means, from a file of a folder."""
        if name.startswith("."):
            return self.named.get(normpath(join(folder, name)), [])
        if name.endswith("/"):
            return self._of_folder(name)
        return self.ending.get(name, []) if "/" in name else self.named.get(join(folder, name), [])

    def _of_folder(self, name: str) -> list[int]:
        """Files of a folder; a site and a repository's name stand before what is its path."""
        names = [name, *_endings(name), name.split("/")[-2] + "/"]
        tried = names if "." in name.split("/")[0] else names[:1]
        matches = (self.ending.get(n) or self.named.get(n) for n in tried)
        return next((files for files in matches if files), [])


def _endings(name: str) -> Iterator[str]:
    """What a path ends in, from the longest on, of two parts or more."""
    parts = name.split("/")
    least = 2 + name.endswith("/")
    return ("/".join(parts[start:]) for start in range(len(parts) - least + 1))


def _module(path: str) -> str:
    """A file's path as it is imported: without extension, or the folder that it stands for."""
    stem = splitext(path)[0]
    return dirname(stem) if basename(stem) in _OF_FOLDERS else stem


def _python(text: str) -> Iterator[str]:
    for match in _PYTHON.finditer(text):
        if match["modules"]:
            yield from (_slashed(name) for name in _words(match["modules"]))
        else:
            base = _slashed(match["base"])
            yield from [] if base.endswith("/") else [base]
            yield from (base.rstrip("/") + "/" + name for name in _words(match["names"]))


def _words(names: str) -> Iterator[str]:
    """`a` and `b` of `a as x, b`, over several lines with comments too."""
    for name in re.sub(r"#.*", "", names).strip("()").split(","):
        yield from re.findall(r"^\s*([\w.]+)", name)


def _slashed(module: str) -> str:
    """A dotted name as a path: `./` for one dot at the front, `../` for two.

    >>> _slashed("...a.b")
    '../../a/b'
    """
    name = module.lstrip(".")
    dots = len(module) - len(name)
    return ("./" if dots == 1 else "../" * (dots - 1)) + name.replace(".", "/")


def _scripts(text: str) -> Iterator[str]:
    for match in _SCRIPT.finditer(text):
        stem, extension = splitext(match["path"])
        yield stem if extension in _SCRIPTS else match["path"]


def _java(text: str) -> Iterator[str]:
    for match in _JAVA.finditer(text):
        name = match["name"].replace(".", "/")
        if match["static"]:
            yield name if match["all"] else dirname(name)
        else:
            yield f"{name}/" if match["all"] else name


def _go(text: str) -> Iterator[str]:
    for match in _GO.finditer(text):
        for path in re.findall(r"\"([^.\"][^\"\n]*)\"", match["one"] or match["block"] or ""):
            yield f"{path}/"
