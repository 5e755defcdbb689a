"""Checkpoints as Hugging Face writes them: config.json and safetensors, sharded or not."""

import json
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longattn.udfs.errors import ModelError
from longattn.udfs.models.tokenizer_files import TOKENIZER_FILES, convert_tokenizer

if TYPE_CHECKING:
    from torch import Tensor


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
        return convert_tokenizer(folder)

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
