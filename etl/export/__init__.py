"""Exporters by name; each writes the same samples in the same order."""

from etl.export.formats import Format
from etl.export.jsonl import JSONL
from etl.export.mds import MDS
from etl.export.megatron import MEGATRON
from etl.export.parquet import PARQUET

FORMATS: dict[str, Format] = {
    "parquet": PARQUET,
    "jsonl": JSONL,
    "megatron": MEGATRON,
    "mds": MDS,
}
