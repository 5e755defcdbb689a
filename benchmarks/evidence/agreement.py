"""How far do cheap scores agree with what a model gains from far context?

`make evidence-gain`, or python -m benchmarks.evidence.agreement. Judges windows of many domains
with SmolLM2-135M (gain.py), which takes most of a minute each on one core and goes on where it
was stopped; then prints, for every domain, each scorer's rank correlation with LongFilter's score.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.evidence.corpus import Tokens
from benchmarks.evidence.gain import (
    DATA,
    GAIN,
    JUDGES,
    Judge,
    Judged,
    K,
    begin,
    judge,
    of_each_domain,
    queue,
    read,
    retold,
)
from benchmarks.evidence.intervals import interval, redrawn, spearman
from benchmarks.evidence.lift import lift_table
from benchmarks.evidence.markdown import head, row
from benchmarks.evidence.scores import (
    FEWEST,
    JUDGE,
    by_domain,
    cascades,
    kind_of,
    reading_all,
    scored,
    work_out,
)
from longattn.udfs.models.precision import dtype_of
from longattn.udfs.scorers.kinds.recall import far_gain, growing_grams, near_starts

BLOCK = 256  # tokens
SHORTEST, LONGEST = 4, 12  # tokens of a match, for far hits
KEPT = 0.25  # of a domain, by a scorer or a cascade
# Documents of whose windows one each decided on recall's form and constants; no other did.
CHOSEN = ("Genesis", "tutorial.tex", "multi.py", "Persuasion")

Vector = NDArray[np.float64]
Terms = Callable[[Tokens], Vector]


def main() -> None:
    options = arguments()
    judged_by = JUDGES[options.judge]
    if options.out == GAIN and options.dtype == "float32":
        begin(options.out)
    if options.minutes > 0:
        if options.like:
            own = JUDGES["SmolLM2-135M"].tokenizer
            chosen = of_each_domain(read(options.like), options.windows)
            windows = retold(chosen, own, judged_by.tokenizer)
        else:
            windows = queue(DATA, judged_by.tokenizer, options.length, options.windows)
        dtype = dtype_of(options.dtype, "cpu")
        spec = judged_by.spec(k=options.k, stride=options.stride, dtype=dtype)
        judge(windows, spec, options.out, options.minutes, options.processes)
    judged = read(options.out)
    if options.whole_minutes > 0:
        specs = reading_all(judged_by)
        work_out(judged, specs, options.out, options.whole_minutes, options.processes)
    print("\n".join(tables(judged, judged_by, options.out)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--judge", choices=JUDGES, default="SmolLM2-135M")
    add("--windows", type=int, default=24, help="per domain")
    add("--length", type=int, default=8192, help="tokens of a window")
    add("--like", type=Path, help="folder of losses of SmolLM2-135M: judge the same texts")
    add("--k", type=int, default=K, help="tokens that short context holds at least")
    add("--stride", type=int, help="of short context; k, as published, where it is not named")
    add("--minutes", type=float, default=np.inf, help="judge none after these; 0: print only")
    add("--whole-minutes", type=float, default=0, help="for scorers that read a whole model")
    add("--processes", type=int, default=2, help="of one thread each")
    add("--out", type=Path, default=GAIN, help="folder of the losses")
    add("--dtype", default="float32", help="of the judge")
    return parser.parse_args()


def tables(judged: list[Judged], judged_by: Judge, folder: Path) -> Iterator[str]:
    scores = scored(judged, judged_by, folder)
    yield "### Agreement and cost"
    yield from frontier_table(scores)
    yield f"\n### What the best {KEPT:.0%} of each domain by a scorer gain"
    yield from lift_table(scores, KEPT)
    yield f"\n### A cascade that keeps {KEPT:.0%} of each domain"
    yield from cascade_table(scores)
    yield "\n### Spearman with LongFilter's score, windows of a domain"
    yield from agreement_table(scores, "domain")
    yield "\n### The same, of recall on documents that nothing was chosen on"
    yield from agreement_table(unchosen(scores, "recall"), "domain")
    yield "\n### Spearman with LongFilter's score, windows of a kind of text together"
    yield from agreement_table(scores, "kind")
    yield "\n### Spearman with LongFilter's terms, all documents"
    yield from block_table(judged, chosen=True)
    yield "\n### The same, of documents that nothing was chosen on"
    yield from block_table(judged, chosen=False)
    yield ""
    yield from within_table(judged)


def frontier(scores: pd.DataFrame) -> pd.DataFrame:
    """A row for each scorer: seconds a window, windows, draws of its mean agreement over domains.

    Domains of which a scorer has too few windows do not count.
    """
    rows = []
    for scorer, mine in scores[scores.scorer != JUDGE].groupby("scorer", sort=False):
        groups = by_domain(mine)
        if groups:
            draws = np.mean([resampled(some) for some in groups], axis=0)
            windows = sum(map(len, groups))
            rows.append((scorer, mine.seconds.median(), len(groups), windows, draws))
    columns = ["scorer", "seconds", "domains", "windows", "draws"]
    return pd.DataFrame(rows, columns=columns)


def frontier_table(scores: pd.DataFrame) -> Iterator[str]:
    yield from head(
        "scorer", "CPU seconds a window", "domains", "windows", "Spearman within domains"
    )
    for one in frontier(scores).sort_values("seconds").to_dict("records"):
        counts = (f"{one['seconds']:.3g}", str(one["domains"]), str(one["windows"]))
        yield row(one["scorer"], *counts, interval(one["draws"]))
    spent = scores[scores.scorer == JUDGE].seconds
    yield row(JUDGE, f"{spent.median():.3g}", "", str(len(spent)), "")


def cascade_table(scores: pd.DataFrame) -> Iterator[str]:
    """Simulated on the judged windows, by estimates that left out the window's document."""
    yield from head("width", "scored exactly", "of the exact selection", "lift")
    for cost in cascades(scores, KEPT):
        yield row(f"{cost.width:g}", f"{cost.exact:.0%}", f"{cost.common:.0%}", f"{cost.lift:.2f}")


