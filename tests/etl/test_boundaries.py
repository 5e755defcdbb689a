"""Ten thousand random packings through every writer and back out of the libraries' own readers: the
boundaries and positions that a kernel would be given are those that the windows were packed with.

No Spark: writers take Arrow batches. What is expected is worked out here from the lengths drawn.
"""

import gzip
import hashlib
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from longattn.etl.export import FORMATS, read
from longattn.etl.export.files import MANIFEST, Folder, described
from longattn.etl.export.formats import Options
from longattn.etl.export.job import for_readers
from longattn.etl.export.write import Context, _named, as_samples, context_of
from longattn.etl.export.writers.jsonl import JsonlWriter, lines
from longattn.udfs.errors import ExportError
from longattn.udfs.windows import segments as seg

N, LONGEST, SEPARATOR, VOCABULARY = 10_000, 24, 0, 50


@dataclass(frozen=True)
class Packing:
    """A window: the lengths of its segments, separators counted, and its tokens."""

    name: str
    lengths: list[int]
    ids: list[int]
    packed: bool

    @property
    def ends(self) -> list[int]:
        return np.cumsum(self.lengths).tolist()

    @property
    def positions(self) -> list[int]:
        return [*chain(*map(range, self.lengths))]

    @property
    def documents(self) -> list[list[int]]:
        return [self.ids[a:b] for a, b in pairwise([0, *self.ends])]


def draw(rng: np.random.Generator, number: int) -> Packing:
    """A window of one document, or one of several that is now and then not full."""
    packed = rng.random() < 0.8
    size = LONGEST if not packed or rng.random() < 0.9 else int(rng.integers(1, LONGEST))
    cuts = (
        rng.choice(size - 1, min(int(rng.integers(0, 6)), size - 1), False) + 1 if size > 1 else []
    )
    bounds = [0, *sorted(map(int, cuts if packed else [])), size]
    ids = rng.integers(1, VOCABULARY, size).tolist()
    for end in bounds[1:-1]:
        ids[end - 1] = SEPARATOR
    return Packing(f"w{number:05}", [b - a for a, b in pairwise(bounds)], ids, packed)


@pytest.fixture(scope="module")
def packings() -> list[Packing]:
    rng = np.random.default_rng(34)
    return [draw(rng, number) for number in range(N)]


def as_rows(packings: list[Packing]) -> pa.RecordBatch:
    """Windows as the table has them."""
    rows = []
    for packing in packings:
        starts = [0, *packing.ends[:-1]]
        parts = [
            {"doc_id": f"{packing.name}.{n}", "start_token": 7 * n, "n_tokens": length}
            for n, length in enumerate(packing.lengths)
        ]
        assert len(starts) == len(parts)
        rows.append(
            {
                "window_id": packing.name,
                "domain": "web" if packing.packed else "book",
                "doc_id": None if packing.packed else f"{packing.name}.0",
                "start_token": None if packing.packed else 5,
                "n_tokens": len(packing.ids),
                "segments": parts if packing.packed else None,
                "token_ids": packing.ids,
            }
        )
    return pa.RecordBatch.from_pylist(rows, schema=ROWS)


ROWS = pa.schema(
    [
        ("window_id", pa.string()),
        ("domain", pa.string()),
        ("doc_id", pa.string()),
        ("start_token", pa.int64()),
        ("n_tokens", pa.int32()),
        ("segments", seg.SEGMENTS),
        ("token_ids", pa.list_(pa.int32())),
    ]
)
# what samples have beside these, of the selection and the documents
OTHERS = {"start_char": None, "end_char": None, "source": "s", "copy": 1, "text": None}
SCORES = {"score": 1.0, "scorer": "recall", "percentile": 50.0}  # packed windows have none


def write(name: str, packings: list[Packing], path: Path, **changes: Any) -> Path:
    """An export of two shards, as the job makes it."""
    settings = {"compression": "none", "prefix": "LongAttn", "tokenizer": "", "longest": LONGEST}
    settings |= {"largest_id": VOCABULARY, "separator": SEPARATOR}
    folder = Folder.at(str(path))
    options = Options(folder=folder, **{**settings, **changes})
    folder.begin()
    parts, context = [], Context()
    half = len(packings) // 2
    for shard, first in enumerate((0, half)):
        mine = packings[first : half or None] if shard == 0 else packings[half:]
        writer, number = FORMATS[name].writer(options), first
        for batch in pa.Table.from_batches([as_rows(mine)]).to_batches(1024):
            samples = as_samples(whole(batch), number, options)
            writer.write(samples)
            context.add(samples)
            number += batch.num_rows
        parts += [{"shard": shard, **asdict(part)} for part in writer.close()]
    counted = {"masked": context.masked, "unmasked": context.unmasked}
    names, files = _named(parts, FORMATS[name], options.prefix, {0: "", 1: ""})
    extras = FORMATS[name].extras(str(path), files, options)
    sums = {key: sum(file[key] for file in files) for key in read.SUMS}
    manifest = {
        "longattn": "0",
        "format": name,
        "sequence_length": LONGEST,
        **for_readers(FORMATS[name], options),
        **sums,
        "files": files,
        "extras": described(extras),
    }
    manifest["context"] = context_of([counted])
    folder.publish(names, extras | {MANIFEST: json.dumps(manifest)})
    return path


