"""The settings of a run: their models in `sections`, reading and validation in `load`."""

from longattn.etl.config.load import faults, load, validate
from longattn.etl.config.sections import (
    RANKINGS,
    READ_BY,
    Config,
    DedupConfig,
    ExportConfig,
    ExportTarget,
    MixConfig,
    ScorerSettings,
    SelectConfig,
    SourceConfig,
    SparkConfig,
    TablesConfig,
    WhereConfig,
    WindowConfig,
    of_domain,
    own_ranking,
)

__all__ = [
    "RANKINGS",
    "READ_BY",
    "Config",
    "DedupConfig",
    "ExportConfig",
    "ExportTarget",
    "MixConfig",
    "ScorerSettings",
    "SelectConfig",
    "SourceConfig",
    "SparkConfig",
    "TablesConfig",
    "WhereConfig",
    "WindowConfig",
    "faults",
    "load",
    "of_domain",
    "own_ranking",
    "validate",
]
