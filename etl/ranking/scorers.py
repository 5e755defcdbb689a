"""Which scores of a root a scorer's name stands for."""

from longattn.etl.config import Config
from longattn.etl.run import names
from longattn.etl.run.context import Context
from longattn.udfs.errors import LongAttnError, TableError
from longattn.udfs.scorers.registry import scorer_version


def scored_versions(context: Context) -> list[str]:
    """Versions of all scorers that have scores in this root, sorted."""
    found = context.tables.read("scores").select("scorer").distinct().collect()
    return sorted(row["scorer"] for row in found)


def labelled(versions: list[str]) -> dict[str, str]:
    """Versions by what to call them: the scorer's name, the version where two share one."""
    names_ = [version.split(":")[0] for version in versions]
    return {
        name if names_.count(name) == 1 else version: version
        for name, version in zip(names_, versions, strict=True)
    }


def version_of(context: Context, named: str, versions: list[str], key: str) -> str:
    """The version that a name in the setting `key` stands for; a version stands for itself.

    It is the one that the config gives the scorer, where that one has scores, else the only one
    that has. Raises TableError where there is none, or more than one.
    """
    known = [version for version in versions if named in (version, version.split(":")[0])]
    if (own := configured(context.config, named)) in known:
        return str(own)
    if len(known) == 1:
        return known[0]
    if not known:
        name = named.split(":")[0]
        raise TableError(
            f"{key}: {named} has no scores here: run `longattn score` with this config, or with"
            f" --set score.scorer={name}"
        )
    raise TableError(f"{key}: {named} may be any of {', '.join(known)}: name one of them")


def configured(config: Config, named: str) -> str | None:
    """The config's version of a scorer; None of one that it cannot have, as without its model."""
    if ":" in named:
        return None
    try:
        return scorer_version(names.scorer_spec(config, named))
    except LongAttnError:
        return None
