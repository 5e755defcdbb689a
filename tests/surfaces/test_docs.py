"""Every command in the README and in docs does what it says, as it stands there.

A block is run by bash in a copy of the demo's surroundings, with a corpus of three documents. What
needs no Spark is run as typed; jobs are run in this process, in the tests' session; other programs
are looked at: their argv, and that what they name is there. A block that no test can run says why,
in a comment above it.
"""

import ast
import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from transformers import AutoConfig, AutoModelForCausalLM

from longattn.etl import cli
from longattn.etl import config as config_module
from longattn.etl.before.check import check
from longattn.etl.before.findings import faults
from longattn.etl.run.jobs import JOBS
from longattn.udfs.models.build import build_scorer
from tests.udfs.models import SMALL

REPO = Path(__file__).resolve().parents[2]
PAGES = [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[\w ]+): (?P<why>[^>]*?) -->\n)?^ *```(?P<kind>\w*)\n(?P<text>.*?)^ *```",
    re.DOTALL | re.MULTILINE,
)
KINDS = {"bash", "python", "yaml", "ini", "text"}
DOMAINS = ("arxiv", "book", "code", "wiki")  # that pages take as known
# Run as typed by the stub `longattn`; the other commands start Spark.
AS_TYPED = ("init", "config", "status", "score-window", "check", "verify")
PLACEHOLDERS = {"FOLDER": "corpus", "DIR_OR_HUB_ID": "model", "LM": "model"}
# Named in docs and run for real by this module; of the others the arguments and the config are
# checked as `longattn check` does, because they would take minutes.
CHEAP = {
    "longattn select --config conf/demo.yaml --set select.by=longattn",
    "longattn trace WINDOW_ID --config conf/demo.yaml",
    "longattn trace --export out/parquet --sample 0",
    "longattn report --config conf/demo.yaml --open",
}
RECORDED = ("make", "spark-submit", "pip", "python3.11", "airflow", "databricks", "torchrun")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    number: int
    kind: str
    text: str
    mark: str | None  # of the comment above: `not run`, `command`
    why: str | None

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"


def blocks(kind: str | None = None) -> list[Block]:
    found = [
        Block(page.name, number, m["kind"], dedent(m["text"]), m["mark"], m["why"])
        for page in PAGES
        for number, m in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8")))
    ]
    return [block for block in found if kind in (None, block.kind)]


@dataclass(frozen=True)
class World:
    """A folder to type commands in."""

    folder: Path

    def typed(self, script: str) -> tuple[str, list[list[str]]]:
        """Run a script as bash would; what it printed, and the commands that stubs wrote down."""
        record = self.folder / "record"
        record.write_bytes(b"")
        path = f"{self.folder / 'stubs'}:/usr/bin:/bin"
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(REPO), "RECORD": str(record)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ran.returncode == 0, f"{script}\n{ran.stdout}\n{ran.stderr}"
        commands = record.read_text().split("\x1e\0")[:-1]
        return ran.stdout, [command.split("\0")[:-1] for command in commands]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """What the pages take for granted: the checkout's files, a corpus, configs by their names."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("conf", "notebooks", "bin"):
        shutil.copytree(REPO / name, folder / name)
    for name in ("README.md", "constraints-airflow.txt"):
        shutil.copy(REPO / name, folder / name)
    _write_model(folder / "model")
    build_scorer(str(folder / "model"), str(folder / "data" / "scorer"))
    _write_corpus(folder)
    # absolute: the JVM of the tests was started in another folder
    config = re.sub(r"\bdata/", f"{folder}/data/", (REPO / "conf" / "demo.yaml").read_text())
    (folder / "conf/demo.yaml").write_text(config)
    own = yaml.safe_load(config)
    for name in ("also", "model"):  # as `init` writes it
        del own["score"][name]
    own["tokenizer"] = str(folder / "data" / "scorer")
    for name in ("my.yaml", "conf/mine.yaml"):
        (folder / name).write_text(yaml.safe_dump(own))
    (folder / "windows.jsonl").write_text(json.dumps({"input_ids": list(range(5, 69))}) + "\n")
    _write_stubs(folder)
    return World(folder)


def _write_model(folder: Path) -> None:
    """A small random Llama that reads the demo's tokens."""
    settings = SMALL | {"vocab_size": 49_152, "max_position_embeddings": 8_192}
    config = AutoConfig.for_model(model_type="llama", **settings)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(REPO / "data" / "scorer" / name, folder / name)


