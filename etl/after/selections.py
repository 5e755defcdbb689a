"""The selections of a root: which there are, what one holds, and how two of them differ."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from longattn.etl.after.reading import Reader, Row
from longattn.udfs.ddl import literal
from longattn.udfs.errors import UserError, did_you_mean

SAMPLE = 3  # windows of each side of a difference that are shown
NONE_YET = "there are no selections yet: run `longattn select`"


@dataclass(frozen=True)
class Domain:
    """What a selection takes of a domain, and between which scores it was cut."""

    windows: int  # in the mix
    samples: int  # windows with their copies
    tokens: int  # of the samples
    lowest: float | None  # score of all selected, with room in the mix or without, as `select` says
    highest: float | None  # None, both, where windows are packed


@dataclass(frozen=True)
class Difference:
    """Two selections over their windows: in both, in the first alone, in the second alone."""

    domains: dict[str, tuple[int, int, int]]  # windows of each
    tokens: dict[str, tuple[int, int, int]]
    only_first: list[Row]  # the best few that the other lacks: domain, window_id, score
    only_second: list[Row]


def listed(reader: Reader) -> dict[str, Domain]:
    """All selections by name, their domains together; none where select has not run."""
    rows = reader.rows(_totals("selection")) if "selections" in reader.made else []
    return {row["of"]: _domain(row) for row in rows}


def shown(reader: Reader, name: str) -> dict[str, Domain]:
    """One selection by domain; raises UserError for one that is not there."""
    named(reader, [name])
    rows = reader.rows(_totals("domain", f"WHERE selection = {literal(name)}"))
    return {row["of"]: _domain(row) for row in rows}


def differing(reader: Reader, first: str, second: str) -> Difference:
    """Windows that both take, and that one takes alone; raises UserError for an unknown name."""
    named(reader, (first, second))
    a, b = ({row["window_id"]: row for row in _taken(reader, name)} for name in (first, second))
    sides = [[a[w] for w in a if w in b], _without(a, b), _without(b, a)]
    names = sorted({row["domain"] for side in sides for row in side})
    windows: dict[str, tuple[int, int, int]] = {}
    tokens: dict[str, tuple[int, int, int]] = {}
    for domain in names:
        mine = [[row["n_tokens"] for row in side if row["domain"] == domain] for side in sides]
        both, left, right = mine
        windows[domain] = (len(both), len(left), len(right))
        tokens[domain] = (sum(both), sum(left), sum(right))
    return Difference(windows, tokens, sides[1][:SAMPLE], sides[2][:SAMPLE])


def _without(these: dict[str, Row], those: dict[str, Row]) -> list[Row]:
    """Rows whose window the others lack, best scores first."""
    rows = [row for window, row in these.items() if window not in those]
    return sorted(rows, key=lambda row: (-(row["score"] or 0.0), row["window_id"]))


def _totals(by: str, where: str = "") -> str:
    return (
        f"SELECT {by} AS of, sum(CASE WHEN copies > 0 THEN 1 ELSE 0 END) AS windows,"
        " sum(copies) AS samples, sum(copies * n_tokens) AS tokens,"
        " min(score) AS lowest, max(score) AS highest"
        f" FROM ({_SCORED}) AS scored {where} GROUP BY {by} ORDER BY {by}"
    )


# `lds` is where the score stood before it had a column of its own.
_SCORED = (
    "SELECT selection, domain, window_id, n_tokens, copies, coalesce(score, lds) AS score"
    " FROM selections"
)


def _taken(reader: Reader, name: str) -> list[Row]:
    return reader.rows(
        f"SELECT * FROM ({_SCORED}) AS scored"
        f" WHERE copies > 0 AND selection = {literal(name)} ORDER BY window_id"
    )


def _domain(row: Row) -> Domain:
    return Domain(
        windows=int(row["windows"]),
        samples=int(row["samples"]),
        tokens=int(row["tokens"]),
        lowest=row["lowest"],
        highest=row["highest"],
    )


def named(reader: Reader, names: Collection[str]) -> dict[str, Domain]:
    """The selections of these names, as `listed`; raises UserError for one that is not there."""
    known = listed(reader)
    for name in names:
        if not known:
            raise UserError(f"selections: {NONE_YET}")
        if name not in known:
            raise UserError(f"selections: none is called {name}{did_you_mean(name, known)}")
    return {name: known[name] for name in names}


def lines_of(difference: Difference, first: str, second: str) -> Iterator[str]:
    """A difference's best windows, for people."""
    for name, rows in ((first, difference.only_first), (second, difference.only_second)):
        for row in rows:
            score = "packed" if row["score"] is None else f"{row['score']:.4f}"
            yield f"only in {name}: {row['domain']} {row['window_id']} {score}"
