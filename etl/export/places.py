"""Where exports and the report may not go: they replace what is there, a folder as a whole."""

import os
from collections.abc import Iterator
from itertools import combinations

from longattn.etl.config import Config, SourceConfig
from longattn.etl.export.files import Folder
from longattn.etl.ingest.local_files import alternatives
from longattn.etl.tables.locations import is_catalog_name
from longattn.udfs.errors import ConfigError, LongAttnError
from longattn.udfs.storage import local_path, resolved

MAGIC = "*?["  # what makes a path a pattern
INSIDE = "one of the two folders lies inside the other"
TITLE = "What was selected, and why"  # of every report
HEAD, PAGE = 4096, f"<title>{TITLE}</title>".encode()  # where a file says that it is one, and how

Refusal = tuple[str, str]  # a key of the config, and what is wrong with it


def refusals(config: Config) -> Iterator[Refusal]:
    """Each export that would delete something. Nothing is changed.

    Folders that only a session or an account can list are looked into when they are written. An
    export that lies below a source's folder is no source (`ingest.own`).
    """
    exports = {key: resolved(path) for key, path in _exports(config).items()}
    for (key, path), (other, there) in combinations(exports.items(), 2):
        if _inside(path, there) or _inside(there, path):
            yield key, f"{path} and {other}, {there}: {INSIDE}: give each its own folder"
    yield from ((key, text) for key, text in _of_blend(config))
    for key, path in exports.items():
        others = list(_of_others(config, path))  # a folder that holds these is not listed
        yield from ((key, text) for text in others or _of_persons(path))


def refuse(config: Config) -> None:
    """Raise ConfigError for the first of `refusals`."""
    for key, text in refusals(config):
        raise ConfigError(f"{key}: {text}")


def no_page(path: str) -> str | None:
    """Why a report would destroy what is at its path: all but a report; None where it would not."""
    local = local_path(path)
    if local is None or not os.path.exists(local):
        return None
    if os.path.isdir(local):
        return f"{path} is a folder: name a page in it, as report.html"
    with open(local, "rb") as file:
        begin = file.read(HEAD)
    if begin and PAGE not in begin:
        return f"{path} is no report, and would be replaced by one: name another file"
    return None


def _exports(config: Config) -> dict[str, str]:
    return {f"export.{name}.path": t.path for name, t in config.export.targets.items()}


def _of_others(config: Config, path: str) -> Iterator[str]:
    """What of the config's own places an export at this path would touch."""
    root = config.tables.root
    tables = resolved(root)
    if not is_catalog_name(root) and (_inside(path, tables) or _inside(tables, path)):
        yield f"{path} and tables.root, {root}: {INSIDE}: give the export its own folder"
    if _inside(resolved(config.report.path), path):
        yield f"report.path, {config.report.path}, is in {path}, which is replaced as a whole"
    for key, pattern in _sources(config):
        if any(_inside(_fixed(one), path) for one in alternatives(resolved(pattern))):
            yield f"{key}, {pattern}, is in {path}, which is replaced as a whole"


def _of_blend(config: Config) -> Iterator[Refusal]:
    """What Megatron would read as two, as it takes its files' names apart at spaces."""
    target = config.export.megatron
    if target is None:
        return
    names = [target.path, target.prefix, *(config.sources if target.by_domain else ())]
    for name in (name for name in names if " " in name):
        yield "export.megatron", f"{name!r} has a space, at which Megatron cuts names of files"


def _sources(config: Config) -> Iterator[tuple[str, str]]:
    listed: list[tuple[str, list[SourceConfig]]] = [
        *((f"sources.{domain}", sources) for domain, sources in config.sources.items()),
        ("decontaminate.sources", config.decontaminate.sources),
    ]
    for key, sources in listed:
        yield from ((key, path) for source in sources for path in source.path)


def _of_persons(path: str) -> Iterator[str]:
    """What stands in an export's folder and is not of the export."""
    if local_path(path) is None or not os.path.exists(path):
        return
    if not os.path.isdir(path):
        yield f"{path}: {path} is a file, not a folder"
        return
    try:
        Folder(path=path).refuse_strangers()
    except LongAttnError as error:
        yield str(error)


def _inside(path: str, folder: str) -> bool:
    """Whether a path is a folder, or in it.

    >>> _inside("/a/b", "/a"), _inside("/a", "/a"), _inside("/ab", "/a")
    (True, True, False)
    """
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _fixed(pattern: str) -> str:
    """What of a pattern holds before its first wildcard.

    >>> _fixed("/data/*/x.jsonl"), _fixed("/data/x.jsonl")
    ('/data', '/data/x.jsonl')
    """
    parts = pattern.split("/")
    wild = next((n for n, part in enumerate(parts) if set(part) & set(MAGIC)), len(parts))
    return "/".join(parts[:wild]) or "/"
