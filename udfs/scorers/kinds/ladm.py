"""LADM (Chen et al. 2025, arXiv 2503.02502): far attention between spans of tokens, and its spread.

A window is cut into N spans of l = 128 tokens. P(i, j) is the attention that the queries of span j
give to the keys of span i, summed over both. Over spans i that are far behind j, and not the first,

    paper   AFS_j = std_i P(i, j) * sum over i of (j - i)/N P(i, j)        per head
            CDS = sum over j of j/N AFS_j, mean over heads and layers
    code    P without the span's own keys, mean over heads; std and sums as above in tokens / L
            CDS = mean over j, mean over layers

Every fourth span is a query span, and every fourth span behind one is looked at. Which spans these
are, and what else the two differ in: docs/adr/0010-ladm.md.

Shapes: B windows, L tokens, H query heads, G key heads, D head size, C tokens of a span, J keys, I
far spans.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from longattn.udfs.models.causal import CausalLM, causal_name, load_causal_lm
from longattn.udfs.scorers.base import DTYPES, Score, ScorerSpec, TokenIds, one_head, unreadable

if TYPE_CHECKING:
    from torch import Tensor

    from longattn.udfs.models.prefix import AttentionCall


@dataclass(frozen=True, kw_only=True)
class Spans:
    """The published sizes; all but `size` in spans."""

    size: int = 128  # l: tokens of a span
    sink: int = 1  # m: first spans that are not looked at
    near: int = 4  # n: nearest spans that are not looked at
    stride: int = 4  # d: between query spans, and between spans looked at
    first: int = 16  # n0: spans before the first query span

    def queries(self, length: int, variant: str) -> list[int]:
        """Where query spans start, in tokens; `code` counts them from the window's end."""
        step = self.size * self.stride
        if variant == "paper":
            return list(range(self.first * self.size, length - self.size + 1, step))
        return list(range(length - self.size, self.size * (self.sink + self.first), -step))

    def keys(self, query: int, variant: str) -> list[int]:
        """Where the far spans of a query span start, in tokens; `code` counts them from it."""
        step = self.size * self.stride
        if variant == "paper":
            return list(range(self.sink * self.size, query - self.near * self.size, step))
        return list(range(query - self.near * self.size, self.sink * self.size - 1, -step))


def load_ladm(spec: ScorerSpec) -> "Ladm":
    """Load the causal language model that the spec names, all of it."""
    lm = load_causal_lm(spec.model, spec.dtype, spec.device, scorer="ladm")
    return Ladm(lm, spec, ladm_version(spec))


def ladm_version(spec: ScorerSpec) -> str:
    """For example `ladm:SmolLM2-135M@ab12cd34:paper:span=128:f32`."""
    name = causal_name(spec.model, "ladm")
    return f"ladm:{name}:{spec.variant}:span={Spans.size}:{DTYPES[spec.dtype]}"


class Ladm:
    """Scores windows by the attention of all layers between far spans."""

    def __init__(self, lm: CausalLM, spec: ScorerSpec, version: str) -> None:
        self.lm = lm
        self.spec = spec
        self.version = version
        self.spans = Spans()

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        """Reason and detail for a window without a query span, or that the model cannot read."""
        if len(token_ids) == 0:
            return "empty", "no tokens"
        if not self.spans.queries(len(token_ids), self.spec.variant):
            before = self.spans.size * (self.spans.first + 1)
            return "too_short", f"{len(token_ids)} tokens; query spans come after {before} tokens"
        return unreadable(token_ids, self.lm.vocab_size, self.lm.max_tokens)

    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        """Score windows one after another; du is 0, so that LDS ranks as ds does."""
        return [
            one_head(len(ids), self.spans.near * self.spans.size, ds=self._score_one(ids), du=0.0)
            for ids in token_ids
        ]

    def _score_one(self, token_ids: TokenIds) -> float:
        """The mean over layers of what each layer's attention gives."""
        import torch

        from longattn.udfs.models.prefix import visit_attention

        scores: list[float] = []
        layers = tuple(range(self.lm.text_config.num_hidden_layers))
        with torch.inference_mode():
            ids_1L = torch.from_numpy(np.asarray(token_ids))[None].to(self.lm.model.device)
            embedded_1LE = self.lm.model.get_input_embeddings()(ids_1L)
            visit_attention(
                self.lm.body, embedded_1LE, layers, lambda call: scores.append(self._of_layer(call))
            )
        return float(np.mean(scores))

    def _of_layer(self, call: "AttentionCall") -> float:
        length, variant = call.q_BHLD.shape[2], self.spec.variant
        terms = []
        for query in self.spans.queries(length, variant):
            keys = self.spans.keys(query, variant)
            mass_HI = span_mass(received(call, query, self.spans.size, variant), keys, self.spans)
            terms.append(accumulated(mass_HI, query, keys, length, variant) * query / length)
        return float(np.sum(terms) if variant == "paper" else np.mean(terms))


def received(call: "AttentionCall", query: int, size: int, variant: str) -> "Tensor":
    """Attention that each key gets of the queries [query, query + size), float32 [H, J].

    `paper`: causal attention as it is, J = query + size. `code`: of the keys before the span alone,
    J = query, which is another softmax.
    """
    import torch

    stop = query + size
    keys = stop if variant == "paper" else query
    q_HCD = call.q_BHLD[0, :, query:stop].float()
    k_GJD = call.k_BGLD[0, :, :keys].float()
    heads = len(q_HCD) // len(k_GJD)
    hidden_CJ = call.causal_mask(query, call.q_BHLD[:, :, query:stop])[0, 0, :, :keys] < 0
    blind_C1 = hidden_CJ.all(-1, keepdim=True)  # queries that see none of these keys
    scale = q_HCD.shape[-1] ** -0.5 if call.scale is None else call.scale
    sums = []
    for head, q_CD in enumerate(q_HCD):
        logits_CJ = q_CD @ k_GJD[head // heads].T * scale
        if call.softcap is not None:
            logits_CJ = call.softcap * torch.tanh(logits_CJ / call.softcap)
        weights_CJ = logits_CJ.masked_fill(hidden_CJ, -torch.inf).softmax(-1)
        sums.append(weights_CJ.masked_fill(blind_C1, 0).sum(0))
    return torch.stack(sums)


def span_mass(received_HJ: "Tensor", keys: list[int], spans: Spans) -> Any:
    """P [H, I] in float64: what the spans that start at `keys` receive together."""
    return np.stack(
        [received_HJ[:, key : key + spans.size].double().sum(1).cpu().numpy() for key in keys], 1
    )


def accumulated(mass_HI: Any, query: int, keys: list[int], length: int, variant: str) -> float:
    """AFS of one query span, without its weight: spread times the sum weighted by distance.

    `paper`: per head, then the mean over heads; `code`: of the mean over heads. The standard
    deviation is the sample's, 0 of one span.
    """
    weight_I = (query - np.asarray(keys)) / length
    if variant == "code":
        mass_HI = mass_HI.mean(0, keepdims=True)
    spread_H = mass_HI.std(1, ddof=1) if len(keys) > 1 else np.zeros(len(mass_HI))
    return float((spread_H * (mass_HI * weight_I).sum(1)).mean())
