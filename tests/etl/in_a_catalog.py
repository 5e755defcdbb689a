"""Commands on tables of Hive's metastore, in a process of its own: a session has one catalog.

    python -m tests.etl.in_a_catalog FOLDER

Prints what came of them as JSON. The metastore is Derby's, in memory, and ends with the process.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from longattn.etl import config as config_module
from longattn.etl.session import get_spark
from longattn.etl.tables.lease import DeltaRegister, Holder, Lease, steady_clock
from tests.commands import longattn
from tests.conftest import jars
from tests.etl.test_everywhere import documents, settings
from tests.few_rows import FEW_ROWS

SCHEMA = "spark_catalog.longattn"


def main(folder: Path) -> None:
    path = configure(folder)
    spark = get_spark(config_module.load(path).spark)
    found = {"no schema": command("ingest", path)}
    spark.sql(f"CREATE SCHEMA {SCHEMA}")
    found["run"] = command("run", path, "--to", "select")  # later jobs write no tables
    window = spark.table(f"{SCHEMA}.windows").first()
    assert window is not None
    found["trace"] = command("trace", path, window.window_id)
    for name, words in {"status": ["status"], "check": ["status", "--check"]}.items():
        found[name] = command(words[0], path, *words[1:])
    left = f"{SCHEMA}._ingest_{'0' * 32}_rows"  # by a run that was killed
    spark.sql(f"CREATE TABLE {left} USING parquet AS SELECT 1 AS text")
    found["vacuum"] = command("vacuum", path, "--apply", "--hours", "0")
    found["again"] = command("run", path, "--to", "score")
    found["held"] = while_held(folder / "warehouse" / "longattn.db", path)
    elsewhere = folder / "leases"
    named = ("--set", f"tables.lease_folder={elsewhere}")
    found["held by a folder named"] = while_held(elsewhere / SCHEMA, path, *named)
    tables = spark.sql(f"SHOW TABLES IN {SCHEMA}").collect()
    kept = sorted(row.tableName for row in tables if not row.isTemporary)
    print(json.dumps(found | {"tables": kept}))


def configure(folder: Path) -> Path:
    (folder / "book").mkdir()
    (folder / "book" / "1.jsonl").write_text(documents("b", range(4)))
    conf = {
        **FEW_ROWS,
        "spark.jars": jars("delta"),
        "spark.sql.catalogImplementation": "hive",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.hadoop.javax.jdo.option.ConnectionURL": "jdbc:derby:memory:metastore;create=true",
    }
    spark = {"master": "local[2]", "conf": conf}
    given = settings(str(folder), "native", spark=spark, export={})
    given["tables"]["root"] = SCHEMA
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


def command(name: str, config: Path, *words: str) -> dict[str, Any]:
    """A command's exit code and all that it printed."""
    code, out = longattn(name, *words, "--config", str(config))
    return {"code": code, "out": out}


def while_held(folder: Path, config: Path, *words: str) -> dict[str, Any]:
    """What the next run says while a process of another machine holds the schema by that folder."""
    holder = Holder(token="t", job="windows", run_id="r", machine="elsewhere", pid=7)
    lease = Lease(DeltaRegister(str(folder / "_lease")), holder, 60, steady_clock)
    assert lease.take() is None
    said = command("ingest", config, "--set", "tables.wait=0", *words)
    return said | {"known": lease.known}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
