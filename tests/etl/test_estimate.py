"""`longattn estimate`: what a sample says, against what the whole corpus holds."""

import gzip
import json
import random
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from longattn.etl import cli
from longattn.etl.before import estimate as estimating
from longattn.etl.before import sampling, timing
from longattn.etl.before.estimate import Estimate, _selected_tokens, estimate, hours_table, notes
from longattn.etl.before.sampling import Range, copies_in, samples
from longattn.etl.before.timing import _extrapolated, gpu_seconds
from longattn.etl.config import Config, validate
from longattn.etl.config.sections import ExportConfig
from longattn.etl.export import FORMATS
from longattn.udfs.errors import ConfigError, ModelError, SourceError
from longattn.udfs.scorers.base import Score, ScorerSpec, one_head
from longattn.udfs.windows.spans import longattn_windows
from tests.conftest import REPO
from tests.etl.test_check import make_scorer
from tests.udfs.test_calibration import made, sample

LENGTH = 64


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    """One token a word."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path / "tokenizer.json")


def corpus(folder: Path, sizes: list[int], per_file: int, packed: bool = False) -> None:
    """Documents of so many words, some to a file."""
    folder.mkdir()
    rng = random.Random(1)
    for number, start in enumerate(range(0, len(sizes), per_file)):
        lines = [
            json.dumps({"text": " ".join(rng.choice("ab") for _ in range(size))}) + "\n"
            for size in sizes[start : start + per_file]
        ]
        data = "".join(lines).encode()
        name = f"{number:04}.jsonl" + (".gz" if packed else "")
        (folder / name).write_bytes(gzip.compress(data) if packed else data)


def config_of(tmp_path: Path, tokenizer: str, **sections: Any) -> Config:
    given = {
        "sources": {"book": [{"path": str(tmp_path / "books")}]},
        "tables": {"root": str(tmp_path / "tables")},
        "tokenizer": tokenizer,
        "window": {"length": LENGTH},
        "score": {"scorer": "recurrence"},
        "export": {"jsonl": {"path": str(tmp_path / "export")}},
    }
    return validate(given | sections)


@pytest.mark.parametrize("packed", [False, True])
def test_a_small_corpus_is_counted(tmp_path: Path, tokenizer: str, packed: bool) -> None:
    """All of it is the sample, so the figures are the corpus's own and have no range."""
    sizes = [10, 64, 200, 500, 77]
    corpus(tmp_path / "books", sizes, per_file=2, packed=packed)
    (sample,) = samples(config_of(tmp_path, tokenizer))
    windows = sum(len(longattn_windows(size, LENGTH)) for size in sizes)
    assert sample.share == 1.0
    assert sample.total("n") == Range(5, 5, 5)
    assert sample.total("n_tokens") == Range(851, 851, 851)
    assert sample.total("n_windows") == Range(windows, windows, windows)


@pytest.mark.parametrize("packed", [False, True])
def test_the_truth_of_a_large_corpus_lies_in_the_range(
    tmp_path: Path, tokenizer: str, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    """A thousandth to a tenth is read; twelve corpora of skewed lengths, one miss allowed."""
    monkeypatch.setattr(sampling, "SOURCE_BYTES", 120_000)
    hits = 0
    for seed in range(12):
        rng = random.Random(seed)
        sizes = [int(rng.lognormvariate(4.5, 1.0)) + 1 for _ in range(2000)]
        folder = tmp_path / str(seed)
        folder.mkdir()
        corpus(folder / "books", sizes, per_file=50, packed=packed)
        (sample,) = samples(config_of(folder, tokenizer))
        assert sample.share < 0.5
        truth = sum(len(longattn_windows(size, LENGTH)) for size in sizes)
        found = sample.total("n_windows")
        assert found.value == pytest.approx(truth, rel=0.3)
        hits += found.low <= truth <= found.high
    assert hits >= 11


def test_copies_show_where_their_originals_were_read(tmp_path: Path, tokenizer: str) -> None:
    (tmp_path / "books").mkdir()
    words = [f"w{n}" for n in range(400)]
    long = " ".join(words)
    texts = [f"a b {n}" for n in range(6)] + ["A  b 0", "a b 1"]
    texts += [long, " ".join([*words[:200], "x", *words[201:]])]  # 395 of 401 shingles are shared
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "books" / "a.jsonl").write_text(lines)
    config = config_of(tmp_path, tokenizer)
    read = list(samples(config))
    copies = copies_in(read, config.dedup)
    assert copies.share("n") == Range(0.3, 0.3, 0.3)
    assert copies.share("n_windows") == Range(0.5, 0.5, 0.5)
    assert not copies_in(read, validate({"dedup": {"enabled": False}}).dedup).share("n").high


