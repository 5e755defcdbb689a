# Databricks notebook source
# MAGIC %md
# MAGIC # Tune the selection
# MAGIC
# MAGIC How many windows to keep of each domain, and how to mix them. Scores stay as they are; a
# MAGIC selection is a few thousand rows with a name, so make as many as you like and train on the
# MAGIC one you want.
# MAGIC
# MAGIC The paper keeps 1.5 of 12 billion tokens of each domain, one eighth, and mixes 30 % ArXiv,
# MAGIC 30 % books and 30 % code with 10 % of short text.
# MAGIC
# MAGIC | widget | meaning |
# MAGIC |---|---|
# MAGIC | config, tables, overrides | as in 01_run_pipeline |
# MAGIC | fractions | kept of each domain, to compare, separated by commas |
# MAGIC | fraction | the one to write |
# MAGIC | weights | of the mix, `arxiv=30, book=30`; empty: as selected |
# MAGIC | name | of the selection; empty: nothing is written |

# COMMAND ----------

# MAGIC %pip install --quiet ../dist/longattn_spark-0.2.0-py3-none-any.whl

# COMMAND ----------

dbutils.library.restartPython()

# COMMAND ----------

import pandas as pd

import longattn
from longattn import figures

dbutils.widgets.text("config", "/Volumes/main/longattn/files/longattn.yaml", "Config")
dbutils.widgets.text("tables", "", "Tables: folder or catalog.schema")
dbutils.widgets.text("overrides", "", "Overrides: key=value; key=value")
dbutils.widgets.text("fractions", "0.05, 0.125, 0.25, 0.5", "Fractions to compare")
dbutils.widgets.text("fraction", "0.125", "Fraction to write")
dbutils.widgets.text("weights", "", "Weights of the mix")
dbutils.widgets.text("name", "", "Name of the selection")

# COMMAND ----------

weights = ", ".join(w.replace("=", ": ") for w in dbutils.widgets.get("weights").split(","))
overrides = [part.strip() for part in dbutils.widgets.get("overrides").split(";") if part.strip()]
overrides += [f"mix.weights={{{weights}}}"] if weights.strip() else []
others = {"tokens": None, "percentile": None, "threshold": None}  # ways to cut that would win
overrides += [f"select.fraction={dbutils.widgets.get('fraction')}"]
overrides += [f"select.{way}=null" for way in others]
if tables := dbutils.widgets.get("tables"):
    overrides.append(f"tables.root={tables}")
if name := dbutils.widgets.get("name"):
    overrides.append(f"select.name={name}")
candidates = longattn.Candidates(dbutils.widgets.get("config"), overrides)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What each fraction would keep
# MAGIC Windows, tokens and the lowest score kept. An LDS of 0 is the average of its domain: where
# MAGIC the lowest one falls below it, the fraction is larger than what stands out. Other scorers
# MAGIC have another 0: of `recall` it says that far context gains nothing.

# COMMAND ----------

fractions = [float(part) for part in dbutils.widgets.get("fractions").split(",")]
choices = {f: candidates.choose(fraction=f, **others).totals for f in fractions}
table = pd.concat(choices, names=["fraction", None]).reset_index("fraction")
display(table.set_index(["domain", "fraction"]).sort_index())

# COMMAND ----------

# MAGIC %md
# MAGIC ## What the mix would be
# MAGIC Outlines are planned tokens, bars those that there are. The weights are shares of tokens. A
# MAGIC domain that has too little sets the size of the whole, unless `mix.tokens` sets it, and then
# MAGIC `mix.short` says what becomes of the gap: `error`, `shortfall` (fewer tokens) or `repeat`
# MAGIC (windows taken more than once).

# COMMAND ----------

figures.show(figures.mix(candidates.choose().mix))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Write it
# MAGIC The same job as `longattn select`, and as entered into `runs`.

# COMMAND ----------

import json

settings = {"first": "select", "to": "select", "settings": overrides}
runs = longattn.run(dbutils.widgets.get("config"), **settings).runs if name else []
dbutils.notebook.exit(json.dumps({"name": name, "windows": sum(r.outcome.rows_out for r in runs)}))
