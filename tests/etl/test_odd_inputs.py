"""Inputs that are not wrong enough to stop for: what becomes of each, in one run."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from longattn.etl.scoring.job import _commit
from longattn.etl.tables.schema import SCORES
from tests.commands import longattn
from tests.udfs.test_odd_records import POINTER


def test_a_batch_without_scores_is_no_commit() -> None:
    """Spark makes no frame of no rows."""
    types = {name: pa.string() for name in SCORES.columns}
    nothing = pa.schema(types).empty_table()
    assert _commit(None, nothing, None) == (0, 0)  # type: ignore[arg-type]


@pytest.mark.spark
def test_a_run_over_odd_inputs(spark: Any, tmp_path: Path) -> None:
    texts = [" ".join(f"w{d}x{n % 60}" for n in range(200)) for d in range(6)]
    data = tmp_path / "in"
    for name in ("lfs", "eval"):
        (data / name).mkdir(parents=True)
    lines = [json.dumps({"text": text}) for text in texts[:2]]
    (data / "lfs" / "good.jsonl").write_text("\n".join(lines))
    (data / "lfs" / "gone.jsonl").write_text(POINTER)
    rows = {"id": [str(n) for n in range(4)], "lang": ["en", "de"] * 2, "text": texts[2:]}
    pq.write_to_dataset(pa.table(rows), data / "hive", partition_cols=["lang"])
    short, long = "three short words", " ".join(texts[0].split()[20:40])
    items = [json.dumps({"question": text}) for text in (short, long, short)]
    (data / "eval" / "quiz.jsonl").write_text("\n".join(items))
    hive = {"path": str(data / "hive"), "format": "parquet", "id": "id", "meta": ["lang"]}
    settings = {
        "tables": {"root": str(tmp_path / "tables")},
        "sources": {
            "lfs": [{"path": str(data / "lfs")}],
            "hive": [hive | {"where": {"lang": ["en"]}}],
        },
        "tokenizer": "words",
        "window": {"length": 64},
        "score": {"scorer": "compress"},
        "decontaminate": {
            "sources": [{"path": str(data / "eval" / "quiz.jsonl"), "text": "question"}]
        },
    }
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(settings))
    code, said = longattn("run", "--to", "windows", "--config", str(config))
    assert code == 0, said
    assert "quiz: 2 of 3 items are shorter than 13 words and cannot be looked for" in said

    def table(name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (
            DeltaTable(str(tmp_path / "tables" / name)).to_pyarrow_table().to_pylist()
        )
        return found

    documents = {(row["domain"], row["source_id"]): row["meta"] for row in table("documents")}
    assert {key: json.loads(meta or "null") for key, meta in documents.items()} == {
        ("lfs", "good.jsonl#1"): None,
        ("lfs", "good.jsonl#2"): None,
        ("hive", "0"): {"lang": "en"},
        ("hive", "2"): {"lang": "en"},
    }
    assert [(row["reason"], row["source_uri"][-10:]) for row in table("rejects")] == [
        ("git_lfs_pointer", "gone.jsonl")
    ]
