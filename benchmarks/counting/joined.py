"""Does `seams` tell one text from several joined? python -m benchmarks.counting.joined.

After bin/fetch_demo.py --unseen. In every domain, windows of one document beside windows of 2, 4, 8
and 16 of its documents joined, and beside the same windows with their paragraphs shuffled. AUC 0.5
is a coin, 1 is always right. The background is counted on the documents of all domains.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.counting.background import Documents, counted
from benchmarks.evidence.corpus import Tokens, Vocabulary, passage, shuffled, windows
from benchmarks.evidence.gain import DATA, JUDGES, domains
from benchmarks.evidence.intervals import Vector, auc_interval, wins
from benchmarks.evidence.markdown import head, row
from longattn.udfs.scorers.base import Scorer, ScorerSpec
from longattn.udfs.scorers.registry import load_scorer

LENGTH = 8192
PIECES = (2, 4, 8, 16)
FEWEST = 10  # documents of a domain that fill a window
BROKEN = (*(f"{count} joined" for count in PIECES), "shuffled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=30, help="of each domain and kind")
    options = parser.parse_args()
    tokenizer = JUDGES["SmolLM2-135M"].tokenizer
    documents, vocabulary = domains(DATA, tokenizer), Vocabulary.of(tokenizer)
    with TemporaryDirectory() as folder:
        scorers = {
            f"seams, {size}": scorer_of(background.folder)
            for size, background in counted(documents, Path(folder)).items()
        }
        scorers |= {
            "seams, none": scorer_of(None),
            "cohesion": load_scorer(ScorerSpec(scorer="cohesion")),
        }
        for line in tables(documents, vocabulary, scorers, options.windows):
            print(line, flush=True)


def scorer_of(folder: Path | None) -> Scorer:
    return load_scorer(ScorerSpec(scorer="seams", background=str(folder) if folder else None))


def tables(
    documents: Documents, vocabulary: Vocabulary, scorers: dict[str, Scorer], count: int
) -> Iterator[str]:
    """AUC by scorer, the mean over domains; then those of the largest background by domain."""
    rng = np.random.default_rng(0)
    by_domain = {
        domain: aucs(domain, texts, vocabulary, scorers, count, rng)
        for domain, texts in documents.items()
        if sum(len(ids) >= LENGTH for ids in texts.values()) >= FEWEST
    }
    yield from head("one text against", *BROKEN)
    for name in scorers:
        means = np.mean([by_scorer[name] for by_scorer in by_domain.values()], axis=0)
        yield row(name, *(f"{auc[0]:.2f}" for auc in means))
    best = [name for name in scorers if name.startswith("seams")][-2]
    yield f"\n{best}:\n"
    yield from head("domain", *BROKEN)
    for domain, by_scorer in by_domain.items():
        yield row(
            domain, *(f"{a:.2f} ({low:.2f} to {high:.2f})" for a, low, high in by_scorer[best])
        )


Auc = tuple[float, float, float]  # with the ends of its interval


def aucs(
    domain: str,
    texts: dict[str, Tokens],
    vocabulary: Vocabulary,
    scorers: dict[str, Scorer],
    count: int,
    rng: np.random.Generator,
) -> dict[str, list[Auc]]:
    """For every scorer the AUC of whole windows of a domain against each kind of BROKEN."""
    whole = windows(domain, texts, LENGTH, count, rng)
    broken = [[joined(list(texts.values()), pieces, rng) for _ in whole] for pieces in PIECES]
    broken.append([shuffled(window.token_ids, vocabulary, rng) for window in whole])
    names = [window.document for window in whole]
    by_scorer = {}
    for name, scorer in scorers.items():
        real = score(scorer, [window.token_ids for window in whole])
        by_scorer[name] = [
            auc_interval((wins(real, score(scorer, some)), names)) for some in broken
        ]
    return by_scorer


def joined(documents: list[Tokens], pieces: int, rng: np.random.Generator) -> Tokens:
    """A window of pieces of different documents."""
    size = LENGTH // pieces
    long = [ids for ids in documents if len(ids) >= size]
    order = rng.permutation(len(long))[np.arange(pieces) % len(long)]
    return np.concatenate([passage([long[i]], size, rng) for i in order])


def score(scorer: Scorer, token_ids: list[Tokens]) -> Vector:
    return np.array([one["ds"] for one in scorer.score(token_ids)])


if __name__ == "__main__":
    main()
