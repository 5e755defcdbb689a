"""`longattn init`: what it finds in a folder, and a config that check passes."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from longattn.etl import config as config_module
from longattn.etl.before.check import check
from longattn.etl.before.estimate import estimate
from longattn.etl.before.findings import faults
from longattn.etl.before.guess import LENGTHS, guess
from longattn.etl.before.probe import look_at
from longattn.etl.cli import main
from longattn.etl.export.places import TITLE
from longattn.etl.ingest.own import OwnFiles
from longattn.etl.ingest.sources import spec_of

LONG = "It was the best of times, it was the worst of times. " * 400  # 5,600 words and marks


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Files beside two folders of documents, and what must be left aside."""
    root = tmp_path / "My corpus"
    for name in ("web pages", "code", ".git"):
        (root / name).mkdir(parents=True)
    (root / "readme.txt").write_text(LONG)
    (root / "table.csv").write_text("a,b\n1,2\n")
    (root / "web pages" / "picture.png").write_bytes(b"\x89PNG\0\xff")
    (root / ".git" / "HEAD.txt").write_text("ref")
    records = [{"url": f"u{i}", "title": "t", "body": LONG + str(i)} for i in range(3)]
    lines = "\n".join(map(json.dumps, records))
    (root / "web pages" / "a.jsonl").write_text(lines)
    (root / "web pages" / "b.jsonl.gz").write_bytes(
        gzip.compress(lines.replace(': "u', ': "v').encode())
    )
    pq.write_table(
        pa.table({"id": [1, 1], "source": ["short", "s"], "blob": [LONG, LONG]}),
        root / "code" / "x.parquet",
    )
    return root


def test_what_is_found(corpus: Path) -> None:
    found = guess(str(corpus), OwnFiles(config_module.Config()))
    seen = {
        s.domain: (s.format, len(s.files), s.include, s.text, s.id, s.other) for s in found.sources
    }
    assert seen == {
        "my_corpus": ("text", 1, ["*.txt"], None, None, []),
        "code": ("parquet", 1, ["*.parquet"], "blob", None, ["id", "source"]),
        "web_pages": ("jsonl", 2, ["*.jsonl", "*.jsonl.gz"], "body", "url", ["title"]),
    }
    assert {Path(name).name for name in found.ignored} == {"table.csv", "picture.png"}
    assert found.window == 4096  # every text has 5,600 tokens


