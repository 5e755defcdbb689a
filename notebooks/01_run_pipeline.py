# Databricks notebook source
# MAGIC %md
# MAGIC # Run the pipeline
# MAGIC
# MAGIC From raw documents to a selected, mixed and exported data set. Every job reads Delta tables
# MAGIC and writes Delta tables, and a job that is run again does only what is missing.
# MAGIC
# MAGIC | job | what it does |
# MAGIC |---|---|
# MAGIC | ingest | reads sources into `documents`; refuses bad records by name |
# MAGIC | dedup | finds exact and near duplicates and says who lost to whom |
# MAGIC | windows | tokenises and cuts windows of equal length |
# MAGIC | score | measures each window's long-range attention; wants a GPU |
# MAGIC | select | keeps the best windows of each domain and mixes them |
# MAGIC | export | writes Parquet, JSONL, Megatron or MDS |
# MAGIC | report | draws one HTML page of it all |
# MAGIC
# MAGIC | widget | needed | meaning |
# MAGIC |---|---|---|
# MAGIC | config | yes | the YAML file of settings, a workspace or volume path |
# MAGIC | tables | no | a folder, or `catalog.schema`; empty: what the config says |
# MAGIC | overrides | no | `key=value` pairs separated by `;` |
# MAGIC | from, to | yes | the first and the last job to run |

# COMMAND ----------

# MAGIC %pip install --quiet ../dist/longattn_spark-0.2.0-py3-none-any.whl

# COMMAND ----------

dbutils.library.restartPython()

# COMMAND ----------

from longattn.etl.run.jobs import JOBS

dbutils.widgets.text("config", "/Volumes/main/longattn/files/longattn.yaml", "Config")
dbutils.widgets.text("tables", "", "Tables: folder or catalog.schema")
dbutils.widgets.text("overrides", "", "Overrides: key=value; key=value")
dbutils.widgets.dropdown("from", "ingest", list(JOBS), "From job")
dbutils.widgets.dropdown("to", "report", list(JOBS), "To job")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Settings
# MAGIC What the command line would get as `--config` and `--set`. A misspelt key stops here, in one
# MAGIC line that says which key was meant.

# COMMAND ----------

from longattn.etl.config import load

overrides = [part.strip() for part in dbutils.widgets.get("overrides").split(";") if part.strip()]
if tables := dbutils.widgets.get("tables"):
    overrides.append(f"tables.root={tables}")
config = load(dbutils.widgets.get("config"), overrides)
print(f"config {config.hash}; tables in {config.tables.root}; domains {', '.join(config.sources)}")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Run
# MAGIC A line a job: rows in, rows out, rows refused by reason. They must balance, or the job has
# MAGIC failed.

# COMMAND ----------

from longattn.etl.console import run_jobs

order = list(JOBS)
first, last = (order.index(dbutils.widgets.get(name)) for name in ("from", "to"))
runs = run_jobs(config, order[first : last + 1])

# COMMAND ----------

# MAGIC %md
# MAGIC ## What is there now

# COMMAND ----------

from longattn.etl.after.status import status
from longattn.etl.console import open_context

found = status(open_context(config, quiet=True)).as_dict()
for name, table in found["tables"].items():
    print(f"{name:<12} version {table['version']}  {table['rows']:>12,} rows  {table['domains']}")

# COMMAND ----------

import json

dbutils.notebook.exit(json.dumps({run.job: run.outcome.rows_out for run in runs}))
