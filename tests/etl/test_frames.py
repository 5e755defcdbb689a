"""Documents met by ids: the same ones whether the ids are broadcast or the texts are shuffled."""

import pytest
from pyspark.sql import DataFrame, SparkSession

from longattn.etl.run import frames

pytestmark = pytest.mark.spark


def plan_of(frame: DataFrame) -> str:
    return str(frame._jdf.queryExecution().executedPlan().toString())


@pytest.mark.parametrize("few", [3, 2])
def test_many_ids_are_not_broadcast(
    spark: SparkSession, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "FEW", few)
    documents = spark.createDataFrame(
        [(f"d{i}", "text") for i in range(9)], "doc_id string, text string"
    )
    ids = spark.createDataFrame([("d1", 0), ("d7", 0), ("other", 0)], "doc_id string, n int")
    threshold = spark.conf.get("spark.sql.autoBroadcastJoinThreshold")
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", -1)  # of a real table, not of this one
    try:
        chosen = frames.with_ids(documents, ids)
        assert ("BroadcastHashJoin" in plan_of(chosen)) == (few == 3)
        assert ("SortMergeJoin" in plan_of(chosen)) == (few == 2)
        assert {row.doc_id for row in chosen.collect()} == {"d1", "d7"}
        assert chosen.columns == documents.columns
    finally:
        spark.conf.set("spark.sql.autoBroadcastJoinThreshold", threshold)
