"""Which windows are current: those of kept documents, as this config cuts or packs them.

Windows and lengths are kept whatever the config of a later run says. Limits in tokens, the domain
of a document and whether that domain is packed are looked at here, whenever windows are read.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longattn.etl.config import Config, buckets
from longattn.etl.dedup.kept import kept_documents, state
from longattn.etl.ingest.current import as_reason, goes_by_tables, token_counts
from longattn.etl.run.context import Context
from longattn.etl.run.frames import cut_lineage
from longattn.etl.windows.pack import Order, group_counts, grouped
from longattn.udfs.text.tokens import separator_id


def natural_windows(context: Context, *columns: str | Column) -> DataFrame:
    """Current windows cut from one document: window_id, doc_id, domain, n_tokens, doc_tokens.

    doc_tokens are those of the whole document. `columns` are further ones of `windows`.
    """
    names = context.recipe.cuttings.values()
    windows = context.tables.read("windows").where(F.col("windowing").isin(*names))
    if goes_by_tables(context) and len(names) == 1:
        return _by_tables(context, windows, *columns)
    cut = windows.select("window_id", "doc_id", "windowing", "n_tokens", *columns)
    documents = measured(context, packed=False).where("n_windows > 0")
    whole = F.col("n_tokens").alias("doc_tokens")
    kept = documents.select("doc_id", "windowing", "domain", whole)
    return cut.join(kept, ["doc_id", "windowing"]).drop("windowing")


def _by_tables(context: Context, windows: DataFrame, *columns: str | Column) -> DataFrame:
    """As natural_windows, of all windows of the tables but those of duplicates."""
    packed = F.col("domain").isin(*context.config.pack.domains)
    cut = windows.where(~packed).select("window_id", "doc_id", "domain", "n_tokens", *columns)
    if context.config.dedup.enabled:
        removed = context.tables.read("duplicates").select("doc_id")
        cut = cut.join(removed, "doc_id", "left_anti")
    lengths = context.tables.read("lengths").where(F.col("windowing") == context.recipe.windowing)
    beyond_limits = lengths.where(limit(context.config, packed=False).isNotNull())
    cut = cut.join(beyond_limits.select("doc_id"), "doc_id", "left_anti")
    whole = lengths.select("doc_id", F.col("n_tokens").alias("doc_tokens"))
    known = F.coalesce("doc_tokens", F.col("n_tokens").cast("bigint"))
    return cut.join(whole, "doc_id", "left").withColumn("doc_tokens", known)


def scored_windows(context: Context, *columns: str | Column) -> DataFrame:
    """As natural_windows, of the domains that are scored."""
    windows, config = natural_windows(context, *columns), context.config
    if not (config.sources or config.score.domains):
        return windows
    return windows.where(F.col("domain").isin(*context.recipe.scored_domains))


def packed_windows(context: Context, *columns: str) -> DataFrame:
    """Current windows packed of several documents: window_id, domain, n_tokens, and `columns`."""
    mine = ever_packed(context)
    if not context.config.pack.domains:
        return mine.limit(0).select("window_id", "domain", "n_tokens", *columns)
    if goes_by_tables(context) and mine.where("packed_from IS NOT NULL").isEmpty():
        return mine.select("window_id", "domain", "n_tokens", *columns)
    groups = packed_documents(context).select("packed_from").distinct()
    current = mine.join(groups, "packed_from", "left_semi")
    return current.select("window_id", "domain", "n_tokens", *columns)


def ever_packed(context: Context) -> DataFrame:
    """Windows of the packed domains packed as the config says, those of earlier groups too."""
    domains = F.col("domain").isin(*context.config.pack.domains)
    windows = context.tables.read("windows")
    return windows.where((F.col("windowing") == context.recipe.packing) & domains)


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
    config = context.config
    documents = measured(context, packed=True)
    sums = documents.groupBy("domain").agg(F.sum("n_tokens").alias("tokens")).collect()
    tokens = {row["domain"]: row["tokens"] for row in sums}
    groups = group_counts(tokens, content_length(config))
    separator = separator_id(config.tokenizer_path, config.pack.separator)
    recipe = f"{context.recipe.packing}|{separator}"
    columns = ("doc_id", "domain", "n_tokens", "source_uri", "source_row", "meta")
    pack = config.pack
    order = Order(name=pack.order, seed=config.seed, repository=pack.repository, path=pack.path)
    return grouped(documents.select(*columns, "sketch", "imports"), groups, order, recipe)


def measured(context: Context, packed: bool) -> DataFrame:
    """Kept documents of one kind of domain that have a length and are within the limits.

    Their columns, windowing, n_tokens, n_windows, sketch and imports.
    """
    known = _lengths(context, packed).where(F.col("reason").isNull())
    columns = known.select("doc_id", "windowing", "n_tokens", "n_windows", "sketch", "imports")
    documents = of_kind(context, packed).join(columns, "doc_id")
    return documents.where(limit(context.config, packed).isNull())


def judged_lengths(context: Context, packed: bool) -> DataFrame:
    """Kept documents of a kind of domain that have a length, and why they are not wanted.

    doc_id, domain, n_tokens, reason.
    """
    lengths = _lengths(context, packed)
    documents = of_kind(context, packed).join(lengths.drop("domain"), "doc_id")
    reason = F.coalesce("reason", limit(context.config, packed)).alias("reason")
    return documents.select("doc_id", "domain", "n_tokens", reason)


def _lengths(context: Context, packed: bool) -> DataFrame:
    """Rows of `lengths` by the windowing that the config has for each document of a kind."""
    names = [context.recipe.packing] if packed else [*context.recipe.cuttings.values()]
    mine = context.tables.read("lengths").where(F.col("windowing").isin(*names))
    return mine if len(names) == 1 else mine.join(divided(context), ["doc_id", "windowing"])


def divided(context: Context) -> DataFrame:
    """Rows (doc_id, windowing): where lengths are several, which one each document is cut at.

    Of documents whose tokens have been counted.
    """
    documents = state(context, "lengths")
    return context.once(("divided", documents), lambda: cut_lineage(_divided(context)))


def _divided(context: Context) -> DataFrame:
    config = context.config
    counted = of_kind(context, packed=False).join(token_counts(context), "doc_id")
    drawn = counted.select(
        *("doc_id", "domain", "n_tokens"),
        F.expr(buckets.fills(config)).alias("fills"),
        F.expr(buckets.draw(config)).alias("draw"),
    )
    within = drawn.where(limit(config, packed=False).isNull())
    sums = within.groupBy("domain", "fills", "draw").agg(F.sum("n_tokens").alias("tokens"))
    division = buckets.divide((row.asDict() for row in sums.collect()), config)
    windowing = F.expr(buckets.windowing(context.recipe.cuttings.values(), division))
    return drawn.select("doc_id", windowing.alias("windowing"))


def of_kind(context: Context, packed: bool) -> DataFrame:
    """Kept documents of the domains that are packed, or of the others."""
    is_packed = F.col("domain").isin(*context.config.pack.domains)
    return kept_documents(context).where(is_packed if packed else ~is_packed)


def limit(config: Config, packed: bool) -> Column:
    """Why a document (domain, n_tokens) is beyond `window`'s limits; null within.

    For packed domains only limits given by domain hold.
    """
    least, most = config.window.min_tokens, config.window.max_tokens
    if packed:
        least = least if isinstance(least, dict) else None
        most = most if isinstance(most, dict) else None
    return as_reason(least, most)


def content_length(config: Config) -> int:
    """Tokens of text in a window: one less than its length where BOS is one of the tokens."""
    return config.window.length - config.window.bos