def _write_corpus(folder: Path) -> None:
    """A document of each of the demo's domains, in its formats, and a folder for `init`."""
    texts = [_prose(seed) for seed in range(3)]
    for name in ("demo/arxiv", "demo/book", "demo/code"):
        (folder / "data" / name).mkdir(parents=True)
    meta = {"url": "https://example.org", "yymm": "2601"}
    rows = [{"text": t, "meta": {"arxiv_id": f"a{i}", **meta}} for i, t in enumerate(texts[:1])]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "data/demo/arxiv/a.jsonl").write_text(lines)
    book = {"created": "1850", "metadata": {"url": "https://example.org"}}
    books = [{"id": f"b{i}", "text": text, **book} for i, text in enumerate(texts[1:2])]
    with gzip.open(folder / "data/demo/book/b.json.gz", "wt") as file:
        file.writelines(json.dumps(book) + "\n" for book in books)
    columns = ("max_stars_repo_name", "max_stars_repo_path")
    code = {"content": texts[2:], **{name: ["a"] for name in columns}}
    pq.write_table(pa.table(code), folder / "data/demo/code/c.parquet")
    (folder / "corpus" / "book").mkdir(parents=True)
    shutil.copy(folder / "data/demo/arxiv/a.jsonl", folder / "corpus" / "book" / "a.jsonl")
    (folder / "book.txt").write_text("\n\n".join(texts))


def _prose(seed: int) -> str:
    """Text of more than 8,192 tokens: the pages of this project, each time from another one on."""
    pages = [page.read_text(encoding="utf-8") for page in PAGES[2:]]
    return "\n\n".join([f"Document {seed}", *pages[seed:], *pages[:seed]])[:38_000]


def _write_stubs(folder: Path) -> None:
    """Commands by their names: what is short is run, the others write down their arguments."""
    note = '{ printf "%s\\0" "$(basename "$0")" "$@"; printf "\\x1e\\0"; } >> "$RECORD"\n'
    python = f'if [ "$1" = -c ]; then exec {sys.executable} "$@"; fi\n'
    short = f'case $1 in {"|".join(AS_TYPED)}) exec {sys.executable} -m longattn "$@";; esac\n'
    scripts = dict.fromkeys(RECORDED, note) | {"python": python + note, "longattn": short + note}
    for name, script in scripts.items():
        _executable(folder / "stubs" / name, script)
    for name in ("pip", "python"):
        for venv in (".venv", ".venv-airflow"):
            _executable(folder / venv / "bin" / name, scripts[name])
    (folder / ".venv" / "bin" / "activate").write_text("")


def _executable(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{script}")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def demo(world: World, spark: Any) -> Iterator[World]:
    """The README's first command has been run: there are windows to select from and to trace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.folder)
        patch.setattr("webbrowser.open", lambda url: True)
        assert cli.main(["run", "--config", "conf/demo.yaml"]) == 0
        (world.folder / "out").symlink_to(world.folder / "data" / "export")
        yield world


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file that is there, and to a heading of it; pages of the web are not looked at."""
    for target, heading in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text("utf-8")):
        if "://" not in target:
            place = page.parent / target if target else page
            assert place.exists(), target
            assert not heading or heading in headings(place), f"{target}#{heading}"


