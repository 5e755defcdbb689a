"""Checkpoints to scorer artefacts: only the tensors that a score depends on are read.

A scorer artefact is a folder:

    model.safetensors    the kept tensors, named as in transformers' base model
    config.json          the model's config
    scorer.json          ScorerManifest: name, content hash, layers, source
    tokenizer.json ...   the checkpoint's tokenizer, where it has one

`python -m udfs.checkpoint MODEL OUT` makes one.
"""

import copy
import functools
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from udfs.errors import ModelError, UserError
from udfs.scorers import DTYPES, ScorerSpec

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "chat_template.jinja",
)


@dataclass(frozen=True, kw_only=True)
class ScorerManifest:
    """What scorer.json says; the driver reads it to name a scorer without torch."""

    format: int
    name: str  # the checkpoint's own, for example SmolLM2-135M
    family: str  # transformers' model_type
    hash: str  # SHA-256 of config and kept tensors, hex
    layers: list[int]  # that can be scored
    heads: int
    rope_theta: float | None
    source: str
    licence: str | None
    tensors: int
    bytes: int
    tokenizer: str  # the file, or why there is none

    def __str__(self) -> str:
        layers = ",".join(map(str, self.layers))
        return (
            f"{self.name}@{self.hash[:8]}: {self.family}, layers {layers}, {self.heads} heads,"
            f" {self.tensors} tensors, {self.bytes / 1e6:.1f} MB, tokenizer: {self.tokenizer}"
        )


class Checkpoint(Protocol):
    """A model's weights somewhere, read tensor by tensor."""

    name: str
    licence: str | None

    def config(self) -> Any:
        """The transformers config of the text model."""

    def names(self) -> Iterable[str]:
        """Names of all tensors, as transformers' causal language model has them."""

    def read(self, name: str) -> "Tensor":
        """One tensor, on the CPU, in the dtype it is stored in."""

    def write_tokenizer(self, folder: Path) -> str:
        """Put the tokenizer's files into a folder; its main file, or why there is none."""


def build_scorer(model: str, out: str, layers: Sequence[int] = (0,)) -> ScorerManifest:
    """Extract from a checkpoint what scoring these layers needs; replaces an older scorer at `out`.

    `model` is a Hugging Face folder, a .gguf file, a folder with one, or a hub id. Memory and time
    follow the tensors that are kept, not the checkpoint. The result is checked against the model's
    own eager attention before it is written. Raises ModelError for a model that cannot be scored.
    """
    checkpoint = open_checkpoint(model)
    config = checkpoint.config()
    tensors = _needed_tensors(checkpoint, config, tuple(sorted(layers)))
    _check_exact(config, tensors, tuple(sorted(layers)))
    target = _free_target(Path(out))
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as work:
        folder = Path(work) / target.name
        manifest = _write(folder, checkpoint, config, tensors, sorted(layers), model)
        _put_in_place(folder, target)
    return manifest


def read_artefact(folder: Path) -> tuple[ScorerManifest, Any, dict[str, "Tensor"]]:
    """Manifest, transformers config and tensors, the last memory-mapped."""
    from safetensors.torch import load_file
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return read_manifest(folder), config, load_file(folder / "model.safetensors")


def read_manifest(folder: Path) -> ScorerManifest:
    """Raises ModelError where there is no scorer, or one of another format."""
    try:
        fields = json.loads((folder / "scorer.json").read_text(encoding="utf-8"))
    except OSError:
        raise ModelError(
            f"score.model: no scorer in {folder}: make one with"
            f" `longattn scorer build --model CHECKPOINT --out {folder}`"
        ) from None
    if fields["format"] != FORMAT:
        raise ModelError(
            f"{folder}: scorer of format {fields['format']}; this is {FORMAT}: rebuild"
        )
    return ScorerManifest(**fields)


@functools.cache
def scorer_folder(model: str, layers: tuple[int, ...]) -> Path:
    """The folder of a scorer; of a checkpoint, one made for as long as this process lives."""
    folder = Path(model)
    if (folder / "scorer.json").is_file():
        return folder
    made = tempfile.TemporaryDirectory(prefix="longattn-scorer-")
    _TEMPORARY.append(made)
    build_scorer(model, f"{made.name}/scorer", layers)
    return Path(made.name) / "scorer"


