"""What cheap scores say of an expensive one: a small linear model, honest about its error.

Every cheap statistic is turned into a normal score by its quantiles, so that neither units nor
outliers count. With X these, less their means in each domain, and y the normal scores of the truth
within each domain,

    w = argmin |y - X w|^2 + penalty |w|^2,     estimate u = w . (normal scores of a window)

u ranks windows of one domain, in about standard deviations of one. The penalty is the one of least
error on documents left out; errors reported are of documents left out once more. In each domain
the truth's normal score is a + b u +- error; between quantiles of the truth that puts u onto lines
in the truth's own unit, steep where windows lie far apart, and with as large an error there.

Shapes: N windows, C columns, Q knots, D windows of one domain.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from longattn.udfs.digest import hex_digest
from longattn.udfs.errors import ConfigError, ModelError, UserError
from longattn.udfs.scorers.base import (
    Score,
    Scorer,
    ScorerSpec,
    TokenIds,
    default_k,
    one_head,
)

FILE = "calibration.json"
FORMAT = 2
QUANTILES = (0.005, *(i / 20 for i in range(1, 20)), 0.995)
BENDS = (0.1, 0.3, 0.5, 0.7, 0.9)  # quantiles of the truth, the lines of a domain between them
PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # a window
FOLDS = 5
WIDTHS = (0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)

Floats = NDArray[np.float64]
Words = NDArray[np.str_]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One statistic of a cheap scorer, with its weight."""

    name: str  # as `statistics` calls it
    knots: tuple[float, ...]  # values, increasing,
    scores: tuple[float, ...]  # and the normal scores they stand for
    weight: float

    def of(self, values: Floats) -> Floats:
        """Normal scores of values; those beyond the knots are the last knot's."""
        normal_scores: Floats = np.interp(values, self.knots, self.scores)
        return normal_scores


@dataclass(frozen=True, kw_only=True)
class Line:
    """truth = intercept + slope u, give or take `error`."""

    intercept: float
    slope: float
    error: float


