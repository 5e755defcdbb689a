#!/usr/bin/env python3
"""Fetch the jars that Spark lacks for Delta, S3 and Azure into jars/, by their Maven coordinates.

Spark's own resolver (what --packages uses) fetches them; the checksums are pinned in jars.sha256. A
second run fetches nothing and says nothing. Exits 69, with one line, where no Maven can be reached.

    --pin     write jars.sha256 from what was fetched: after a bump of a version below
    LONGATTN_MAVEN=URL[,URL]    mirrors of Maven's central repository, where that is out of reach
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
JARS = REPO / "jars"
PINS = REPO / "jars.sha256"
UNAVAILABLE = 69  # EX_UNAVAILABLE: no fault of this repository

AWS = "2.35.4"  # the SDK that hadoop-aws 3.5.0 was built with
COORDINATES = {
    "delta": ("io.delta:delta-spark_4.2_2.13:4.4.0",),
    # The SDK's modules that S3A calls, 14 MB, in place of its bundle of every service, 686 MB.
    "s3": (
        "org.apache.hadoop:hadoop-aws:3.5.0",
        f"software.amazon.awssdk:s3:{AWS}",
        f"software.amazon.awssdk:s3-transfer-manager:{AWS}",
        f"software.amazon.awssdk:sts:{AWS}",
    ),
    "azure": ("org.apache.hadoop:hadoop-azure:3.5.0",),
}
# What pyspark carries itself, in versions of its own.
IN_SPARK = (
    *("org.apache.hadoop:hadoop-client-api", "org.apache.hadoop:hadoop-client-runtime"),
    *("org.apache.parquet:*", "org.apache.logging.log4j:*", "org.slf4j:*", "org.roaringbitmap:*"),
    *("com.fasterxml.jackson.core:*", "com.fasterxml.jackson.datatype:*", "io.netty:*"),
    "software.amazon.awssdk:bundle",
)


def main() -> int:
    stamp = JARS / f".verified-{digest(PINS)[:16]}"
    if stamp.exists() and "--pin" not in sys.argv:
        return 0
    JARS.mkdir(exist_ok=True)
    say(f"fetching the jars of {', '.join(COORDINATES)} from Maven")
    with ThreadPoolExecutor() as pool:
        refusals = [*pool.map(fetch, COORDINATES.values(), map(JARS.joinpath, COORDINATES))]
    if refusal := "; ".join(filter(None, refusals)):
        say(f"no Maven within reach: {refusal}")
        return UNAVAILABLE
    if "--pin" in sys.argv:
        PINS.write_text("".join(lines()))
    if wrong := sorted(set(lines()) ^ set(PINS.read_text().splitlines(keepends=True))):
        shutil.rmtree(JARS)
        say(f"not what {PINS.name} pins, and removed: {wrong[0].split()[1]}")
        return 1
    stamp.with_name(f".verified-{digest(PINS)[:16]}").touch()
    say(f"{len(lines())} jars in {JARS.name}/, checksums as pinned")
    return 0


def fetch(coordinates: tuple[str, ...], folder: Path) -> str:
    """Put the jars of the coordinates, and what they need, into a folder; return why not."""
    with tempfile.TemporaryDirectory(dir=JARS) as cache:
        done = subprocess.run(
            command(coordinates, Path(cache)),
            capture_output=True,
            text=True,
            env=environment(),
        )
        if done.returncode:
            return reason(done.stderr + done.stdout)
        shutil.rmtree(folder, ignore_errors=True)
        (Path(cache) / "jars").rename(folder)
    for jar in folder.glob("*.jar"):
        if in_spark(jar):
            jar.unlink()
    return ""


def command(coordinates: tuple[str, ...], cache: Path) -> list[str]:
    """spark-submit of a program that does nothing, once the packages have been resolved."""
    program = cache / "nothing.py"
    program.touch()
    mirrors = os.environ.get("LONGATTN_MAVEN")
    return [
        str(spark_home() / "bin" / "spark-submit"),
        *("--conf", f"spark.jars.ivy={cache}"),
        *("--packages", ",".join(coordinates), "--exclude-packages", ",".join(IN_SPARK)),
        *(("--repositories", mirrors) if mirrors else ()),
        str(program),
    ]


def environment() -> dict[str, str]:
    sys.path.insert(0, str(REPO))
    from longattn.etl.session.java import ensure_java

    ensure_java()
    return {**os.environ, "SPARK_HOME": str(spark_home()), "PYSPARK_PYTHON": sys.executable}


def reason(log: str) -> str:
    dependency = re.search(r"unresolved dependency: ([\w.#;-]+)", log)
    if dependency is None:
        return log.strip()[-200:]
    return f"{dependency[1].replace('#', ':').replace(';', ':')} not found"


def spark_home() -> Path:
    spec = find_spec("pyspark")
    assert spec and spec.origin
    return Path(spec.origin).parent


def in_spark(jar: Path) -> bool:
    """Whether pyspark has a jar of this artifact: `group_artifact-1.2.jar` as `artifact-*.jar`."""
    artifact = re.sub(r"-\d[^-]*(-jre|\.Final)?\.jar$", "", jar.name).split("_", 1)[1]
    return any((spark_home() / "jars").glob(f"{artifact}-[0-9]*.jar"))


def lines() -> list[str]:
    """`sha256  group/name.jar`, as sha256sum checks it in jars/."""
    return [f"{digest(jar)}  {jar.relative_to(JARS)}\n" for jar in jars()]


def jars() -> Iterator[Path]:
    for group in COORDINATES:
        yield from sorted((JARS / group).glob("*.jar"))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def say(text: str) -> None:
    print(f"jars: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
