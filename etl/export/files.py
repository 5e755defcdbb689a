"""Where an export is written: filled in a staging folder beside its place, then shown at once."""

import errno
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pyarrow import fs

from longattn.etl.ingest import own
from longattn.udfs import storage, stores
from longattn.udfs.errors import ExportError

MANIFEST = own.MANIFEST  # Spark skips names with _
SUMS = ("samples", "tokens", "bytes")  # of each file, and of all of them
# What a manifest says, by type; those of older versions do not say all of it.
SAID = {**dict.fromkeys(SUMS, int), "format": str, "files": list, "extras": list}
SAID |= {"sequence_length": int, "dtype": str}
OF_FILE = {"name": str, "first_sample": int, **dict.fromkeys(SUMS, int), "sha256": str}
STAGING, BEFORE = own.STAGING, own.BEFORE
LEFT_BEHIND = 24 * 3600  # seconds after which anybody's staging is a killed run's
BLOCK = 8 << 20  # bytes read at once
# Indices that Megatron keeps beside a data set, and what uploading to a hub leaves: neither is a
# person's, and indices of an older export must not outlive it.
LEFT_BY_READERS = re.compile(  # in the folder of one domain, too
    r"([^/]+/){1,2}cache/\w+_indices/|\.cache/huggingface/|([^/]+/)?\.DS_Store$"
)
TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}  # of a rename: another's export is there
SWAPS = 10  # tries to be the one that moves the old export aside


