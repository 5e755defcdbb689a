"""The files of Delta tables that sources name, by their logs; without Spark."""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from itertools import repeat
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from longattn.etl.ingest.local_files import LOG, Listed
from longattn.etl.tables.features import ADVICE, refuse_unreadable
from longattn.udfs.documents.formats import SourceSpec
from longattn.udfs.errors import SourceError, UnsupportedTableFeature, first_line
from longattn.udfs.storage import local_path
from longattn.udfs.stores import delta_options

FILE = ["path", "size_bytes", "modification_time"]


def delta_files(path: str, spec: SourceSpec) -> Iterator[Listed]:
    """The Parquet files of the latest version of a table at a path.

    Raises SourceError for a table that cannot be read, and for a source without an id.
    """
    refuse_no_id(path, spec)
    root = local_path(path)
    root = path.rstrip("/") if root is None else f"file:{os.path.abspath(root)}"
    table = _open(path, spec)
    # a column added later is null in the files written before
    added = dict.fromkeys(spec.columns_in(field.name for field in table.schema().fields))
    actions = pa.table(table.get_add_actions())
    # not the statistics beside them, of columns that nobody asked for: Python may not hold them
    files = actions.select(FILE).to_pylist()
    partitions = actions["partition"] if "partition" in actions.column_names else repeat({})
    for file, partition in zip(files, partitions, strict=False):
        name = unquote(file["path"])
        constants = _constants(added, partition)
        yield Listed(
            _place(root, name), file["size_bytes"], file["modification_time"], name, constants
        )


def refuse_no_id(path: str, spec: SourceSpec) -> None:
    """Raise SourceError where a table is read without an id."""
    if not spec.id:
        raise SourceError(
            f"sources.{spec.domain}: {path}: a table's rows have no place of their own; set id"
        )


def _place(root: str, name: str) -> str:
    """The uri of a file of a log: below the table, or where a shallow clone's log says."""
    scheme, colon, _ = name.partition(":")
    if name.startswith("/"):
        return f"file:{name}"
    return name if colon and "/" not in scheme and scheme.isalnum() else f"{root}/{name}"


def _open(path: str, spec: SourceSpec) -> DeltaTable:
    try:
        table = DeltaTable(local_path(path) or path, storage_options=delta_options(path))
    except DeltaError as error:
        reason = first_line(error)
        raise SourceError(f"sources.{spec.domain}: no Delta table at {path}: {reason}") from None
    try:
        refuse_unreadable(table, path)
    except UnsupportedTableFeature as error:
        raise SourceError(
            f"sources.{spec.domain}: {str(error).removesuffix(ADVICE)}; give its name in a catalog,"
            " for Spark to read it, or write a copy without"
        ) from None
    return table


def _constants(added: dict[str, None], partition: Mapping[str, Any]) -> str:
    """What a file's rows have that is not in it, as JSON: nulls, and the partition's values."""
    values = {name: _value(scalar) for name, scalar in partition.items()}
    return json.dumps(added | values, default=str)


def _value(scalar: Any) -> Any:
    """A value as Python's, or as text where Python has none such, as dates after the year 9999."""
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        return scalar.cast(pa.string()).as_py()


def refuse_tables(uris: Collection[str], spec: SourceSpec, tables: Collection[str] = ()) -> None:
    """Raise SourceError where Parquet files are of a Delta table: they hold rows that it has not.

    Rows that were deleted, or updated, stay in its files. Tables of local files are looked for
    here; `tables` are those that the listing of a store has met.
    """
    if spec.format != "parquet":
        return
    local = (path for uri in uris if (path := local_path(uri)) is not None)
    folders = {folder for path in local for folder in PurePath(path).parents}
    met = [str(folder) for folder in folders if Path(folder, LOG).is_dir()]
    met += [table for table in tables if any(uri.startswith(f"{table}/") for uri in uris)]
    if met:
        raise SourceError(
            f"sources.{spec.domain}: {min(met)} is a Delta table, whose files hold deleted rows"
            " too: say format: delta"
        )
