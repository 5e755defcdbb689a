"""Job dedup: fingerprint new documents, compare them with all there are, name who is removed.

Three tables, each a step that is not done twice. `signatures` grows by the documents not hashed
under this recipe; `pairs` grows by what they resemble, together with one row per document that says
it has been compared; `duplicates` follows from `pairs` alone. A run cut off between two of them is
finished by the next. Nothing reads the text of a known document again, but to verify a candidate.
"""

import time
from dataclasses import dataclass, replace
from functools import cached_property

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longattn.etl.config import DedupConfig
from longattn.etl.dedup import lsh, stage
from longattn.etl.dedup.components import components
from longattn.etl.dedup.ids import with_ids
from longattn.etl.dedup.lineage import cut_lineage
from longattn.etl.run.context import Context, Outcome
from longattn.etl.run.multiset import multiset_hash
from longattn.etl.run.once import refuse_repeated
from longattn.etl.tables.base import Txn
from longattn.etl.tables.schema import DUPLICATES, SIGNATURES
from longattn.udfs.text.minhash import MinHash, choose_bands, s_curve

Agreed = tuple[int, int]  # rows that there were to commit, and rows that were committed
MARGIN = 4  # standard errors by which an estimate may fall short and still be verified


@dataclass(frozen=True)
class Recipe:
    """How documents are hashed and compared; `pairs` of two recipes never mix."""

    config: DedupConfig

    @cached_property
    def minhash(self) -> MinHash:
        config = self.config
        bands, rows = choose_bands(config.threshold, config.permutations)
        return MinHash(
            ngram=config.ngram,
            permutations=config.permutations,
            bands=bands,
            rows=rows,
        )

    @property
    def name(self) -> str:
        config = self.config
        return (
            f"{self.minhash.recipe}-{config.scope}-{config.verify}{config.threshold}"
            f"-cap{lsh.MAX_BAND_SIZE}"
        )

    @property
    def estimate_floor(self) -> float:
        """Estimate from which a pair is worth verifying, or final when signatures verify."""
        if self.config.verify == "signature":
            return self.config.threshold
        t = self.config.threshold
        return t - MARGIN * float((t * (1 - t) / self.config.permutations) ** 0.5)

    def describe(self) -> str:
        """One line: bands, rows and the S-curve."""
        bands, rows = self.minhash.bands, self.minhash.rows
        curve = ", ".join(f"{s:.2f}: {s_curve(s, bands, rows):.1%}" for s in _around(self.config))
        return f"dedup: {bands} bands of {rows} rows; share of pairs found at similarity {curve}"


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

    def txn(self, table: str, recipe: str) -> Txn:
        """The same for the same documents: of two runs at once one commits, the other skips."""
        return Txn(app_id=f"dedup-{table}-{recipe}-{self.rows}-{self.digest}", version=1)


def run(context: Context) -> Outcome:
    """Decide on every document not compared yet; rows are documents."""
    if not context.config.dedup.enabled:
        return _switched_off(context)
    started = time.monotonic()
    recipe = Recipe(context.config.dedup)
    context.progress.say(recipe.describe())
    before = context.tables.read("duplicates")
    with context.progress.task("dedup", total=3, unit="steps") as tick:
        metrics, hashed = _hash_new(context, recipe)
        tick(1, "fingerprints")
        new, counts = _compare_new(context, recipe)
        tick(1, "pairs")
        decided = _decide(context, recipe)
        tick(1, "duplicates")
    seconds = {"seconds": time.monotonic() - started}
    outcome = _outcome(context, recipe, new, before)
    metrics = {**metrics, **counts, **seconds, **outcome.metrics}
    return replace(
        outcome, metrics=metrics, committed={"signatures": hashed, "duplicates": decided}
    )


def _switched_off(context: Context) -> Outcome:
    """Without dedup no document is a duplicate, whatever an earlier run found."""
    duplicates = context.tables.read("duplicates")
    if not duplicates.isEmpty():
        context.tables.overwrite("duplicates", duplicates.limit(0))
    return Outcome(rows_in=0, rows_out=0)