class HashedFile:
    """A file being written in one go: counts its bytes and hashes them on the way."""

    def __init__(self, stream: Any, place: str) -> None:
        self.stream = stream
        self.place = place
        self.bytes = 0
        self.closed = False
        self._sha256 = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        try:
            self.stream.write(data)
        except OSError as error:  # pyarrow's does not say which file
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(error.errno, reason, self.place) from None
        self._sha256.update(data)
        self.bytes += len(data)
        return len(data)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        self.stream.flush()

    def close(self) -> None:
        self.stream.close()
        self.closed = True

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Folder:
    """An export's place, `<path>`, and a staging folder of this run's own beside it.

    `owner` names those of whom one exports at a time, as they hold one root: what another run of
    the same owner has staged is a dead run's. Cheap to pickle: executors open the file system
    themselves, with the driver's settings.
    """

    path: str
    owner: str = "export"
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    settings: stores.Settings = field(default_factory=stores.known_settings, repr=False)

    @classmethod
    def at(cls, path: str, owner: str = "export") -> "Folder":
        """The folder that a person means: of a link, the one it points to."""
        place = storage.expanded(path)
        local = storage.local_path(place)
        return cls(path=place if local is None else os.path.realpath(local), owner=owner)

    @property
    def staging(self) -> str:
        return f"{self.path}{STAGING}-{self.owner}-{self.run}"

    @property
    def before(self) -> str:
        """Where the old export is for the moment in which the new one takes its place."""
        return f"{self.path}{BEFORE}-{self.owner}-{self.run}"

    def new_file(self) -> tuple[str, HashedFile]:
        """Open a file of a name that no other attempt has; returns the name within staging."""
        name = f"part-{uuid.uuid4().hex}"
        system, root = self._open(self.staging)
        stream = system.open_output_stream(f"{root}/{name}", compression=None)
        return name, HashedFile(stream, f"{self.staging}/{name}")

    def manifest(self) -> dict[str, Any] | None:
        """The manifest of the export that is there; None when there is none.

        Raises ExportError for one that is damaged.
        """
        system, root = self._open(self.path)
        if system.get_file_info(f"{root}/{MANIFEST}").type == fs.FileType.NotFound:
            return None
        with system.open_input_stream(f"{root}/{MANIFEST}") as stream:
            try:
                manifest: dict[str, Any] = json.loads(stream.read())
            except ValueError as error:
                raise ExportError(
                    f"{self.path}/{MANIFEST}: not JSON ({error}); delete {self.path}, and export"
                    " writes it again"
                ) from None
            except RecursionError:  # lists within lists without end
                manifest = {}
        if not _is_manifest(manifest):
            raise ExportError(
                f"{self.path}/{MANIFEST}: no manifest of an export, or a damaged one: move"
                f" {self.path} away, and export writes it again"
            )
        return manifest

    def open(self, name: str) -> Any:
        """A file of the export, to be read from any place in it."""
        system, root = self._open(self.path)
        return system.open_input_file(f"{root}/{name}")

    def strangers(self) -> list[str]:
        """Files in the folder that the export's manifest does not name."""
        system, root = self._open(self.path)
        files = [info.path[len(root) + 1 :] for info in _files(system, root)]
        mine = {MANIFEST, *(file["name"] for file in files_of(self.manifest() or {}))}
        return sorted(n for n in files if n not in mine and not LEFT_BY_READERS.match(n))

    def refuse_strangers(self) -> None:
        """Raise ExportError for files of others: the folder is replaced as a whole."""
        if names := self.strangers():
            more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
            raise ExportError(
                f"export to {self.path}: the folder holds other files, as {names[0]}{more}, which"
                " the export would delete: move them, or name another folder"
            )

    def faults(self, files: Sequence[Mapping[str, Any]], hashes: bool = False) -> list[str]:
        """What is wrong with the files of a manifest: missing, of another size, other bytes.

        Sizes cost one listing, hashes one reading of everything.
        """
        system, root = self._open(self.path)
        sizes = {info.path[len(root) + 1 :]: info.size for info in _files(system, root)}
        faults = []
        for file in files:
            name, size = file["name"], sizes.get(file["name"])
            if size is None:
                faults.append(f"{name} is missing")
            elif size != file.get("bytes"):
                faults.append(f"{name} has {size} bytes, not {file.get('bytes')}")
            elif hashes and _sha256(system, f"{root}/{name}") != file.get("sha256"):
                faults.append(f"{name} is damaged: its SHA-256 is another")
        return faults

    def begin(self) -> None:
        """Make an empty staging folder; what interrupted exports left is put back or deleted.

        Raises ExportError when the place holds files that are not of an export.
        """
        self._recover()
        for path in self.left_behind():
            storage.delete(path)
        self.refuse_strangers()
        if stores.store_of(self.staging) is None:  # they have no folders to make
            system, root = self._open(self.staging)
            system.create_dir(f"{root}/ready")

    @contextmanager
    def filling(self) -> Iterator[None]:
        """`begin`; when the block fails, what it has staged is deleted: a disk may be full."""
        self.begin()
        try:
            yield
        except BaseException:
            with suppress(OSError):
                storage.delete(self.staging)
            raise

    def publish(self, names: dict[str, str], texts: dict[str, str]) -> None:
        """Show staged files (staged name -> name) and small text files as the export.

        Only the files named go in: what failed or repeated attempts wrote is deleted. On a file
        system with a rename readers see the old export, for a moment none, then all of the new
        one. Object stores have no rename: there the manifest names old and new files meanwhile.
        """
        self.refuse_strangers()
        system, root = self._open(self.staging)
        self._make_folders({*names.values(), *texts})
        for staged, name in names.items():
            _move(system, f"{root}/{staged}", f"{root}/ready/{name}")
        for name, text in texts.items():
            with system.open_output_stream(f"{root}/ready/{name}", compression=None) as stream:
                stream.write(text.encode())
        self._swap() if isinstance(system, fs.LocalFileSystem) else self._copy()
        storage.delete(self.staging)

    def _make_folders(self, names: Iterable[str]) -> None:
        """Those of domains, in what is ready to be shown."""
        if stores.store_of(self.staging) is None:
            system, root = self._open(self.staging)
            for folder in {name.rpartition("/")[0] for name in names}:
                system.create_dir(f"{root}/ready/{folder}")

    def left_behind(self) -> list[str]:
        """Staging and old exports beside this place that no live run is using.

        While nothing is at this place, an old export is what `begin` puts back there.
        """
        system, root = self._open(self.path)
        empty = system.get_file_info(root).type == fs.FileType.NotFound
        beside = self._beside(*([STAGING] if empty else [BEFORE, STAGING]))
        return [path for path in beside if self._is_dead(path)]

    def _is_dead(self, path: str) -> bool:
        mine = path.startswith((f"{self.path}{STAGING}-{self.owner}-", f"{self.path}{BEFORE}"))
        system, root = self._open(path)
        modified = system.get_file_info(root).mtime
        return mine or bool(modified and modified.timestamp() < time.time() - LEFT_BEHIND)

    def _beside(self, *suffixes: str) -> Iterator[str]:
        """Folders beside this place that are called like it, with one of the suffixes."""
        system, root = self._open(self.path)
        parent, slash, name = root.rpartition("/")
        for info in system.get_file_info(fs.FileSelector(parent or slash, allow_not_found=True)):
            if info.base_name.startswith(tuple(name + suffix for suffix in suffixes)):
                yield self.path + info.base_name[len(name) :]

    def _swap(self) -> None:
        """Another run may put its export here between our two renames: then move that aside too.

        One that took this run for dead has deleted what was staged: then its export stays.
        """
        here, before = Path(self.path), Path(self.before)
        here.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(SWAPS):
            storage.delete(self.before)
            try:
                with suppress(FileNotFoundError):
                    here.rename(before)
            except OSError as error:
                if error.errno != errno.EBUSY:  # a mount point, which stays where it is
                    raise
                return self._copy()
            try:
                Path(self.staging, "ready").rename(here)
                break
            except FileNotFoundError:
                with suppress(OSError):
                    before.rename(here)
                raise self._overtaken() from None
            except OSError as error:
                if error.errno not in TAKEN:
                    with suppress(OSError):
                        before.rename(here)
                    raise
                continue
        else:
            raise ExportError(f"export to {self.path}: other exports to it won {SWAPS} times")
        storage.delete(self.before)

    def _copy(self) -> None:
        """File by file. Until the end a manifest stands there that names old and new files: a run
        that is killed between leaves an export that is not whole, and none of a person's files.
        """
        system, root = self._open(self.path)
        _, ready = self._open(f"{self.staging}/ready")
        files = [info.path[len(ready) + 1 :] for info in _files(system, ready)]
        if MANIFEST not in files:
            raise self._overtaken()
        storage.write_text(f"{self.path}/{MANIFEST}", json.dumps(self._between()))
        for info in _files(system, root):
            if info.path != f"{root}/{MANIFEST}":
                system.delete_file(info.path)
        for name in sorted(files, key=lambda name: name == MANIFEST):
            if isinstance(system, fs.LocalFileSystem):
                system.create_dir(f"{root}/{name}".rpartition("/")[0])
            _move(system, f"{ready}/{name}", f"{root}/{name}")

    def _between(self) -> dict[str, Any]:
        """The new manifest, of no identity, with the files of the old one beside its own."""
        new, old = replace(self, path=f"{self.staging}/ready").manifest(), self.manifest() or {}
        if new is None:
            raise self._overtaken()
        both = {key: [*old.get(key, []), *new.get(key, [])] for key in ("files", "extras")}
        return {**new, "identity": None, **both}

    def _overtaken(self) -> ExportError:
        return ExportError(
            f"export to {self.path}: another run of these tables has deleted what this one had"
            " staged, as it took it for dead; the export that is there stays; run it again"
        )

    def _open(self, path: str) -> tuple[fs.FileSystem, str]:
        return storage.open_fs(path, self.settings)

    def _recover(self) -> None:
        """Put back the export that a run moved aside and was killed before replacing."""
        system, root = self._open(self.path)
        aside = sorted(self._beside(BEFORE))
        if aside and system.get_file_info(root).type == fs.FileType.NotFound:
            system.move(self._open(aside[-1])[1], root)