SHARES: list[tuple[dict[str, Any], float]] = [
    ({}, 1.0),
    ({"book": 1, "code": 1}, 2 / 5),
    ({"weights": {"book": 1, "code": 1}, "short": "repeat", "max_copies": 2}, 4 / 5),
    ({"code": 1}, 1 / 5),
]


def test_exports_are_what_the_mix_takes(tmp_path: Path, tokenizer: str) -> None:
    """Four times as many windows of books as of code are selected; a file has a head and an end."""
    for domain, documents in (("book", 4), ("code", 1)):
        corpus(tmp_path / domain, [10 * LENGTH] * documents, per_file=1)
    sources = {domain: [{"path": str(tmp_path / domain)}] for domain in ("book", "code")}
    given = {"sources": sources, "dedup": {"enabled": False}}
    configs = [config_of(tmp_path, tokenizer, **given, mix=mix) for mix, _ in SHARES]
    sizes = np.array([estimate(config).bytes["export.jsonl"].value for config in configs])
    shares = np.array([share for _, share in SHARES])
    of_all, of_file = np.polyfit(shares, sizes, 1)
    assert sizes == pytest.approx(of_file + shares * of_all, rel=1e-3)
    assert of_all > 0 and 0 < of_file < min(sizes)


CUTS: list[tuple[dict[str, Any], float]] = [
    ({"fraction": 0.5}, 1.0),
    ({"percentile": [50.0, 100.0]}, 1.0),
    ({"percentile": {"book": [25.0, 50.0]}}, 0.5),
    ({"threshold": 0.1, "percentile": [50.0, 100.0]}, 2.0),
    ({"tokens": 5 * LENGTH}, 1.0),
]


@pytest.mark.parametrize(("select", "of_half"), CUTS)
def test_a_selection_is_sized_by_the_cut_that_select_makes(
    tmp_path: Path, tokenizer: str, select: dict[str, Any], of_half: float
) -> None:
    """Ten windows of two sources: a percentile was taken for the default fraction."""
    for name in ("books", "more"):
        corpus(tmp_path / name, [5 * LENGTH], per_file=1)
    sources = {"book": [{"path": str(tmp_path / name)} for name in ("books", "more")]}
    given = {"sources": sources, "dedup": {"enabled": False}, "window": {"length": LENGTH}}
    given["window"] |= {"strategy": "tile"}
    config = config_of(tmp_path, tokenizer, **given, select=select)
    (kept,) = _selected_tokens(config, list(samples(config))).values()
    assert kept.value == of_half * 5 * LENGTH
    unknown = "threshold" in select
    assert (kept.low, kept.high) == (0 if unknown else kept.value, kept.value)
    assert any("select.threshold" in line for line in notes(estimate(config))) == unknown


def test_scorers_that_are_asked_too_take_hours_and_money(tmp_path: Path, tokenizer: str) -> None:
    corpus(tmp_path / "books", [10 * LENGTH], per_file=1)
    score = {"scorer": "recurrence", "also": {"recall": {"k": 8}, "random": {}}}
    rates = {"cpu_hour": 36.0}
    found = estimate(config_of(tmp_path, tokenizer, score=score, estimate=rates))
    scorers = ["scoring, recurrence", "scoring, recall", "scoring, random"]
    assert [*found.cpu_hours] == ["all but scoring", *scorers]
    money = found.as_dict()["money"]["value"]
    assert money == pytest.approx(36 * sum(hours.value for hours in found.cpu_hours.values()))


def test_packed_windows_that_are_scored_take_hours_and_are_cut(
    tmp_path: Path, tokenizer: str
) -> None:
    """Of 400 tokens packed, 64 a window; a quarter of them is exported."""
    for domain, size in (("books", 10 * LENGTH), ("short", 20)):
        corpus(tmp_path / domain, [size] * 20, per_file=5)
    sources = {"book": [{"path": str(tmp_path / "books")}]}
    sources["short"] = [{"path": str(tmp_path / "short")}]
    given = {"sources": sources, "dedup": {"enabled": False}, "mix": {"weights": {"short": 1}}}
    plain, scored = (
        estimate(
            config_of(
                tmp_path,
                tokenizer,
                **given,
                pack={"domains": ["short"], "separator": "a", "score": score},
                select={"fraction": {"book": 0.5, "short": 0.25}},
            )
        )
        for score in (False, True)
    )
    assert plain.packed_tokens.value == scored.packed_tokens.value == 400
    assert [*plain.cpu_hours] == ["all but scoring", "scoring, recurrence"]
    assert scored.cpu_hours["scoring, cross_gain"].value > 0
    more = scored.bytes["scores"].value / plain.bytes["scores"].value
    assert more == pytest.approx(1 + 400 / LENGTH / plain.windows.value, rel=1e-6)
    assert scored.bytes["export.jsonl"].value < plain.bytes["export.jsonl"].value


