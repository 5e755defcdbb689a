"""Selections and exports pinned by hash: the same inputs give the same rows and bytes for ever.

Who changes a hash here changes what users get of a config that they have: that is a decision, and
CHANGELOG says it. Bytes of other libraries' making (Parquet, gzip) are pinned by what is in them.
"""

import gzip
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from longattn.etl.config import ExportConfig, validate
from longattn.etl.run.jobs import run_job
from longattn.etl.selection.current import current_selection
from tests.conftest import context_for

pytestmark = pytest.mark.spark

DIGITS = 9  # of a score; the last ones are the machine's
JOBS = ("ingest", "dedup", "windows", "score", "select", "export")
WORDS = [f"w{n}" for n in range(300)]

Settings = dict[str, Any]

# What differs from the base below -> sixteen hex digits of the selection and of each export
CONFIGS: dict[str, tuple[Settings, dict[str, str]]] = {
    "short texts packed as they fit, in all formats": (
        {
            "pack": {"domains": ["short"]},
            "export": {name: {} for name in ExportConfig.model_fields},
        },
        {
            "selection": "ff6ac1faf5705d2e",
            "parquet": "f95f6165451732a6",
            "jsonl": "72d84305959069ed",
            "megatron": "83cc53a3bda8f7aa",
            "megatron_bridge": "dae709ac15f25c55",
            "mds": "8e803d15264ee62b",
            "numpy": "df85448058fdbe83",
        },
    ),
    "short texts joined by their source, mixed and repeated, by domain": (
        {
            "pack": {"domains": ["short"], "strategy": "concat", "order": "source"},
            "mix": {"tokens": 3000, "weights": {"book": 2, "short": 1}, "short": "repeat"},
            "seed": 3,
            "export": {
                "mds": {"by_domain": True, "token_column": "input_ids"},
                "numpy": {"by_domain": True},
            },
        },
        {
            "selection": "12207f57effc6435",
            "mds": "217bc48c98eaa6e4",
            "numpy": "1f406929c23ed36a",
        },
    ),
    "tiles with BOS, within limits, clean, of two scorers and a filter, one of a document": (
        {
            "window": {"length": 64, "strategy": "tile", "bos": True, "min_tokens": 150},
            "dedup": {"scope": "global", "threshold": 0.7},
            "decontaminate": {"sources": [{"path": "eval.jsonl"}], "ngram": 6},
            "score": {"scorer": "recall", "k": 16, "also": {"random": {}}},
            "select": {
                "by": {"recall": 1.0, "random": 0.5},
                "where": [{"scorer": "random", "percentile": [10, 100]}],
                "per_document": 1,
                "tokens": {"book": 400},
            },
            "export": {
                "jsonl": {"text_key": "content", "prefix": "G"},
                "parquet": {"position_ids": True},
            },
        },
        {
            "selection": "2dadc8897b426881",
            "jsonl": "22a72a0855b86326",
            "parquet": "2fc14e1e9760c8ea",
        },
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Books, one of them twice and one nearly; short texts; a question that stands in a book."""
    folder, draw = tmp_path_factory.mktemp("golden"), random.Random(1)
    books = [" ".join(draw.choices(WORDS, k=90 + 40 * n)) for n in range(12)]
    books += [books[5], books[9] + " w1 w2 w3"]
    short = [" ".join(draw.choices(WORDS, k=8 + 3 * n)) for n in range(20)]
    question = " ".join(books[7].split()[100:110])
    for name, texts in {"book": books, "short": short, "eval": [question]}.items():
        rows = [json.dumps({"id": f"{name}{n}", "text": text}) for n, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    vocabulary = {word: number for number, word in enumerate(["<eos>", "?", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<eos>"}))
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_and_bytes_are_as_they_were(
    spark: Any, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    settings, expected = CONFIGS[name]
    out = folder / name.replace(" ", "-")
    config = validate(whole(settings, folder, out))
    context = context_for(spark, config, folder / "tables")
    for job in JOBS:
        run_job(job, context.fresh(same_run=True))
    _, selection = current_selection(context.fresh())
    rows = [row.asDict() for row in selection.drop("selection", "scorer").collect()]
    found = {"selection": digest(sorted(map(plain, rows)))}
    found |= {path.name: digest(contents(path)) for path in sorted(out.iterdir())}
    assert found == expected


def whole(settings: Settings, folder: Path, out: Path) -> Settings:
    """The settings with all that the configs share."""
    target = {"shard_tokens": 1000, "compression": "none"}
    exports = {
        name: {"path": str(out / name), **target, **more}
        for name, more in settings["export"].items()
    }
    base: Settings = {
        "tables": {"root": str(folder / "tables")},
        "sources": {
            name: [{"path": f"{name}.jsonl", "id": "id", "license": "cc0-1.0"}]
            for name in ("book", "short")
        },
        "tokenizer": str(folder / "tokenizer.json"),
        "window": {"length": 96},
        "score": {"scorer": "random"},
        "select": {"fraction": 0.5},
    }
    return base | settings | {"export": exports}


def contents(folder: Path) -> list[str]:
    """Every file of an export but its manifest and card, which name versions: a line for each."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    named = (path for path in files if path.name not in ("_manifest.json", "README.md"))
    return [f"{path.relative_to(folder)} {digest(lines(path))}" for path in named]


def lines(path: Path) -> list[str]:
    """What a file says, whoever has packed it."""
    if path.suffix == ".parquet":
        return [plain(row) for row in pq.read_table(path).to_pylist()]
    if path.suffix == ".jsonl":
        return [plain(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffix == ".gz":
        return [gzip.decompress(path.read_bytes()).decode()]
    if path.suffix == ".txt":  # Megatron's list of shards names them by their places
        return [path.read_text().replace(str(path.parent), "")]
    return [path.read_bytes().hex()]


def plain(row: dict[str, Any]) -> str:
    """A row as JSON, with numbers to so many digits."""
    rounded = {k: float(f"{v:.{DIGITS}g}") if isinstance(v, float) else v for k, v in row.items()}
    return json.dumps(rounded, sort_keys=True)


def digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