def folder_of(domain: str | None) -> str:
    """Where an export has the files of a domain, with its slash: a name that every system takes.

    Names that begin with . or _ are hidden to readers.

    >>> folder_of("book"), folder_of("a/b"), folder_of(".."), folder_of("_x"), folder_of(None)
    ('book/', 'a%2Fb/', '%2E./', '%5Fx/', '')
    """
    if domain is None:
        return ""
    name = quote(domain, safe=" ")
    return (f"%{ord(name[0]):X}{name[1:]}" if name[0] in "._" else name) + "/"


def _is_manifest(value: Any) -> bool:
    """Whether JSON is ours, and names files as a manifest does."""
    return own.is_ours(value) and _is_typed(value, SAID) and all(map(_is_file, files_of(value)))


def _is_file(entry: Any) -> bool:
    return isinstance(entry, dict) and "name" in entry and _is_typed(entry, OF_FILE)


def _is_typed(values: Mapping[str, Any], types: Mapping[str, type]) -> bool:
    """Whether those of the fields that are there are of their types."""
    return all(isinstance(values[key], types[key]) for key in values.keys() & types.keys())


def files_of(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All files that a manifest names, the small ones beside the data too."""
    return [*manifest.get("files", []), *manifest.get("extras", [])]


def described(texts: Mapping[str, str]) -> list[dict[str, Any]]:
    """Small text files as a manifest names them."""
    data = {name: text.encode() for name, text in texts.items()}
    return [
        {"name": name, "bytes": len(b), "sha256": hashlib.sha256(b).hexdigest()}
        for name, b in data.items()
    ]


def _files(system: fs.FileSystem, root: str) -> list[fs.FileInfo]:
    """The files of a folder; not what a disk keeps for itself at the top of it."""
    entries = system.get_file_info(fs.FileSelector(root, allow_not_found=True, recursive=True))
    files = (info for info in entries if info.type == fs.FileType.File)
    return [info for info in files if not info.path.startswith(f"{root}/lost+found/")]


def _move(system: fs.FileSystem, source: str, target: str) -> None:
    """Move a file, also from one disk to another, as into a mount point."""
    if isinstance(system, fs.LocalFileSystem):
        shutil.move(source, target)
        return
    try:
        system.move(source, target)
    except NotImplementedError:  # accounts of Azure without a hierarchical namespace
        _carry(system, source, target)


def _carry(system: fs.FileSystem, source: str, target: str) -> None:
    """Move a file by reading and writing it, where the store has no rename."""
    with (
        system.open_input_stream(source, compression=None) as old,
        system.open_output_stream(target, compression=None) as new,
    ):
        shutil.copyfileobj(old, new, BLOCK)
    system.delete_file(source)


def _sha256(system: fs.FileSystem, path: str) -> str:
    digest = hashlib.sha256()
    with system.open_input_stream(path, compression=None) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