def whole(batch: pa.RecordBatch) -> pa.RecordBatch:
    for name, value in OTHERS.items():
        type_ = pa.string() if name == "text" else pa.int64() if value is None else None
        batch = batch.append_column(name, pa.array([value] * batch.num_rows, type_))
    for name, value in (SCORES | {"lds": SCORES["score"]}).items():
        values = [None if packed else value for packed in batch["segments"].is_valid().to_pylist()]
        type_ = pa.string() if name == "scorer" else pa.float64()
        batch = batch.append_column(name, pa.array(values, type_))
    return batch


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(path.glob("*.parquet")):
        yield from pq.read_table(file).to_pylist()


@pytest.fixture(scope="module")
def parquet(packings: list[Packing], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write("parquet", packings, tmp_path_factory.mktemp("p") / "out", position_ids=True)


@given(
    st.lists(st.integers(0, 10**9), min_size=seg.OCTAVES, max_size=seg.OCTAVES),
    st.integers(1, 1 << 20),
    st.sampled_from([0.15, 1.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_far_targets_share_further_weight_the_rarer_ones_more(
    counts: list[int], longest: int, alpha: float, gamma: float
) -> None:
    """The properties that EXACT's paper names, of any histogram."""
    weights = seg.balanced_weights(np.array(counts), longest, alpha=alpha, gamma=gamma).tolist()
    far = [o for o, n in enumerate(counts) if n and 1 << o >= longest / 4]
    assert all(weights[o] == 1 for o in range(seg.OCTAVES) if o not in far)
    n_far = sum(counts[o] for o in far)
    further = sum(counts[o] * (weights[o] - 1) for o in far)
    assert further == pytest.approx(alpha * n_far)
    by_rarity = sorted(far, key=lambda o: counts[o], reverse=True)
    assert all(weights[a] <= weights[b] * (1 + 1e-12) for a, b in pairwise(by_rarity))


class TestContract:
    def test_a_target_weighs_what_its_octave_of_context_does(
        self, packings: list[Packing], tmp_path: Path
    ) -> None:
        weights = tuple(0.5 + octave for octave in range(seg.OCTAVES))
        path = write("parquet", packings[:2000], tmp_path / "out", target_weights=weights)
        for row, packing in zip(parquet_rows(path), packings[:2000], strict=True):
            assert row["target_weights"] == [
                0.5 + math.floor(math.log2(place)) if place else 0.0 for place in packing.positions
            ]

    def test_segments_join_up_and_name_their_documents(
        self, packings: list[Packing], parquet: Path
    ) -> None:
        for row, packing in zip(parquet_rows(parquet), packings, strict=True):
            assert row["window_id"] == packing.name
            assert [s["length"] for s in row["segments"]] == row["seq_lens"] == packing.lengths
            assert [s["start"] for s in row["segments"]] == [0, *packing.ends[:-1]]
            assert row["position_ids"] == packing.positions
            assert [s["doc_id"] for s in row["segments"]] == [
                f"{packing.name}.{n}" for n in range(len(packing.lengths))
            ]
            starts = [7 * n for n in range(len(packing.lengths))] if packing.packed else [5]
            assert [s["start_token"] for s in row["segments"]] == starts

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=9))
    def test_what_may_attend_across_is_one_sequence(self, parts: list[tuple[int, bool]]) -> None:
        """Lengths and flags of one sample; joined by hand."""
        rows = [
            {"start": 0, "length": n, "doc_id": "d", "start_token": 0, "attend_across": across}
            for n, across in parts
        ]
        expected = [parts[0][0]]
        for (_, across), (length, _) in pairwise(parts):
            expected = [*expected[:-1], expected[-1] + length] if across else [*expected, length]
        found = seg.sequence_lengths(pa.array([rows], seg.BOUNDARIES))
        assert found.to_pylist() == [expected]

    def test_documents_that_see_each_other_are_one_sequence(
        self, packings: list[Packing], tmp_path: Path
    ) -> None:
        path = write("parquet", packings[:200], tmp_path / "out", attend_across=True)
        for row, packing in zip(parquet_rows(path), packings, strict=False):
            assert row["seq_lens"] == [len(packing.ids)]
            assert [s["length"] for s in row["segments"]] == packing.lengths

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("n_tokens", 3),
            ("token_ids", [1]),
            ("segments", [{"doc_id": "d", "start_token": 0, "n_tokens": None}]),
        ],
    )
    def test_what_does_not_sum_is_refused(
        self, packings: list[Packing], tmp_path: Path, column: str, value: Any
    ) -> None:
        row = as_rows(packings[:1]).to_pylist()[0] | {column: value}
        rows = pa.RecordBatch.from_pylist([row], schema=ROWS)
        with pytest.raises(ExportError, match=r"window w00000: .* the table windows is damaged"):
            as_samples(rows, 0, Options(folder=Folder.at(str(tmp_path)), **BARE))


