"""YAML as people write settings in it: what looks like a number is one, and no key is lost.

PyYAML reads YAML 1.1, where `no` is false, 2.5e6 is a string, 010 is eight, 1:30 is ninety and the
second of two equal keys wins. Here keys are strings, numbers are those of YAML 1.2, and a key given
twice is refused.
"""

import codecs
import re
from pathlib import Path
from typing import Any

import yaml

from longattn.udfs.errors import ConfigError, first_line, whole_message

BOOLS = re.compile("(true|True|TRUE|false|False|FALSE)$")
INTEGERS = re.compile("([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
FLOATS = re.compile(
    r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
)
REPLACED = ("bool", "int", "float")  # resolvers of YAML 1.1
# In what PyYAML says, more than a letter: not its own '<block end>', nor '\\t'.
QUOTED = re.compile(r""" ('(?!<|\\.')[^']{2,}'|"[^"]{2,}")""")
WORDS = {"yes": True, "on": True, "no": False, "off": False}  # where a key takes true or false


def read_settings(path: str | Path) -> dict[str, Any]:
    """The mapping that a YAML file holds, in UTF-8 or, with a byte-order mark, UTF-16.

    Raises ConfigError, one line, for a file that cannot be read or holds something else.
    """
    where = f"--config {path}"
    try:
        settings = parse(_decoded(Path(path).read_bytes(), where), where)
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}") from None
    if settings is not None and not isinstance(settings, dict):
        kind = type(settings).__name__
        raise ConfigError(f"{where}: expected a mapping of sections, got a {kind}")
    return settings or {}


def parse(text: str, where: str) -> Any:
    """A YAML text's value; `where` begins the ConfigError about one that is not YAML."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not YAML: {_said(error)}") from None
    except _KeyTwice as error:
        raise ConfigError(f"{where}: {error}") from None
    except (ValueError, RecursionError) as error:  # a date without a 13th month, an endless alias
        raise ConfigError(f"{where}: not YAML: {first_line(error)}") from None


def _said(error: yaml.YAMLError) -> str:
    """What PyYAML says, and where. The text there is left out: it may be a secret."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return whole_message(error)
    marked = ((error.context, error.context_mark), (error.problem, error.problem_mark))
    return ": ".join(QUOTED.sub("", words) + _at(mark) for words, mark in marked if words)


def _at(mark: yaml.Mark | None) -> str:
    return f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _decoded(data: bytes, where: str) -> str:
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{data[error.start]:02x} in line {line}"
        raise ConfigError(f"{where}: {byte} is not {error.encoding}: save it as UTF-8") from None


class _KeyTwice(Exception):
    """A mapping with a key twice; says the lines of both."""


class _Loader(yaml.SafeLoader):
    """Keys as strings, each once; numbers and booleans of YAML 1.2."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        letter: [rule for rule in rules if rule[0].rpartition(":")[2] not in REPLACED]
        for letter, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        return {self._key(key): self.construct_object(value, deep) for key, value in node.value}

    def flatten_mapping(self, node: Any) -> None:
        """Refuse what is said twice, once, before `<<` brings in what may be overridden."""
        lines: dict[str, int] = {}
        checked = self.__dict__.setdefault("_checked", set())
        for key, _ in () if id(node) in checked else node.value:
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in lines:
                    both = f"{lines[key.value]} and {line}"
                    raise _KeyTwice(f"key {key.value!r} twice, in lines {both}")
                lines[key.value] = line
        checked.add(id(node))
        super().flatten_mapping(node)

    def _key(self, node: Any) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return node.value
        problem = "a key is a list or a mapping"
        raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)


def _integer(_loader: _Loader, node: Any) -> int:
    """010 is ten."""
    return int(node.value, {"0o": 8, "0x": 16}.get(node.value[:2], 10))


def _number(loader: _Loader, node: Any) -> float | int:
    """5e9 is a whole number, as 5000000000 is."""
    value = loader.construct_yaml_float(node)
    whole = "e" in node.value.lower() and value.is_integer() and abs(value) < 1 << 62
    return int(value) if whole else value


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", BOOLS, list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", INTEGERS, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOATS, list("-+.0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
