"""Which rows are current, and which pending: in the SQL that Spark and DataFusion have in common.

Jobs get their rows as DataFrames (etl.ingest.current, etl.windows.current); `status` asks them of
the tables' logs, without Spark. A table that has not been made has no rows.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longattn.etl.config import Config, buckets
from longattn.etl.config.sections import IngestConfig, WindowConfig
from longattn.etl.run.recipe import Recipe
from longattn.udfs.ddl import literal
from longattn.udfs.documents.formats import SourceSpec
from longattn.udfs.scorers.identity import ScorerId
from longattn.udfs.scorers.registry import PACKED

COLUMNS = (
    *("doc_id", "domain", "source", "source_uri", "source_row", "source_id", "priority"),
    *("n_chars", "meta"),
)
LITERAL, READ = re.compile("'[^']*'"), re.compile(r"\b(?:FROM|JOIN) (\w+)")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All sources of a config: a name for each, and one for them together."""

    name: str
    sources: list[tuple[str, SourceSpec]]  # each source's name in `listings`, and its spec


@dataclass(frozen=True, kw_only=True)
class Views:
    """What the views follow from, beside the rows of tables; each method is the view of its name.

    The first line about a view says its columns.
    """

    recipe: Recipe
    inputs: Inputs | None  # None: every document of the tables is current
    division: str = ""  # what `divided_by` gives, where lengths are several
    more: Sequence[str] = ()  # further columns of `windows`, or expressions with a name

    @property
    def _config(self) -> Config:
        return self.recipe.config

    # --- documents

    def sourced(self) -> str:
        """COLUMNS of the documents of listed files, each once: as the first source gives it."""
        assert self.inputs is not None
        sources = ", ".join(
            f"({literal(name)}, {literal(spec.domain)}, {literal(spec.source)}, {spec.priority})"
            for name, spec in self.inputs.sources
        )
        order = "s.priority, s.domain, o.source_uri, o.source_row NULLS FIRST"
        return (
            f"SELECT {', '.join(COLUMNS)} FROM (SELECT o.doc_id, s.domain, s.source, o.source_uri,"
            " o.source_row, o.source_id, s.priority, o.n_chars, o.meta,"
            f" row_number() OVER (PARTITION BY o.doc_id ORDER BY {order}) AS nth"
            f" FROM listings l JOIN (VALUES {sources}) AS s(listing, domain, source, priority)"
            " ON l.listing = s.listing"
            " JOIN origins o ON o.source_uri = l.source_uri AND o.fingerprint = l.fingerprint"
            " LEFT ANTI JOIN forgotten x ON x.doc_id = o.doc_id"  # whose rows may still be there
            f" WHERE l.inputs = {literal(self.inputs.name)}) AS f WHERE nth = 1"
        )

    def unlisted(self) -> str:
        """doc_id and domain, as first read, of documents that no source of the config gives."""
        listed = self.inputs is not None
        rest = "LEFT ANTI JOIN sourced x ON x.doc_id = d.doc_id" if listed else "WHERE 1 = 0"
        return f"SELECT d.doc_id, d.domain FROM documents d {rest}"

    def current(self) -> str:
        """COLUMNS of current documents within the limits of `ingest`, each once."""
        limits = self._config.ingest
        if self.inputs is None:
            return f"SELECT {', '.join(COLUMNS)} FROM documents"
        if not limits.counts_tokens:
            return "SELECT * FROM sourced"
        return (
            "SELECT d.* FROM sourced d LEFT JOIN counted n ON n.doc_id = d.doc_id"
            f" WHERE {beyond(limits, 'd.domain', 'n.n_tokens')} IS NULL"
        )

    def counted(self) -> str:
        """doc_id and n_tokens, by the config's tokenizer, of documents that were ever measured."""
        ending = f":{self.recipe.tokenizer}"
        return (
            "SELECT doc_id, max(n_tokens) AS n_tokens FROM lengths"
            f" WHERE right(windowing, {len(ending)}) = {literal(ending)} GROUP BY doc_id"
        )

    def kept(self) -> str:
        """COLUMNS of current documents less the duplicates among them."""
        return f"SELECT c.* FROM current c{self._less_duplicates('c')}"

    def _less_duplicates(self, rows: str) -> str:
        duplicates = f" LEFT ANTI JOIN duplicates x ON x.doc_id = {rows}.doc_id"
        return duplicates if self._config.dedup.enabled else ""

    # --- lengths

    def drawn(self) -> str:
        """doc_id, domain, n_tokens, and fills and draw (etl.config.buckets), of kept documents that
        are cut and whose tokens are known.
        """
        fills, draw = buckets.fills(self._config), buckets.draw(self._config, "k.doc_id")
        return (
            f"SELECT k.doc_id, k.domain, n.n_tokens, {fills} AS fills, {draw} AS draw"
            " FROM kept k JOIN counted n ON n.doc_id = k.doc_id"
            f" WHERE NOT {is_packed(self._config, 'k.domain')}"
        )

    def divided(self) -> str:
        """doc_id and windowing, where lengths are several: the one that each document is cut at."""
        return self.division

    def named(self) -> str:
        """COLUMNS of kept documents, and the windowing of each, where that is known."""
        several = len(self._config.lengths) > 1
        cut = "d.windowing" if several else literal(self.recipe.windowing)
        packed = f"WHEN {is_packed(self._config, 'k.domain')} THEN {literal(self.recipe.packing)}"
        return (
            f"SELECT k.*, CASE {packed} ELSE {cut} END AS windowing FROM kept k"
            f"{' LEFT JOIN divided d ON d.doc_id = k.doc_id' if several else ''}"
        )

    def measured(self) -> str:
        """Columns of named documents that have a length; n_tokens, n_windows, sketch, imports, and
        the reason why they are not wanted, or null.
        """
        reason = limit(self._config, "k.domain", "n.n_tokens")
        return (
            "SELECT k.*, n.n_tokens, n.n_windows, n.sketch, n.imports,"
            f" coalesce(n.reason, {reason}) AS reason FROM named k JOIN {self._lengths()}"
        )

    def _lengths(self) -> str:
        """Rows n of named documents k; those of other configs are left out before they are met."""
        same = "n.doc_id = k.doc_id AND n.windowing = k.windowing"
        return f"lengths n ON {same} AND {among('n.windowing', self._windowings)}"

    @property
    def _windowings(self) -> tuple[str, ...]:
        return *self.recipe.cuttings.values(), self.recipe.packing

    def there(self) -> str:
        """doc_id, windowing and n_there: how many windows there are, cut as the config says."""
        return (
            "SELECT doc_id, windowing, count(*) AS n_there FROM windows"
            f" WHERE {self._is_cut()} GROUP BY doc_id, windowing"
        )

    def whole(self) -> str:
        """doc_id and windowing of documents that were measured, and whose windows are all there."""
        return (
            "SELECT k.doc_id, k.windowing FROM lengths k"
            " LEFT JOIN there c ON c.doc_id = k.doc_id AND c.windowing = k.windowing"
            f" WHERE {among('k.windowing', self._windowings)}"
            " AND coalesce(c.n_there, 0) >= coalesce(k.n_windows, 0)"
        )

    def unfinished(self) -> str:
        """doc_id, domain and windowing of named documents that are not whole."""
        return (
            "SELECT k.doc_id, k.domain, k.windowing FROM named k"
            " LEFT ANTI JOIN whole x ON x.doc_id = k.doc_id AND x.windowing = k.windowing"
        )

    def due(self) -> str:
        """Columns of unfinished documents, known (null for what was not measured), and n_there."""
        return (
            "SELECT k.*, n.windowing AS known, coalesce(c.n_there, 0) AS n_there FROM unfinished k"
            f" LEFT JOIN {self._lengths()}"
            " LEFT JOIN there c ON c.doc_id = k.doc_id AND c.windowing = k.windowing"
        )

    # --- windows

    def cut(self) -> str:
        """window_id, doc_id, domain, n_tokens, doc_tokens (of the whole document), and `more`, of
        current windows cut from one document.
        """
        if self.inputs is None and len(self._config.lengths) == 1:
            return self._by_tables()
        return (
            f"{self._windows('m.domain', 'm.n_tokens')}"
            " JOIN measured m ON m.doc_id = w.doc_id AND m.windowing = w.windowing"
            " WHERE m.n_windows > 0 AND m.reason IS NULL"
        )

    def _by_tables(self) -> str:
        """As cut, of all windows but those of duplicates; documents need not be there."""
        return (
            f"{self._windows('w.domain', 'coalesce(n.n_tokens, w.n_tokens)')}"
            f"{self._less_duplicates('w')}"
            " LEFT JOIN lengths n ON n.doc_id = w.doc_id AND n.windowing = w.windowing"
            f" WHERE NOT {is_packed(self._config, 'w.domain')}"
            f" AND {limit(self._config, 'n.domain', 'n.n_tokens')} IS NULL"
        )

    def _windows(self, domain: str, doc_tokens: str) -> str:
        """Columns of windows w, which are cut as the config says, of whatever documents."""
        columns = ("window_id", "doc_id", "windowing", "domain", "n_tokens", *self.more)
        windows = f"SELECT {', '.join(columns)} FROM windows WHERE {self._is_cut()}"
        more = "".join(f", w.{column.split(' AS ')[-1]}" for column in self.more)
        return (
            f"SELECT w.window_id, w.doc_id, {domain}, w.n_tokens, {doc_tokens} AS doc_tokens{more}"
            f" FROM ({windows}) AS w"
        )

    def _is_cut(self) -> str:
        return among("windowing", self.recipe.cuttings.values())

    def scored(self) -> str:
        """As cut, of the domains that are scored."""
        named = self._config.sources or self._config.score.domains
        mine = f" WHERE {among('domain', self.recipe.scored_domains)}" if named else ""
        return f"SELECT * FROM cut{mine}"

    def packed(self) -> str:
        """window_id, domain, n_tokens, packed_from and `more` of windows of the packed domains that
        were packed as the config says; those of earlier groups, too.

        Which groups are current follows from Spark's hashes (etl.windows.current).
        """
        columns = ", ".join(("window_id", "domain", "n_tokens", "packed_from", *self.more))
        mine = f"windowing = {literal(self.recipe.packing)} AND {is_packed(self._config)}"
        return f"SELECT {columns} FROM windows WHERE {mine}"