def agreement_table(scores: pd.DataFrame, by: str) -> Iterator[str]:
    """Domains or kinds with enough windows, and their mean; intervals are over documents."""
    counted = scores[scores.scorer == JUDGE].groupby(by).document.agg(["size", "nunique"])
    enough = counted[counted["size"] >= FEWEST]
    complete = scores.groupby("scorer", sort=False).file.nunique() == counted["size"].sum()
    names = [str(name) for name, whole in complete.items() if whole and name != JUDGE]
    yield from head(by, "windows", "documents", *names)
    by_name: list[list[Vector]] = []
    for name in enough.index:
        rows = scores[scores[by] == name]
        by_name.append([resampled(rows[rows.scorer == scorer]) for scorer in names])
        yield row(str(name), *map(str, enough.loc[name]), *map(interval, by_name[-1]))
    if by_name:
        means = [np.mean(draws, axis=0) for draws in zip(*by_name, strict=True)]
        yield row("mean", str(enough["size"].sum()), "", *map(interval, means))


def unchosen(scores: pd.DataFrame, scorer: str) -> pd.DataFrame:
    """Rows of a scorer, and the judge's, without the documents that had a part in its making."""
    names = scores.document.map(lambda document: Path(document).name)
    return scores[scores.scorer.isin([scorer, JUDGE]) & ~names.isin(CHOSEN)]


def resampled(rows: pd.DataFrame) -> Vector:
    """Rank correlation of score and truth, then that of each draw of documents with replacement."""
    ds, truth = rows.ds.to_numpy(), rows.truth.to_numpy()
    drawn = redrawn(rows.document.to_numpy(dtype=str))
    return np.array([spearman(ds[index], truth[index]) for index in drawn])