_TEMPORARY: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


def longattn_version(spec: ScorerSpec) -> str:
    """The version of a LongAttn scorer from scorer.json and the settings alone."""
    return version_of(read_manifest(Path(spec.model)), spec)


def version_of(manifest: ScorerManifest, spec: ScorerSpec) -> str:
    """For example `longattn:SmolLM2-135M@ab12cd34:theta=100000:k=L/4:L0:f32:all`."""
    unknown = set(spec.layers) - set(manifest.layers)
    if unknown:
        raise ModelError(
            f"score.layers: the scorer {manifest.name} was built for layers {manifest.layers},"
            f" not {sorted(unknown)}: build it with --layers"
        )
    theta = spec.rope_theta or manifest.rope_theta
    parts = [
        f"longattn:{manifest.name}@{manifest.hash[:8]}",
        f"theta={theta:.10g}" if theta else "norope",
        f"k={spec.k or 'L/4'}",
        "L" + ",".join(map(str, spec.layers)),
        DTYPES[spec.dtype],
        _sampling(spec) if spec.sample_rows else "all",
    ]
    return ":".join(parts + ["bos"] * spec.bos)


def _sampling(spec: ScorerSpec) -> str:
    return f"rows={spec.sample_rows},keys={spec.sample_keys},seed={spec.seed}"


def open_checkpoint(model: str) -> Checkpoint:
    """Tell a GGUF file, a Hugging Face folder and a hub id apart."""
    path = Path(model)
    if gguf := gguf_file(path):
        return GgufCheckpoint(gguf)
    if path.is_dir():
        return SafetensorsCheckpoint(path.resolve().name, lambda name: _local(path, name))
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model):
        return SafetensorsCheckpoint(model.split("/")[-1], lambda name: _from_hub(model, name))
    raise ModelError(f"--model {model}: no such folder or file")


def gguf_file(path: Path) -> Path | None:
    """The GGUF file that a path names, or holds alone and without a config.json."""
    if path.suffix == ".gguf" and path.is_file():
        return path
    files = sorted(path.glob("*.gguf"))
    return files[0] if len(files) == 1 and not (path / "config.json").is_file() else None


class SafetensorsCheckpoint:
    """A Hugging Face folder, on disk or on the hub; shards are fetched as they are needed."""

    def __init__(self, name: str, fetch: Callable[[str], Path | None]) -> None:
        self.name = name
        self.fetch = fetch  # a file of the checkpoint by name, None where there is none
        self.licence = self._licence()
        self.file_of = self._file_of()

    def config(self) -> Any:
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(self._need("config.json"), local_files_only=True)
        except ValueError as error:
            raise ModelError(f"{self.name}: {str(error).splitlines()[0]}") from None
        return config.get_text_config(decoder=True)

    def names(self) -> Iterable[str]:
        return self.file_of

    def read(self, name: str) -> "Tensor":
        from safetensors import safe_open

        with safe_open(self._need(self.file_of[name]), framework="pt") as shard:
            tensor: Tensor = shard.get_tensor(name)
        return tensor

    def write_tokenizer(self, folder: Path) -> str:
        for name in TOKENIZER_FILES:
            if found := self.fetch(name):
                shutil.copyfile(found, folder / name)
        if (folder / "tokenizer.json").exists():
            return "tokenizer.json"
        if not (folder / "tokenizer.model").exists():
            return "none in the checkpoint"
        return _convert_tokenizer(folder)

    def _file_of(self) -> dict[str, str]:
        """Which file holds which tensor."""
        from safetensors import safe_open

        index = self.fetch("model.safetensors.index.json")
        if index:
            return dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        single = self._need("model.safetensors")
        with safe_open(single, framework="pt") as shard:
            return dict.fromkeys(shard.keys(), "model.safetensors")

    def _licence(self) -> str | None:
        readme = self.fetch("README.md")
        text = readme.read_text(encoding="utf-8", errors="replace") if readme else ""
        found = re.search(r"^---\n.*?^license:\s*(\S+)", text, re.DOTALL | re.MULTILINE)
        return found[1] if found else None

    def _need(self, name: str) -> Path:
        found = self.fetch(name)
        if found is None:
            raise ModelError(f"{self.name}: no {name}: safetensors or GGUF checkpoints can be read")
        return found


