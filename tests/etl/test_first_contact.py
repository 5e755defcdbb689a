"""What a newcomer types first, on folders of every kind: init, check, estimate, and then a run."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longattn.etl import config as config_module
from longattn.etl.before.estimate import Estimate, estimate
from longattn.etl.cli import main
from longattn.etl.config import Config

WORDS = [f"word{n}" for n in range(3000)]


def prose(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def write_lines(path: Path, texts: list[str]) -> None:
    rows = [{"id": f"{path.stem}{number}", "text": text} for number, text in enumerate(texts)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)


def one_big_file(root: Path, rng: random.Random) -> None:
    write_lines(
        root / "books" / "all.jsonl", [prose(rng, rng.randint(2000, 12000)) for _ in range(60)]
    )


def many_small_ones(root: Path, rng: random.Random) -> None:
    (root / "notes").mkdir()
    for n in range(400):
        (root / "notes" / f"{n:04}.txt").write_text(prose(rng, rng.randint(20, 3000)))


def code(root: Path, rng: random.Random) -> None:
    for n in range(40):
        path = root / "src" / f"pkg{n % 5}" / f"m{n}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(f"def f{i}(x): return x + {rng.random()}" for i in range(300)))


def a_mix_of_lengths(root: Path, rng: random.Random) -> None:
    """One text of many windows beside many that fill none."""
    write_lines(
        root / "web" / "a.jsonl", [prose(rng, 200) for _ in range(150)] + [prose(rng, 80_000)]
    )
    write_lines(root / "book" / "b.jsonl.gz", [prose(rng, 9000) for _ in range(20)])


def chinese(root: Path, rng: random.Random) -> None:
    letters = [chr(0x4E00 + n) for n in range(800)]
    write_lines(root / "zh" / "a.jsonl", ["".join(rng.choices(letters, k=5000)) for _ in range(12)])


def empty_files(root: Path, rng: random.Random) -> None:
    write_lines(root / "data" / "a.jsonl", [prose(rng, 5000) for _ in range(8)])
    for n in range(5):
        (root / "data" / f"empty{n}.jsonl").write_text("")


def copies(root: Path, rng: random.Random) -> None:
    texts = [prose(rng, 5000) for _ in range(10)]
    write_lines(root / "twice" / "a.jsonl", texts + texts[:5] + [texts[0].upper()])


def files_beside_folders(root: Path, rng: random.Random) -> None:
    (root / "readme.md").write_text(prose(rng, 6000))
    write_lines(root / "more" / "a.jsonl", [prose(rng, 6000) for _ in range(4)])


KINDS: dict[str, Callable[[Path, random.Random], None]] = {
    made.__name__: made
    for made in (
        one_big_file,
        many_small_ones,
        code,
        a_mix_of_lengths,
        chinese,
        empty_files,
        copies,
        files_beside_folders,
    )
}
RUN = ("many_small_ones", "a_mix_of_lengths", "copies")  # the others stop before Spark


def begun(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Config, Estimate]:
    """A folder of a kind after init, check and estimate, as they are typed."""
    root = tmp_path / "corpus"
    root.mkdir()
    KINDS[kind](root, random.Random(kind))
    monkeypatch.chdir(tmp_path)
    printed: list[Estimate] = []

    def kept(*given: Any) -> Estimate:
        printed.append(estimate(*given))
        return printed[0]

    monkeypatch.setattr("longattn.etl.before.estimate.estimate", kept)
    assert main(["init", "corpus"]) == 0
    assert main(["check", "--config", "longattn.yaml"]) == 0
    assert main(["estimate", "--config", "longattn.yaml"]) == 0
    return config_module.load("longattn.yaml"), printed[0]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in RUN])
def test_init_writes_what_check_and_estimate_accept(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, found = begun(kind, tmp_path, monkeypatch)
    out, err = capsys.readouterr()
    assert err == "" and found.documents.value > 0 and found.windows.value > 0
    told = {line.split()[0] for line in out.splitlines() if line.count("%") == 6}
    assert told == set(config.sources)
    assert "windows are ranked by recall" in out and "scoring, recall, CPU" in out


@pytest.mark.slow
@pytest.mark.spark
@pytest.mark.parametrize("kind", RUN)
def test_an_estimate_is_what_the_run_finds(
    kind: str,
    spark: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The folders are small enough to be read whole, so that little is left to guess."""
    import longattn

    _, found = begun(kind, tmp_path, monkeypatch)
    last = "report" if kind == "copies" else "score"
    result = longattn.run("longattn.yaml", to=last)
    runs = {run.job: run.outcome for run in result.runs}
    assert runs["ingest"].rows_out == found.documents.value
    dropped = runs["ingest"].rows_out - runs["dedup"].rows_out
    assert found.duplicates.value * found.documents.value == pytest.approx(dropped)
    assert found.windows.value == pytest.approx(runs["score"].rows_out, rel=0.02)
    tokens = result.table("lengths").selectExpr("sum(n_tokens)").first()[0]
    assert found.tokens.value == pytest.approx(tokens, rel=0.1)
    assert main(["status", "--config", "longattn.yaml"]) == 0
    if last == "report":
        for name in ("parquet", "jsonl"):
            size, told = runs["export"].figures.formats[name].bytes, found.bytes[f"export.{name}"]
            assert told.low <= size <= told.high
        assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
        assert result.selection["rank"].tolist() == list(range(1, len(result.selection) + 1))
        assert result.ledger["job"].tolist()[-1] == "report"


def test_init_shows_what_each_length_would_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Code of short files beside long books: the books alone would have taken 32,768."""
    rng = random.Random(0)
    write_lines(tmp_path / "corpus" / "book" / "a.jsonl", [prose(rng, 40_000) for _ in range(3)])
    write_lines(tmp_path / "corpus" / "code" / "a.jsonl", [prose(rng, 2500) for _ in range(30)])
    monkeypatch.chdir(tmp_path)
    assert main(["init", "corpus"]) == 0
    out = capsys.readouterr().out
    (row,) = [line.split() for line in out.splitlines() if line.startswith("code ")]
    assert row == ["code", "30", "2,500", *["30", "100%"] * 2, *["0", "0%"] * 4]
    assert config_module.load("longattn.yaml").window.length == 2048
    longer = ["--set", "window.length=8192", "score.k=null"]
    assert main(["check", "--config", "longattn.yaml", *longer]) == 0
    said = capsys.readouterr().out
    assert "sources.code: note:" in said and "100% of the tokens are in none" in said
    assert "shorter windows (window.length), or pack it (pack.domains: [code])" in said
    assert "sources.book: note" not in said
