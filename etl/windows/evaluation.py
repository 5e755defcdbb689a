"""Decontamination: windows that share words with an evaluation set are neither scored nor selected.

What is known of a window is kept by evaluation set, so that another set costs one more look at the
text and no new windows or scores, and each hit says whose it is.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import PurePosixPath

from pyspark.sql import DataFrame, SparkSession

from longattn.etl.config import Config, SourceConfig
from longattn.etl.ingest.listing import check_columns, list_all
from longattn.etl.ingest.own import OwnFiles
from longattn.etl.ingest.reading import Plan, read_all
from longattn.etl.ingest.remote_files import read_remote
from longattn.etl.ingest.sources import EVALUATION, item_spec
from longattn.etl.run.context import Context
from longattn.etl.run.figures import Figures
from longattn.etl.tables.schema import CONTAMINATION
from longattn.etl.windows import decontaminate as stage
from longattn.etl.windows.current import current_windows
from longattn.udfs.errors import NothingLeft, SourceError, TableError

NOTHING_LOST = ("empty_file", "same_file", "same_folder")


def judge_windows(context: Context) -> tuple[dict[str, float], Figures]:
    """Compare windows with evaluation sets that are new to them.

    Returns how many windows share words with any set, as a metric, and with each.
    """
    if not context.config.decontaminate.sources:
        return {}, Figures()
    plans = evaluations(context)
    waiting = _waiting(context, plans)
    if not waiting.isEmpty():
        n = context.config.decontaminate.ngram
        sets = {
            name: stage.evaluation_ngrams(_items(context, plan), n) for name, plan in plans.items()
        }
        _say_what_is_too_short(context, sets, n)
        known = {name: evaluation.ngrams for name, evaluation in sets.items()}
        judged = stage.judged(waiting, context.tables.read("documents"), known, n)
        context.tables.merge("contamination", judged.select(*CONTAMINATION.columns))
    return _counts(context, plans)


def without_contaminated(context: Context, rows: DataFrame) -> DataFrame:
    """Rows (window_id, ...) less those of contaminated windows; all where nothing is looked for.

    Raises TableError when there are windows that were not looked at.
    """
    if not context.config.decontaminate.sources:
        return rows
    return stage.clean(rows, contaminated(context))


def contaminated(context: Context) -> DataFrame:
    """Rows (window_id, domain, evaluation) of all hits; none where nothing is looked for.

    Raises TableError when there are windows that were not looked at.
    """
    return stage.contaminated(context.tables.read("contamination"), judged(context))


def judged(context: Context) -> Collection[str]:
    """The names of all evaluation sets; none where nothing is looked for.

    Raises TableError when there are windows that were not looked at.
    """
    plans = evaluations(context) if context.config.decontaminate.sources else {}
    if plans and not _waiting(context, plans).isEmpty():
        raise TableError(
            "contamination: there are windows that were not compared with the evaluation sets of"
            " `decontaminate`: run `longattn windows`"
        )
    return plans


def evaluations(context: Context) -> dict[str, Plan]:
    """The evaluation sets' files, by what `contamination` calls each set; a run lists them once."""
    return context.once(
        ("evaluations", context.config.hash),
        lambda: list_sets(context.spark, context.config, context.progress.say),
    )


def list_sets(
    spark: SparkSession | None, config: Config, say: Callable[[str], None] | None = None
) -> dict[str, Plan]:
    """The evaluation sets' files; without a session only those of local folders can be listed.

    A set's name, `gsm8k:13-grams:0123456789abcdef`, changes with its files, their settings and the
    length of a run. Raises SourceError for a path or a column that is not there.
    """
    sets: dict[str, list[SourceConfig]] = {}
    for source in config.decontaminate.sources:
        sets.setdefault(set_name(source), []).append(source)
    own = OwnFiles(config, partial(read_remote, spark) if spark else None)
    plans = {name: _plan(spark, config, sources, own) for name, sources in sets.items()}
    if say:
        own.say(say, "decontaminate")
    ngram = config.decontaminate.ngram
    return {f"{name}:{ngram}-grams:{plan.key[:16]}": plan for name, plan in plans.items()}


def set_name(source: SourceConfig) -> str:
    """The name of an evaluation set; or else its file's, or that of the folder before a glob.

    >>> set_name(SourceConfig(path="eval/mmlu/*.jsonl"))
    'mmlu'
    """
    parts = PurePosixPath(source.path[0]).parts
    plain = next((part for part in reversed(parts) if not set(part) & set("*?[")), EVALUATION)
    return source.name or plain.partition(".")[0]


def _plan(
    spark: SparkSession | None, config: Config, sources: list[SourceConfig], own: OwnFiles
) -> Plan:
    specs = [item_spec(source, config) for source in sources]
    files = list_all(spark, list(zip(specs, sources, strict=True)), own)
    for file in files:
        if file.refusal and file.refusal[0] not in NOTHING_LOST:
            reason, detail = file.refusal
            raise SourceError(f"decontaminate.sources: {file.uri}: {reason}: {detail}")
    check_columns(spark, files, specs)
    return Plan(specs=specs, pending=files, n_finished=0)


def _waiting(context: Context, plans: Mapping[str, Plan]) -> DataFrame:
    """Windows of this config, cut or packed, that some evaluation set was not compared with yet."""
    ids = current_windows(context).select("window_id")
    windows = context.tables.read("windows").join(ids, "window_id", "left_semi")
    return stage.unjudged(windows, context.tables.read("contamination"), plans)


def _counts(context: Context, plans: Mapping[str, Plan]) -> tuple[dict[str, float], Figures]:
    """Windows of this config that share words with any set, and with each."""
    mine = current_windows(context).select("window_id")
    every = stage.contaminated(context.tables.read("contamination"), plans)
    bad = every.join(mine, "window_id", "left_semi")
    hits = {row["evaluation"]: row["count"] for row in bad.groupBy("evaluation").count().collect()}
    by_set = {name.rsplit(":", 2)[0]: hits.get(name, 0) for name in plans}
    with_any = bad.select("window_id").distinct().count()
    return {"contaminated_windows": with_any}, Figures(contaminated=by_set)


def _say_what_is_too_short(context: Context, sets: Mapping[str, stage.Evaluation], n: int) -> None:
    for name, evaluation in sets.items():
        if evaluation.short:
            context.progress.say(
                f"decontaminate: {name.rsplit(':', 2)[0]}: {evaluation.short:,} of"
                f" {evaluation.items:,} items are shorter than {n} words and cannot be looked for;"
                " decontaminate.ngram sets another length"
            )


def _items(context: Context, plan: Plan) -> DataFrame:
    """Records that can be read; says how many cannot. Raises NothingLeft when there are none."""
    rows = read_all(context.spark, plan)
    counts = {row["reason"]: row["count"] for row in rows.groupBy("reason").count().collect()}
    n_items = counts.pop(None, 0)
    if not n_items:
        raise NothingLeft(f"decontaminate.sources: no record can be read: {counts or 'none there'}")
    for reason, n in sorted(counts.items()):
        context.progress.say(
            f"decontaminate: {n:,} records of {n_items + n:,} are left out: {reason}"
        )
    return rows.where("reason is null")