@pytest.mark.parametrize(
    "given",
    [
        {"score": {"scorer": "recurrence", "domains": ["a"]}},
        {"pack": {"domains": ["a"], "separator": "a"}},
        {"pack": {"domains": ["a", "b"], "separator": "a"}},
    ],
)
def test_windows_that_are_not_scored_take_bytes(
    tmp_path: Path, tokenizer: str, given: dict[str, Any]
) -> None:
    """Those packed, and those of domains that are not scored, were left out."""
    for domain in ("a", "b"):
        corpus(tmp_path / domain, [10 * LENGTH] * 8, per_file=4)
    sources = {domain: [{"path": str(tmp_path / domain)}] for domain in ("a", "b")}
    of_all = {"sources": sources, "dedup": {"enabled": False}}
    of_all["window"] = {"length": LENGTH, "strategy": "tile"}
    plain, found = (estimate(config_of(tmp_path, tokenizer, **of_all, **x)) for x in ({}, given))
    assert found.windows.value < plain.windows.value
    assert found.bytes["windows"].value == pytest.approx(plain.bytes["windows"].value)


# What a token takes at least, and at most: ids of two bytes, a mask of one; or ids and text, which
# here is of two words, compressed. Lists of samples, their heads and ends come on top.
TOKEN_BYTES = {
    "parquet": (0.1, 8.0),
    "jsonl": (0.1, 8.0),
    "megatron": (2.0, 4.0),
    "megatron_bridge": (0.1, 8.0),
    "mds": (2.0, 8.0),
    "numpy": (3.0, 8.0),
}


def test_every_export_has_a_size(tmp_path: Path, tokenizer: str) -> None:
    """All windows of all domains are taken, so that tokens are those of the windows."""
    corpus(tmp_path / "books", [10 * LENGTH] * 8, per_file=1)
    targets = {name: {"path": str(tmp_path / name)} for name in ExportConfig.model_fields}
    given = {"select": {"fraction": 1.0}, "dedup": {"enabled": False}, "export": targets}
    found = estimate(config_of(tmp_path, tokenizer, **given))
    tokens = found.windows.value * LENGTH
    assert set(TOKEN_BYTES) == set(targets) == set(FORMATS)
    for name, (low, high) in TOKEN_BYTES.items():
        assert low * tokens <= found.bytes[f"export.{name}"].value <= high * tokens, name
    assert not any((tmp_path / name).exists() for name in targets)


