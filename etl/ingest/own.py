"""What jobs have written is no source: tables, exports, reports that lie below a listed folder."""

import json
import os
from collections import Counter
from collections.abc import Callable

from longattn.etl.config import Config
from longattn.udfs.storage import file_name, local_path

MANIFEST = "_manifest.json"  # in every folder that an export has written


class OwnFiles:
    """Knows the outputs of a config, and any folder with an export's manifest; counts them."""

    def __init__(self, config: Config) -> None:
        exports = (target.path for target in config.export.targets.values())
        places = (config.tables.root, config.report.path, *exports)
        self._places = {_real(place).rstrip(b"/"): place for place in places}
        self._folders: dict[bytes, bytes] = {}  # folder -> the same without links
        self._exports: dict[bytes, bool] = {}  # folder -> whether an export has written it
        self.left_out: Counter[str] = Counter()

    def has(self, uri: str) -> bool:
        """Whether a file is one of ours; each is counted by the place it lies in."""
        place = self._place_of(uri)
        if place:
            self.left_out[place] += 1
        return place is not None

    def say(self, say: Callable[[str], None]) -> None:
        """One line for each place whose files were left out."""
        for place, n_files in sorted(self.left_out.items()):
            say(f"ingest: left out {n_files:,} files of {place}, which a job has written")

    def _place_of(self, uri: str) -> str | None:
        path = file_name(uri)
        real = uri.encode() if path is None else self._without_links(path)
        for place, named in self._places.items():
            if real == place or real.startswith(place + b"/"):
                return named
        folder = os.path.dirname(path or b"")
        # a domain's files lie one folder deeper than the manifest
        return self._export_at(folder) or self._export_at(os.path.dirname(folder))

    def _without_links(self, path: bytes) -> bytes:
        folder, name = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], name)

    def _export_at(self, folder: bytes) -> str | None:
        if folder not in self._exports:
            self._exports[folder] = bool(folder) and _is_export(folder)
        return os.fsdecode(folder) if self._exports[folder] else None


def _real(place: str) -> bytes:
    """A place as those of files are compared with it: without links where they can be followed."""
    local = local_path(place)
    return place.encode() if local is None else os.fsencode(os.path.realpath(local))


def _is_export(folder: bytes) -> bool:
    """Whether a folder has a manifest of an export of ours."""
    try:
        with open(os.path.join(folder, MANIFEST.encode()), "rb") as manifest:
            return "longattn" in json.load(manifest)
    except (OSError, ValueError, TypeError):
        return False
