"""Scorer artefacts: folders that hold what scoring needs of a checkpoint.

model.safetensors    the kept tensors, named as in transformers' base model
config.json          the model's config
scorer.json          ScorerManifest: name, content hash, layers, source
tokenizer.json ...   the checkpoint's tokenizer, where it has one
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longattn.udfs.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1


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
