"""Does a score tell coherent text from broken text? python -m benchmarks.evidence.broken.

Prints the tables of docs/evidence/broken-text.md. Windows of real documents are scored beside the
same windows broken in known ways; AUC 0.5 is a coin, 1 is always right.
"""

import argparse
from collections.abc import Iterable, Iterator
from functools import cache, partial
from itertools import count

import numpy as np
import pandas as pd
from tokenizers import Tokenizer

from benchmarks.evidence.corpus import Tokens, Vocabulary, Window, demo_documents, versions, windows
from benchmarks.evidence.filters import BROKEN, NOISE, refused_table
from benchmarks.evidence.gain import DATA, JUDGES
from benchmarks.evidence.intervals import Matrix, Vector, auc_interval, standardised, wins
from benchmarks.evidence.markdown import head, row
from benchmarks.evidence.unseen import unseen_documents
from benchmarks.evidence.workers import workers
from longattn.udfs.scorers.base import Scorer, ScorerSpec
from longattn.udfs.scorers.registry import load_scorer

SMOLLM2 = JUDGES["SmolLM2-135M"]
SCORERS = ("longattn", "cohesion", "recurrence", "recall", "compress", "random")
ALPHA = 0.5  # of LDS, as published
PLANTED = ("copy", "foreign")
REAL = "real"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--unseen", action="store_true", help="documents of other packages")
    parser.add_argument("--windows", type=int, default=12, help="per domain")
    parser.add_argument("--length", type=int, default=8192, help="tokens of a window")
    parser.add_argument("--scorers", nargs="+", default=list(SCORERS))
    parser.add_argument("--versions", nargs="+", default=[*BROKEN, *NOISE, *PLANTED])
    parser.add_argument("--processes", type=int, default=2, help="of one thread each")
    options = parser.parse_args()
    table = scored(options)
    print("\n".join(auc_table(table, options.versions)))
    if {"cohesion", "compress"} <= set(options.scorers):
        print("\n" + "\n".join(refused_table(table)))


def scored(options: argparse.Namespace) -> pd.DataFrame:
    """A row for each window, version and scorer: domain, document, ds, du and measures."""
    tokenizer = Tokenizer.from_file(str(SMOLLM2.scorer / "tokenizer.json"))
    documents = (
        unseen_documents(DATA / "packages", tokenizer)
        if options.unseen
        else demo_documents(DATA / "demo", tokenizer)
    )
    rng, number = np.random.default_rng(0), count()
    chosen = [
        (next(number), window)
        for domain, texts in documents.items()
        for window in windows(domain, texts, options.length, options.windows, rng)
    ]
    specs = {name: spec_of(name) for name in options.scorers}
    score = partial(
        score_window,
        vocabulary=Vocabulary.of(tokenizer),
        specs=specs,
        wanted=(REAL, *options.versions),
    )
    with workers(options.processes) as pool:
        return pd.DataFrame([row for rows in pool.imap(score, chosen) for row in rows])


def spec_of(name: str) -> ScorerSpec:
    """The scorer as it is by default, on the CPU."""
    whole = name in ("fargain", "ladm", "prolong")
    model = str(SMOLLM2.model if whole else SMOLLM2.scorer)
    return ScorerSpec(scorer=name, model=model, device="cpu")


def score_window(
    numbered: tuple[int, Window],
    vocabulary: Vocabulary,
    specs: dict[str, ScorerSpec],
    wanted: Iterable[str],
) -> list[dict[str, object]]:
    """The rows of one window, the same ones whichever process works them out."""
    number, window = numbered
    texts = versions(window, vocabulary, np.random.default_rng([number, len(window.token_ids)]))
    place = {"domain": window.domain, "document": window.document, "window": number}
    return [
        {**place, "scorer": name, "version": version, **_score(_loaded(spec), texts[version])}
        for name, spec in specs.items()
        for version in wanted
    ]


@cache
def _loaded(spec: ScorerSpec) -> Scorer:
    return load_scorer(spec)


def _score(scorer: Scorer, token_ids: Tokens) -> dict[str, object]:
    (score,) = scorer.score([token_ids])
    return {"ds": score["ds"], "du": score["du"], **score.get("measures", {})}


def auc_table(table: pd.DataFrame, broken: Iterable[str]) -> Iterator[str]:
    """AUC of real windows against broken ones, and of a far copy against a foreign passage."""
    sides = [(REAL, name) for name in broken if name not in PLANTED]
    if set(PLANTED) <= set(broken):
        sides.append(PLANTED)
    yield from head("windows", "scorer", *table.domain.unique())
    for both in sides:
        for scorer, rows in table.groupby("scorer", sort=False):
            yield row(" against ".join(both), str(scorer), *aucs(rows, *both))
            if scorer == "longattn":
                yield row(" against ".join(both), "longattn, LDS", *aucs(rows, *both, ALPHA))


def aucs(rows: pd.DataFrame, positive: str, negative: str, alpha: float = 0.0) -> Iterator[str]:
    """AUC within each domain, with its interval over documents."""
    for _, some in rows.groupby("domain", sort=False):
        value, low, high = auc_interval(pairs_won(some, positive, negative, alpha))
        yield f"{value:.2f} [{low:.2f}, {high:.2f}]"


def pairs_won(
    rows: pd.DataFrame, positive: str, negative: str, alpha: float
) -> tuple[Matrix, list[str]]:
    """`wins` of one domain and the windows' documents; LDS is standardised over both sides."""
    sides = [rows[rows.version == name].sort_values("window") for name in (positive, negative)]
    both = pd.concat(sides)
    values: Vector = both.ds.to_numpy(float)
    if alpha:
        values = standardised(values) + alpha * standardised(both.du.to_numpy(float))
    return wins(*np.split(values, 2)), list(sides[0].document)


if __name__ == "__main__":
    main()