class GgufCheckpoint:
    """A GGUF file; tensors are dequantised one by one, names and layouts are transformers'."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reader = _gguf_reader(path)
        self.name = path.stem
        self.licence = self._field("general.license")
        self.stored = {tensor.name: tensor for tensor in self.reader.tensors}
        if "rope_freqs.weight" in self.stored:
            raise ModelError(
                f"{path.name}: its rope_freqs are not read; use the safetensors weights"
            )

    def config(self) -> Any:
        return copy.deepcopy(self._config)

    @functools.cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(self.path.parent, gguf_file=self.path.name)
        except ValueError as error:
            raise ModelError(f"{self.path.name}: {str(error).splitlines()[0]}") from None

    def names(self) -> Iterable[str]:
        return self._gguf_name

    @functools.cached_property
    def _gguf_name(self) -> dict[str, str]:
        """transformers' name to GGUF's, for the tensors in the file."""
        from transformers.modeling_gguf_pytorch_utils import get_gguf_hf_weights_map

        from udfs.model import causal_skeleton

        pairs = get_gguf_hf_weights_map(causal_skeleton(self._config), self._processor)
        return {theirs: ours for ours, theirs in pairs.items() if ours in self.stored}

    @functools.cached_property
    def _processor(self) -> Any:
        from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor

        make = TENSOR_PROCESSORS.get(self._field("general.architecture"), TensorProcessor)
        return make(config=self._config.to_dict())

    def read(self, name: str) -> "Tensor":
        """float16 where that holds every value exactly, else float32."""
        import torch
        from gguf import dequantize

        stored = self.stored[self._gguf_name[name]]
        weights = dequantize(stored.data, stored.tensor_type)
        weights = self._processor.process(weights=weights, name=stored.name).weights
        tensor = torch.from_numpy(np.array(weights, order="C"))
        half = tensor.half()
        return half if torch.equal(half.float(), tensor) else tensor

    def write_tokenizer(self, folder: Path) -> str:
        return _convert_gguf_tokenizer(self.path, self._field("tokenizer.ggml.pre"), folder)

    def _field(self, key: str) -> Any:
        field = self.reader.fields.get(key)
        return field.contents() if field else None


def _needed_tensors(
    checkpoint: Checkpoint, config: Any, layers: tuple[int, ...]
) -> dict[str, "Tensor"]:
    """Read what q and k of these layers depend on; keys are transformers' base model's."""
    from udfs.model import check_supported, needed_parameters

    check_supported(config)
    if max(layers) >= config.num_hidden_layers:
        raise ModelError(
            f"{checkpoint.name}: no layer {max(layers)}; there are {config.num_hidden_layers}"
        )
    names = needed_parameters(config, layers)
    prefix = _prefix(checkpoint, names)
    missing = [name for name in names if prefix + name not in checkpoint.names()]
    if missing:
        raise ModelError(f"{checkpoint.name}: the checkpoint lacks {prefix}{missing[0]}")
    return {name: checkpoint.read(prefix + name) for name in names}


def _prefix(checkpoint: Checkpoint, names: Sequence[str]) -> str:
    """What stands before the base model's names: `model.`, `language_model.model.`, or nothing."""
    found = {
        stored.removesuffix(names[0])
        for stored in checkpoint.names()
        if stored == names[0] or stored.endswith("." + names[0])
    }
    if len(found) != 1:
        raise ModelError(f"{checkpoint.name}: {len(found)} tensors are called {names[0]}")
    return found.pop()


def _check_exact(config: Any, tensors: dict[str, "Tensor"], layers: tuple[int, ...]) -> None:
    import torch

    from udfs.model import check_exact, load_prefix

    check_exact(load_prefix(config, tensors, torch.float32, torch.device("cpu")), layers)