def test_the_command_prints_sizes_hours_and_money(
    tmp_path: Path, tokenizer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus(tmp_path / "books", [100, 640], per_file=1)
    config = config_of(
        tmp_path,
        tokenizer,
        estimate={"cpu_hour": 36.0, "currency": "EUR"},
        dedup={"enabled": False},
    )
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert cli.main(["estimate", "--config", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["windows"]["value"] == 2 + len(longattn_windows(640, LENGTH))
    hours = sum(one["value"] for one in found["cpu_hours"].values())
    assert found["money"]["value"] == pytest.approx(36 * hours)
    for one in [
        *found["cpu_hours"].values(),
        *found["bytes"].values(),
        *found["variants"].values(),
    ]:
        assert 0 <= one["low"] <= one["value"] <= one["high"]
    assert "export.jsonl" in found["bytes"]
    assert cli.main(["estimate", "--config", str(path)]) == 0
    out = capsys.readouterr().out
    assert "EUR" in out and "scoring, CPU" in out and "740 to 740" in out


def test_an_unknown_gpu_and_an_empty_source_are_refused(tmp_path: Path, tokenizer: str) -> None:
    corpus(tmp_path / "books", [100], per_file=1)
    with pytest.raises(ConfigError, match="--device b99: no rate"):
        estimate(config_of(tmp_path, tokenizer), "b99")
    (tmp_path / "books" / "0000.jsonl").write_text("{}\n")
    with pytest.raises(SourceError, match="nothing to estimate from"):
        estimate(config_of(tmp_path, tokenizer))


@pytest.mark.parametrize(("a", "b"), [(2e-4, 0.0), (0.0, 3e-8), (1e-4, 2e-8)])
def test_two_short_windows_tell_a_long_one(a: float, b: float) -> None:
    def seconds(length: int) -> float:
        return a * length + b * length**2

    found = _extrapolated(8192, seconds(2048), seconds(4096))
    assert found == pytest.approx(seconds(8192))


def test_a_gpu_lies_between_its_bound_and_the_published_rate(tmp_path: Path) -> None:
    """LLaMA-3.1-8B at 32K is the case that both were stated for; half the length is a quarter."""
    config = {"num_attention_heads": 32, "hidden_size": 4096}
    (tmp_path / "config.json").write_text(json.dumps(config))
    spec = ScorerSpec(scorer="longattn", model=str(tmp_path))
    found = gpu_seconds("h100", spec, 32_768)
    assert (1 / found.low, 1 / found.high) == pytest.approx((125, 6.1))
    assert gpu_seconds("h100", spec, 16_384).high == pytest.approx(found.high / 4)
    (tmp_path / "config.json").write_text("[32]")
    with pytest.raises(ModelError, match=f"model {tmp_path}/config.json: it holds no mapping"):
        gpu_seconds("h100", spec, 32_768)


@pytest.mark.demo
def test_the_demos_windows_are_estimated_within_a_tenth() -> None:
    """From the beginnings of its documents, against every document tokenised to its end."""
    from longattn.etl import config as config_module
    from longattn.udfs.text.tokens import encode_long, load_tokenizer

    config = config_module.load(REPO / "conf" / "demo.yaml", [f"tokenizer={REPO}/data/scorer"])
    book = config.sources["book"][0].model_copy(update={"path": [f"{REPO}/data/demo/book"]})
    (sample,) = samples(config.model_copy(update={"sources": {"book": [book]}}))
    lines = [
        json.loads(line)["text"]
        for file in sorted((REPO / "data" / "demo" / "book").glob("*.gz"))
        for line in gzip.decompress(file.read_bytes()).splitlines()
    ]
    tokens = [len(encode_long(load_tokenizer(config.tokenizer_path), text)) for text in lines]
    windows = sum(len(longattn_windows(n, config.window.length)) for n in tokens)
    assert sample.total("n_tokens").value == pytest.approx(sum(tokens), rel=0.1)
    assert sample.total("n_windows").value == pytest.approx(windows, rel=0.1)


def test_documents_beyond_the_limits_are_not_cut(tmp_path: Path, tokenizer: str) -> None:
    corpus(tmp_path / "books", [10, 64, 200, 500, 77], per_file=2)
    limits = {"window": {"length": LENGTH, "min_tokens": 70, "max_tokens": 300}}
    (sample,) = samples(config_of(tmp_path, tokenizer, **limits))
    windows = sum(len(longattn_windows(size, LENGTH)) for size in (200, 77))
    assert sample.total("n_windows") == Range(windows, windows, windows)
    (sample,) = samples(config_of(tmp_path, tokenizer, ingest={"min_tokens": {"book": 10**6}}))
    assert sample.total("n_windows").value == 0


def test_windows_of_several_lengths_are_those_of_each_by_its_share() -> None:
    window = {"length": 64, "strategy": "tile"}
    several = validate({"window": window, "mix": {"buckets": {16: 0.25, 64: 0.75}}})
    assert sampling.windows_of(100, several) == (0.25 * 6 + 0.75 * 1, 0.25 * 96 + 0.75 * 64)
    assert sampling.windows_of(40, several) == (2, 32)
    assert sampling.windows_of(10, several) == (0, 0)
    whole = validate({"window": {"length": 64, "strategy": "whole", "bos": True}})
    assert [sampling.windows_of(n, whole) for n in (10, 63, 130)] == [(1, 11), (1, 64), (2, 128)]


class Clock:
    """A clock that scorers move on, each by what `cost` says of a window's length and its k.

    They refuse windows of up to 2k tokens, and those of fewer than `least`.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost: Callable[[int, int], float]) -> None:
        self.now, self.cost, self.least = 0.0, cost, 0
        monkeypatch.setattr(timing.time, "process_time", lambda: self.now)
        monkeypatch.setattr(timing, "load_scorer", lambda spec: Clocked(self, spec))

    def seconds(self, scorer: str, length: int, k: int) -> float:
        """What is found for one window."""
        spec = ScorerSpec(scorer=scorer, k=k)
        return timing.timed(spec, length, np.arange(100)).value


class Clocked:
    def __init__(self, clock: Clock, spec: ScorerSpec) -> None:
        self.clock, self.k, self.version = clock, spec.k or 0, f"{spec.scorer}:1"

    def refusal(self, token_ids: Any) -> tuple[str, str] | None:
        far = len(token_ids) > max(2 * self.k, self.clock.least - 1)
        return None if far else ("too_short", f"{len(token_ids)} tokens")

    def score(self, token_ids: list[Any]) -> list[Score]:
        self.clock.now += sum(self.clock.cost(len(ids), self.k) for ids in token_ids)
        return [one_head(len(ids), self.k, ds=0.0, du=0.0) for ids in token_ids]


def test_what_is_near_is_as_much_shorter_as_the_windows_that_tell_a_long_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A quarter of 8,192 tokens was refused with k = 3,000, and counted as no time at all."""
    clock = Clock(monkeypatch, lambda length, k: 1e-4 * length + 1e-8 * length * (length + 3 * k))
    expected = 1e-4 * 8192 + 1e-8 * 8192 * (8192 + 9000)
    assert clock.seconds("longattn", 8192, 3000) == pytest.approx(expected)
    clock.least = 5000  # as of LADM, whose spans no shorter window holds
    assert clock.seconds("ladm", 8192, 0) == pytest.approx(clock.cost(8192, 0))


def test_scorers_without_a_model_are_timed_on_whole_windows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Recall refuses half of a window of 4k tokens, and takes what no line through two tells."""
    clock = Clock(monkeypatch, lambda length, k: length**1.5)
    assert clock.seconds("recall", 8192, 2048) == pytest.approx(8192**1.5)
    with pytest.raises(ConfigError, match="estimate: recall refuses windows of 4,096 tokens, 4096"):
        clock.seconds("recall", 4096, 2048)


def test_what_sampling_costs_is_what_the_page_says() -> None:
    page = (REPO / "docs" / "performance.md").read_text(encoding="utf-8")
    rows = re.findall(r"\| ([\d,]+) \| 1/8 \| (\d+)% \|.*?\| \d+% \| (\d+)% \| \d+% \|", page)
    said = {int(n.replace(",", "")): (int(one) / 100, int(both) / 100) for n, one, both in rows}
    assert said == timing.SAMPLED


@pytest.fixture
def by_the_hour(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every window takes an hour of exact scores; returns the lengths of those timed."""
    lengths = list[int]()

    def timed(spec: ScorerSpec, length: int, ids: Any) -> Range:
        lengths.append(length)
        return Range(3600, 3600, 3600) * (0.25 if spec.sample_rows else 1)

    monkeypatch.setattr(timing, "timed", timed)
    return lengths


def test_what_a_cascade_scores_exactly_takes_hours_and_money(
    tmp_path: Path, by_the_hour: list[int]
) -> None:
    """The page of measurements has 13 and 14 % of windows near the cut of sampled scores."""
    corpus(tmp_path / "books", [10 * LENGTH] * 10, per_file=1)
    make_scorer(tmp_path / "scorer", vocabulary=5, positions=LENGTH)
    model = str(tmp_path / "scorer")
    score: Any = {"scorer": "longattn", "model": model, "sample_rows": 8}
    given: Any = {"dedup": {"enabled": False}, "estimate": {"cpu_hour": 1.0}}
    plain = estimate(config_of(tmp_path, model, score=score, **given))
    found = estimate(config_of(tmp_path, model, score={**score, "cascade": 2.0}, **given))
    windows = plain.windows.value
    assert "scoring, longattn near the cut" not in plain.cpu_hours
    assert found.cpu_hours["scoring, longattn"].value == windows / 4
    near = found.cpu_hours["scoring, longattn near the cut"]
    assert 0.13 * windows <= near.value <= 0.141 * windows and near.low < near.value < near.high
    money = [one.as_dict()["money"]["value"] for one in (plain, found)]
    assert money[1] - money[0] == pytest.approx(near.value)
    told = [any("score.cascade" in line for line in notes(one)) for one in (plain, found)]
    assert told == [False, True]


def test_a_calibrated_cascade_may_score_most_of_it_by_the_truth(
    tmp_path: Path, tokenizer: str, by_the_hour: list[int]
) -> None:
    """By its width, 20 to 54 % of windows were near the cut (docs/evidence.md)."""
    corpus(tmp_path / "books", [10 * LENGTH] * 10, per_file=1)
    made(sample(240, 1.0)).write(tmp_path / "calibrated")
    score = {"scorer": "calibrated", "model": str(tmp_path / "calibrated"), "cascade": 0.5}
    found = estimate(config_of(tmp_path, tokenizer, score=score, dedup={"enabled": False}))
    near = found.cpu_hours["scoring, random near the cut"]
    assert near.low <= 0.2 * found.windows.value < near.value < 0.54 * found.windows.value
    assert near.high >= 0.54 * found.windows.value


def test_documents_as_they_are_are_timed_where_the_scorer_takes_them(
    tmp_path: Path, tokenizer: str, by_the_hour: list[int]
) -> None:
    """Of most documents recall finds nothing far; the few that it scores are what takes time."""
    corpus(tmp_path / "books", [100] * 20 + [3000], per_file=7)
    window = {"length": 4096, "strategy": "whole"}
    estimate(config_of(tmp_path, tokenizer, window=window, score={"scorer": "recall"}))
    assert by_the_hour[0] > 2048


def test_a_part_without_a_price_leaves_no_total(tmp_path: Path, tokenizer: str) -> None:
    """The GPU's hours were left out of it without a word."""
    corpus(tmp_path / "books", [100], per_file=1)
    hour = {"gpu": Range(1, 1, 1)}
    prices: list[tuple[dict[str, float], int]] = [
        ({"cpu_hour": 2.0}, 1),
        ({"gpu_hour": 5.0}, 1),
        ({}, 0),
        ({"cpu_hour": 2.0, "gpu_hour": 5.0}, 3),
    ]
    for given, shown in prices:
        found = estimate(config_of(tmp_path, tokenizer, estimate=given))
        found = replace(found, cpu_hours=hour, gpu_hours=hour, variants={}, device="h100")
        total = found.as_dict()["money"]
        assert (total and total["value"]) == (7.0 if len(given) == 2 else None)
        cells = [*hours_table(found).columns[-1].cells]
        assert len([cell for cell in cells if cell]) == shown


def test_sources_that_only_spark_reads_are_named(tmp_path: Path, tokenizer: str) -> None:
    corpus(tmp_path / "books", [100], per_file=1)
    sources = {"book": [{"path": [str(tmp_path / "books"), "s3a://lake/a"]}]}
    sources["web"] = [{"path": "catalog.schema.table", "format": "delta"}]
    found = estimate(config_of(tmp_path, tokenizer, sources=sources))
    assert found.as_dict()["unread"] == ["s3a://lake/a", "catalog.schema.table"]
    said = "left out, as only Spark can read them: s3a://lake/a, catalog.schema.table"
    assert said in notes(found)
    assert not estimate(config_of(tmp_path, tokenizer)).unread


def test_weights_of_targets_take_room(tmp_path: Path, tokenizer: str) -> None:
    """The writer is given what it writes: weights were asked for, and none were there."""
    corpus(tmp_path / "books", [10 * LENGTH] * 8, per_file=1)
    sizes = []
    for asked in (False, True):
        export = {"parquet": {"path": str(tmp_path / "out"), "target_weights": asked}}
        sizes.append(estimate(config_of(tmp_path, tokenizer, export=export)).bytes)
    assert sizes[1]["export.parquet"].value > sizes[0]["export.parquet"].value


def test_as_json_an_estimate_has_all_its_figures(tmp_path: Path, tokenizer: str) -> None:
    corpus(tmp_path / "books", [100], per_file=1)
    found = json.loads(json.dumps(estimate(config_of(tmp_path, tokenizer)).as_dict()))
    assert {*found} == {*(field.name for field in fields(Estimate)), "money", "rates"}
    assert found["config"] is None and found["windows"].keys() == {"value", "low", "high"}


@pytest.mark.parametrize(("longest", "timed"), [(65_536, 3000), (2000, 2000)])
def test_documents_as_they_are_are_timed_where_no_scorer_refuses_them(
    monkeypatch: pytest.MonkeyPatch, longest: int, timed: int
) -> None:
    """A whole model says only once it is loaded how short is too short."""
    short = SimpleNamespace(refusal=lambda ids: ("too_short", "") if len(ids) < 2176 else None)
    monkeypatch.setattr(estimating, "load_scorer", lambda _: short)
    monkeypatch.setattr(estimating, "_mean_length", lambda *_: 1500)
    config = validate({"window": {"strategy": "whole", "length": longest}})
    assert estimating._timed_length(config, [ScorerSpec(scorer="ladm")], []) == timed
