"""What jobs count of domains, scorers, formats and tables: typed here, stored in runs.metrics.

There a figure is called `planned/DOMAIN`, `seconds/SCORER`, `parquet/samples`, `added/TABLE`,
`contaminated/SET` or `overlap/CHOICE/DOMAIN`. Only this file knows these names.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from typing import Any


@dataclass(frozen=True, kw_only=True)
class DomainFigures:
    """A domain in a select run; None where there is no such figure."""

    scored: float | None = None  # windows that were there to select from
    selected: float | None = None  # windows
    cut: float | None = None  # the lowest score selected
    planned: float | None = None  # tokens of the mix
    made: float | None = None  # tokens of the mix


@dataclass(frozen=True, kw_only=True)
class ScorerFigures:
    """A scorer in a score run."""

    windows: float = 0
    seconds: float = 0


@dataclass(frozen=True, kw_only=True)
class FormatFigures:
    """A format in an export run."""

    samples: float = 0
    tokens: float = 0
    bytes: float = 0


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Figures by what they are of."""

    domains: Mapping[str, DomainFigures] = field(default_factory=dict)
    scorers: Mapping[str, ScorerFigures] = field(default_factory=dict)
    formats: Mapping[str, FormatFigures] = field(default_factory=dict)
    contaminated: Mapping[str, float] = field(default_factory=dict)  # evaluation set -> windows
    added: Mapping[str, float] = field(default_factory=dict)  # table -> rows
    overlaps: Mapping[tuple[str, str], float] = field(default_factory=dict)  # choice, domain

    def encode(self) -> dict[str, float]:
        """The figures as `runs.metrics` has them."""
        return dict(_encoded(self))

    @staticmethod
    def decode(metrics: Mapping[str, float] | None) -> "Figures":
        """The figures of a run's metrics; those that are of nothing are left out.

        >>> made = Figures(overlaps={("k=L/4", "a/b"): 0.5}, added={"scores": 3.0})
        >>> made.encode()
        {'added/scores': 3.0, 'overlap/k=L%2F4/a/b': 0.5}
        >>> Figures.decode({**made.encode(), "tokens": 64.0}) == made
        True
        """
        by_field: dict[str, dict[Any, Any]] = {one.name: {} for one in fields(Figures)}
        for name, value in (metrics or {}).items():
            head, slash, tail = name.partition("/")
            if not slash:
                continue
            if head == "overlap":
                choice, _, domain = tail.partition("/")  # a domain may have a slash
                by_field["overlaps"][_unquoted(choice), domain] = value
            elif head in ("contaminated", "added"):
                by_field[head][tail] = value
            elif head in _OF_DOMAIN:
                by_field["domains"].setdefault(tail, {})[head] = value
            elif head in _OF_SCORER:
                by_field["scorers"].setdefault(tail, {})[head] = value
            elif tail in _OF_FORMAT:
                by_field["formats"].setdefault(head, {})[tail] = value
        return Figures(
            domains={k: DomainFigures(**v) for k, v in by_field.pop("domains").items()},
            scorers={k: ScorerFigures(**v) for k, v in by_field.pop("scorers").items()},
            formats={k: FormatFigures(**v) for k, v in by_field.pop("formats").items()},
            **by_field,
        )


def summed(parts: Iterable[Mapping[str, ScorerFigures]]) -> dict[str, ScorerFigures]:
    """Windows and seconds of every scorer in all parts."""
    totals: dict[str, ScorerFigures] = {}
    for name, of in chain.from_iterable(part.items() for part in parts):
        known = totals.get(name, ScorerFigures())
        windows, seconds = known.windows + of.windows, known.seconds + of.seconds
        totals[name] = ScorerFigures(windows=windows, seconds=seconds)
    return totals


_OF_DOMAIN, _OF_SCORER, _OF_FORMAT = (
    {one.name for one in fields(kind)} for kind in (DomainFigures, ScorerFigures, FormatFigures)
)


def _encoded(figures: Figures) -> Iterator[tuple[str, float]]:
    for named in (figures.domains, figures.scorers):
        for name, of in named.items():
            yield from ((f"{key}/{name}", float(v)) for key, v in _known(of))
    for name, of_format in figures.formats.items():
        yield from ((f"{name}/{key}", float(v)) for key, v in _known(of_format))
    for head in ("contaminated", "added"):
        yield from ((f"{head}/{name}", float(v)) for name, v in getattr(figures, head).items())
    for (choice, domain), share in figures.overlaps.items():
        yield f"overlap/{_quoted(choice)}/{domain}", float(share)


def _known(of: Any) -> Iterator[tuple[str, float]]:
    return ((key, value) for key, value in asdict(of).items() if value is not None)


def _quoted(name: str) -> str:
    """A name without a slash: versions of scorers have some."""
    return name.replace("%", "%25").replace("/", "%2F")


def _unquoted(name: str) -> str:
    return name.replace("%2F", "/").replace("%25", "%")
