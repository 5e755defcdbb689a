"""Exports read back by the libraries they are for, and what a reader sees while one is written."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from longattn.etl.export import FORMATS
from longattn.etl.export import files as export_files
from longattn.etl.export import samples as stage
from longattn.etl.export.blend import blend
from longattn.etl.export.card import CARD, _configs, card_license, dataset_card
from longattn.etl.export.files import MANIFEST, SUMS, Folder, described
from longattn.etl.export.formats import Options
from longattn.etl.export.job import extras_of
from longattn.etl.export.write import Written, targets_by_context, write_shards
from longattn.etl.export.writers import megatron
from longattn.etl.tables.schema import SELECTIONS, WINDOWS
from longattn.udfs.errors import ExportError, UserError
from tests.etl.test_boundaries import WITHOUT_TORCHVISION

N_WINDOWS, LENGTH = 30, 16
TEXT = "A\u00e9\U0001d4b3\u4e2d. " * 200  # one to four bytes a character
SHARD_TOKENS = 10 * LENGTH


def token_ids(number: int, top: int = 60_000) -> list[int]:
    return np.random.default_rng(number).integers(0, top, LENGTH).tolist()


@pytest.fixture(scope="module")
def corpus(spark: Any) -> dict[str, Any]:
    """Windows of one document each, the last packed of two; a third of them twice, some not."""
    windows, selection = [], []
    for i in range(N_WINDOWS):
        packed = i == N_WINDOWS - 1
        domain = ("book", "code")[i % 2]
        row = dict.fromkeys(WINDOWS.columns) | {"window_id": f"w{i:02}", "domain": domain}
        row |= {"n_tokens": LENGTH, "token_ids": token_ids(i)}
        if packed:
            row["segments"] = [("d0", 0, 10), ("d1", 0, 6)]
        else:
            row |= {"doc_id": f"d{i}", "start_char": i, "end_char": i + 7}
        windows.append(tuple(row[c] for c in WINDOWS.columns))
        order = int(np.random.default_rng(i).integers(-(1 << 63), 1 << 63))
        chosen = ("s", f"w{i:02}", domain, LENGTH, 0.1, -0.1, 1.0 - i, 50.0, i + 1)
        selection.append((*chosen, (0, 1, 2)[i % 3], order, 1.0 - i, None))
    documents = [(f"d{i}", "src", TEXT) for i in range(N_WINDOWS)]
    return {
        "windows": spark.createDataFrame(windows, WINDOWS.ddl),
        "selection": spark.createDataFrame(selection, SELECTIONS.ddl),
        "documents": spark.createDataFrame(documents, "doc_id string, source string, text string"),
    }


@pytest.fixture(scope="module")
def expected(corpus: dict[str, Any]) -> list[str]:
    """Window ids in mix order, every copy, worked out from the selection row by row."""
    rows = stage.copies(corpus["selection"]).collect()
    return [row["window_id"] for row in sorted(rows, key=lambda row: row["order"])]


def stage_export(
    corpus: dict[str, Any], name: str, folder: Folder, by_domain: bool = False, **changes: Any
) -> Written:
    """Begin an export and write its shards, without showing them."""
    plan = stage.plan(corpus["selection"], SHARD_TOKENS, by_domain)
    options = options_at(folder, **changes)
    folder.begin()
    rows = stage.samples(
        corpus["selection"],
        corpus["windows"],
        corpus["documents"],
        columns=[c for c in FORMATS[name].columns if options.with_ids or c != "token_ids"],
        scorer="recall:n=6",
        plan=plan,
    )
    return write_shards(rows, plan, FORMATS[name], options)


def options_at(folder: Folder, **changes: Any) -> Options:
    options = Options(
        folder=folder, compression="zstd", prefix="LongAttn", tokenizer="", largest_id=60_000
    )
    return replace(options, **changes)


def columns_of(name: str, **changes: Any) -> Any:
    """The schema that the card declares."""
    schema = FORMATS[name].schema
    assert schema is not None
    return schema(options_at(Folder(path="nowhere"), **changes))


def export(corpus: dict[str, Any], name: str, path: Path, **changes: Any) -> list[dict[str, Any]]:
    folder = Folder(path=str(path))
    written = stage_export(corpus, name, folder, **changes)
    extras = FORMATS[name].extras(str(path), written.files, options_at(folder))
    manifest = {"longattn": "0", "format": name, "files": written.files, **sums(written)}
    manifest["extras"] = described(extras)
    folder.publish(written.names, extras | {MANIFEST: json.dumps(manifest)})
    return written.files


def sums(written: Written) -> dict[str, int]:
    return {key: sum(file[key] for file in written.files) for key in SUMS}


def export_by_domain(corpus: dict[str, Any], name: str, path: Path) -> Written:
    """As the job does: folders for domains, each with the small files of its format."""
    folder = Folder(path=str(path))
    written = stage_export(corpus, name, folder, by_domain=True)
    texts = extras_of(FORMATS[name], str(path), written.files, options_at(folder))
    counts = {d: {"tokens": 0, "samples": 0} for d in ("book", "code")}
    for file in written.files:
        for key in ("tokens", "samples"):
            counts[file["name"].partition("/")[0]][key] += file[key]
    manifest = {
        "longattn": "0",
        "format": name,
        "by_domain": True,
        "domains": counts,
        **sums(written),
        "files": written.files,
    }
    folder.publish(written.names, texts | {MANIFEST: json.dumps(manifest)})
    return written


def number_of(window_id: str) -> int:
    return int(window_id[1:])


@pytest.mark.spark
class TestSamples:
    def test_numbers_follow_the_mix_order_and_copies(
        self, corpus: dict[str, Any], expected: list[str]
    ) -> None:
        plan = stage.plan(corpus["selection"], SHARD_TOKENS)
        assert plan.samples == len(expected) == 30
        assert plan.n_shards == 3
        assert plan.domains["book"]["samples"] == sum(number_of(w) % 2 == 0 for w in expected)


@pytest.mark.spark
class TestParquet:
    def test_datasets_loads_it(
        self, corpus: dict[str, Any], expected: list[str], tmp_path: Path
    ) -> None:
        datasets = pytest.importorskip("datasets")
        files = export(corpus, "parquet", tmp_path / "out")
        found = datasets.load_dataset(
            "parquet", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache")
        )["train"]
        assert len(files) == 3
        assert found["window_id"][:] == expected
        assert found["sample"][:] == list(range(30))
        assert found["input_ids"][:] == [token_ids(number_of(w)) for w in expected]
        for row in found:
            i = number_of(row["window_id"])
            packed = i == N_WINDOWS - 1
            assert row["text"] == (None if packed else TEXT[i : i + 7])
            assert [s["length"] for s in row["segments"]] == ([10, 6] if packed else [16])
            assert row["seq_lens"] == ([10, 6] if packed else [16])
            assert row["score"] == row["lds"] == 1.0 - i
            assert (row["scorer"], row["percentile"]) == ("recall:n=6", 50.0)

    def test_targets_are_counted_before_they_are_written(
        self, corpus: dict[str, Any], tmp_path: Path
    ) -> None:
        rows = stage.bounds(corpus["selection"], corpus["windows"])
        counts = targets_by_context(rows, options_at(Folder(path=str(tmp_path / "none"))))
        written = stage_export(corpus, "parquet", Folder(path=str(tmp_path / "out")))
        octaves = written.context["masked"]["octaves"].values()
        assert counts.tolist() == [*octaves, *[0] * (len(counts) - len(octaves))]


@pytest.mark.spark
class TestJsonl:
    @pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
    def test_datasets_loads_the_published_form(
        self,
        corpus: dict[str, Any],
        expected: list[str],
        tmp_path: Path,
        compression: str,
    ) -> None:
        datasets = pytest.importorskip("datasets")
        whole = corpus | {"windows": corpus["windows"].where("segments is null")}
        whole["selection"] = corpus["selection"].where("window_id != 'w29'")
        expected = [w for w in expected if w != "w29"]
        export(whole, "jsonl", tmp_path / "out", compression=compression)
        found = datasets.load_dataset(
            "json", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache")
        )["train"]
        assert found.column_names == columns_of("jsonl").names
        assert found["data_id"][:] == [f"LongAttn_{n:07d}" for n in range(1, len(expected) + 1)]
        texts = [TEXT[number_of(w) : number_of(w) + 7] for w in expected]
        assert found["text"][:] == texts
        assert found["score"][:] == found["lds"][:] == [1.0 - number_of(w) for w in expected]
        assert found["input_ids"][:] == [token_ids(number_of(w)) for w in expected]

    def test_ids_that_no_model_knows_are_left_out(
        self, corpus: dict[str, Any], expected: list[str], tmp_path: Path
    ) -> None:
        whole = corpus | {"selection": corpus["selection"].where("window_id != 'w29'")}
        files = export(whole, "jsonl", tmp_path / "out", compression="none", with_ids=False)
        lines = (tmp_path / "out" / files[0]["name"]).read_text().splitlines()
        assert list(json.loads(lines[0])) == columns_of("jsonl", with_ids=False).names
        assert "input_ids" not in json.loads(lines[0])
        export(whole, "parquet", tmp_path / "parquet", with_ids=False)
        found = pq.read_table(tmp_path / "parquet")
        assert "input_ids" not in found.column_names
        assert found["window_id"].to_pylist() == [w for w in expected if w != "w29"]

    def test_a_packed_window_is_decoded(self, corpus: dict[str, Any], tmp_path: Path) -> None:
        tokenizer = word_tokenizer(tmp_path / "tokenizer.json")
        packed = corpus | {"selection": corpus["selection"].where("window_id = 'w29'")}
        (file,) = export(
            packed, "jsonl", tmp_path / "out", compression="none", tokenizer=str(tokenizer)
        )
        lines = (tmp_path / "out" / file["name"]).read_text().splitlines()
        words = " ".join(f"t{i}" for i in token_ids(29))
        assert [json.loads(line)["text"] for line in lines] == [words] * 2


LOADED = {"parquet": "train-*.parquet", "jsonl": "train-*.jsonl.zst"}


@pytest.mark.spark
@pytest.mark.parametrize("name", LOADED)
class TestCard:
    @pytest.fixture
    def folder(self, corpus: dict[str, Any], name: str, tmp_path: Path) -> Path:
        """An export of windows that are not packed, with its card, as the job writes it."""
        whole = corpus | {"selection": corpus["selection"].where("window_id != 'w29'")}
        place = Folder(path=str(tmp_path / "out"))
        written = stage_export(whole, name, place)
        manifest = {
            "selection": "mine",
            "longattn": "0.1",
            "scorer": "recall:n=6",
            "windowing": "longattn-16:words@1",
            "config": "ab12",
            "tables": {"scores": 3, "windows": 1},
            "samples": written.samples,
            "tokens": written.tokens,
            "bytes": sum(file["bytes"] for file in written.files),
            "domains": {
                "book": {
                    "samples": 13,
                    "tokens": 208,
                    "sources": [{"name": "dolma", "license": "CC0-1.0", "path": ["a|b.jsonl"]}],
                }
            },
            "files": written.files,
            "context": written.context,
        }
        card = dataset_card(manifest, columns_of(name), {"select.fraction": 0.5}, ["No ids"])
        place.publish(written.names, {CARD: card, MANIFEST: json.dumps(manifest)})
        return tmp_path / "out"

    def test_datasets_loads_the_folder_as_it_stands(
        self, name: str, folder: Path, expected: list[str], tmp_path: Path
    ) -> None:
        """Its splits, rows and features are the card's; the manifest is no data."""
        datasets = pytest.importorskip("datasets")
        found = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
        assert list(found) == ["train"]
        train = found["train"]
        assert train["window_id"][:] == [w for w in expected if w != "w29"]
        declared = datasets.Features.from_arrow_schema(columns_of(name))
        assert train.features == declared

    def test_the_head_is_what_the_hub_reads(self, name: str, folder: Path) -> None:
        hub = pytest.importorskip("huggingface_hub")
        card = hub.DatasetCard.load(folder / CARD)
        assert card.data.license == "cc0-1.0"
        assert card.data.configs == [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": LOADED[name]}],
            }
        ]
        assert card.data.size_categories == ["n<1K"]
        assert "| book | dolma | CC0-1.0 |" in card.text
        assert "`select.fraction` | `0.5`" in card.text
        assert "| 8 to 15 | 53.3% | 53.3% |" in card.text  # of 15 targets 8, in each window
        assert "\nNo ids.\n" in card.text

    def test_rows_that_are_missing_are_noticed(
        self, name: str, folder: Path, tmp_path: Path
    ) -> None:
        datasets = pytest.importorskip("datasets")
        sorted(folder.glob("train-*"))[-1].unlink()
        with pytest.raises(datasets.exceptions.NonMatchingSplitsSizesError):
            datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))


