"""A decoder's own code, run no further than the attention that is scored.

transformers hands every attention layer's query and key, rotated and normalised, to a registered
function; ours reads them and stops the model after the last layer that is asked for. Whatever a
family does before that point (fused projections, partial rotary, norms of q and k, scaled
embeddings) is its own code, and so exact.

Shapes: B windows, L tokens, H query heads, G key heads, D head size.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AutoModel, AutoModelForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from longattn.udfs.attention.dependency import ScoreOptions, spans
from longattn.udfs.attention.dispatch import far_statistics
from longattn.udfs.attention.output import causal_output, first_key, is_faster
from longattn.udfs.errors import ModelError, whole_message

ATTENTION = "longattn"  # our name in transformers' registry; its layers get no mask
WITH_MASK = "longattn_masked"  # the same with the family's own masks, to check against
OWN_ATTENTION = ("gptj", "codegen")  # families whose layers attend in a method of their own
IN_MASK = ("phimoe", "qwen2_moe")  # families whose sliding window is in the mask alone
NOT_IN_REGISTRY = "{}: attention of {} does not pass through transformers' AttentionInterface"
ROWS = 256  # query rows at a time where stock attention would need an L x L mask
CHECK_TOKENS = 192


@dataclass(frozen=True, kw_only=True)
class AttentionCall:
    """What one attention layer was given."""

    layer: int
    q_BHLD: Tensor
    k_BGLD: Tensor
    scale: float | None
    softcap: float | None
    sliding_window: int | None  # a query sees this many keys, itself included
    # the family's own attention, of all keys or those from `first` on: output, weights
    eager: Callable[..., tuple[Tensor, Tensor]]
    mask: Tensor | None

    @property
    def score_options(self) -> ScoreOptions:
        """What `far_statistics` needs to know beside q, k and the minimum distance."""
        return ScoreOptions(
            scale=self.scale, softcap=self.softcap, sliding_window=self.sliding_window
        )

    def causal_mask(self, start: int, q_BHRD: Tensor, first: int = 0) -> Tensor:
        """Additive mask [1, 1, R, N] of query rows from `start` on, for keys from `first` on."""
        stop = start + q_BHRD.shape[2]
        position_R1 = torch.arange(start, stop, device=q_BHRD.device)[:, None]
        distance_RN = position_R1 - torch.arange(first, stop, device=q_BHRD.device)
        hidden_RN = (distance_RN < 0) | (distance_RN >= (self.sliding_window or stop))
        mask_RN = torch.zeros_like(distance_RN, dtype=q_BHRD.dtype)
        return mask_RN.masked_fill(hidden_RN, torch.finfo(q_BHRD.dtype).min)[None, None]


Visitor = Callable[[AttentionCall], None]


@dataclass(frozen=True)
class _Run:
    layers: frozenset[int]
    visit: Visitor


_WHOLE = _Run(frozenset(), lambda call: None)  # visit nothing, run to the end
_RUN: ContextVar[_Run] = ContextVar("run", default=_WHOLE)


class _ReachedLastLayer(Exception):
    """Leaves the model after the last layer that is scored."""


class Prefix:
    """The part of a decoder that scoring needs, with its weights."""

    def __init__(self, model: Any, dtype: torch.dtype, device: torch.device) -> None:
        self.model = model
        self.dtype = dtype
        self.device = device

    @property
    def vocab_size(self) -> int:
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def max_tokens(self) -> int | None:
        """Positions of a table, learned or of sines; None for rotary positions without an end."""
        tables = [m for m in self.model.modules() if isinstance(m, nn.Embedding)]
        learned = len(tables) > 1 and rope_parameters(self.model.config) is None
        sines = any(name.endswith("embed_positions") for name, _ in self.model.named_buffers())
        return int(self.model.config.max_position_embeddings) if learned or sines else None

    def visit(self, ids_BL: Tensor, layers: tuple[int, ...], visit: Visitor) -> None:
        """Call `visit` with the attention of each layer asked for, in their order in the model.

        Raises ModelError when a layer's attention does not pass through transformers' registry.
        """
        visit_attention(self.model, self._embed(ids_BL.to(self.device)), layers, visit)

    def _embed(self, ids_BL: Tensor) -> Tensor:
        """Embed through the model's own module, with only the rows that occur.

        The table stays as it is stored, memory-mapped and shared by a node's workers; casting it
        would cost every worker a copy (2 GB for an 8B model in float32).
        """
        embedding = self.model.get_input_embeddings()
        used, index_BL = torch.unique(ids_BL, return_inverse=True)
        rows = embedding.weight[used].to(self.dtype)
        return cast(Tensor, torch.func.functional_call(embedding, {"weight": rows}, (index_BL,)))


def check_supported(config: Any) -> None:
    """Raise ModelError, by name, for checkpoints that a scorer cannot be made of."""
    refuse_other_scores(config)
    if getattr(config, "quantization_config", None):
        raise ModelError(
            f"{config.model_type}: quantised weights; score from the unquantised checkpoint"
        )


def refuse_other_scores(config: Any) -> None:
    """Raise ModelError, by name, for models whose scores q and k alone do not give."""
    kind = config.model_type
    if config.is_encoder_decoder or kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(f"{kind} is no decoder-only language model")
    if kind in ("bloom", "mpt") or getattr(config, "alibi", False):
        raise ModelError(f"{kind} adds an ALiBi bias to its scores: q and k do not hold it")
    if "dynamic" in _rope_types(config):
        raise ModelError(f"{kind}: dynamic rope depends on the windows scored before")


def needed_parameters(config: Any, layers: tuple[int, ...]) -> list[str]:
    """Parameters that q or k of the given layers depend on, found by their gradients.

    Runs on the meta device: shapes only, no memory. Raises ModelError where values decide what is
    run, as in a mixture of experts; of those the first layer can be scored.
    """
    _refuse_layers_without_attention(config, layers)
    model = skeleton(config).to("meta")
    sums: list[Tensor] = []
    ids_BL = torch.zeros(1, 8, dtype=torch.long, device="meta")
    with torch.enable_grad():
        embedded_BLE = model.get_input_embeddings()(ids_BL)
        try:
            visit_attention(
                model,
                embedded_BLE,
                layers,
                lambda call: sums.extend((call.q_BHLD.sum(), call.k_BGLD.sum())),
            )
        except (RuntimeError, NotImplementedError) as error:
            raise ModelError(_why_not(config, layers, error)) from None
        parameters = dict(model.named_parameters())
        total = torch.stack(sums).sum()
        gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    return [
        name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None
    ]


def _refuse_layers_without_attention(config: Any, layers: tuple[int, ...]) -> None:
    """Raise ModelError for layers of a hybrid that are recurrences, and say which are attention."""
    kinds = getattr(config, "layers_block_type", None) or getattr(config, "layer_types", None) or []
    attention = [i for i, kind in enumerate(kinds) if "attention" in kind and "linear" not in kind]
    for layer in layers:
        if layer < len(kinds) and layer not in attention:
            there = ", ".join(map(str, attention)) or "none"
            raise ModelError(
                f"{config.model_type}: layer {layer} is {kinds[layer]}, which has no attention to"
                f" score; layers that have: {there}"
            )


def _why_not(config: Any, layers: tuple[int, ...], error: Exception) -> str:
    """Why the model cannot be followed by shapes alone."""
    if max(layers) > 0:
        return (
            f"{config.model_type}: layers after the first depend on its values (a mixture of"
            " experts, a recurrence?); only layer 0 can be scored"
        )
    reason = whole_message(error)[:200]
    return f"{config.model_type}: layer 0 cannot be scored: {reason}"


def load_prefix(
    config: Any, tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device
) -> Prefix:
    """Put kept tensors into the model's own modules; what is missing is never run."""
    model = skeleton(config, dtype)
    embedding = model.get_input_embeddings()
    embedding.padding_idx = None  # no meaning for inference, and it bounds the rows of `_embed`
    table = next(n for n, p in model.named_parameters() if p is embedding.weight)
    kept = {n: t.to(device, None if n == table else dtype) for n, t in tensors.items()}
    model.load_state_dict(kept, strict=False, assign=True)
    _skip_unneeded(model, kept)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    return Prefix(model.requires_grad_(False), dtype, device)


