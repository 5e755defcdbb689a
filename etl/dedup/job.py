"""Job dedup: fingerprint new documents, compare them with all there are, name who is removed.

Three tables, each a step that is not done twice. `signatures` grows by the documents not hashed
under this recipe; `pairs` grows by what they resemble, together with one row per document that says
it has been compared with all others of its scope; `duplicates` follows from `pairs` and from what
is current. A run cut off between two of them is finished by the next. Nothing reads the text of a
known document again, but to verify a candidate.

Documents that are no longer current keep their signatures and pairs, and are still compared with
new ones: when they come back, nothing is left to compare.
"""

import time
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longattn.etl.dedup import lsh, stage
from longattn.etl.dedup.components import components
from longattn.etl.dedup.kept import read_by
from longattn.etl.dedup.recipe import Recipe, settings_of
from longattn.etl.ingest.current import current_documents
from longattn.etl.run.context import Context, Outcome, TableSet
from longattn.etl.run.frames import cut_lineage, multiset_hash, refuse_repeated, with_ids
from longattn.etl.run.ledger import unchanged
from longattn.etl.tables.base import Txn
from longattn.etl.tables.schema import DUPLICATES, SIGNATURES

Agreed = tuple[int, int]  # rows that there were to commit, and rows that were committed


@dataclass(frozen=True, kw_only=True)
class Ids:
    """A set of documents by id, kept, with its size and a name that follows from its members."""

    frame: DataFrame
    rows: int
    chars: int
    digest: str

    @classmethod
    def of(cls, documents: DataFrame) -> "Ids":
        frame = cut_lineage(documents.select("doc_id", "n_chars"))
        chars = F.coalesce(F.sum("n_chars"), F.lit(0))
        ids = F.count_distinct("doc_id")
        row = frame.agg(F.count("*"), chars, multiset_hash("doc_id"), ids).collect()[0]
        refuse_repeated(row[0], row[3], "documents")
        return cls(frame=frame.select("doc_id"), rows=row[0], chars=row[1], digest=row[2])

    def txn(self, table: str, recipe: str, version: int | None) -> Txn:
        """The same for the same documents: of two runs at once one commits, the other skips.

        `version` is the table's, so that rows which were taken out of it are added again.
        """
        return Txn(app_id=f"dedup-{table}-{version}-{recipe}-{self.rows}-{self.digest}", version=1)


def run(context: Context) -> Outcome:
    """Decide on every document not compared yet; rows are documents."""
    settings = settings_of(context.config)
    if not context.config.dedup.enabled:
        return _switched_off(context, settings)
    if unchanged(context, "dedup", settings, (*read_by(context.config), "signatures", "pairs")):
        return Outcome(rows_in=0, rows_out=0, metrics={"hashed": 0}, settings=settings)
    started = time.monotonic()
    recipe = Recipe(context.config.dedup)
    context.progress.say(recipe.describe())
    before = context.tables.read("duplicates")
    with context.progress.task("dedup", total=3, unit="steps") as tick:
        documents = cut_lineage(current_documents(context))
        metrics, hashed = _hash_new(context, recipe, documents)
        tick(1, "fingerprints")
        live = cut_lineage(_live(context.tables, recipe, documents))
        new, counts = _compare_new(context.tables, recipe, live)
        tick(1, "pairs")
        decided = _decide(context.tables, recipe, live)
        tick(1, "duplicates")
    seconds = {"seconds": time.monotonic() - started}
    outcome = _outcome(context.tables, recipe, live, new, before)
    metrics = {**metrics, **counts, **seconds, **outcome.metrics}
    return replace(
        outcome,
        metrics=metrics,
        settings=settings,
        committed={"signatures": hashed, "duplicates": decided},
    )


def _switched_off(context: Context, settings: str) -> Outcome:
    """Without dedup no document is a duplicate, whatever an earlier run found."""
    duplicates = context.tables.read("duplicates")
    if not duplicates.isEmpty():
        context.tables.overwrite("duplicates", duplicates.limit(0))
    return Outcome(rows_in=0, rows_out=0, settings=settings)


def _hash_new(
    context: Context, recipe: Recipe, current: DataFrame
) -> tuple[dict[str, float], Agreed]:
    """Append the fingerprints of documents that have none under this recipe.

    Of current ones, and of those that were ever compared: their pairs follow from fingerprints.
    """
    tables = context.tables
    documents, signatures = tables.read("documents"), _signatures(tables, recipe)
    compared = stage.compared(_pairs(tables, recipe)).select("doc_id")
    ids = current.select("doc_id").union(compared).distinct()
    ids = ids.join(signatures.select("doc_id"), "doc_id", "left_anti")
    known = documents.select("doc_id", "n_chars").dropDuplicates(["doc_id"])
    new = Ids.of(known.join(ids, "doc_id", "left_semi"))
    started, added = time.monotonic(), 0
    if new.rows:
        texts = with_ids(documents, new.frame)
        rows = stage.fingerprints(texts, recipe.minhash).select(*SIGNATURES.columns)
        version = tables.versions_read.get("signatures")
        txn = new.txn("signatures", recipe.minhash.recipe, version)
        commit = tables.append("signatures", rows, txn)
        added = new.rows if commit.skipped else commit.rows
    seconds = time.monotonic() - started
    context.progress.say(f"dedup: {new.rows} documents hashed, {new.chars / 1e6:.1f} M characters")
    return {"hashed": new.rows, "chars": new.chars, "hash_seconds": seconds}, (new.rows, added)