def block_table(judged: list[Judged], chosen: bool) -> Iterator[str]:
    """Does a score find the stretches that gain, over the windows of a kind of text together?

    With `chosen` False, of documents that nothing was chosen on.
    """
    yield from head("blocks of 1,024 tokens of", "windows", "documents", *TERMS)
    blocks = pd.DataFrame([r for window in judged for r in blocks_of(window)])
    blocks = blocks if chosen else blocks[~blocks.document.isin(CHOSEN)]
    for kind, rows in blocks.groupby("kind"):
        counts = rows.groupby(["document", "start"]).ngroups, rows.document.nunique()
        draws = [resampled(rows.rename(columns={name: "ds"})) for name in TERMS]
        yield row(str(kind), *map(str, counts), *map(interval, draws))


def blocks_of(window: Judged) -> list[dict[str, object]]:
    """Means over the blocks of a window's tokens that have far context, by each of TERMS."""
    place = window.place
    values = {name: of(window.token_ids) for name, of in TERMS.items()}
    values["truth"] = window.gain.astype(float)
    means = {name: block_means(terms_L) for name, terms_L in values.items()}
    where = {
        "kind": kind_of(place),
        "document": Path(place.document).name,
        "start": place.start,
    }
    return [
        {**where, **dict(zip(means, row, strict=True))} for row in zip(*means.values(), strict=True)
    ]


def block_means(terms_L: Vector) -> Vector:
    """Means over whole blocks of K tokens, of those that have far context."""
    means: Vector = terms_L[2 * K : len(terms_L) // K * K].reshape(-1, K).mean(1)
    return means


def within_table(judged: list[Judged]) -> Iterator[str]:
    """Does a score find the places in one window that gain? Mean over windows, and over domains."""
    yield from head("within a window, blocks of 256 tokens", "windows", *TERMS)
    rows = [(w.place.domain, *(within(w, of) for of in TERMS.values())) for w in judged]
    table = pd.DataFrame(rows, columns=["domain", *TERMS])
    for domain, some in table.groupby("domain"):
        yield row(str(domain), str(len(some)), *(f"{some[name].mean():.2f}" for name in TERMS))
    means = table.groupby("domain")[list(TERMS)].mean().mean()
    yield row("mean", str(len(table)), *(f"{means[name]:.2f}" for name in TERMS))


def within(window: Judged, terms: Terms) -> float:
    """Spearman of the means over blocks, of the tokens that have far context."""
    both = (terms(window.token_ids)[2 * K :], window.gain[2 * K :].astype(float))
    blocks = [values[: len(values) // BLOCK * BLOCK].reshape(-1, BLOCK).mean(1) for values in both]
    return spearman(*blocks)


def far_hits(token_ids: Tokens) -> Vector:
    """1 for a token that far context alone foretells, a simpler count than `recall`.

    That is: of what stands before it, the longest match anywhere before, of SHORTEST tokens or
    more, was followed by it, and the longest match in its near context was not.
    """
    length = len(token_ids)
    near_L = near_starts(length + 1, K)
    matched_2L, foretold_2L = np.zeros((2, length), int), np.zeros((2, length), bool)
    context_2L = np.stack([np.arange(length), np.arange(length) - near_L[:-1]])
    for n, grams in enumerate(islice(growing_grams(token_ids), LONGEST + 1)):
        at = grams.place_A
        came_2A, seen_2A = grams.earlier(near_L[None, at]) > 0, context_2L[:, at] > 0
        matched_2L[:, at] = np.where(seen_2A, n, matched_2L[:, at])
        foretold_2L[:, at] = np.where(seen_2A, came_2A, foretold_2L[:, at])
        context_2L = np.zeros((2, length + 1), int)
        context_2L[:, at + 1] = grams.earlier(near_L[None, at + 1])
    hits_L: Vector = foretold_2L[0] & ~foretold_2L[1] & (matched_2L[0] >= SHORTEST)
    return hits_L.astype(float)


TERMS: dict[str, Terms] = {"recall": lambda ids: far_gain(ids, K), "far hits": far_hits}


if __name__ == "__main__":
    main()
