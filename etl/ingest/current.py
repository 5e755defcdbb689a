"""Which documents are current: those of files that the config's sources named when last listed.

Tables are a cache of work. A row of `documents` says what a text is, a row of `origins` that a
file, as it was read, holds it, and a row of `listings` that a source of a config names that file
now. What a source says beside (domain, priority, licence) is taken from the config of the run. A
config without sources, and a root where nothing was ever listed, go by the tables: every document
is current, as it was first read. The views of etl.run.views say it.
"""

from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longattn.etl.config import Config
from longattn.etl.ingest.sources import listed_inputs
from longattn.etl.run.context import Context
from longattn.etl.run.frames import by_sql, light, spark_sql
from longattn.etl.run.views import Inputs, Views, beyond, names_in, with_views
from longattn.etl.tables.schema import TABLES
from longattn.udfs.errors import TableError


def query(
    context: Context, sql: str, *more: str, **given: Callable[[Context], DataFrame]
) -> DataFrame:
    """The rows of a query over views and tables, which are read as the context reads them.

    `more` are further columns of windows, and views that are `given` are worked out by these.
    """
    views = Views(recipe=context.recipe, inputs=inputs_now(context), more=more)
    text = with_views(sql, views, given)
    frames = {
        name: given[name](context) if name in given else context.tables.read(name)
        for name in names_in(text)
        if name in given or name in TABLES
    }
    return by_sql(context.spark, text, frames)


def inputs_now(context: Context) -> Inputs | None:
    """The config's inputs; None where nothing says what is current."""
    return listed_inputs(context.config, context.tables.version("listings") is not None)


def current_documents(context: Context) -> DataFrame:
    """Current documents (views.COLUMNS) within the limits of `ingest`, each once; no texts.

    A document that several current records give counts as the one of the smallest priority, then
    the first by domain, file and row. Raises TableError where the sources were never listed.
    """
    refuse_unlisted(context)
    return query(context, "SELECT * FROM current")


def refuse_unlisted(context: Context) -> None:
    """Raise TableError where no ingest has listed the config's inputs, though it has others'."""
    inputs = inputs_now(context)
    if inputs is None:
        return
    if context.tables.read("listings").where(F.col("inputs") == inputs.name).isEmpty():
        raise TableError(
            "listings: the sources of this config, as it reads them, were never listed here: run"
            " `longattn ingest` with this config"
        )


def not_in_sources(context: Context) -> DataFrame:
    """doc_id and domain, as first read, of documents that no source of the config gives."""
    return query(context, "SELECT * FROM unlisted")


def with_text(context: Context, documents: DataFrame) -> DataFrame:
    """The documents with their texts."""
    texts = context.tables.read("documents").select("doc_id", "text")
    return texts.join(light(documents), "doc_id")


# --- limits in tokens, before dedup


def unmeasured(context: Context) -> DataFrame:
    """Documents of the sources that were never measured, within the limits or not; no texts."""
    refuse_unlisted(context)
    unknown = "SELECT d.* FROM sourced d LEFT ANTI JOIN counted n ON n.doc_id = d.doc_id"
    return query(context, unknown)


def limit(config: Config) -> Column:
    """Why a document (domain, n_tokens) is beyond the limits of `ingest`; null within."""
    return reason(beyond(config.ingest))


def reason(sql: str) -> Column:
    """What `beyond` says, as a column."""
    return F.expr(spark_sql(sql)).cast("string")