def with_views(sql: str, views: Views, given: Collection[str] = ()) -> str:
    """A query, with the views that it needs before it; those that are given are tables to it."""
    parts = ", ".join(f"{name} AS ({text})" for name, text in _needed(sql, views, given).items())
    return f"WITH {parts} {sql}" if parts else sql


def _needed(sql: str, views: Views, given: Collection[str]) -> dict[str, str]:
    """Views by name, each behind those that it is made of."""
    parts: dict[str, str] = {}
    for name in names_in(sql):
        if name in vars(Views) and name not in given:
            text: str = getattr(views, name)()
            parts |= _needed(text, views, given) | {name: text}
    return parts


def names_in(sql: str) -> list[str]:
    """The tables and views that a query reads, each once."""
    return list(dict.fromkeys(READ.findall(LITERAL.sub("", sql))))


# --- how documents are divided among several lengths


def to_divide(config: Config) -> str:
    """What documents are divided by: domain, fills, draw, tokens."""
    return (
        "SELECT domain, fills, draw, sum(n_tokens) AS tokens FROM drawn"
        f" WHERE {limit(config)} IS NULL GROUP BY domain, fills, draw"
    )


def divided_by(recipe: Recipe, sums: Iterable[Mapping[str, Any]]) -> str:
    """The view `divided`, of what `to_divide` gives."""
    division = buckets.divide(sums, recipe.config)
    windowing = buckets.windowing(recipe.cuttings.values(), division)
    return f"SELECT doc_id, {windowing} AS windowing FROM drawn"


