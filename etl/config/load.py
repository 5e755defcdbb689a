"""A config read, overridden and validated; what is wrong with it in one line for each fault.

A config is YAML merged over the defaults of `sections`, then `--set a.b=c` merged over that.
Unknown keys and values out of bounds are refused in one line that says where they stand and what
was meant.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from pydantic import BaseModel, ValidationError

from longattn.etl.config.sections import Config
from longattn.etl.config.yaml_file import parse, read_settings
from longattn.udfs.errors import ConfigError, did_you_mean
from longattn.udfs.redaction import HIDDEN, is_secret, redacted_text


def load(path: str | Path | None, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file, apply `a.b=c` overrides and validate.

    Raises ConfigError, one line, for a file that is missing or no mapping, an unknown key or a bad
    value.
    """
    return validate(_settings(path, overrides))


def _settings(path: str | Path | None, overrides: Iterable[str]) -> dict[str, Any]:
    if path == "":  # of a variable that is not set: defaults would be another root
        raise ConfigError("--config is empty: name a file")
    settings = {} if path is None else read_settings(path)
    for override in overrides:
        _apply_override(settings, override)
    return settings


def validate(settings: Mapping[str, Any]) -> Config:
    """Turn nested dicts into a Config; the first problem becomes a one-line ConfigError.

    They may hold what YAML has not: paths, tuples, numbers and arrays of numpy.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"config: expected a path or a mapping, got {type(settings).__name__}")
    try:
        return _model(_plain(settings))
    except ValidationError as error:
        raise ConfigError(_explain_all(error)[0]) from None
    except RecursionError:  # YAML's anchors allow it
        raise ConfigError("config: a list or mapping holds itself") from None


def _plain(value: Any) -> Any:
    """A value of Python's as YAML would have given it."""
    if isinstance(value, Mapping):
        return {k if isinstance(k, tuple) else _plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def faults(path: str | Path, overrides: Iterable[str] = ()) -> list[str]:
    """What `load` would refuse, all of it: a line for each fault."""
    try:
        _model(_settings(path, overrides))
    except ConfigError as error:
        return [str(error)]
    except ValidationError as error:
        return _explain_all(error)
    return []


def _model(settings: Mapping[str, Any]) -> Config:
    """Raises ValidationError, and ConfigError for a text that pydantic cannot say in UTF-8."""
    try:
        return Config.model_validate(settings)
    except UnicodeEncodeError as error:
        said = ascii(error.object)[1:-1]
        raise ConfigError(f"config: {said}: half of a surrogate pair is no text") from None


def _apply_override(settings: dict[str, Any], override: str) -> None:
    """Set one `a.b=c` in place; c is read as YAML, so 3, true, [1, 2] and null mean themselves."""
    key, equals, text = override.partition("=")
    said = f"{key}={HIDDEN}" if equals and is_secret(key) else redacted_text(override)
    shown = f"--set {' '.join(said.split())}"
    if not equals or not key.strip():
        raise ConfigError(f"{shown}: expected key=value, for example window.length=8192")
    *parents, last = key.strip().split(".")
    node = settings
    for number, parent in enumerate(parents, 1):
        where = ".".join(parents[:number])
        node[parent] = node = _as_mapping(node.get(parent), f"{shown}: {where}")
    node[last] = parse(text, shown)


def _as_mapping(value: Any, where: str) -> dict[str, Any]:
    """What a setting may be set below: a mapping, none yet, or names, as of score.also."""
    if value is None:
        return {}
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {name: {} for name in value}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} is no mapping; set it as a whole")
    return dict(value)


def _explain_all(error: ValidationError) -> list[str]:
    """A line for each problem pydantic found, unknown keys first; a value's types are one.

    Where a mapping may stand, what is wrong in it counts, and not that it is no number or list.
    """
    problems = error.errors(include_url=False)
    problems.sort(key=lambda problem: problem["type"] != "extra_forbidden")
    lines: dict[str, str] = {}
    for problem in problems:
        lines.setdefault(_place(problem), " ".join(_explain(problem).split()))
    inner = [place for place in lines if not any(p.startswith(f"{place}.") for p in lines)]
    return [lines[place] for place in inner]


def _place(problem: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in problem["loc"] if not _is_type_branch(part))


def _explain(problem: Mapping[str, Any]) -> str:
    """One line: where, what, what was meant."""
    where = [p for i, p in enumerate(problem["loc"]) if i == 0 or not _is_type_branch(p)]
    name = ".".join(str(part) for part in where)
    if problem["type"] == "extra_forbidden":
        return f"config: unknown key {name}{did_you_mean(str(where[-1]), _known_keys(where[:-1]))}"
    if problem["type"] == "value_error":
        return f"config: {problem['ctx']['error']}"
    got, ours = problem["input"], name.rpartition(".")[2] in _known_keys(where[:-1])
    secret = problem["type"] == "secret" or (not ours and is_secret(name))
    shown = f", got {got!r}" if not secret and not isinstance(got, (dict, list)) else ""
    return f"config: {name}: {problem['msg'][0].lower()}{problem['msg'][1:]}{redacted_text(shown)}"


def _is_type_branch(part: int | str) -> bool:
    """True for the type names pydantic puts into the location of a union's member."""
    plain = {"float", "int", "str", "list", "dict"}
    return isinstance(part, str) and (
        "[" in part or part in plain or part.startswith("constrained")
    )


def _known_keys(where: list[int | str]) -> list[str]:
    model: type[BaseModel] = Config
    for part in where:
        model = _section_at(model, str(part))
    return list(model.model_fields)


def _section_at(model: type[BaseModel], key: str) -> type[BaseModel]:
    """The model of a key's value; the same model again for list indices and domain names."""
    field = model.model_fields.get(key)
    return (_model_in(field.annotation) if field else None) or model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a type is made of, as SourceConfig of dict[str, list[SourceConfig]]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
