"""A whole causal language model: found by name, run for the loss of every token.

The body runs once over a sequence; the head, which needs V numbers a token, over a few rows at a
time, through the model's own code, so that softcaps and scales of logits are what they are.

Shapes: B sequences, L tokens, R rows of hidden states, E their width, V vocabulary.
"""

import copy
import functools
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longattn.udfs.digest import while_unchanged
from longattn.udfs.errors import LongAttnError, ModelError, first_line
from longattn.udfs.models.gguf import GgufCheckpoint, gguf_file
from longattn.udfs.models.safetensors import refuse_damaged

if TYPE_CHECKING:
    from torch import Tensor

HASHED_BYTES = 1 << 20  # of each file of weights, from its start: names, shapes, an embedding
PLACES, PLACE_BYTES = 64, 1 << 16  # and behind that, where models with one embedding differ
HEAD_ROWS = 512  # rows of logits at a time: 100 MB in float32 for a vocabulary of 49,152
PROBE_TOKENS = 32
LOG = logging.getLogger(__name__)


class CausalLM:
    """A causal language model in eval mode, with losses for logits."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.body = model.base_model
        self._head = _head_of(model)

    @property
    def text_config(self) -> Any:
        """The language model's part of the config; models of images have others beside it."""
        return self.model.config.get_text_config(decoder=True)

    @property
    def vocab_size(self) -> int:
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def bos_token_id(self) -> int | None:
        bos = self.text_config.bos_token_id
        return None if bos is None else int(bos)

    @property
    def max_tokens(self) -> int | None:
        """The longest sequence that the model was made for, where its config says so."""
        longest = getattr(self.text_config, "max_position_embeddings", None)
        return None if longest is None else int(longest)

    def losses(self, ids_BL: "Tensor", last: int) -> "Tensor":
        """-log p of the `last` tokens of each sequence given all before them: [B, last].

        last <= L - 1: nothing stands before the first token. float32, float64 of a float64 model.
        """
        import torch

        ids_BL = ids_BL.to(self.model.device)
        hidden_BLE = self.body(input_ids=ids_BL[:, :-1], use_cache=False)[0][:, -last:]
        blocks = (
            x.split(HEAD_ROWS) for x in (hidden_BLE.flatten(0, 1), ids_BL[:, -last:].flatten())
        )
        losses = [self._losses_of(*block) for block in zip(*blocks, strict=True)]
        return torch.cat(losses).view(len(ids_BL), last).cpu()

    def _losses_of(self, hidden_RE: "Tensor", target_R: "Tensor") -> "Tensor":
        import torch

        half = hidden_RE.dtype.itemsize < 4
        with _half_products(half):
            logits_RV = self._head(hidden_RE.float() if half else hidden_RE)
        return torch.nn.functional.cross_entropy(logits_RV, target_R, reduction="none")


def load_causal_lm(model: str, dtype: str, device: str, scorer: str) -> CausalLM:
    """Load all of a language model: a Hugging Face folder, a hub id, a GGUF file or its folder.

    Raises ModelError where there is no such model; `scorer` is who asks.
    """
    from longattn.udfs.models.precision import device_of, prefers_bfloat16

    loaded = _from_files(model, *model_files(model, scorer), dtype)
    on = device_of(device)
    if dtype == "bfloat16" and not prefers_bfloat16(on):
        LOG.warning("%s: float32 is faster than bfloat16 on this machine", scorer)
    loaded = loaded.to(on).eval().requires_grad_(False)
    prefer_own_attention(loaded)
    return CausalLM(loaded)


def _from_files(model: str, folder: str, gguf: str | None, dtype: str) -> Any:
    """The model as transformers loads it; raises ModelError for files that lack a part of it."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    # ours refuses what transformers would leave out of the file
    config = GgufCheckpoint(Path(folder) / gguf).config() if gguf else None
    how = {"gguf_file": gguf, "dtype": getattr(torch, dtype), "local_files_only": True}
    try:
        loaded, found = AutoModelForCausalLM.from_pretrained(
            folder, config=config, **how, output_loading_info=True
        )
    except (OSError, ValueError, SafetensorError) as error:
        if not gguf:
            refuse_damaged(Path(folder))  # transformers does not say which file it was
        raise ModelError(f"score.model {model}: {first_line(error)}") from None
    if missing := sorted(found["missing_keys"]):  # transformers fills these at random
        raise ModelError(f"score.model {model}: the checkpoint lacks {missing[0]}")
    return loaded


def prefer_own_attention(model: Any) -> None:
    """Let the model attend through ours, which needs no L x L mask, where it gives the same.

    The same is what differs by 2 % at most, or by twice as much as the family's own two ways
    differ: of 18 layers in bfloat16, Gemma 3's do by 3 %. Raises ModelError where there is nothing
    to compare with, as what the model gives is not finite, and for a model that is not causal.
    """
    import torch

    from longattn.udfs.models.prefix import ATTENTION, refuse_other_scores

    stock = model.config._attn_implementation
    expected = _hidden_by(model, stock)
    if not expected.isfinite().all():
        kind, dtype = model.config.model_type, str(model.dtype).removeprefix("torch.")
        raise ModelError(
            f"score.dtype: what {kind} computes in {dtype} is not finite: try a wider dtype"
        )
    _refuse_not_causal(model, expected)

    def off(attention: str) -> float:
        return float(torch.linalg.norm(_hidden_by(model, attention) - expected))

    try:
        refuse_other_scores(model.config)  # weights of fewer bits are the model's own affair
        ours = off(ATTENTION)
        near = ours <= 0.02 * float(torch.linalg.norm(expected)) or ours <= 2 * off("eager")
    except (LongAttnError, ValueError, NotImplementedError):
        near = False
    model.set_attn_implementation(ATTENTION if near else stock)


def _refuse_not_causal(model: Any, hidden_1LE: "Tensor") -> None:
    """Raise ModelError where the first half of the probe has other hidden states alone."""
    import torch

    half = PROBE_TOKENS // 2
    expected = hidden_1LE[:, :half]
    alone = _hidden_by(model, model.config._attn_implementation, half)
    off_1L = torch.linalg.norm(alone - expected, dim=-1) / torch.linalg.norm(expected, dim=-1)
    # half precision adds up over layers; some tokens, near a tie, may come to other experts
    if off_1L.median() > (0.02 if model.dtype.itemsize >= 4 else 0.1):
        raise ModelError(
            f"score.model: {model.config.model_type} is not causal: what it makes of a token"
            " depends on those after it"
        )


def _hidden_by(model: Any, attention: str, tokens: int = PROBE_TOKENS) -> "Tensor":
    """Hidden states of the probe's first tokens by one way to attend, float32."""
    import torch

    model.set_attn_implementation(attention)
    known = model.get_input_embeddings().weight.shape[0]
    ids_1L = (torch.arange(tokens, device=model.device)[None] * 7919) % known
    with torch.inference_mode():
        hidden_1LE: Tensor = model.base_model(input_ids=ids_1L, use_cache=False)[0].float()
    return hidden_1LE


