"""Selections tried out from Python: what other settings of `select` and `mix` would keep."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from longattn.etl import config as config_module
from longattn.etl.config import Config, SelectConfig
from longattn.pipeline import config_of
from longattn.udfs.errors import extras_named

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from longattn.etl.run.context import Context


class Candidates:
    """The scored windows that a config selects from; nothing is written.

    `config` and `settings` are as `longattn.run` takes them. Raises ConfigError and TableError as
    `longattn select` does. Where windows have several lengths (`mix.buckets`), those of a domain
    are ranked by length: a domain is then called `book/8192`, here and in every Choice.
    """

    def __init__(
        self, config: Config | Mapping[str, Any] | str | Path, settings: Iterable[str] = ()
    ) -> None:
        from longattn.etl.console import open_context

        with extras_named():
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
        return Choice(replace(self.context, config=config_module.validate(changed), known={}))

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

    def __init__(self, context: "Context") -> None:
        from longattn.etl.ranking import contenders, strata
        from longattn.etl.ranking.candidates import considered

        self.context, self.config = context, context.config
        self.select: SelectConfig = strata.settings(context.config)
        # anew for each choice: what it ranks by and filters by decides whose scores these are
        self.rows: DataFrame = considered(context)
        self.kept: DataFrame = contenders.select(self.rows, self.select, self.config.seed)

    @cached_property
    def windows(self) -> pd.DataFrame:
        """All candidates: window_id, domain, ds, du, lds (what they are ranked by), selected."""
        from longattn.etl.ranking.lds import score_by

        scored = score_by(self.rows, self.select, self.config.seed)
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
        from longattn.etl.ranking.rank import sizes
        from longattn.etl.selection import compare

        scored, by_threshold = sizes(self.rows), self.select.threshold is not None
        kept = sizes(self.kept) if by_threshold else {}
        others = compare.variants(compare.comparable(self.select, kept, scored))
        seed = self.config.seed
        rankings = [compare.by_settings(self.rows, others, seed, scored)] if others else []
        shares: pd.DataFrame = compare.shares(self.kept, rankings).toPandas()
        return shares

    @property
    def mix(self) -> pd.DataFrame:
        """Tokens of each domain that the config's mix plans, and has: domain, planned, made."""
        from pyspark.sql import functions as F

        from longattn.etl.ranking import rank, strata
        from longattn.etl.ranking.candidates import contending, with_packed
        from longattn.etl.selection import mix as mixing

        config = self.config
        left = contending(self.context, self.rows, rank.sizes(self.rows), self.select)
        kept = strata.apart(with_packed(self.context, left.best(self.select)), config)
        shares = mixing.planned(kept, config)
        mixed = mixing.mix(kept, shares, config.seed)
        tokens = F.sum(F.col("copies") * F.col("window_tokens")).alias("made")
        made = {row["domain"]: row["made"] for row in mixed.groupBy("domain").agg(tokens).collect()}
        rows = [
            (strata.part_of(share.domain, config)[0], share.planned, made.get(share.domain, 0))
            for share in shares
        ]
        parts = pd.DataFrame(rows, columns=["domain", "planned", "made"])
        return parts.groupby("domain", as_index=False, sort=False).sum()
