"""Spark's settings for a root of few rows: when they are taken, and that they are put back."""

from pathlib import Path
from typing import Any

import pytest

from longattn.etl import config as config_module
from longattn.etl.config import Config
from longattn.etl.session.few_rows import CONF, SMALL_ROOT, fitted, is_small

ADAPTIVE = "spark.sql.adaptive.enabled"


class Session:
    """A session as far as it is asked: its conf."""

    def __init__(self) -> None:
        self.values = {"spark.sql.shuffle.partitions": "32"}
        self.conf = self

    def get(self, key: str, default: str | None) -> str | None:
        return self.values.get(key, default)

    def set(self, key: str, value: str) -> None:
        self.values[key] = value

    def unset(self, key: str) -> None:
        del self.values[key]


def config_at(root: Path | str, **conf: str) -> Config:
    return config_module.validate({"tables": {"root": str(root)}, "spark": {"conf": conf}})


def during(job: str, config: Config) -> dict[str, str]:
    """What the session says while the job runs; it must say what it said before in the end."""
    session: Any = Session()
    with pytest.raises(KeyError), fitted(session, config, job):
        seen = dict(session.values)
        raise KeyError
    assert session.values == {"spark.sql.shuffle.partitions": "32"}
    return seen


def test_jobs_of_spark_alone_plan_for_few_rows(tmp_path: Path) -> None:
    assert during("select", config_at(tmp_path)) == CONF
    assert during("score", config_at(tmp_path)) == {"spark.sql.shuffle.partitions": "32"}


def test_the_config_wins(tmp_path: Path) -> None:
    seen = during("report", config_at(tmp_path, **{ADAPTIVE: "true"}))
    assert ADAPTIVE not in seen and seen["spark.sql.shuffle.partitions"] == "2"


def test_a_root_is_small_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "part.parquet").write_bytes(b"x" * 1000)
    used = sum(path.stat().st_size for path in tmp_path.rglob("*"))
    assert is_small(str(tmp_path), used) and not is_small(str(tmp_path), used - 1)
    assert used < SMALL_ROOT


@pytest.mark.parametrize("root", ["main.longattn", "s3a://bucket/tables", "no/such/folder"])
def test_what_is_elsewhere_is_not_small(root: str) -> None:
    assert not is_small(root)
