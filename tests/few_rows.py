"""Spark's settings for the tests' small tables; stdlib only, for Airflow's venv too."""

# For tables of a few rows: what Spark does to make long queries fast costs more than it saves.
FEW_ROWS = {
    "spark.sql.shuffle.partitions": "2",  # a task costs more than the rows it would carry
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",  # each stage would be a job, planned anew
    "spark.databricks.delta.snapshotPartitions": "1",
    # PySpark else tells Java the line of Python of each column, which takes longer than the column.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}
