"""Which Delta features the delta-rs connector can honour; all others are refused by name.

deltalake opens tables with deletion vectors or column mapping and lists their files as if these
features were not there: deleted rows would come back, columns would come back empty. A writer that
ignores a feature damages the table for everybody else. So the test is a list of what is known to be
safe, not of what is known to be dangerous.
"""

import json
from collections.abc import Iterable, Iterator

from deltalake import DeltaTable

from longattn.udfs.errors import UnsupportedTableFeature

# deltalake adds variantType to any table of protocol 3/7 whose properties or columns it alters; no
# table of ours has such a column, or the check of its schema would refuse it.
READABLE = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "variantType"}
# Adding and removing whole files leaves these in order; the rest of them are checked by use below.
WRITABLE = READABLE | {
    "appendOnly",
    "changeDataFeed",
    "checkConstraints",
    "generatedColumns",
    "identityColumns",
    "invariants",
}
CONSEQUENCE = {
    "deletionVectors": "deleted rows would come back",
    "columnMapping": "columns stand under other names in the files",
}
ADVICE = "; use the native connector"
COLUMN_FEATURES = {
    "delta.generationExpression": "generatedColumns",
    "delta.identity.start": "identityColumns",
    "delta.invariants": "invariants",
}


def refuse_unreadable(table: DeltaTable, location: str) -> None:
    """Raise UnsupportedTableFeature for a feature that would make the rows read wrong."""
    listed = set(table.protocol().reader_features or ()) - READABLE
    _refuse({*listed, *_switched_on(table)}, location, "read")


def refuse_unwritable(table: DeltaTable, location: str) -> None:
    """Raise UnsupportedTableFeature for a feature that a plain file write would violate."""
    listed = set(table.protocol().writer_features or ()) - WRITABLE
    _refuse({*listed, *_constraints(table), *_column_features(table)}, location, "write")


def _refuse(features: Iterable[str], location: str, verb: str) -> None:
    """Raise UnsupportedTableFeature that names every feature, and why it is not safe."""
    if names := sorted(features):
        why = dict.fromkeys(CONSEQUENCE.get(name, "not known to be safe") for name in names)
        raise UnsupportedTableFeature(
            f"table {location}: the delta-rs connector cannot {verb} a table with "
            f"{', '.join(names)} ({'; '.join(why)}){ADVICE}"
        )


def _switched_on(table: DeltaTable) -> Iterator[str]:
    properties = table.metadata().configuration
    if properties.get("delta.columnMapping.mode", "none") != "none":
        yield "columnMapping"
    if properties.get("delta.enableDeletionVectors", "false").lower() == "true":
        yield "deletionVectors"


def _constraints(table: DeltaTable) -> Iterator[str]:
    if any(key.startswith("delta.constraints.") for key in table.metadata().configuration):
        yield "checkConstraints"


def _column_features(table: DeltaTable) -> Iterator[str]:
    for column in json.loads(table.schema().to_json())["fields"]:
        yield from (COLUMN_FEATURES[key] for key in column["metadata"] if key in COLUMN_FEATURES)
