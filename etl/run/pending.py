"""What a job has still to decide on: jobs read it, and `status` counts it by SQL, without Spark.

What is current, kept or scored is defined here in SQL, and for the jobs in DataFrames, by
etl.ingest.current, etl.dedup.kept and etl.windows.current; a test compares the two.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any

from longattn.etl.config import buckets
from longattn.etl.run.recipe import Recipe
from longattn.udfs.ddl import literal
from longattn.udfs.scorers.identity import ScorerId
from longattn.udfs.scorers.registry import PACKED

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

Values = Sequence[str] | Sequence[bool]
Limits = int | dict[str, int] | None
MADE_OF = {"whole": "lengths"}  # a view, and the table without which it is not there


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of a table: those that have one of the values in every column named."""

    table: str
    having: Mapping[str, Values] = field(default_factory=dict)
    lacking: Mapping[str, Values] = field(default_factory=dict)  # and none of these

    def of(self, rows: "DataFrame") -> "DataFrame":
        """Those of the table's rows."""
        return reduce(lambda left, condition: left.where(condition), self._columns(), rows)

    def _columns(self) -> "Iterator[Column]":
        from pyspark.sql import functions as F

        yield from (F.col(name).isin(*values) for name, values in self.having.items())
        yield from (~F.col(name).isin(*values) for name, values in self.lacking.items() if values)

    def sql(self, alias: str) -> str:
        """The same as a condition of SQL."""
        having = [f"{alias}.{c} IN ({_listed(v)})" for c, v in self.having.items()]
        lacking = [f"{alias}.{c} NOT IN ({_listed(v)})" for c, v in self.lacking.items() if v]
        return " AND ".join([*having, *lacking]) or "1 = 1"


@dataclass(frozen=True, kw_only=True)
class Pending:
    """Rows that have no counterpart, of the same key, among rows that say what is done.

    `wanted` are rows of a view of `views`.
    """

    wanted: Rows
    done: tuple[tuple[str, Rows], ...]  # key, and the rows that have it

    def left(self, rows: "DataFrame", read: "Callable[[str], DataFrame]") -> "DataFrame":
        """What is pending of the wanted rows; `read` gives the other tables."""
        for key, done in self.done:
            rows = rows.join(done.of(read(done.table)).select(key), key, "left_anti")
        return rows

    def sql(self, made: Collection[str], views: str) -> str:
        """A query for `n`, their number; of the tables only those that are made can be named."""
        conditions = [self.wanted.sql("w")]
        conditions += [
            f"NOT EXISTS (SELECT 1 FROM {done.table} x WHERE x.{key} = w.{key} AND {done.sql('x')})"
            for key, done in self.done
            if MADE_OF.get(done.table, done.table) in made
        ]
        count = f"SELECT count(*) AS n FROM {self.wanted.table} w"
        return f"{views} {count} WHERE {' AND '.join(conditions)}"


def to_compare(name: str, by_domain: bool, made: Collection[str], views: str) -> str:
    """A query for `n`, the current documents that were not compared in their scope.

    `name` and the scope make `pairs.recipe`.
    """
    recipe = f"concat({_literal(name)}, {'w.domain' if by_domain else _literal('')})"
    compared = f"x.doc_a = w.doc_id AND x.method = 'self' AND x.recipe = {recipe}"
    done = f"NOT EXISTS (SELECT 1 FROM pairs x WHERE {compared})" if "pairs" in made else "1 = 1"
    return f"{views} SELECT count(*) AS n FROM current w WHERE {done}"


def to_measure(recipe: Recipe) -> list[Pending]:
    """Documents to be cut, and documents to be packed."""
    packed = recipe.config.pack.domains
    cut = Rows(table="kept", lacking={"domain": packed})
    joined = Rows(table="kept", having={"domain": packed})
    parts = [(cut, _cut_as(recipe)), *([(joined, [recipe.packing])] if packed else [])]
    return [Pending(wanted=rows, done=(("doc_id", _measured(names)),)) for rows, names in parts]


