"""ProLong (Chen et al. 2024, arXiv 2405.17915): long dependency from segment pairs' perplexity.

A window is cut into N segments. For sampled pairs (i, j < i), with P the perplexity of a small
causal language model:

    DST_ij = (P(c_i) - P(c_i | c_j)) / P(c_i)            dependency strength
    DDI_ij = (i - j) / (N - 1)                           dependency distance
    DSP_i  = 1 - H(softmax_j(P(c_i) - P(c_i | c_j))) / log(number of j)    dependency specificity
    score  = sum over pairs with DST_ij > threshold of (DST_ij + DDI_ij) * DSP_i

Deviations from the paper and from its published code are listed in docs/adr/0006-prolong.md.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longattn.udfs.models.causal import CausalLM, causal_name, load_causal_lm
from longattn.udfs.scorers.base import DTYPES, Score, ScorerSpec, TokenIds, one_head, unknown_ids

if TYPE_CHECKING:
    import torch

U64 = (1 << 64) - 1
Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class ProLongSettings:
    """The published defaults, for a window of 32,768 tokens."""

    segment_tokens: int = 128
    num_pairs: int = 500
    threshold: float = 0.1  # smallest DST that counts
    seed: int = 0
    batch_pairs: int = 16


def sample_pairs(num_segments: int, num_pairs: int, seed: int) -> list[Pair]:
    """Choose distinct pairs (i, j < i) uniformly; the same ones for the same seed.

    All pairs are returned when there are no more than num_pairs of them.
    """
    total = num_segments * (num_segments - 1) // 2
    if total <= num_pairs:
        chosen = np.arange(total)
    else:
        chosen = np.sort(np.random.default_rng(seed).choice(total, num_pairs, replace=False))
    return [_unrank(int(index)) for index in chosen]


def specificity(gains: Sequence[float]) -> float:
    """DSP of one segment: 1 when one earlier segment explains it, 0 when all do alike.

    `gains` are perplexity differences P(c_i) - P(c_i | c_j); a single pair is fully specific, as in
    the published code.
    """
    if len(gains) == 1:
        return 1.0
    shifted = np.asarray(gains, dtype=np.float64) - max(gains)
    weights = np.exp(shifted)
    weights /= weights.sum()
    entropy = -float(np.sum(weights * np.log(np.maximum(weights, 1e-300))))
    return min(1.0, max(0.0, 1.0 - entropy / math.log(len(gains))))


def long_dependency_score(
    single: Sequence[float], paired: Mapping[Pair, float], threshold: float
) -> float:
    """Eq. 6 over the sampled pairs: `single[i]` is P(c_i), `paired[i, j]` is P(c_i | c_j).

    nan where one of them is not finite: it would pass for a weak dependency.
    """
    if not all(map(math.isfinite, (*single, *paired.values()))):
        return math.nan
    gains: dict[int, dict[int, float]] = {}
    for (i, j), perplexity in paired.items():
        gains.setdefault(i, {})[j] = single[i] - perplexity
    score = 0.0
    for i, row in gains.items():
        terms = (_term(gain / single[i], i - j, len(single), threshold) for j, gain in row.items())
        score += specificity(list(row.values())) * sum(terms)
    return score


class ProLong:
    """Scores windows with any Hugging Face causal language model; DU is 0, there are no heads."""

    def __init__(self, lm: CausalLM, settings: ProLongSettings, version: str) -> None:
        self.lm = lm
        self.settings = settings
        self.version = version

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        """Reason and detail for a window without two segments, or of ids that the model lacks."""
        size = self.settings.segment_tokens
        if len(token_ids) == 0:
            return "empty", "no tokens"
        if len(token_ids) < 2 * size:
            return "too_short", f"{len(token_ids)} tokens; two segments are {2 * size}"
        return unknown_ids(token_ids, self.lm.vocab_size)

    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        size = self.settings.segment_tokens
        return [one_head(len(ids), size, ds=self._score_one(ids), du=0.0) for ids in token_ids]

    def _score_one(self, token_ids: TokenIds) -> float:
        """Of one window of int64 token ids; the tail shorter than a segment is left out."""
        import torch

        size = self.settings.segment_tokens
        count = len(token_ids) // size
        segments_NS = torch.as_tensor(token_ids[: count * size].reshape(count, size))
        pairs = sample_pairs(count, self.settings.num_pairs, _seed_of(token_ids, self.settings))
        single = self._perplexities(segments_NS)
        joined_PT = torch.stack([torch.cat([segments_NS[j], segments_NS[i]]) for i, j in pairs])
        paired = dict(zip(pairs, self._perplexities(joined_PT), strict=True))
        return long_dependency_score(single, paired, self.settings.threshold)

    def _perplexities(self, tokens_BT: "torch.Tensor") -> list[float]:
        """Perplexity of the last segment of each row, its first token not predicted."""
        import torch

        predicted = self.settings.segment_tokens - 1
        perplexities: list[float] = []
        with torch.inference_mode():
            for batch_BT in torch.split(tokens_BT, self.settings.batch_pairs):
                loss_BJ = self.lm.losses(batch_BT, predicted)
                perplexities += loss_BJ.mean(dim=1).exp().tolist()
        return perplexities


def load_prolong(spec: ScorerSpec) -> ProLong:
    """Load the causal language model that the spec names, all of it.

    Its vocabulary must be that of the windows. Raises ModelError where there is no such model.
    """
    lm = load_causal_lm(spec.model, spec.dtype, spec.device, scorer="prolong")
    return ProLong(lm, _settings(spec), prolong_version(spec))


def prolong_version(spec: ScorerSpec) -> str:
    """For example `prolong:opt-350m@ab12cd34:segment=128:pairs=500:threshold=0.1:seed=0:f32`."""
    settings = _settings(spec)
    parts = [
        f"prolong:{causal_name(spec.model, 'prolong')}",
        f"segment={settings.segment_tokens}",
        f"pairs={settings.num_pairs}",
        f"threshold={settings.threshold:g}",
        f"seed={settings.seed}",
        DTYPES[spec.dtype],
    ]
    half = spec.dtype in ("bfloat16", "float16")  # without the mark logits were rounded too
    return ":".join(parts + ["logits=f32"] * half)


def _settings(spec: ScorerSpec) -> ProLongSettings:
    return ProLongSettings(num_pairs=spec.pairs, seed=spec.seed)


def _term(strength: float, distance: int, num_segments: int, threshold: float) -> float:
    """DST + DDI of one pair, or nothing when the dependency is weak."""
    return strength + distance / (num_segments - 1) if strength > threshold else 0.0


def _unrank(index: int) -> Pair:
    """The index-th pair in the order (1,0), (2,0), (2,1), (3,0), ..."""
    i = (1 + math.isqrt(1 + 8 * index)) // 2
    return i, index - i * (i - 1) // 2


def _seed_of(token_ids: TokenIds, settings: ProLongSettings) -> int:
    """A seed of the window's own, so that a window's score does not depend on its neighbours."""
    digest = hashlib.sha256(np.ascontiguousarray(token_ids).tobytes()).digest()
    return (int.from_bytes(digest[:8], "little") ^ settings.seed) & U64  # NumPy takes none below 0
