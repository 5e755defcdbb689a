"""What a scorer is asked for, and what it gives back."""

import json
from dataclasses import asdict, dataclass
from typing import NotRequired, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from longattn.udfs.attention.formula import squares_of
from longattn.udfs.errors import TableError

TokenIds = NDArray[np.int64]
DTYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "float64": "f64"}


Option = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class ScorerSpec:
    """All that a score depends on, and how to compute it; plain values, so any closure carries it.

    Defaults stand here alone. None means that the scorer decides: for `k` its own minimum distance,
    for `sample_rows` all rows, for `stride` k, for `threads` one.
    """

    scorer: str = "recall"
    model: str = "data/scorer"
    k: int | None = None
    sample_rows: int | None = None
    sample_keys: int = 384  # with sample_rows: keys that estimate the other rows; 0 none
    layers: tuple[int, ...] = (0,)
    dtype: str = "float32"
    device: str = "auto"
    rope_theta: float | None = None
    bos: bool = False
    batch_tokens: int = 65_536
    threads: int | None = None
    seed: int = 0
    pairs: int = 500  # of segments, per window; for prolong
    stride: int | None = None  # tokens that share a chunk of short context; for fargain
    variant: str = "paper"  # paper or code; for ladm
    background: str | None = None  # counts of other documents: folder, shipped or none
    options: tuple[tuple[str, Option], ...] = ()  # of scorers of other packages, by name

    def option(self, name: str, default: Option) -> Option:
        """An option that a scorer of another package has."""
        return dict(self.options).get(name, default)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "ScorerSpec":
        fields = json.loads(text)
        pairs = tuple((name, value) for name, value in fields["options"])
        return ScorerSpec(**{**fields, "layers": tuple(fields["layers"]), "options": pairs})


class Score(TypedDict):
    """Statistics of one window; the names are columns of the table `scores`."""

    n_tokens: int  # L, BOS included
    k: int
    ds: float
    du: float
    ds_se: float
    du_se: float
    rows_sampled: int
    head_s1: list[float]  # layer by layer in the scorer's order, heads within
    head_s2: list[float]
    measures: NotRequired[dict[str, float]]  # what else the scorer knows of the window, by name


class Scorer(Protocol):
    """What `longattn.udfs.scorers.worker` drives."""

    version: str

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        """Reason and detail for a window that cannot be scored, None for one that can."""

    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        """Score windows of one length, in order."""


def with_segments(token_ids: TokenIds, n_tokens_S: NDArray[np.integer]) -> TokenIds:
    """A packed window as its scorer reads it: every token with the number of its segment [L, 2].

    Raises TableError where the segments' lengths are not those of the tokens.
    """
    segment_L = np.repeat(np.arange(len(n_tokens_S)), n_tokens_S)
    if len(segment_L) != len(token_ids):
        raise TableError(
            f"windows: segments of {len(segment_L):,} tokens in a window of {len(token_ids):,}: the"
            " table is damaged"
        )
    return np.column_stack([token_ids, segment_L])


def default_k(length: int) -> int:
    """A quarter of the window, exactly L - 3 * (L // 4).

    >>> default_k(8192), default_k(10)
    (2048, 4)
    """
    return length - 3 * (length // 4)


def one_head(length: int, k: int, *, ds: float, du: float) -> Score:
    """The score of a method without heads: sums of one head whose DS and DU are the given ones."""
    s1 = ds * length
    return Score(
        n_tokens=length,
        k=k,
        ds=ds,
        du=du,
        ds_se=0.0,
        du_se=0.0,
        rows_sampled=length,
        head_s1=[s1],
        head_s2=[squares_of(s1, du, length * length)],
    )


def unknown_ids(token_ids: TokenIds, known: int) -> tuple[str, str] | None:
    """Reason and detail for a window, not empty, with ids that a vocabulary of `known` lacks."""
    if token_ids.min() < 0 or token_ids.max() >= known:
        return "bad_token_id", f"ids {token_ids.min()} to {token_ids.max()}; there are {known}"
    return None


def nothing_far(token_ids: TokenIds, k: int) -> tuple[str, str] | None:
    """Reason and detail for a window that has no two tokens k apart."""
    if len(token_ids) == 0:
        return "empty", "no tokens"
    if len(token_ids) <= k:
        return "too_short", f"{len(token_ids)} tokens; k is {k}"
    return None


def unreadable(token_ids: TokenIds, known: int, longest: int | None) -> tuple[str, str] | None:
    """As unknown_ids, and for a window longer than the `longest` that a model was made for."""
    if longest is not None and len(token_ids) > longest:
        return "too_long", f"{len(token_ids)} tokens; the model was made for {longest}"
    return unknown_ids(token_ids, known)