def _cut_as(recipe: Recipe) -> list[str]:
    return list(recipe.cuttings.values())


def _measured(windowings: Sequence[str]) -> Rows:
    return Rows(table="whole", having={"windowing": windowings})


def to_score(version: str, evaluations: Collection[str] = ()) -> Pending:
    """Windows that their scorer has not seen, less those that an evaluation has.

    Cross gain is of packed windows, those of earlier groups too: which groups are current follows
    from hashes that Spark alone works out.
    """
    hits: dict[str, Values] = {"evaluation": list(evaluations), "contaminated": [True]}
    clean = [("window_id", Rows(table="contamination", having=hits))] if evaluations else []
    scores = Rows(table="scores", having={"scorer": [version]})
    windows = "packed" if ScorerId.of(version).name in PACKED else "scored"
    return Pending(wanted=Rows(table=windows), done=(("window_id", scores), *clean))


# --- views in the SQL that Spark and DataFusion have in common


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The sources of a config as `listings` names them."""

    inputs: str
    sources: Sequence[tuple[str, str, int]]  # listing, domain, priority


def views(
    recipe: Recipe,
    listed: Listed | None,
    made: Collection[str],
    read: Callable[[str], Iterable[Mapping[str, Any]]],
) -> str:
    """Views current and kept (doc_id, domain), whole (doc_id, windowing) of documents that have a
    length and as many windows as it says, scored (window_id, doc_id, domain) and packed (window_id,
    domain).

    `read` gives the rows of a query, by which documents are divided among several lengths.
    """
    config = recipe.config
    removed = config.dedup.enabled and "duplicates" in made
    kept = "SELECT doc_id, domain FROM current c"
    kept += f" WHERE NOT EXISTS ({_same('duplicates', 'c')})" if removed else ""
    parts = {"current": _current(recipe, listed, made), "kept": kept}
    if "lengths" in made:
        parts |= _divided(recipe, parts, read) if len(config.lengths) > 1 else {}
        parts["whole"] = _whole(recipe, made)
    if "windows" in made:
        by_tables = listed is None and len(config.lengths) == 1
        parts["scored"] = (_scored_by_tables if by_tables else _scored)(recipe, made)
        having = {"windowing": [recipe.packing], "domain": config.pack.domains}
        mine = Rows(table="windows", having=having).sql("w")
        parts["packed"] = f"SELECT w.window_id, w.domain FROM windows w WHERE {mine}"
    return _with(parts)


def _with(parts: Mapping[str, str]) -> str:
    return "WITH " + ", ".join(f"{name} AS ({sql})" for name, sql in parts.items())


def _divided(
    recipe: Recipe, parts: Mapping[str, str], read: Callable[[str], Iterable[Mapping[str, Any]]]
) -> dict[str, str]:
    """Views drawn and asked (doc_id, windowing): which length is each document's, or packing."""
    config = recipe.config
    drawn = {
        "drawn": "SELECT k.doc_id, k.domain, n.n_tokens,"
        f" {buckets.fills(config)} AS fills, {buckets.draw(config, 'k.doc_id')} AS draw"
        f" FROM kept k JOIN ({_token_counts(recipe)}) AS n ON n.doc_id = k.doc_id"
    }
    cut, limits = Rows(table="drawn", lacking={"domain": config.pack.domains}), config.window
    reason = beyond(limits.min_tokens, limits.max_tokens, "d.domain", "d.n_tokens")
    sums = (
        f"{_with({**parts, **drawn})} SELECT domain, fills, draw, sum(n_tokens) AS tokens"
        f" FROM drawn d WHERE {cut.sql('d')} AND {reason} IS NULL GROUP BY domain, fills, draw"
    )
    own = buckets.windowing(recipe.cuttings.values(), buckets.divide(read(sums), config))
    packed = f"CASE WHEN {cut.sql('d')} THEN {own} ELSE {_literal(recipe.packing)} END"
    return {**drawn, "asked": f"SELECT doc_id, {packed} AS windowing FROM drawn d"}


