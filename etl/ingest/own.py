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
        self._places = [_uri(place).rstrip("/") for place in places]
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
        for place in self._places:
            if uri == place or uri.startswith(f"{place}/"):
                return place
        folder = os.path.dirname(file_name(uri) or b"")
        # a domain's files lie one folder deeper than the manifest
        return self._export_at(folder) or self._export_at(os.path.dirname(folder))

    def _export_at(self, folder: bytes) -> str | None:
        if folder not in self._exports:
            self._exports[folder] = bool(folder) and _is_export(folder)
        return os.fsdecode(folder) if self._exports[folder] else None


def _uri(place: str) -> str:
    """A place as listings spell the files below it."""
    local = local_path(place)
    return place if local is None else f"file:{os.path.abspath(local)}"


def _is_export(folder: bytes) -> bool:
    """Whether a folder has a manifest of an export of ours."""
    try:
        with open(os.path.join(folder, MANIFEST.encode()), "rb") as manifest:
            return "longattn" in json.load(manifest)
    except (OSError, ValueError, TypeError):
        return False