def _compare_new(tables: TableSet, recipe: Recipe, live: DataFrame) -> tuple[Ids, dict[str, float]]:
    """Append the pairs of documents not compared yet, and for each a row that says it now is.

    And of current ones whose pairs were with documents that are no longer: see `lsh.candidates`.
    """
    documents, pairs = tables.read("documents"), _pairs(tables, recipe)
    new = Ids.of(stage.undecided(live, pairs))
    scopes = live.select("doc_id", "scope").join(new.frame, "doc_id", "left_semi")
    every = stage.ever(live, _compared(tables, recipe))
    some_left = not every.where("NOT live").isEmpty()
    if not new.rows and not some_left:
        return new, {"candidates": 0, "pairs": 0}
    texts = stage.distinct_texts(every, scopes)
    known = pairs.where(F.col("method") == stage.NEAR).select("scope", "doc_a", "doc_b")
    likely = lsh.candidates(texts, some_left=some_left)
    likely = cut_lineage(likely.join(known, ["scope", "doc_a", "doc_b"], "left_anti"))
    candidates = likely.count()
    if not new.rows and not candidates:
        return new, {"candidates": 0, "pairs": 0}
    near = _alike(likely, texts, documents, recipe) if candidates else _no_pairs(likely)
    itself = scopes.select("doc_id", F.concat(F.lit(recipe.name), "scope").alias("recipe"))
    version = tables.versions_read.get("pairs")
    txn = new.txn("pairs", recipe.name, version)
    commit = tables.append("pairs", stage.pair_rows(near, itself), txn)
    return new, {"candidates": candidates, "pairs": commit.rows - new.rows}


def _alike(pairs: DataFrame, texts: DataFrame, documents: DataFrame, recipe: Recipe) -> DataFrame:
    """Candidates that are near duplicates by their signatures, or by their texts where wanted.

    Returns doc_a, doc_b, similarity and `recipe`, which says the scope.
    """
    config = recipe.config
    likely = lsh.estimated(pairs, texts, recipe.estimate_floor)
    likely = likely.withColumn("recipe", F.concat(F.lit(recipe.name), "scope")).drop("scope")
    if config.verify == "signature":
        return likely
    likely = cut_lineage(likely)
    ends = likely.select("doc_a", "doc_b").distinct()
    alike = lsh.verified(ends, documents, config.ngram, config.threshold)
    return likely.drop("similarity").join(alike, ["doc_a", "doc_b"])


def _no_pairs(candidates: DataFrame) -> DataFrame:
    """What _alike gives where there are no candidates."""
    given = F.lit(1.0).alias("similarity"), F.col("scope").alias("recipe")
    return candidates.select("doc_a", "doc_b", *given)


def _decide(tables: TableSet, recipe: Recipe, live: DataFrame) -> Agreed:
    """Write `duplicates` anew from all pairs of the recipe, if that changes it."""
    texts = _signatures(tables, recipe)
    edges = cut_lineage(stage.near_edges(_pairs(tables, recipe), live, texts))
    removed = cut_lineage(stage.removed(live, edges, components(edges.select("a", "b"))))
    decided = _checksum(removed)
    if decided == _checksum(tables.read("duplicates")):
        return decided[0], decided[0]
    commit = tables.overwrite("duplicates", removed.select(*DUPLICATES.columns))
    return decided[0], commit.rows


def _outcome(
    tables: TableSet, recipe: Recipe, live: DataFrame, new: Ids, before: DataFrame
) -> Outcome:
    """What the tables now say of the new documents, and of old ones that lost to a new one."""
    removed = tables.read("duplicates").select("doc_id", "method")
    scopes = live.select("doc_id", "scope").join(new.frame, "doc_id", "left_semi")
    # it may have been compared in the scope of another domain, too, before that was renamed
    compared = stage.compared(_pairs(tables, recipe)).join(scopes, ["doc_id", "scope"])
    fates = compared.join(removed, "doc_id", "left").groupBy("method").count().collect()
    counts = {row["method"]: row["count"] for row in fates}
    kept = counts.pop(None, 0)
    others = removed.join(new.frame, "doc_id", "left_anti")
    displaced = others.join(before, "doc_id", "left_anti").count()
    return Outcome(
        rows_in=new.rows, rows_out=kept, refused=counts, metrics={"displaced": displaced}
    )


def _signatures(tables: TableSet, recipe: Recipe) -> DataFrame:
    return tables.read("signatures").where(F.col("recipe") == recipe.minhash.recipe)


def _pairs(tables: TableSet, recipe: Recipe) -> DataFrame:
    """Pairs of the recipe, with `scope` beside."""
    pairs = tables.read("pairs").where(F.col("recipe").startswith(recipe.name))
    return pairs.withColumn("scope", F.expr(f"substring(recipe, {len(recipe.name) + 1})"))


def _live(tables: TableSet, recipe: Recipe, documents: DataFrame) -> DataFrame:
    """Current documents that have been hashed, with their scope and the text that they carry."""
    attributes = documents.select("doc_id", "domain", "priority", "n_chars")
    hashed = _signatures(tables, recipe).drop("domain", "priority", "n_chars")
    return stage.named_texts(hashed.join(attributes, "doc_id"), recipe.config.scope)


def _compared(tables: TableSet, recipe: Recipe) -> DataFrame:
    """Documents that were ever compared, in the scope of then, as far as they are still there."""
    ids = tables.read("documents").select("doc_id")
    compared = stage.compared(_pairs(tables, recipe)).join(ids, "doc_id", "left_semi")
    return stage.with_text_ids(_signatures(tables, recipe).join(compared, "doc_id"))


def _checksum(duplicates: DataFrame) -> tuple[int, str]:
    """Number of rows and a hash of them whatever their order."""
    row = duplicates.agg(F.count("*"), multiset_hash(*sorted(DUPLICATES.columns))).collect()[0]
    return row[0], row[1]
