"""What documents of a window gain of those before them, by how they were put together.

    python -m benchmarks.windows.similar [--windows 60] [--length 8192] [--group]

Documents of the packages that `bin/fetch_demo.py --unseen` fetches: whole files of Go and Python,
and one piece of 1,024 to 2,048 tokens of each text in prose and TeX: no two are of one text. They
are packed by `concat` at random, by their paths or names, by likeness, and by likeness that is
verified. `own text` is the control: windows of one long document's pieces in random order. The
table has the mean of `cross_gain` over windows as a multiple of that at random, with intervals of
95 % over windows, and the share of documents that stand in a window with a near copy: more than
half of the 5-grams of both are shared.

With --group,
all texts in pieces of 1,024 tokens are ordered as the one group that they are, some 15 million
tokens, and what that takes is all that is printed.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks.evidence.corpus import Tokens, demo_documents, tokenized
from benchmarks.evidence.intervals import REDRAWN, interval
from benchmarks.evidence.markdown import head, row
from benchmarks.evidence.unseen import more_documents, unseen_documents
from longattn.udfs.scorers.kinds.recall import cross_gain
from longattn.udfs.windows.packing import concat, tokens_of
from longattn.udfs.windows.similar import similar_order

DATA = Path("data")
SEPARATOR = 0
PUBLISHED = 8192  # tokens of the windows of docs/performance.md
SHORT = (600, 12_000)  # characters of a file that is taken whole, for windows of so many
PROSE = ("novels", "books", "essays", "wiki", "bible numbered")
CODE = {"code": "python", "go": "go"}  # long documents' domains, and short files'
NEAR = 0.5  # of the 5-grams of two documents

Documents = dict[str, Tokens]
Window = tuple[Tokens, NDArray[np.int64]]  # tokens, lengths of segments
Vector = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=60, help="of each domain, at most")
    parser.add_argument("--length", type=int, default=PUBLISHED)
    parser.add_argument("--group", action="store_true")
    given = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(DATA / "scorer" / "tokenizer.json"))
    if given.group:
        long = long_documents(tokenizer)
        files = short_files(tokenizer, given.length)
        return order_group([*long.values(), *files.values()], given.length)
    print(*table(built(tokenizer, given.windows, given.length, verify=True)), sep="\n")


def built(
    tokenizer: Tokenizer, count: int, length: int, verify: bool
) -> dict[str, dict[str, list[Window]]]:
    """Windows by domain and by how they were put together, about `count` of each.

    Documents are as long, in windows, at every length of windows.
    """
    long = long_documents(tokenizer)
    pools = {**pieces_of(long, length), **short_files(tokenizer, length)}
    return {
        domain: built_of(enough(pool, count * length), length, verify)
        | {"own text": list(displaced(long[domain], count, length))}
        for domain, pool in pools.items()
    }


def long_documents(tokenizer: Tokenizer) -> dict[str, Documents]:
    """Documents by domain: prose, TeX manuals, and code of two languages."""
    demo = demo_documents(DATA / "demo", tokenizer)
    read = [demo, unseen_documents(DATA / "packages", tokenizer)]
    read += [more_documents(DATA / "packages", tokenizer, frozenset(demo["books"]))]
    merged: dict[str, Documents] = {}
    for domains in read:
        for domain, documents in domains.items():
            name = "prose" if domain in PROSE else CODE.get(domain, domain)
            merged[name] = merged.get(name, {}) | documents
    return merged


def pieces_of(long: dict[str, Documents], length: int) -> dict[str, Documents]:
    """One piece of every text that is no code, from a random place of it, for windows of `length`
    tokens.
    """
    rng = np.random.default_rng(0)
    texts = {domain: documents for domain, documents in long.items() if domain not in CODE.values()}
    return {
        domain: {
            name: piece(ids, length, rng)
            for name, ids in documents.items()
            if len(ids) >= length // 4
        }
        for domain, documents in texts.items()
    }


def piece(token_ids: Tokens, length: int, rng: np.random.Generator) -> Tokens:
    """An eighth to a quarter of a window."""
    size = int(rng.integers(length // 8, length // 4 + 1))
    start = int(rng.integers(len(token_ids) - size + 1))
    return token_ids[start : start + size]


def short_files(tokenizer: Tokenizer, length: int) -> dict[str, Documents]:
    roots = {"python": ("pandas==2.3.2", "sympy==1.14.0"), "go": ("golang-1.19-src",)}
    return {
        domain: tokenized(_files(DATA / "packages", names, domain, length), tokenizer)
        for domain, names in roots.items()
    }


def _files(
    packages: Path, names: tuple[str, ...], language: str, length: int
) -> Iterator[tuple[str, str]]:
    """Short source files without tests and what was generated."""
    least, most = (size * length // PUBLISHED for size in SHORT)
    for path in (p for n in names for p in sorted((packages / n).rglob(f"*.{language[:2]}"))):
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        other = "test" in str(path.relative_to(packages)) or "DO NOT EDIT" in text[:2000]
        if least < len(text) < most and not other:
            yield str(path), text


def order_group(texts: list[Documents], length: int) -> None:
    whole = [ids for documents in texts for ids in documents.values()]
    documents = [part for ids in whole for part in np.split(ids, range(1024, len(ids), 1024))]
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    similar_order(documents, length)
    seconds = time.process_time() - started
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    n_tokens = sum(len(ids) for ids in documents)
    print(
        f"{len(documents):,} documents, {n_tokens:,} tokens: {seconds:.0f} s, {more:,.0f} MB more"
    )


def enough(pool: Documents, n_tokens: int) -> Documents:
    """Documents at random, as many as fill so many tokens, in random order."""
    names = list(pool)
    drawn = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    ends = np.cumsum([len(pool[name]) + 1 for name in drawn])
    return {name: pool[name] for name in drawn[: int(np.searchsorted(ends, n_tokens)) + 1]}


def built_of(pool: Documents, length: int, verify: bool) -> dict[str, list[Window]]:
    """Windows by how the documents were put in order."""
    documents, names = list(pool.values()), list(pool)
    orders = {
        "random": list(range(len(names))),
        "source": sorted(range(len(names)), key=names.__getitem__),
        "similar": similar_order(documents, length),
    }
    if verify:
        started = time.process_time()
        orders["similar, verified"] = similar_order(documents, length, cross_gain)
        print(f"{len(names)} documents verified in {time.process_time() - started:.0f} s of CPU")
    return {how: windows([documents[i] for i in order], length) for how, order in orders.items()}


def windows(documents: list[Tokens], length: int) -> list[Window]:
    """All full windows of a stream of documents."""
    packed = concat([len(ids) for ids in documents], length)
    full = [w for w in packed if sum(part.n_tokens for part in w) == length]
    given = [ids.astype(np.int32) for ids in documents]
    return [
        (tokens_of(w, given, SEPARATOR).astype(np.int64), np.array([part.n_tokens for part in w]))
        for w in full
    ]


def displaced(documents: Documents, count: int, length: int) -> Iterator[Window]:
    """Windows of one document's pieces in random order, a document each."""
    rng = np.random.default_rng(0)
    for ids in [ids for ids in documents.values() if len(ids) >= length][:count]:
        size = length * 3 // 16
        parts = np.split(ids[:length], range(size, length, size))
        parts = [parts[i] for i in rng.permutation(len(parts))]
        yield np.concatenate(parts), np.array([len(part) for part in parts])


