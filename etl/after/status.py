"""What the tables hold, what each scorer has scored, how the last runs ended, what is pending."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from longattn.etl.after.reading import Reader, SessionReader, read_logs
from longattn.etl.config import Config
from longattn.etl.dedup.recipe import Recipe as Comparison
from longattn.etl.dedup.recipe import settings_of
from longattn.etl.export.files import Folder
from longattn.etl.ingest.sources import listed_inputs
from longattn.etl.run.jobs import JOBS
from longattn.etl.run.recipe import Recipe
from longattn.etl.run.views import (
    TO_MEASURE,
    Views,
    divided_by,
    to_compare,
    to_divide,
    to_score,
    with_views,
)
from longattn.etl.tables.lease import Holder, is_gone
from longattn.etl.tables.schema import TABLES
from longattn.udfs.errors import LongAttnError
from longattn.udfs.scorers.registry import scorer_version

if TYPE_CHECKING:
    from longattn.etl.run.context import Context

Row = dict[str, Any]


SOUND = {"done", "running"}  # what a run's status is while nothing has gone wrong
WRITTEN_LATER = {
    ("dedup", "lengths")
}  # of what a job has read: what comes later says no more of it


@dataclass(frozen=True)
class Status:
    """Sizes by table, last runs by job, what each scorer has done, and what each job would do.

    A job that is running has `progress`, `beat` and `gone` besides: how far it was when it last
    renewed its lease, and whether its process has ended since. Without a lease it has none.

    `pending` has a job's rows still to be decided on, or what has changed since it ran: tables that
    it read, or `config` for settings that decide; a job that has nothing to do is not in it.
    """

    root: str
    tables: dict[str, Row]
    jobs: dict[str, Row]
    scorers: dict[str, Row]
    pending: dict[str, Row]
    not_in_sources: dict[str, int]  # documents in the tables and in no selection, by domain

    @property
    def balances(self) -> bool:
        """True when every job's last run balances."""
        return all(run["balances"] for run in self.jobs.values())

    def as_dict(self) -> Row:
        return {**asdict(self), "balances": self.balances}


def status(context: "Context") -> Status:
    """As read through a context's session."""
    from longattn.etl.run.holding import last_holder

    holder = last_holder(context.spark, context.config.tables)
    return status_of(SessionReader(dict(context.tables), holder), context.config)


def status_of_logs(config: Config) -> Status | None:
    """As read from the tables' logs, without a session; None where that cannot be."""
    reader = read_logs(config.tables)
    return None if reader is None else status_of(reader, config)


def status_of(reader: Reader, config: Config) -> Status:
    """Sizes from the logs, the rest by SQL."""
    tables = {name: reader.size(name) | {"domains": _domains(reader, name)} for name in reader.made}
    jobs = _last_runs(reader)
    return Status(
        root=config.tables.root,
        tables=tables,
        jobs=jobs,
        scorers=_scorers(reader),
        pending=_pending(reader, config, jobs, tables),
        not_in_sources=_not_in_sources(reader, config),
    )


def _not_in_sources(reader: Reader, config: Config) -> dict[str, int]:
    """Documents that no source of the config gives, by the domain that they were read in."""
    sql = "SELECT domain, count(*) AS n FROM unlisted GROUP BY domain"
    rows = reader.rows(with_views(sql, views_of(reader, config)))
    return {row["domain"]: row["n"] for row in rows}


def _domains(reader: Reader, name: str) -> dict[str, int]:
    return reader.domains(name) if "domain" in TABLES[name].columns else {}


def _last_runs(reader: Reader) -> dict[str, Row]:
    if "runs" not in reader.made:
        return {}
    newest = "row_number() OVER (PARTITION BY job ORDER BY started DESC) AS nth"
    rows = reader.rows(f"SELECT * FROM (SELECT *, {newest} FROM runs) AS r WHERE nth = 1")
    runs = {row["job"]: _run(row, reader.holder) for row in rows}
    return {job: runs[job] for job in JOBS if job in runs}


def _run(row: Row, holder: Holder | None) -> Row:
    """A row of `runs` as JSON has it, and whether it balances."""
    maps = ("refused", "versions_read", "versions_written", "metrics")
    run = {name: value for name, value in row.items() if name not in ("config_json", "nth")}
    run |= {name: dict(row[name] or {}) for name in maps}
    if holder and run["status"] == "running" and run["run_id"] == holder.run_id:
        run |= _so_far(row, holder)
    run["started"] = _moment(run["started"])
    refused = sum(run["refused"].values())
    run["balances"] = run["rows_in"] == run["rows_out"] + refused and run["status"] in SOUND
    return run


def _so_far(row: Row, holder: Holder) -> Row:
    """What a running job's lease says of it."""
    return {
        "seconds": max(0.0, holder.beat - row["started"].timestamp()),
        "progress": holder.progress,
        "beat": _moment(datetime.fromtimestamp(holder.beat, UTC)),
        "gone": is_gone(holder),
    }


def _moment(when: datetime) -> str:
    """For example `2026-11-26 15:03:37`, UTC; Spark's moments are local and name no zone."""
    return when.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="seconds")


