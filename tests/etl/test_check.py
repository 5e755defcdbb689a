"""`longattn check`: a sound config passes, and each way to break one is told in its own line."""

import gzip
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake
from safetensors.numpy import save_file

from longattn.etl import cli, config
from longattn.etl.after.check import _of_scorers
from longattn.etl.run.jobs import JOBS
from longattn.udfs.models.artefact import FORMAT, ScorerManifest
from tests.conftest import REPO

WORDS = ["[UNK]", "far", "near", "long", "short"]


@pytest.fixture
def sound(tmp_path: Path) -> dict[str, Any]:
    """A config that has all it needs: two sources, a scorer with its tokenizer, places to write."""
    make_scorer(tmp_path / "scorer", vocabulary=len(WORDS), positions=64)
    documents = [{"id": f"d{n}", "text": "far near long short " * 10} for n in range(5)]
    write_lines(tmp_path / "books" / "a.jsonl", documents)
    write_lines(tmp_path / "code" / "a.jsonl", documents)
    return {
        "sources": {
            "book": [{"path": str(tmp_path / "books"), "id": "id"}],
            "code": [{"path": str(tmp_path / "code/*.jsonl")}],
        },
        "tables": {"root": str(tmp_path / "tables")},
        "window": {"length": 16},
        "score": {"scorer": "longattn", "model": str(tmp_path / "scorer"), "device": "cpu"},
        "export": {"jsonl": {"path": str(tmp_path / "export" / "jsonl")}},
        "report": {"path": str(tmp_path / "report.html")},
    }


def make_scorer(folder: Path, vocabulary: int, positions: int, rope: bool = True) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    folder.mkdir()
    tokenizer = Tokenizer(WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"vocab_size": vocabulary, "max_position_embeddings": positions}
    config |= {"rope_parameters": {"rope_type": "default"}} if rope else {}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"embed": np.zeros((vocabulary, 4), np.float32)}, folder / "model.safetensors")
    manifest = ScorerManifest(
        format=FORMAT,
        name="tiny",
        family="llama",
        hash="ab" * 32,
        layers=[0],
        heads=2,
        rope_theta=1e4,
        source="",
        licence=None,
        tensors=1,
        bytes=0,
        tokenizer="tokenizer.json",
    )
    (folder / "scorer.json").write_text(json.dumps(asdict(manifest)))


