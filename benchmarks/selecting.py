"""Time selection and mix over synthetic score rows: `python -m benchmarks.selecting [ROWS]`.

Prints the table of docs/performance.md. The rows are written as Parquet first, which is not
timed; each timed step reads them from there, and the last also writes its result.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.tables.rows import MILLIONS
from longattn.etl.config import MixConfig, SelectConfig, SparkConfig
from longattn.etl.ranking import contenders as select
from longattn.etl.ranking import lds
from longattn.etl.selection import mix
from longattn.etl.session import get_spark

DOMAINS = ("arxiv", "book", "code")
HEADS = 8


def synthetic(spark: SparkSession, rows: int, heads: int) -> DataFrame:
    """Score rows of three domains: log-normal statistics, a hash as window_id, 32K tokens each."""
    domain = F.element_at(
        F.array(*map(F.lit, DOMAINS)), (F.col("id") % len(DOMAINS) + 1).cast("int")
    )
    s1 = F.array(*(3000.0 + 100 * head * F.rand(head) for head in range(heads)))
    return spark.range(rows).select(
        F.substring(F.sha2(F.col("id").cast("string"), 256), 1, 32).alias("window_id"),
        domain.alias("domain"),
        F.lit(32_768).alias("n_tokens"),
        F.lit(32_768).alias("window_tokens"),
        F.lit(8_192).alias("k"),
        F.exp(F.randn(1) / 4 - 2).alias("ds"),
        (-F.exp(F.randn(2) - 20)).alias("du"),
        (F.rand(3) * 500_000).cast("bigint").alias("doc_tokens"),
        s1.alias("head_s1"),
        F.array(*(3.0 + head * F.rand(head) for head in range(heads))).alias("head_s2"),
    )


def selected(scores: DataFrame, **settings: Any) -> DataFrame:
    """Selection and mix, as the job runs them."""
    config = SelectConfig(**({"by": "lds"} | settings))
    rows = lds.dependency(scores, config).drop("head_s1", "head_s2")
    if config.support == "block":
        rows = rows.persist()  # as the job does: work on arrays is not to be done in every pass
    kept = select.select(rows, config, seed=0).persist()
    shares = mix.plan(mix.supplies(kept), MixConfig(weights=dict.fromkeys(DOMAINS, 1.0)))
    return mix.mix(kept, shares, seed=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=10_000_000)
    rows = parser.parse_args().rows
    folder = Path(tempfile.mkdtemp(prefix="select-"))
    spark = get_spark(SparkConfig(master="local[2]", conf=MILLIONS))
    try:
        print("| step | seconds | windows kept |\n|---|---:|---:|")
        for line in timings(spark, folder, rows):
            print(line, flush=True)
    finally:
        spark.stop()
        shutil.rmtree(folder)
    print(f"\n{rows:,} rows, local[2] of {os.cpu_count()} cores, {sys.version.split()[0]}")


def timings(spark: SparkSession, folder: Path, rows: int) -> Iterator[str]:
    path = str(folder / "scores")
    synthetic(spark, rows, HEADS).write.parquet(path)
    scores = spark.read.parquet(path)
    steps: dict[str, dict[str, Any]] = {
        "LDS, top 12.5 %": {},
        "LDS, 1.5 billion tokens a domain": {"tokens": 1_500_000_000},
        "random, top 12.5 %": {"by": "random"},
        "length, top 12.5 %": {"by": "length"},
        f"LDS, top 12.5 %, block support, {HEADS} heads": {"support": "block"},
    }
    for number, (name, settings) in enumerate(steps.items()):
        out = str(folder / f"out{number}")
        started = time.monotonic()
        selected(scores, **settings).write.parquet(out)
        seconds = time.monotonic() - started
        yield f"| {name} | {seconds:.1f} | {spark.read.parquet(out).count():,} |"


if __name__ == "__main__":
    main()
