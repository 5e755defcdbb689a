"""Which windows are current: those of kept documents, as this config cuts or packs them.

Windows and lengths are kept whatever the config of a later run says. Limits in tokens, the domain
of a document and whether that domain is packed are looked at by the views of etl.run.views,
whenever windows are read.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longattn.etl.config import Config
from longattn.etl.dedup.kept import kept_documents, state
from longattn.etl.ingest import current as documents
from longattn.etl.run import views
from longattn.etl.run.context import Context
from longattn.etl.run.frames import cut_lineage
from longattn.etl.windows.pack import Order, group_counts, grouped
from longattn.udfs.ddl import literal
from longattn.udfs.text.tokens import separator_id


def query(context: Context, sql: str, *more: str) -> DataFrame:
    """The rows of a query over views and tables; `more` are further columns of windows."""
    return documents.query(context, sql, *more, kept=kept_documents, divided=divided)


def natural_windows(context: Context, *columns: str) -> DataFrame:
    """Current windows cut from one document: window_id, doc_id, domain, n_tokens, doc_tokens.

    doc_tokens are those of the whole document. `columns` are further ones of `windows`.
    """
    return query(context, "SELECT * FROM cut", *columns)


def scored_windows(context: Context) -> DataFrame:
    """As natural_windows, of the domains that are scored."""
    return query(context, "SELECT * FROM scored")


def packed_windows(context: Context, *columns: str) -> DataFrame:
    """Current windows packed of several documents: window_id, domain, n_tokens, and `columns`."""
    mine = query(context, "SELECT * FROM packed", *columns)
    return _of_groups(context, mine).select("window_id", "domain", "n_tokens", *columns)


def _of_groups(context: Context, mine: DataFrame) -> DataFrame:
    """Those packed of the documents of now; all where their tables say nothing of groups."""
    if not context.config.pack.domains:
        return mine
    if documents.inputs_now(context) is None and mine.where("packed_from IS NOT NULL").isEmpty():
        return mine
    groups = packed_documents(context).select("packed_from").distinct()
    return mine.join(groups, "packed_from", "left_semi")


def current_windows(context: Context, *columns: str) -> DataFrame:
    """All current windows, cut or packed: window_id, domain, n_tokens, and `columns`."""
    cut = natural_windows(context, *columns).select("window_id", "domain", "n_tokens", *columns)
    return cut.union(packed_windows(context, *columns))


def packed_documents(context: Context) -> DataFrame:
    """Documents to be packed (doc_id, domain, n_tokens), each with its group and its place there.

    `packed_from` names the group: its documents, in which order and with what between them.
    """
    groups = state(context, "lengths")
    return context.once(("packed", groups), lambda: cut_lineage(_packed_documents(context)))


def _packed_documents(context: Context) -> DataFrame:
    config, pack = context.config, context.config.pack
    columns = "doc_id, domain, n_tokens, source_uri, source_row, meta, sketch, imports"
    wanted = f"SELECT {columns} FROM measured WHERE {views.is_packed(config)} AND reason IS NULL"
    rows = query(context, wanted)
    sums = rows.groupBy("domain").agg(F.sum("n_tokens").alias("tokens")).collect()
    tokens = {row["domain"]: row["tokens"] for row in sums}
    groups = group_counts(tokens, content_length(config))
    recipe = f"{context.recipe.packing}|{separator_id(config.tokenizer_path, pack.separator)}"
    order = Order(name=pack.order, seed=config.seed, repository=pack.repository, path=pack.path)
    return grouped(rows, groups, order, recipe)


def judged_lengths(context: Context, packed: bool) -> DataFrame:
    """Kept documents that have a length, and why they are not wanted: those packed, or the others.

    doc_id, domain, n_tokens, reason.
    """
    kind = f"{'' if packed else 'NOT '}{views.is_packed(context.config)}"
    return query(context, f"SELECT doc_id, domain, n_tokens, reason FROM measured WHERE {kind}")


def unfinished(context: Context, windowing: str) -> DataFrame:
    """Documents of a windowing that were not measured, or of whose windows some are not there.

    doc_id, domain, known (null for what was not measured), n_there: how many windows there are.
    """
    return query(context, f"SELECT * FROM due WHERE windowing = {literal(windowing)}")


def divided(context: Context) -> DataFrame:
    """Rows (doc_id, windowing): where lengths are several, which one each document is cut at.

    Of documents whose tokens have been counted.
    """
    versions = state(context, "lengths")
    return context.once(("divided", versions), lambda: cut_lineage(_divided(context)))


def _divided(context: Context) -> DataFrame:
    sums = query(context, views.to_divide(context.config)).collect()
    return query(context, views.divided_by(context.recipe, (row.asDict() for row in sums)))


def uncounted(context: Context) -> DataFrame:
    """Kept documents that are to be cut and whose tokens were never counted."""
    cut = f"NOT {views.is_packed(context.config, 'k.domain')}"
    unknown = "SELECT k.* FROM kept k LEFT ANTI JOIN counted n ON n.doc_id = k.doc_id"
    return query(context, f"{unknown} WHERE {cut}")


def longest(context: Context) -> int | None:
    """Tokens of the longest document to be cut; None where there is none within the limits."""
    within = f"{views.limit(context.config)} IS NULL"
    row = query(context, f"SELECT max(n_tokens) AS longest FROM drawn WHERE {within}").first()
    return row["longest"] if row else None


def limit(config: Config) -> Column:
    """Why a document (domain, n_tokens) is beyond `window`'s limits; null within."""
    return documents.reason(views.limit(config))


def content_length(config: Config) -> int:
    """Tokens of text in a window: one less than its length where BOS is one of the tokens."""
    return config.window.length - config.window.bos
