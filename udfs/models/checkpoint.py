"""A model's weights, wherever they lie: folder, GGUF file or hub."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from longattn.udfs.errors import ModelError
from longattn.udfs.hub import from_hub, may_be_hub_id
from longattn.udfs.models.gguf import GgufCheckpoint, gguf_file
from longattn.udfs.models.safetensors import SafetensorsCheckpoint

if TYPE_CHECKING:
    from torch import Tensor


class Checkpoint(Protocol):
    """A model's weights somewhere, read tensor by tensor."""

    name: str
    licence: str | None

    def config(self) -> Any:
        """The transformers config of the text model."""

    def names(self) -> Iterable[str]:
        """Names of all tensors, as transformers' causal language model has them."""

    def read(self, name: str) -> "Tensor":
        """One tensor, on the CPU, in the dtype it is stored in, or that its numbers need."""

    def strangers(self, name: str) -> list[str]:
        """Tensors beside one that are neither its bias nor its scales."""

    def write_tokenizer(self, folder: Path) -> str:
        """Put the tokenizer's files into a folder; its main file, or why there is none."""


def open_checkpoint(model: str) -> Checkpoint:
    """Tell a GGUF file, a Hugging Face folder and a hub id apart."""
    path = Path(model)
    if gguf := gguf_file(path):
        return GgufCheckpoint(gguf)
    if path.is_dir():
        return SafetensorsCheckpoint(path.resolve().name, lambda name: _local(path, name))
    if may_be_hub_id(model):
        return SafetensorsCheckpoint(model.split("/")[-1], lambda name: from_hub(model, name))
    raise ModelError(f"model {model}: no such folder or file")


def _local(folder: Path, name: str) -> Path | None:
    return folder / name if (folder / name).is_file() else None
