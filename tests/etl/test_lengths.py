"""Windows of several lengths in one run, from files to exports; pandas and brute force agree."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

import longattn
from longattn.etl import config as config_module
from longattn.etl.after.reading import SessionReader
from longattn.etl.after.status import status_of, status_of_logs
from longattn.etl.ranking.candidates import considered
from longattn.etl.report.job import gather
from longattn.etl.run.context import Context
from longattn.etl.run.jobs import JOBS, run_job
from longattn.etl.selection.current import current_selection
from longattn.etl.windows import job as windows_job
from longattn.etl.windows.current import divided, natural_windows
from longattn.udfs.errors import NothingLeft
from tests.conftest import context_for

pytestmark = pytest.mark.spark

BUCKETS = {16: 0.2, 64: 0.5, 256: 0.3}


def book(rng: np.random.Generator, name: str, n_words: int) -> str:
    return " ".join(f"{name}x{word}" for word in rng.integers(0, 1 << 30, n_words))


@pytest.fixture(scope="module")
def texts() -> dict[str, list[str]]:
    """Of `book` most are long, of `code` few; `wiki` is short."""
    rng = np.random.default_rng(0)
    sizes = {
        "book": [*rng.integers(256, 1500, 40), *rng.integers(5, 256, 20)],
        "code": [*rng.integers(10, 150, 40), *rng.integers(256, 400, 2)],
        "wiki": [*rng.integers(20, 200, 12)],
    }
    return {d: [book(rng, f"{d}{i}", n) for i, n in enumerate(s)] for d, s in sizes.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, texts: dict[str, list[str]]) -> Path:
    folder = tmp_path_factory.mktemp("lengths")
    for domain, contents in texts.items():
        lines = [json.dumps({"text": text}) for text in contents]
        (folder / f"{domain}.jsonl").write_text("\n".join(lines) + "\n")
    tokenizer = Tokenizer(models.WordLevel({"end": 0, "word": 1}, unk_token="word"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def settings(folder: Path, **sections: Any) -> dict[str, Any]:
    names = ("book", "code", "wiki")
    return {
        "tables": {"root": str(folder / "tables")},
        "sources": {name: [{"path": str(folder / f"{name}.jsonl")}] for name in names},
        "tokenizer": str(folder / "tokenizer.json"),
        "window": {"length": 256, "strategy": "tile"},
        "dedup": {"enabled": False},
        "score": {"scorer": "random"},
        "pack": {"domains": ["wiki"], "separator": "end"},
        "select": {"fraction": 0.75, "compare": ["length"]},
        "mix": {"weights": {"book": 5, "code": 1, "wiki": 1}, "buckets": BUCKETS},
        "export": {"parquet": {"path": str(folder / "parquet")}},
        "report": {"path": str(folder / "report.html"), "examples": 1},
    } | sections


@pytest.fixture(scope="module")
def context(spark: Any, folder: Path) -> Context:
    """All jobs have run."""
    config = config_module.validate(settings(folder))
    context = context_for(spark, config, folder / "tables")
    for job in JOBS:
        run_job(job, context.fresh())
    return context.fresh()


def frame(rows: Any) -> pd.DataFrame:
    found: pd.DataFrame = rows.toPandas()
    return found


def named(context: Context, *columns: str) -> pd.DataFrame:
    """The current windows that are cut, in order, with their windowing."""
    names = context.tables["windows"].read().select("window_id", "windowing")
    windows = frame(natural_windows(context, *columns).join(names, "window_id"))
    return windows.sort_values("window_id", ignore_index=True)


def test_every_document_is_cut_at_one_length_and_no_token_twice(
    context: Context, texts: dict[str, list[str]]
) -> None:
    """By characters: what the windows of a document hold does not overlap."""
    windows = named(context, "start_char", "end_char")
    assert windows.groupby("doc_id")["windowing"].nunique().max() == 1
    for _, own in windows.sort_values("start_char").groupby("doc_id"):
        assert (own["start_char"].to_numpy()[1:] >= own["end_char"].to_numpy()[:-1]).all()
    every = frame(context.tables["windows"].read().where("doc_id IS NOT NULL"))
    assert set(every["window_id"]) == set(windows["window_id"])  # nothing is cut for nothing
    sizes = {d: [len(text.split()) for text in contents] for d, contents in texts.items()}
    cut = sum(size >= 16 for d in ("book", "code") for size in sizes[d])
    assert windows["doc_id"].nunique() == cut


def test_documents_are_divided_as_pandas_divides_them(context: Context) -> None:
    """A document is cut at the length whose turn it is where its draw stands among its class."""
    counts = frame(context.tables["lengths"].read().where("windowing LIKE 'count:%'"))
    found = frame(divided(context)).set_index("doc_id")["windowing"]
    counts = counts[counts["doc_id"].isin(found.index)]
    draw = [hashlib.md5(f"{d}|0".encode()).hexdigest()[:3] for d in counts["doc_id"]]
    counts = counts.assign(
        draw=draw,
        fills=[sum(n >= length for length in BUCKETS) for n in counts["n_tokens"]],
        length=[int(found[d].split(":")[0].removeprefix("tile-")) for d in counts["doc_id"]],
    )
    tiles = counts["n_tokens"] >= counts["length"]
    assert (tiles | (counts["fills"] == 0)).all()
    for (domain, fills), own in counts[counts["fills"] > 0].groupby(["domain", "fills"]):
        lengths = own.sort_values("draw")["length"].tolist()
        assert lengths == sorted(lengths, reverse=True), (domain, fills)
    tokens = counts[counts["fills"] > 0].groupby(["domain", "length"])["n_tokens"].sum()
    largest = counts["n_tokens"].max()
    for length, share in BUCKETS.items():  # long books serve all lengths
        assert abs(tokens["book", length] - share * tokens["book"].sum()) <= largest
    few = counts[(counts["domain"] == "code") & (counts["fills"] == 3)]
    assert set(few["length"]) == {256}  # all that there is, and still short of its share


def test_a_choice_is_the_mix_that_select_makes(context: Context) -> None:
    """Windows and tokens by domain and length, packed windows too, beside those of the table."""
    choice = longattn.Candidates(context.config).choose()
    rows = frame(context.tables["selections"].read())
    windows = choice.windows
    cut = rows[rows["domain"] != "wiki"]
    assert set(windows.loc[windows["selected"], "window_id"]) == set(cut["window_id"])
    named = rows["domain"] + "/" + rows["n_tokens"].astype(str)
    named = named.where(rows["domain"] != "wiki", "wiki/packed")
    made = (rows["copies"] * rows["n_tokens"]).groupby(named).sum()
    mix = choice.mix.set_index("domain")
    assert mix["made"].to_dict() == made.to_dict()
    for domain in ("book", "code"):
        planned = {length: mix.loc[f"{domain}/{length}", "planned"] for length in BUCKETS}
        for length, share in BUCKETS.items():
            assert abs(planned[length] - share * sum(planned.values())) <= 1


def test_the_mix_has_the_shares_asked_for(context: Context) -> None:
    """Within each domain's share of tokens, to within a window of each length."""
    mix = frame(context.tables["selections"].read().where("copies > 0"))
    cut = mix[mix["domain"] != "wiki"]
    tokens = cut.groupby(["domain", "n_tokens"])["n_tokens"].sum()
    total = {domain: tokens[domain].sum() for domain in ("book", "code")}
    for domain in total:
        whole = min((tokens[domain, length] + length) / share for length, share in BUCKETS.items())
        for length, share in BUCKETS.items():
            assert abs(tokens[domain, length] - share * whole) <= length
    assert abs(total["book"] - 5 * total["code"]) <= 5 * sum(BUCKETS)
    assert set(mix.loc[mix["domain"] == "wiki", "n_tokens"]) <= set(range(257))