def test_the_site_leads_to_every_page() -> None:
    nav = (REPO / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    listed = {REPO / name for name in re.findall(r": (\S+\.md)$", nav, re.MULTILINE)}
    assert listed >= set(PAGES) - {
        REPO / "docs" / "package.md"
    }  # the index's own page of the wheel
    assert all(page.exists() or page.parent.name == "adr" for page in listed)


def headings(page: Path) -> set[str]:
    """The anchors that a page's headings have on GitHub."""
    lines = re.findall(r"^#+ (.*)", page.read_text("utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", line.lower()).strip() for line in lines)
    return {line.replace(" ", "-") for line in plain}


def test_every_block_says_what_it_is() -> None:
    wrong = [f"{block}: {block.kind!r}" for block in blocks() if block.kind not in KINDS]
    assert not wrong
    marks = {block.mark for block in blocks() if block.mark}
    assert marks <= {"not run", "command"}  # commands: tests/surfaces/test_submit.py
    assert all(block.why for block in blocks() if block.mark)


def runnable() -> list[Block]:
    return [block for block in blocks("bash") if block.mark is None]


@pytest.mark.demo
@pytest.mark.spark
@pytest.mark.parametrize("block", runnable(), ids=str)
def test_a_block_runs_as_it_stands(demo: World, block: Block) -> None:
    script = block.text
    for word, here in PLACEHOLDERS.items():
        script = re.sub(rf"\b{word}\b", here, script)
    _, commands = demo.typed(script)
    for command in commands:
        LOOK[command[0]](demo, command[1:])


@pytest.mark.parametrize("block", [b for b in blocks("bash") if b.mark == "not run"], ids=str)
def test_arguments_of_what_is_not_run_are_known(block: Block) -> None:
    """As far as they are ours: a command that is one line of the page."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.startswith("longattn "):
            cli._parser().parse_args(shlex.split(line)[1:])


def _longattn(world: World, argv: list[str]) -> None:
    """Run a cheap command; of another check the arguments, the config and what it needs."""
    typed = " ".join(["longattn", *argv])
    if typed in CHEAP:
        assert cli.main([_window_id(world) if a == "WINDOW_ID" else a for a in argv]) == 0
        return
    if argv[:2] == ["scorer", "build"]:
        assert cli.main(argv) == 0
        return
    arguments = cli._parser().parse_args(argv)
    config = config_module.load(arguments.config, arguments.set)
    first = getattr(arguments, "first", None) or "ingest"
    jobs = list(JOBS)[list(JOBS).index(first) :]
    assert not faults(check(config, jobs))


def _window_id(world: World) -> str:
    shard = next((world.folder / "data" / "export" / "parquet").glob("*.parquet"))
    return str(pq.read_table(shard)["window_id"][0].as_py())


def _make(world: World, argv: list[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (REPO / "Makefile").read_text(), re.MULTILINE)
    assert [target for target in argv if target not in targets] == []


def _pip(world: World, argv: list[str]) -> None:
    """Extras are those of setup.cfg; files are there."""
    for word in argv:
        extras = re.search(r"\[([\w,-]+)\]", word)
        for extra in extras[1].split(",") if extras else []:
            assert re.search(rf"^{extra} =$", (REPO / "setup.cfg").read_text(), re.MULTILINE), word
        assert not word.endswith(".txt") or (world.folder / word).exists()


def _python(world: World, argv: list[str]) -> None:
    """A script of the repository, over files and settings that are there; `-m` is Python's own."""
    if argv[0] == "-m":
        assert argv[1] == "venv"
        return
    assert (world.folder / argv[0]).exists()
    assert all((world.folder / word).exists() for word in argv[1:] if word.startswith("notebooks/"))


LOOK = {
    "longattn": _longattn,
    "make": _make,
    "pip": _pip,
    "python": _python,
    "python3.11": _python,
}


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_settings_are_settings(block: Block) -> None:
    source = {"meta": ["repo_name", "path"]}
    base = {"sources": {domain: [{"path": f"{domain}.jsonl", **source}] for domain in DOMAINS}}
    config_module.validate({**base, **yaml.safe_load(block.text)})


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_is_python(block: Block) -> None:
    ast.parse(block.text)


@pytest.mark.demo
def test_five_lines_give_scores(world: World, monkeypatch: Any, capsys: Any) -> None:
    (block,) = [block for block in blocks("python") if block.page == "README.md"]
    monkeypatch.chdir(world.folder)
    found: dict[str, Any] = {}
    exec(block.text, found)
    assert found["scores"]["ds"].notna().all() and len(found["scores"]) > 1
    assert "start_char" in capsys.readouterr().out


@pytest.mark.demo
@pytest.mark.spark
def test_a_selection_loads_as_a_data_set(demo: World, monkeypatch: Any) -> None:
    pytest.importorskip("datasets")
    (block,) = [b for b in blocks("python") if b.page == "trainers.md" and "datasets" in b.text]
    monkeypatch.chdir(demo.folder)
    found: dict[str, Any] = {}
    exec(block.text, found)
    assert len(found["samples"]) > 0
