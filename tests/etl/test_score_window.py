"""`longattn score-window` with scorers that read no model: lines in, answers out, exit codes."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import longattn
from longattn.etl import cli
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.registry import SCORERS, load_scorer
from longattn.udfs.text.tokens import load_tokenizer
from tests.udfs.models import make_checkpoint

MODEL_FREE = sorted(name for name, plugin in SCORERS.items() if not plugin.model)


@dataclass(frozen=True)
class Done:
    """What a command printed, and its exit code."""

    answers: list[dict[str, Any]]
    stderr: str
    code: int


@pytest.fixture
def score_window(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    def run(*argv: str, lines: Sequence[bytes] = ()) -> Done:
        given = io.BytesIO(b"".join(line + b"\n" for line in lines))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(given))
        try:
            code = cli.main(["score-window", *argv])
        except SystemExit as stopped:  # argparse's own
            code = int(stopped.code or 0)
        printed = capsys.readouterr()
        return Done([json.loads(line) for line in printed.out.splitlines()], printed.err, code)

    return run


def line(length: int) -> bytes:
    return json.dumps({"input_ids": ids(length)}).encode()


def ids(length: int) -> list[int]:
    found: list[int] = (np.random.default_rng(0).zipf(1.3, length) % 301).tolist()
    return found


@pytest.mark.parametrize("name", MODEL_FREE)
def test_it_prints_what_the_job_stores(score_window: Callable[..., Done], name: str) -> None:
    done = score_window("--scorer", name, lines=[line(4096)])
    (score,) = load_scorer(ScorerSpec(scorer=name)).score([np.array(ids(4096))])
    (answer,) = done.answers
    assert done.code == 0 and done.stderr == ""
    assert answer["ds"] == score["ds"] and answer["du"] == score["du"]
    assert (answer["n_tokens"], answer["k"]) == (4096, score["k"])


def test_a_whole_model_is_read_as_the_flags_say(
    score_window: Callable[..., Done], tmp_path: Path
) -> None:
    model = str(make_checkpoint(tmp_path / "tiny", "llama3"))
    window = [i % 101 for i in ids(200)]
    flags = ("--scorer", "fargain", "--model", model, "--k", "20", "--stride", "7")
    (answer,) = score_window(*flags, lines=[json.dumps({"input_ids": window}).encode()]).answers
    spec = ScorerSpec(scorer="fargain", model=model, k=20, stride=7, device="cpu")
    (score,) = load_scorer(spec).score([np.array(window)])
    assert answer["ds"] == score["ds"] and answer["measures"] == score["measures"]
    refused = score_window("--scorer", "recall", "--variant", "code")
    assert refused.code == 2 and "recall has no such setting" in refused.stderr


def test_text_is_read_by_words_or_by_the_tokenizer_named(
    score_window: Callable[..., Done], tmp_path: Path
) -> None:
    """Recall sees only which words are equal, and both split at spaces: one score.

    Unless the words themselves are known: words have a background, other tokens have none.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers

    kinds = {f"w{i}": i for i in range(301)}
    mine = Tokenizer(models.WordLevel(kinds, unk_token="w0"))
    mine.pre_tokenizer = pre_tokenizers.Whitespace()
    mine.save(str(tmp_path / "tokenizer.json"))
    text = " ".join(f"w{i}" for i in ids(4096))
    given = json.dumps({"text": text}).encode()
    (plain,) = score_window("--background", "none", lines=[given]).answers
    (named,) = score_window("--tokenizer", str(tmp_path), lines=[given]).answers
    (score,) = load_scorer(ScorerSpec(scorer="recall")).score([np.array(ids(4096))])
    assert plain == named and plain["ds"] == pytest.approx(score["ds"], abs=1e-12)
    (known,) = score_window(lines=[given]).answers
    assert known["ds"] == longattn.score([text], window=4096)["ds"].item() != plain["ds"]
    (other,) = score_window("--scorer", "cohesion", lines=[given]).answers
    assert other["ds"] != plain["ds"]
    bare = json.dumps({"input_ids": load_tokenizer("words").encode(text).ids}).encode()
    (as_words,) = score_window("--tokenizer", "words", lines=[bare]).answers
    assert as_words == known


def test_bad_lines_are_answered_in_their_place_and_fail_the_command(
    score_window: Callable[..., Done],
) -> None:
    bad = [b"{", b"\xff", b'{"input_ids": [1, 2]}', b'{"text": "words"}', line(1600)]
    done = score_window("--scorer", "recall", lines=[line(3000), *bad, b"", line(3000)])
    assert [answer.get("line") for answer in done.answers] == [None, 2, 3, 4, 5, 6, None]
    assert done.answers[0] == done.answers[-1]
    assert done.answers[3]["error"] == "too_short: 2 tokens; k is 1024"
    assert done.answers[4]["error"] == "too_short: 1 tokens; k is 1024"  # read by `words`
    gains_nothing = "too_short: 1600 tokens; k is 1024, and the first 2048 gain nothing"
    assert done.answers[5]["error"] == gains_nothing  # it was scored 0.0
    assert done.code == 2
    assert done.stderr.startswith("longattn: line 2: ")
    assert done.stderr.endswith("(and 4 more)\n")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--scorer", "recal"], "did you mean 'recall'?"),
        (["--scorer", "longattn"], "--model DIR is missing: the scorer longattn reads a model"),
        (["--model", "/no/such"], "/no/such: no such folder or file"),
        (["--scorer", "recurrence", "--model", "."], "--model: none is read by recurrence"),
        (["--scorer", "recall", "--k", "0"], "0 is no positive whole number"),
        (["--model", ".", "--rope-theta", "0"], "0 is no number above 0"),
        (["--model", ".", "--rope-theta", "nan"], "nan is no number above 0"),
        (["--model", ".", "--rope-theta=-1"], "-1 is no number above 0"),
        (["--tokenizer", ""], "argument --tokenizer: it is empty"),
    ],
)
def test_what_is_asked_for_is_checked_before_any_line_is_read(
    score_window: Callable[..., Done], argv: list[str], words: str
) -> None:
    done = score_window(*argv)
    assert done.code == 2 and done.answers == [] and words in done.stderr


def test_a_scorer_without_a_model_loads_no_torch() -> None:
    code = (
        "import sys; from longattn.udfs.scorers.base import ScorerSpec;"
        "from longattn.udfs.scorers.lines import score_window_lines;"
        "spec = ScorerSpec(scorer='recall', k=1);"
        "list(score_window_lines(['{\"input_ids\": [1, 2, 3]}'], spec));"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=root).returncode == 0
