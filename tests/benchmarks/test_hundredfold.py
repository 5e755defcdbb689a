"""The corpus of a hundred demos: documents of the same lengths, distinct but for the copies."""

import random

from benchmarks.hundredfold import COPIED, compared, facts, foretold, multiplied, passages
from longattn.udfs.text.minhash import MinHash, estimate, fingerprint

LINES = [
    " ".join(random.Random(n).choices([f"w{i}" for i in range(500)], k=12)) for n in range(4_000)
]
DOCUMENTS = ["\n".join(LINES[n : n + 300]) for n in range(0, 4_000, 400)]


def test_passages_are_the_text() -> None:
    pieces = list(passages(DOCUMENTS[0]))
    assert len(pieces) > 3 and "\n".join(pieces) == DOCUMENTS[0]


def test_documents_are_distinct_but_for_the_copies() -> None:
    made = list(multiplied(DOCUMENTS, 20, random.Random(0)))
    assert len(made) == 20 * len(DOCUMENTS)
    minhash = MinHash(ngram=5, permutations=128, bands=16, rows=8)
    prints = [fingerprint(text, minhash).signature.astype("<u4").tobytes() for text in made]
    copies = sum(
        any(estimate([one], [other])[0] > 0.7 for other in prints[:place])
        for place, one in enumerate(prints)
    )
    assert 0.5 * COPIED < copies / len(made) < 2 * COPIED


def test_every_figure_of_a_run_is_foretold() -> None:
    job = {"rows_in": 8, "rows_out": 6, "refused": {"exact": 2}}
    metrics = {"tokens": 80, "parquet/bytes": 9, "parquet/samples": 1}
    names = ("ingest", "dedup", "windows", "score", "export")
    tables = {name: {"bytes": 5} for name in ("documents", "windows", "scores")}
    status = {"jobs": dict.fromkeys(names, job | {"metrics": metrics}), "tables": tables}
    one = {"value": 4.0, "low": 3.0, "high": 5.0}
    said = dict.fromkeys(("documents", "duplicates", "tokens", "windows"), one)
    sizes = dict.fromkeys((*tables, "export.parquet"), one)
    hours = {"scoring": one, "all but scoring": one}
    lines = list(
        compared(foretold({**said, "bytes": sizes, "cpu_hours": hours}), facts(status, 7200))
    )
    assert "| windows | 4 | 3 to 5 | 8 | 0.50 |" in lines
    assert "| CPU hours | 8 | 6 to 10 | 2 | 4.00 |" in lines
    assert "| bytes of export.parquet | 4 | 3 to 5 | 9 | 0.44 |" in lines