def test_windows_are_ranked_among_those_of_their_length(context: Context) -> None:
    rows, chosen = frame(considered(context)), frame(context.tables["selections"].read())
    assert set(rows["domain"]) == {f"{d}/{b}" for d in ("book", "code") for b in BUCKETS}
    for stratum, own in rows.groupby("domain"):
        best = own.sort_values(["ds", "window_id"], ascending=[False, True])["window_id"]
        wanted = best.head(max(1, int(0.75 * len(best) + 0.5)))
        ranked = chosen[chosen["window_id"].isin(own["window_id"])].sort_values("rank")
        assert ranked["window_id"].tolist() == wanted.tolist(), stratum
    assert set(chosen["domain"]) == {"book", "code", "wiki"}


def test_one_export_has_all_lengths(context: Context, folder: Path) -> None:
    manifest = json.loads((folder / "parquet" / "_manifest.json").read_text())
    samples = pd.concat(
        pq.read_table(f).to_pandas() for f in (folder / "parquet").glob("*.parquet")
    )
    natural = samples[samples["domain"] != "wiki"]
    by_length = natural.groupby("n_tokens")["n_tokens"].agg(["size", "sum"])
    packed = samples[samples["domain"] == "wiki"]["n_tokens"]
    bucket = pd.cut(packed, [0, *BUCKETS], labels=list(BUCKETS))
    for length in BUCKETS:
        said = manifest["lengths"][str(length)]
        assert said["samples"] == by_length["size"][length] + (bucket == length).sum()
        assert said["tokens"] == by_length["sum"][length] + packed[bucket == length].sum()
    assert "tile-16+64+256:" in manifest["windowing"]
    assert "| 64 |" in (folder / "parquet" / "README.md").read_text()


