"""Do other counts add anything to recall? python -m benchmarks.counting.counts.

For the judged windows (gain.py): each count's own rank correlation with the judge's score, within
domains, and what it adds to recall: the correlation of the judge with a linear fit of recall and
the count, of documents that the fit has not seen, less that with recall alone. Logarithms, less
their domain's mean. How rare words are is what the shipped background says.
"""

import re
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.evidence.gain import JUDGED, JUDGES, Judged, K, read
from benchmarks.evidence.intervals import Vector, bounds, redrawn, spearman
from benchmarks.evidence.markdown import head, row
from longattn.udfs.scorers.background import SHIPPED, open_background
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.registry import load_scorer
from longattn.udfs.text.words import split_words

FEWEST = 2  # windows of a domain: one has no order
SMALLEST = 1e-4  # of a count that is 0, before its logarithm
HEADING = re.compile(
    r"^(?:#+ |\\(?:sub)*section|\\chapter|=head\d|(?:chapter|book) \w+\s*$)", re.M | re.I
)
REFERENCE = re.compile(
    r"\\(?:ref|cite|eqref)\b|L<|\bsee (?:also|section|chapter|below|above|the)\b"
    r"|\bas (?:defined|described|mentioned|shown|noted|we) \w+"
    r"|\b(?:section|chapter|figure|table) \d",
    re.I,
)
DEFINITION = re.compile(
    r"\b(?:def|class|func|fn|struct|trait|interface|Lemma|Theorem|Definition|var|let|const|type"
    r"|function|newcommand)\b[\s\\{]*(\w{3,})"
)
IMPORT = re.compile(r"^\s*(?:import|from|use|require|#include|Require)\b", re.M)

Count = Callable[[str], float]


def main() -> None:
    tokenizer = JUDGES["SmolLM2-135M"].tokenizer
    judged = with_others(read(JUDGED))
    texts = [tokenizer.decode(window.token_ids.tolist()) for window in judged]
    columns = {name: np.array([count(text) for text in texts]) for name, count in COUNTS.items()}
    columns |= {
        name: scores(name, judged) for name in ("compress", "recurrence", "cohesion", "seams")
    }
    print("\n".join(table(judged, scores("recall", judged), columns)))


def with_others(judged: list[Judged]) -> list[Judged]:
    """The windows of domains that have more than one."""
    domains = [window.place.domain for window in judged]
    return [window for window in judged if domains.count(window.place.domain) >= FEWEST]


def scores(name: str, judged: list[Judged]) -> Vector:
    k = K if name == "recurrence" else None
    scorer = load_scorer(ScorerSpec(scorer=name, k=k))
    return np.array([one["ds"] for one in scorer.score([window.token_ids for window in judged])])


def table(judged: list[Judged], recall: Vector, columns: dict[str, Vector]) -> Iterator[str]:
    domains = np.array([window.place.domain for window in judged])
    documents = np.array([window.place.document for window in judged])
    truth = apart(np.array([float(window.gain.mean()) for window in judged]), domains)
    own = apart(recall, domains)
    yield from head(f"{len(judged)} windows", "Spearman with the judge", "added to recall (95 %)")
    yield row("recall", f"{spearman(own, truth):.2f}", f"alone {np.corrcoef(own, truth)[0, 1]:.3f}")
    alone = left_out(own[:, None], truth, documents)
    for name, values in columns.items():
        other = apart(values, domains)
        both = left_out(np.stack([own, other], 1), truth, documents)
        draws = [
            np.corrcoef(both[i], truth[i])[0, 1] - np.corrcoef(alone[i], truth[i])[0, 1]
            for i in redrawn(documents)
        ]
        low, high = bounds(np.array(draws))
        added = f"{draws[0]:+.3f} ({low:+.3f} to {high:+.3f})"
        yield row(name, f"{spearman(other, truth):.2f}", added)


def apart(values: Vector, domains: np.ndarray[tuple[int], np.dtype[np.str_]]) -> Vector:
    """Logarithms less their domain's mean."""
    logs = np.log(np.maximum(values - min(values.min(), 0), SMALLEST))
    means = {domain: logs[domains == domain].mean() for domain in set(domains.tolist())}
    less_means: Vector = logs - np.array([means[domain] for domain in domains.tolist()])
    return less_means


def left_out(
    inputs: Vector, truth: Vector, documents: np.ndarray[tuple[int], np.dtype[np.str_]]
) -> Vector:
    """Least squares' estimates of each document's windows from those of all others."""
    estimates = np.zeros(len(truth))
    for document in set(documents.tolist()):
        mine = documents == document
        weights = np.linalg.lstsq(inputs[~mine], truth[~mine], rcond=None)[0]
        estimates[mine] = inputs[mine] @ weights
    return estimates


def each_thousand(pattern: re.Pattern[str]) -> Count:
    """Matches for a thousand characters."""
    return lambda text: 1000 * len(pattern.findall(text)) / len(text)


def far_uses(text: str) -> float:
    """Uses, for a thousand words, of a name more than K words after the place that defines it."""
    words = [(match[0], match.start()) for match in re.finditer(r"\w+", text)]
    defined: dict[str, int] = {}
    for match in DEFINITION.finditer(text):
        defined.setdefault(match[1], match.start(1))
    place = {start: number for number, (_, start) in enumerate(words)}
    firsts = {name: place.get(start, len(words)) for name, start in defined.items()}
    far = sum(number - firsts[word] > K for number, (word, _) in enumerate(words) if word in firsts)
    return 1000 * far / max(len(words), 1)


def far_rare(text: str) -> float:
    """Rarity times the logarithm of the gap, of words that come back after more than K words."""
    ids = split_words(text)[0].astype(np.int64)
    background = open_background(SHIPPED)
    assert background
    rarity_L = background.rarity(ids)
    last: dict[int, int] = {}
    total = 0.0
    for place, word in enumerate(ids.tolist()):
        gap = place - last.get(word, place)
        total += rarity_L[place] * np.log(gap / K) if gap > K else 0.0
        last[word] = place
    return total / len(ids)


COUNTS: dict[str, Count] = {
    "headings": each_thousand(HEADING),
    "cross-references": each_thousand(REFERENCE),
    "imports": each_thousand(IMPORT),
    "uses far from their definition": far_uses,
    "rare words that come back": far_rare,
}


if __name__ == "__main__":
    main()