def _hash_new(context: Context, recipe: Recipe) -> tuple[dict[str, float], Agreed]:
    """Append the fingerprints of documents that have none under this recipe."""
    documents, signatures = context.tables.read("documents"), _signatures(context, recipe)
    new = Ids.of(documents.join(signatures.select("doc_id"), "doc_id", "left_anti"))
    started, added = time.monotonic(), 0
    if new.rows:
        wanted = documents if signatures.isEmpty() else with_ids(documents, new.frame)
        rows = stage.fingerprints(wanted, recipe.minhash).select(*SIGNATURES.columns)
        txn = new.txn("signatures", recipe.minhash.recipe)
        commit = context.tables.append("signatures", rows, txn)
        added = new.rows if commit.skipped else commit.rows
    seconds = time.monotonic() - started
    context.progress.say(f"dedup: {new.rows} documents hashed, {new.chars / 1e6:.1f} M characters")
    return {"hashed": new.rows, "chars": new.chars, "hash_seconds": seconds}, (new.rows, added)


def _compare_new(context: Context, recipe: Recipe) -> tuple[Ids, dict[str, float]]:
    """Append the pairs of documents not compared yet, and for each a row that says it now is."""
    documents, pairs = context.tables.read("documents"), _pairs(context, recipe)
    new = Ids.of(stage.undecided(documents, pairs))
    if not new.rows:
        return new, {"candidates": 0, "pairs": 0}
    texts = stage.distinct_texts(_live(context, recipe), new.frame)
    found = cut_lineage(lsh.candidates(texts))
    near = _alike(found, texts, documents, recipe)
    rows = stage.pair_rows(near, new.frame, recipe.name)
    commit = context.tables.append("pairs", rows, new.txn("pairs", recipe.name))
    return new, {"candidates": found.count(), "pairs": commit.rows - new.rows}


def _alike(found: DataFrame, texts: DataFrame, documents: DataFrame, recipe: Recipe) -> DataFrame:
    """Candidates that are near duplicates by their signatures, or by their texts where wanted."""
    likely = lsh.estimated(found, texts, recipe.estimate_floor)
    if recipe.config.verify == "signature":
        return likely
    return lsh.verified(
        cut_lineage(likely), documents, recipe.config.ngram, recipe.config.threshold
    )


def _decide(context: Context, recipe: Recipe) -> Agreed:
    """Write `duplicates` anew from all pairs of the recipe, if that changes it."""
    live, every = _live(context, recipe), _named(context, recipe)
    edges = cut_lineage(stage.near_edges(_pairs(context, recipe), live, every))
    removed = cut_lineage(stage.removed(live, edges, components(edges.select("a", "b"))))
    decided = _checksum(removed)
    if decided == _checksum(context.tables.read("duplicates")):
        return decided[0], decided[0]
    commit = context.tables.overwrite("duplicates", removed.select(*DUPLICATES.columns))
    return decided[0], commit.rows


def _outcome(context: Context, recipe: Recipe, new: Ids, before: DataFrame) -> Outcome:
    """What the tables now say of the new documents, and of old ones that lost to a new one."""
    removed = context.tables.read("duplicates").select("doc_id", "method")
    compared = stage.compared(_pairs(context, recipe)).join(new.frame, "doc_id", "left_semi")
    fates = compared.join(removed, "doc_id", "left").groupBy("method").count().collect()
    counts = {row["method"]: row["count"] for row in fates}
    kept = counts.pop(None, 0)
    others = removed.join(new.frame, "doc_id", "left_anti")
    displaced = others.join(before, "doc_id", "left_anti").count()
    return Outcome(
        rows_in=new.rows, rows_out=kept, refused=counts, metrics={"displaced": displaced}
    )


def _signatures(context: Context, recipe: Recipe) -> DataFrame:
    return context.tables.read("signatures").where(F.col("recipe") == recipe.minhash.recipe)


def _pairs(context: Context, recipe: Recipe) -> DataFrame:
    return context.tables.read("pairs").where(F.col("recipe") == recipe.name)


def _named(context: Context, recipe: Recipe) -> DataFrame:
    """Every document ever hashed under the recipe, with its scope and text."""
    return stage.named_texts(_signatures(context, recipe), recipe.config.scope)


def _live(context: Context, recipe: Recipe) -> DataFrame:
    """Those of them that the table `documents` still has."""
    ids = context.tables.read("documents").select("doc_id")
    return _named(context, recipe).join(ids, "doc_id", "left_semi")


def _checksum(duplicates: DataFrame) -> tuple[int, str]:
    """Number of rows and a hash of them whatever their order."""
    row = duplicates.agg(F.count("*"), multiset_hash(*sorted(DUPLICATES.columns))).collect()[0]
    return row[0], row[1]


def _around(config: DedupConfig) -> list[float]:
    """Similarities at which the S-curve is shown: the threshold, and steps to both sides."""
    steps = (config.threshold + offset for offset in (-0.3, -0.2, -0.1, 0.0, 0.1))
    return [step for step in steps if 0 < step < 1]