def not_in_sources(listed: Listed | None, made: Collection[str]) -> str | None:
    """A query for documents of the tables that no source gives, `n` by domain; None: all are."""
    if listed is None or "documents" not in made:
        return None
    alone = f"NOT EXISTS (SELECT 1 FROM ({_listed_documents(listed, made)}) AS x"
    alone += " WHERE x.doc_id = d.doc_id)"
    return f"SELECT d.domain, count(*) AS n FROM documents d WHERE {alone} GROUP BY d.domain"


def places(listed: Listed | None, made: Collection[str], doc_ids: Sequence[str]) -> str | None:
    """A query for domain, source_uri and source_row of documents as they are now, by doc_id.

    None where nothing is listed, and the rows of `documents` say it.
    """
    if listed is None:
        return None
    first = _listed_documents(listed, made)
    return f"SELECT * FROM ({first}) AS f WHERE nth = 1 AND doc_id IN ({_listed(doc_ids)})"


def _current(recipe: Recipe, listed: Listed | None, made: Collection[str]) -> str:
    if listed is None:
        return "SELECT doc_id, domain FROM documents"
    first = _listed_documents(listed, made)
    return f"SELECT f.doc_id, f.domain FROM ({first}) AS f {_within_ingest(recipe, made)}"


def _listed_documents(listed: Listed, made: Collection[str]) -> str:
    """Documents of the files listed, with domain and place; each once where nth is 1."""
    if not {"origins", "listings"} <= set(made):
        return "SELECT doc_id, domain, source_uri, source_row, 1 AS nth FROM documents WHERE 1 = 0"
    rows = ", ".join(f"({_literal(n)}, {_literal(d)}, {p})" for n, d, p in listed.sources)
    order = "s.priority, s.domain, o.source_uri, o.source_row NULLS FIRST"
    gone = f" AND NOT EXISTS ({_same('forgotten', 'o')})" if "forgotten" in made else ""
    return (
        "SELECT o.doc_id, s.domain, o.source_uri, o.source_row,"
        f" row_number() OVER (PARTITION BY o.doc_id ORDER BY {order}) AS nth"
        " FROM origins o JOIN listings l ON o.source_uri = l.source_uri"
        " AND o.fingerprint = l.fingerprint"
        f" JOIN (VALUES {rows}) AS s(listing, domain, priority) ON l.listing = s.listing"
        f" WHERE l.inputs = {_literal(listed.inputs)}{gone}"
    )


def _within_ingest(recipe: Recipe, made: Collection[str]) -> str:
    """The limits of `ingest`, for current documents f that have been measured."""
    limits = recipe.config.ingest
    if (limits.min_tokens is None and limits.max_tokens is None) or "lengths" not in made:
        return "WHERE f.nth = 1"
    reason = beyond(limits.min_tokens, limits.max_tokens, "f.domain", "n.n_tokens")
    return (
        f"LEFT JOIN ({_token_counts(recipe)}) AS n ON n.doc_id = f.doc_id"
        f" WHERE f.nth = 1 AND {reason} IS NULL"
    )


def _token_counts(recipe: Recipe) -> str:
    """doc_id and n_tokens of all documents that were ever measured."""
    return (
        "SELECT doc_id, max(n_tokens) AS n_tokens FROM lengths"
        f" WHERE windowing LIKE {_literal(f'%:{recipe.tokenizer}')} GROUP BY doc_id"
    )


def _asked(recipe: Recipe, rows: str) -> str:
    """Joins rows of a table to the lengths that documents are cut at, where these are several."""
    if len(recipe.config.lengths) == 1:
        return ""
    same = f"a.doc_id = {rows}.doc_id AND a.windowing = {rows}.windowing"
    return f" JOIN asked a ON {same}"


