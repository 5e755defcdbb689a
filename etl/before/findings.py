"""What a look at a config finds: facts, notes and faults."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from longattn.etl.config import Config
from longattn.udfs.errors import LongAttnError, whole_message

Kind = Literal["fact", "note", "fault"]


@dataclass(frozen=True)
class Finding:
    """One line: `where` is a key of the config, `text` what was found there."""

    kind: Kind
    where: str
    text: str

    def __str__(self) -> str:
        mark = "note: " if self.kind == "note" else ""
        return f"{self.where}: {mark}{self.text}"


Findings = Iterator[Finding]


def fact(where: str, text: str) -> Finding:
    """Something that was found as it should be."""
    return Finding("fact", where, text)


def note(where: str, text: str) -> Finding:
    """Something that may be meant, and surprises where it is not."""
    return Finding("note", where, text)


def fault(where: str, text: str) -> Finding:
    """Something that a job would fail of, or that cannot be meant."""
    return Finding("fault", where, text)


def faults(findings: Iterable[Finding]) -> list[Finding]:
    """Those of the findings that a job would fail of."""
    return [finding for finding in findings if finding.kind == "fault"]


def as_findings(where: str, findings: Findings) -> Findings:
    """The findings; an error that ends them is the last, at the key that it names, else `where`."""
    try:
        yield from findings
    except LongAttnError as error:
        message = whole_message(error)
        key, _, text = message.partition(" ")
        named = re.split(r"\W", key)[0] in Config.model_fields
        yield fault(key.rstrip(":"), text) if named else fault(where, message)
