# Databricks notebook source
# MAGIC %md
# MAGIC # Explore the scores
# MAGIC
# MAGIC Windows are ranked here as the config ranks them, by the scorer that it names. The method
# MAGIC told below is that of the scorer `longattn`: the others measure something else, which the
# MAGIC axes name, and have no alpha.
# MAGIC
# MAGIC `longattn` scores a window of $L$ tokens by the causal attention of a model's first layer,
# MAGIC $M$, and by its *far block* only: the entries whose query and key are at least $k = L/4$
# MAGIC tokens apart.
# MAGIC
# MAGIC * **Dependency strength** $DS = \frac{1}{L}\sum_{far} M$: of an average token's attention,
# MAGIC   how much goes further back than $k$. 0 when everything a token needs is near.
# MAGIC * **Dependency uniformity** $DU = -\mathrm{Var}(M_{far})$: near 0 when far attention is
# MAGIC   spread evenly, and more negative when few keys draw it all, as the first token often does.
# MAGIC * **Long-dependency score** $LDS = \mathrm{Std}(DS) + \alpha\,\mathrm{Std}(DU)$, each
# MAGIC   standardised within its domain, so that books compete with books and code with code. A
# MAGIC   window of LDS 0 is an average one of its domain.
# MAGIC
# MAGIC The paper ranks by the first layer, which is cheap: its queries and keys need one
# MAGIC embedding and two projections of each token, of however large a model. The table keeps the
# MAGIC sums per head, so everything below is arithmetic on stored numbers: change a widget, run the
# MAGIC cells under it again, and no model is asked anything.
# MAGIC
# MAGIC | widget | meaning |
# MAGIC |---|---|
# MAGIC | config, tables, overrides | as in 01_run_pipeline |
# MAGIC | alpha | where LDS ranks, weight of uniformity against strength; the paper takes 0.5 |
# MAGIC | percentile | windows above it are kept, in each domain |
# MAGIC | domain | whose best and worst windows are shown |

# COMMAND ----------

# MAGIC %pip install --quiet ../dist/longattn_spark-0.2.0-py3-none-any.whl

# COMMAND ----------

dbutils.library.restartPython()

# COMMAND ----------

import numpy as np
import pandas as pd
import plotly.express as px

import longattn
from longattn import figures

dbutils.widgets.text("config", "/Volumes/main/longattn/files/longattn.yaml", "Config")
dbutils.widgets.text("tables", "", "Tables: folder or catalog.schema")
dbutils.widgets.text("overrides", "", "Overrides: key=value; key=value")
dbutils.widgets.text("alpha", "0.5", "alpha")
dbutils.widgets.text("percentile", "87.5", "Keep above percentile")
dbutils.widgets.text("domain", "", "Domain to look at; empty: the first")

# COMMAND ----------

# MAGIC %md
# MAGIC ## The method on three windows made up
# MAGIC Attention matrices of 64 tokens, queries downwards and keys to the right. What counts is the
# MAGIC triangle below the dotted line, the far block.
# MAGIC
# MAGIC * `near`: a token looks at its neighbours. Next to nothing is far, and DS is near 0.
# MAGIC * `sink`: every token looks at the first one. DS is as high as can be and means nothing, as
# MAGIC   one token draws it all: DU is far below 0. This is what uniformity is for.
# MAGIC * `spread`: a token looks at all before it alike. DS is high and DU is near 0: a window that
# MAGIC   needs its length, and the one to keep.

# COMMAND ----------

length = 64
far_from = length // 4
query, key = np.indices((length, length))
made_up = {
    "near": (key - query) / 2.0,
    "sink": np.where(key == 0, 8.0, 0.0),
    "spread": np.zeros((length, length)),
}


