"""What a background is worth to recall, by its size and its weight.

python -m benchmarks.counting.background, after bin/fetch_demo.py --unseen. Counts the documents of
all domains, so many tokens of them drawn at random, and scores the judged windows (gain.py) with
each such background. The window's own document is left out of what it is judged by, as always.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.counting.counts import apart, with_others
from benchmarks.evidence.agreement import within
from benchmarks.evidence.corpus import Tokens
from benchmarks.evidence.gain import DATA, JUDGED, JUDGES, Judged, K, domains, read
from benchmarks.evidence.intervals import Vector, interval, redrawn, spearman
from benchmarks.evidence.markdown import head, row
from longattn.udfs.scorers.background import Background, write_counted
from longattn.udfs.scorers.kinds.recall import WEIGHT, far_gain, share

SIZES = (100_000, 1_000_000, 10_000_000, 100_000_000)  # tokens
WEIGHTS = (1.0, WEIGHT, 100.0, 1000.0)
TOP = 8  # one window in so many is kept

Documents = dict[str, dict[str, Tokens]]


@dataclass(frozen=True)
class Known:
    """What recall knows of tokens before it reads a window."""

    background: Background | None
    weight: float = WEIGHT

    def gain(self, token_ids: Tokens) -> Vector:
        if self.background is None:
            return far_gain(token_ids, K)
        return far_gain(token_ids, K, self.background.known(token_ids)[0], self.weight)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--judged", type=Path, default=JUDGED, help="folder of losses")
    options = parser.parse_args()
    judged = read(options.judged)
    documents = domains(DATA, JUDGES["SmolLM2-135M"].tokenizer)
    with TemporaryDirectory() as folder:
        backgrounds = counted(documents, Path(folder))
        for line in tables(judged, documents, backgrounds):
            print(line, flush=True)


def counted(documents: Documents, folder: Path) -> dict[str, Background]:
    """A background of each size, by what to call it; the last one has all documents."""
    texts = [ids for some in documents.values() for ids in some.values()]
    order = np.random.default_rng(0).permutation(len(texts))
    ends = np.cumsum([len(texts[i]) for i in order])
    made = {}
    for size in SIZES:
        drawn = order[: np.searchsorted(ends, size) + 1]
        tokens = ends[len(drawn) - 1]
        folder_of = write_counted(folder, (texts[i] for i in drawn), tokenizer="SmolLM2")
        made[f"{tokens / 1e6:.1f} million tokens"] = Background(folder_of)
    return made


def tables(
    judged: list[Judged], documents: Documents, backgrounds: dict[str, Background]
) -> Iterator[str]:
    whole = Known(list(backgrounds.values())[-1])
    yield "### recall with backgrounds of several sizes"
    sizes = {name: Known(background) for name, background in backgrounds.items()}
    yield from agreement_table(judged, {"none": Known(None), **sizes})
    yield "\n### The largest, by its weight"
    weights = {f"weight {weight:g}": replace(whole, weight=weight) for weight in WEIGHTS}
    yield from agreement_table(judged, weights)
    yield f"\n### Boilerplate, of all windows and of the {1 / TOP:.1%} that recall ranks highest"
    yield from boilerplate_table(documents, whole)


def agreement_table(judged: list[Judged], knowns: dict[str, Known]) -> Iterator[str]:
    """Agreement with the judge: within domains, and of the places of a window.

    Within domains is the rank correlation of all windows, by logarithms less their domain's mean,
    as few windows of a domain are judged.
    """
    several = with_others(judged)
    domains, documents = (
        np.array([getattr(window.place, field) for window in several])
        for field in ("domain", "document")
    )
    truth = apart(np.array([float(window.gain.mean()) for window in several]), domains)
    yield from head("background", f"within domains, {len(several)} windows", "blocks of 256 tokens")
    for name, known in knowns.items():
        gains = apart(np.array([known.gain(w.token_ids).mean() for w in several]), domains)
        draws = np.array([spearman(gains[i], truth[i]) for i in redrawn(documents)])
        places = np.mean([within(window, known.gain) for window in judged])
        yield row(name, interval(draws), f"{places:.2f}")


def boilerplate_table(documents: Documents, known: Known) -> Iterator[str]:
    """Share of the gain that stands at the end of widespread n-grams, without and with it."""
    yield from head("domain", "windows", "all", "the best, no background", "with background")
    for domain, texts in documents.items():
        windows = [ids[:8192] for ids in texts.values() if len(ids) >= 8192][:100]
        if len(windows) >= 2 * TOP and known.background:
            shares = boilerplate(windows, Known(None), known)
            yield row(domain, str(len(windows)), *(f"{one:.1%}" for one in shares))


def boilerplate(windows: list[Tokens], plain: Known, known: Known) -> tuple[float, float, float]:
    """Of the plain gain of all windows and of the best; of the other gain of its own best."""
    assert known.background
    which = [known.background.known(ids)[1] for ids in windows]
    shares = []
    for gains in ([one.gain(ids) for ids in windows] for one in (plain, known)):
        best = np.argsort([-gain_L.mean() for gain_L in gains])[: len(windows) // TOP]
        for chosen in (range(len(windows)), best):
            picked = [(gains[i], which[i]) for i in chosen]
            shares.append(share(*(np.concatenate(part) for part in zip(*picked, strict=True))))
    return shares[0], shares[1], shares[3]


if __name__ == "__main__":
    main()
