"""What the report shows of records that were refused and of near duplicates."""

from collections.abc import Callable
from typing import Any

import pytest

from longattn.etl.ingest.current import current_documents
from longattn.etl.report.refused import BEFORE, near_pairs, refused_records
from longattn.etl.run.context import Context
from longattn.etl.tables.schema import DOCUMENTS, DUPLICATES, REJECTS

pytestmark = pytest.mark.spark
START = "one road " * 40


@pytest.fixture
def context(make_context: Callable[..., Context]) -> Context:
    made = make_context(sources={"book": [{"path": "b"}], "code": [{"path": "c"}]})

    def fill(spec: Any, rows: list[dict[str, Any]]) -> None:
        values = [tuple(row.get(name) for name in spec.columns) for row in rows]
        made.tables.append(spec.name, made.spark.createDataFrame(values, spec.schema))

    texts = {"a": f"{START}to the sea", "b": f"{START}to the hill", "c": "all else", "d": "all"}
    place = {"domain": "book", "source_uri": "file:/x/b.jsonl"}
    fill(DOCUMENTS, [place | {"doc_id": n, "source_id": n, "text": t} for n, t in texts.items()])
    near = {"domain": "book", "method": "near"}
    fill(
        DUPLICATES,
        [
            near | {"doc_id": "b", "kept_id": "a", "similarity": 0.9},
            near | {"doc_id": "d", "kept_id": "gone", "similarity": 0.81},
            near | {"doc_id": "c", "kept_id": "a", "similarity": 1.0, "method": "exact"},
        ],
    )
    reject = {"job": "ingest", "domain": "book", "source_uri": "file:/x/b.jsonl"}
    fill(
        REJECTS,
        [
            reject | {"reason": "broken_json", "source_row": n, "excerpt": f"{{{n}"}
            for n in (9, 3, 4)
        ]
        + [reject | {"reason": "null_text", "source_id": "w", "source_uri": None}]
        + [reject | {"reason": "null_text", "domain": "no longer a domain"}],
    )
    return made.fresh()


def test_a_pair_is_shown_from_where_its_texts_part(context: Context) -> None:
    documents = context.tables.read("documents")
    pairs = near_pairs(context.tables.read("duplicates"), current_documents(context), documents)
    (pair,) = pairs  # of the other the kept document is gone
    assert (pair.domain, pair.similarity) == ("book", 0.9)
    assert pair.names == ("b.jsonl b", "b.jsonl a")
    begin = len(f"{START}to the ") - BEFORE
    assert pair.texts == tuple(f"{START}to the {end}"[begin:] for end in ("hill", "sea"))


def test_the_first_records_of_each_reason_are_shown(context: Context) -> None:
    records = refused_records(context.tables.read("rejects"), context.config.sources)
    shown = [(one.reason, one.place, one.excerpt) for one in records]
    assert shown == [
        ("broken json", "file:/x/b.jsonl, record 3", "{3"),
        ("broken json", "file:/x/b.jsonl, record 4", "{4"),
        ("null text", "w", ""),
    ]