def override_rope(config: Any, theta: float) -> None:
    """Set the base of the rotary positions (ABF); of the global layers where there are two."""
    parameters = rope_parameters(config)
    if parameters is None:
        raise ModelError(f"{config.model_type} has no rotary positions: rope_theta changes nothing")
    parameters.get("full_attention", parameters)["rope_theta"] = theta


def check_exact(prefix: Prefix, layers: tuple[int, ...]) -> None:
    """Compare with the family's own eager attention and masks; raise ModelError on a difference."""
    model, length = prefix.model, min(CHECK_TOKENS, prefix.max_tokens or CHECK_TOKENS)
    ids_BL = torch.arange(length)[None] * 7919 % prefix.vocab_size

    def compare(call: AttentionCall) -> None:
        if call.sliding_window and call.sliding_window <= length // 4:
            return
        k = length // 4
        got = far_statistics(call.q_BHLD, call.k_BGLD, k=k, **call.score_options)
        far_BHLL = call.eager(call.q_BHLD, call.k_BGLD, call.mask)[1].double().tril(-k)
        for ours, theirs in ((got.s1_BH, far_BHLL), (got.s2_BH, far_BHLL.square())):
            if not torch.allclose(ours.double(), theirs.sum((-1, -2)), rtol=1e-3, atol=1e-6):
                raise ModelError(
                    f"{model.config.model_type}: attention of layer {call.layer} is not that of its"
                    " q and k alone"
                )

    model.config._attn_implementation = WITH_MASK
    with torch.inference_mode():
        prefix.visit(ids_BL, layers, compare)
    model.config._attn_implementation = ATTENTION


