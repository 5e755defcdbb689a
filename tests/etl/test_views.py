"""Which rows are current: the views, as both engines read them, beside plain Python.

Tables are made up, by chance, and hold what no job leaves behind: windows of documents without a
length, origins of files that were read before, documents that no table has.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from longattn.etl import config as config_module
from longattn.etl.after.reading import read_logs
from longattn.etl.after.status import divided, views_of
from longattn.etl.config import Config, of_domain
from longattn.etl.dedup.recipe import Recipe as Comparison
from longattn.etl.ingest.sources import inputs_of
from longattn.etl.run.context import Context, TableSet
from longattn.etl.run.progress import Progress
from longattn.etl.run.recipe import Recipe
from longattn.etl.run.views import COLUMNS, is_packed, to_compare, to_score, with_views
from longattn.etl.tables.open import open_tables
from longattn.etl.windows.current import query
from longattn.udfs.scorers.registry import scorer_version
from tests.conftest import has_jars
from tests.etl.test_status import append

pytestmark = pytest.mark.spark

Row = dict[str, Any]
Rows = list[Row]
ODD = "it's {odd}\\n"  # a domain whose name each engine has to be told in its own way
SETTINGS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "limits of all": {"ingest": {"min_tokens": 20}, "window": {"length": 16, "max_tokens": 80}},
    "limits by domain, packed, no dedup": {
        "ingest": {"max_tokens": {ODD: 70}},
        "window": {"length": 16, "min_tokens": {"book": 30, "code": 40}},
        "pack": {"domains": ["code"]},
        "dedup": {"enabled": False},
    },
    "packed, limits of the others, domains that are scored": {
        "window": {"length": 16, "min_tokens": 40},
        "pack": {"domains": ["code"]},
        "score": {"scorer": "random", "domains": [ODD]},
    },
    "several lengths": {
        "window": {"length": 64, "strategy": "tile"},
        "mix": {"buckets": {16: 0.5, 64: 0.5}},
        "pack": {"domains": ["code"]},
    },
    "by the tables": {"sources": {}, "window": {"length": 16, "min_tokens": {"book": 30}}},
}


@pytest.mark.parametrize("connector", ["delta-rs", "native"])
@pytest.mark.parametrize("name", SETTINGS)
def test_both_engines_read_what_plain_python_does(
    spark: Any, tmp_path: Path, name: str, connector: str
) -> None:
    if connector == "native" and (name != "as it comes" or not has_jars()):
        pytest.skip("one config is enough for the other connector, which needs its jars")
    config = config_of(tmp_path, SETTINGS[name], connector)
    tables = made_up(config, random.Random(name))
    for table, rows in tables.items():
        append(config, table, rows)
    by_logs, by_session = engines(spark, config)
    own = by_logs("SELECT * FROM divided") if len(config.lengths) > 1 else []
    expected = Expected(config, tables, {row["doc_id"]: row["windowing"] for row in own})
    for sql, rows in expected.answers().items():
        assert rows or "unlisted" in sql or "packed" in sql or is_packed(config) in sql, sql
        for read in (by_logs, by_session):
            assert ordered(read(sql), rows) == ordered(rows, rows), sql


def config_of(folder: Path, settings: dict[str, Any], connector: str) -> Config:
    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(folder / "tokenizer.json"))
    sources = [("book", 1), ("code", 0), (ODD, 1)]
    base = {
        "tables": {"root": str(folder / "tables"), "connector": connector},
        "sources": {d: [{"path": f"{d}.jsonl", "priority": p}] for d, p in sources},
        "tokenizer": str(folder / "tokenizer.json"),
        "window": {"length": 16},
        "score": {"scorer": "random"},
    }
    return config_module.validate(base | settings)


def engines(spark: Any, config: Config) -> tuple[Callable[[str], Rows], Callable[[str], Rows]]:
    """What reads a query over the views from the logs, and what does by Spark, as jobs do."""
    reader = read_logs(config.tables)
    assert reader is not None
    views = divided(reader, views_of(reader, config))
    tables = TableSet(open_tables(spark, config.tables))
    context = Context(spark=spark, config=config, tables=tables, progress=Progress())
    return (
        lambda sql: reader.rows(with_views(sql, views)),
        lambda sql: [row.asDict() for row in query(context, sql).collect()],
    )


def ordered(rows: Rows, like: Rows) -> list[list[Any]]:
    """The columns that are asked for, of rows in an order of their own."""
    names = list(like[0]) if like else []
    return sorted(([row[name] for name in names] for row in rows), key=str)


def made_up(config: Config, draw: random.Random) -> dict[str, Rows]:
    """Documents in all that can become of them."""
    recipe, inputs, ids = Recipe(config), inputs_of(config), [f"d{n}" for n in range(150)]
    domains = ["book", "code", ODD]
    windowings = [*recipe.cuttings.values(), recipe.packing, f"other:{recipe.tokenizer}"]
    names = [name for name, _ in inputs.sources] or ["none"]

    def some(share: float, of: Iterable[Any] = ids) -> list[Any]:
        return [one for one in of if draw.random() < share]

    def text(doc_id: str) -> Row:
        place = {"source_row": draw.choice([None, 1, 2]), "source_id": draw.choice("ab")}
        return {"doc_id": doc_id, "n_chars": len(doc_id), "meta": None, **place}

    lengths = [
        {"doc_id": doc_id, "domain": draw.choice(domains), "windowing": windowing}
        | {"n_tokens": draw.randrange(10, 100), "n_windows": draw.choice([None, 0, 1, 2])}
        | {"reason": None}
        for windowing in windowings
        for doc_id in some(0.7)
    ]
    windows = [
        {"window_id": f"{doc_id}-{windowing}-{n}", "doc_id": doc_id, "windowing": windowing}
        | {"domain": draw.choice(domains), "n_tokens": draw.randrange(1, 16)}
        for windowing in windowings
        for doc_id in some(0.6)
        for n in range(draw.randrange(3))
    ]
    version = scorer_version(recipe.spec())
    return {
        "documents": [
            text(d)
            | {"domain": draw.choice(domains), "source": "first", "priority": 0}
            | {"source_uri": "f0"}
            for d in some(0.9)
        ],
        "origins": [
            text(doc_id) | {"source_uri": f"f{n}", "fingerprint": draw.choice("xy")}
            for n in range(6)
            for doc_id in some(0.4)
        ],
        "listings": [
            {"inputs": inputs.name, "listing": draw.choice(names), "source_uri": f"f{n}"}
            | {"fingerprint": "x"}
            for n in range(5)
        ]
        + [{"inputs": "others", "listing": names[0], "source_uri": "f5", "fingerprint": "x"}],
        "forgotten": [{"doc_id": d, "source_uri": "f0", "fingerprint": "x"} for d in some(0.1)],
        "duplicates": [{"doc_id": d, "domain": "book"} for d in some(0.2)],
        "pairs": [
            {"doc_a": d, "doc_b": d, "method": draw.choice(["self", "near"])}
            | {"recipe": Comparison(config.dedup).name + draw.choice(domains)}
            for d in some(0.7)
        ],
        "lengths": lengths,
        "windows": windows,
        "scores": [
            {"window_id": w["window_id"], "domain": "book", "scorer": draw.choice([version, "old"])}
            for w in some(0.5, windows)
        ],
        "contamination": [
            {"window_id": w["window_id"], "domain": "book", "evaluation": draw.choice("ef")}
            | {"contaminated": draw.random() < 0.5}
            for w in some(0.5, windows)
        ],
    }


class Expected:
    """What the queries answer, by loops over the rows of tables."""

    def __init__(self, config: Config, tables: dict[str, Rows], own: dict[str, str]) -> None:
        self.config, self.tables, self.own = config, tables, own
        self.recipe, self.inputs = Recipe(config), inputs_of(config)
        self.duplicates = {row["doc_id"] for row in tables["duplicates"]}
        self.lengths = {(row["doc_id"], row["windowing"]): row for row in tables["lengths"]}

    def answers(self) -> dict[str, Rows]:
        joined, cut = is_packed(self.config), self.scored()
        return {
            "SELECT * FROM unlisted": self.unlisted(),
            "SELECT * FROM current": self.current(),
            "SELECT * FROM kept": self.kept(),
            f"SELECT * FROM measured WHERE {joined}": self.measured(True),
            f"SELECT * FROM measured WHERE NOT {joined}": self.measured(False),
            "SELECT * FROM due": self.unfinished(),
            "SELECT * FROM cut": self.cut(),
            "SELECT * FROM scored": cut,
            "SELECT * FROM packed": self.packed(),
            to_score(scorer_version(self.recipe.spec()), ["e"]): self.to_score(cut),
            to_compare(Comparison(self.config.dedup).name, True): self.to_compare(),
        }

    def sourced(self) -> Rows:
        """Each document as the first of its sources gives it."""
        specs = dict(self.inputs.sources)
        mine = [row for row in self.tables["listings"] if row["inputs"] == self.inputs.name]
        files = {(f["source_uri"], f["fingerprint"]): specs.get(f["listing"]) for f in mine}
        forgotten = {row["doc_id"] for row in self.tables["forgotten"]}
        places: dict[str, list[tuple[Any, Row]]] = {}
        for row in self.tables["origins"]:
            spec = files.get((row["source_uri"], row["fingerprint"]))
            if spec and row["doc_id"] not in forgotten:
                said = {"domain": spec.domain, "source": spec.source, "priority": spec.priority}
                turn = (spec.priority, spec.domain, row["source_uri"], row["source_row"] or 0)
                places.setdefault(row["doc_id"], []).append((turn, row | said))
        return [min(rows, key=lambda one: one[0])[1] for rows in places.values()]

    def unlisted(self) -> Rows:
        there = {row["doc_id"] for row in self.sourced()}
        documents = self.tables["documents"] if self.config.sources else []
        return [keep(row, "doc_id", "domain") for row in documents if row["doc_id"] not in there]

    def current(self) -> Rows:
        rows = self.sourced() if self.config.sources else self.tables["documents"]
        counted: dict[str, int] = {}
        for (doc_id, windowing), row in self.lengths.items():
            if windowing.endswith(f":{self.recipe.tokenizer}"):
                counted[doc_id] = max(row["n_tokens"], counted.get(doc_id, 0))
        limits = self.config.ingest
        known = ((row, counted.get(row["doc_id"])) for row in rows)
        wanted = [row for row, n in known if n is None or not beyond(limits, row["domain"], n)]
        return [keep(row, *COLUMNS) for row in wanted]

    def kept(self) -> Rows:
        removed = self.duplicates if self.config.dedup.enabled else set()
        return [row for row in self.current() if row["doc_id"] not in removed]

    def is_packed(self, row: Row) -> bool:
        return row["domain"] in self.config.pack.domains

    def windowing(self, row: Row) -> str | None:
        if self.is_packed(row):
            return self.recipe.packing
        return self.own.get(row["doc_id"]) if self.own else self.recipe.windowing

    def measured(self, is_packed: bool) -> Rows:
        rows = [row for row in self.kept() if self.is_packed(row) == is_packed]
        known = ((row, self.lengths.get((row["doc_id"], self.windowing(row)))) for row in rows)
        return [
            keep(row, "doc_id", "domain")
            | keep(length, "windowing", "n_tokens", "n_windows")
            | {"reason": self.reason(row["domain"], length["n_tokens"])}
            for row, length in known
            if length
        ]

    def reason(self, domain: str, n_tokens: int) -> str | None:
        exempt = domain in self.config.pack.domains
        return beyond(self.config.window, domain, n_tokens, exempt)

    def unfinished(self) -> Rows:
        there = Counter((w["doc_id"], w["windowing"]) for w in self.tables["windows"])
        rows = []
        for row in self.kept():
            key = row["doc_id"], self.windowing(row)
            known = self.lengths.get(key)
            n_there = 0 if self.is_packed(row) else there[key]
            if known is None or n_there < (known["n_windows"] or 0):
                known_as = known and known["windowing"]
                rows.append(keep(row, "doc_id", "domain") | {"known": known_as, "n_there": n_there})
        return rows

    def cut(self) -> Rows:
        names = self.recipe.cuttings.values()
        mine = [w for w in self.tables["windows"] if w["windowing"] in names]
        if not self.config.sources:
            return [row for w in mine if (row := self.by_tables(w))]
        documents = {row["doc_id"]: row for row in self.measured(False)}
        both = ((w, documents.get(w["doc_id"])) for w in mine)
        return [
            window(w, row["domain"], row["n_tokens"])
            for w, row in both
            if row
            and (row["windowing"], row["reason"]) == (w["windowing"], None)
            and row["n_windows"]
        ]

    def by_tables(self, w: Row) -> Row | None:
        length = self.lengths.get((w["doc_id"], w["windowing"]))
        if w["doc_id"] in self.duplicates:
            return None
        if length and self.reason(length["domain"], length["n_tokens"]):
            return None
        return window(w, w["domain"], length["n_tokens"] if length else w["n_tokens"])

    def scored(self) -> Rows:
        named = self.config.score.domains or list(self.config.sources)
        return [row for row in self.cut() if row["domain"] in named or not named]

    def packed(self) -> Rows:
        return [
            keep(w, "window_id", "domain", "n_tokens")
            for w in self.tables["windows"]
            if w["windowing"] == self.recipe.packing and self.is_packed(w)
        ]

    def to_score(self, windows: Rows) -> Rows:
        version = scorer_version(self.recipe.spec())
        scores, hits = self.tables["scores"], self.tables["contamination"]
        done = {row["window_id"] for row in scores if row["scorer"] == version}
        done |= {w["window_id"] for w in hits if w["contaminated"] and w["evaluation"] == "e"}
        return [w for w in windows if w["window_id"] not in done]

    def to_compare(self) -> Rows:
        name = Comparison(self.config.dedup).name
        done = {(p["doc_a"], p["recipe"]) for p in self.tables["pairs"] if p["method"] == "self"}
        new = (row for row in self.current() if (row["doc_id"], name + row["domain"]) not in done)
        return [keep(row, "doc_id") for row in new]


def keep(row: Row, *names: str) -> Row:
    return {name: row[name] for name in names}


def window(w: Row, domain: str, doc_tokens: int) -> Row:
    return keep(w, "window_id", "doc_id", "n_tokens") | {"domain": domain, "doc_tokens": doc_tokens}


def beyond(limits: Any, domain: str, n_tokens: int, exempt: bool = False) -> str | None:
    """`exempt` from limits that are not given by domain."""

    def of(limit: Any) -> int | None:
        return None if exempt and not isinstance(limit, dict) else of_domain(domain, limit)

    if (least := of(limits.min_tokens)) is not None and n_tokens < least:
        return "too_short"
    most = of(limits.max_tokens)
    return "too_long" if most is not None and n_tokens > most else None
