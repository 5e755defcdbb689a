"""What scorers say of the windows that a model has judged; each score is worked out once."""

import json
import time
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.evidence.gain import Judge, Judged, K, Place, of_each_domain
from benchmarks.evidence.intervals import Vector, standardised
from benchmarks.evidence.workers import workers
from longattn.udfs.scorers.base import Scorer, ScorerSpec
from longattn.udfs.scorers.kinds.calibrated import FOLDS, Cost, Sample, costs, estimates
from longattn.udfs.scorers.kinds.fargain import measures
from longattn.udfs.scorers.registry import load_scorer, scorer_version

ALPHA = 0.5  # of LDS, as published
FILE = "scores.jsonl"  # beside the losses
JUDGE = "fargain"
PAIRS = 125  # of segments, for prolong: 500 are published for four times as many tokens
FEWEST = 5  # windows of a domain: with fewer its rank correlation says nothing

KINDS = {
    **dict.fromkeys(["tex", "unseen TeX manuals"], "TeX"),
    **dict.fromkeys(["code", "unseen code", "go", "java", "rust", "javascript", "coq"], "code"),
    **dict.fromkeys(["perl pod", "debian manuals"], "manuals"),
}  # the other domains are prose

MEASURES = ("ratio",)  # beside a scorer's ds: of compress
FROM_TRUTH = {"mean gain": "gain", "key tokens": "key"}  # measures of the judge, beside its ds

CHEAP = {
    "recall": ScorerSpec(scorer="recall"),
    "compress": ScorerSpec(scorer="compress"),
    "recurrence, k = 1,024": ScorerSpec(scorer="recurrence", k=K),
    "recurrence": ScorerSpec(scorer="recurrence"),
    "cohesion": ScorerSpec(scorer="cohesion"),
    "random": ScorerSpec(scorer="random"),
}


CALIBRATED = ("recall", "compress", "recurrence", "cohesion")  # as `scorer calibrate` does


def reading(judge: Judge) -> dict[str, ScorerSpec]:
    """Scorers that read the judge's first layer of full attention."""
    one_layer = ScorerSpec(
        scorer="longattn", model=str(judge.scorer), layers=(judge.layer,), device="cpu"
    )
    return {"longattn DS": one_layer}


def reading_all(judge: Judge) -> dict[str, ScorerSpec]:
    """Scorers that read all of the judge's layers."""

    whole = ScorerSpec(scorer="longattn", model=str(judge.model), dtype="bfloat16", device="cpu")
    ladm = replace(whole, scorer="ladm")
    return {
        "ladm, paper": replace(ladm, variant="paper"),
        "ladm, code": replace(ladm, variant="code"),
        "prolong": replace(whole, scorer="prolong", pairs=PAIRS),
    }


def scored(judged: list[Judged], judge: Judge, folder: Path) -> pd.DataFrame:
    """A row for each window and score there is.

    Columns: domain, kind, document, file, scorer, ds, truth, seconds, and MEASURES where a scorer
    has them. Scores of CHEAP and of the judge's layer are worked out here where they are missing.
    """
    work_out(judged, CHEAP | reading(judge), folder)
    known = pd.DataFrame(read_scores(folder))
    specs = CHEAP | reading(judge) | reading_all(judge)
    names = {scorer_version(spec): name for name, spec in specs.items()}
    known["scorer"] = known.version.map(names)
    rows = known.dropna(subset="scorer").merge(described(judged), on="file")
    parts = [rows, of_the_judge(judged), lds_of(rows), calibrated(rows)]
    columns = ["domain", "kind", "document", "file", "scorer", "ds", "truth", "seconds", *MEASURES]
    return pd.concat(parts, ignore_index=True)[columns]


def described(judged: list[Judged]) -> pd.DataFrame:
    rows = [
        {
            "file": window.place.file,
            "domain": window.place.domain,
            "kind": kind_of(window.place),
            "document": window.place.document,
            "truth": float(window.gain.mean()),
        }
        for window in judged
    ]
    return pd.DataFrame(rows)