def skeleton(config: Any, dtype: torch.dtype = torch.float32) -> Any:
    """The model's modules with real buffers (rope frequencies) and parameters of shape only."""
    own = config.model_type in OWN_ATTENTION
    config._attn_implementation = "eager" if own else ATTENTION
    with _parameters_on_meta():
        try:
            model = AutoModel.from_config(config, dtype=dtype, trust_remote_code=False).eval()
        except KeyError as error:  # a family with a table of attention classes of its own
            if error.args != (ATTENTION,):
                raise
            raise ModelError(NOT_IN_REGISTRY.format(config.model_type, "every layer")) from None
    if own:
        _pass_on_own_attention(model)
        model.config._attn_implementation = ATTENTION
    return model


def _pass_on_own_attention(model: nn.Module) -> None:
    """Have families older than transformers' registry call it from the method that attends."""
    layers: list[Any] = [module for module in model.modules() if hasattr(module, "_attn")]
    for number, module in enumerate(layers):
        module.layer_idx, module.config = number, model.config
        module._attn = partial(_attend_as, module, module._attn)


def _attend_as(
    module: Any,
    own: Callable[..., tuple[Tensor, Tensor]],
    q_BHLD: Tensor,
    k_BGLD: Tensor,
    v_BGLD: Tensor,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Attention in the form of the registry; its output has the heads before the tokens."""
    scale = module.head_dim**-0.5
    output_BLHD, _ = _attend(module, q_BHLD, k_BGLD, v_BGLD, mask, scaling=scale, own=own)
    return output_BLHD.transpose(1, 2), None


def causal_skeleton(config: Any) -> Any:
    """The whole language model on the meta device, for the names of its parameters."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        shape_only = None if parameter is None else nn.Parameter(parameter.detach().to("meta"))
        register(module, name, shape_only)

    with patch.object(nn.Module, "register_parameter", on_meta):
        yield


class _Unneeded(nn.Module):
    """In place of a linear layer that no score depends on, such as the values' of the last one."""

    def __init__(self, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(()).expand(*x.shape[:-1], self.out_features)


def _skip_unneeded(model: nn.Module, kept: Mapping[str, Tensor]) -> None:
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and f"{name}.weight" not in kept:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, _Unneeded(module.out_features))


def visit_attention(
    model: Any, embedded_BLE: Tensor, layers: tuple[int, ...], visit: Visitor
) -> None:
    """Run a decoder's body up to the last of `layers`, visiting the attention of each of them."""
    token = _RUN.set(_Run(frozenset(layers), visit))
    try:
        model(inputs_embeds=embedded_BLE, use_cache=False)
    except _ReachedLastLayer:
        return
    finally:
        _RUN.reset(token)
    layer = f"layer {max(layers)}"
    raise ModelError(NOT_IN_REGISTRY.format(model.config.model_type, layer))


def _attend(
    module: nn.Module,
    q_BHLD: Tensor,
    k_BGLD: Tensor,
    v_BGLD: Tensor,
    attention_mask: Tensor | None = None,  # families pass it by this name or by place
    **options: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in place of attention: visit, then go on or leave."""
    run = _RUN.get()
    call = _described(module, q_BHLD, k_BGLD, v_BGLD, attention_mask, options)
    if call.layer in run.layers:
        run.visit(call)
    if call.layer == max(run.layers, default=None):
        raise _ReachedLastLayer
    return _output(module, call, v_BGLD), None


AttentionInterface.register(ATTENTION, _attend)
AttentionInterface.register(WITH_MASK, _attend)
AttentionMaskInterface.register(WITH_MASK, eager_mask)


def _described(
    module: Any, q_BHLD: Tensor, k_BGLD: Tensor, v_BGLD: Tensor, mask: Any, options: dict[str, Any]
) -> AttentionCall:
    own = options.pop("own", None)
    _refuse_unknown(module, options)

    def eager(q_BHLD: Tensor, k_BGLD: Tensor, mask: Tensor | None, first: int = 0) -> Any:
        v_BGND = v_BGLD[:, :, first : first + k_BGLD.shape[2]]
        if own is not None:
            output, weights = own(q_BHLD, k_BGLD, v_BGND, mask)
            return output.transpose(1, 2), weights
        attention = sys.modules[type(module).__module__].eager_attention_forward
        return attention(module, q_BHLD, k_BGLD, v_BGND, mask, **options)

    return AttentionCall(
        layer=module.layer_idx,
        q_BHLD=q_BHLD,
        k_BGLD=k_BGLD,
        scale=options.get("scaling"),
        softcap=options.get("softcap"),
        sliding_window=options.get("sliding_window") or _window_in_mask(module),
        eager=eager,
        mask=mask,
    )


def _window_in_mask(module: Any) -> int | None:
    """The sliding window of a layer that is told of it by its mask alone."""
    config, types = module.config, getattr(module.config, "layer_types", None)
    slides = not types or types[module.layer_idx] == "sliding_attention"
    return config.sliding_window if config.model_type in IN_MASK and slides else None


def _refuse_unknown(module: Any, options: Mapping[str, Any]) -> None:
    """Raise ModelError where the scores depend on more than q, k, softcap and sliding window."""
    kind, layer = module.config.model_type, module.layer_idx
    if not getattr(module, "is_causal", True) or options.get("is_causal") is False:
        raise ModelError(f"{kind}: attention of layer {layer} is not causal")
    types = getattr(module.config, "layer_types", None)
    if types and types[layer] not in ("full_attention", "sliding_attention"):
        raise ModelError(
            f"{kind}: layer {layer} is {types[layer]}; only full and sliding are known"
        )
    for name, value in options.items():
        if isinstance(value, Tensor) and name not in ("position_ids", "cache_position"):
            raise ModelError(f"{kind}: attention of layer {layer} also depends on {name}")


def _output(module: Any, call: AttentionCall, v_BGLD: Tensor) -> Tensor:
    """Attention's output [B, L, H, D]; in row blocks where sdpa would need an L x L mask."""
    q_BHLD, k_BGLD, window = call.q_BHLD, call.k_BGLD, call.sliding_window
    if call.softcap is None and is_faster(q_BHLD):
        return causal_output(q_BHLD, k_BGLD, v_BGLD, call.scale, window)
    if call.softcap is None and window is None:
        output: Tensor = sdpa_attention_forward(
            module, q_BHLD, k_BGLD, v_BGLD, None, scaling=call.scale, is_causal=True
        )[0]
        return output
    blocks = []
    for rows in spans(0, q_BHLD.shape[2], ROWS):
        first = first_key(rows.start, window)
        q_BHRD, k_BGND = q_BHLD[:, :, rows], k_BGLD[:, :, first : rows.stop]
        mask_RN = call.causal_mask(rows.start, q_BHRD, first)
        blocks.append(call.eager(q_BHRD, k_BGND, mask_RN, first)[0])
    return torch.cat(blocks, dim=1)


def rope_parameters(config: Any) -> dict[str, Any] | None:
    """transformers' rope settings; by layer type for models with local and global rope."""
    return getattr(config, "rope_parameters", None) or None


def _rope_types(config: Any) -> set[str]:
    parameters = rope_parameters(config) or {}
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    return {str(settings.get("rope_type")) for settings in (nested or [parameters])}
