"""Job ingest: read every source file once, refuse bad records by name, note what is current.

One pass over the data: what executors make of the files is staged, and rejects, documents, origins
and the list of finished files are added from there, in that order; then the sources' files of now
are written down. A run that is killed in between loses and doubles nothing: a file is finished when
the table of documents has all that its origins name, and rows that are there are not added again.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from longattn.etl.ingest import current, stage
from longattn.etl.ingest.listing import check_columns, list_all
from longattn.etl.ingest.own import OwnFiles
from longattn.etl.ingest.reading import Plan, read_all
from longattn.etl.ingest.remote_files import read_remote
from longattn.etl.ingest.sources import inputs_of, specs_of
from longattn.etl.ingest.stage import SourceFile
from longattn.etl.run.context import Context, Outcome
from longattn.etl.run.staging import Save, staging
from longattn.etl.run.views import Inputs
from longattn.etl.tables.base import Txn
from longattn.etl.tables.locations import is_catalog_name
from longattn.etl.tables.schema import LISTINGS, SOURCE_FILES
from longattn.udfs.documents.bytes import compression
from longattn.udfs.errors import ConfigError, NothingLeft

BIG_FILE_BYTES = 1 << 30  # of a compressed file, above which one task is said to be long at it
EXCERPT = 120  # characters of a record shown where all were refused
NEW = "new"  # beside the reasons of refused records
Counted = dict[tuple[str, str, str], Counter[str]]  # (domain, source, uri) -> reason -> records


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """Records as they were read, what became of them, and the rows that were committed."""

    arrived: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    documents: int = 0
    source_files: int = 0
    new: DataFrame | None = None  # doc_id of the documents committed


def run(context: Context) -> Outcome:
    """Read what has not been read, and list what is current; rows are records read in this run."""
    plan, files = make_plan(context)
    is_first = context.tables.version("documents") is None
    context.tables.read("rejects")  # for the ledger: no job makes rows of it that others took away
    with context.progress.task("ingest", unit="files"), staging(context, "ingest") as save:
        done = commit(context, plan, save) if plan.pending else Ingested()
        write_listing(context, inputs_of(context.config), files)
        beyond = measure(context, save, done.new)
    if known := done.refused["already_ingested"]:
        context.progress.say(
            f"ingest: {known:,} records are of documents that the tables have; their domain, meta"
            " and priority are as sources give them now (origins)"
        )
    return Outcome(
        rows_in=done.arrived,
        rows_out=done.documents - beyond.total(),
        refused=dict(done.refused + beyond),
        metrics={
            "files": float(len(plan.pending)),
            "refused_files": float(sum(file.refusal is not None for file in plan.pending)),
            "skipped_files": float(plan.n_finished),
            "bytes": float(sum(file.n_bytes for file in plan.pending)),
            "not_in_sources": 0.0 if is_first else float(say_what_is_left(context)),
        },
        committed={"source files": (len(plan.pending), done.source_files)},
    )


def make_plan(context: Context) -> tuple[Plan, list[SourceFile]]:
    """The sources' files, and which of them are to be read; all that can be wrong is said.

    Raises ConfigError without sources, SourceError for a path or a column that is not there.
    """
    if not context.config.sources:
        raise ConfigError("sources: none given; for example sources.book: [{path: books/*.jsonl}]")
    sources = specs_of(context.config)
    own = OwnFiles(context.config, partial(read_remote, context.spark))
    specs = [spec for spec, _ in sources]
    files = list_all(context.spark, sources, own)
    own.say(context.progress.say)
    pending = not_finished(context, files)
    check_columns(context.spark, pending, specs)
    warn_of_big_files(context, pending)
    left = {(file.spec, file.uri) for file in pending}
    begun = {file.spec for file in files if (file.spec, file.uri) not in left}
    n_finished = len(files) - len(pending)
    plan = Plan(specs=specs, pending=pending, n_finished=n_finished, begun=frozenset(begun))
    return plan, files


def not_finished(context: Context, files: list[SourceFile]) -> list[SourceFile]:
    """Files whose documents the tables do not have, all of them, as the files are now.

    Of two sources that read a file alike it is read once.
    """
    finished = finished_fingerprints(context)
    pending: dict[tuple[str, str], SourceFile] = {}
    for file in files:
        if (file.uri, file.fingerprint) not in finished:
            pending.setdefault((file.uri, file.fingerprint), file)
    return list(pending.values())


def finished_fingerprints(context: Context) -> set[tuple[str, str]]:
    """(uri, fingerprint) of files that were read and whose documents are all there.

    Whatever table was restored or emptied: what it has lost is read again.
    """
    tables, file = context.tables, ["source_uri", "fingerprint"]
    if tables.version("source_files") is None:
        return set()
    documents = tables.read("documents").select("doc_id")
    there = tables.read("origins").select(*file, "doc_id").join(documents, "doc_id", "left_semi")
    there = there.union(tables.read("forgotten").select(*file, "doc_id"))
    counts = there.groupBy(*file).agg(F.count("*").alias("n_there"))
    read = tables.read("source_files").select(*file, "n_documents").distinct()
    whole = F.coalesce("n_there", F.lit(0)) >= F.coalesce("n_documents", F.lit(1))
    return {
        tuple(row) for row in read.join(counts, file, "left").where(whole).select(*file).collect()
    }


def warn_of_big_files(context: Context, files: Sequence[SourceFile]) -> None:
    """Say which compressed files hold one task each for long, and the way out."""
    for file in files:
        if compression(file.uri) and file.n_bytes > BIG_FILE_BYTES:
            context.progress.say(
                f"ingest: {file.uri} is {file.n_bytes / 1e9:.1f} GB compressed in one piece, which "
                "one task reads alone; decompress it, or split it into several files"
            )


def commit(context: Context, plan: Plan, save: Save) -> Ingested:
    """Stage, then add documents, origins and finished files; count what came and what stayed."""
    staged, n_read = stage_records(context, plan, save)
    none = context.tables.version("forgotten") is None
    forgotten = None if none else context.tables.read("forgotten")
    refused = save("refused", stage.refusals(staged, context.tables.read("documents"), forgotten))
    counted = count(stage.counts(staged, refused))
    refuse_lost_sources(plan, counted, staged)
    seen = context.tables.versions_read.get("documents")  # the version that refusals looked at
    reasons = total(counted)
    if set(reasons) - {NEW, "filtered", "already_ingested", "forgotten"}:
        context.reject(stage.rejects(staged, refused))
    added, new = 0, None
    if reasons.pop(NEW, 0):
        new = stage.new_documents(staged, refused)
        txn = Txn(app_id=f"ingest-{plan.key}-{seen}", version=1)
        documents = context.tables.append("documents", new, txn)
        added = documents.rows
        if documents.skipped:  # by a run that read these files at the same time
            reasons["already_ingested"] += context.tables.there("documents", new)
    n_files = finish(context, plan, stage.remembered(staged, refused), counted)
    return Ingested(
        arrived=n_read,
        refused=reasons,
        documents=added,
        source_files=n_files,
        new=new and new.select("doc_id"),
    )


def finish(context: Context, plan: Plan, staged: DataFrame, counted: Counted) -> int:
    """Add the files' origins, then the files; returns how many of them are there now.

    What another run, or an earlier try, has added is left out.
    """
    rows = [(f.uri, plan.specs[f.spec].reading, f.name, f.fingerprint) for f in plan.pending]
    files = context.spark.createDataFrame(rows, stage.FILES_DDL)
    origins = stage.origins(staged, files)
    counts = origins.groupBy("source_uri", "fingerprint").agg(F.count("*").alias("n_documents"))
    tables, version = context.tables, context.tables.version("origins")
    txn = Txn(app_id=f"ingest-{plan.key}-{version}", version=1)
    tables.append("origins", _unknown(context, "origins", origins), txn)
    finished = finished_files(context, plan, counted, counts)
    if tables.version("source_files") is None:
        commit = tables.append("source_files", finished, txn)
        return len(plan.pending) if commit.skipped else commit.rows
    tables.append("source_files", _unknown(context, "source_files", finished), txn)
    return tables.there("source_files", finished)


def _unknown(context: Context, table: str, rows: DataFrame) -> DataFrame:
    """The rows whose keys a table has not."""
    if context.tables.version(table) is None:
        return rows
    key = list(context.tables[table].spec.key)
    return rows.join(context.tables.read(table).select(*key), key, "left_anti")


def stage_records(context: Context, plan: Plan, save: Save) -> tuple[DataFrame, int]:
    """The pending files' records, written down once, and how many of them were read.

    An observer counts them on their way to files. Tables of a catalog need not tell it anything,
    and whoever asks it then waits for ever: there the staged rows are counted.
    """
    rows = read_all(context.spark, plan).withColumn("staged_id", F.monotonically_increasing_id())
    if is_catalog_name(context.config.tables.root):
        staged = save("rows", rows)
        return staged, staged.count()
    seen = Observation()
    staged = save("rows", rows.observe(seen, F.count(F.lit(1)).alias("records")))
    return staged, int(seen.get.get("records") or 0)


def count(counts: DataFrame) -> Counted:
    """Collect how many records of each file were new or refused, and why."""
    counted: Counted = {}
    for row in counts.collect():
        place = counted.setdefault((row.domain, row.source, row.source_uri), Counter())
        place[row.reason or NEW] = row.n
    return counted


def refuse_lost_sources(plan: Plan, counted: Counted, staged: DataFrame) -> None:
    """Raise NothingLeft for a source that is read for the first time and gives no document.

    One with files that were read before may have a bad day.
    """
    for number, spec in enumerate(plan.specs):
        uris = {file.uri for file in plan.pending if file.spec == number}
        if not uris or number in plan.begun:
            continue
        seen = total({k: n for k, n in counted.items() if k[0] == spec.domain and k[2] in uris})
        if not seen.keys() & {NEW, "already_ingested", "repeated", "forgotten"}:
            raise NothingLeft(f"sources.{spec.domain}: {_lost(seen, uris, staged)}")


def _lost(seen: Counter[str], uris: set[str], staged: DataFrame) -> str:
    """What became of a source's records, and of one of them what it was."""
    if not seen:
        return f"no record in its {len(uris):,} files, {min(uris)} for one"
    reason, _ = seen.most_common(1)[0]
    mine = F.col("source_uri").isin(*sorted(uris)[:1000]) & (F.col("reason") == reason)
    row = staged.where(mine).orderBy("source_uri", "source_row").first()
    counts = ", ".join(f"{n:,} {why}" for why, n in seen.most_common())
    said = f"all of its {seen.total():,} records were refused: {counts}"
    if row is None:
        return said
    place = f"{row.source_uri}, record {row.source_row}" if row.source_row else row.source_uri
    shown = f": {row.excerpt[:EXCERPT]}" if row.excerpt else ""
    return " ".join(f"{said}; {place}: {row.detail}{shown}".split())


