"""A small corpus of text that every checkout has, and a config over it; stdlib and yaml only."""

import json
from pathlib import Path
from typing import Any

import yaml

from tests.few_rows import FEW_ROWS

REPO = Path(__file__).resolve().parents[2]
SCORER = REPO / "data" / "scorer"
DOMAINS = {"book": "*.md", "code": "etl/**/*.py"}  # this project's own prose, and its code


def make_config(root: Path, **settings: Any) -> Path:
    """Write documents and a config for all jobs below root; returns the config's path."""
    config = {
        "tables": {"root": str(root / "tables")},
        "sources": {name: [{"path": str(_documents(root, name)), "id": "id"}] for name in DOMAINS},
        "window": {"length": 256},
        "score": {"scorer": "longattn", "model": str(SCORER)},
        "select": {"fraction": 0.5, "compare": ["random"], "ablate_alpha": [0.0]},
        "export": {"parquet": {"path": str(root / "selected")}},
        "report": {"path": str(root / "report.html")},
        "spark": {"conf": FEW_ROWS},
        **settings,
    }
    path = root / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def _documents(root: Path, domain: str) -> Path:
    files = [p for p in sorted(REPO.glob(DOMAINS[domain])) if 2000 < p.stat().st_size < 12_000][:3]
    lines = [json.dumps({"text": file.read_text(), "id": file.name}) for file in files]
    path = root / f"{domain}.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path
