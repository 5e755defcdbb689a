"""Checkpoints in one GGUF file, dequantised tensor by tensor."""

import copy
import functools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longattn.udfs.errors import ModelError, first_line
from longattn.udfs.models.safetensors import DAMAGED
from longattn.udfs.models.tokenizer_files import convert_gguf_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

# What positions are turned by beside their base; transformers reads none of them.
FREQUENCIES = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
# Of what a file says of scaling, what scales nothing by itself: Phi-4 has it, and is not scaled.
UNSCALED = (".original_context_length", ".finetuned")


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

    def config(self) -> Any:
        """Raises ModelError where transformers leaves out a scaling, base or window of it."""
        return copy.deepcopy(self._config)

    @functools.cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(self.path.parent, gguf_file=self.path.name)
        except ValueError as error:
            raise ModelError(f"{self.path.name}: {first_line(error)}") from None
        except (LookupError, TypeError) as error:  # a field that the family expects is not there
            said = f"transformers cannot read its settings: {first_line(error)}"
            raise ModelError(f"{self.path.name}: {type(error).__name__}: {said}") from None
        if unread := next(self._unread(config), None):
            raise ModelError(
                f"{self.path.name}: its {unread} is not read; use the safetensors weights"
            )
        return config

    def _unread(self, config: Any) -> Iterator[str]:
        """What attention depends on, as the file calls it, and transformers leaves out."""
        yield from (name for name in FREQUENCIES if name in self.stored)
        if self._of_model("rope.scaling.type") != "none":
            scaling = (name for name in self.reader.fields if ".rope.scal" in name)
            yield from (name for name in scaling if not name.endswith(UNSCALED))
        for key, known in _attention_of(config).items():
            stored = self._of_model(key)
            if stored is not None and not math.isclose(stored, known, rel_tol=1e-6):
                yield key

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

    def _of_model(self, key: str) -> Any:
        """A field whose name begins with the architecture's."""
        return self._field(f"{self._field('general.architecture')}.{key}")

    def _field(self, key: str) -> Any:
        field = self.reader.fields.get(key)
        return field.contents() if field else None


def _attention_of(config: Any) -> dict[str, float]:
    """The positions' base and the sliding window of a config, by GGUF's names; 0 for none."""
    from longattn.udfs.models.prefix import rope_parameters

    rope = rope_parameters(config) or {}
    return {
        "rope.freq_base": rope.get("full_attention", rope).get("rope_theta") or 0,
        "attention.sliding_window": getattr(config, "sliding_window", None) or 0,
    }


def _gguf_reader(path: Path) -> Any:
    try:
        from gguf import GGUFReader
    except ImportError:
        raise ModelError(
            "GGUF files need the package gguf: pip install longattn-spark[gguf]"
        ) from None
    try:
        return GGUFReader(path)
    except Exception as error:  # the library checks nothing: it raises whatever it stumbles on
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path}: {DAMAGED}: {first_line(error)}")
