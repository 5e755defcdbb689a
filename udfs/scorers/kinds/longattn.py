"""The LongAttn scorer: a loaded model prefix, and statistics of its attention."""

import math

import numpy as np
import torch
from torch import Tensor

from longattn.udfs.attention.dependency import FarStatistics, dependency
from longattn.udfs.attention.dispatch import far_statistics
from longattn.udfs.attention.sampled import (
    SampledStatistics,
    far_statistics_sampled,
    rows_to_sample,
)
from longattn.udfs.errors import ModelError
from longattn.udfs.models.artefact import read_artefact
from longattn.udfs.models.build import scorer_folder
from longattn.udfs.models.precision import device_of
from longattn.udfs.models.prefix import AttentionCall, Prefix, load_prefix, override_rope
from longattn.udfs.scorers.base import Score, ScorerSpec, TokenIds, default_k, unknown_ids
from longattn.udfs.scorers.versions import version_of

Statistics = FarStatistics | SampledStatistics
SHORTEST = 4  # tokens: below, a quarter of a window is less than one


def load_longattn(spec: ScorerSpec) -> "LongAttn":
    """Load a scorer's folder, its tensors memory-mapped; a checkpoint is made into one first."""
    manifest, config, tensors = read_artefact(scorer_folder(spec.model, spec.layers))
    if spec.rope_theta is not None:
        override_rope(config, spec.rope_theta)
    if spec.bos and config.bos_token_id is None:
        raise ModelError(f"score.bos: {manifest.name} has no BOS token")
    prefix = load_prefix(config, tensors, getattr(torch, spec.dtype), device_of(spec.device))
    return LongAttn(prefix, spec, version_of(manifest, spec))


class LongAttn:
    """Self-attention's long-range statistics (LongAttn, arXiv 2502.16860, eq. 5 to 7)."""

    def __init__(self, prefix: Prefix, spec: ScorerSpec, version: str) -> None:
        self.prefix = prefix
        self.spec = spec
        self.version = version

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        """Reason and detail for a window of a length or of ids that the model does not know."""
        length, known = len(token_ids) + self.spec.bos, self.prefix.vocab_size
        if len(token_ids) == 0:
            return "empty", "no tokens"
        if length < SHORTEST or length <= (self.spec.k or 0):
            return "too_short", f"{length} tokens; k is {self.spec.k or 'L/4'}"
        if self.prefix.max_tokens and length > self.prefix.max_tokens:
            return "too_long", f"{length} tokens; the model has {self.prefix.max_tokens} positions"
        return unknown_ids(token_ids, known)

    @torch.inference_mode()
    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        """Score windows of one length together; layers in the order of the spec."""
        ids_BL = self.with_bos(token_ids)
        length = ids_BL.shape[1]
        k = self.k_of(length)
        n_rows = rows_to_sample(self.spec.sample_rows, length - k)
        by_layer: dict[int, Statistics] = {}

        def visit(call: AttentionCall) -> None:
            _refuse_masked(call, k)
            by_layer[call.layer] = self._statistics(call, k, n_rows)

        self.prefix.visit(ids_BL, self.spec.layers, visit)
        layers = [by_layer[layer] for layer in self.spec.layers]
        rows = length if n_rows is None else n_rows
        return [_score(layers, window, length, k, rows) for window in range(len(token_ids))]

    def _statistics(self, call: AttentionCall, k: int, n_rows: int | None) -> Statistics:
        """Far statistics of one layer, from all rows where `n_rows` is None."""
        if n_rows is None:
            return far_statistics(call.q_BHLD, call.k_BGLD, k=k, **call.score_options)
        return far_statistics_sampled(
            call.q_BHLD,
            call.k_BGLD,
            k=k,
            n_rows=n_rows,
            n_keys=self.spec.sample_keys,
            seed=(self.spec.seed, call.layer),  # layers err independently
            **call.score_options,
        )

    def k_of(self, length: int) -> int:
        """The minimum distance in a window of this many tokens, BOS included."""
        return self.spec.k or default_k(length)

    def with_bos(self, token_ids: list[TokenIds]) -> Tensor:
        """Windows of one length as int64 [B, L], BOS first where the spec says so."""
        ids_BL = torch.from_numpy(np.stack(token_ids).astype(np.int64, copy=False))
        if not self.spec.bos:
            return ids_BL
        bos_B1 = ids_BL.new_full((len(ids_BL), 1), self.prefix.model.config.bos_token_id)
        return torch.cat([bos_B1, ids_BL], dim=1)


def _score(layers: list[Statistics], window: int, length: int, k: int, rows: int) -> Score:
    """One window's score: means over the heads of all layers."""
    s1_H = torch.cat([layer.s1_BH[window] for layer in layers]).cpu()
    s2_H = torch.cat([layer.s2_BH[window] for layer in layers]).cpu()
    ds_H, du_H = dependency(s1_H, s2_H, length, k)
    sampled = [layer for layer in layers if isinstance(layer, SampledStatistics)]
    return Score(
        n_tokens=length,
        k=k,
        ds=float(ds_H.mean()),
        du=float(du_H.mean()),
        ds_se=_of_mean([float(layer.ds_se_B[window]) for layer in sampled]),
        du_se=_of_mean([float(layer.du_se_B[window]) for layer in sampled]),
        rows_sampled=rows,
        head_s1=s1_H.tolist(),
        head_s2=s2_H.tolist(),
    )


def _of_mean(errors: list[float]) -> float:
    """The standard error of a mean of independent estimates; 0 where there are none."""
    return math.hypot(*errors) / max(len(errors), 1)


def _refuse_masked(call: AttentionCall, k: int) -> None:
    """A sliding window hides keys w or more back: at w <= k nothing far is left to measure."""
    if call.sliding_window is not None and call.sliding_window <= k:
        raise ModelError(
            f"layer {call.layer} sees {call.sliding_window} tokens back, the minimum distance is"
            f" {k}: nothing far is left; choose another layer or a smaller window.k"
        )
