"""Far gain: what a language model gains from long context against short. LongFilter, LongPPL.

Let LL_t be the loss of token t given all that stands before it, LS_t its loss given the last K to
K + d - 1 tokens alone, and g_t = LS_t - LL_t. Over all N tokens of a window,

    DS    = mean of exp(-LL_t) g_t                   LongFilter (arXiv 2510.25804, eq. 6 and 7)
    gain  = mean of g_t
    key   = share of tokens with g_t > 2 and LL_t < 2, in nats      LongPPL (arXiv 2410.23771)

Short context comes of restarted chunks: chunk c reads the tokens [c, c + K + d) alone, for c = d,
2d, ..., and gives LS of its last d. Of tokens that the first chunk holds both contexts are one, and
their gain is 0. One pass with a sliding mask would not do: every layer carries what is far back one
mask further. A BOS, where there is one, stands before the window and before every chunk.

What deviates from the papers: docs/adr/0009-fargain.md.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longattn.udfs.errors import ModelError
from longattn.udfs.models.causal import CausalLM, causal_name, load_causal_lm
from longattn.udfs.scorers.base import (
    DTYPES,
    Score,
    ScorerSpec,
    TokenIds,
    default_k,
    one_head,
    unreadable,
)

KEY_GAIN = 2.0  # nats, LongPPL's alpha: a key token gains more,
KEY_LOSS = 2.0  # and its own loss, LongPPL's -beta, is smaller

Losses = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of a window's text that the model reads alone, for the loss of its last tokens."""

    start: int
    stop: int
    judged: int  # tokens, the last ones, whose loss is kept


Work = tuple[int, Piece]  # the number of a window, and a piece of it


def load_fargain(spec: ScorerSpec) -> "FarGain":
    """Load the causal language model that the spec names, all of it."""
    lm = load_causal_lm(spec.model, spec.dtype, spec.device, scorer="fargain")
    if spec.bos and lm.bos_token_id is None:
        raise ModelError(f"score.bos: {spec.model} has no BOS token")
    return FarGain(lm, spec, fargain_version(spec))


def fargain_version(spec: ScorerSpec) -> str:
    """For example `fargain:SmolLM2-135M@ab12cd34:k=L/4:d=k:f32`."""
    parts = [
        f"fargain:{causal_name(spec.model, 'fargain')}",
        f"k={spec.k or 'L/4'}",
        f"d={spec.stride or 'k'}",
        DTYPES[spec.dtype],
    ]
    return ":".join(parts + ["bos"] * spec.bos)


class FarGain:
    """Scores windows by a causal language model's losses with long and with short context."""

    def __init__(self, lm: CausalLM, spec: ScorerSpec, version: str) -> None:
        self.lm = lm
        self.spec = spec
        self.version = version

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        """Reason and detail for a window with no far context, or that the model cannot read."""
        text = self._text(token_ids)
        if len(text) == 0:
            return "empty", "no tokens"
        k, stride = self._chunking(len(text))
        if not chunks(len(text), k, stride):
            return "too_short", f"{len(text)} tokens; short context is {k}, in steps of {stride}"
        return unreadable(text, self.lm.vocab_size, self.lm.max_tokens)

    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        """Score windows together; du is 0, so that LDS ranks as ds does."""
        return [
            self._score_one(ids, *losses)
            for ids, losses in zip(token_ids, self.losses(token_ids), strict=True)
        ]

    def losses(self, token_ids: list[TokenIds]) -> list[tuple[Losses, Losses]]:
        """LL and LS of each window's text, nan where nothing stands before the first token."""
        work = [(w, piece) for w, ids in enumerate(token_ids) for piece in self._pieces(ids)]
        long = [np.full(len(self._text(ids)), np.nan) for ids in token_ids]
        self._fill(long, token_ids, [(w, piece) for w, piece in work if piece.start == 0])
        short = [losses_N.copy() for losses_N in long]
        self._fill(short, token_ids, [(w, piece) for w, piece in work if piece.start > 0])
        return list(zip(long, short, strict=True))

    def _pieces(self, token_ids: TokenIds) -> list[Piece]:
        """The whole window, then its chunks."""
        length = len(self._text(token_ids))
        k, stride = self._chunking(length)
        whole = Piece(start=0, stop=length, judged=length - (self._bos(token_ids) is None))
        return [whole, *chunks(length, k, stride)]

    def _fill(self, losses: list[Losses], token_ids: list[TokenIds], work: list[Work]) -> None:
        """Put the losses of pieces, run in batches of one shape, where they belong."""
        bos_W = [self._bos(ids) is not None for ids in token_ids]
        for batch in _batches(work, bos_W, self.spec.batch_tokens):
            sequences = [self._sequence(token_ids[w], piece) for w, piece in batch]
            losses_BJ = self._losses(np.stack(sequences), batch[0][1].judged)
            for (w, piece), losses_J in zip(batch, losses_BJ, strict=True):
                losses[w][piece.stop - piece.judged : piece.stop] = losses_J

    def _losses(self, ids_BL: TokenIds, judged: int) -> Losses:
        import torch

        with torch.inference_mode():
            losses: Losses = self.lm.losses(torch.from_numpy(ids_BL), judged).double().numpy()
        return losses

    def _sequence(self, token_ids: TokenIds, piece: Piece) -> TokenIds:
        """A piece of the text as the model reads it, after the BOS that the window has."""
        text, bos = self._text(token_ids)[piece.start : piece.stop], self._bos(token_ids)
        return text if bos is None else np.append(bos, text)

    def _bos(self, token_ids: TokenIds) -> int | None:
        """BOS where the spec asks for it or the window brings it along; else None."""
        bos = self.lm.bos_token_id
        return bos if self.spec.bos or token_ids[0] == bos else None

    def _text(self, token_ids: TokenIds) -> TokenIds:
        """The window without the BOS that it brings along."""
        brings_bos = token_ids[:1].tolist() == [self.lm.bos_token_id]
        return token_ids[1:] if brings_bos else token_ids

    def _chunking(self, length: int) -> tuple[int, int]:
        """K and d: LongAttn's minimum distance and K, where the settings name none."""
        k = self.spec.k or default_k(length)
        return k, self.spec.stride or k

    def _score_one(self, token_ids: TokenIds, long_N: Losses, short_N: Losses) -> Score:
        k, stride = self._chunking(len(long_N))
        unread = int(self._bos(token_ids) is None)  # the first token has no loss then
        read = len(long_N) + 1 - unread
        if not np.isfinite([long_N[unread:], short_N[unread:]]).all():
            return one_head(read, k, ds=math.nan, du=0.0)
        score = one_head(read, k, ds=longfilter(long_N, short_N), du=0.0)
        return {**score, "measures": measures(long_N, short_N, judged_from=k + stride)}