def _whole(recipe: Recipe, made: Collection[str]) -> str:
    lengths = f"SELECT n.doc_id, n.windowing FROM lengths n{_asked(recipe, 'n')}"
    if "windows" not in made:
        return f"{lengths} WHERE coalesce(n.n_windows, 0) = 0"
    counts = "SELECT doc_id, windowing, count(*) AS n_there FROM windows GROUP BY doc_id, windowing"
    return (
        f"{lengths} LEFT JOIN ({counts}) AS c ON c.doc_id = n.doc_id AND c.windowing = n.windowing"
        " WHERE coalesce(c.n_there, 0) >= coalesce(n.n_windows, 0)"
    )


def _scored_by_tables(recipe: Recipe, made: Collection[str]) -> str:
    """All windows but those of duplicates, in the domains that are scored."""
    removed = recipe.config.dedup.enabled and "duplicates" in made
    kept = f" AND NOT EXISTS ({_same('duplicates', 'w')})" if removed else ""
    mine = f"w.windowing = {_literal(recipe.windowing)} AND {_scored_domains(recipe).sql('w')}"
    limits = recipe.config.window
    reason = beyond(limits.min_tokens, limits.max_tokens, "n.domain", "n.n_tokens")
    same = "n.doc_id = w.doc_id AND n.windowing = w.windowing"
    if "lengths" in made:
        mine += f" AND NOT EXISTS (SELECT 1 FROM lengths n WHERE {same} AND {reason} IS NOT NULL)"
    return f"SELECT w.window_id, w.doc_id, w.domain FROM windows w WHERE {mine}{kept}"


def _scored_domains(recipe: Recipe) -> Rows:
    config = recipe.config
    named = bool(config.sources or config.score.domains)
    having = {"domain": recipe.scored_domains} if named else {}
    return Rows(table="windows", having=having, lacking={"domain": config.pack.domains})


def _scored(recipe: Recipe, made: Collection[str]) -> str:
    """Windows of kept documents within the limits of `window`, in the domains that are scored."""
    if "lengths" not in made:
        return "SELECT window_id, doc_id, domain FROM windows WHERE 1 = 0"
    mine = Rows(table="windows", having={"windowing": _cut_as(recipe)})
    limits = recipe.config.window
    reason = beyond(limits.min_tokens, limits.max_tokens, "k.domain", "n.n_tokens")
    return (
        "SELECT w.window_id, w.doc_id, k.domain FROM windows w"
        f" JOIN kept k ON k.doc_id = w.doc_id{_asked(recipe, 'w')}"
        " JOIN lengths n ON n.doc_id = w.doc_id AND n.windowing = w.windowing"
        f" WHERE {mine.sql('w')} AND n.n_windows > 0"
        f" AND {_scored_domains(recipe).sql('k')} AND {reason} IS NULL"
    )


def beyond(
    least: Limits,
    most: Limits,
    domain: str = "domain",
    n_tokens: str = "n_tokens",
    quoted: Callable[[str], str] = literal,
) -> str:
    """too_short or too_long for a document beyond limits, as SQL; null within them.

    `quoted` writes a text as the SQL has it: Spark's own reads backslashes, too.
    """
    cases = [
        f"WHEN {mine} AND {n_tokens} {sign} {number} THEN '{reason}'"
        for limits, sign, reason in ((least, "<", "too_short"), (most, ">", "too_long"))
        for mine, number in _each(limits, domain, quoted)
    ]
    return f"CASE {' '.join(cases)} END" if cases else "NULL"


def _each(limits: Limits, domain: str, quoted: Callable[[str], str]) -> list[tuple[str, int]]:
    """Each limit, and whose it is."""
    if isinstance(limits, dict):
        return [(f"{domain} = {quoted(name)}", number) for name, number in limits.items()]
    return [] if limits is None else [("1 = 1", limits)]


def _same(table: str, alias: str) -> str:
    return f"SELECT 1 FROM {table} x WHERE x.doc_id = {alias}.doc_id"


def _listed(values: Values) -> str:
    """Values as SQL lists them; of no values, what nothing is equal to."""
    return ", ".join(map(_literal, values)) or "NULL"


def _literal(value: str | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return literal(value)
