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
# MAGIC | score | scores each window by one scorer or several; those that read a model want a GPU |
# MAGIC | select | keeps the best windows of each domain and mixes them |
# MAGIC | export | writes up to six formats for trainers |
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

from longattn import JOBS

dbutils.widgets.text("config", "/Volumes/main/longattn/files/longattn.yaml", "Config")
dbutils.widgets.text("tables", "", "Tables: folder or catalog.schema")
dbutils.widgets.text("overrides", "", "Overrides: key=value; key=value")
dbutils.widgets.dropdown("from", "ingest", list(JOBS), "From job")
dbutils.widgets.dropdown("to", "report", list(JOBS), "To job")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Run
# MAGIC What the command line would get as `--config` and `--set`. A misspelt key stops here, in
# MAGIC one line that says which key was meant. A line a job: rows in, rows out, rows refused by
# MAGIC reason. They must balance, or the job has failed.

# COMMAND ----------

import longattn

overrides = [part.strip() for part in dbutils.widgets.get("overrides").split(";") if part.strip()]
if tables := dbutils.widgets.get("tables"):
    overrides.append(f"tables.root={tables}")
result = longattn.run(
    dbutils.widgets.get("config"),
    first=dbutils.widgets.get("from"),
    to=dbutils.widgets.get("to"),
    settings=overrides,
)
print(result)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What is there now

# COMMAND ----------

print(result.sizes.to_string())

# COMMAND ----------

import json

ledger = result.ledger
dbutils.notebook.exit(json.dumps(dict(zip(ledger["job"], ledger["rows_out"], strict=True))))