def test_status_divides_documents_as_the_jobs_do(context: Context, folder: Path) -> None:
    for settings_, rows in ((settings(folder), 0), (settings(folder, seed=7), None)):
        config = config_module.validate(settings_)
        other = context_for(context.spark, config, folder / "tables")
        by_session = status_of(SessionReader(dict(other.tables), None), config).pending
        by_logs = status_of_logs(config)
        assert by_logs is not None and by_logs.pending == by_session
        if rows == 0:
            assert not {"windows", "score"} & set(by_session)
        else:
            named = set(map(tuple, frame(divided(context))[["doc_id", "windowing"]].values))
            again = set(map(tuple, frame(divided(other))[["doc_id", "windowing"]].values))
            packed = 12  # anew, as the seed is in the name
            assert by_session["windows"]["rows"] - packed == len(again - named) > 0


def test_the_report_shows_lengths_apart(context: Context) -> None:
    facts = gather(context, considered(context))
    assert {"book/16", "code/256", "wiki/packed"} <= set(facts.counted.domains)
    assert (facts.total, facts.samples) == (
        considered(context).count(),
        context.tables["selections"].read().where("copies > 0").count(),
    )


def test_documents_as_they_are_are_ranked_among_those_of_their_octave(
    context: Context, folder: Path, texts: dict[str, list[str]]
) -> None:
    sections = {
        "window": {"length": 256, "strategy": "whole"},
        "mix": {"weights": {"book": 1, "code": 1}},
        "export": {"parquet": {"path": str(folder / "whole")}},
    }
    config = config_module.validate(settings(folder, **sections))
    whole = context_for(context.spark, config, folder / "tables")
    for job in ("windows", "score", "select", "export"):
        run_job(job, whole.fresh())
    windows = frame(natural_windows(whole))
    for domain in ("book", "code"):
        sizes = [len(text.split()) for text in texts[domain]]
        made = [256 if n > 256 else n for n in sizes for _ in range(max(n // 256, 1))]
        assert sorted(windows.loc[windows["domain"] == domain, "n_tokens"]) == sorted(made)
    chosen = frame(current_selection(whole.fresh())[1].where("score IS NOT NULL"))
    for rows in (windows, chosen):
        rows["octave"] = np.ceil(np.log2(rows["n_tokens"])).astype(int)
    kept = chosen.groupby(["domain", "octave"]).size()
    there = windows.groupby(["domain", "octave"]).size()
    assert dict(kept) == {key: max(1, int(0.75 * n + 0.5)) for key, n in there.items()}
    mixed = chosen[chosen["copies"] > 0].groupby("octave")["n_tokens"].agg(["size", "sum"])
    manifest = json.loads((folder / "whole" / "_manifest.json").read_text())
    assert manifest["lengths"] == {
        str(1 << octave): {"samples": row["size"], "tokens": row["sum"]}
        for octave, row in mixed.iterrows()
    }


def test_a_run_of_one_length_reads_its_windows_from_the_same_tables(
    context: Context, folder: Path
) -> None:
    """Windows of 64 tokens that another length's documents need are made, the others are there."""
    sections = {"window": {"length": 64, "strategy": "tile"}, "mix": {}}
    one = context_for(
        context.spark, config_module.validate(settings(folder, **sections)), folder / "tables"
    )
    before = named(context)
    here = before[before["windowing"] == one.recipe.windowing]
    assert here["doc_id"].nunique() > 0
    outcome = windows_job.run(one)
    lengths = frame(one.tables["lengths"].read().where(f"windowing = '{one.recipe.windowing}'"))
    assert outcome.rows_in == len(lengths) - here["doc_id"].nunique() + 12  # packed anew, at 64
    run_job("windows", context.fresh())
    assert named(context.fresh()).equals(before)


def test_a_length_that_no_document_fills_is_refused(spark: Any, folder: Path) -> None:
    sections = {
        "window": {"length": 4096, "strategy": "tile"},
        "mix": {"buckets": {16: 0.5, 4096: 0.5}},
    }
    config = config_module.validate(settings(folder, **sections))
    with pytest.raises(NothingLeft, match=r"mix.buckets: no document fills a window of 4,096"):
        windows_job.run(context_for(spark, config, folder / "tables"))
