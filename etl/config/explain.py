"""Every setting explained: its name, type, default and meaning, from the models of etl.config.

The comment beside a setting, or above it, is its only description: `longattn config --explain`, the
JSON Schema for editors and docs/settings.md all come from here.
"""

import functools
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from longattn.etl.config import READ_BY, Config, ExportTarget, SourceConfig, WhereConfig
from longattn.udfs.errors import ConfigError, did_you_mean

# Settings whose models stand under a name of the user's choice.
KEYED: dict[str, tuple[str, type[BaseModel]]] = {
    "sources": ("sources.<domain>[]", SourceConfig),
    "export": ("export.<format>", ExportTarget),
    "decontaminate.sources": ("decontaminate.sources[]", SourceConfig),
    "select.where": ("select.where[]", WhereConfig),
}
SHORT = {"Positive": "int > 0", "Fraction": "float in (0, 1]", "PathList": "str | list[str]"}
FIELD = re.compile(r"^    (\w+): ")
COMMENT = re.compile(r"\s#\s(.*)$")


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
    found = [s for s in every if s.name.startswith(prefix)]
    if not found:
        names = [s.name for s in every]
        raise ConfigError(f"--explain {prefix}: no such setting{did_you_mean(prefix, names)}")
    return found


def as_text(found: list[Setting]) -> str:
    """A paragraph a setting, for a terminal."""
    return "\n".join(f"{s.name}  ({s.kind}, default {s.default})\n    {s.meaning}" for s in found)


def of_job(job: str) -> str:
    """The settings that a job reads, with their defaults, for its --help."""
    found = [s for head in READ_BY[job] for s in settings(head) if _section(s.name) == head]
    groups = itertools.groupby(found, key=lambda s: s.name.rpartition(".")[0])
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
        "Made by `make docs` from the comments in `etl/config/sections.py`; a test compares both.",
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
    schema = Config.model_json_schema()
    for model in _models(Config):
        found = schema if model is Config else schema["$defs"].get(model.__name__, {})
        for name, meaning in meanings(model).items():
            if meaning and name in found.get("properties", {}):
                found["properties"][name]["description"] = meaning
    return schema


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """What the comments in a model's source say of its fields: those above, then the one beside."""
    above: list[str] = []
    found: dict[str, str] = {}
    for line in _source(model).splitlines():
        if line.startswith("    # "):
            above.append(line[6:].strip())
            continue
        if (field := FIELD.match(line)) and field[1] in model.model_fields:
            beside = COMMENT.search(line)
            found[field[1]] = " ".join(above + ([beside[1].strip()] if beside else []))
        above = []
    return found


@functools.cache
def _source(model: type[BaseModel]) -> str:
    """The source of a model, after that of the models it extends, whose fields it has too."""
    own = [base for base in reversed(model.__mro__) if base.__module__ == Config.__module__]
    return "\n".join(inspect.getsource(base) for base in own)


def _of(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    explained = meanings(model)
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
                name=full, kind=_kind(model, name), default=default, meaning=explained.get(name, "")
            )


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _models(field.annotation)
    if model is Config:
        yield from (SourceConfig, ExportTarget, WhereConfig)


def _kind(model: type[BaseModel], name: str) -> str:
    """The annotation as the source has it, without what only pydantic needs."""
    found = re.findall(rf"^    {name}: (.*?)(?:\s=\s|\s+#|$)", _source(model), re.MULTILINE)
    text = found[-1].strip() if found else "?"
    text = re.sub(r"Annotated\[(.*), BeforeValidator\(\w+\)\]", r"\1", text)
    text = re.sub(r"Annotated\[(\w+), Field\(([^)]*)\)\]", r"\1 (\2)", text)
    for ours, plain in SHORT.items():
        text = text.replace(ours, plain)
    return text


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
