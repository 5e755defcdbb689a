"""Make tests/etl/data/tables-0.1.tar.gz: the tables that version 0.1 left after a run of all jobs.

Run from a checkout of version 0.1 (commit 5699657) with its packages and the demo's scorer:
    python /path/to/this/make_tables_0_1.py /path/to/data/scorer
The tables keep paths of /tmp/longattn-0.1, whatever the machine.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path("/tmp/longattn-0.1")
OUT = Path(__file__).parent / "data" / "tables-0.1.tar.gz"
CONFIG = """
sources:
  book: [{path: book.jsonl, id: id}]
  code: [{path: code.jsonl, id: id}]
tables: {root: tables, connector: delta-rs}
window: {length: 64}
score: {model: scorer}
select: {fraction: 0.5}
export: {jsonl: {path: selected}}
report: {path: report.html}
spark: {master: "local[1]", conf: {spark.sql.shuffle.partitions: "1"}}
"""
WORDS = {
    "book": "the whale went down into the sea and no one saw it rise again before winter",
    "code": "def given ( lines ) : return sorted ( lines ) # in order of what they say",
}


def main(scorer: str) -> None:
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir()
    (ROOT / "scorer").symlink_to(Path(scorer).resolve())
    (ROOT / "config.yaml").write_text(CONFIG)
    for domain in WORDS:
        lines = [json.dumps({"id": f"{domain}-{n}", "text": text(domain, n)}) for n in range(3)]
        (ROOT / f"{domain}.jsonl").write_text("\n".join([*lines, lines[0], '{"id": "bad"}']))
    command = [sys.executable, "-m", "etl.cli", "run", "--config", "config.yaml"]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
    with tarfile.open(OUT, "w:gz") as archive:
        archive.add(ROOT / "tables", "tables", filter=nobody)


def text(domain: str, seed: int) -> str:
    """Some hundred words of the domain in an order of the document's own."""
    words = WORDS[domain].split()
    return " ".join(words[(i * i * (seed + 2) + i // 7) % len(words)] for i in range(220))


def nobody(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """As of nobody and of no time; Hadoop's checksum files stay behind."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return None if entry.name.endswith(".crc") else entry


if __name__ == "__main__":
    main(sys.argv[1])