BARE: dict[str, Any] = {"compression": "none", "prefix": "", "tokenizer": "", "largest_id": 0}


class TestScores:
    """Each sample says what it was selected by; a packed window that was not scored has none."""

    @pytest.mark.parametrize("name", ["parquet", "megatron", "megatron_bridge", "numpy"])
    def test_every_format_has_them(
        self, packings: list[Packing], tmp_path: Path, name: str
    ) -> None:
        rows = parquet_rows(write(name, packings[:50], tmp_path / "out"))
        for row, packing in zip(rows, packings[:50], strict=True):
            expected = dict.fromkeys(SCORES) if packing.packed else SCORES
            assert {key: row[key] for key in SCORES} == expected


class TestManifest:
    @pytest.mark.parametrize(
        ("name", "largest", "dtype"),
        [
            ("megatron", 65_499, "uint16"),
            ("megatron", 65_500, "int32"),
            ("numpy", 65_535, "uint16"),
            ("numpy", 65_536, "uint32"),
            ("mds", 65_536, None),
        ],
    )
    def test_it_says_how_tokens_are_stored_and_what_attends(
        self, tmp_path: Path, name: str, largest: int, dtype: str | None
    ) -> None:
        options = {**BARE, "largest_id": largest, "attend_across": True, "separator": 2}
        said = for_readers(FORMATS[name], Options(folder=Folder.at(str(tmp_path)), **options))
        assert (said["attend_across"], said["separator"]) == (True, 2)
        assert said.get("dtype") == dtype


class TestTransformers:
    def test_the_flattening_collator_gives_the_kernel_these_boundaries(
        self, packings: list[Packing], parquet: Path
    ) -> None:
        from transformers import DataCollatorWithFlattening

        collate = DataCollatorWithFlattening(return_flash_attn_kwargs=True, return_tensors="np")
        for row, packing in zip(parquet_rows(parquet), packings, strict=True):
            batch = collate(features_of(row))
            assert batch["cu_seq_lens_q"].tolist() == [0, *packing.ends]
            assert batch["position_ids"][0].tolist() == packing.positions
            assert batch["input_ids"][0].tolist() == packing.ids

    def test_trl_takes_the_lengths(self, packings: list[Packing], parquet: Path) -> None:
        trainer = pytest.importorskip("trl.trainer.sft_trainer")
        collate = trainer.DataCollatorForLanguageModeling(0, padding_free=True)
        for row, packing in zip(parquet_rows(parquet), packings[:2000], strict=False):
            batch = collate([{"input_ids": row["input_ids"], "seq_lengths": row["seq_lens"]}])
            assert batch["position_ids"][0].tolist() == packing.positions


def features_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    ends = np.cumsum(row["seq_lens"]).tolist()
    return [{"input_ids": row["input_ids"][a:b]} for a, b in pairwise([0, *ends])]


class TestJsonl:
    def test_lines_have_them(self, packings: list[Packing], tmp_path: Path) -> None:
        pytest.importorskip("tokenizers")
        from longattn.etl.export.writers.jsonl import JsonlWriter

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(JsonlWriter, "_decoded", lambda self, ids: "text")
            path = write("jsonl", packings, tmp_path / "out")
        lines = "".join(file.read_text() for file in sorted(path.glob("*.jsonl"))).splitlines()
        for line, packing in zip(lines, packings, strict=True):
            row = json.loads(line)
            assert row["seq_lens"] == packing.lengths
            assert [s["start"] for s in row["segments"]] == [0, *packing.ends[:-1]]


# Begins a program that reads by mosaicml-streaming.
WITHOUT_TORCHVISION = """
import json, sys, types
import transformers  # before the stubs: it looks for the real torchvision
for name in ("", ".datasets", ".transforms", ".transforms.functional"):
    stub = types.ModuleType("torchvision" + name)  # only its sets of images need it
    stub.VisionDataset, stub.to_tensor = object, None
    sys.modules["torchvision" + name] = stub
"""
READ_MDS = (
    WITHOUT_TORCHVISION
    + """
from streaming import LocalDataset
for row in LocalDataset(sys.argv[1]):
    names = ("input_ids", "indices", "seq_lens")
    scores = [row[name] for name in ("score", "scorer", "percentile")]
    print(json.dumps({name: row[name].tolist() for name in names} | {"scores": scores}))
"""
)