def chunks(length: int, k: int, stride: int) -> list[Piece]:
    """The chunks of a text, without the first: it is the start of the long pass.

    >>> [(c.start, c.stop, c.judged) for c in chunks(11, k=4, stride=2)]
    [(2, 8, 2), (4, 10, 2), (6, 11, 1)]
    """
    ends = ((c, min(c + k + stride, length)) for c in range(stride, length - k, stride))
    return [Piece(start=c, stop=stop, judged=stop - c - k) for c, stop in ends]


def longfilter(long_N: Losses, short_N: Losses) -> float:
    """Mean of exp(-LL) (LS - LL) over all tokens; what has no loss counts 0."""
    return float(np.nan_to_num(np.exp(-long_N) * (short_N - long_N)).mean())


def measures(long_N: Losses, short_N: Losses, judged_from: int) -> dict[str, float]:
    """What else two passes tell, in nats a token.

    gain, its positive and negative parts (gain = gain_pos - gain_neg), key (share of key tokens)
    and key_loss (their mean LL, so that LongPPL is its exponential; absent without key tokens), all
    over N tokens; loss (mean LL); and for the judged tokens in [P, 2P), P a power of 2, their mean
    gain gain_P and their number tokens_P.
    """
    gain_N = np.nan_to_num(short_N - long_N)
    key_N = (gain_N > KEY_GAIN) & (long_N < KEY_LOSS)
    values = {
        "gain": gain_N.mean(),
        "gain_pos": np.maximum(gain_N, 0).mean(),
        "gain_neg": np.maximum(-gain_N, 0).mean(),
        "key": key_N.mean(),
        "loss": np.nanmean(long_N),
        **_by_position(gain_N, judged_from),
    }
    if key_N.any():
        values["key_loss"] = long_N[key_N].mean()
    return {name: float(value) for name, value in values.items()}


def _by_position(gain_N: Losses, judged_from: int) -> dict[str, float]:
    exponent_N = np.floor(np.log2(np.arange(judged_from, len(gain_N)))).astype(int)
    judged_N = gain_N[judged_from:]
    values: dict[str, float] = {}
    for exponent in np.unique(exponent_N):
        mine = judged_N[exponent_N == exponent]
        values |= {f"gain_{1 << exponent}": mine.mean(), f"tokens_{1 << exponent}": len(mine)}
    return values


def _batches(work: list[Work], bos_W: list[bool], batch_tokens: int) -> Iterator[list[Work]]:
    """Pieces of one shape, at most `batch_tokens` together, at least one piece.

    `bos_W` says of which windows the pieces are read after a BOS.
    """

    def shape(item: Work) -> tuple[int, int, bool]:
        return item[1].stop - item[1].start, item[1].judged, bos_W[item[0]]

    for (length, *_), group in itertools.groupby(sorted(work, key=shape), key=shape):
        alike, size = list(group), max(1, batch_tokens // length)
        yield from (alike[start : start + size] for start in range(0, len(alike), size))