class TestCardHead:
    @pytest.mark.parametrize(
        ("licenses", "said"),
        [(["MIT", "MIT"], "mit"), (["MIT", None], "other"), (["my own"], "other"), ([], "other")],
    )
    def test_a_licence_is_said_where_there_is_one(
        self, licenses: list[str | None], said: str
    ) -> None:
        sources = [{"name": "s", "license": found, "path": ["p"]} for found in licenses]
        manifest = {"domains": {"book": {"samples": 1, "tokens": 2, "sources": sources}}}
        assert card_license(manifest) == {"license": said}


def test_a_domain_called_default_does_not_stand_for_all_samples() -> None:
    places = {c["config_name"]: c["data_files"][0]["path"] for c in _configs(["default"], "jsonl")}
    assert places == {
        "default": "*/train-*.jsonl",
        "default alone": "default/train-*.jsonl",
    }


def word_tokenizer(path: Path) -> Path:
    """A tokenizer whose token i reads `ti`."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = models.WordLevel({f"t{i}": i for i in range(60_000)}, unk_token="t0")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path))
    return path


@pytest.mark.spark
class TestMegatron:
    @pytest.mark.parametrize(("largest", "dtype"), [(65_499, "uint16"), (65_500, "int32")])
    def test_megatron_reads_it(
        self,
        corpus: dict[str, Any],
        expected: list[str],
        tmp_path: Path,
        largest: int,
        dtype: str,
    ) -> None:
        indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset")
        export(corpus, "megatron", tmp_path / "out", largest_id=largest)
        found = []
        for weight, prefix in lines_of_blend(tmp_path / "out"):
            dataset = indexed.IndexedDataset(prefix)
            assert dataset.index.dtype.__name__ == dtype
            assert int(weight) == dataset.sequence_lengths.sum()
            assert dataset.document_indices.tolist() == list(range(len(dataset) + 1))
            found += [dataset[i].tolist() for i in range(len(dataset))]
        assert found == [token_ids(number_of(w)) for w in expected]


def lines_of_blend(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "blend.txt").read_text().splitlines()]


class TestMegatronIndex:
    def test_bytes_equal_megatrons_own_writer(self, tmp_path: Path) -> None:
        indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset")
        for dtype in (np.uint16, np.int32):
            builder = indexed.IndexedDatasetBuilder(str(tmp_path / "d.bin"), dtype=dtype)
            for length in (5, 1, 300):
                builder.add_document(np.ones(length, dtype), [length])
            builder.finalize(str(tmp_path / "d.idx"))
            own = megatron.index_bytes([5, 1, 300], np.dtype(dtype))
            assert own == (tmp_path / "d.idx").read_bytes()

    def test_offsets_past_two_to_the_31(self) -> None:
        """131,072 sequences of 32,768 tokens: 2^32 tokens, the last at byte 2^34 - 131,072."""
        index = megatron.index_bytes([32_768] * 131_072, np.dtype("int32"))
        offsets = np.frombuffer(index, "<i8", 131_072, offset=34 + 4 * 131_072)
        assert offsets[-1] == 2**34 - 131_072
        assert (np.diff(offsets) == 131_072).all()

    def test_a_sequence_that_no_int32_holds_is_refused(self) -> None:
        with pytest.raises(ExportError, match="a sequence of 2,147,483,648 tokens"):
            megatron.index_bytes([1 << 31], np.dtype("int32"))


READ_STREAMS = (
    WITHOUT_TORCHVISION
    + """
