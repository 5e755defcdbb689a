"""Which documents are current: those of files that the config's sources named when last listed.

Tables are a cache of work. A row of `documents` says what a text is, a row of `origins` that a
file, as it was read, holds it, and a row of `listings` that a source of a config names that file
now. What a source says beside (domain, priority, licence) is taken from the config of the run. A
config without sources, and a root where nothing was ever listed, go by the tables: every document
is current, as it was first read.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from longattn.etl.config import Config
from longattn.etl.ingest.sources import Inputs, inputs_of
from longattn.etl.run.context import Context
from longattn.etl.run.frames import light
from longattn.etl.run.pending import Limits, beyond
from longattn.etl.tables.base import sql_text
from longattn.udfs.errors import TableError
from longattn.udfs.text.tokens import tokenizer_name

COLUMNS = (
    *("doc_id", "domain", "source", "source_uri", "source_row", "source_id", "priority"),
    *("n_chars", "meta"),
)
SOURCES_DDL = "listing string, domain string, source string, priority int"


def current_documents(context: Context) -> DataFrame:
    """Current documents (COLUMNS) within the limits of `ingest`, each once; no texts.

    A document that several current records give counts as the one of the smallest priority, then
    the first by domain, file and row. Raises TableError where the sources were never listed.
    """
    if goes_by_tables(context):
        return context.tables.read("documents").select(*COLUMNS)
    return within_limits(context, _current(context, refuse_unlisted(context)))


def goes_by_tables(context: Context) -> bool:
    """Whether nothing says what is current: a config without sources, a root without listings."""
    return not any(context.config.sources.values()) or context.tables.version("listings") is None


def with_text(context: Context, documents: DataFrame) -> DataFrame:
    """The documents with their texts."""
    texts = context.tables.read("documents").select("doc_id", "text")
    return texts.join(light(documents), "doc_id")


def refuse_unlisted(context: Context) -> Inputs:
    """The config's inputs; raises TableError where no ingest has listed them."""
    inputs = inputs_of(context.config)
    if _listed(context, inputs).isEmpty():
        raise TableError(
            "listings: the sources of this config, as it reads them, were never listed here: run"
            " `longattn ingest` with this config"
        )
    return inputs


def not_in_sources(context: Context) -> DataFrame:
    """doc_id and domain, as first read, of documents that no source of the config gives."""
    documents = context.tables.read("documents").select("doc_id", "domain")
    if goes_by_tables(context):
        return documents.where("false")
    current = _current(context, inputs_of(context.config)).select("doc_id")
    return documents.join(current, "doc_id", "left_anti")


def _listed(context: Context, inputs: Inputs) -> DataFrame:
    return context.tables.read("listings").where(F.col("inputs") == inputs.name)


def _current(context: Context, inputs: Inputs) -> DataFrame:
    """Every document of a listed file once, with what its source says of it."""
    rows = [(name, spec.domain, spec.source, spec.priority) for name, spec in inputs.sources]
    sources = F.broadcast(context.spark.createDataFrame(rows, SOURCES_DDL))
    files = _listed(context, inputs).join(sources, "listing").drop("inputs", "listing")
    origins = context.tables.read("origins").join(files, ["source_uri", "fingerprint"])
    if context.tables.version("forgotten") is not None:  # their rows may not be deleted yet
        gone = context.tables.read("forgotten").select("doc_id")
        origins = origins.join(gone, "doc_id", "left_anti")
    first = Window.partitionBy("doc_id").orderBy(
        *("priority", "domain", "source_uri", F.col("source_row").asc_nulls_first())
    )
    numbered = origins.withColumn("nth", F.row_number().over(first))
    return numbered.where("nth = 1").select(*COLUMNS)


# --- limits in tokens, before dedup


def has_limits(config: Config) -> bool:
    """Whether `ingest` limits documents by tokens."""
    return config.ingest.min_tokens is not None or config.ingest.max_tokens is not None


def token_counts(context: Context) -> DataFrame:
    """doc_id and n_tokens by the config's tokenizer, of all documents that were ever measured."""
    ending = f":{tokenizer_name(context.config.tokenizer_path)}"
    lengths = context.tables.read("lengths").where(F.col("windowing").endswith(ending))
    return lengths.groupBy("doc_id").agg(F.max("n_tokens").alias("n_tokens"))


def unmeasured(context: Context) -> DataFrame:
    """Current documents (COLUMNS) that were never measured, within the limits or not; no texts."""
    documents = _current(context, refuse_unlisted(context))
    return documents.join(token_counts(context), "doc_id", "left_anti")


def within_limits(context: Context, documents: DataFrame) -> DataFrame:
    """The documents that ingest.min_tokens and max_tokens let pass; all where there are none."""
    if not has_limits(context.config):
        return documents
    measured = documents.join(token_counts(context), "doc_id", "left")
    return measured.where(limit(context.config).isNull()).select(*documents.columns)


def limit(config: Config) -> Column:
    """Why a document (domain, n_tokens) is beyond the limits of `ingest`; null within."""
    return as_reason(config.ingest.min_tokens, config.ingest.max_tokens)


def as_reason(least: Limits, most: Limits) -> Column:
    """What `beyond` says of rows with a domain and n_tokens."""
    return F.expr(beyond(least, most, quoted=sql_text)).cast("string")
