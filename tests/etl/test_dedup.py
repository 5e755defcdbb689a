"""The dedup job against brute force: who is found, who is kept, and what makes no difference."""

import random
from dataclasses import replace
from functools import partial
from itertools import combinations
from types import SimpleNamespace

import pytest
from pyspark.sql import functions as F

from longattn.etl import config as config_module
from longattn.etl.dedup import job as dedup
from longattn.etl.dedup import lsh
from longattn.etl.dedup.kept import kept_documents
from longattn.etl.dedup.recipe import Recipe, settings_of
from longattn.etl.ingest.current import current_documents
from longattn.etl.run.context import Context, TableSet
from longattn.etl.run.frames import in_columns_of
from longattn.etl.run.ledger import record
from longattn.etl.run.progress import Progress
from longattn.etl.tables.base import Commit
from longattn.etl.tables.schema import DOCUMENTS, PAIRS, TABLES
from longattn.udfs.errors import ConfigError

pytestmark = pytest.mark.spark

VOCABULARY = [f"word{i}" for i in range(3000)]


class MemoryTable:
    """A table held by the session: the same reads and writes, without Delta's time."""

    location = "memory"  # no folder: there is no log to look for

    def __init__(self, spark, spec):
        self.spec, self.commits, self.txns = spec, [], set()
        self.empty = spark.createDataFrame([], spec.schema)

    def version(self):
        return len(self.commits) - 1 if self.commits else None

    def read(self, version=None):
        return self.commits[version] if self.commits and version is not None else self.empty

    pinned = read

    def same_rows(self, before, now):
        return before == now

    def append(self, df, txn=None):
        if txn in self.txns:
            return Commit(version=self.version(), rows=0, skipped=True)
        self.txns |= {txn} - {None}
        added = df.localCheckpoint()
        return self._commit(self.read(self.version()).unionByName(added), added.count())

    def overwrite(self, df):
        return self._commit(df, df.count())

    def _commit(self, df, rows):
        assert df.columns == list(self.spec.columns)
        self.commits.append(df.coalesce(4).localCheckpoint())
        return Commit(version=self.version(), rows=rows)


class Pipeline:
    """The dedup job on tables in memory."""

    def __init__(self, spark, **settings):
        self.spark = spark
        self.context = Context(
            spark=spark,
            config=config_module.validate({"dedup": settings}),
            tables=TableSet({name: MemoryTable(spark, spec) for name, spec in TABLES.items()}),
            progress=Progress(),
        )

    def add(self, documents, partitions=2):
        rows = [(*d[:2], "", "", 0, "", d[2], len(d[3]), None, d[3]) for d in documents]
        frame = self.spark.createDataFrame(rows, DOCUMENTS.schema)
        self.context.tables.append("documents", frame.repartition(partitions))

    def run(self):
        return dedup.run(self.context)

    def duplicates(self):
        rows = self.context.tables.read("duplicates").collect()
        result = {r["doc_id"]: (r["kept_id"], r["method"], r["similarity"]) for r in rows}
        assert len(result) == len(rows)
        return result


def words(rng, count):
    return [rng.choice(VOCABULARY) for _ in range(count)]


def edited(rng, text, count):
    parts = text.split(" ")
    for i in rng.sample(range(len(parts)), count):
        parts[i] = f"edit{rng.randrange(1 << 30)}"
    return " ".join(parts)


def shingles(text, n=5):
    parts = text.lower().split()
    return {tuple(parts[i : i + n]) for i in range(len(parts) - n + 1)}


def jaccard(a, b):
    return len(a & b) / len(a | b) if a and b else 0.0


def corpus(seed, families=30):
    """Documents (doc_id, domain, priority, text): originals, copies, edits and short ones."""
    rng = random.Random(seed)
    documents = []
    for f in range(families):
        text = " ".join(words(rng, rng.randrange(100, 400)))
        versions = [text]
        versions += [edited(rng, text, rng.choice([1, 2, 4, 6, 9, 14])) for _ in range(f % 4)]
        versions += [text.upper().replace(" ", "\n")] * (f % 3 == 0)
        for v, version in enumerate(versions):
            domain, priority = rng.choice(["book", "code"]), rng.randrange(2)
            documents.append((f"{rng.randrange(1 << 32):08x}-{f}-{v}", domain, priority, version))
    short = ["a b c", "a b c d", "", "x", "a b c", " A  b C"]
    documents += [(f"short{i}", "book", 0, text) for i, text in enumerate(short)]
    rng.shuffle(documents)
    return documents


