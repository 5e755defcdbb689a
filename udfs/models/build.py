"""Checkpoints to scorer artefacts: only the tensors that a score depends on are read.

`python -m longattn.udfs.models.build MODEL OUT` makes one.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longattn.udfs.digest import while_unchanged
from longattn.udfs.errors import ModelError, UserError
from longattn.udfs.models.artefact import FORMAT, ScorerManifest, checksum
from longattn.udfs.models.checkpoint import Checkpoint, open_checkpoint

if TYPE_CHECKING:
    from torch import Tensor


def build_scorer(model: str, out: str, layers: Sequence[int] = (0,)) -> ScorerManifest:
    """Extract from a checkpoint what scoring these layers needs; replaces an older scorer at `out`.

    `model` is a Hugging Face folder, a .gguf file, a folder with one, or a hub id. Memory and time
    follow the tensors that are kept, not the checkpoint. The result is checked against the model's
    own eager attention before it is written. Raises ModelError for a model that cannot be scored.
    """
    checkpoint = open_checkpoint(model)
    config = checkpoint.config()
    target = _free_target(Path(out))  # before tensors are fetched
    tensors = _needed_tensors(checkpoint, config, tuple(sorted(layers)))
    _check_exact(config, tensors, tuple(sorted(layers)))
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as work:
        folder = Path(work) / target.name
        manifest = _write(folder, checkpoint, config, tensors, sorted(layers), model)
        _put_in_place(folder, target)
    return manifest


@while_unchanged(lambda model, layers: [model])
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


def _needed_tensors(
    checkpoint: Checkpoint, config: Any, layers: tuple[int, ...]
) -> dict[str, "Tensor"]:
    """Read what q and k of these layers depend on; keys are transformers' base model's."""
    from longattn.udfs.models.prefix import check_supported, needed_parameters

    check_supported(config)
    if max(layers) >= config.num_hidden_layers:
        raise ModelError(
            f"{checkpoint.name}: no layer {max(layers)}; there are {config.num_hidden_layers}"
        )
    names = needed_parameters(config, layers)
    prefix = _prefix(checkpoint, names)
    missing = [name for name in names if prefix + name not in checkpoint.names()]
    if missing:
        module = (prefix + missing[0]).rpartition(".")[0] + "."
        beside = sorted(name for name in checkpoint.names() if name.startswith(module))
        there = f"; there are {', '.join(beside)}: packed weights are not read" if beside else ""
        raise ModelError(f"{checkpoint.name}: the checkpoint lacks {prefix}{missing[0]}{there}")
    _refuse_strangers(checkpoint, config, prefix, names)
    return {name: checkpoint.read(prefix + name) for name in names}


def _refuse_strangers(
    checkpoint: Checkpoint, config: Any, prefix: str, names: Sequence[str]
) -> None:
    """Raise ModelError for a tensor beside a needed one that the model's code would not read."""
    strangers = [other for name in names for other in checkpoint.strangers(prefix + name)]
    if strangers:
        from longattn.udfs.models.prefix import skeleton

        known = skeleton(config).state_dict().keys()
        if unread := [other for other in strangers if other.removeprefix(prefix) not in known]:
            raise ModelError(
                f"{checkpoint.name}: nothing reads {unread[0]}, which stands beside a weight that"
                " scores depend on: what it does to the weight is not known"
            )


def _prefix(checkpoint: Checkpoint, names: Sequence[str]) -> str:
    """What stands before the base model's names: `model.`, `language_model.model.`, or nothing.

    Other parts of a checkpoint may have an embedding too (a layer that predicts several tokens).
    """
    stored = set(checkpoint.names())
    ends = ("." + names[0], names[0])
    prefixes = {name.removesuffix(names[0]) for name in stored if name.endswith(ends)}
    prefixes = {prefix for prefix in prefixes if not prefix or prefix.endswith(".")}
    if not prefixes:
        raise ModelError(f"{checkpoint.name}: the checkpoint lacks {names[0]}")
    whole = [prefix for prefix in prefixes if all(prefix + name in stored for name in names)]
    if len(whole) > 1:
        places = ", ".join(sorted(whole))
        raise ModelError(f"{checkpoint.name}: {len(whole)} models are in it, at {places}")
    return whole[0] if whole else min(prefixes, key=len)


def _check_exact(config: Any, tensors: dict[str, "Tensor"], layers: tuple[int, ...]) -> None:
    import torch

    from longattn.udfs.models.prefix import check_exact, load_prefix

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
        checksums={name: checksum(folder / name) for name in ("config.json", "model.safetensors")},
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
    from longattn.udfs.models.prefix import rope_parameters

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


if __name__ == "__main__":
    print(build_scorer(sys.argv[1], sys.argv[2]))