def _scorers(reader: Reader) -> dict[str, Row]:
    """By scorer: windows, tokens, and when the first and the last of them were scored."""
    if "scores" not in reader.made:
        return {}
    rows = reader.rows(
        "SELECT scorer, count(*) AS windows, sum(n_tokens) AS tokens, min(scored_at) AS first,"
        " max(scored_at) AS last FROM scores GROUP BY scorer ORDER BY scorer"
    )
    moments = ("first", "last")
    return {
        row.pop("scorer"): row | {name: row[name] and _moment(row[name]) for name in moments}
        for row in rows
    }


# --- what a run would do


def _pending(
    reader: Reader, config: Config, jobs: Mapping[str, Row], tables: Mapping[str, Row]
) -> dict[str, Row]:
    """Rows to be decided on where they can be counted, else inputs changed since the last run.

    What a job has to do to rows that it knows cannot be counted: to decide on duplicates anew, to
    pack groups anew, to select, to export.
    """
    pending: dict[str, Row] = {}
    for job, queries in _to_do(reader, config).items():
        if count := sum(row["n"] for sql in queries for row in reader.rows(sql)):
            pending[job] = {"rows": count}
    for job in ("dedup", *(["windows"] if config.pack.domains else []), "select", "export"):
        changed = _changed(jobs.get(job), reader, tables)
        changed += _settings_changed(jobs.get(job), reader, config)
        if job == "export" and "select" not in pending:
            changed += not_exported(jobs.get("select"), config)
        if changed and job not in pending:
            pending[job] = {"changed": changed}
    return pending


def _settings_changed(run: Row | None, reader: Reader, config: Config) -> list[str]:
    """`config`, where a job's last run went by other settings than these."""
    if run is None:
        return []
    known, now = run.get("settings"), None  # ledgers of earlier versions have none
    if run["job"] == "dedup":
        now = settings_of(config)
    elif run["job"] == "select":
        with suppress(LongAttnError):  # of a scorer that is not here
            now = Recipe(config).selects(_evaluations(reader, config))
    elif run["job"] == "export":
        known, now = run["config"], config.hash
    return ["config"] if known and now and known != now else []


def not_exported(select: Row | None, config: Config) -> list[str]:
    """Targets, as `export.jsonl`, in whose places the selection of the last run does not lie."""
    if select is None or select["status"] != "done" or select["selection"] is None:
        return []  # ledgers of earlier versions name no selection
    targets, selection = config.export.targets.items(), select["selection"]
    return [f"export.{key}" for key, at in targets if _holds_another(at.path, selection)]


def _holds_another(path: str, selection: str) -> bool:
    """Whether another selection lies there, or none; False where a store cannot be asked."""
    with suppress(LongAttnError, OSError):
        return bool((Folder.at(path).manifest() or {}).get("selection") != selection)
    return False


def _changed(run: Row | None, reader: Reader, tables: Mapping[str, Row]) -> list[str]:
    """Tables that a run has read and that have other rows by now; not those it wrote."""
    if run is None:
        return []
    read = run["versions_read"].items()
    written = run["versions_written"]
    return sorted(
        name
        for name, version in read
        if name in tables
        and name not in written
        and tables[name]["version"] > version
        and (run["job"], name) not in WRITTEN_LATER
        and not reader.unchanged(name, version, tables[name]["version"])
    )


def _to_do(reader: Reader, config: Config) -> dict[str, list[str]]:
    """Queries whose sum is what a job has to decide on; none where names cannot be resolved."""
    queries: dict[str, list[str]] = {}
    if "documents" not in reader.made:
        return queries
    with suppress(LongAttnError):
        views = divided(reader, views_of(reader, config))
        if config.dedup.enabled:
            by_domain = config.dedup.scope == "domain"
            compare = to_compare(Comparison(config.dedup).name, by_domain)
            queries["dedup"] = [_count(views, compare)]
        queries["windows"] = [_count(views, TO_MEASURE)]
        if "windows" in reader.made:
            sets = _evaluations(reader, config)
            versions = dict.fromkeys(map(scorer_version, views.recipe.asked))
            queries["score"] = [_count(views, to_score(version, sets)) for version in versions]
    return queries


def _count(views: Views, sql: str) -> str:
    return with_views(f"SELECT count(*) AS n FROM ({sql}) AS p", views)


def divided(reader: Reader, views: Views) -> Views:
    """The views, with the one that divides documents where lengths are several."""
    recipe = views.recipe
    if len(recipe.config.lengths) == 1:
        return views
    sums = reader.rows(with_views(to_divide(recipe.config), views))
    return replace(views, division=divided_by(recipe, sums))


def views_of(reader: Reader, config: Config) -> Views:
    """The views of what is current, by the config and a reader's tables."""
    return Views(recipe=Recipe(config), inputs=listed_inputs(config, "listings" in reader.made))


def _evaluations(reader: Reader, config: Config) -> Collection[str]:
    """The names of the evaluation sets as they are now."""
    if not config.decontaminate.sources:
        return ()
    from longattn.etl.windows.evaluation import list_sets  # brings Spark along

    return list_sets(reader.spark, config)
