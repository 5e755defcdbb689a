"""Which scores of a root a scorer's name stands for."""

from collections import Counter

from pyspark.sql import functions as F

from longattn.etl.run.context import Context
from longattn.etl.tables.schema import REJECTED_BY
from longattn.udfs.errors import NothingLeft, TableError
from longattn.udfs.scorers.identity import ScorerId


def scored_versions(context: Context) -> list[str]:
    """Versions of all scorers that have scores in this root, sorted."""
    rows = context.tables.read("scores").select("scorer").distinct().collect()
    return sorted(row["scorer"] for row in rows)


def labelled(versions: list[str]) -> dict[str, str]:
    """Versions by what to call them: the scorer's name, the version where two share one."""
    ids = [ScorerId.of(version) for version in versions]
    times = Counter(one.name for one in ids)
    return {one.name if times[one.name] == 1 else one.version: one.version for one in ids}


def version_of(context: Context, named: str, versions: list[str], key: str) -> str:
    """The version that a name in the setting `key` stands for; a version stands for itself.

    It is the one that the config gives the scorer, where that one has scores, else the only one
    that has. Raises TableError where there is none, or more than one, and NothingLeft where the
    scorer has refused all windows.
    """
    known = [version for version in versions if ScorerId.of(version).is_meant_by(named)]
    if (own := context.recipe.version_of(named)) in known:
        return str(own)
    if len(known) == 1:
        return known[0]
    if not known:
        refuse_refused(context, own, f"select: {key}")
        raise TableError(
            f"{key}: {named} has no scores here: run `longattn score` with"
            f" {ScorerId.of(named).name} in score.also"
        )
    raise TableError(f"{key}: {named} may be any of {', '.join(known)}: name one of them")


def refuse_refused(context: Context, version: str | None, where: str) -> None:
    """Raise NothingLeft for a scorer without scores that has refused windows: it says why."""
    by = (F.col("job") == "score") & (F.col("source_uri") == f"{REJECTED_BY}{version}")
    refused = context.tables.read("rejects").where(by).orderBy("source_id").first()
    if refused is not None:
        raise NothingLeft(
            f"{where}: {version} has refused every window that it saw, one of them with"
            f" {refused['reason']}: {refused['detail']}"
        )