from streaming import Stream, StreamingDataset
import longattn
weighed = longattn.blend(sys.argv[1], {"book": 3, "code": 1})
streams = [Stream(local=place, proportion=weight) for weight, place in weighed]
samples = StreamingDataset(streams=streams, epoch_size=400, shuffle=True, batch_size=1)
print(json.dumps([sample["domain"] for sample in samples]))
"""
)


@pytest.mark.spark
class TestByDomain:
    def test_each_domain_has_its_samples_in_the_mix_order(
        self, corpus: dict[str, Any], expected: list[str], tmp_path: Path
    ) -> None:
        written = export_by_domain(corpus, "parquet", tmp_path / "out")
        firsts = [file["first_sample"] for file in written.files]
        assert firsts == np.cumsum([0, *(file["samples"] for file in written.files[:-1])]).tolist()
        number = 0
        for name, rest in (("book", 0), ("code", 1)):
            shards = sorted((tmp_path / "out" / name).glob("*.parquet"))
            assert [s.name for s in shards] == [f"train-0000{i}-of-00002.parquet" for i in (0, 1)]
            rows = [row for shard in shards for row in pq.read_table(shard).to_pylist()]
            assert [r["window_id"] for r in rows] == [
                w for w in expected if number_of(w) % 2 == rest
            ]
            assert [r["sample"] for r in rows] == list(range(number, number + len(rows)))
            number += len(rows)

    def test_datasets_loads_one_domain_or_all(
        self, corpus: dict[str, Any], expected: list[str], tmp_path: Path
    ) -> None:
        datasets = pytest.importorskip("datasets")
        written = export_by_domain(corpus, "parquet", tmp_path / "out")
        sums = {key: sum(file[key] for file in written.files) for key in ("samples", "bytes")}
        manifest = {"files": written.files, "domains": {}, "tokens": 0, "context": written.context}
        manifest |= {"longattn": "0", "scorer": "s", "windowing": "w", "config": "c", "tables": {}}
        card = dataset_card(manifest | sums | {"selection": "s"}, columns_of("parquet"), {})
        (tmp_path / "out" / CARD).write_text(card)
        cache = {"cache_dir": str(tmp_path / "cache"), "split": "train"}
        books = datasets.load_dataset(str(tmp_path / "out"), "book", **cache)
        assert set(books["domain"]) == {"book"}
        both = datasets.load_dataset(str(tmp_path / "out"), **cache)
        assert sorted(both["window_id"]) == sorted(expected)

    def test_streaming_weighs_domains_anew(self, corpus: dict[str, Any], tmp_path: Path) -> None:
        pytest.importorskip("brotli")
        export_by_domain(corpus, "mds", tmp_path / "out")
        command = [sys.executable, "-W", "ignore", "-c", READ_STREAMS, str(tmp_path / "out")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "No module named 'streaming'" in done.stderr:
            pytest.skip("mosaicml-streaming is not installed")
        assert done.returncode == 0, done.stderr
        drawn = Counter(json.loads(done.stdout.splitlines()[-1]))
        assert drawn == {"book": 300, "code": 100}

    def test_a_blend_of_megatron_shares_a_domain_out_by_tokens(
        self, corpus: dict[str, Any], tmp_path: Path
    ) -> None:
        indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset")
        export_by_domain(corpus, "megatron", tmp_path / "out")
        sums = Counter[str]()
        for weight, prefix in blend(str(tmp_path / "out"), {"book": 1, "code": 4}):
            shards = [str(path.with_suffix("")) for path in Path(prefix).parent.glob("*.idx")]
            readers = {p: indexed.IndexedDataset(p) for p in shards}  # gone, their memory is too
            tokens = {p: int(reader.sequence_lengths.sum()) for p, reader in readers.items()}
            domain, here = Path(prefix).parent.name, tokens[prefix] / sum(tokens.values())
            assert weight == pytest.approx({"book": 0.2, "code": 0.8}[domain] * here)
            sums[domain] += weight
        assert sums == pytest.approx({"book": 0.2, "code": 0.8})
        as_exported = blend(str(tmp_path / "out"))
        lines = [lines_of_blend(tmp_path / "out" / name) for name in ("book", "code")]
        tokens = {prefix: int(n) for n, prefix in chain(*lines)}
        assert {p: w * sum(tokens.values()) for w, p in as_exported} == pytest.approx(tokens)

    def test_what_cannot_be_weighed_is_said(self, corpus: dict[str, Any], tmp_path: Path) -> None:
        export_by_domain(corpus, "parquet", tmp_path / "out")
        export(corpus, "parquet", tmp_path / "mixed")
        place = str(tmp_path / "out")
        for weights, said in (
            ({"wiki": 1}, "no domain wiki"),
            ({"book": -1}, "domain book: a weight of -1"),
            ({"book": 0}, "no domain has a weight above 0"),
        ):
            with pytest.raises(UserError, match=said):
                blend(place, weights)
        with pytest.raises(UserError, match="its files hold all domains"):
            blend(str(tmp_path / "mixed"))
        assert {Path(p).parent.name for _, p in blend(place, {"book": 1, "code": 0})} == {"book"}


READ_MDS = (
    WITHOUT_TORCHVISION
    + """
