"""Every setting explained: its name, type, default and meaning, from the models of etl.config.

The docstring below a setting is its only description: `longattn config --explain`, the JSON Schema
for editors and docs/settings.md all come from it.
"""

import itertools
import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from longattn.etl.config import READ_BY, Config, ExportTarget, SourceConfig, WhereConfig
from longattn.etl.config.sections import Folder, Fraction, PathList, Place, Positive
from longattn.udfs.errors import ConfigError, did_you_mean

# Settings whose models stand under a name of the user's choice.
KEYED: dict[str, tuple[str, type[BaseModel]]] = {
    "sources": ("sources.<domain>[]", SourceConfig),
    "export": ("export.<format>", ExportTarget),
    "decontaminate.sources": ("decontaminate.sources[]", SourceConfig),
    "select.where": ("select.where[]", WhereConfig),
}
NAMED = (
    (Positive, "int > 0"),
    (Fraction, "float in (0, 1]"),
    (Place, "path"),
    (Folder, "path"),
    (PathList, "path | list[path]"),
)
BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting as people read it."""

    name: str  # dotted, as `--set` takes it
    kind: str
    default: str
    meaning: str


def settings(prefix: str = "") -> list[Setting]:
    """Settings whose name begins with a prefix, in the order of the config, sections last.

    Raises ConfigError where there is none.
    """
    every = sorted(_of(Config, ""), key=lambda s: "." in s.name)
    chosen = [s for s in every if s.name.startswith(prefix)]
    if not chosen:
        names = [s.name for s in every]
        raise ConfigError(f"--explain {prefix}: no such setting{did_you_mean(prefix, names)}")
    return chosen


def as_text(chosen: list[Setting]) -> str:
    """A paragraph a setting, for a terminal."""
    return "\n".join(f"{s.name}  ({s.kind}, default {s.default})\n    {s.meaning}" for s in chosen)


def of_job(job: str) -> str:
    """The settings that a job reads, with their defaults, for its --help."""
    read = [s for head in READ_BY[job] for s in settings(head) if _section(s.name) == head]
    groups = itertools.groupby(read, key=lambda s: s.name.rpartition(".")[0])
    lines = [
        "settings it reads, and their defaults; what they mean:"
        f" `longattn config --explain {READ_BY[job][0]}`",
    ]
    for group, members in groups:
        named = ", ".join(f"{s.name.rpartition('.')[2]} {s.default}" for s in members)
        lines += textwrap.wrap(
            f"{group}: {named}" if group else named,
            width=90,
            initial_indent="  ",
            subsequent_indent="    ",
        )
    return "\n".join(lines)


def _section(name: str) -> str:
    return name.partition(".")[0]


def as_markdown() -> str:
    """The page docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Made by `make docs` from the docstrings of `etl/config/sections.py`; a test compares.",
        "`longattn config --config FILE` prints the values in force, `longattn config --explain`",
        "this list, and `longattn config --schema` a JSON Schema for editors.",
    ]
    section = None
    for s in settings():
        head = s.name.partition(".")[0] if "." in s.name else "at the top"
        if head != section:
            section = head
            lines += [
                "",
                f"## {head}",
                "",
                "| setting | type | default | meaning |",
                "|---|---|---|---|",
            ]
        cells = (f"`{s.name}`", s.kind, f"`{s.default}`", s.meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def json_schema() -> dict[str, Any]:
    """The config's JSON Schema, each property with its description."""
    return Config.model_json_schema()


def _of(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    annotations = get_type_hints(model, include_extras=True)
    for name, field in model.model_fields.items():
        full, annotation = prefix + name, field.annotation
        if full in KEYED:
            place, nested = KEYED[full]
            yield from _of(nested, place + ".")
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _of(annotation, full + ".")
        else:
            default = "required" if field.is_required() else _shown(field.default)
            yield Setting(
                name=full,
                kind=_kind(annotations[name]),
                default=default,
                meaning=" ".join((field.description or "").split()),
            )


def _kind(annotation: Any) -> str:
    """A type as people write it: `int > 0`, `path | None`, `Literal["a", "b"]`."""
    if named := next((name for known, name in NAMED if annotation is known), None):
        return named
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        kind, *bounds = arguments
        return " ".join([_kind(kind), ", ".join(_bounds(bounds))]).strip()
    if origin is Literal:
        return f"Literal[{', '.join(map(json.dumps, arguments))}]"
    if origin in (Union, UnionType):
        return " | ".join(map(_kind, arguments))
    if arguments:
        return f"{origin.__name__}[{', '.join(map(_kind, arguments))}]"
    return "None" if annotation is NoneType else str(annotation.__name__)


def _bounds(validators: list[Any]) -> Iterator[str]:
    """`> 0` and the like, for those of pydantic's fields; other validators bound nothing."""
    for bound in (one for field in validators for one in getattr(field, "metadata", ())):
        for name, sign in BOUNDS.items():
            if hasattr(bound, name):
                yield f"{sign} {getattr(bound, name):,}"


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