def write_lines(path: Path, records: list[Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def check(settings: dict[str, Any], folder: Path, *overrides: str) -> int:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return cli.main(["check", "--config", str(path), *(["--set", *overrides] if overrides else [])])


def test_a_sound_config_says_what_was_found(
    sound: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert check(sound, tmp_path) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "sources.book: 1 files" in out and "fields: id, text" in out
    assert "some 40 tokens a document in the first 5, 5 of them" in out
    assert "longattn:tiny@abababab" in out
    assert "select.by: windows are ranked by LDS: how much of the first layer's attention" in out
    assert {*tmp_path.rglob("*")} - {*before} == {tmp_path / "config.yaml"}  # nothing is left


def test_of_several_lengths_each_is_told(
    sound: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    window = ["window={length: 64, strategy: tile}", "mix.buckets={16: 0.5, 40: 0.25, 64: 0.25}"]
    assert check(sound, tmp_path, *window) == 0
    told = "5 of them long enough for a window of 16, 5 of 40, 0 of 64"
    assert told in capsys.readouterr().out
    whole = [
        "window={length: 64, strategy: whole, min_tokens: 20}",
        "score={scorer: recall, k: 10}",
    ]
    assert check(sound, tmp_path, *whole) == 0
    out = capsys.readouterr().out
    assert "40 tokens a document in the first 5; each is a window" in out
    assert "documents from 20 tokens on are windows, and recall finds nothing far in such" in out


@pytest.mark.demo
@pytest.mark.parametrize("name", ["prolong", "olmo3"])
def test_recipes_of_others_pass_on_the_demos_data(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPO)
    recipe = str(REPO / "conf" / f"{name}.yaml")
    assert cli.main(["check", "--config", recipe, "--set", f"tables.root={tmp_path}"]) == 0


BROKEN = {
    "unknown key": (["windw.length=3"], ["unknown key windw"]),
    "two bad values": (
        ["window.length=3", "score.dtype=int4"],
        ["window.length", "score.dtype"],
    ),
    "no sources": (["sources={}"], ["sources: none given"]),
    "domain of the mix": (["mix={bok: 1}"], ["mix.weights: bok is no domain"]),
    "domain of a fraction": (["select.fraction={cod: 0.5}"], ["select.fraction: cod"]),
    "domain of a limit": (["window.min_tokens={web: 9}"], ["window.min_tokens: web"]),
    "domain scored and packed": (
        ["pack.domains=[code]", "pack.separator=far", "score.domains=[code]"],
        ["score.domains: code: packed"],
    ),
    "path": (["sources.book=[{path: no/such}]"], ["sources.book: no such file or folder: no/such"]),
    "two paths": (
        ["sources.book=[{path: no/such}]", "sources.code=[{path: nor/this}]"],
        ["sources.book: no such", "sources.code: no such"],
    ),
    "domain without a source": (["sources.book=[]"], ["sources.book: it names no source"]),
    "domain without a cut": (
        ["select.fraction={code: 0.5}"],
        ["select.fraction: none for book, and no other cut"],
    ),
    "packed domain without a cut": (
        ["pack={domains: [code], separator: far, score: true}", "select.fraction={book: 0.5}"],
        ["select.fraction: none for code, and no other cut"],
    ),
    "comparison": (["select.compare=[lenght]"], ["select.compare: lenght is no ranking"]),
    "budgets below a window": (
        ["select.tokens={code: 15}", "mix.tokens=9"],
        ["mix.tokens: 9 hold no window of 16 tokens", "select.tokens: 15 hold no window of 16"],
    ),
    "export on a file": (
        ["export.jsonl.path={tmp}/report.txt"],
        ["export.jsonl.path: {tmp}/report.txt: {tmp}/report.txt is a file, not a folder"],
    ),
    "report on a folder": (["report.path={tmp}/scorer"], ["report.path: {tmp}/scorer is a folder"]),
    "report on a file": (
        ["report.path={tmp}/config.yaml"],
        ["report.path: {tmp}/config.yaml is no report, and would be replaced"],
    ),
    "include": (
        ["sources.book=[{path: '{tmp}/books', include: ['*.txt']}]"],
        ["sources.book: include and exclude leave no file"],
    ),
    "text field": (
        ["sources.book=[{path: '{tmp}/books', text: txt}]"],
        ["sources.book.text: none of the first 5 records has a text: no field txt"],
    ),
    "id field": (
        ["sources.book=[{path: '{tmp}/books', id: uid}]"],
        ["sources.book.id: no field uid (there are: id, text)"],
    ),
    "meta field": (
        ["sources.book=[{path: '{tmp}/books', meta: [url]}]"],
        ["sources.book.meta: no field url"],
    ),
    "filter": (
        ["sources.book=[{path: '{tmp}/books', where: {id: [x]}}]"],
        ["sources.book.where: none of the first 5 records"],
    ),
    "format": (
        ["sources.book=[{path: '{tmp}/books', format: parquet}]"],
        ["sources.book: none of the first 1 records has a text"],
    ),
    "glob": (
        ["sources.book=[{path: '{tmp}/[z-a]*'}]", "sources.code=[{path: nor/this}]"],
        ["sources.book: [z-a]*: no pattern of names: bad char", "sources.code: no such"],
    ),
    "evaluation set": (
        ["decontaminate.sources=[{path: no/such}]"],
        ["decontaminate.sources[0]: no such file"],
    ),
    "scorer's name": (["score.scorer=longatn"], ["score.scorer: unknown scorer longatn"]),
    "model": (["score.model=no/model", "tokenizer={tmp}/scorer"], ["score.model: no scorer in"]),
    "layer": (["score.layers=[3]"], ["score.layers: the scorer tiny was built for layers [0]"]),
    "k": (
        ["score={scorer: recall, also: {compress: {}, cohesion: {k: 4}}}", "window.length=256"],
        [
            "score.k: recall finds nothing far in such a window (256 tokens; k is 1024)",
            "score.also.compress.k: compress finds nothing far",
        ],
    ),
    "no k": (
        ["score={scorer: random, also: {seams: {}}}", "window.length=512"],
        ["score.also.seams: seams finds nothing far in such a window (512 tokens; 256 at either"],
    ),
    "k of a model": (
        ["score.k=16"],
        [
            "score.k: longattn finds nothing far in such a window (16 tokens; k is 16): every"
            " window would be refused; say score.k: 2, or take longer windows"
        ],
    ),
    "k of a further model": (
        [
            "score={scorer: random, also: {longattn: {k: 20, model: '{tmp}/scorer'}}}",
            *("window={length: 64, strategy: tile}", "mix.buckets={16: 0.5, 64: 0.5}"),
        ],
        ["score.also.longattn.k: longattn finds nothing far in such a window (16 tokens; k is 20)"],
    ),
    "setting of a further scorer": (
        ["score.also={seams: {k: 4}}"],
        ["score.also.seams.k: seams has no such setting; it has background"],
    ),
    "further scorer's name": (
        ["score.also=[recal]"],
        ["score.also: unknown scorer recal (did you mean 'recall'?)"],
    ),
    "comparison with what nothing scores": (
        ["select.compare=[random, length, 'recurrence:k=8']", "score.also=[random]"],
        ["select.compare: nothing scores recurrence:k=8 here, and select ends where it has no sc"],
    ),
    "weight of what is not scored": (
        ["score.domains=[book]", "mix={weights: {book: 1, code: 1}, short: error}"],
        ["mix.weights: code is neither scored nor packed: the mix has none of it"],
    ),
    "tokenizer": (["tokenizer={tmp}/books"], ["tokenizer"]),
    "separator": (["pack={domains: [code], separator: '<eos>'}"], ["pack.separator: '<eos>'"]),
    "root is a file": (["tables.root={tmp}/report.txt/x"], ["tables.root"]),
    "export": (["export.jsonl.path=/proc/export"], ["export.jsonl.path"]),
    "report": (["report.path=/proc/report.html"], ["report.path"]),
    "catalog": (["tables.root=lake.scores"], ["tables.root: lake.scores is a catalog name"]),
    "lease": (["tables.lease_folder=leases"], ["keeps its lease in itself; lease_folder is for"]),
    "connector": (["tables.connector=native"], ["tables.connector: native"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_fault_is_a_line(
    name: str,
    sound: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LONGATTN_DELTA_JARS", raising=False)
    (tmp_path / "report.txt").write_text("")
    overrides, expected = BROKEN[name]
    code = check(sound, tmp_path, *(text.replace("{tmp}", str(tmp_path)) for text in overrides))
    lines = capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(lines) == len(expected), lines
    for line, words in zip(lines, expected, strict=True):
        assert line.startswith("longattn: ") and words.replace("{tmp}", str(tmp_path)) in line


@pytest.mark.parametrize("settings", [{"meta": ["lang"]}, {"where": {"lang": ["en"]}}])
def test_columns_that_divide_a_delta_table_are_columns(
    sound: dict[str, Any], tmp_path: Path, capsys: Any, settings: dict[str, Any]
) -> None:
    """They are in the table's log and not in its files, and were said to be missing."""
    rows = {"id": ["1", "2"], "text": ["far near " * 10] * 2, "lang": ["en"] * 2}
    write_deltalake(str(tmp_path / "table"), pa.table(rows), partition_by=["lang"])
    table = {"path": str(tmp_path / "table"), "format": "delta", "id": "id", **settings}
    sound["sources"]["code"] = [table]
    assert check(sound, tmp_path) == 0
    assert "sources.code: 1 files" in (said := capsys.readouterr().out)
    assert "fields: id, text, lang" in said


def test_paths_beside_a_good_file_may_have_none(sound: dict[str, Any], tmp_path: Path) -> None:
    """Ingest reads such a source: an empty folder, a file of 0 bytes, names that include leaves."""
    more = tmp_path / "more"
    more.mkdir()
    source = {"path": [str(tmp_path / "books"), str(more)], "id": "id", "include": ["*a.jsonl"]}
    for name in ("", "x.jsonl", "a.jsonl"):
        (more / name).touch()
        assert check(sound | {"sources": {"book": [source]}}, tmp_path) == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [("", "no file in {more}"), ("a.jsonl", "no file of {more} can be read: a.jsonl: 0 bytes")],
)
def test_a_folder_that_is_there_is_not_said_to_be_missing(
    name: str, said: str, sound: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (more / name).touch()
    assert check(sound | {"sources": {"book": [{"path": str(more)}]}}, tmp_path) == 2
    assert capsys.readouterr().err == f"longattn: sources.book: {said.format(more=more)}\n"


def test_a_file_that_two_paths_name_is_looked_at_once(
    sound: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = tmp_path / "books"
    sound["sources"]["book"][0]["path"] = [str(book / "a.jsonl"), str(book / "[a]*.jsonl")]
    assert check(sound, tmp_path) == 0
    assert "sources.book: 1 files" in capsys.readouterr().out


def test_a_name_that_is_not_utf_8_is_looked_at(sound: dict[str, Any], tmp_path: Path) -> None:
    """The file was looked for under the name that tables have for it."""
    books = os.fsencode(tmp_path / "books")
    os.rename(books + b"/a.jsonl", books + b"/\xfc.jsonl")
    assert check(sound, tmp_path) == 0


def test_what_ranks_and_which_k_is_meant_is_told(
    sound: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("score={also: {random: {}, cohesion: {k: 100}}}", "window={length: 4096, k: 64}")
    assert check(sound, tmp_path, *given) == 0
    out = capsys.readouterr().out
    assert "tokenizer: words@1: ids of no model" in out
    assert "select.by: windows are ranked by recall: what counts of n-grams gain" in out
    assert "window.k: 64 for every scorer that has a k and is given none" in out
    versions = [line for line in out.splitlines() if line.startswith("score: ")]
    assert [scorer for scorer in versions if ":k=64" in scorer] == [versions[0]]
    assert any("cohesion" in scorer and ":k=100" in scorer for scorer in versions)
    assert check(sound, tmp_path, *given, "select.by=lds") == 0
    assert (
        "select.by: note: windows are ranked by LDS of recall; left out" in capsys.readouterr().out
    )


def test_a_tokenizer_of_another_model_is_told(
    sound: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_scorer(tmp_path / "small", vocabulary=3, positions=64)
    overrides = (f"score.model={tmp_path / 'small'}", f"tokenizer={tmp_path / 'scorer'}")
    assert check(sound, tmp_path, *overrides) == 2
    assert "gives ids up to 4; the model" in capsys.readouterr().err


@pytest.mark.parametrize(("rope", "code"), [(True, 0), (False, 2)])
def test_windows_longer_than_the_models_positions(
    rope: bool,
    code: int,
    sound: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Learned positions end, which is a fault; rotary ones do not, which is a note."""
    make_scorer(tmp_path / "short", vocabulary=len(WORDS), positions=8, rope=rope)
    assert check(sound, tmp_path, f"score.model={tmp_path / 'short'}") == code
    out, err = capsys.readouterr()
    assert "16 tokens; the model" in (err if code else out)


def test_broken_weights_are_told(
    sound: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "scorer" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    assert check(sound, tmp_path) == 2
    assert "score.model: " in capsys.readouterr().err


def test_too_little_disk_is_told(
    sound: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 9})())
    assert check(sound, tmp_path) == 2
    assert "tables.root: tables and staging need up to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("held", "free", "kind"), [(0, 299, "fault"), (100, 200, ""), (100, 199, "fault"), (500, 0, "")]
)
def test_what_the_tables_hold_is_not_needed_once_more(
    sound: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    held: int,
    free: int,
    kind: str,
) -> None:
    """A second look at a root asked for the room of the first; 120 bytes take 2.5 times as many."""
    texts = tmp_path / "books" / "a.jsonl"
    texts.write_text(json.dumps({"id": "a", "text": "far near " * 10}).ljust(119) + "\n")
    (tmp_path / "tables" / "documents").mkdir(parents=True)
    (tmp_path / "tables" / "documents" / "part").write_bytes(b"x" * held)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    given = sound | {"sources": {"book": [{"path": str(texts)}]}}
    assert check(given, tmp_path) == (2 if kind else 0)


def test_packed_texts_may_need_more_room_than_there_is(
    sound: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """How much a file unfolds to is not known: what the least of it needs is there."""
    lines = b"".join(json.dumps({"text": f"far near {n} " * 9}).encode() + b"\n" for n in range(9))
    (tmp_path / "books" / "a.jsonl").unlink()
    (tmp_path / "books" / "b.jsonl.gz").write_bytes(packed := gzip.compress(lines))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=3 * len(packed)))
    given = sound | {"sources": {"book": [{"path": str(tmp_path / "books")}]}}
    assert check(given, tmp_path) == 0
    assert "tables.root: note: tables and staging need up to" in capsys.readouterr().out


def test_folders_of_others_are_told_in_one_line(
    sound: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Python asks the system for what lies in them, which it tells nobody else."""
    closed, stat = str(tmp_path / "closed"), os.stat

    def refused(dir: Path) -> None:
        raise PermissionError(13, "Permission denied", dir)

    def guarded(path: Any, *given: Any, **named: Any) -> os.stat_result:
        if str(path).startswith(f"{closed}/"):
            raise PermissionError(13, "Permission denied", path)
        return stat(path, *given, **named)

    os.mkdir(closed)
    monkeypatch.setattr(os, "stat", guarded)
    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    assert check(sound | {"tables": {"root": f"{closed}/a/tables"}}, tmp_path) == 2
    said = f"tables.root: {closed}/a/tables: cannot write in {closed}: Permission denied"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("also", [False, True])
def test_no_gpu_where_one_is_asked_for(
    also: bool,
    sound: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("longattn.etl.before.scoring.has_nvidia", lambda: False)
    asked = ["score.scorer=random", "score.also=[longattn]"] if also else []
    assert check(sound, tmp_path, "score.device=cuda", *asked) == 2
    assert "score.device: cuda, and this machine has no NVIDIA GPU" in capsys.readouterr().err


@pytest.mark.parametrize("own", [False, True])
def test_the_files_of_every_scorers_model_are_looked_at(
    own: bool, sound: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of score.also were read first after hours of the scorers before."""
    make_scorer(tmp_path / "other", vocabulary=len(WORDS), positions=64)
    folder = tmp_path / ("other" if own else "scorer")
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(b"[]")
    model = f"{{model: {folder}}}" if own else "{}"
    scorers = ["score.scorer=random", f"score.also={{longattn: {model}}}"]
    assert check(sound, tmp_path, *scorers) == 2
    key = "score.also.longattn.model" if own else "score.model"
    weights, config_ = capsys.readouterr().err.splitlines()
    assert weights.startswith(f"longattn: {key}: {folder}/model.safetensors does not open")
    said = f"longattn: {key}: model {folder}/config.json: it holds no mapping of settings"
    assert config_ == said
    (folder / "config.json").write_text("{")
    assert check(sound, tmp_path, *scorers) == 2
    assert f"{folder}/config.json: it cannot be read: Expecting" in capsys.readouterr().err


def test_pairs_of_segments_may_be_read_by_a_model_of_fewer_positions(
    sound: dict[str, Any], tmp_path: Path
) -> None:
    """ProLong's own OPT-350M has 2,048, and reads no more than two segments at once."""
    make_scorer(tmp_path / "opt", vocabulary=len(WORDS), positions=8, rope=False)
    (tmp_path / "opt" / "scorer.json").unlink()  # of a whole model
    model = f"score.model={tmp_path / 'opt'}"
    assert check(sound, tmp_path, model, "score.scorer=prolong") == 0
    assert check(sound, tmp_path, model, "score.scorer=ladm") == 2


def test_what_is_never_selected_is_told(
    sound: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["score.domains=[book]", "mix={book: 1, code: 1}"]
    assert check(sound, tmp_path, *given) == 0
    assert "mix.weights: note: code is neither scored nor packed" in capsys.readouterr().out
    assert check(sound, tmp_path, "score.domains=[book]", "mix={book: 1, code: 0}") == 0
    assert "neither scored" not in capsys.readouterr().out


def test_a_comparison_may_be_with_scores_of_before(
    sound: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare = "select.compare=[recurrence, random, longattn]"
    assert check(sound, tmp_path, compare) == 2
    assert capsys.readouterr().err.count("select.compare") == 1
    (tmp_path / "tables" / "scores").mkdir(parents=True)
    assert check(sound, tmp_path, compare) == 0
    said = "select.compare: note: nothing scores recurrence here, and select ends where it has no"
    assert f"{said} scores: add recurrence to score.also" in capsys.readouterr().out


def test_a_broken_record_hides_no_misspelt_field(
    sound: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "books" / "a.jsonl"
    path.write_text("{broken\n" + path.read_text())
    sound["sources"]["book"][0] |= {"id": "uid", "meta": ["url"]}
    assert check(sound, tmp_path) == 2
    wrong = [line.partition(" (")[0] for line in capsys.readouterr().err.splitlines()]
    assert wrong == [
        "longattn: sources.book.id: no field uid",
        "longattn: sources.book.meta: no field url",
    ]
    path.write_text("{broken\n")
    assert check(sound, tmp_path) == 2
    assert "no field" not in capsys.readouterr().err


def test_run_checks_before_the_first_job(
    sound: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A missing model ends `run` before a session is started; jobs that need none do not mind."""
    started: list[list[str]] = []

    def run_jobs(config: Any, jobs: list[str], log_format: str | None) -> None:
        started.append(jobs)

    monkeypatch.setattr("longattn.etl.console.run_jobs", run_jobs)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(sound | {"score": {"scorer": "longattn", "model": "no/model"}}))
    run = ["run", "--config", str(path), "--set", f"tokenizer={tmp_path / 'scorer'}"]
    assert cli.main(run) == 2
    assert "score.model: no scorer in no/model" in capsys.readouterr().err
    assert not started
    assert cli.main([*run, "--to", "windows"]) == 0
    assert cli.main([*run, "--from", "select"]) == 0
    assert started == [list(JOBS)[:3], list(JOBS)[4:]]


@pytest.mark.parametrize("place", [("score",), ("score", "also", "longattn")])
def test_a_scorer_whose_files_have_changed_is_told_wherever_it_is_named(
    tmp_path: Path, place: tuple[str, ...]
) -> None:
    """`status --check` looked at score.model alone."""
    make_scorer(tmp_path / "scorer", vocabulary=8, positions=64)
    manifest = json.loads((tmp_path / "scorer" / "scorer.json").read_text())
    manifest["checksums"] = {"model.safetensors": 1}
    (tmp_path / "scorer" / "scorer.json").write_text(json.dumps(manifest))
    settings: dict[str, Any] = {"model": str(tmp_path / "scorer")}
    settings |= {"scorer": "longattn"} if place == ("score",) else {}
    for name in reversed(place):
        settings = {name: settings}
    (fault,) = _of_scorers(config.validate(settings))
    assert "model.safetensors is not as it was written" in fault


def test_items_that_cannot_be_looked_for_are_told(
    sound: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Limits of `ingest` are for documents: a question may be short."""
    items = [{"text": "one two three"}, {"text": "far near long short " * 4}]
    write_lines(tmp_path / "books" / "b.jsonl", items)
    limits = ["ingest={min_chars: 100, min_tokens: 20}", "decontaminate.ngram=13"]
    sets = f"decontaminate.sources=[{{path: '{tmp_path}/books/b.jsonl'}}]"
    assert check(sound, tmp_path, *limits, sets) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "decontaminate" in line]
    assert not [line for line in said if "refused as" in line]
    assert any("1 of the first 2 items are shorter than 13 words" in line for line in said)
