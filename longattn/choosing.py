"""Selections tried out from Python: what other settings of `select` and `mix` would keep."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from longattn.etl import config as config_module
from longattn.etl.config import Config, SelectConfig
from longattn.pipeline import config_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from longattn.etl.run.context import Context


class Candidates:
    """The scored windows that a config selects from; nothing is written.

    `config` and `settings` are as `longattn.run` takes them. Raises ConfigError and TableError as
    `longattn select` does.
    """

    def __init__(
        self, config: Config | Mapping[str, Any] | str | Path, settings: Iterable[str] = ()
    ) -> None:
        from longattn.etl.console import open_context
        from longattn.etl.ranking.candidates import considered

        self.config = config_of(config, settings)
        self.context: Context = open_context(self.config)
        self.rows: DataFrame = considered(self.context)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Windows by domain."""
        from longattn.etl.ranking.rank import sizes

        return sizes(self.rows)

    def choose(self, **select: Any) -> "Choice":
        """What the config's select would keep with these settings in place of its own.

        Raises ConfigError for settings that there are not.
        """
        given = self.config.model_dump(exclude_unset=True)
        changed = {**given, "select": {**given.get("select", {}), **select}}
        return Choice(self, config_module.validate(changed).select)

    def texts(self, window_ids: Sequence[str], chars: int = 400) -> pd.DataFrame:
        """window_id, source_id and the beginning of the text, null where a window is packed."""
        from pyspark.sql import functions as F

        spans = self.context.tables.read("windows").where(F.col("window_id").isin(*window_ids))
        documents = self.context.tables.read("documents").select("doc_id", "source_id", "text")
        begins = (F.col("start_char") + 1).cast("int")
        beginning = F.substring("text", begins, F.lit(chars)).alias("text")
        rows = spans.select("window_id", "doc_id", "start_char").join(documents, "doc_id", "left")
        texts: pd.DataFrame = rows.select("window_id", "source_id", beginning).toPandas()
        return texts.set_index("window_id").reindex([*window_ids]).reset_index()


class Choice:
    """The windows that one set of settings keeps of the candidates."""

    def __init__(self, candidates: Candidates, select: SelectConfig) -> None:
        from longattn.etl.ranking import contenders

        self.candidates, self.select = candidates, select
        self.kept: DataFrame = contenders.select(
            candidates.rows, select, candidates.config.seed, candidates.sizes
        )

    @cached_property
    def windows(self) -> pd.DataFrame:
        """All candidates: window_id, domain, ds, du, lds (what they are ranked by), selected."""
        from longattn.etl.ranking.lds import score_by

        scored = score_by(self.candidates.rows, self.select, self.candidates.config.seed)
        windows: pd.DataFrame = scored.select("window_id", "domain", "ds", "du", "lds").toPandas()
        chosen = {row["window_id"] for row in self.kept.select("window_id").collect()}
        return windows.assign(selected=windows["window_id"].isin(chosen))

    @property
    def cuts(self) -> dict[str, float]:
        """The lowest score kept of each domain."""
        kept = self.windows[self.windows["selected"]]
        return {
            str(domain): float(low) for domain, low in kept.groupby("domain")["lds"].min().items()
        }

    @property
    def totals(self) -> pd.DataFrame:
        """A row a domain: windows, tokens and the lowest score kept."""
        from pyspark.sql import functions as F

        sums = self.kept.groupBy("domain").agg(
            F.count("*").alias("windows"),
            F.sum("window_tokens").alias("tokens"),
            F.min("lds").alias("lowest"),
        )
        totals: pd.DataFrame = sums.orderBy("domain").toPandas()
        return totals

    @property
    def overlaps(self) -> pd.DataFrame:
        """How much of it other choices keep too: name, domain, windows, common, share."""
        from longattn.etl.selection import compare

        seed, rows = self.candidates.config.seed, self.candidates.rows
        others = compare.by_settings(rows, compare.variants(self.select), seed)
        shares: pd.DataFrame = compare.shares(self.kept, [others]).toPandas()
        return shares

    @property
    def mix(self) -> pd.DataFrame:
        """Tokens of each domain that the config's mix plans, and has: domain, planned, made."""
        from longattn.etl.selection import mix as mixing

        config = self.candidates.config
        shares = mixing.plan(mixing.supplies(self.kept), config.mix)
        mixed = mixing.mix(self.kept, shares, config.seed)
        taken = mixed.selectExpr("domain", "copies * window_tokens AS made").toPandas()
        made = taken.groupby("domain")["made"].sum()
        plan = pd.DataFrame([(s.domain, s.planned) for s in shares], columns=["domain", "planned"])
        return plan.assign(made=plan["domain"].map(made).fillna(0))
