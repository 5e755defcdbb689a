"""Tells a table that has lost its log, or the end of it, from one that has not been made."""

from urllib.parse import unquote

import pyarrow.fs as pafs
from deltalake import DeltaTable

from longattn.udfs.errors import LostLogError
from longattn.udfs.storage import local_path, open_fs
from longattn.udfs.stores import delta_options


def refuse_lost(location: str, version: int | None, written: int | None) -> None:
    """Raise LostLogError when a table's log lacks what is known to have been written.

    `version` is the table's, None where no log is found; `written` is the version that the last run
    left. Without this a table whose log is gone reads as one without rows, and the next job decides
    on everything anew.
    """
    place = f"table {location}"
    if version is None and written is not None:
        raise LostLogError(
            f"{place}: its log is gone, and it was at version {written}; restore its _delta_log"
            " from a backup, or, if you deleted the table yourself, delete _lease beside it too"
        )
    if version is None and _has_data(location):
        raise LostLogError(
            f"{place}: there are data files and no log; restore its _delta_log from a backup, or"
            " delete the folder if no run has ever finished with it"
        )
    if version is not None and written is not None and version < written:
        raise LostLogError(
            f"{place}: its log ends at version {version}, and version {written} was written;"
            f" restore {version + 1:020}.json and what follows it in _delta_log from a backup"
        )
    if version is not None and _is_blank(location, version):
        raise LostLogError(
            f"{place}: {version:020}.json in its _delta_log is empty, as a machine that lost power"
            " leaves a file, and so what that version added is not seen; restore it from a backup"
        )


def damaged_files(location: str) -> list[str]:
    """Data files that the log names and that are missing or of another size, and entries of the log
    without a byte; none for catalogs.
    """
    if "/" not in location:
        return []
    filesystem, root = open_fs(location)
    listed = filesystem.get_file_info(pafs.FileSelector(root, recursive=True))
    sizes = {info.path[len(root) + 1 :]: info.size for info in listed}
    place = local_path(location) or location
    log = DeltaTable(place, storage_options=delta_options(place))
    actions = log.get_add_actions()
    named = zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), strict=True)
    faults = ((unquote(path), size, sizes.get(unquote(path))) for path, size in named)
    entries = [path for path in sizes if path.startswith("_delta_log/") and path[-5:] == ".json"]
    return [f"{path} is empty" for path in entries if not sizes[path]] + [
        f"{path} is missing" if actual is None else f"{path} has {actual} bytes, not {size}"
        for path, size, actual in faults
        if actual != size and "://" not in path
    ]


def _is_blank(location: str, version: int) -> bool:
    """Whether the entry of a version is there without a byte, which deltalake reads as a commit."""
    if "/" not in location:
        return False
    filesystem, root = open_fs(location)
    (entry,) = filesystem.get_file_info([f"{root}/_delta_log/{version:020}.json"])
    return bool(entry.size == 0)


def _has_data(location: str) -> bool:
    """Whether a folder holds anything but a log; False for names of a catalog."""
    if "/" not in location:
        return False
    filesystem, root = open_fs(location)
    entries = filesystem.get_file_info(pafs.FileSelector(root, allow_not_found=True))
    return any(entry.base_name[:1] not in "._" for entry in entries)
