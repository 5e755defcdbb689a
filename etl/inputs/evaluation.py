"""Decontamination: windows that share words with an evaluation set are neither scored nor selected.

What is known of a window is kept by evaluation, so that a new evaluation set costs one more look at
the text and no new windows or scores.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longattn.etl import names
from longattn.etl.config import Config
from longattn.etl.inputs.listing import check_columns, list_all, spec_of
from longattn.etl.inputs.reading import Plan, read_all
from longattn.etl.run.context import Context
from longattn.etl.stages import decontaminate as stage
from longattn.etl.tables.schema import CONTAMINATION
from longattn.udfs.errors import NothingLeft, SourceError, TableError

DOMAIN = "evaluation"
NOTHING_LOST = ("empty_file", "same_file", "same_folder")


def judge_windows(context: Context) -> dict[str, float]:
    """Compare the windows that were not with the evaluation sets; count those that share words."""
    config = context.config.decontaminate
    if not config.sources:
        return {}
    plan = evaluation_plan(context)
    evaluation = evaluation_name(context.config, plan)
    waiting = _waiting(context, evaluation)
    if not waiting.isEmpty():
        known = stage.evaluation_ngrams(_items(context, plan), config.ngram)
        found = stage.judged(waiting, context.tables.read("documents"), known, config.ngram)
        named = found.withColumn("evaluation", F.lit(evaluation)).select(*CONTAMINATION.columns)
        context.tables.merge("contamination", named)
    rows = context.tables.read("contamination").where(F.col("evaluation") == evaluation)
    return {"contaminated_windows": float(rows.where("contaminated").count())}


def without_contaminated(context: Context, rows: DataFrame) -> DataFrame:
    """Rows (window_id, ...) less those of contaminated windows; all where nothing is looked for.

    Raises TableError when there are windows that were not looked at.
    """
    if not context.config.decontaminate.sources:
        return rows
    evaluation = evaluation_name(context.config, evaluation_plan(context))
    if not _waiting(context, evaluation).isEmpty():
        raise TableError(
            "contamination: there are windows that were not compared with the evaluation sets of"
            " `decontaminate`: run `longattn windows`"
        )
    return stage.clean(rows, context.tables.read("contamination"), evaluation)


def evaluation_plan(context: Context) -> Plan:
    """The evaluation sets' files; raises SourceError for a path or a column that is not there."""
    config = context.config
    specs = [spec_of(DOMAIN, source, config) for source in config.decontaminate.sources]
    sources = list(zip(specs, config.decontaminate.sources, strict=True))
    files = list_all(context.spark, sources)
    for file in files:
        if file.refusal and file.refusal[0] not in NOTHING_LOST:
            reason, detail = file.refusal
            raise SourceError(f"decontaminate.sources: {file.uri}: {reason}: {detail}")
    check_columns(context.spark, files, specs)
    return Plan(specs=specs, pending=files, n_finished=0)


def evaluation_name(config: Config, plan: Plan) -> str:
    """Changes with the evaluation sets' files, their settings and the length of a run."""
    return f"{config.decontaminate.ngram}-grams:{plan.key[:16]}"


def _waiting(context: Context, evaluation: str) -> DataFrame:
    """Windows of this config, cut or packed, that were not compared with the evaluation."""
    config, windows = context.config, context.tables.read("windows")
    mine = windows.where(F.col("windowing").isin(names.windowing(config), names.packing(config)))
    return stage.unjudged(mine, context.tables.read("contamination"), evaluation)


def _items(context: Context, plan: Plan) -> DataFrame:
    """Records that can be read; says how many cannot. Raises NothingLeft when there are none."""
    rows = read_all(context, plan)
    counts = {row["reason"]: row["count"] for row in rows.groupBy("reason").count().collect()}
    n_items = counts.pop(None, 0)
    if not n_items:
        raise NothingLeft(f"decontaminate.sources: no record can be read: {counts or 'none there'}")
    for reason, n in sorted(counts.items()):
        context.progress.say(
            f"decontaminate: {n:,} records of {n_items + n:,} are left out: {reason}"
        )
    return rows.where("reason is null")
