"""`longattn status` of tables in a folder: from their logs, without Spark."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from longattn.etl import cli
from longattn.etl.after import vacuum
from longattn.etl.after.forget import Step
from longattn.etl.after.printed import ledger_words, so_far_words
from longattn.etl.after.provenance import documents_of
from longattn.etl.after.reading import read_logs
from longattn.etl.after.selections import Domain, listed, shown
from longattn.etl.after.status import status_of_logs
from longattn.etl.config import Config, validate
from longattn.etl.dedup.recipe import Recipe as Comparison
from longattn.etl.ingest.sources import inputs_of
from longattn.etl.run.recipe import Recipe
from longattn.etl.tables.delta_rs import DeltaRsTable
from longattn.etl.tables.lease import DeltaRegister, Holder, register_location, this_process
from longattn.etl.tables.schema import RUNS, TABLES
from longattn.etl.windows.evaluation import list_sets
from longattn.udfs.ddl import ddl_type
from longattn.udfs.errors import UserError
from longattn.udfs.windows.segments import SEGMENTS

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ARROW: dict[str, pa.DataType] = {
    "string": pa.string(),
    "bigint": pa.int64(),
    "int": pa.int32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
    "map<string,bigint>": pa.map_(pa.string(), pa.int64()),
    "map<string,double>": pa.map_(pa.string(), pa.float64()),
    "array<string>": pa.list_(pa.string()),
    "array<bigint>": pa.list_(pa.int64()),
    "array<int>": pa.list_(pa.int32()),
    "array<double>": pa.list_(pa.float64()),
    ddl_type(SEGMENTS): SEGMENTS,
}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    Tokenizer(WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    return validate(
        {
            "tables": {"root": str(tmp_path / "tables")},
            "sources": {"book": [], "code": []},
            "tokenizer": str(tmp_path / "tokenizer.json"),
            "score": {"scorer": "random"},
        }
    )


def append(
    config: Config, table: str, rows: list[dict[str, Any]], without: tuple[str, ...] = ()
) -> None:
    """Commit rows by deltalake alone; columns that a row lacks are null."""
    spec = TABLES[table]
    columns_ = {name: t for name, (t, _) in spec.columns.items() if name not in without}
    types = {name: ARROW[t] for name, t in columns_.items() if t in ARROW}
    columns = {name: pa.array([r.get(name) for r in rows], t) for name, t in types.items()}
    path = f"{config.tables.root}/{table}"
    write_deltalake(path, pa.table(columns), mode="append", partition_by=list(spec.partition_by))


def documents(*ids: str, domain: str = "book") -> list[dict[str, Any]]:
    return [{"doc_id": doc_id, "domain": domain} for doc_id in ids]


def run(job: str, **fields: Any) -> dict[str, Any]:
    empty = {name: {} for name in ("refused", "versions_read", "versions_written", "metrics")}
    counts = {"rows_in": 3, "rows_out": 2, "refused": {"too_short": 1}, "seconds": 1.5}
    row = {"run_id": job, "job": job, "started": MOMENT, "status": "done"}
    return {**row, **empty, **counts, **fields}


def made(config: Config) -> None:
    """Three documents, a duplicate and one without windows among them; two windows, one scored."""
    mine, scorer = Recipe(config).windowing, Recipe(config).scorer.version
    append(config, "documents", documents("d1", "d2") + documents("d3", domain="code"))
    append(config, "duplicates", [{"doc_id": "d2", "domain": "book"}])
    compared = {"method": "self", "recipe": f"{Comparison(config.dedup).name}book"}
    append(config, "pairs", [{"doc_a": d, "doc_b": d, **compared} for d in ("d1", "d2")])
    append(config, "lengths", [{"doc_id": "d1", "domain": "book", "windowing": mine}])
    windows = [
        {"window_id": f"w{n}", "doc_id": "d1", "domain": "book", "windowing": mine, "n_tokens": 8}
        for n in range(2)
    ]
    other = {"window_id": "w9", "doc_id": "d1", "domain": "book", "windowing": "other"}
    append(config, "windows", [*windows, other])
    scored = {"domain": "book", "n_tokens": 8, "scored_at": MOMENT}
    append(config, "scores", [{"window_id": "w0", "scorer": scorer, **scored}])
    append(config, "scores", [{"window_id": f"w{n}", "scorer": "old", **scored} for n in (0, 1)])
    earlier = MOMENT.replace(year=2025)
    append(config, "runs", [run("score", started=earlier, status="failed", error="x")])
    append(config, "runs", [run("score"), run("select", versions_read={"scores": 0})])


def test_sizes_and_domains_are_the_logs(config: Config) -> None:
    made(config)
    found = status_of_logs(config)
    assert found is not None
    assert found.tables["documents"]["domains"] == {"book": 2, "code": 1}
    assert found.tables["duplicates"]["domains"] == {"book": 1}  # not partitioned: from its file
    assert found.tables["scores"]["version"] == 1 and found.tables["scores"]["rows"] == 3
    stored = sum(p.stat().st_size for p in Path(config.tables.root, "windows").rglob("*.parquet"))
    assert found.tables["windows"]["bytes"] == stored
    assert "signatures" not in found.tables


def test_each_scorer_has_a_row(config: Config) -> None:
    made(config)
    found = status_of_logs(config)
    assert found is not None
    when = "2026-01-02 03:04:05"
    assert found.scorers[Recipe(config).scorer.version] == {
        "windows": 1,
        "tokens": 8,
        "first": when,
        "last": when,
    }
    assert found.scorers["old"]["windows"] == 2


def test_what_is_pending_is_told(config: Config) -> None:
    """d3 was never compared, nor cut; w1 has no score of this scorer, and scores are newer."""
    made(config)
    found = status_of_logs(config)
    assert found is not None
    assert found.pending == {
        "dedup": {"rows": 1},
        "windows": {"rows": 1},
        "score": {"rows": 1},
        "select": {"changed": ["scores"]},
    }


def test_what_a_run_with_this_config_would_decide_anew_is_pending(config: Config) -> None:
    """All of it by other settings, by those of exports alone, and by none."""
    made(config)
    by = [{"job": "dedup", "settings": "other"}, {"job": "export", "config": config.hash}]
    by.append({"job": "select", "settings": Recipe(config).selects(())})
    append(
        config, "pairs", [{"doc_a": "d3", "method": "self", "recipe": _compared("code", config)}]
    )
    append(config, "runs", [run(**r, started=MOMENT + timedelta(hours=1)) for r in by])
    settings = config.model_dump(mode="json")
    parquet = {"export": {"parquet": {"path": "out"}}}
    expected = {"dedup": ["config"], "select": ["config"], "export": ["config"]}
    for other, jobs in (({}, 1), (parquet, 2), (parquet | {"seed": 3}, 3)):
        found = status_of_logs(validate(settings | other))
        assert found is not None
        changed = {job: p["changed"] for job, p in found.pending.items() if "changed" in p}
        wanted = ("dedup", "export", "select")[:jobs]
        assert changed == {job: expected[job] for job in wanted}


def test_an_export_that_is_not_there_is_pending(config: Config, tmp_path: Path) -> None:
    """As is one of another selection, and one that no run has made yet."""
    target = {"export": {"jsonl": {"path": str(tmp_path / "out")}}}
    config = validate(config.model_dump(mode="json") | target)
    select = run("select", selection="s1", settings=Recipe(config).selects(()))
    append(config, "runs", [select])
    (tmp_path / "out").mkdir()
    manifest = tmp_path / "out" / "_manifest.json"
    for there, pending in ((None, True), ("s0", True), ("s1", False)):
        if there:
            manifest.write_text(json.dumps({"longattn": "0", "selection": there, "files": []}))
        found = status_of_logs(config)
        assert found is not None
        assert found.pending == ({"export": {"changed": ["export.jsonl"]}} if pending else {})


def _compared(domain: str, config: Config) -> str:
    return f"{Comparison(config.dedup).name}{domain}"


def test_all_that_score_has_to_do_is_pending_and_nothing_else(
    config: Config, tmp_path: Path
) -> None:
    """w1 is contaminated, so that neither scorer has it to do; recall has w0, and an old set w0."""
    (tmp_path / "it's.jsonl").write_text('{"text": "one two three"}\n')
    sets = {"decontaminate": {"sources": [{"path": str(tmp_path / "it's.jsonl")}]}}
    also = {"scorer": "random", "also": {"recall": {}}}
    config = validate({**config.model_dump(mode="json"), **sets, "score": also})
    made(config)
    (name,) = list_sets(None, config)
    hit = {"domain": "book", "contaminated": True}
    rows = [{"window_id": "w1", "evaluation": name}, {"window_id": "w0", "evaluation": "old"}]
    append(config, "contamination", [row | hit for row in rows])
    append(config, "contamination", [{**rows[0], "window_id": "w0", **hit, "contaminated": False}])
    found = status_of_logs(config)
    assert found is not None and found.pending["score"] == {"rows": 1}


def test_of_several_lengths_only_the_one_that_is_a_documents_own_is_pending(
    config: Config,
) -> None:
    """Ten documents that fill both lengths: the five that draw least are cut at the longer one."""
    settings = {
        "window": {"length": 64, "strategy": "tile"},
        "mix": {"buckets": {16: 0.5, 64: 0.5}},
    }
    several = validate(
        config.model_dump(exclude_unset=True) | settings | {"dedup": {"enabled": False}}
    )
    recipe = Recipe(several)
    drawn = sorted((md5(f"d{n}|0".encode()).hexdigest(), f"d{n}") for n in range(10))
    append(several, "documents", documents(*(doc_id for _, doc_id in drawn)))
    length = {"domain": "book", "n_tokens": 100, "n_windows": 1}

    def cut(doc_id: str, length_: int) -> None:
        own = {"doc_id": doc_id, "windowing": recipe.cuttings[length_]}
        append(several, "lengths", [length | own])
        append(several, "windows", [{"window_id": f"w{doc_id}{length_}", "domain": "book", **own}])

    def pending() -> dict[str, int]:
        found = status_of_logs(several)
        assert found is not None
        return {job: found.pending[job]["rows"] for job in found.pending}

    assert pending() == {"windows": 10}
    counted = {"windowing": f"count:{recipe.tokenizer}", "n_windows": None}
    append(several, "lengths", [length | {"doc_id": doc_id} | counted for _, doc_id in drawn])
    assert pending() == {"windows": 10}
    for place, (_, doc_id) in enumerate(drawn[:7]):
        cut(doc_id, 64 if place < 5 else 16)
    assert pending() == {"windows": 3, "score": 7}
    cut(drawn[0][1], 16)  # by a run of one length
    cut(drawn[9][1], 64)
    assert pending() == {"windows": 3, "score": 7}


def test_the_last_run_counts(config: Config) -> None:
    made(config)
    found = status_of_logs(config)
    assert found is not None
    assert list(found.jobs) == ["score", "select"]
    score = found.jobs["score"]
    assert score["status"] == "done" and score["balances"] and score["refused"] == {"too_short": 1}
    assert "config_json" not in score


def running(config: Config, born: str | None = None) -> dict[str, Any]:
    """A score job begun four minutes before its lease was last renewed, as status has it."""
    made(config)
    started = MOMENT + timedelta(hours=1)
    append(config, "runs", [run("score", run_id="r", started=started, status="running")])
    progress = {"job": "score", "done": 1024, "total": 4096, "unit": "windows", "seconds": 60.0}
    progress |= {"rate": 17.0667, "seconds_left": 180.0}
    here = this_process() | ({"born": born} if born else {})
    beat = (started + timedelta(minutes=4)).timestamp()
    holder = Holder(token="r", job="score", run_id="r", progress=progress, beat=beat, **here)
    register = DeltaRegister(register_location(config.tables.root))
    assert register.write(register.read()[0], holder)
    found = status_of_logs(config)
    assert found is not None
    return found.jobs["score"]


def test_a_ledger_of_an_earlier_version_gets_its_columns_with_the_next_run(config: Config) -> None:
    """Without Spark, as the ledger is written; the rows that it had have null there."""
    append(config, "runs", [run("ingest")], without=RUNS.added)
    path = f"{config.tables.root}/runs"
    assert status_of_logs(config) is not None and "selection" not in _columns(path)
    table = DeltaRsTable(cast(Any, None), RUNS, path)
    row = dict.fromkeys(RUNS.columns) | run("select", selection="s1", settings="a1")
    for _ in range(2):
        table.put(row)
    found = DeltaTable(path).to_pyarrow_table().sort_by("job").to_pylist()
    kept = [(row["job"], row["selection"], row["settings"]) for row in found]
    assert kept == [("ingest", None, None), ("select", "s1", "a1")]


def _columns(path: str) -> list[str]:
    return [field.name for field in DeltaTable(path).schema().fields]


def test_a_running_job_says_how_far_it_is(config: Config) -> None:
    job = running(config)
    assert job["status"] == "running" and job["seconds"] == 240 and not job["gone"]
    assert job["beat"] == "2026-01-02 04:08:05" and job["progress"]["done"] == 1024
    assert so_far_words(job).plain == " 1,024 of 4,096 windows, 17.1 a second, 3 min left"


def test_a_running_job_whose_process_has_ended_is_called_so(config: Config) -> None:
    job = running(config, born="1")  # as this process started later, it is another
    assert job["gone"] and "process is gone" in so_far_words(job)


def test_a_job_that_has_ended_has_no_progress(config: Config) -> None:
    running(config)
    found = status_of_logs(config)
    assert found is not None
    assert "progress" not in found.jobs["select"] and not so_far_words(found.jobs["select"])


def test_views_start_no_jvm_and_import_no_pyspark(config: Config, tmp_path: Path) -> None:
    made(config)
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(config.model_dump(mode="json")))
    elsewhere = ["--set", f"tables.root={tmp_path / 'none'}"]
    commands = [["status", "--json"], ["selections", "list"], ["trace", "nosuch", *elsewhere]]
    code = "import sys; from longattn.etl import cli;"
    code += f" codes = [cli.main([*c, '--config', {str(path)!r}]) for c in {commands!r}];"
    code += " assert not {'pyspark', 'torch'} & {m.split('.')[0] for m in sys.modules};"
    code += " assert codes == [0, 0, 2], codes"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert "trace nosuch: no window has this id" in answer.stderr
    printed, _ = json.JSONDecoder().raw_decode(answer.stdout)
    keys = {"root", "tables", "jobs", "balances", "scorers", "pending", "not_in_sources"}
    assert keys == printed.keys()
    assert printed["balances"] is True


def test_columns_of_later_versions_are_null_in_views(config: Config) -> None:
    """The score of a selection that was made before it had a column of its own is its LDS."""
    row = {"selection": "old", "window_id": "w0", "domain": "book", "n_tokens": 8, "copies": 1}
    append(config, "selections", [{**row, "lds": 0.5}], without=("score",))
    reader = read_logs(config.tables)
    assert reader is not None
    (one,) = listed(reader).values()
    assert (one.windows, one.tokens, one.lowest) == (1, 8, 0.5)


def test_a_selection_says_the_lowest_score_of_all_selected(config: Config) -> None:
    """As `select` and the report do, also where the mix leaves windows or a whole domain out."""
    rows = [
        {"domain": domain, "window_id": str(n), "copies": copies, "score": float(n)}
        for n, (domain, copies) in enumerate([("code", 0), ("book", 0), ("book", 1), ("book", 2)])
    ]
    append(config, "selections", [row | {"selection": "s", "n_tokens": 8} for row in rows])
    reader = read_logs(config.tables)
    assert reader is not None
    of_all = {"windows": 2, "samples": 3, "tokens": 24, "highest": 3.0}
    assert listed(reader) == {"s": Domain(lowest=0.0, **of_all)}
    left_out = Domain(windows=0, samples=0, tokens=0, lowest=0.0, highest=0.0)
    assert shown(reader, "s") == {"book": Domain(lowest=1.0, **of_all), "code": left_out}


def test_a_root_without_selections_says_so(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(config.model_dump(mode="json")))
    assert cli.main(["selections", "list", "--config", str(path)]) == 0
    assert cli.main(["selections", "show", "X", "--config", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == "there are no selections yet: run `longattn select`\n"
    assert err == "longattn: selections: there are no selections yet: run `longattn select`\n"


def test_old_selections_go_by_name_and_that_of_the_config_stays(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Step] = []
    row = {"window_id": "w0", "domain": "book", "n_tokens": 8, "copies": 1}
    append(config, "selections", [row | {"selection": name} for name in ("old", "older", "now")])
    monkeypatch.setattr(vacuum, "SessionReader", lambda *_: read_logs(config.tables))
    monkeypatch.setattr(vacuum, "name_of_now", lambda _: "now")
    monkeypatch.setattr(vacuum, "take", lambda _context, _name, work: taken.extend(work()))
    context = SimpleNamespace(config=config, tables={})

    def gone(*names: str, apply: bool = True) -> dict[str, int]:
        return vacuum.vacuum_selections(cast(Any, context), names, apply)

    assert gone("old", "older", apply=False) == {"old": 1, "older": 1} and not taken
    assert gone("old", "older") == {"old": 1, "older": 1}
    assert taken == [Step(table="selections", column="selection", values=["old", "older"])]
    with pytest.raises(UserError, match="none is called x"):
        gone("old", "x")
    with pytest.raises(UserError, match="--selections now: this config describes it"):
        gone("old", "now")
    assert len(taken) == 1


ENDED = [
    ({"status": "failed", "metrics": {"added/scores": 2048.0}}, "stopped, 2,048 scores added"),
    ({"status": "failed", "error": "interrupted"}, "stopped, nothing added"),
    ({"status": "failed", "rows_in": 3}, "does not balance"),
    ({"status": "killed", "metrics": {"added/scores": 2048.0}}, "killed, 2,048 scores added"),
    ({"status": "killed"}, "killed"),
    ({"status": "done", "rows_in": 3, "balances": True}, "balances"),
]


@pytest.mark.parametrize(("ended", "said"), ENDED)
def test_what_a_run_that_did_not_end_had_added_is_said(ended: dict[str, Any], said: str) -> None:
    row = {"rows_in": 0, "balances": False, "metrics": {}} | ended
    assert ledger_words(row).plain == said


def test_what_looks_like_a_mark_is_printed_as_it_stands(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables took [models] for a style, :b: for a picture, and ended at [/INST]."""
    made(config)
    error = "pip install 'longattn-spark[models]': a:b:c [/INST]"
    append(config, "runs", [run("export", status="failed", error=error)])
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(config.model_dump(mode="json")))
    assert cli.main(["status", "--config", str(path)]) == 0
    shown = [line.split("  ")[2] for line in capsys.readouterr().out.splitlines() if ":b:" in line]
    assert error.startswith(shown[0].strip().removeprefix("failed "))