@dataclass(frozen=True, kw_only=True)
class Placing:
    """What u says of the truth in one domain."""

    knots: tuple[float, ...]  # values of u at which one line ends and the next begins, rising
    lines: tuple[Line, ...]  # one more
    error: float  # of the truth's normal scores
    windows: int
    documents: int
    spearman: float  # of estimates of left-out documents with the truth

    def of(self, u_N: Floats) -> tuple[Floats, Floats]:
        """Estimates of the truth [N], and their errors [N]."""
        table = np.array([(line.intercept, line.slope, line.error) for line in self.lines])
        intercept_N, slope_N, error_N = table[np.searchsorted(self.knots, u_N, side="right")].T
        return intercept_N + slope_N * u_N, error_N


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The content of calibration.json."""

    truth: ScorerSpec
    truth_version: str
    cheap: tuple[ScorerSpec, ...]
    columns: tuple[Column, ...]
    penalty: float
    error: float  # of u, for documents left out
    domains: dict[str, Placing]  # "" is any other
    tokenizer: str
    cheap_versions: tuple[str, ...] = ()  # of `cheap`; older files have none
    format: int = FORMAT

    @property
    def hash(self) -> str:
        return hex_digest(self.to_json())

    def estimate(self, statistics_: dict[str, Floats]) -> Floats:
        """u [N] of windows whose statistics, by name, are arrays [N]."""
        return weighted(self.columns, statistics_)

    @property
    def lines(self) -> list[tuple[str, float, float, float, float, float]]:
        """Domain, the first u and the one after the last, intercept, slope, error."""
        return [
            (domain, start, stop, line.intercept, line.slope, line.error)
            for domain, placing in self.domains.items()
            for start, stop, line in zip(
                (-np.inf, *placing.knots), (*placing.knots, np.inf), placing.lines, strict=True
            )
        ]

    def to_json(self) -> str:
        fields = asdict(self)
        if not self.cheap_versions:
            del fields["cheap_versions"]  # so that an older file keeps its hash
        return json.dumps(fields, indent=1, sort_keys=True)

    @staticmethod
    def read(folder: str) -> "Calibration":
        """Raises ModelError where there is no calibration, a broken one, or another format."""
        try:
            return _read(json.loads((Path(folder) / FILE).read_text(encoding="utf-8")), folder)
        except OSError:
            raise ModelError(
                f"score.model: no {FILE} in {folder}: make one with"
                f" `longattn scorer calibrate --config CONFIG --out {folder}`"
            ) from None
        except (ValueError, TypeError, LookupError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ModelError(f"score.model: {folder} is broken: {FILE}: {reason}") from None

    def write(self, folder: Path) -> None:
        """Replace the calibration in a folder; raises UserError as `refuse_taken` does."""
        refuse_taken(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(self.to_json() + "\n", encoding="utf-8")


def refuse_taken(folder: Path) -> None:
    """Raise UserError for a file, and for a folder of something else than a calibration."""
    if folder.is_file():
        raise UserError(f"--out {folder}: is a file: name a folder")
    if folder.exists() and any(folder.iterdir()) and not (folder / FILE).is_file():
        raise UserError(f"--out {folder}: exists and holds no {FILE}")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a calibration is fitted to: the truth and the cheap statistics of N windows."""

    statistics: dict[str, Floats]
    truth_N: Floats
    domain_N: Words
    document_N: Words

    def __len__(self) -> int:
        return len(self.truth_N)

    def rows(self, chosen_N: NDArray[np.bool_]) -> "Sample":
        return Sample(
            statistics={name: values[chosen_N] for name, values in self.statistics.items()},
            truth_N=self.truth_N[chosen_N],
            domain_N=self.domain_N[chosen_N],
            document_N=self.document_N[chosen_N],
        )


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a cascade of one width costs and gives on the sample."""

    width: float
    exact: float  # share of windows scored exactly
    common: float  # share of the exact selection that is kept
    lift: float  # of what is kept; the mean over domains


def statistics(scorer: str, score: Score) -> dict[str, float]:
    """What a calibration may use of a score: ds and du; of several heads their S1 / L and S2 / L.

    For example `cohesion.ds`, `longattn.s1[3]`.
    """
    if len(score["head_s1"]) == 1:
        return {f"{scorer}.ds": score["ds"], f"{scorer}.du": score["du"]}
    values: dict[str, float] = {}
    for head, (s1, s2) in enumerate(zip(score["head_s1"], score["head_s2"], strict=True)):
        values[f"{scorer}.s1[{head}]"] = s1 / score["n_tokens"]
        values[f"{scorer}.s2[{head}]"] = s2 / score["n_tokens"]
    return values


def run_as(what: ScorerSpec, how: ScorerSpec) -> ScorerSpec:
    """A scorer with another one's device, threads and batches, which no score depends on."""
    run = {"device": how.device, "threads": how.threads, "batch_tokens": how.batch_tokens}
    return replace(what, **run)  # type: ignore[arg-type]


def weighted(columns: Sequence[Column], statistics_: dict[str, Floats]) -> Floats:
    """The weighted sum [N] of the columns' normal scores."""
    score_NC = np.stack([column.of(statistics_[column.name]) for column in columns], axis=1)
    weight_C = np.array([column.weight for column in columns])
    total: Floats = score_NC @ weight_C
    return total


def fit(sample: Sample, penalty: float) -> tuple[Column, ...]:
    """The columns with their weights, least squares with a penalty a window."""
    plain = [_column(name, values) for name, values in sample.statistics.items()]
    x_NC = np.stack([column.of(sample.statistics[column.name]) for column in plain], axis=1)
    y_N = np.empty(len(sample))
    for mine_N in _domains(sample.domain_N):
        x_NC[mine_N] -= x_NC[mine_N].mean(0)
        y_N[mine_N] = _normal_scores(sample.truth_N[mine_N])
    ridge_CC = x_NC.T @ x_NC + penalty * len(sample) * np.eye(x_NC.shape[1])
    weight_C = np.linalg.solve(ridge_CC, x_NC.T @ y_N)
    weights = zip(plain, weight_C.tolist(), strict=True)
    return tuple(replace(column, weight=weight) for column, weight in weights)


def best_penalty(sample: Sample) -> float:
    """The penalty of least error on documents left out."""
    errors = [_squared_error(sample, estimates(sample, penalty)) for penalty in PENALTIES]
    return PENALTIES[int(np.argmin(errors))]