def by_domain(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each domain that has enough windows to be ranked."""
    return [some for _, some in rows.groupby("domain") if len(some) >= FEWEST]


def kind_of(place: Place) -> str:
    return KINDS.get(place.domain, "prose")


def of_the_judge(judged: list[Judged]) -> pd.DataFrame:
    """The judge's own time, and what else its losses say: mean gain, share of key tokens."""
    table = described(judged).assign(seconds=[window.seconds for window in judged])
    said = [measures(w.long.astype(float), w.short.astype(float), 2 * K) for w in judged]
    return pd.concat(
        [
            table.assign(scorer=JUDGE, ds=table.truth),
            *(
                table.assign(scorer=name, ds=[one[measure] for one in said])
                for name, measure in FROM_TRUTH.items()
            ),
        ]
    )


def lds_of(scores: pd.DataFrame) -> pd.DataFrame:
    """LDS of longattn, standardised within the domain; none of a single window."""
    rows = scores[scores.scorer == "longattn DS"].assign(scorer="longattn LDS")
    groups = [some for _, some in rows.groupby("domain") if len(some) > 1]
    return pd.concat([rows[:0], *(some.assign(ds=_lds(some)) for some in groups)])


def _lds(rows: pd.DataFrame) -> Vector:
    """Standardised over the rows that are compared (paper eq. 8)."""
    ds, du = rows.ds.to_numpy(float), rows.du.to_numpy(float)
    return standardised(ds) + ALPHA * standardised(du)


def calibrated(scores: pd.DataFrame) -> pd.DataFrame:
    """What a calibration on the other documents says of each window; nothing of a few documents."""
    sample, table = calibration_sample(scores)
    if len(np.unique(sample.document_N)) < 2 * FOLDS:
        return scores.iloc[:0]
    spent = scores[scores.scorer.isin(CALIBRATED)].groupby("file").seconds.sum()
    return table.assign(scorer="calibrated", ds=estimates(sample), seconds=spent).reset_index()


def cascades(scores: pd.DataFrame, fraction: float) -> list[Cost]:
    """What cascades of several widths would cost and give, a fraction of each domain kept.

    Nothing where the documents are too few to calibrate on.
    """
    rows = scores[scores.scorer == "calibrated"]
    if rows.empty:
        return []
    sample = Sample(
        statistics={},
        truth_N=rows.truth.to_numpy(),
        domain_N=rows.domain.to_numpy(dtype=str),
        document_N=rows.document.to_numpy(dtype=str),
    )
    return costs(sample, rows.ds.to_numpy(), fraction)


def calibration_sample(scores: pd.DataFrame) -> tuple[Sample, pd.DataFrame]:
    """The windows' truth and cheap statistics, and a table of the windows in the same order."""
    wide = scores.pivot_table(index="file", columns="scorer", values=["ds", "du"])
    statistics = {f"{c}.{name}": wide[name, c] for name in ("ds", "du") for c in CALIBRATED}
    table = scores[scores.scorer == CALIBRATED[0]].set_index("file").loc[wide.index]
    sample = Sample(
        statistics={n: v.to_numpy() for n, v in statistics.items() if v.nunique() > 1},
        truth_N=table.truth.to_numpy(),
        domain_N=table.domain.to_numpy(dtype=str),
        document_N=table.document.to_numpy(dtype=str),
    )
    return sample, table


def work_out(
    judged: list[Judged],
    specs: dict[str, ScorerSpec],
    folder: Path,
    minutes: float = np.inf,
    processes: int = 2,
) -> None:
    """Add the scores that are missing to the folder's file, starting none after so many minutes."""
    known = {(row["version"], row["file"]) for row in read_scores(folder)}
    in_turn = of_each_domain(judged, len(judged))  # so that a run cut short has some of each
    wanted = [
        (spec, window)
        for window in in_turn
        for spec in specs.values()
        if (scorer_version(spec), window.place.file) not in known
    ]
    one = partial(_work_out_one, end=time.time() + 60 * minutes)
    with (folder / FILE).open("a") as file, workers(processes) as pool:
        for row in filter(None, pool.imap(one, wanted)):
            file.write(json.dumps(row) + "\n")
            file.flush()


def read_scores(folder: Path) -> list[dict[str, object]]:
    path = folder / FILE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _work_out_one(wanted: tuple[ScorerSpec, Judged], end: float) -> dict[str, object] | None:
    if time.time() > end:
        return None
    spec, window = wanted
    scorer = _loaded(spec)
    started = time.process_time()
    (score,) = scorer.score([window.token_ids])
    return {
        "version": scorer.version,
        "file": window.place.file,
        "ds": score["ds"],
        "du": score["du"],
        "seconds": time.process_time() - started,
        **score.get("measures", {}),
    }


@cache
def _loaded(spec: ScorerSpec) -> Scorer:
    """A scorer that is warm: its first window would pay for what is set up once."""
    scorer = load_scorer(spec)
    scorer.score([np.arange(4096) % 997])
    return scorer