from streaming import LocalDataset, MDSWriter
theirs, ours = sys.argv[1:]
lists = ("tokens", "indices", "seq_lens")
samples = [s | {n: s[n].tolist() for n in lists} for s in LocalDataset(ours)]
columns = {"domain": "str", "indices": "ndarray:int32", "n_tokens": "int", "sample": "int"}
columns |= {"percentile": "float64", "score": "float64", "scorer": "str"}
columns |= {"seq_lens": "ndarray:int32", "tokens": "ndarray:int32", "window_id": "str"}
with MDSWriter(columns=columns, out=theirs) as writer:
    for sample in LocalDataset(ours):
        writer.write(sample)
print(json.dumps(samples))
"""
)


@pytest.mark.spark
class TestMds:
    def test_streaming_reads_it_and_would_write_the_same(
        self, corpus: dict[str, Any], expected: list[str], tmp_path: Path
    ) -> None:
        pytest.importorskip("brotli")  # which streaming needs and nothing else here does
        files = export(corpus, "mds", tmp_path / "ours")
        command = [sys.executable, "-W", "ignore", "-c", READ_MDS]
        command += [str(tmp_path / "theirs"), str(tmp_path / "ours")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "No module named 'streaming'" in done.stderr:
            pytest.skip("mosaicml-streaming is not installed")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        assert [s["window_id"] for s in found] == expected
        assert [s["tokens"] for s in found] == [token_ids(number_of(w)) for w in expected]
        assert [s["score"] for s in found] == [1.0 - number_of(w) for w in expected]
        assert {(s["scorer"], s["percentile"]) for s in found} == {("recall:n=6", 50.0)}
        assert len(files) == 3
        one = Path(tmp_path / "theirs" / "shard.00000.mds").read_bytes()
        assert one == merged_shard(tmp_path / "ours")
        index = json.loads((tmp_path / "ours" / "index.json").read_text())
        shard = json.loads((tmp_path / "theirs" / "index.json").read_text())["shards"][0]
        assert set(index["shards"][0]) == set(shard)


def merged_shard(folder: Path) -> bytes:
    """All samples of an export in one shard, by our encoder."""
    from longattn.etl.export.writers import mds

    samples = []
    for path in sorted(folder.glob("*.mds")):
        data = path.read_bytes()
        count = int.from_bytes(data[:4], "little")
        ends = np.frombuffer(data, "<u4", count + 1, offset=4)
        samples += [data[a:b] for a, b in pairwise(ends)]
    return mds.encode_shard(samples, mds.header("tokens"))


class TestMdsLimits:
    def test_a_shard_that_uint32_offsets_cannot_reach_is_refused(self) -> None:
        from longattn.etl.export.writers import mds

        class Huge(bytes):
            def __len__(self) -> int:
                return 1 << 32

        with pytest.raises(ExportError, match="offsets must fit 32 bits"):
            mds.encode_shard([Huge()], b"")


def copied_until(moves: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The way of a folder to its place file by file, interrupted after so many."""
    done: list[str] = []

    def move(system: Any, source: str, target: str) -> None:
        if len(done) == moves:
            raise KeyboardInterrupt
        shutil.move(source, target)
        done.append(target)

    def copy(folder: Folder) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(export_files, "_move", move)
            folder._copy()

    return copy


