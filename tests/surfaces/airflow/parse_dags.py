"""Parse and serialise airflow_dags/ as Airflow does; print what came of it as one line of JSON."""

import json
import sys
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization

HEAVY = {"torch", "transformers", "pyspark", "pandas", "numpy", "pyarrow", "etl", "udfs"}


def main(folder: Path) -> None:
    before = set(sys.modules)
    bag = BundleDagBag(dag_folder=str(folder), bundle_path=folder, bundle_name="dags-folder")
    heavy = sorted((set(sys.modules) - before) & HEAVY)
    dags = {name: described(dag) for name, dag in bag.dags.items()}
    print("\n" + json.dumps({"errors": bag.import_errors, "heavy": heavy, "dags": dags}))


def described(dag: Any) -> dict[str, Any]:
    text = json.dumps(DagSerialization.to_dict(dag))  # what the scheduler gets instead of the code
    return {
        "params": {name: dag.params.get_param(name).schema for name in dag.params},
        "waits_for_scores": "longattn_scores" in json.dumps(json.loads(text)["dag"]["timetable"]),
        "tasks": {
            task.task_id: {
                "type": task.task_type,
                "downstream": sorted(task.downstream_task_ids),
                "retries": task.retries,
                "pool": task.pool,
                "outlets": [asset.name for asset in task.outlets],
                "told": bool(task.on_failure_callback),
                "deferrable": getattr(task, "partial_kwargs", vars(task)).get("deferrable", False),
                "minutes": task.execution_timeout.total_seconds() / 60,
            }
            for task in dag.tasks
        },
    }


main(Path(sys.argv[1]))
