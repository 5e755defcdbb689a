"""Checkpoints as Hugging Face writes them: config.json and safetensors, sharded or not."""

import functools
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longattn.udfs.errors import ModelError, first_line, whole_message
from longattn.udfs.models.tokenizer_files import TOKENIZER_FILES, convert_tokenizer
from longattn.udfs.text.conversion import SENTENCEPIECE

if TYPE_CHECKING:
    from torch import Tensor

    from longattn.udfs.models.quantised import Weights

DAMAGED = "damaged or cut short, fetch it again"


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """A file of tensors. Raises ModelError, naming it, for one that is damaged or cut short."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as shard:
            yield shard
    except SafetensorError as error:
        raise ModelError(f"{file}: {DAMAGED}: {first_line(error)}") from None


def read_json(file: Path) -> Any:
    """Raises ModelError, naming the file, for one that is no JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file}: {DAMAGED}: {first_line(error)}") from None


def refuse_damaged(folder: Path) -> None:
    """Raise ModelError for the first of a checkpoint's files that cannot be read."""
    for file in sorted(folder.glob("*.json")):
        read_json(file)
    for file in sorted(folder.glob("*.safetensors")):
        with opened(file):
            pass


class SafetensorsCheckpoint:
    """A Hugging Face folder, on disk or on the hub; shards are fetched as they are needed."""

    def __init__(self, name: str, fetch: Callable[[str], Path | None]) -> None:
        self.name = name
        self.fetch = fetch  # a file of the checkpoint by name, None where there is none
        self.licence = self._licence()
        self.file_of = self._file_of()

    def config(self) -> Any:
        from transformers import CONFIG_MAPPING

        settings = self._settings()
        kind = settings.get("model_type")
        if kind not in CONFIG_MAPPING:
            own = "; its own code (auto_map) is not run" if "auto_map" in settings else ""
            raise ModelError(f"{self.name}: transformers has no model of type {kind}{own}")
        for key in ("auto_map", "quantization_config", "quantization", "compression_config"):
            settings.pop(key, None)  # the tensors themselves say how they are stored
        try:
            config = CONFIG_MAPPING[kind].from_dict(settings)
        except Exception as error:  # each family checks its settings in a way of its own
            reason = whole_message(error)[:200]
            raise ModelError(f"{self.name}: config.json: {reason}") from None
        return config.get_text_config(decoder=True)

    def _settings(self) -> dict[str, Any]:
        """config.json, with the old names of what transformers calls otherwise now."""
        from transformers import PreTrainedConfig

        try:
            settings = dict(PreTrainedConfig.get_config_dict(str(self._need("config.json")))[0])
        except OSError as error:
            raise ModelError(f"{self.name}: {whole_message(error)}") from None
        scaling = settings.get("rope_scaling")
        if isinstance(scaling, dict):
            kinds = {key: scaling[key] for key in ("type", "rope_type") if scaling.get(key) == "su"}
            settings["rope_scaling"] = scaling | dict.fromkeys(kinds, "longrope")
        return settings

    def names(self) -> Iterable[str]:
        return self.file_of

    def read(self, name: str) -> "Tensor":
        """Raises ModelError for weights of fewer bits whose layout is not known."""
        return self.weights.numbers(name)

    def strangers(self, name: str) -> list[str]:
        return self.weights.strangers(name)

    @functools.cached_property
    def weights(self) -> "Weights":
        from longattn.udfs.models.quantised import Weights, packed_bits

        return Weights(self.name, self.names(), self._stored, packed_bits(self._settings()))

    def _stored(self, name: str) -> "Tensor":
        with opened(self._need(self.file_of[name])) as shard:
            tensor: Tensor = shard.get_tensor(name)
        return tensor

    def write_tokenizer(self, folder: Path) -> str:
        for name in TOKENIZER_FILES:
            if file := self.fetch(name):
                shutil.copyfile(file, folder / name)
        if (folder / "tokenizer.json").exists():
            return "tokenizer.json"
        if not any((folder / name).exists() for name in (*SENTENCEPIECE, "vocab.json")):
            return "none in the checkpoint"
        return convert_tokenizer(folder)

    def _file_of(self) -> dict[str, str]:
        """Which file holds which tensor."""
        index = self.fetch("model.safetensors.index.json")
        if index:
            return dict(read_json(index)["weight_map"])
        with opened(self._need("model.safetensors")) as shard:
            return dict.fromkeys(shard.keys(), "model.safetensors")

    def _licence(self) -> str | None:
        readme = self.fetch("README.md")
        text = readme.read_text(encoding="utf-8", errors="replace") if readme else ""
        licence = re.search(r"^---\n.*?^license:\s*(\S+)", text, re.DOTALL | re.MULTILINE)
        return licence[1] if licence else None

    def _need(self, name: str) -> Path:
        file = self.fetch(name)
        if file is None:
            raise ModelError(f"{self.name}: no {name}: safetensors or GGUF checkpoints can be read")
        return file