def brute_force(documents, threshold=0.8, scope="domain"):
    """Clusters by union of all pairs that are equal or alike; the kept one by survivor order."""
    sets = {d[0]: shingles(d[3]) for d in documents}
    normal = {d[0]: " ".join(d[3].lower().split()) for d in documents}
    cluster = {d[0]: {d[0]} for d in documents}
    for a, b in combinations(documents, 2):
        alike = (normal[a[0]] == normal[b[0]] or jaccard(sets[a[0]], sets[b[0]]) >= threshold) and (
            scope == "global" or a[1] == b[1]
        )
        if alike and cluster[a[0]] is not cluster[b[0]]:
            cluster[a[0]] |= cluster[b[0]]
            for member in cluster[a[0]]:
                cluster[member] = cluster[a[0]]
    order = {d[0]: (d[2], -len(d[3]), d[0]) for d in documents}
    kept = {doc_id: min(members, key=order.get) for doc_id, members in cluster.items()}
    return {doc_id: winner for doc_id, winner in kept.items() if winner != doc_id}


@pytest.fixture(scope="module")
def documents():
    return corpus(seed=1)


@pytest.fixture(scope="module")
def domain_run(spark, documents):
    pipeline = Pipeline(spark)
    pipeline.add(documents)
    return SimpleNamespace(outcome=pipeline.run(), pipeline=pipeline)


def test_duplicates_are_those_of_brute_force(domain_run, documents):
    """Bands miss one pair in five hundred at the very threshold; this corpus has none of those."""
    found = {doc_id: row[0] for doc_id, row in domain_run.pipeline.duplicates().items()}
    assert found == brute_force(documents)


@pytest.mark.slow
def test_global_scope_compares_across_domains(spark, documents):
    pipeline = Pipeline(spark, scope="global")
    pipeline.add(documents)
    pipeline.run()
    found = {doc_id: row[0] for doc_id, row in pipeline.duplicates().items()}
    assert found == brute_force(documents, scope="global")
    assert len(found) > len(brute_force(documents))


def test_each_row_says_how_alike_the_two_are(domain_run, documents):
    texts = {d[0]: d[3] for d in documents}
    for doc_id, (kept, method, similarity) in domain_run.pipeline.duplicates().items():
        same = texts[doc_id].lower().split() == texts[kept].lower().split()
        assert method == ("exact" if same else "near")
        truth = 1.0 if same else jaccard(shingles(texts[doc_id]), shingles(texts[kept]))
        assert similarity == pytest.approx(truth) or truth < 0.8 <= similarity


def test_the_ledger_balances_and_counts_by_method(domain_run, documents):
    outcome, found = domain_run.outcome, domain_run.pipeline.duplicates()
    assert outcome.balances
    assert outcome.rows_in == len(documents)
    assert outcome.refused == {
        method: sum(row[1] == method for row in found.values()) for method in ("exact", "near")
    }
    assert outcome.metrics["chars"] == sum(len(d[3]) for d in documents)
    assert outcome.metrics["displaced"] == 0


def test_kept_documents_are_the_others(domain_run, documents):
    kept = kept_documents(domain_run.pipeline.context)
    found = {row["doc_id"] for row in kept.select("doc_id").collect()}
    assert found == {d[0] for d in documents} - set(domain_run.pipeline.duplicates())


def test_a_second_run_hashes_nothing_and_writes_nothing(domain_run):
    tables = domain_run.pipeline.context.tables
    versions = {name: table.version() for name, table in tables.items()}
    outcome = domain_run.pipeline.run()
    assert (outcome.rows_in, outcome.rows_out, outcome.refused) == (0, 0, {})
    assert {name: table.version() for name, table in tables.items()} == versions


@pytest.mark.slow
@pytest.mark.parametrize("parts", [2, 5])
def test_incremental_runs_end_where_one_run_ends(spark, documents, domain_run, parts):
    shuffled = random.Random(parts).sample(documents, len(documents))
    pipeline = Pipeline(spark)
    outcomes = []
    for part in range(parts):
        pipeline.add(shuffled[part::parts], partitions=1 + part)
        outcomes.append(pipeline.run())
    assert pipeline.duplicates() == domain_run.pipeline.duplicates()
    assert sum(outcome.rows_in for outcome in outcomes) == len(documents)
    removed = sum(sum(o.refused.values()) + o.metrics["displaced"] for o in outcomes)
    assert removed >= len(pipeline.duplicates())


def test_row_order_and_partitions_do_not_matter(spark, documents, domain_run):
    pipeline = Pipeline(spark)
    pipeline.add(sorted(documents), partitions=7)
    pipeline.run()
    assert pipeline.duplicates() == domain_run.pipeline.duplicates()


@pytest.mark.slow
def test_a_run_cut_off_before_its_pairs_is_finished_by_the_next(spark, documents, domain_run):
    pipeline = Pipeline(spark)
    pipeline.add(documents)
    recipe = Recipe(pipeline.context.config.dedup)
    dedup._hash_new(pipeline.context, recipe, current_documents(pipeline.context))
    outcome = pipeline.run()
    assert outcome.rows_in == len(documents)
    assert pipeline.duplicates() == domain_run.pipeline.duplicates()