def test_the_config_written_is_one_that_check_passes(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", str(corpus), "--out", "mine.yaml"]) == 0
    config = config_module.load("mine.yaml")
    assert [str(finding) for finding in faults(check(config))] == []
    assert set(config.sources) == {"my_corpus", "code", "web_pages"}
    assert (config.tokenizer, config.score.scorer, config.select.by) == ("words", "recall", "ds")
    assert (config.window.k, config.score.k) == (None, None)  # the scorer's own


def test_files_beside_the_domains_are_counted_once(corpus: Path, tmp_path: Path) -> None:
    """A folder as a path would be read with all below it, and so take the domains' files too."""
    (corpus / "code" / "notes.txt").write_text(LONG)
    main(["init", str(corpus), "--out", str(tmp_path / "c.yaml")])
    (source,) = config_module.load(tmp_path / "c.yaml").sources["my_corpus"]
    assert source.path == [f"{corpus}/*.txt"]


def test_a_config_is_never_overwritten(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("seed: 1\n")
    assert main(["init", str(corpus), "--out", str(mine)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert mine.read_text() == "seed: 1\n"


def test_a_folder_without_documents_says_what_it_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.csv").write_text("a,b\n")
    assert main(["init", str(tmp_path), "--out", str(tmp_path / "c.yaml")]) == 2
    assert "x.csv: tables of text are read as Parquet" in capsys.readouterr().err
    assert main(["init", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert not (tmp_path / "c.yaml").exists()


@pytest.fixture
def files_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, set[str]]]:
    """What the config of a folder `corpus` takes: names of files by domain and format."""
    (tmp_path / "corpus").mkdir()
    monkeypatch.chdir(tmp_path)

    def taken() -> dict[str, set[str]]:
        assert main(["init", "corpus"]) == 0
        config = config_module.load("longattn.yaml")
        assert not faults(check(config))
        names: dict[str, set[str]] = {}
        for domain, sources in config.sources.items():
            for source in sources:
                spec, own = spec_of(domain, source, config), OwnFiles(config)
                files = look_at(domain, source, spec, own).files
                known = names.setdefault(f"{domain}/{source.format}", set())
                known |= {Path(file.path).name for file in files}
        return names

    return taken


def test_names_without_an_ending_stand_for_no_other_file(
    files_of: Callable[[], dict[str, set[str]]],
) -> None:
    """README is a text; the pattern of such names takes no JSON lines, tables or pictures."""
    lines = "".join(json.dumps({"id": str(n), "text": LONG + str(n)}) + "\n" for n in range(3))
    for place in (Path("corpus"), Path("corpus/web")):
        place.mkdir(exist_ok=True)
        for name in ("README", "LICENSE", "b.txt", "c.[x]"):
            (place / name).write_text(LONG)
        (place / "a.jsonl").write_text(lines)
        (place / "x.png").write_bytes(b"\x89PNG\0")
        (place / "t.csv").write_text("a,b\n")
    texts = {"README", "LICENSE", "b.txt", "c.[x]"}
    assert files_of() == {
        "corpus/text": texts,
        "corpus/jsonl": {"a.jsonl"},
        "web/text": texts,
        "web/jsonl": {"a.jsonl"},
    }


def test_hidden_files_are_those_that_ingest_reads(
    files_of: Callable[[], dict[str, set[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    """They were left out in silence, and read all the same."""
    for name in ("v/x.jsonl", "v/.dot.jsonl", "v/.in/_y.jsonl", ".hid/x.jsonl", "_w/x.jsonl"):
        Path("corpus", name).parent.mkdir(parents=True, exist_ok=True)
        Path("corpus", name).write_text(json.dumps({"text": LONG}) + "\n")
    for name in ("v/.env", "v/README", ".gitignore", "v/_SUCCESS", "v/notes.txt"):
        Path("corpus", name).write_text(LONG)
    Path("corpus/v/nothing.txt").touch()
    assert files_of() == {
        "v/jsonl": {"x.jsonl", ".dot.jsonl", "_y.jsonl"},
        "v/text": {"README", "notes.txt"},
        "w/jsonl": {"x.jsonl"},
    }
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left aside")]
    hidden = {f"left aside: corpus/{name}: hidden" for name in (".hid", ".gitignore", "v/.env")}
    assert {*said} == {*hidden, "left aside: corpus/v/nothing.txt: empty"}


def test_columns_that_python_cannot_hold_and_names_that_are_no_text(
    files_of: Callable[[], dict[str, set[str]]],
) -> None:
    """A year beyond 9999 refuses its record, bytes are a text where they decode."""
    far = pa.array([19_000, 3_664_000], pa.int32()).cast(pa.date32())
    texts = pa.array([LONG.encode(), LONG.upper().encode()])
    pq.write_table(pa.table({"id": ["a", "b"], "text": texts, "day": far}), "corpus/x")
    os.rename(b"corpus/x", b"corpus/\xfc.parquet")
    with open(b"corpus/\xfc.png", "wb") as picture:
        picture.write(b"\0")
    (names,) = files_of().values()
    assert [os.fsencode(name) for name in names] == [b"\xfc.parquet"]
    assert config_module.load("longattn.yaml").sources["corpus"][0].text == "text"


def test_folders_of_one_name_are_one_domain(
    files_of: Callable[[], dict[str, set[str]]],
) -> None:
    """What is left of a name is small letters; a folder may be called as the one that it is in."""
    for number, folder in enumerate(("", "A b", "a", "a_b", "Corpus")):
        Path("corpus", folder).mkdir(exist_ok=True)
        Path("corpus", folder, f"{number}.txt").write_text(LONG)
    assert files_of() == {
        "corpus/text": {"0.txt", "4.txt"},
        "a_b/text": {"1.txt", "3.txt"},
        "a/text": {"2.txt"},
    }


def test_an_export_is_no_domain(files_of: Callable[[], dict[str, set[str]]]) -> None:
    """Who runs init again, beside what a run has left."""
    for place in ("corpus/book", "corpus/out/jsonl/book"):
        Path(place).mkdir(parents=True)
        Path(place, "a.jsonl").write_text(json.dumps({"id": "a", "text": LONG}) + "\n")
    manifest = {"longattn": "0.2.0", "files": []}
    Path("corpus/out/jsonl/_manifest.json").write_text(json.dumps(manifest))
    Path("out").mkdir()
    for name in ("out/report.html", "out/x.txt"):
        Path(name).write_text(f"<!doctype html><title>{TITLE}</title>{LONG}")
    assert files_of() == {"book/jsonl": {"a.jsonl"}}
    Path("longattn.yaml").unlink()
    assert main(["init", "."]) == 0
    domains = config_module.load("longattn.yaml").sources
    assert {name: source.include for name, (source,) in domains.items()} == {
        "corpus": ["*.jsonl"],
        "out": ["*.txt"],
    }


def test_a_delta_table_is_no_folder_of_parquet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files hold rows that were deleted."""
    write_deltalake(tmp_path / "c" / "t", pa.table({"id": ["a", "b"], "text": [LONG, LONG]}))
    command = ["init", str(tmp_path / "c"), "--out", str(tmp_path / "c.yaml")]
    assert main(command) == 2
    assert f"{tmp_path / 'c' / 't'}: a Delta table: name it" in capsys.readouterr().err
    pq.write_table(pa.table({"id": ["a", "b"], "text": [LONG, LONG]}), tmp_path / "c" / "x.parquet")
    (tmp_path / "c" / "d").mkdir()
    (tmp_path / "c" / "t").rename(tmp_path / "c" / "d" / "t")
    pq.write_table(pa.table({"id": ["c"], "text": [LONG]}), tmp_path / "c" / "d" / "y.parquet")
    assert main(command) == 0
    config = config_module.load(tmp_path / "c.yaml")
    assert not faults(check(config))
    assert estimate(config).documents.value == 3


def test_names_that_are_no_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A newline ended the comment that it stood in, a colon the name of a scheme."""
    root = tmp_path / "c\n- orpus"
    for name in ("2024-01-01T10:00:00.txt", "a:b/c:d.txt", "~home/a.x\ny"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(LONG)
    (root / "a.jsonl").write_text(json.dumps({"te\nxt": LONG, "o\nk": 0}) + "\n")
    (root / "left\n- aside\x1b.png").write_bytes(b"\0")
    monkeypatch.chdir(root)
    for folder, out in ((".", "a.yaml"), (f"../{root.name}", "../b.yaml")):
        assert main(["init", folder, "--out", out]) == 0
        assert "left\\n- aside\\x1b.png: neither JSON lines" in capsys.readouterr().out
        config = config_module.load(out)
        assert not faults(check(config))
        assert [source.text for source in config.sources["c_orpus"]] == ["text", "te\nxt"]
    given = config_module.load("a.yaml").sources
    assert [given[name][0].path for name in ("a_b", "home")] == [["./a:b"], ["./~home"]]


@pytest.mark.parametrize(
    ("lengths", "window", "said"),
    [
        ({"a": 9000, "b": 5000}, 4096, "the longest that suits every domain"),
        ({"a": 9000, "b": 50}, 8192, "the longest that suits every domain but b, which none suits"),
        ({"a": 500, "b": 50}, 1024, "the shortest, as none suits any domain"),
    ],
)
def test_what_the_window_is_chosen_by_is_true(
    lengths: dict[str, int],
    window: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And the table has what fills each length, beside what is kept."""
    for domain, length in lengths.items():
        (tmp_path / "c" / domain).mkdir(parents=True)
        for name, text in (("long", "word " * length), ("short", "word " * (length // 5))):
            (tmp_path / "c" / domain / f"{name}.txt").write_text(text)
    assert main(["init", str(tmp_path / "c"), "--out", str(tmp_path / "c.yaml")]) == 0
    out = capsys.readouterr().out
    assert f"windows of {window:,} tokens, {said}; written" in out
    config = (tmp_path / "c.yaml").read_text()
    assert f"# guessed: {said}. A length suits where" in config
    (row,) = [line for line in out.splitlines() if line.startswith("a ")]
    numbers = row.split()[3:]
    filled = [sum(n >= length for n in (lengths["a"], lengths["a"] // 5)) for length in LENGTHS]
    assert [int(n) for n in numbers[::2]] == filled[::-1]
    assert all(percent.endswith("%") for percent in numbers[1::2]) and row in config


@pytest.mark.parametrize("before", ["", "a", "ab"])
def test_text_of_long_letters_is_text_wherever_a_look_ends(tmp_path: Path, before: str) -> None:
    """Chinese has three bytes a letter, of which the first kilobytes may end with one or two."""
    (tmp_path / "zh.txt").write_text(before + "\u6f6e" * 9000, encoding="utf-8")
    (tmp_path / "nothing.txt").write_text("")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 2000)
    (tmp_path / "wide.txt").write_text(before + "\u6f6e\U0001d11e" * 9000, encoding="utf-16")
    corpus = guess(str(tmp_path), OwnFiles(config_module.validate({})))
    assert [len(source.files) for source in corpus.sources] == [2]
    assert {Path(name).name: why for name, why in corpus.ignored.items()} == {
        "nothing.txt": "empty",
        "latin.txt": "neither JSON lines nor Parquet nor text",
    }


@pytest.mark.parametrize(
    ("tokenizer", "code"),
    [("./missing", 2), ("../a/b", 2), ("corpus", 2), ("words", 0), ("no-such-owner/model", 0)],
)
def test_a_tokenizer_is_a_path_with_one_or_may_be_on_the_hub(
    tokenizer: str,
    code: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("corpus").mkdir()
    Path("corpus/a.txt").write_text(LONG)
    assert main(["init", "corpus", "--tokenizer", tokenizer]) == code
    err = capsys.readouterr().err
    assert Path("longattn.yaml").exists() == (not code)
    assert (
        err.startswith(f"longattn: tokenizer {tokenizer}: ") == (err.count("\n") == 1) == bool(code)
    )


def test_a_draft_needs_neither_spark_nor_a_model(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(LONG)
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'transformers', 'pyspark')))\n"
        "from longattn.etl.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    out = str(tmp_path / "c.yaml")
    argv = [sys.executable, "-c", code, "init", str(tmp_path), "--out", out]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_text_that_cannot_be_read_is_left_aside_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ended `init`, where ingest refuses it and goes on."""
    (tmp_path / "c").mkdir()
    for name in ("a.txt", "b.md"):
        (tmp_path / "c" / name).write_text(LONG)
    opened = Path.open

    def guarded(path: Path, *given: str, **named: str) -> object:
        if path.name == "b.md":  # who runs tests as root may read everything
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *given, **named)

    monkeypatch.setattr(Path, "open", guarded)
    assert main(["init", str(tmp_path / "c"), "--out", str(tmp_path / "c.yaml")]) == 0
    said = f"left aside: {tmp_path}/c/b.md: [Errno 13] Permission denied"
    assert said in capsys.readouterr().out
    (source,) = config_module.load(tmp_path / "c.yaml").sources["c"]
    assert source.path == [f"{tmp_path}/c/*.txt"]
