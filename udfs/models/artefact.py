"""Scorer artefacts: folders that hold what scoring needs of a checkpoint.

model.safetensors    the kept tensors, named as in transformers' base model
config.json          the model's config
scorer.json          ScorerManifest: name, content hash, layers, source
tokenizer.json ...   the checkpoint's tokenizer, where it has one
"""

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longattn.udfs.errors import ModelError, first_line

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
    checksums: dict[str, int] = field(default_factory=dict)  # file -> CRC-32; older ones have none

    def __str__(self) -> str:
        layers = ",".join(map(str, self.layers))
        return (
            f"{self.name}@{self.hash[:8]}: {self.family}, layers {layers}, {self.heads} heads,"
            f" {self.tensors} tensors, {self.bytes / 1e6:.1f} MB, tokenizer: {self.tokenizer}"
        )


def read_artefact(folder: Path) -> tuple[ScorerManifest, Any, dict[str, "Tensor"]]:
    """Manifest, transformers config and tensors, the last memory-mapped.

    Raises ModelError for a file that is missing, broken, or not as it was written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import AutoConfig

    manifest = read_manifest(folder)
    refuse_changed(folder, manifest)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        return manifest, config, load_file(folder / "model.safetensors")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise _broken(folder, first_line(error)) from None


def refuse_changed(folder: Path, manifest: ScorerManifest) -> None:
    """Raise ModelError, naming it, for a file whose bytes are not those that were written.

    One reading at about 1.4 GB a second of one core; a scorer of an 8B model has 2 GB.
    """
    for name, expected in manifest.checksums.items():
        if not (folder / name).is_file():
            raise _broken(folder, f"{name} is missing")
        if checksum(folder / name) != expected:
            raise _broken(folder, f"{name} is not as it was written: damaged or replaced")


def checksum(file: Path) -> int:
    """CRC-32 of a file's bytes."""
    crc = 0
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc


def _broken(folder: Path, reason: str) -> ModelError:
    return ModelError(f"score.model: the scorer in {folder} is broken: {reason}; build it again")


def read_manifest(folder: Path) -> ScorerManifest:
    """Raises ModelError where there is no scorer, a broken one, or one of another format."""
    try:
        fields = json.loads((folder / "scorer.json").read_text(encoding="utf-8"))
    except OSError:
        raise ModelError(
            f"score.model: no scorer in {folder}: make one with"
            f" `longattn scorer build --model CHECKPOINT --out {folder}`"
        ) from None
    except ValueError as error:
        raise _broken(folder, f"scorer.json is not JSON ({error})") from None
    if not isinstance(fields, dict) or "format" not in fields:
        raise _broken(folder, "scorer.json describes no scorer")
    if fields["format"] != FORMAT:
        raise ModelError(
            f"{folder}: scorer of format {fields['format']}; this is {FORMAT}: rebuild"
        )
    try:
        return ScorerManifest(**fields)
    except TypeError as error:
        raise _broken(folder, f"scorer.json: {error}") from None