# --- what a job has still to decide on: jobs read it, `status` counts it

TO_MEASURE = "SELECT * FROM unfinished"


def to_compare(name: str, by_domain: bool) -> str:
    """Current documents that were not compared in their scope: that and the name make a recipe."""
    recipe = f"concat({literal(name)}, {'w.domain' if by_domain else literal('')})"
    return (
        "SELECT w.doc_id FROM current w LEFT ANTI JOIN pairs x"
        f" ON x.doc_a = w.doc_id AND x.method = 'self' AND x.recipe = {recipe}"
    )


def to_score(version: str, evaluations: Collection[str] = ()) -> str:
    """Windows that their scorer has not seen, less those that an evaluation has."""
    hits = (
        " LEFT ANTI JOIN contamination y ON y.window_id = w.window_id AND y.contaminated"
        f" AND {among('y.evaluation', evaluations)}"
    )
    return (
        f"SELECT w.* FROM {windows_of(ScorerId.of(version).name)} w LEFT ANTI JOIN scores x"
        f" ON x.window_id = w.window_id AND x.scorer = {literal(version)}"
        f"{hits if evaluations else ''}"
    )


def windows_of(scorer: str) -> str:
    """The view of the windows that a scorer is of; cross gain is of packed ones."""
    return "packed" if scorer in PACKED else "scored"


# --- conditions


def is_packed(config: Config, domain: str = "domain") -> str:
    return among(domain, config.pack.domains)


def among(column: str, values: Collection[str]) -> str:
    """The condition that a column is one of the values."""
    return f"{column} IN ({', '.join(map(literal, values))})" if values else "1 = 0"


def limit(config: Config, domain: str = "domain", n_tokens: str = "n_tokens") -> str:
    """Why a document is beyond the limits of `window`; null within.

    For packed domains only limits given by domain hold.
    """
    return beyond(config.window, domain, n_tokens, exempt=config.pack.domains)


def beyond(
    limits: IngestConfig | WindowConfig,
    domain: str = "domain",
    n_tokens: str = "n_tokens",
    exempt: Collection[str] = (),
) -> str:
    """too_short or too_long for a document beyond limits, null within them.

    A limit that is not given by domain does not hold for those exempt.
    """
    both = (limits.min_tokens, "<", "too_short"), (limits.max_tokens, ">", "too_long")
    cases = [
        f"WHEN {mine} AND {n_tokens} {sign} {number} THEN '{reason}'"
        for given, sign, reason in both
        for mine, number in _each(given, domain, exempt)
    ]
    return f"CASE {' '.join(cases)} END" if cases else "NULL"


def _each(
    limit: int | dict[str, int] | None, domain: str, exempt: Collection[str]
) -> list[tuple[str, int]]:
    """Each limit, and the condition for whom it is."""
    if isinstance(limit, dict):
        return [(f"{domain} = {literal(name)}", number) for name, number in limit.items()]
    return [] if limit is None else [(f"NOT {among(domain, exempt)}", limit)]
