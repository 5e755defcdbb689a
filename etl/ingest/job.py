"""Job ingest: read every source file once, refuse bad records by name, add only new documents.

One pass over the data: what executors make of the files is staged, and rejects, documents and the
list of finished files are added from there, in that order. A run that is killed in between loses
and doubles nothing: files are finished last, documents that are there already are not added, and
rejects come first, as a record repeated in these files is no news once its document is there.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from longattn.etl.ingest import stage
from longattn.etl.ingest.listing import check_columns, list_all, specs_of
from longattn.etl.ingest.reading import Plan, read_all
from longattn.etl.ingest.stage import SourceFile
from longattn.etl.run.context import Context, Outcome
from longattn.etl.run.staging import Save, staging
from longattn.etl.tables.base import Txn
from longattn.etl.tables.locations import is_catalog_name
from longattn.etl.tables.schema import SOURCE_FILES
from longattn.udfs.documents.bytes import compression
from longattn.udfs.documents.formats import SourceSpec
from longattn.udfs.errors import ConfigError, NothingLeft

BIG_FILE_BYTES = 1 << 30  # of a compressed file, above which one task is said to be long at it
EXCERPT = 120  # characters of a record shown where all were refused
NEW = "new"  # beside the reasons of refused records
Counted = dict[tuple[str, str, str], Counter[str]]  # (domain, source, uri) -> reason -> records


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """Records as they were read, what became of them, and the rows that were committed."""

    arrived: int
    refused: Counter[str]
    documents: int
    source_files: int


def run(context: Context) -> Outcome:
    """Read what has not been read; rows are records of the files read in this run."""
    plan = make_plan(context)
    metrics = {
        "files": float(len(plan.pending)),
        "refused_files": float(sum(file.refusal is not None for file in plan.pending)),
        "skipped_files": float(plan.n_finished),
        "bytes": float(sum(file.n_bytes for file in plan.pending)),
    }
    if not plan.pending:
        return Outcome(rows_in=0, rows_out=0, metrics=metrics)
    with context.progress.task("ingest", unit="files"), staging(context, "ingest") as save:
        done = commit(context, plan, save)
    return Outcome(
        rows_in=done.arrived,
        rows_out=done.documents,
        refused=dict(done.refused),
        metrics=metrics,
        committed={"source files": (len(plan.pending), done.source_files)},
    )


def make_plan(context: Context) -> Plan:
    """List the sources' files and leave out those that were read; all that can be wrong is said.

    Raises ConfigError without sources, SourceError for a path or a column that is not there.
    """
    if not context.config.sources:
        raise ConfigError("sources: none given; for example sources.book: [{path: books/*.jsonl}]")
    sources = specs_of(context.config)
    specs = [spec for spec, _ in sources]
    files = list_all(context.spark, sources)
    pending = not_finished(context, files, specs)
    check_columns(context.spark, pending, specs)
    warn_of_big_files(context, pending)
    left = {(file.spec, file.uri) for file in pending}
    begun = {file.spec for file in files if (file.spec, file.uri) not in left}
    n_finished = len(files) - len(pending)
    return Plan(specs=specs, pending=pending, n_finished=n_finished, begun=frozenset(begun))


def not_finished(
    context: Context, files: list[SourceFile], specs: list[SourceSpec]
) -> list[SourceFile]:
    """Files that `source_files` does not have as they are now; two equal sources read them once."""
    context.tables.intact("documents")  # if it has lost rows, their files still count as read
    rows = context.tables.read("source_files").select("source_uri", "domain", "fingerprint")
    finished = {tuple(row) for row in rows.collect()}
    pending: dict[tuple[str, str, str], SourceFile] = {}
    for file in files:
        key = (file.uri, specs[file.spec].domain, file.fingerprint)
        if key not in finished:
            pending.setdefault(key, file)
    return list(pending.values())


def warn_of_big_files(context: Context, files: Sequence[SourceFile]) -> None:
    """Say which compressed files hold one task each for long, and the way out."""
    for file in files:
        if compression(file.uri) and file.n_bytes > BIG_FILE_BYTES:
            context.progress.say(
                f"ingest: {file.uri} is {file.n_bytes / 1e9:.1f} GB compressed in one piece, which "
                "one task reads alone; decompress it, or split it into several files"
            )


def commit(context: Context, plan: Plan, save: Save) -> Ingested:
    """Stage, then append documents, rejects and finished files; count what came and what stayed."""
    staged, n_read = stage_records(context, plan, save)
    refused = save("refused", stage.refusals(staged, context.tables.read("documents")))
    counted = count(stage.counts(staged, refused))
    refuse_lost_sources(plan, counted, staged)
    seen = context.tables.versions_read.get("documents")  # the version that refusals looked at
    txn = Txn(app_id=f"ingest-{plan.key}-{seen}", version=1)
    reasons = total(counted)
    if set(reasons) - {NEW, "filtered", "already_ingested"}:
        context.reject(stage.rejects(staged, refused))
    added = 0
    if reasons.pop(NEW, 0):
        new = stage.new_documents(staged, refused)
        documents = context.tables.append("documents", new, txn)
        added = documents.rows
        if documents.skipped:  # by a run that read these files at the same time
            reasons["already_ingested"] += context.tables.there("documents", new)
    finished = finished_files(context, plan, counted)
    files = context.tables.append("source_files", finished, txn)
    return Ingested(
        arrived=n_read,
        refused=reasons,
        documents=added,
        source_files=len(plan.pending) if files.skipped else files.rows,
    )


def stage_records(context: Context, plan: Plan, save: Save) -> tuple[DataFrame, int]:
    """The pending files' records, written down once, and how many of them were read.

    An observer counts them on their way to files. Tables of a catalog need not tell it anything,
    and whoever asks it then waits for ever: there the staged rows are counted.
    """
    rows = read_all(context, plan).withColumn("staged_id", F.monotonically_increasing_id())
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
        if not seen.keys() & {NEW, "already_ingested", "repeated"}:
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


def finished_files(context: Context, plan: Plan, counted: Counted) -> DataFrame:
    """Rows of `source_files` for all pending files."""
    rows = []
    for file in plan.pending:
        spec = plan.specs[file.spec]
        seen = counted.get((spec.domain, spec.source, file.uri), Counter())
        fields = (spec.domain, spec.source, file.fingerprint, file.n_bytes, seen.total())
        rows.append((file.uri, *fields))
    types = [f"{name} {type_}" for name, (type_, _) in SOURCE_FILES.columns.items()]
    frame = context.spark.createDataFrame(rows, ", ".join(types[:-1]))
    return frame.withColumn("read_at", F.current_timestamp()).coalesce(1)