def _write(
    folder: Path,
    checkpoint: Checkpoint,
    config: Any,
    tensors: dict[str, "Tensor"],
    layers: list[int],
    source: str,
) -> ScorerManifest:
    from safetensors.torch import save_file

    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    manifest = ScorerManifest(
        format=FORMAT,
        name=checkpoint.name,
        family=config.model_type,
        hash=_content_hash(config, tensors),
        layers=layers,
        heads=config.num_attention_heads,
        rope_theta=_rope_theta(config),
        source=source,
        licence=checkpoint.licence,
        tensors=len(tensors),
        bytes=sum(t.numel() * t.element_size() for t in tensors.values()),
        tokenizer=checkpoint.write_tokenizer(folder),
    )
    text = json.dumps(asdict(manifest), indent=2) + "\n"
    (folder / "scorer.json").write_text(text, encoding="utf-8")
    # safetensors writes for its owner alone; workers may run as another user
    shutil.copymode(folder / "scorer.json", folder / "model.safetensors")
    return manifest


def _content_hash(config: Any, tensors: dict[str, "Tensor"]) -> str:
    """SHA-256 of the config's settings and every kept tensor: name, dtype, shape and bytes."""
    import torch

    settings = {k: v for k, v in config.to_diff_dict().items() if k not in _NOT_CONTENT}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


_NOT_CONTENT = ("transformers_version", "architectures", "dtype", "use_cache", "_name_or_path")


def _rope_theta(config: Any) -> float | None:
    from udfs.model import rope_parameters

    parameters = rope_parameters(config) or {}
    theta = parameters.get("full_attention", parameters).get("rope_theta")
    return None if theta is None else float(theta)


def _free_target(out: Path) -> Path:
    """`out` made absolute, with a parent; refused when it holds anything but a scorer."""
    if (
        out.exists()
        and not (out / "scorer.json").is_file()
        and (out.is_file() or any(out.iterdir()))
    ):
        raise UserError(f"--out {out}: exists and holds no scorer")
    out.parent.mkdir(parents=True, exist_ok=True)
    return out.absolute()


def _put_in_place(folder: Path, target: Path) -> None:
    """Rename a finished folder into place; a reader sees the old scorer or the new one."""
    if target.exists():
        target.rename(folder.with_name("replaced"))
    os.replace(folder, target)


def _convert_tokenizer(folder: Path) -> str:
    """Make tokenizer.json of a sentencepiece model that lies in the folder."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.save_pretrained(folder)
    return "tokenizer.json"


def _convert_gguf_tokenizer(path: Path, pre: str | None, folder: Path) -> str:
    from tokenizers.pre_tokenizers import ByteLevel, Digits
    from tokenizers.pre_tokenizers import Sequence as InOrder
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    backend = tokenizer.backend_tokenizer
    if pre == "smollm":
        # transformers 5.23 splits unknown tags as GPT-2 does; SmolLM also splits every digit
        backend.pre_tokenizer = InOrder([Digits(individual_digits=True), ByteLevel(False)])
    elif isinstance(backend.pre_tokenizer, ByteLevel) and pre not in (None, "default", "gpt-2"):
        return f"none: the GGUF's pre-tokenizer {pre!r} is not known"
    tokenizer.save_pretrained(folder)
    return "tokenizer.json"


def _gguf_reader(path: Path) -> Any:
    try:
        from gguf import GGUFReader
    except ImportError:
        raise ModelError(
            "GGUF files need the package gguf: pip install longattn-spark[gguf]"
        ) from None
    return GGUFReader(path)


def _local(folder: Path, name: str) -> Path | None:
    return folder / name if (folder / name).is_file() else None


def _from_hub(repo: str, name: str) -> Path | None:
    """A file of a hub repository; None where the repository has none of that name."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo, name))
    except Exception as error:  # one class per way to miss a network or a permission
        unreachable = isinstance(error, LocalEntryNotFoundError)  # offline, not "no such file"
        if isinstance(error, EntryNotFoundError) and not unreachable:
            return None
        reason = str(error).splitlines()[0]
        raise ModelError(f"--model {repo}: no such folder, and the hub says: {reason}") from None


if __name__ == "__main__":
    print(build_scorer(sys.argv[1], sys.argv[2]))