def test_people_see_the_same(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(config)
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(config.model_dump(mode="json")))
    assert cli.main(["status", "--config", str(path)]) == 0
    out = capsys.readouterr().out
    assert "book 2  code 1" in out and "random:seed=0" in out
    assert "1 to do" in out and "scores changed" in out


def test_a_trace_leads_to_where_a_document_is_now(config: Config) -> None:
    """Its file was given another name, and a record was put before it; another's is gone."""
    settings = config.model_dump(mode="json") | {"sources": {"book": [{"path": "new.jsonl"}]}}
    config = validate(settings)
    inputs = inputs_of(config)
    place = {"source_uri": "file:/old.jsonl", "source_row": 1, "n_chars": 1, "text": "a"}
    append(config, "documents", [row | place for row in documents("d1", "d2")])
    file = {"source_uri": "file:/new.jsonl", "fingerprint": "f"}
    append(config, "origins", [{"doc_id": "d1", "source_row": 2, **file}])
    append(config, "listings", [{"inputs": inputs.name, "listing": inputs.sources[0][0], **file}])
    logs = read_logs(config.tables)
    assert logs is not None
    found = documents_of(logs, config, ["d2", "d1"], begin=1)
    assert [(row["source_uri"], row["source_row"], row["current"]) for row in found] == [
        ("file:/old.jsonl", 1, False),
        ("file:/new.jsonl", 2, True),
    ]


def test_nothing_made_yet(config: Config) -> None:
    found = status_of_logs(config)
    assert found is not None and found.tables == {} and found.pending == {} and found.balances


@pytest.mark.parametrize("root", ["lake.scores", "s3a://bucket/tables"])
def test_what_logs_cannot_tell_is_left_to_a_session(config: Config, root: str) -> None:
    other = config.model_copy(update={"tables": config.tables.model_copy(update={"root": root})})
    assert status_of_logs(other) is None
