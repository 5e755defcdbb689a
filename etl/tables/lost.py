"""Tells a table that has lost its log, or the end of it, from one that has not been made."""

import pyarrow.fs as pafs

from longattn.etl.tables.base import Table
from longattn.etl.tables.files import file_system
from longattn.udfs.errors import LostLogError


def refuse_lost(table: Table, version: int | None, written: int | None) -> None:
    """Raise LostLogError when the log lacks what is known to have been written.

    `version` is the table's, None where no log is found; `written` is the version that the last run
    left. Without this a table whose log is gone reads as one without rows, and the next job decides
    on everything anew.
    """
    place = f"table {table.location}"
    if version is None and written is not None:
        raise LostLogError(
            f"{place}: its log is gone, and it was at version {written}; restore its _delta_log"
            " from a backup, or, if you deleted the table yourself, delete _lease beside it too"
        )
    if version is None and _has_data(table.location):
        raise LostLogError(
            f"{place}: there are data files and no log; restore its _delta_log from a backup, or"
            " delete the folder if no run has ever finished with it"
        )
    if version is not None and written is not None and version < written:
        raise LostLogError(
            f"{place}: its log ends at version {version}, and version {written} was written;"
            f" restore {version + 1:020}.json and what follows it in _delta_log from a backup"
        )


def _has_data(location: str) -> bool:
    """Whether a folder holds anything but a log; False for names of a catalog."""
    if "/" not in location:
        return False
    filesystem, root = file_system(location)
    entries = filesystem.get_file_info(pafs.FileSelector(root, allow_not_found=True))
    return any(entry.base_name[:1] not in "._" for entry in entries)