def estimates(sample: Sample, penalty: float | None = None) -> Floats:
    """u [N] of each document from the other folds; None chooses the penalty inside these too."""
    u_N = np.empty(len(sample))
    for left_out_N in _folds(sample):
        rest = sample.rows(~left_out_N)
        columns = fit(rest, best_penalty(rest) if penalty is None else penalty)
        mine = sample.rows(left_out_N).statistics
        u_N[left_out_N] = weighted(columns, mine)
    return u_N


def placings(sample: Sample, u_N: Floats) -> dict[str, Placing]:
    """What u says in each domain, and under "" in all of them together."""
    by_domain = {"": _placing(sample, u_N, np.ones(len(sample), dtype=bool))}
    for mine_N in _domains(sample.domain_N):
        by_domain[str(sample.domain_N[mine_N][0])] = _placing(sample, u_N, mine_N)
    return by_domain


def cascade(
    truth_D: Floats, estimate_D: Floats, error_D: Floats, keep: int, width: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which windows of a domain a cascade scores exactly [D], and which it keeps [D].

    The cut lies midway between the last window kept and the first one not kept; what lies within
    `width` errors of it is scored exactly, until nothing is left there.
    """
    exact_D = np.zeros(len(truth_D), dtype=bool)
    while True:
        known_D = np.where(exact_D, truth_D, estimate_D)
        order_D = np.argsort(-known_D, kind="stable")
        kept_D = np.zeros_like(exact_D)
        kept_D[order_D[:keep]] = True
        if keep >= len(truth_D):
            return exact_D, kept_D
        cut = known_D[order_D[keep - 1 : keep + 1]].mean()
        near_D = ~exact_D & (np.abs(known_D - cut) <= width * error_D)
        if not near_D.any():
            return exact_D, kept_D
        exact_D |= near_D


def costs(sample: Sample, u_N: Floats, fraction: float) -> list[Cost]:
    """What cascades of several widths cost and give, where `fraction` of each domain is kept."""
    placed = placings(sample, u_N)
    rows = []
    for width in WIDTHS:
        exact = common = wanted = 0
        lifts = []
        for mine_N in _domains(sample.domain_N):
            truth_D = sample.truth_N[mine_N]
            keep = max(1, int(fraction * len(truth_D) + 0.5))
            estimate_D, error_D = placed[str(sample.domain_N[mine_N][0])].of(u_N[mine_N])
            exact_D, kept_D = cascade(truth_D, estimate_D, error_D, keep, width)
            best = np.argsort(-truth_D, kind="stable")[:keep]
            exact, common = exact + int(exact_D.sum()), common + int(kept_D[best].sum())
            wanted += keep
            lifts.append(lift(truth_D, np.flatnonzero(kept_D), best))
        known = [one for one in lifts if not np.isnan(one)]
        shares = {"exact": exact / len(sample), "common": common / wanted}
        rows.append(Cost(width=width, **shares, lift=float(np.mean(known)) if known else np.nan))
    return rows


def lift(truth_D: Floats, kept: NDArray[np.int64], best: NDArray[np.int64]) -> float:
    """What a choice adds to the mean of all windows, as a share of what the best choice adds.

    Choices are indices. nan where the best choice adds nothing.
    """
    added, most = (float(truth_D[chosen].mean() - truth_D.mean()) for chosen in (kept, best))
    return added / most if most > 0 else np.nan


def calibrate(
    sample: Sample, *, truth: ScorerSpec, version: str, cheap: Sequence[ScorerSpec], tokenizer: str
) -> tuple[Calibration, Floats]:
    """The calibration of a sample, and its estimates of left-out documents [N].

    Raises ConfigError for fewer documents than folds.
    """
    from longattn.udfs.scorers.registry import scorer_version

    if len(np.unique(sample.document_N)) < 2 * FOLDS:
        raise ConfigError(
            f"scorer calibrate: {len(np.unique(sample.document_N))} documents with all scores;"
            f" {2 * FOLDS} are needed to leave some out"
        )
    u_N = estimates(sample)
    penalty = best_penalty(sample)
    made = Calibration(
        truth=truth,
        truth_version=version,
        cheap=tuple(cheap),
        columns=fit(sample, penalty),
        penalty=penalty,
        error=float(np.sqrt(_squared_error(sample, u_N))),
        domains=placings(sample, u_N),
        tokenizer=tokenizer,
        cheap_versions=tuple(map(scorer_version, cheap)),
    )
    return made, u_N


def calibrated_version(spec: ScorerSpec) -> str:
    """For example `calibrated:ab12cd34:fargain:SmolLM2-135M@ab12cd34:k=L/4:d=k:f32`."""
    calibration = Calibration.read(spec.model)
    return f"calibrated:{calibration.hash[:8]}:{calibration.truth_version}"


def load_calibrated(spec: ScorerSpec) -> "Calibrated":
    """Load the cheap scorers that the calibration in score.model uses."""
    from longattn.udfs.scorers.registry import load_scorer

    calibration = Calibration.read(spec.model)
    scorers = {cheap.scorer: load_scorer(run_as(cheap, spec)) for cheap in calibration.cheap}
    _refuse_changed(calibration, [scorer.version for scorer in scorers.values()])
    return Calibrated(calibration, scorers, calibrated_version(spec))


def _refuse_changed(calibration: Calibration, versions: Sequence[str]) -> None:
    """Raise ModelError where a cheap scorer is not the one that estimates were fitted to."""
    for was, now in zip(calibration.cheap_versions, versions, strict=False):  # older: nothing
        if was != now:
            raise ModelError(f"score.model: calibrated with {was}, now {now}: calibrate again")


class Calibrated:
    """DS is the estimate u, its standard error that of documents left out; DU is 0."""

    def __init__(self, calibration: Calibration, scorers: dict[str, Scorer], version: str) -> None:
        self.calibration = calibration
        self.scorers = scorers
        self.version = version

    def refusal(self, token_ids: TokenIds) -> tuple[str, str] | None:
        """Reason and detail for a window that one of the cheap scorers cannot score."""
        refusals = (scorer.refusal(token_ids) for scorer in self.scorers.values())
        return next((refusal for refusal in refusals if refusal is not None), None)

    def score(self, token_ids: list[TokenIds]) -> list[Score]:
        columns: dict[str, list[float]] = {}
        for name, scorer in self.scorers.items():
            for score in scorer.score(token_ids):
                for column, value in statistics(name, score).items():
                    columns.setdefault(column, []).append(value)
        u_B = self.calibration.estimate({name: np.array(x) for name, x in columns.items()})
        return [self._score_one(ids, float(u)) for ids, u in zip(token_ids, u_B, strict=True)]

    def _score_one(self, token_ids: TokenIds, u: float) -> Score:
        k = self.calibration.truth.k or default_k(len(token_ids))
        return {**one_head(len(token_ids), k, ds=u, du=0.0), "ds_se": self.calibration.error}


def _column(name: str, values: Floats) -> Column:
    """Knots at the quantiles of the values; those that coincide share the mean of their scores."""
    normal = np.array([NormalDist().inv_cdf(q) for q in QUANTILES])
    knots, which = np.unique(np.quantile(values, QUANTILES), return_inverse=True)
    scores = np.bincount(which, normal) / np.bincount(which)
    return Column(name=name, knots=tuple(knots.tolist()), scores=tuple(scores.tolist()), weight=0.0)


def _normal_scores(values: Floats) -> Floats:
    """Normal quantiles of ranks, ties in their order."""
    n = len(values)
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return np.array([NormalDist().inv_cdf((r + 0.5) / n) for r in rank])


def _domains(domain_N: Words) -> Iterator[NDArray[np.bool_]]:
    for domain in np.unique(domain_N):
        yield domain_N == domain


def _folds(sample: Sample) -> Iterator[NDArray[np.bool_]]:
    """Which windows are left out, document by document; the same ones every time."""
    fold_of = {
        document: int(hex_digest(str(document))[:8], 16)
        for document in np.unique(sample.document_N)
    }
    order = sorted(fold_of, key=lambda document: fold_of[document])
    number = {document: place % FOLDS for place, document in enumerate(order)}
    fold_N = np.array([number[document] for document in sample.document_N])
    for fold in range(FOLDS):
        yield fold_N == fold


def _squared_error(sample: Sample, u_N: Floats) -> float:
    """Of u against the truth's normal scores, both less their mean, over domains."""
    total = 0.0
    for mine_N in _domains(sample.domain_N):
        difference = _normal_scores(sample.truth_N[mine_N]) - u_N[mine_N]
        total += float(((difference - difference.mean()) ** 2).sum())
    return total / len(sample)


def _placing(sample: Sample, u_N: Floats, mine_N: NDArray[np.bool_]) -> Placing:
    u_D, truth_D = u_N[mine_N], sample.truth_N[mine_N]
    slope, error = _regression(u_D, _normal_scores(truth_D))
    intercept = -slope * float(u_D.mean())  # normal scores have a mean of 0
    bends = np.array([NormalDist().inv_cdf(q) for q in BENDS])
    knots, lines = _lines(np.quantile(truth_D, BENDS), bends, intercept, slope, error)
    return Placing(
        knots=knots,
        lines=lines,
        error=error,
        windows=len(u_D),
        documents=len(np.unique(sample.document_N[mine_N])),
        spearman=spearman(u_D, truth_D),
    )


def _regression(u_D: Floats, y_D: Floats) -> tuple[float, float]:
    """The slope of y on u, and the error it leaves; 0 where it would turn the order round."""
    centred_D = u_D - u_D.mean()
    spread = float((centred_D**2).sum())
    slope = max(float((centred_D * y_D).sum()) / spread, 0.0) if spread > 0 else 0.0
    left = y_D - y_D.mean() - slope * centred_D
    return slope, float(np.sqrt((left**2).sum() / max(len(left) - 2, 1)))


def _lines(
    truth_Q: Floats, normal_Q: Floats, intercept: float, slope: float, error: float
) -> tuple[tuple[float, ...], tuple[Line, ...]]:
    """Knots in u, and lines that take a normal score intercept + slope u to the truth's unit.

    They run through the quantiles `truth_Q` at `normal_Q`; the outer ones go on beyond.
    """
    steep_P = np.diff(truth_Q) / np.diff(normal_Q)
    at_P = truth_Q[:-1] - steep_P * normal_Q[:-1]

    def truth_of(z: float) -> float:
        piece = np.clip(np.searchsorted(normal_Q, z) - 1, 0, len(steep_P) - 1)
        return float(at_P[piece] + steep_P[piece] * z)

    def line(piece: int, middle: float) -> Line:
        reach = (truth_of(middle + error) - truth_of(middle - error)) / 2
        raised = float(at_P[piece] + steep_P[piece] * intercept)
        return Line(intercept=raised, slope=float(steep_P[piece] * slope), error=reach)

    if slope == 0:
        return (), (line(len(steep_P) // 2, 0.0),)
    knots = tuple(((normal_Q[1:-1] - intercept) / slope).tolist())
    middles = (normal_Q[:-1] + normal_Q[1:]) / 2
    return knots, tuple(line(piece, middle) for piece, middle in enumerate(middles))


def _read(fields: dict[str, Any], folder: str) -> Calibration:
    """A calibration of what JSON makes of one, in which tuples are lists."""
    if fields["format"] != FORMAT:
        raise ModelError(
            f"{folder}: calibration of format {fields['format']}; this is {FORMAT}:"
            " make it again with `longattn scorer calibrate`, which takes the scores there are"
        )
    truth, *cheap = (
        ScorerSpec.from_json(json.dumps(spec)) for spec in (fields["truth"], *fields["cheap"])
    )
    columns = tuple(
        Column(**{**c, "knots": tuple(c["knots"]), "scores": tuple(c["scores"])})
        for c in fields["columns"]
    )
    domains = {name: _placing_read(kept) for name, kept in fields["domains"].items()}
    versions = tuple(fields.get("cheap_versions", ()))
    read = {"truth": truth, "cheap": tuple(cheap), "cheap_versions": versions}
    return Calibration(**{**fields, **read, "columns": columns, "domains": domains})


def _placing_read(fields: dict[str, Any]) -> Placing:
    lines = tuple(Line(**line) for line in fields["lines"])
    return Placing(**{**fields, "knots": tuple(fields["knots"]), "lines": lines})


def spearman(x: Floats, y: Floats) -> float:
    """Spearman's rank correlation, ties at their mean rank; 0 where one does not vary."""
    if min(np.ptp(values) for values in (x, y)) == 0:
        return 0.0
    return float(np.corrcoef(pd.Series(x).rank(), pd.Series(y).rank())[0, 1])
