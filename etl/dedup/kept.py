"""The documents that a run goes on with: current ones that dedup did not remove."""

from collections.abc import Hashable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longattn.etl.config import Config
from longattn.etl.config.identity import decisive
from longattn.etl.ingest.current import current_documents, has_limits
from longattn.etl.ingest.sources import inputs_of
from longattn.etl.run.context import Context
from longattn.etl.run.frames import cut_lineage
from longattn.udfs.digest import fields_digest
from longattn.udfs.errors import TableError

# What says which documents are kept.
READ = ("documents", "origins", "listings", "forgotten", "duplicates")


def kept_documents(context: Context) -> DataFrame:
    """Current documents, each once, less the duplicates among them; no texts.

    Raises TableError where the duplicates were decided for other sources or settings.
    """
    return context.once(("kept", state(context)), lambda: _kept(context))


def state(context: Context, *tables: str) -> Hashable:
    """What kept documents follow from: the config, and versions of tables, of further ones too."""
    limits = ["lengths"] if has_limits(context.config) else []
    read = [*READ, *limits, *tables]
    for table in read:
        context.tables.read(table)  # so that the ledger says what the documents depend on
    return context.config.hash, *(context.tables.version(table) for table in read)


def _kept(context: Context) -> DataFrame:
    """The rows, worked out now: a job reads them many times."""
    documents = current_documents(context)
    if not context.config.dedup.enabled:
        return cut_lineage(documents)
    _refuse_other(context)
    removed = context.tables.read("duplicates").select("doc_id")
    return cut_lineage(documents.join(removed, "doc_id", "left_anti"))


def settings_of(config: Config) -> str | None:
    """Names what duplicates are decided by: sources, what they say of documents, `dedup`.

    None of a config without sources, which goes by the tables as they are.
    """
    if not any(config.sources.values()):
        return None
    sources = [[name, spec.domain, spec.priority] for name, spec in inputs_of(config).sources]
    return fields_digest(
        sources=sorted(sources),
        min_tokens=config.ingest.min_tokens,
        max_tokens=config.ingest.max_tokens,
        dedup=decisive(config.dedup),
    )[:16]


def _refuse_other(context: Context) -> None:
    """Raise TableError unless the last run of dedup went by the settings of this config."""
    runs = context.tables["runs"].read().where("job = 'dedup' AND status = 'done'")
    last = runs.orderBy(F.desc("started")).select("settings").first()
    wanted = settings_of(context.config)
    if last is not None and wanted is not None and last["settings"] not in (None, wanted):
        raise TableError(
            "duplicates: they were decided for another config: run `longattn dedup` with this one"
        )