@pytest.mark.slow
def test_blocks_of_any_size_give_the_same(spark, documents, domain_run, monkeypatch):
    monkeypatch.setattr(lsh, "BLOCK", 20_000)
    pipeline = Pipeline(spark)
    pipeline.add(documents)
    pipeline.run()
    assert pipeline.duplicates() == domain_run.pipeline.duplicates()


@pytest.mark.slow
def test_signatures_alone_can_verify(spark, documents):
    pipeline = Pipeline(spark, verify="signature", permutations=256)
    pipeline.add(documents)
    pipeline.run()
    surely = brute_force(documents, threshold=0.93)
    assert set(surely) <= set(pipeline.duplicates()) <= set(brute_force(documents, threshold=0.67))


@pytest.mark.slow
def test_a_document_that_is_gone_is_not_kept(spark):
    text = " ".join(words(random.Random(3), 200))
    pipeline = Pipeline(spark)
    pipeline.add([(name, "book", 0, text) for name in "abc"])
    pipeline.run()
    assert pipeline.duplicates() == {"b": ("a", "exact", 1.0), "c": ("a", "exact", 1.0)}
    tables = pipeline.context.tables
    tables.overwrite("documents", tables.read("documents").where("doc_id != 'a'"))
    pipeline.run()
    assert pipeline.duplicates() == {"c": ("b", "exact", 1.0)}


def test_survivors_by_priority_then_length_then_id(spark):
    text = " ".join(words(random.Random(4), 200))
    pipeline = Pipeline(spark)
    pipeline.add([("b", "book", 1, text + " tail"), ("d", "book", 0, text), ("c", "book", 0, text)])
    pipeline.run()
    assert {k: v[0] for k, v in pipeline.duplicates().items()} == {"b": "c", "d": "c"}
    pipeline.add([("e", "book", 0, text + " a longer tail")])
    outcome = pipeline.run()
    assert {k: v[0] for k, v in pipeline.duplicates().items()} == dict.fromkeys("bcd", "e")
    assert (outcome.rows_in, outcome.rows_out, outcome.metrics["displaced"]) == (1, 1, 1)


def test_a_domain_that_is_renamed_is_compared_again_and_balances(spark):
    """Its documents have been compared twice then, each time in a scope of its own."""
    documents = [(doc_id, "book", *rest) for doc_id, _, *rest in corpus(seed=4, families=6)]
    pipeline = Pipeline(spark)
    pipeline.add(documents)
    assert pipeline.run().balances
    first, tables = pipeline.duplicates(), pipeline.context.tables
    renamed = tables.read("documents").withColumn("domain", F.lit("books"))
    tables.overwrite("documents", renamed.select(*DOCUMENTS.columns))
    outcome = pipeline.run()
    assert outcome.faults == [] and outcome.rows_in == len(documents)
    assert pipeline.duplicates() == first
    pairs = tables.read("pairs").select(*PAIRS.key).collect()
    assert len(set(pairs)) == len(pairs), "of the domain's old name none is added again"


def test_copies_of_a_text_that_has_left_are_found_among_each_other(spark, monkeypatch):
    """Of a band too large for all pairs each text was compared with one that has left by now."""
    monkeypatch.setattr(lsh, "candidates", partial(lsh.candidates, max_band_size=3))
    rng = random.Random(8)
    text = " ".join(words(rng, 400))
    pages = [(f"p{i}", "book", 0, edited(rng, text, 1) + " end" * (20 - i)) for i in range(8)]
    pipeline = Pipeline(spark)
    pipeline.add(pages)
    pipeline.run()
    assert {d: v[0] for d, v in pipeline.duplicates().items()} == {
        f"p{i}": "p0" for i in range(1, 8)
    }
    tables = pipeline.context.tables
    for left, new in (("p0", []), ("p1", [("n", "book", 0, edited(rng, text, 1))])):
        monkeypatch.setattr(dedup, "current_documents", without(left, dedup.current_documents))
        pipeline.add(new)
        pipeline.run()
        alone = Pipeline(spark)
        documents, current = tables.read("documents"), dedup.current_documents(pipeline.context)
        rows = documents.join(current.select("doc_id"), "doc_id", "left_semi")
        alone.context.tables.overwrite("documents", rows.select(*DOCUMENTS.columns))
        alone.run()
        assert alone.duplicates() and pipeline.duplicates() == alone.duplicates(), left
        pairs = tables.read("pairs").select(*PAIRS.key).collect()
        assert len(set(pairs)) == len(pairs)