def attention(logits: np.ndarray) -> np.ndarray:
    """Causal softmax: a row of weights for each query, which add up to 1."""
    weights = np.where(key <= query, np.exp(logits), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def measured(matrix: np.ndarray) -> dict[str, float]:
    """DS, and DU over all entries of the matrix, as the published code has it."""
    far = np.where(query - key >= far_from, matrix, 0.0)
    return {"DS": far.sum() / length, "DU": -far.var(ddof=1)}


matrices = {name: attention(logits) for name, logits in made_up.items()}
display(pd.DataFrame({name: measured(matrix) for name, matrix in matrices.items()}).round(4).T)
stacked = np.stack(list(matrices.values()))
shown = px.imshow(stacked, facet_col=0, zmax=0.1, color_continuous_scale=figures.ATTENTION)
shown.for_each_annotation(lambda title: title.update(text=list(matrices)[int(title.text[-1])]))
corners = {"x0": 0, "y0": far_from, "x1": length - far_from, "y1": length}
shown.add_shape(type="line", **corners, line=figures.MARK, row="all", col="all")
shown.update_xaxes(title="key").update_yaxes(title="query", col=1)
shown.update_layout(coloraxis_colorbar_title="weight")
shown.update_layout(meta={"finding": "Near, sink and spread: only the third needs its length"})
figures.show(shown)

# COMMAND ----------

# MAGIC %md
# MAGIC ## The windows that were scored

# COMMAND ----------

overrides = [part.strip() for part in dbutils.widgets.get("overrides").split(";") if part.strip()]
if tables := dbutils.widgets.get("tables"):
    overrides.append(f"tables.root={tables}")
candidates = longattn.Candidates(dbutils.widgets.get("config"), overrides)
display(pd.Series(candidates.sizes, name="windows").to_frame())

# COMMAND ----------

# MAGIC %md
# MAGIC ## Try alpha and the percentile
# MAGIC Faint bars are all windows, full ones those kept, the line where they part. Where LDS ranks,
# MAGIC a larger alpha moves windows whose far attention sits on a few keys to the left. Each domain
# MAGIC keeps the same share, whatever its scores: domains are not compared with each other.

# COMMAND ----------

by_lds = candidates.config.select.by == "lds"
alpha = {"alpha": float(dbutils.widgets.get("alpha"))} if by_lds else {}
percentile = float(dbutils.widgets.get("percentile"))
choice = candidates.choose(**alpha, percentile=[percentile, 100.0], threshold=None)
windows, meaning = choice.windows, choice.context.recipe.meaning
figures.show(figures.distribution(windows, "lds", choice.cuts, axis=meaning.axis))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Strength against uniformity
# MAGIC DS, or what the scorer has in its place, stands upwards, DU to the right. Where LDS ranks,
# MAGIC what is kept of a domain lies above a straight line. With alpha at 0 the line is level:
# MAGIC strength alone decides. The larger alpha is, the steeper the line falls to the right: one
# MAGIC standard deviation more of uniformity makes up for alpha standard deviations of strength.

# COMMAND ----------

figures.show(figures.scatter(windows, axes=(meaning.strength, meaning.uniformity)))

# COMMAND ----------

# MAGIC %md
# MAGIC ## How much does the choice matter?
# MAGIC Of the windows kept above, the share that other choices keep too. `random` says what chance
# MAGIC would give: about the share that is kept. Where `length` comes close to the score, the score
# MAGIC may only be measuring length.

# COMMAND ----------

kept = windows[windows["selected"]].groupby("domain").size()
figures.show(figures.overlap(choice.overlaps, kept.to_dict()))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Look at the windows
# MAGIC The best and the worst of a domain, from where their text begins. A number that ranks
# MAGIC boilerplate first is not worth its GPU-hours; look before you select.

# COMMAND ----------

domain = dbutils.widgets.get("domain") or sorted(set(windows["domain"]))[0]
ranked = windows[windows["domain"] == domain].sort_values("lds", ascending=False)
ends = pd.concat([ranked.head(2).assign(end="best"), ranked.tail(2).assign(end="worst")])
texts = candidates.texts(ends["window_id"].tolist())
for window, row in zip(ends.itertuples(), texts.itertuples(), strict=True):
    score = f"{meaning.name} {window.lds:.3f}"
    print(f"{window.end} of {domain}: {score}, {row.source_id}, {row.window_id}")
    print(f"    {' '.join((row.text or 'packed from several').split())}\n")

# COMMAND ----------

import json

best = ranked.iloc[0]["window_id"]
summary = {**alpha, "kept": int(kept.sum()), "scored": len(windows), "best": best}
dbutils.notebook.exit(json.dumps(summary))