def total(counted: Counted) -> Counter[str]:
    """The counts of all files together."""
    return sum(counted.values(), Counter[str]())


def finished_files(context: Context, plan: Plan, counted: Counted, counts: DataFrame) -> DataFrame:
    """Rows of `source_files` for all pending files; `counts` has their numbers of documents."""
    rows = []
    for file in plan.pending:
        spec = plan.specs[file.spec]
        seen = counted.get((spec.domain, spec.source, file.uri), Counter())
        fields = (spec.domain, spec.source, file.fingerprint, file.n_bytes, seen.total())
        rows.append((file.uri, *fields))
    columns = {n: kind for n, (kind, _) in SOURCE_FILES.columns.items()}
    given = [n for n in columns if n not in ("n_documents", "read_at")]
    ddl = ", ".join(f"{name} {columns[name]}" for name in given)
    frame = context.spark.createDataFrame(rows, ddl)
    frame = frame.join(counts, ["source_uri", "fingerprint"], "left").fillna(0, ["n_documents"])
    return frame.withColumn("read_at", F.current_timestamp()).select(*columns).coalesce(1)


def write_listing(context: Context, inputs: Inputs, files: Sequence[SourceFile]) -> None:
    """Replace what `listings` says of the config's sources, where it says another thing."""
    rows = sorted({(inputs.name, inputs.sources[f.spec][0], f.uri, f.fingerprint) for f in files})
    known = context.tables.read("listings").where(F.col("inputs") == inputs.name)
    if rows != sorted(tuple(row) for row in known.select(*LISTINGS.columns).collect()):
        frame = context.spark.createDataFrame(rows, LISTINGS.ddl).coalesce(1)
        context.tables.replace_where("listings", frame, {"inputs": inputs.name})


