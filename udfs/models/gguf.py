"""Checkpoints in one GGUF file, dequantised tensor by tensor."""

import copy
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longattn.udfs.errors import ModelError, first_line
from longattn.udfs.models.tokenizer_files import convert_gguf_tokenizer

if TYPE_CHECKING:
    from torch import Tensor


def gguf_file(path: Path) -> Path | None:
    """The GGUF file that a path names, or holds alone and without a config.json."""
    if path.suffix == ".gguf" and path.is_file():
        return path
    files = sorted(path.glob("*.gguf"))
    return files[0] if len(files) == 1 and not (path / "config.json").is_file() else None


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
            raise ModelError(f"{self.path.name}: {first_line(error)}") from None

    def names(self) -> Iterable[str]:
        return self._gguf_name

    @functools.cached_property
    def _gguf_name(self) -> dict[str, str]:
        """transformers' name to GGUF's, for the tensors in the file."""
        from transformers.modeling_gguf_pytorch_utils import get_gguf_hf_weights_map

        from longattn.udfs.models.prefix import causal_skeleton

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

    def strangers(self, name: str) -> list[str]:
        """None: transformers' own table maps every tensor that it knows."""
        return []

    def write_tokenizer(self, folder: Path) -> str:
        return convert_gguf_tokenizer(self.path, self._field("tokenizer.ggml.pre"), folder)

    def _field(self, key: str) -> Any:
        field = self.reader.fields.get(key)
        return field.contents() if field else None


def _gguf_reader(path: Path) -> Any:
    try:
        from gguf import GGUFReader
    except ImportError:
        raise ModelError(
            "GGUF files need the package gguf: pip install longattn-spark[gguf]"
        ) from None
    return GGUFReader(path)
