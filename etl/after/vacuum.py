"""Housekeeping: what no table and no export names any more, listed or deleted.

Deleting holds the root, so that no run is at work on it: what is staged then is a dead run's.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from deltalake.exceptions import DeltaError

from longattn.etl.after.forget import Step, rows_of, take
from longattn.etl.after.reading import SessionReader
from longattn.etl.after.selections import named
from longattn.etl.after.unused import unused
from longattn.etl.export.files import Folder
from longattn.etl.run.context import Context
from longattn.etl.run.holding import register_of
from longattn.etl.run.ledger import holding
from longattn.etl.run.staging import drop, stale, stale_tables
from longattn.etl.selection.current import name_of_now
from longattn.udfs.errors import LongAttnError, UserError
from longattn.udfs.storage import delete


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """A kind of things that can go, and where they are."""

    what: str
    paths: list[str]
    remove: Callable[[str], None] = delete


def list_garbage(context: Context, folders: list[Folder], hours: float) -> list[Garbage]:
    """What `vacuum` would delete; changes nothing, and disturbs no run."""
    return list(_garbage(context, folders, hours, apply=False))


def vacuum(context: Context, folders: list[Folder], hours: float) -> list[Garbage]:
    """Delete it, holding the root meanwhile; waits for a run that is at work."""
    with holding(context, "vacuum", uuid.uuid4().hex):
        kinds = list(_garbage(context, folders, hours, apply=True))
        for garbage in kinds:
            for path in garbage.paths:
                garbage.remove(path)
    if register := register_of(context.spark, context.config.tables):
        with suppress(DeltaError, OSError):  # a root may lie where no lease can be kept
            register.tidy()
    return kinds


def vacuum_rows(context: Context, apply: bool) -> dict[str, int]:
    """How many rows of each table nothing asks for; they are deleted when it is to apply."""
    if not apply:
        return rows_of(context, unused(context))
    return take(context, "vacuum", lambda: unused(context))


def vacuum_selections(context: Context, names: Sequence[str], apply: bool) -> dict[str, int]:
    """How many windows these selections have; their rows are deleted when it is to apply.

    Raises UserError for one that is not there, and for the one that the config describes.
    """
    there = named(SessionReader(dict(context.tables), None), names)
    own = context.config.select.name
    with suppress(LongAttnError):  # a config that describes none that can be made now
        own = own or name_of_now(context)
    if own in names:
        raise UserError(
            f"vacuum: --selections {own}: this config describes it, and select would make it again"
        )
    if apply:
        step = Step(table="selections", column="selection", values=list(there))
        take(context, "vacuum", lambda: [step])
    return {name: selection.windows for name, selection in there.items()}


def _garbage(
    context: Context, folders: list[Folder], hours: float, apply: bool
) -> Iterator[Garbage]:
    """Files of tables first, which their own vacuum deletes when it is to apply."""
    files = [
        f"{table.location}/{path}" if "://" not in path and not path.startswith("/") else path
        for table in context.tables.values()
        for path in table.vacuum(hours, dry_run=not apply)
    ]
    what = "data files of old versions and of killed writes"
    yield Garbage(what=what, paths=files, remove=lambda path: None)  # gone by then
    root, spark = context.config.tables.root, context.spark
    staged = stale(root, all_of_it=apply)
    yield Garbage(what="what killed runs had staged", paths=staged)
    beside = [path for folder in folders for path in folder.left_behind()]
    yield Garbage(what="exports half written or replaced", paths=beside)
    if tables := stale_tables(spark, root):
        yield Garbage(what="tables that runs had staged", paths=tables, remove=partial(drop, spark))
