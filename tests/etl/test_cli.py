"""The command line without Spark: help, versions, exit codes and one-line errors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from longattn.etl import cli
from longattn.etl.run.jobs import JOBS, between
from longattn.udfs import __version__


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "longattn.etl.cli", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def test_version_and_help_exit_zero() -> None:
    assert run("--version").stdout == f"longattn {__version__}\n"
    help_text = run("--help").stdout
    assert all(job in help_text for job in JOBS)


@pytest.mark.parametrize(
    "command", [*JOBS, "run", "check", "status", "trace", "config", "score-window"]
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    assert f"longattn {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [
        ["ingest"],
        ["nonsense"],
        ["ingest", "--config", "no/such/file.yaml"],
        ["config", "--config", "{conf}", "--set", "windw.length=3"],
        ["run", "--config", "{conf}", "--from", "score", "--to", "ingest"],
        *(["session", "--config", "{conf}", "--minutes", n] for n in ("0", "-1", "nan", "inf")),
        *(["vacuum", "--config", "{conf}", "--hours", n] for n in ("-1", "nan", "inf", "1e300")),
        *(["scorer", "background", "--config", "{conf}", "--tokens", n] for n in ("0", "-5", "x")),
        *(["scorer", "calibrate", "--config", "{conf}", "--windows", n] for n in ("0", "-5")),
        *([command, "--config", ""] for command in ("run", "vacuum", "status", "check", "config")),
        ["select", "--config", "{conf}", "--name", ""],
        ["init", "{conf}", "--tokenizer", ""],
    ],
)
def test_wrong_arguments_exit_two_with_one_line(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = tmp_path / "c.yaml"
    conf.write_text("{}\n")
    try:
        code = cli.main([argument.format(conf=conf) for argument in argv])
    except SystemExit as error:  # argparse's own way out
        code = error.code
    assert code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["😀", "a b", 'it\'s "x"', "日本", "010", "null", "c: [d]"])
def test_a_selection_is_named_as_it_is_typed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of letters beyond 16 bits JSON has halves, which are no text; other words are YAML's."""
    named: list[str | None] = []
    run = "longattn.etl.console.run_jobs"
    monkeypatch.setattr(run, lambda config, *_: named.append(config.select.name))
    conf = tmp_path / "c.yaml"
    conf.write_text("select: {name: other}\n")
    assert cli.main(["select", "--config", str(conf), "--name", name]) == 0
    assert cli.main(["select", "--config", str(conf)]) == 0
    assert named == [name, "other"]


def test_arguments_that_are_not_known_are_repeated_without_their_secrets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    argument = "spark.conf={spark.hadoop.fs.s3a.secret.key: hunter2}"
    with pytest.raises(SystemExit):
        cli.main(["run", "--config", "c.yaml", argument])
    said = capsys.readouterr().err
    assert "unrecognized arguments: spark.conf=" in said and "hunter2" not in said


@pytest.mark.parametrize("what", [["config", "--schema"], ["config", "--explain", "seed"]])
def test_a_reader_that_has_gone_is_no_error(what: list[str]) -> None:
    """As `| head -1` is gone: more than its buffer, and less, which Python writes at the exit."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "longattn.etl.cli", *what]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=180, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_broken_pipe_elsewhere_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(cli, "between", broken)
    assert cli.main(["run", "--config", "c.yaml"]) == 1
    assert "Broken pipe" in capsys.readouterr().err


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    code = "import sys, longattn.etl.cli; heavy = ('torch', 'pyspark', 'pandas', 'transformers');"
    code += " print([m for m in heavy if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("first", "last", "jobs"),
    [
        (None, None, list(JOBS)),
        ("score", "score", ["score"]),
        ("select", None, ["select", "export", "report"]),
        (None, "windows", ["ingest", "dedup", "windows"]),
    ],
)
def test_jobs_between(first: str | None, last: str | None, jobs: list[str]) -> None:
    assert between(first, last) == jobs


def test_a_line_of_an_error_is_one_line_whatever_it_quotes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Excerpts of files may hold what a terminal acts on, and what no encoding has."""
    assert cli.main(["init", "no\nsuch\x1b[31m\udcfc 日本"]) == 2
    said = "longattn: init: no such folder: no\\nsuch\\x1b[31m\\udcfc 日本\n"
    assert capsys.readouterr().err == said