def table(built: dict[str, dict[str, list[Window]]]) -> Iterator[str]:
    hows = list(next(iter(built.values())))
    yield from head("documents", "windows", "at random", *hows[1:])
    gains = {domain: {how: gains_of(w) for how, w in of.items()} for domain, of in built.items()}
    draws: dict[str, list[Vector]] = {how: [] for how in hows[1:]}
    for domain, of in gains.items():
        for how in draws:
            draws[how].append(ratios(of[how], of["random"]))
        cells = [interval(draws[how][-1]) for how in draws]
        yield row(domain, str(len(of["random"])), f"{of['random'].mean():.3f}", *cells)
    means = [interval(np.mean(of_domains, axis=0)) for of_domains in draws.values()]
    total = sum(len(of["random"]) for of in gains.values())
    yield row("all, the mean", str(total), "", *means)
    copies = [copied([w for of in built.values() for w in of[how]]) for how in hows]
    yield row("in a window with a near copy", "", *(f"{share:.1%}" for share in copies))


def gains_of(built: list[Window]) -> Vector:
    return np.array([cross_gain(*window).mean() for window in built])


def ratios(one: Vector, other: Vector) -> Vector:
    """The ratio of two means, then that of each draw of both with replacement."""
    rng = np.random.default_rng(0)

    def mean(values: Vector) -> float:
        return float(values[rng.integers(len(values), size=len(values))].mean())

    drawn = [mean(one) / mean(other) for _ in range(REDRAWN)]
    return np.array([one.mean() / other.mean(), *drawn])


def copied(built: list[Window]) -> float:
    """The share of segments that have a near copy in their window."""
    copies = [has for token_ids, sizes in built for has in _copied(token_ids, sizes)]
    return float(np.mean(copies))


def _copied(token_ids: Tokens, sizes: NDArray[np.int64]) -> list[bool]:
    ends = [0, *np.cumsum(sizes).tolist()]
    held = [set(zip(*(token_ids[a + i : b] for i in range(5)))) for a, b in pairwise(ends)]  # noqa: B905
    near = [[len(a & b) > NEAR * len(a | b) > 0 for b in held if b is not a] for a in held]
    return [any(one) for one in near]


if __name__ == "__main__":
    main()
