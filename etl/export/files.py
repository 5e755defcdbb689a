"""Where an export is written: filled in a staging folder beside its place, then shown at once."""

import hashlib
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import fs

from longattn.udfs.errors import ExportError

MANIFEST = "_manifest.json"  # Spark skips names with _


class HashedFile:
    """A file being written in one go: counts its bytes and hashes them on the way."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.bytes = 0
        self.closed = False
        self._sha256 = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        self.stream.write(data)
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
    """An export's place, `<path>`, and its staging, `<path>.staging`, on one file system.

    Cheap to pickle: each executor opens the file system for itself.
    """

    path: str

    @property
    def staging(self) -> str:
        return f"{self.path}.staging"

    def new_file(self) -> tuple[str, HashedFile]:
        """Open a file of a name that no other attempt has; returns the name within staging."""
        name = f"part-{uuid.uuid4().hex}"
        system, root = _open(self.staging)
        return name, HashedFile(system.open_output_stream(f"{root}/{name}", compression=None))

    def manifest(self) -> dict[str, Any] | None:
        """The manifest of the export that is there; None when there is none."""
        system, root = _open(self.path)
        if system.get_file_info(f"{root}/{MANIFEST}").type == fs.FileType.NotFound:
            return None
        with system.open_input_stream(f"{root}/{MANIFEST}") as stream:
            found: dict[str, Any] = json.loads(stream.read())
        return found

    def begin(self) -> None:
        """Make an empty staging folder; what an interrupted export left is deleted.

        Raises ExportError when the place holds files that are no export.
        """
        self._recover()
        system, root = _open(self.path)
        if self.manifest() is None and system.get_file_info(fs.FileSelector(root, True)):
            raise ExportError(f"export to {self.path}: the folder holds other files; empty it")
        _delete(self.staging)
        system, root = _open(self.staging)
        system.create_dir(f"{root}/ready")

    def publish(self, names: dict[str, str], texts: dict[str, str]) -> None:
        """Show staged files (staged name -> name) and small text files as the export.

        Only the files named go in: what failed or repeated attempts wrote is deleted. On a file
        system with a rename readers see the old export, for a moment none, then all of the new
        one. Object stores have no rename: there the manifest goes first and comes back last.
        """
        system, root = _open(self.staging)
        for staged, name in names.items():
            system.move(f"{root}/{staged}", f"{root}/ready/{name}")
        for name, text in texts.items():
            with system.open_output_stream(f"{root}/ready/{name}", compression=None) as stream:
                stream.write(text.encode())
        self._swap() if isinstance(system, fs.LocalFileSystem) else self._copy()
        _delete(self.staging)

    def _swap(self) -> None:
        here = Path(self.path)
        before = Path(f"{self.path}.before")
        here.parent.mkdir(parents=True, exist_ok=True)
        if here.exists():
            here.rename(before)
        Path(self.staging, "ready").rename(here)
        _delete(str(before))

    def _copy(self) -> None:
        system, root = _open(self.path)
        _, ready = _open(f"{self.staging}/ready")
        _delete(f"{self.path}/{MANIFEST}")
        _delete(self.path)
        files = [f.base_name for f in system.get_file_info(fs.FileSelector(ready))]
        for name in sorted(files, key=lambda name: name == MANIFEST):
            system.move(f"{ready}/{name}", f"{root}/{name}")

    def _recover(self) -> None:
        """Put back the export that a run moved aside and was killed before replacing."""
        before = Path(f"{self.path}.before")
        if before.exists() and not Path(self.path).exists():
            before.rename(self.path)


def _open(path: str) -> tuple[fs.FileSystem, str]:
    if "://" in path:
        system, root = fs.FileSystem.from_uri(path)
        return system, root
    return fs.LocalFileSystem(), str(Path(path).absolute())


def _delete(path: str) -> None:
    system, root = _open(path)
    kind = system.get_file_info(root).type
    if kind == fs.FileType.Directory:
        system.delete_dir(root)
    elif kind == fs.FileType.File:
        system.delete_file(root)