def causal_name(model: str, scorer: str) -> str:
    """A model's name and the start of its hash, for versions: `SmolLM2-135M@ab12cd34`."""
    folder, gguf = model_files(model, scorer)
    return f"{Path(gguf).stem if gguf else Path(folder).name}@{_hash(folder, gguf)}"


def model_files(model: str, scorer: str) -> tuple[str, str | None]:
    """The folder of a model's files, and the name of its GGUF file where it is one."""
    path = Path(model)
    if gguf := gguf_file(path):
        return str(gguf.parent), gguf.name
    if not path.is_dir():
        return _from_hub(model), None
    if (path / "scorer.json").exists():
        raise ModelError(
            f"score.model {model} holds the first layers only; {scorer} needs the whole causal"
            " language model: a Hugging Face folder, a hub id or a .gguf file"
        )
    return str(path.resolve()), None


@functools.cache
def _from_hub(model: str) -> str:
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors"]
    try:
        return str(snapshot_download(model, allow_patterns=wanted))
    except Exception as error:  # of the network, of the hub, of the name: they share no base
        reason = first_line(error)
        raise ModelError(f"score.model {model}: no such folder, file or hub id: {reason}") from None


@while_unchanged(lambda folder, gguf: map(str, _weights(Path(folder), gguf)))
def _hash(folder: str, gguf: str | None) -> str:
    """8 hex digits of config.json and, of each file of weights, the start and PLACES behind it."""
    digest = hashlib.sha256()
    for path in _weights(Path(folder), gguf):
        size = path.stat().st_size
        step = max((size - HASHED_BYTES) // PLACES, PLACE_BYTES)
        with path.open("rb") as file:
            digest.update(f"{path.name}:{size}:".encode())
            digest.update(file.read(HASHED_BYTES))
            for place in range(HASHED_BYTES, size, step):
                file.seek(place)
                digest.update(file.read(PLACE_BYTES))
    return digest.hexdigest()[:8]


def _weights(folder: Path, gguf: str | None) -> list[Path]:
    if gguf:
        return [folder / gguf]
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    return [*folder.glob("config.json"), *weights]


def _head_of(model: Any) -> Any:
    """What makes logits [R, V] of hidden states [R, E]: the model's code around its body.

    The head's weights are float32 whatever the body's: logits near 20, rounded to bfloat16, are
    wrong by 0.06, about as much as far context gives.
    """
    head, prefix = copy.copy(model), model.base_model_prefix
    given, half = _given_body(), model.dtype.itemsize < 4
    parts = {
        name: copy.deepcopy(part).float() if half else part
        for name, part in model._modules.items()
        if name != prefix
    }
    # a copy shares the dict of its modules with the model, so it gets one of its own
    object.__setattr__(head, "_modules", {**parts, prefix: given})

    def logits_of(hidden_RE: "Tensor") -> "Tensor":
        import torch

        given.hidden_1RE = hidden_RE[None]
        ids_1R = torch.zeros(1, len(hidden_RE), dtype=torch.long, device=hidden_RE.device)
        logits_RV: Tensor = head(input_ids=ids_1R, use_cache=False).logits[0]
        return logits_RV

    return logits_of


def _given_body() -> Any:
    """A body that returns the hidden states it was given, whatever ids it is called with."""
    from torch import nn
    from transformers.modeling_outputs import BaseModelOutputWithPast

    class Output(BaseModelOutputWithPast):  # type: ignore[misc]
        def __getattr__(self, name: str) -> None:
            """None for what a family hands on beside: router logits, cross attentions."""
            if name.startswith("_"):
                raise AttributeError(name)

    class Given(nn.Module):
        hidden_1RE: Any = None

        @property
        def decoder(self) -> "Given":  # OPT calls its body's decoder
            return self

        def forward(self, *_: Any, **__: Any) -> BaseModelOutputWithPast:
            return Output(last_hidden_state=self.hidden_1RE)

    return Given()


@contextmanager
def _half_products(wanted: bool) -> Iterator[None]:
    """Let float32 products round what they multiply, not their sums, as a half-precision body does.

    bfloat16 on CPUs that have it, TF32 on GPUs; PyTorch's settings are as before afterwards.
    """
    import torch

    from longattn.udfs.attention.blocked import bfloat16_products, products_in

    with bfloat16_products(wanted), products_in("tf32" if wanted else None, torch.backends.cuda):
        yield
