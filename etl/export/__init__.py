"""Exporters by name; each writes the same samples in the same order."""

from longattn.etl.export.formats import Format
from longattn.etl.export.writers.bridge import MEGATRON_BRIDGE
from longattn.etl.export.writers.jsonl import JSONL
from longattn.etl.export.writers.mds import MDS
from longattn.etl.export.writers.megatron import MEGATRON
from longattn.etl.export.writers.memmap import NUMPY
from longattn.etl.export.writers.parquet import PARQUET

FORMATS: dict[str, Format] = {
    "parquet": PARQUET,
    "jsonl": JSONL,
    "megatron": MEGATRON,
    "megatron_bridge": MEGATRON_BRIDGE,
    "mds": MDS,
    "numpy": NUMPY,
}
