"""Documents met by ids: the same ones whether the ids are broadcast or the texts are shuffled."""

import pytest
from pyspark.sql import DataFrame, SparkSession

from longattn.etl.dedup import ids as stage

pytestmark = pytest.mark.spark


def plan_of(frame: DataFrame) -> str:
    return str(frame._jdf.queryExecution().executedPlan().toString())


@pytest.mark.parametrize("few", [3, 2])
def test_many_ids_are_not_broadcast(
    spark: SparkSession, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "FEW", few)
    documents = spark.createDataFrame(
        [(f"d{i}", "text") for i in range(9)], "doc_id string, text string"
    )
    ids = spark.createDataFrame([("d1", 0), ("d7", 0), ("other", 0)], "doc_id string, n int")
    threshold = spark.conf.get("spark.sql.autoBroadcastJoinThreshold")
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", -1)  # of a real table, not of this one
    try:
        chosen, left = stage.with_ids(documents, ids), stage.without_ids(documents, ids)
        for frame in (chosen, left):
            assert ("BroadcastHashJoin" in plan_of(frame)) == (few == 3)
            assert ("SortMergeJoin" in plan_of(frame)) == (few == 2)
        assert {row.doc_id for row in chosen.collect()} == {"d1", "d7"}
        assert {row.doc_id for row in left.collect()} == {f"d{i}" for i in (0, 2, 3, 4, 5, 6, 8)}
        assert chosen.columns == documents.columns
    finally:
        spark.conf.set("spark.sql.autoBroadcastJoinThreshold", threshold)