def without(doc_id, current):
    """Current documents but one, whose file has left the sources."""
    return lambda context: current(context).where(F.col("doc_id") != doc_id)


def test_switched_off_removes_nothing(spark, domain_run):
    pipeline = domain_run.pipeline
    off = Pipeline(spark, enabled=False)
    off.context.tables.append("duplicates", pipeline.context.tables.read("duplicates"))
    assert off.run().rows_in == 0
    assert off.duplicates() == {}


def test_a_large_band_gives_a_star_and_a_small_one_all_pairs(spark):
    """Ten texts share one band and three share another; edges go to the first in order."""
    rows = [(f"d{i}", "", (0, -i, f"d{i}"), True, [7] if i else [7, 8]) for i in range(10)]
    rows += [("d10", "", (0, 0, "d10"), True, [8]), ("d11", "", (0, 0, "d11"), True, [8])]
    schema = (
        "doc_id string, scope string, first struct<priority int, minus_chars int, doc_id string>,"
        " is_new boolean, bands array<bigint>"
    )
    texts = spark.createDataFrame(rows, schema).withColumn("live", F.lit(True))
    found = {(r["doc_a"], r["doc_b"]) for r in lsh.candidates(texts, max_band_size=9).collect()}
    star = {("d9", f"d{i}") if i > 9 else (f"d{i}", "d9") for i in range(9)}
    assert found == star | set(combinations(sorted(["d0", "d10", "d11"]), 2))


def test_pairs_of_known_texts_are_not_made_again(spark):
    rows = [(f"d{i}", "", (0, 0, f"d{i}"), i == 3, [7]) for i in range(4)]
    schema = (
        "doc_id string, scope string, first struct<priority int, minus_chars int, doc_id string>,"
        " is_new boolean, bands array<bigint>"
    )
    texts = spark.createDataFrame(rows, schema).withColumn("live", F.lit(True))
    for cap in (100, 2):
        found = {(r["doc_a"], r["doc_b"]) for r in lsh.candidates(texts, cap).collect()}
        assert found == ({("d0", "d3"), ("d1", "d3"), ("d2", "d3")} if cap > 4 else {("d0", "d3")})


def test_the_first_line_shows_the_s_curve():
    line = Recipe(config_module.validate({}).dedup).describe()
    assert line.startswith("dedup: 21 bands of 6 rows")
    assert "0.80: 99.8%" in line


def test_impossible_settings_are_refused_before_anything_runs(spark):
    with pytest.raises(ConfigError, match="give more"):
        Pipeline(spark, threshold=0.5, permutations=4).run()


@pytest.mark.slow
def test_the_job_on_delta_tables(make_context, documents, domain_run):
    context = make_context()
    pipeline = Pipeline(context.spark)
    pipeline.context = context
    pipeline.add(documents)
    assert pipeline.run().balances
    assert pipeline.duplicates() == domain_run.pipeline.duplicates()
    versions = {name: table.version() for name, table in context.tables.items()}
    assert pipeline.run().rows_in == 0
    assert {name: table.version() for name, table in context.tables.items()} == versions


def test_a_run_that_is_switched_off_says_what_it_went_by(spark):
    """Or a config with dedup would take its empty table for its own."""
    off = Pipeline(spark, enabled=False)
    assert off.run().settings == settings_of(off.context.config)
    assert off.run().settings != settings_of(Pipeline(spark).context.config)


def test_what_has_not_changed_is_not_decided_again(make_context, monkeypatch) -> None:
    """By the ledger: the last run's settings, and the versions of the tables that it left."""
    context = make_context(dedup={"threshold": 0.8})
    decided = []
    monkeypatch.setattr(dedup, "_decide", lambda tables, *_: decided.append(1) or (0, 0))
    documents = [("d0", "book", 0, "a b c", 5)]
    columns = "doc_id string, domain string, priority int, text string, n_chars bigint"

    def add(rows):
        frame = context.spark.createDataFrame(rows, columns)
        context.tables.append("documents", in_columns_of(DOCUMENTS, frame))

    def run(**settings):
        config = config_module.validate(context.config.model_dump() | settings)
        job = replace(context.fresh(), config=config)
        return record("dedup", job, dedup.run).outcome.rows_in

    add(documents)
    assert [run(), run(), run()] == [1, 0, 0] and len(decided) == 1
    run(dedup={"threshold": 0.7})
    assert len(decided) == 2
    run(dedup={"threshold": 0.7}, select={"fraction": 0.5})
    assert len(decided) == 2
    add([("d1", "book", 0, "d e f", 5)])
    assert run(dedup={"threshold": 0.7}) == 1 and len(decided) == 3
    context.tables["signatures"].overwrite(context.tables["signatures"].read().limit(1))
    run(dedup={"threshold": 0.7})
    assert len(decided) == 4