def measure(context: Context, save: Save, new: DataFrame | None) -> Counter[str]:
    """Count the tokens of current documents where `ingest` has limits, once for each tokenizer.

    Documents beyond the limits are entered into `rejects`; returns how many of the new ones are,
    by reason. Other limits need no text: counts are kept.
    """
    if not context.config.ingest.counts_tokens:
        return Counter()
    pending = current.with_text(context, current.unmeasured(context))
    measured = save("measured", stage.token_counts(pending, context.config))
    if measured.isEmpty():
        return Counter()
    beyond = measured.withColumn("reason", current.limit(context.config)).dropna(subset="reason")
    context.reject(stage.beyond_limits(beyond))  # first: what has a length is not looked at again
    context.tables.merge("lengths", stage.as_lengths(measured, context.config))
    if new is None:
        return Counter()
    counts = beyond.join(new, "doc_id", "left_semi").groupBy("reason").count().collect()
    return Counter({row["reason"]: row["count"] for row in counts})


def say_what_is_left(context: Context) -> int:
    """Say which documents of the tables are in no source of now; returns how many."""
    counts = current.not_in_sources(context).groupBy("domain").count().collect()
    left = {row["domain"]: row["count"] for row in sorted(counts)}
    if left:
        words = ", ".join(f"{domain}: {n:,} documents" for domain, n in left.items())
        context.progress.say(f"{words} are no longer in sources; kept in tables, not selected")
    return sum(left.values())