@pytest.mark.spark
class TestAtomic:
    def test_checksums_and_places_are_in_the_manifest(
        self, corpus: dict[str, Any], tmp_path: Path
    ) -> None:
        files = export(corpus, "parquet", tmp_path / "out")
        assert [f["name"] for f in files] == [f"train-0000{i}-of-00003.parquet" for i in range(3)]
        assert [f["first_sample"] for f in files] == np.cumsum(
            [0, *(f["samples"] for f in files[:-1])]
        ).tolist()
        for file in files:
            data = (tmp_path / "out" / file["name"]).read_bytes()
            assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())

    def test_until_it_is_published_readers_see_the_old_export(
        self, corpus: dict[str, Any], tmp_path: Path
    ) -> None:
        export(corpus, "parquet", tmp_path / "out")
        before = sorted((tmp_path / "out").iterdir())
        folder = Folder(path=str(tmp_path / "out"))
        stage_export(corpus, "parquet", folder)
        assert sorted((tmp_path / "out").iterdir()) == before
        export(corpus, "parquet", tmp_path / "out")
        assert sorted(tmp_path.iterdir()) == [tmp_path / "out"]

    def test_what_failed_attempts_wrote_is_not_published(
        self, corpus: dict[str, Any], tmp_path: Path
    ) -> None:
        folder = Folder(path=str(tmp_path / "out"))
        written = stage_export(corpus, "megatron", folder)
        _, orphan = folder.new_file()
        orphan.write(b"half a shard")
        orphan.close()
        manifest = {"longattn": "0", "files": written.files}
        folder.publish(written.names, {MANIFEST: json.dumps(manifest)})
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert names == {f["name"] for f in written.files} | {MANIFEST}

    def test_a_run_killed_between_two_renames_is_repaired(self, tmp_path: Path) -> None:
        before = tmp_path / "out.before"
        before.mkdir()
        (before / MANIFEST).write_text('{"longattn": "0"}')
        Folder(path=str(tmp_path / "out")).begin()
        assert (tmp_path / "out" / MANIFEST).exists()

    def test_a_run_killed_between_files_that_no_rename_moves_blocks_nothing(
        self, corpus: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On stores, and in mount points, files go one by one."""
        export(corpus, "megatron", tmp_path / "out", prefix="old")
        notes = tmp_path / "out" / "notes.txt"
        for moves in (0, 1, 5):
            monkeypatch.setattr(Folder, "_swap", copied_until(moves, monkeypatch))
            with pytest.raises(KeyboardInterrupt):
                export(corpus, "megatron", tmp_path / "out")
            manifest = Folder(path=str(tmp_path / "out")).manifest()
            assert manifest is not None and manifest["identity"] is None
            notes.write_text("mine")
            with pytest.raises(ExportError, match=r"other files, as notes\.txt, which"):
                Folder(path=str(tmp_path / "out")).begin()
            notes.unlink()
        monkeypatch.setattr(Folder, "_swap", Folder._copy)
        written = export(corpus, "megatron", tmp_path / "out")
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert names == {file["name"] for file in written} | {MANIFEST, "blend.txt"}

    def test_the_only_copy_is_no_garbage(self, tmp_path: Path) -> None:
        """Of a run that was killed between its two renames; vacuum asks what is left behind."""
        folder = Folder(path=str(tmp_path / "out"))
        Path(folder.before).mkdir()
        (Path(folder.before) / MANIFEST).write_text('{"longattn": "0"}')
        Path(folder.staging).mkdir()
        assert folder.left_behind() == [folder.staging]
        folder.begin()
        assert (tmp_path / "out" / MANIFEST).exists()

    def test_a_place_may_stand_at_the_top_of_a_disk(self) -> None:
        assert "/tmp" in Folder(path="/tmp")._beside("")

    def test_a_folder_of_other_files_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(ExportError, match=r"other files, as thesis\.tex, which"):
            Folder(path=str(tmp_path)).begin()
        assert (tmp_path / "thesis.tex").exists()

    def test_a_file_that_comes_while_it_is_written_is_left_alone(
        self, corpus: dict[str, Any], tmp_path: Path
    ) -> None:
        export(corpus, "parquet", tmp_path / "out")
        folder = Folder(path=str(tmp_path / "out"))
        written = stage_export(corpus, "parquet", folder)
        (tmp_path / "out" / "notes.txt").write_text("mine")
        for data in ("a", "book/a"):  # of all samples, and of those of a domain
            indices = tmp_path / "out" / data / "cache" / "GPTDataset_indices"
            indices.mkdir(parents=True)
            (indices / "x.npy").write_text("theirs")
        with pytest.raises(ExportError, match=r"other files, as notes\.txt, which"):
            folder.publish(written.names, {MANIFEST: "{}"})
        assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
        (tmp_path / "out" / "notes.txt").unlink()
        assert folder.strangers() == []
