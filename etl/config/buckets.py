"""Which of the lengths of `mix.buckets` each document is cut at, in the SQL that Spark and
DataFusion have in common.

Documents that can be cut at as many lengths are divided by what they draw, a hash of id and seed.
Where is worked out from all of them (udfs.windows.buckets), so a document more or less moves few.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from longattn.etl.config import Config
from longattn.udfs.ddl import literal
from longattn.udfs.windows.buckets import DRAW_DIGITS, divided, first_draws

# by domain and the number of lengths that a document fills, where shorter ones begin
Division = Mapping[tuple[str, int], Sequence[str]]


def fills(config: Config) -> str:
    """How many of the lengths a document of n_tokens fills, as SQL."""
    least = [length - config.window.bos for length in config.lengths]
    cases = [f"WHEN n_tokens >= {n} THEN {i}" for i, n in reversed([*enumerate(least, 1)])]
    return f"CASE {' '.join(cases)} ELSE 0 END"


def draw(config: Config, doc_id: str = "doc_id") -> str:
    """What a document draws, hexadecimal digits, as SQL."""
    return f"substr(md5(concat({doc_id}, '|{config.seed}')), 1, {DRAW_DIGITS})"


def divide(rows: Iterable[Mapping[str, Any]], config: Config) -> Division:
    """Where documents are divided, from rows of what they hold: domain, fills, draw, tokens.

    Rows of documents that fill none are passed over.
    """
    by_draw: dict[str, list[dict[str, int]]] = defaultdict(lambda: [{} for _ in config.lengths])
    for row in rows:
        if row["fills"]:
            by_draw[row["domain"]][row["fills"] - 1][row["draw"]] = int(row["tokens"])
    shares = [config.mix.buckets[length] for length in config.lengths]
    division: dict[tuple[str, int], Sequence[str]] = {}
    for domain, drawn in sorted(by_draw.items()):
        parts = divided([sum(tokens.values()) for tokens in drawn], shares)
        for own, (tokens, part) in enumerate(zip(drawn, parts, strict=True), 1):
            division[domain, own] = first_draws(tokens, part)
    return division


def windowing(cuttings: Iterable[str], division: Division) -> str:
    """The windowing of a document (domain, fills, draw), as SQL; the shortest if none is said.

    `cuttings` are those of the config's lengths, the shortest first.
    """
    names = [literal(name) for name in cuttings]
    cases = [
        f"WHEN domain = {literal(domain)} AND fills = {own} AND draw < {literal(first)} THEN {name}"
        for (domain, own), firsts in division.items()
        for name, first in zip(reversed(names[1:own]), firsts, strict=True)
    ]
    return f"CASE {' '.join(cases)} ELSE {names[0]} END" if cases else names[0]
