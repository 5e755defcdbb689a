"""The LongAttn scorer: a loaded model prefix, and statistics of its attention."""

import numpy as np
import torch
from torch import Tensor

from udfs.attention import FarStatistics, default_k, dependency, far_statistics
from udfs.checkpoint import read_artefact, scorer_folder, version_of
from udfs.errors import ModelError
from udfs.model import AttentionCall, Prefix, load_prefix, override_rope
from udfs.scorers import Score, ScorerSpec, TokenIds

SHORTEST = 4  # tokens: below, a quarter of a window is less than one


def load_longattn(spec: ScorerSpec) -> "LongAttn":
    """Load a scorer's folder, its tensors memory-mapped; a checkpoint is made into one first."""
    manifest, config, tensors = read_artefact(scorer_folder(spec.model, spec.layers))
    if spec.rope_theta is not None:
        override_rope(config, spec.rope_theta)
    if spec.bos and config.bos_token_id is None:
        raise ModelError(f"score.bos: {manifest.name} has no BOS token")
    prefix = load_prefix(config, tensors, getattr(torch, spec.dtype), _device(spec.device))
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
        if length < max(SHORTEST, self.spec.k or 0):
            return "too_short", f"{length} tokens; k is {self.spec.k or 'L/4'}"
        if self.prefix.max_tokens and length > self.prefix.max_tokens:
            return "too_long", f"{length} tokens; the model has {self.prefix.max_tokens} positions"
        if token_ids.min() < 0 or token_ids.max() >= known:
            return "bad_token_id", f"ids {token_ids.min()} to {token_ids.max()}; there are {known}"
        return None

    @torch.inference_mode()
    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        """Score windows of one length together; layers in the order of the spec."""
        ids_BL = self.with_bos(token_ids)
        length = ids_BL.shape[1]
        k = self.k_of(length)
        rows = self._rows(length, k)
        found = self._statistics(ids_BL, k, rows)
        return [_score(found, window, length, k, rows) for window in range(len(token_ids))]

    def _statistics(self, ids_BL: Tensor, k: int, rows: Tensor | None) -> list[FarStatistics]:
        """Statistics of every layer of the spec, in its order."""
        found: dict[int, FarStatistics] = {}

        def visit(call: AttentionCall) -> None:
            _refuse_masked(call, k)
            found[call.layer] = far_statistics(
                call.q_BHLD,
                call.k_BGLD,
                k=k,
                rows=rows,
                keep_rows=rows is not None,
                **call.score_options,
            )

        self.prefix.visit(ids_BL, self.spec.layers, visit)
        return [found[layer] for layer in self.spec.layers]

    def _rows(self, length: int, k: int) -> Tensor | None:
        return None

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


def _score(
    found: list[FarStatistics], window: int, length: int, k: int, rows: Tensor | None
) -> Score:
    """One window's score: means over the heads of all layers."""
    s1_H = torch.cat([layer.s1_BH[window] for layer in found]).cpu()
    s2_H = torch.cat([layer.s2_BH[window] for layer in found]).cpu()
    ds_H, du_H = dependency(s1_H, s2_H, length, k)
    return Score(
        n_tokens=length,
        k=k,
        ds=float(ds_H.mean()),
        du=float(du_H.mean()),
        ds_se=0.0,
        du_se=0.0,
        rows_sampled=length,
        head_s1=s1_H.tolist(),
        head_s2=s2_H.tolist(),
    )


def _refuse_masked(call: AttentionCall, k: int) -> None:
    """A sliding window hides keys w or more back: at w <= k nothing far is left to measure."""
    if call.sliding_window is not None and call.sliding_window <= k:
        raise ModelError(
            f"layer {call.layer} sees {call.sliding_window} tokens back, the minimum distance is"
            f" {k}: nothing far is left; choose another layer or a smaller window.k"
        )


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
