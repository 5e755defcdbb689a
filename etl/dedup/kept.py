"""The documents that a run goes on with: current ones that dedup did not remove."""

from collections.abc import Hashable

from pyspark.sql import DataFrame

from longattn.etl.config import Config
from longattn.etl.dedup.recipe import settings_of
from longattn.etl.ingest.current import query, refuse_unlisted
from longattn.etl.run.context import Context
from longattn.etl.run.frames import cut_lineage
from longattn.etl.run.ledger import done, last_run
from longattn.udfs.errors import TableError


def kept_documents(context: Context) -> DataFrame:
    """Current documents, each once, less the duplicates among them; no texts.

    Raises TableError where the duplicates were decided for other sources or settings.
    """
    return context.once(("kept", state(context)), lambda: _kept(context))


def state(context: Context, *tables: str) -> Hashable:
    """What kept documents follow from: the config, and versions of tables, of further ones too."""
    read = [*read_by(context.config), *tables]
    for table in read:
        context.tables.read(table)  # so that the ledger says what the documents depend on
    return context.config.hash, *(context.tables.version(table) for table in read)


def read_by(config: Config) -> tuple[str, ...]:
    """The tables that say which documents are kept."""
    limits = ("lengths",) if config.ingest.counts_tokens else ()
    return ("documents", "origins", "listings", "forgotten", "duplicates", *limits)


def _kept(context: Context) -> DataFrame:
    """The rows, worked out now: a job reads them many times."""
    refuse_unlisted(context)
    if context.config.dedup.enabled:
        _refuse_other(context)
    return cut_lineage(query(context, "SELECT * FROM kept"))


def _refuse_other(context: Context) -> None:
    """Raise TableError unless the last run of dedup went by the settings of this config.

    A config without sources takes whatever the tables say.
    """
    if not any(context.config.sources.values()):
        return
    last = last_run(context, "dedup", done())
    if last is not None and last["settings"] not in (None, settings_of(context.config)):
        raise TableError(
            "duplicates: they were decided for another config: run `longattn dedup` with this one"
        )