class TestMds:
    def test_streaming_reads_them(self, packings: list[Packing], tmp_path: Path) -> None:
        path = write("mds", packings, tmp_path / "out", token_column="input_ids")
        command = [sys.executable, "-W", "ignore", "-c", READ_MDS, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "No module named 'streaming'" in done.stderr or "'brotli'" in done.stderr:
            pytest.skip("mosaicml-streaming is not installed")
        assert done.returncode == 0, done.stderr
        for line, packing in zip(done.stdout.splitlines()[-N:], packings, strict=True):
            row = json.loads(line)
            assert row["seq_lens"] == packing.lengths
            scores = [math.nan, "", math.nan] if packing.packed else [*SCORES.values()]
            assert str(row["scores"]) == str(scores)  # NaN is no NaN's equal
            # ProLong's collator takes input_ids[a:b] of each for one sequence
            assert [row["input_ids"][a:b] for a, b in row["indices"]] == packing.documents


def gpt_dataset(prefix: str, **changes: Any) -> Any:
    """Megatron's own data set of one shard, as pretraining makes it."""
    gpt = pytest.importorskip("megatron.core.datasets.gpt_dataset")
    from megatron.core.datasets.utils import Split

    tokenizer = SimpleNamespace(
        eod=SEPARATOR, pad=-1, vocab_size=VOCABULARY, unique_identifiers={"name": "t"}
    )
    settings = {
        "random_seed": 1,
        "sequence_length": LONGEST,
        "blend": ([prefix], None),
        "split": "1",
        "tokenizer": tokenizer,
        "reset_position_ids": True,
        "reset_attention_mask": True,
        "eod_mask_loss": True,
        "add_extra_token_to_sequence": False,
    }
    config = gpt.GPTDatasetConfig(**(settings | changes))
    low = gpt.GPTDataset.build_low_level_dataset(prefix, config)
    return gpt.GPTDataset(
        low, prefix, np.arange(len(low), dtype=np.int32), None, Split.train, config
    )


def fsl_dataset(arrays: list[Path]) -> Any:
    """OLMo-core's own data set of an export's arrays."""
    data = pytest.importorskip("olmo_core.data.numpy_dataset")
    return data.NumpyFSLDataset(
        *arrays,
        sequence_length=LONGEST,
        pad_token_id=SEPARATOR,
        eos_token_id=SEPARATOR,
        vocab_size=VOCABULARY,
        generate_doc_lengths=True,
        label_mask_paths=[file.with_suffix(".mask") for file in arrays],
    )


def with_fillers(packing: Packing) -> tuple[list[int], list[int]]:
    """Tokens and lengths of a window that is filled up: the first filler ends its last document."""
    missing = LONGEST - len(packing.ids)
    ids = packing.ids + [SEPARATOR] * missing
    if not missing:
        return ids, packing.lengths
    return ids, [*packing.lengths[:-1], packing.lengths[-1] + 1, *[1] * (missing - 1)]


@pytest.fixture(scope="module")
def prefixes(packings: list[Packing], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of Megatron's shards."""
    path = write("megatron", packings, tmp_path_factory.mktemp("m") / "out")
    return [str(file).removesuffix(".bin") for file in sorted(path.glob("*.bin"))]


class TestMegatron:
    def test_each_sample_is_one_whole_window_with_its_positions(
        self, packings: list[Packing], prefixes: list[str]
    ) -> None:
        found = []
        for prefix in prefixes:
            dataset = gpt_dataset(prefix, create_attention_mask=False)
            for sample in dataset:
                positions = sample["position_ids"].tolist()
                found.append((sample["tokens"].tolist(), positions))
        expected = [with_fillers(packing) for packing in packings]
        wanted = [(ids, [*chain(*map(range, lengths))]) for ids, lengths in expected]
        assert sorted(found) == sorted(wanted)

    def test_its_masks_are_blocks(self, packings: list[Packing], prefixes: list[str]) -> None:
        lengths_of = {tuple(ids): lengths for ids, lengths in map(with_fillers, packings)}
        dataset = gpt_dataset(prefixes[0])
        for number in range(100):
            sample = dataset[number]
            lengths = lengths_of[tuple(sample["tokens"].tolist())]
            block = np.repeat(np.arange(len(lengths)), lengths)
            allowed = np.tril(block[:, None] == block)
            assert ((~sample["attention_mask"][0].numpy()) == allowed).all()
            # no token after a separator is foretold from it, and nothing from the sample's end
            last = np.cumsum(lengths) - 1
            targets = np.ones(LONGEST, bool)
            targets[last[sample["tokens"].numpy()[last] == SEPARATOR]] = False
            assert (sample["loss_mask"].numpy()[:-1] == targets[:-1]).all()

    def test_a_separator_within_a_document_is_refused(self, tmp_path: Path) -> None:
        wrong = Packing("w1", [LONGEST], [5, SEPARATOR, *[5] * (LONGEST - 2)], packed=True)
        for name in ("megatron", "numpy"):
            with pytest.raises(ExportError, match=f"{name}: window w1: the separator, token 0"):
                write(name, [wrong], tmp_path / name)
            assert not (tmp_path / name).exists()


class TestBridge:
    def test_rows_are_cut_where_sequences_start(
        self, packings: list[Packing], tmp_path: Path
    ) -> None:
        """As GPTSFTPackedParquetDataset does, which needs a GPU's libraries to be imported: its
        boundaries are seq_start_id and the end, and the last token of each is a label alone."""
        path = write("megatron_bridge", packings, tmp_path / "out")
        for row, packing in zip(parquet_rows(path), packings, strict=True):
            bounds = [*row["seq_start_id"], len(row["input_ids"])]
            assert [row["input_ids"][a:b] for a, b in pairwise(bounds)] == packing.documents
            assert row["loss_mask"] == [1] * len(packing.ids)
        schema = pq.read_schema(next(path.glob("*.idx.parquet")))
        assert [str(schema.field(n).type.value_type) for n in ("input_ids", "loss_mask")] == [
            "int32",
            "int8",
        ]


@pytest.fixture(scope="module")
def arrays(packings: list[Packing], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of OLMo-core's shards."""
    path = write("numpy", packings, tmp_path_factory.mktemp("n") / "out")
    return sorted(path.glob("*.npy"))


class TestNumpy:
    def test_arrays_lengths_and_targets(self, packings: list[Packing], arrays: list[Path]) -> None:
        rows = iter(packings)
        for file in arrays:
            tokens = np.memmap(file, mode="r", dtype=np.uint16).reshape(-1, LONGEST)
            mask = np.memmap(file.with_suffix(".mask"), dtype=bool, mode="r").reshape(-1, LONGEST)
            lines = gzip.decompress(file.with_suffix(".csv.gz").read_bytes()).decode().splitlines()
            bounds = [tuple(map(int, line.split(",")[:2])) for line in lines]
            expected = []
            for number, (ids, targets) in enumerate(zip(tokens, mask, strict=True)):
                packing = next(rows)
                assert ids.tolist() == with_fillers(packing)[0]
                starts = [0, *packing.ends[:-1]]
                expected += [
                    (number * LONGEST + a, number * LONGEST + b)
                    for a, b in zip(starts, packing.ends, strict=True)
                ]
                assert np.flatnonzero(targets).tolist() == [
                    n for n in range(len(packing.ids)) if n not in starts
                ]
            assert bounds == expected

    def test_what_attends_across_is_a_target_too(
        self, packings: list[Packing], tmp_path: Path
    ) -> None:
        """Of a sample that is one stretch only its first token and its fillers are none."""
        path = write("numpy", packings[:40], tmp_path / "out", attend_across=True)
        files = [np.fromfile(file, bool) for file in sorted(path.glob("*.mask"))]
        masks = np.concatenate(files).reshape(-1, LONGEST)
        for mask, packing in zip(masks, packings[:40], strict=True):
            assert np.flatnonzero(mask).tolist() == [*range(1, len(packing.ids))]

    def test_olmo_core_finds_the_documents(
        self, packings: list[Packing], arrays: list[Path]
    ) -> None:
        dataset = fsl_dataset(arrays)
        utils = pytest.importorskip("olmo_core.data.utils")
        for number, packing in enumerate(packings):
            row = dataset[number]
            ids, lengths = with_fillers(packing)
            assert (row["input_ids"].tolist(), row["doc_lens"].tolist()) == (ids, lengths)
            assert int(row["label_mask"].sum()) == len(packing.ids) - len(packing.lengths)
        found = utils.iter_document_indices(arrays[0], use_array_if_local=False)
        assert [b - a for a, b in found] == [*chain(*(p.lengths for p in packings[: N // 2]))]


class TestLoss:
    """A two-layer model sees, through each format, what it sees of the documents one by one."""

    @pytest.fixture
    def few(self, packings: list[Packing]) -> list[Packing]:
        return [p for p in packings if len(p.lengths) > 2 and len(p.ids) == LONGEST][:8]

    @pytest.fixture
    def model(self) -> Any:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(1)
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            attn_implementation="eager",
        )
        return LlamaForCausalLM(config).double()

    def test_each_format_gives_the_loss_of_the_documents(
        self, few: list[Packing], model: Any, tmp_path: Path
    ) -> None:
        expected = step(model, lambda: sum(loss_of_documents(model, p) for p in few))
        for name, samples_of in READERS.items():
            path = write(name, few, tmp_path / name)
            samples = list(samples_of(path))
            found = step(model, lambda s=samples: sum(masked_loss(model, *one) for one in s))
            assert found[0] == pytest.approx(expected[0], abs=1e-5), name
            np.testing.assert_allclose(found[1], expected[1], atol=1e-5, err_msg=name)

    def test_the_collator_s_positions_are_masks_to_the_model(
        self, few: list[Packing], model: Any, tmp_path: Path
    ) -> None:
        import torch
        from transformers import DataCollatorWithFlattening

        rows = list(parquet_rows(write("parquet", few, tmp_path / "out")))
        batch = DataCollatorWithFlattening()([*chain(*map(features_of, rows))])
        # a cache of keys would have the model take positions for places, not for documents
        places = {name: batch[name] for name in ("input_ids", "position_ids")}
        logits = model(**places, use_cache=False).logits[0, :-1]  # its own loss is in float32
        loss = torch.nn.functional.cross_entropy(logits, batch["labels"][0, 1:], reduction="sum")
        assert float(loss.detach()) == pytest.approx(
            float(sum(loss_of_documents(model, p) for p in few).detach()), abs=1e-5
        )


def step(model: Any, loss_of: Callable[[], Any]) -> tuple[float, Any]:
    """The loss, and the output weights after a step of SGD; the model stays as it is."""
    import torch

    model.zero_grad()
    loss = loss_of()
    loss.backward()
    with torch.no_grad():
        weights = (model.lm_head.weight - 0.1 * model.lm_head.weight.grad).numpy().copy()
    return float(loss.detach()), weights


def loss_of_documents(model: Any, packing: Packing) -> Any:
    import torch

    losses = []
    for ids in packing.documents:
        if len(ids) > 1:
            tokens = torch.tensor([ids])
            logits = model(input_ids=tokens).logits[0, :-1]
            losses.append(torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum"))
    return sum(losses)


def masked_loss(
    model: Any, ids: Any, labels: Any, weights: Any, allowed: Any, positions: Any
) -> Any:
    """Summed loss under a mask of who may attend to whom."""
    import torch

    mask = torch.where(torch.as_tensor(allowed), 0.0, -1e9)[None, None].double()
    given = {
        "input_ids": torch.as_tensor(ids)[None],
        "position_ids": torch.as_tensor(positions)[None],
    }
    logits = model(**given, attention_mask=mask).logits[0]
    each = torch.nn.functional.cross_entropy(logits, torch.as_tensor(labels), reduction="none")
    return (each * torch.as_tensor(weights)).sum()


Sample = tuple[
    Any, Any, Any, Any, Any
]  # ids, labels, weights of targets, who may attend, positions


def of_lengths(ids: list[int], lengths: list[int]) -> Sample:
    """A sample whose boundaries are lengths: the last token of each stretch foretells nothing."""
    block = np.repeat(np.arange(len(lengths)), lengths)
    weights = np.ones(len(ids))
    weights[np.cumsum(lengths) - 1] = 0
    labels = np.roll(ids, -1)
    positions = [*chain(*map(range, lengths))]
    return ids, labels, weights, np.tril(block[:, None] == block), positions


def from_parquet(path: Path) -> Iterator[Sample]:
    return (of_lengths(row["input_ids"], row["seq_lens"]) for row in parquet_rows(path))


def from_bridge(path: Path) -> Iterator[Sample]:
    for row in parquet_rows(path):
        bounds = np.diff([*row["seq_start_id"], len(row["input_ids"])])
        yield of_lengths(row["input_ids"], bounds.tolist())


def from_mds(path: Path) -> Iterator[Sample]:
    from longattn.etl.export.writers.mds import decode_shard

    for file in sorted(path.glob("*.mds")):
        for row in decode_shard(file.read_bytes()):
            yield of_lengths(row["tokens"].tolist(), np.diff(row["indices"]).ravel().tolist())


def from_megatron(path: Path) -> Iterator[Sample]:
    for file in sorted(path.glob("*.bin")):
        for row in gpt_dataset(str(file).removesuffix(".bin")):
            allowed = ~row["attention_mask"][0].numpy()
            yield row["tokens"], row["labels"], row["loss_mask"], allowed, row["position_ids"]


def from_numpy(path: Path) -> Iterator[Sample]:
    """As OLMo-core has it: lengths by EOS, labels of masked tokens left out."""
    for file in sorted(path.glob("*.npy")):
        tokens = np.fromfile(file, np.uint16).reshape(-1, LONGEST).astype(int)
        mask = np.fromfile(file.with_suffix(".mask"), bool).reshape(-1, LONGEST)
        for ids, targets in zip(tokens, mask, strict=True):
            ends = sorted({*(np.flatnonzero(ids == SEPARATOR) + 1).tolist(), LONGEST})
            whole = of_lengths(ids.tolist(), np.diff([0, *ends]).tolist())
            yield *whole[:2], np.append(targets[1:], False).astype(float), *whole[3:]


READERS: dict[str, Callable[[Path], Iterator[Sample]]] = {
    "parquet": from_parquet,
    "megatron_bridge": from_bridge,
    "mds": from_mds,
    "megatron": from_megatron,
    "numpy": from_numpy,
}


class TestContext:
    def test_octaves_are_those_of_counting_each_token(self) -> None:
        """100,000 windows: every token's context counted one by one."""
        rng = np.random.default_rng(2)
        lengths = rng.integers(1, 200, 100_000)
        contexts = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        counted = np.bincount(np.log2(contexts[contexts > 0]).astype(int), minlength=seg.OCTAVES)
        assert seg.context_octaves(lengths).tolist() == counted.tolist()

    def test_the_manifest_s_is_that_of_the_packings(
        self, packings: list[Packing], parquet: Path
    ) -> None:
        context = json.loads((parquet / MANIFEST).read_text())["context"]
        masked = [n for p in packings for n in p.positions if n]
        unmasked = [n for p in packings for n in range(1, len(p.ids))]
        for kind, seen in (("masked", masked), ("unmasked", unmasked)):
            octaves = np.bincount(np.log2(seen).astype(int))
            assert [*context[kind]["octaves"].values()] == octaves.tolist()
            assert context[kind]["targets"] == len(seen)
            half = context[kind]["half_below"]
            assert np.mean(np.array(seen) < half) >= 0.5 > np.mean(np.array(seen) < half // 2)


Change = Callable[[bytes], bytes]


def faults_of(path: Path, suffix: str, change: Change) -> list[str]:
    """What is wrong once a file is changed, and the manifest has its new size and hash."""
    manifest = json.loads((path / MANIFEST).read_text())
    entry = next(file for file in manifest["files"] if file["name"].endswith(suffix))
    data = change((path / entry["name"]).read_bytes())
    (path / entry["name"]).write_bytes(data)
    manifest["bytes"] += len(data) - entry["bytes"]
    entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / MANIFEST).write_text(json.dumps(manifest))
    return list(read.faults(str(path)))


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Give a field another value; an ellipsis takes it away."""
    values[key] = value
    if value is ...:
        del values[key]


def in_second_row(data: bytes, **changes: Any) -> bytes:
    """A Parquet file whose second row is another."""
    table, file = pq.read_table(pa.BufferReader(data)), io.BytesIO()
    rows = table.to_pylist()
    rows[1] |= changes
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)
    return file.getvalue()


def cut(data: bytes) -> bytes:
    return data[:-2]


def empty(data: bytes) -> bytes:
    return b""


def spoilt(data: bytes) -> bytes:
    """Junk from the middle on, and more of it."""
    return data[: len(data) // 2] + b"\x07" * len(data)


class TestVerify:
    """`longattn verify`: each way to spoil an export is a line, in a process without Spark."""

    @pytest.fixture
    def export(self, packings: list[Packing], tmp_path: Path) -> Path:
        return write("mds", packings[:40], tmp_path / "out")

    @pytest.mark.parametrize("name", [name for name in FORMATS if name != "jsonl"])
    def test_what_was_written_is_whole(
        self, packings: list[Packing], tmp_path: Path, name: str
    ) -> None:
        path = write(name, packings[:40], tmp_path / "out")
        assert list(read.faults(str(path))) == []
        row = read.sample_at(str(path), 25)
        assert (row["window_id"], row["seq_lens"]) == (packings[25].name, packings[25].lengths)

    def test_faults_are_named(self, export: Path, packings: list[Packing]) -> None:
        manifest = json.loads((export / MANIFEST).read_text())
        first, second = manifest["files"]

        def faults(**changes: Any) -> list[str]:
            (export / MANIFEST).write_text(json.dumps(manifest | changes))
            return list(read.faults(str(export)))

        assert faults(files=[first])[:2] == [
            f"{second['name']} is not in the manifest",
            "the manifest says 40 samples, and names files of 20",
        ]
        assert faults(files=[first | {"sha256": "0"}, second]) == [
            f"{first['name']} is damaged: its SHA-256 is another"
        ]
        assert faults(files=[first, second | {"first_sample": 21}]) == [
            f"{second['name']}: sample 20 where 21 should be, and 19 more"
        ]
        (export / "shard.00002.mds").write_bytes(b"")
        assert faults() == ["shard.00002.mds is not in the manifest"]
        (export / "shard.00002.mds").unlink()
        (export / second["name"]).unlink()
        assert faults() == [f"{second['name']} is missing"]

    def test_boundaries_that_do_not_sum_are_named(
        self, packings: list[Packing], tmp_path: Path
    ) -> None:
        path = write("parquet", packings[:4], tmp_path / "out")
        lengths = packings[1].lengths[:-1]
        (line,) = faults_of(
            path, ".parquet", lambda d: in_second_row(d, seq_lens=lengths, segments=[])
        )
        assert "sample 1: seq_lens sum to" in line and "and 1 more" in line

    def test_other_starts_than_those_of_the_lengths_are_named(
        self, packings: list[Packing], tmp_path: Path
    ) -> None:
        path = write("megatron_bridge", packings[:4], tmp_path / "out")
        (line,) = faults_of(path, ".parquet", lambda data: in_second_row(data, seq_start_id=[1]))
        assert "sample 1: its seq_start_id is not where" in line

    @pytest.mark.parametrize("value", [None, ["a"], ...])
    @pytest.mark.parametrize(
        ("of_file", "key"),
        [
            *((False, key) for key in ("format", "files", *read.SUMS)),
            *((True, key) for key in ("first_sample", *read.SUMS)),
        ],
    )
    def test_a_damaged_manifest_is_refused(
        self, export: Path, of_file: bool, key: str, value: Any
    ) -> None:
        manifest = json.loads((export / MANIFEST).read_text())
        put(manifest["files"][0] if of_file else manifest, key, value)
        (export / MANIFEST).write_text(json.dumps(manifest))
        said = f"it lacks {key}: damaged" if value is ... else "no manifest of an export, or a"
        with pytest.raises(ExportError, match=f"{MANIFEST}: {said}"):
            list(read.faults(str(export)))

    @pytest.mark.parametrize("key", ["extras", "dtype", "sequence_length"])
    def test_what_older_manifests_lack_is_named(
        self, packings: list[Packing], tmp_path: Path, key: str
    ) -> None:
        path = write("megatron", packings[:4], tmp_path / "out")
        manifest = json.loads((path / MANIFEST).read_text())
        del manifest[key]
        (path / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(ExportError, match=rf"it lacks {key}: .* version \(0\): move"):
            list(read.faults(str(path)))

    def test_a_manifest_of_endless_lists_is_refused(self, export: Path) -> None:
        (export / MANIFEST).write_text("[" * 100_000)
        with pytest.raises(ExportError, match="no manifest of an export, or a damaged one"):
            list(read.faults(str(export)))

    @pytest.fixture
    def jsonl(
        self, packings: list[Packing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Path:
        monkeypatch.setattr(JsonlWriter, "_decoded", lambda self, ids: "text")
        return write("jsonl", packings[:40], tmp_path / "out", compression="zstd")

    @pytest.mark.parametrize(
        ("key", "value", "fault"),
        [
            *(("segments", value, "TypeError") for value in (None, ["x"], 5)),
            *(("seq_lens", value, "TypeError") for value in (None, "x", 5)),
            *(("input_ids", value, "TypeError") for value in (None, 5)),
            ("n_tokens", None, "TypeError"),
            ("seq_lens", [-1, LONGEST + 1], "seq_lens has a stretch of -1 tokens"),
            ("seq_lens", [0, LONGEST], "seq_lens has a stretch of 0 tokens"),
            *(
                (key, ..., f"not all samples of the file have {key}")
                for key in ("input_ids", "segments")
            ),
        ],
    )
    def test_a_row_that_cannot_be_is_named(
        self, jsonl: Path, key: str, value: Any, fault: str
    ) -> None:
        def change(data: bytes) -> bytes:
            rows = [json.loads(line) for line in lines(io.BytesIO(data), ".zst")]
            put(rows[1], key, value)
            return zstandard.compress("".join(json.dumps(row) + "\n" for row in rows).encode())

        (line,) = faults_of(jsonl, ".zst", change)
        assert "sample 1" in line and fault in line
        assert ("cannot be read: " in line) == (fault == "TypeError")

    def test_a_damaged_frame_is_named(self, jsonl: Path) -> None:
        (line,) = faults_of(jsonl, ".zst", spoilt)
        assert "jsonl.zst: cannot be read: ZstdError" in line

    @pytest.mark.parametrize("change", [cut, empty, spoilt])
    @pytest.mark.parametrize(
        ("name", "suffix"),
        [
            *(("megatron", suffix) for suffix in (".bin", ".idx")),
            *(("numpy", suffix) for suffix in (".npy", ".mask", ".csv.gz")),
        ],
    )
    def test_files_beside_samples_are_as_these_say(
        self, packings: list[Packing], tmp_path: Path, name: str, suffix: str, change: Change
    ) -> None:
        path = write(name, packings[:40], tmp_path / "out")
        (line,) = faults_of(path, suffix, change)
        assert re.search(rf"{suffix}: (cannot be read|its lengths or boundaries are not)", line)

    @pytest.mark.parametrize("change", [{"sequence_length": LONGEST + 1}, {"dtype": "int8"}])
    @pytest.mark.parametrize("name", ["megatron", "numpy"])
    def test_files_are_of_the_length_and_type_that_the_manifest_says(
        self, packings: list[Packing], tmp_path: Path, name: str, change: dict[str, Any]
    ) -> None:
        path = write(name, packings[:40], tmp_path / "out")
        manifest = json.loads((path / MANIFEST).read_text())
        (path / MANIFEST).write_text(json.dumps(manifest | change))
        assert len(list(read.faults(str(path)))) >= 2  # a line for each shard

    def test_the_command_needs_neither_spark_nor_torch(self, export: Path) -> None:
        code = (
            "import sys\n"
            "for name in ('pyspark', 'torch', 'delta', 'deltalake'): sys.modules[name] = None\n"
            "from longattn.etl.cli import main\n"
            f"sys.exit(main(['verify', {str(export)!r}]))\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, f"{export}: 40 samples: nothing is wrong\n")
        (export / "extra.mds").write_bytes(b"x")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        line = f"longattn: {export}: extra.mds is not in the manifest\n"
        assert (done.returncode, done.stderr) == (1, line)
        code = code.replace("'verify', ", "'trace', '--sample', '25', '--export', ")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0 and "window w00025" in done.stdout
