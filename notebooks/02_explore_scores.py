# Databricks notebook source
# MAGIC %md
# MAGIC # Explore the scores
# MAGIC
# MAGIC A window of $L$ tokens is scored by the causal attention of a model's first layer, $M$, and
# MAGIC by its *far block* only: the entries whose query and key are at least $k = L/4$ tokens
# MAGIC apart.
# MAGIC
# MAGIC * **Dependency strength** $DS = \frac{1}{L}\sum_{far} M$: of an average token's attention,
# MAGIC   how much goes further back than $k$. 0 when everything a token needs is near.
# MAGIC * **Dependency uniformity** $DU = -\mathrm{Var}(M_{far})$: near 0 when far attention is
# MAGIC   spread evenly, and more negative when few keys draw it all, as the first token often does.
# MAGIC * **Long-dependency score** $LDS = \mathrm{Std}(DS) + \alpha\,\mathrm{Std}(DU)$, each
# MAGIC   standardised within its domain, so that books compete with books and code with code.
# MAGIC
# MAGIC The table keeps the sums per head, so everything below is arithmetic on stored numbers:
# MAGIC change a widget, run the cells under it again, and no model is asked anything.
# MAGIC
# MAGIC | widget | meaning |
# MAGIC |---|---|
# MAGIC | config, tables, overrides | as in 01_run_pipeline |
# MAGIC | alpha | weight of uniformity against strength; the paper takes 0.5 |
# MAGIC | percentile | windows above it are kept, in each domain |
# MAGIC | domain | whose best and worst windows are shown |

# COMMAND ----------

# MAGIC %pip install --quiet ../dist/longattn_spark-0.1.0-py3-none-any.whl

# COMMAND ----------

dbutils.library.restartPython()

# COMMAND ----------

from etl.config import load
from etl.jobs.select import considered
from etl.report import figures
from etl.stages import select as stage
from etl.surface import open_context

dbutils.widgets.text("config", "/Volumes/main/longattn/files/longattn.yaml", "Config")
dbutils.widgets.text("tables", "", "Tables: folder or catalog.schema")
dbutils.widgets.text("overrides", "", "Overrides: key=value; key=value")
dbutils.widgets.text("alpha", "0.5", "alpha")
dbutils.widgets.text("percentile", "87.5", "Keep above percentile")
dbutils.widgets.text("domain", "", "Domain to look at; empty: the first")

# COMMAND ----------

overrides = [part.strip() for part in dbutils.widgets.get("overrides").split(";") if part.strip()]
if tables := dbutils.widgets.get("tables"):
    overrides.append(f"tables.root={tables}")
config = load(dbutils.widgets.get("config"), overrides)
context = open_context(config)
scored = considered(context).cache()
display(scored.groupBy("domain").count().orderBy("domain"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Try alpha and the percentile
# MAGIC Faint bars are all windows, full ones those kept. With a larger alpha, windows whose far
# MAGIC attention sits on a few keys move to the left.

# COMMAND ----------

alpha = float(dbutils.widgets.get("alpha"))
percentile = float(dbutils.widgets.get("percentile"))
settings = config.select.model_copy(
    update={"by": "lds", "alpha": alpha, "percentile": [percentile, 100.0], "threshold": None}
)
kept = stage.select(scored, settings, config.seed)
lds = stage.long_dependency_score(scored, settings).select("window_id", "domain", "ds", "du", "lds")
windows = lds.toPandas()
chosen = kept.select("window_id", "domain", "lds", "rank", "percentile").toPandas()
windows["selected"] = windows["window_id"].isin(chosen["window_id"])
cuts = chosen.groupby("domain")["lds"].min().to_dict()
figures.distribution(windows, "lds", cuts).show()

# COMMAND ----------

# MAGIC %md
# MAGIC ## Strength against uniformity
# MAGIC The line between kept and not kept falls with slope $-\alpha$ in standardised units: a point
# MAGIC to the right may be lower and still be kept.

# COMMAND ----------

figures.scatter(windows).show()

# COMMAND ----------

# MAGIC %md
# MAGIC ## How much does alpha matter?
# MAGIC Of the windows kept above, the share that other choices keep too. `random` says what chance
# MAGIC would give: about the share that is kept. Where `length` comes close to the score, the score
# MAGIC may only be measuring length.

# COMMAND ----------

others = {
    name: stage.select(scored, variant, config.seed)
    for name, variant in stage.variants(settings).items()
}
shares = stage.overlaps(kept, others).toPandas()
figures.overlap(shares).show()

# COMMAND ----------

# MAGIC %md
# MAGIC ## Look at the windows
# MAGIC The best and the worst of a domain, from where their text begins. A number that ranks
# MAGIC boilerplate first is not worth its GPU-hours; look before you select.

# COMMAND ----------

from pyspark.sql import functions as F

domain = dbutils.widgets.get("domain") or sorted(set(windows["domain"]))[0]
ranked = windows[windows["domain"] == domain].sort_values("lds", ascending=False)
ends = {"best": ranked.head(2), "worst": ranked.tail(2)}
spans = context.tables.read("windows").select("window_id", "doc_id", "start_char")
documents = context.tables.read("documents").select("doc_id", "source_id", "text")
for name, rows in ends.items():
    ids = rows["window_id"].tolist()
    texts = spans.where(F.col("window_id").isin(ids)).join(documents, "doc_id", "left")
    excerpt = F.expr("substring(text, int(start_char) + 1, 400)").alias("excerpt")
    found = {row["window_id"]: row for row in texts.select("*", excerpt).drop("text").collect()}
    for window in rows.itertuples():
        row = found[window.window_id]
        print(f"{name} of {domain}: LDS {window.lds:.3f}, {row['source_id']}, {window.window_id}")
        print(f"    {' '.join((row['excerpt'] or 'packed from several').split())}\n")

# COMMAND ----------

import json

dbutils.notebook.exit(json.dumps({"alpha": alpha, "kept": len(chosen), "scored": len(windows)}))
