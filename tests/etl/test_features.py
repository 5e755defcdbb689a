"""Tables on which somebody switched a feature of Delta on: right rows or a refusal by its name."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from longattn.etl.tables.base import Table
from longattn.etl.tables.delta_rs import DeltaRsTable
from longattn.etl.tables.native import NativeTable
from longattn.etl.tables.schema import TableSpec
from longattn.udfs.errors import UnsupportedTableFeature

pytestmark = [pytest.mark.spark, pytest.mark.jars]
SPEC = TableSpec(
    name="probe",
    key=("id",),
    partition_by=("domain",),
    columns={
        "id": ("bigint", "key"),
        "domain": ("string", "partition"),
        "score": ("double", "a number"),
    },
)
FLAT = replace(SPEC, partition_by=())
BEFORE = {1: 0.5, 2: 1.0, 3: 1.5}
Rows = dict[int, float | None]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """How a feature is switched on in a table with the rows BEFORE, and what delta-rs may do."""

    name: str
    statements: tuple[str, ...]
    rows: Rows
    delta_rs: str  # reads and writes, reads, or refuses
    spec: TableSpec = SPEC

    def __str__(self) -> str:
        return self.name


def on(**properties: str) -> str:
    pairs = (f"'delta.{key.replace('_', '.')}' = '{value}'" for key, value in properties.items())
    return f"ALTER TABLE {{t}} SET TBLPROPERTIES ({', '.join(pairs)})"


FEATURES = [
    Feature(
        name="deletionVectors",
        statements=(on(enableDeletionVectors="true"), "DELETE FROM {t} WHERE id = 2"),
        rows={1: 0.5, 3: 1.5},
        delta_rs="refuses",
    ),
    Feature(
        name="rowTracking",
        statements=(on(enableRowTracking="true"),),
        rows=BEFORE,
        delta_rs="reads",
    ),
    Feature(
        name="columnMapping",
        statements=(
            on(columnMapping_mode="name"),
            "ALTER TABLE {t} DROP COLUMN score",  # the files still have one of this name
            "ALTER TABLE {t} ADD COLUMN score DOUBLE",
        ),
        rows=dict.fromkeys(BEFORE),
        delta_rs="refuses",
    ),
    Feature(
        name="v2Checkpoint",
        statements=(
            on(checkpointPolicy="v2", checkpointInterval="1"),
            "DELETE FROM {t} WHERE id = 2",
            "INSERT INTO {t} (id, domain, score) VALUES (2, 'a', 1.0)",
        ),
        rows=BEFORE,
        delta_rs="reads and writes",
    ),
    Feature(
        name="inCommitTimestamp",
        statements=(on(enableInCommitTimestamps="true"),),
        rows=BEFORE,
        delta_rs="reads",
    ),
    Feature(
        name="clustering",
        statements=("ALTER TABLE {t} CLUSTER BY (id)", "OPTIMIZE {t}"),
        rows=BEFORE,
        delta_rs="reads",
        spec=FLAT,
    ),
    Feature(
        name="typeWidening",
        statements=(
            on(enableTypeWidening="true"),
            "ALTER TABLE {t} ALTER COLUMN score TYPE DOUBLE",  # a FLOAT before
        ),
        rows=BEFORE,
        delta_rs="refuses",
    ),
    Feature(
        name="variantType",
        statements=("ALTER TABLE {t} ADD COLUMN more VARIANT",),
        rows=BEFORE,
        delta_rs="reads and writes",
    ),
]


@pytest.fixture(scope="module", params=FEATURES, ids=str)
def feature(request: pytest.FixtureRequest) -> Feature:
    found: Feature = request.param
    return found


@pytest.fixture(scope="module")
def made(feature: Feature, spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with the feature on, made by Delta's own SQL."""
    folder = tmp_path_factory.mktemp("features") / "probe"
    table = f"delta.`{folder}`"
    score = "FLOAT" if feature.name == "typeWidening" else "DOUBLE"
    by = "PARTITIONED BY (domain)" if feature.spec.partition_by else ""
    spark.sql(f"CREATE TABLE {table} (id BIGINT, domain STRING, score {score}) USING delta {by}")
    values = ", ".join(f"({key}, 'a', {score})" for key, score in BEFORE.items())
    spark.sql(f"INSERT INTO {table} SELECT /*+ COALESCE(1) */ * FROM VALUES {values}")
    for statement in feature.statements:
        spark.sql(statement.format(t=table))
    named = spark.sql(f"DESCRIBE DETAIL {table}").first().tableFeatures
    assert feature.name in {name.removesuffix("-preview") for name in named}
    return folder


@pytest.fixture
def path(made: Path, tmp_path: Path) -> str:
    """A copy of the table for a test of its own."""
    return str(shutil.copytree(made, tmp_path / "probe"))


def test_native_reads_and_writes_every_feature(feature: Feature, path: str, spark: Any) -> None:
    table = NativeTable(spark, feature.spec, path)
    assert rows(table) == feature.rows
    assert written(table) == feature.rows | {10: 10.0, 11: 11.0}
    table.replace_where(some(spark, 12), {"domain": "b"})
    detail = table.detail()
    assert rows(table) == feature.rows | {10: 10.0, 11: 11.0, 12: 12.0}
    assert detail is not None and detail.rows == len(feature.rows) + 3


def test_delta_rs_is_right_or_says_which_feature(feature: Feature, path: str, spark: Any) -> None:
    table = DeltaRsTable(spark, feature.spec, path)
    assert told(lambda: rows(table), feature) == ("refuses" not in feature.delta_rs)
    if "reads" in feature.delta_rs:
        assert rows(table) == feature.rows
    assert told(lambda: written(table), feature) == ("writes" in feature.delta_rs)
    added = {10: 10.0, 11: 11.0} if "writes" in feature.delta_rs else {}
    assert rows(NativeTable(spark, feature.spec, path)) == feature.rows | added


def told(use: Callable[[], Any], feature: Feature) -> bool:
    """Whether a use goes through; a refusal must name the feature."""
    try:
        use()
    except UnsupportedTableFeature as refusal:
        assert feature.name in str(refusal)
        return False
    return True


def rows(table: Table) -> Rows:
    return {row["id"]: row["score"] for row in table.read().collect()}


def written(table: Table) -> Rows:
    """The rows after an append of 10 and a merge of 10 and 11."""
    table.append(some(table.spark, 10))
    table.merge(some(table.spark, 10, 11))
    return rows(table)


def some(spark: Any, *keys: int) -> Any:
    given = [(key, "b" if key == 12 else "a", float(key)) for key in keys]
    return spark.createDataFrame(given, SPEC.schema).coalesce(1)
