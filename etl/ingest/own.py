"""What jobs have written is no source: tables, exports, reports that lie below a listed folder."""

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from longattn.etl.config import Config
from longattn.etl.tables.locations import is_table_name
from longattn.udfs.storage import file_name, local_path, resolved

MANIFEST = "_manifest.json"  # in every folder that an export has written
STAGING, BEFORE = ".staging", ".before"  # put after an export's path, with its owner and run
_STAGED = re.compile(
    rb".*?\.(?:staging|before)-(?:export|[0-9a-f]{8})-[0-9a-f]{12}(?=/)", re.DOTALL
)


class OwnFiles:
    """Knows the outputs of a config, and any folder with an export's manifest; counts them.

    `read` gives the bytes of a file that only Spark can open, or raises OSError.
    """

    def __init__(self, config: Config, read: Callable[[str], bytes] | None = None) -> None:
        exports = (target.path for target in config.export.targets.values())
        places = (config.tables.root, config.report.path, *exports)
        self._places = {os.fsencode(resolved(place)).rstrip(b"/"): place for place in places}
        self._folders: dict[bytes, bytes] = {}  # folder -> the same without links
        self._exports: dict[bytes, bool] = {}  # folder -> whether an export has written it
        self._read = read
        self.manifests: set[str] = set()  # folders of stores where one was listed, or may be above
        self.left_out: Counter[str] = Counter()

    def has(self, uri: str) -> bool:
        """Whether a file is one of ours; each is counted by the place it lies in."""
        place = self._place_of(uri)
        if place:
            self.left_out[place] += 1
        return place is not None

    def say(self, say: Callable[[str], None], job: str = "ingest") -> None:
        """One line for each place whose files were left out."""
        for line in self.lines():
            say(f"{job}: {line}")

    def lines(self, before: Counter[str] | None = None) -> list[str]:
        """What was left out by place, and not yet when `left_out` was as it was before."""
        since = self.left_out - (before or Counter())
        return [
            f"left out {n_files:,} files of {place}, which a job has written"
            for place, n_files in sorted(since.items())
        ]

    def _place_of(self, uri: str) -> str | None:
        if is_table_name(uri):
            return None
        path = file_name(uri)
        real = os.fsencode(resolved(uri)) if path is None else self._without_links(path)
        for place, named in self._places.items():
            if real == place or real.startswith(place + b"/"):
                return named
        if staged := _STAGED.match(real):
            return os.fsdecode(staged[0])
        folder = os.path.dirname(os.fsencode(uri) if path is None else real)
        # a domain's files lie one folder deeper than the manifest
        return self._export_at(folder) or self._export_at(os.path.dirname(folder))

    def _without_links(self, path: bytes) -> bytes:
        folder, name = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], name)

    def _export_at(self, folder: bytes) -> str | None:
        if folder not in self._exports:
            self._exports[folder] = self._is_export(folder)
        return os.fsdecode(folder) if self._exports[folder] else None

    def _is_export(self, folder: bytes) -> bool:
        try:
            return is_ours(json.loads(self._manifest_in(folder)))
        except (OSError, ValueError, RecursionError):
            return False

    def _manifest_in(self, folder: bytes) -> bytes:
        name = os.fsdecode(folder) + f"/{MANIFEST}"
        if local_path(name) is not None:
            return Path(name).read_bytes()
        known = os.fsdecode(folder) in self.manifests
        return self._read(name) if self._read and known else b"null"


def is_ours(manifest: Any) -> bool:
    """Whether JSON is the manifest of an export of ours: other programs have such files too."""
    return isinstance(manifest, dict) and "longattn" in manifest
