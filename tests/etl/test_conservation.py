"""No job loses or doubles a row on the way without saying so: its ledger does not balance."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame
from tokenizers import Tokenizer, models, pre_tokenizers

from longattn.etl import config as config_module
from longattn.etl.export import job as export_job
from longattn.etl.ingest import job as ingest_job
from longattn.etl.report import job as report_job
from longattn.etl.run.context import Context, TableSet
from longattn.etl.run.jobs import JOBS, load_job, run_job
from longattn.udfs.errors import LedgerError, TableError
from tests.conftest import context_for

pytestmark = pytest.mark.spark

Fault = Callable[[DataFrame], DataFrame]
N_WORDS, N_DOCUMENTS = 60, 6


def drop(rows: DataFrame) -> DataFrame:
    """All but one row: the one that sorts first."""
    first = rows.orderBy(*_key(rows)).limit(1)
    return rows.join(first.select(*_key(rows)), _key(rows), "left_anti").select(*rows.columns)


def double(rows: DataFrame) -> DataFrame:
    """All rows, and one of them twice."""
    return rows.unionByName(rows.orderBy(*_key(rows)).limit(1))


def _key(rows: DataFrame) -> list[str]:
    """Columns of any frame of the jobs that together name a row."""
    known = ("doc_a", "doc_b", "window_id", "doc_id", "copy", "order", "source_uri", "source_row")
    return [name for name in known if name in rows.columns]


FAULTS: dict[str, Fault] = {"drop": drop, "double": double}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conservation")


@pytest.fixture(scope="module")
def settings(folder: Path) -> dict[str, Any]:
    """Books, the last of which is the first again; short texts that are packed; a bad record."""
    texts = [" ".join(f"w{i}x{j}" for j in range(N_WORDS)) for i in range(N_DOCUMENTS)]
    books = [{"text": text} for text in (*texts, texts[0])]
    lines = [json.dumps(book) for book in books] + ["{"]
    (folder / "book.jsonl").write_text("\n".join(lines) + "\n")
    tokenizer = Tokenizer(models.WordLevel({"end": 0, "word": 1}, unk_token="word"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    web = [json.dumps({"text": " ".join(text.split()[:7])}) for text in texts]
    (folder / "web.jsonl").write_text("\n".join(web) + "\n")
    return {
        "tables": {"root": str(folder / "whole")},
        "tokenizer": str(folder / "tokenizer.json"),
        "sources": {name: [{"path": str(folder / f"{name}.jsonl")}] for name in ("book", "web")},
        "window": {"length": 16, "strategy": "tile"},
        "dedup": {"permutations": 16},
        "pack": {"domains": ["web"], "separator": "end"},
        "score": {"scorer": "random", "commit": 8},
        "select": {"fraction": 0.5, "compare": [], "ablate_alpha": []},
        "export": {"jsonl": {"path": str(folder / "jsonl")}},
        "report": {"path": str(folder / "report.html"), "examples": 1},
    }


@pytest.fixture(scope="module")
def roots(spark: Any, folder: Path, settings: dict[str, Any]) -> dict[str, Path]:
    """The tables as they are before each job, by the job's name."""
    config = config_module.validate(settings)
    whole = Path(config.tables.root)
    whole.mkdir()
    before = {}
    for job in JOBS:
        before[job] = Path(shutil.copytree(whole, folder / f"before_{job}"))
        if job not in ("export", "report"):
            run_job(job, context_for(spark, config, whole))
    return before


@pytest.fixture
def run(
    spark: Any, roots: dict[str, Path], settings: dict[str, Any], tmp_path: Path
) -> Callable[[str], None]:
    """Run a job on tables of its own and have its ledger looked at."""

    def run_one(job: str) -> None:
        root = shutil.copytree(roots[job], tmp_path / "tables")
        changed = settings | {
            "tables": {"root": str(root)},
            "export": {"jsonl": {"path": str(tmp_path / "jsonl")}},
        }
        context = context_for(spark, config_module.validate(changed), root)
        load_job(job)(context).refuse_imbalance(job)

    return run_one


def hurt(monkeypatch: pytest.MonkeyPatch, write: str, table: str, fault: Fault) -> None:
    """Have one kind of write to a table lose or double a row of what it is given."""
    whole = getattr(TableSet, write)

    def faulty(tables: TableSet, name: str, df: DataFrame, *rest: Any, **more: Any) -> Any:
        return whole(tables, name, fault(df) if name == table else df, *rest, **more)

    monkeypatch.setattr(TableSet, write, faulty)


@pytest.mark.parametrize(
    ("job", "write", "table", "fault"),
    [
        ("ingest", "append", "documents", "drop"),
        ("ingest", "append", "documents", "double"),
        ("dedup", "append", "pairs", "drop"),
        ("dedup", "overwrite", "duplicates", "double"),
        ("windows", "merge", "lengths", "drop"),
        ("windows", "append", "windows", "double"),
        ("score", "merge", "scores", "drop"),
        ("score", "merge", "scores", "double"),
        ("select", "replace_where", "selections", "drop"),
        ("select", "replace_where", "selections", "double"),
    ],
)
def test_a_row_lost_or_doubled_on_the_way_to_a_table_does_not_balance(
    run: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    job: str,
    write: str,
    table: str,
    fault: str,
) -> None:
    hurt(monkeypatch, write, table, FAULTS[fault])
    # a merge looks for repeated keys itself
    expected = TableError if (write, fault) == ("merge", "double") else LedgerError
    with pytest.raises(expected, match=f"^{job}: |given window_id"):
        run(job)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_sample_lost_or_doubled_is_not_exported(
    run: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str
) -> None:
    samples = export_job.stage.samples
    monkeypatch.setattr(
        export_job.stage, "samples", lambda *a, **k: FAULTS[fault](samples(*a, **k))
    )
    with pytest.raises(LedgerError, match=r"^export jsonl: wrote \d+ samples of \d+"):
        run("export")
    assert not (tmp_path / "jsonl" / "_manifest.json").exists()


@pytest.mark.parametrize("fault", [lambda found: found[1:], lambda found: [*found, found[0]]])
def test_a_window_lost_or_doubled_on_the_page_does_not_balance(
    run: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[list[Any]], list[Any]],
) -> None:
    shown = report_job.shown_windows
    monkeypatch.setattr(report_job, "shown_windows", lambda *a: fault(shown(*a)))
    with pytest.raises(LedgerError, match=r"^report: "):
        run("report")


def test_a_record_lost_between_reading_and_staging_does_not_balance(
    run: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = ingest_job.staging

    @contextmanager
    def lossy(context: Context, job: str) -> Iterator[Any]:
        with staging(context, job) as save:
            yield lambda name, frame: save(name, frame).where("source_row != 2")

    monkeypatch.setattr(ingest_job, "staging", lossy)
    with pytest.raises(LedgerError, match=r"^ingest: 14 rows in are not"):
        run("ingest")
