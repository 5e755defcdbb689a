"""Calibration through the tables, and the cascade that follows it; random stands for fargain."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import functions as F

from longattn.etl import config as config_module
from longattn.etl.ranking import candidates, cascade
from longattn.etl.run.context import Context
from longattn.etl.run.ledger import record
from longattn.etl.scoring import calibrate
from longattn.etl.scoring import job as score
from longattn.etl.selection import current
from longattn.etl.selection import job as selection
from longattn.etl.tables.schema import WINDOWS
from longattn.udfs.scorers.kinds.calibrated import Calibration

pytestmark = pytest.mark.spark
LENGTH = 256


@pytest.fixture
def context(
    make_context: Callable[..., Context], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Context:
    """Sixty windows of thirty documents; one is a duplicate."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    tokenizer = str(tmp_path / "tokenizer.json")
    Tokenizer(WordLevel({"a": 0}, unk_token="a")).save(tokenizer)
    monkeypatch.setattr(calibrate, "TRUTH", "random")
    monkeypatch.setattr(calibrate, "CHEAP", ("recurrence", "cohesion"))
    made = make_context(
        tokenizer=tokenizer,
        sources={"book": [], "code": []},
        window={"length": LENGTH},
        score={"scorer": "random", "also": {"recurrence": {"k": 32}}},
        select={"fraction": 0.25, "compare": [], "ablate_alpha": []},
    )
    made.tables.append("windows", windows(made))
    lost = [("d000", "d002", "exact", 1.0, "book")]
    columns = made.tables["duplicates"].spec.schema
    made.tables.append("duplicates", made.spark.createDataFrame(lost, columns))
    return made


def windows(context: Context) -> Any:
    rng = np.random.default_rng(0)
    rows = [
        {
            "window_id": f"w{i:03}",
            "doc_id": f"d{i // 2:03}",
            "domain": ("book", "code")[i // 2 % 2],
            "window_index": i % 2,
            "n_tokens": LENGTH,
            "windowing": context.recipe.windowing,
            "token_ids": rng.integers(0, 60, LENGTH).tolist(),
        }
        for i in range(60)
    ]
    return context.spark.createDataFrame(rows, WINDOWS.schema)


def changed(context: Context, **sections: Any) -> Context:
    settings = context.config.model_dump()
    for name, section in sections.items():
        settings[name] |= section
    return replace(context, config=config_module.validate(settings))


def selected(context: Context) -> set[str]:
    selection.run(context)
    _, rows = current.current_selection(context)
    return {row["window_id"] for row in rows.collect()}


def test_from_a_sample_to_a_cascade(context: Context, tmp_path: Path) -> None:
    out, result = tmp_path / "calibrated", calibrate.Result()
    run = record(
        "calibrate",
        context,
        lambda it: calibrate.run(it, out=out, per_domain=12, result=result),
    )
    made = Calibration.read(str(out))
    assert made == result.made and made.truth_version == "random:seed=0"
    assert run.outcome is not None and run.outcome.rows_in == run.outcome.rows_out == 24
    assert {name: line.windows for name, line in made.domains.items()} == {
        "": 24,
        "book": 12,
        "code": 12,
    }
    counts = context.tables["scores"].read().groupBy("scorer").count().collect()
    assert {row["scorer"].split(":")[0]: row["count"] for row in counts} == {
        "random": 24,
        "recurrence": 24,
        "cohesion": 24,
    }

    by = {"scorer": "calibrated", "model": str(out), "also": {}}
    narrow = changed(context, score={**by, "cascade": 0.5})
    outcome = score.run(narrow)
    assert outcome.rows_out == 58 and 0 < outcome.metrics["exact_windows"] < 58 - 24
    rows = candidates.considered(narrow).toPandas().set_index("window_id")
    exact = context.tables["scores"].read().where("scorer = 'random:seed=0'").toPandas()
    exact = exact.set_index("window_id")["ds"]
    near = sorted(candidates.settled(narrow))  # a window of the sample may be far from the cut
    np.testing.assert_allclose(rows["ds"].reindex(near), exact.reindex(near))
    errors = [line.error for d in ("book", "code") for line in made.domains[d].lines]
    assert set(rows.drop(index=near)["ds_se"]) <= set(errors)
    renamed = context.tables["scores"].read().withColumn("domain", F.lit("as it was called"))
    context.tables["scores"].overwrite(renamed)  # a window's domain is that of now
    again = candidates.considered(narrow.fresh()).toPandas().set_index("window_id")
    assert again["ds"].to_dict() == rows["ds"].to_dict()
    others = rows.drop(index=exact.index)
    wide = changed(context, score={**by, "cascade": 1000.0})
    assert score.run(wide).metrics["exact_windows"] == len(others)
    assert selected(wide) == selected(context)


def test_estimates_move_onto_their_domains_lines(spark: Any) -> None:
    rows = [("w1", "book", 1.0, 9.0), ("w2", "code", 2.0, 9.0), ("w3", "new", 3.0, 9.0)]
    rows.append(("w4", "book", 2.0, 9.0))
    scores = spark.createDataFrame(rows, "window_id string, domain string, ds double, ds_se double")
    every = -np.inf, np.inf
    lines: list[cascade.Line] = [
        ("", *every, 0.0, 1.0, 0.5),
        ("book", -np.inf, 2.0, 10.0, 2.0, 0.1),
        ("book", 2.0, np.inf, 6.0, 4.0, 0.3),
        ("code", *every, 20.0, -1.0, 0.2),
    ]
    found = cascade.as_exact(scores, lines).orderBy("window_id").collect()
    assert [tuple(row) for row in found] == [
        ("w1", "book", 12.0, 0.1),
        ("w2", "code", 18.0, 0.2),
        ("w3", "new", 3.0, 0.5),
        ("w4", "book", 14.0, 0.3),
    ]
