"""Does a score find coherent text? Planted truth on real documents: python -m benchmarks.evidence.

Prints the tables of docs/evidence.md. Coherent windows of one document are told from the same
windows broken in known ways; AUC 0.5 is a coin, 1 is always right.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, count

import numpy as np
import pandas as pd
import tokenizers
import torch
import transformers
from tokenizers import Tokenizer

from benchmarks.evidence.corpus import (
    Tokens,
    Vocabulary,
    Window,
    demo_documents,
    first_half,
    windows,
)
from benchmarks.evidence.filters import BANDS, refused_table
from benchmarks.evidence.gain import DATA, JUDGES, OUT
from benchmarks.evidence.intervals import Vector, auc_interval, spearman, top_overlap
from benchmarks.evidence.markdown import head, row
from benchmarks.evidence.scoring import (
    BROKEN,
    CHEAP,
    COUNTED,
    LAYERS,
    NOISE,
    ORDER,
    PLANTED,
    Pairs,
    Run,
    best_heads_elsewhere,
    cheap_runs,
    deep_runs,
    long_dependency,
    of_layers,
    one_thread,
    over_null,
    pairs,
    runs,
    score_window,
    strength,
    uniformity,
    workers,
)
from benchmarks.evidence.truth import gains_of_window
from benchmarks.evidence.unseen import unseen_documents
from longattn.udfs.models.build import build_scorer
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.registry import load_scorer

CHECKPOINT = JUDGES["SmolLM2-135M"].model
SCORER = OUT / "SmolLM2-135M-layers-0-11"
DOMAINS = ("books", "code", "TeX manuals")
COHESION = {"cohesion": "k = L/16", "cohesion k=L/8": "k = L/8", "cohesion k=L/4": "k = L/4"}
TOP = 1 / 8  # of the windows, as a selection takes
UNSEEN_WINDOWS = 60  # per domain
FAR = 4  # unseen half windows per domain whose far gain is taken

Numbered = tuple[int, Window]

Measure = Callable[[pd.DataFrame], Vector]
LDS: dict[str, Measure] = {
    "DS (LDS, alpha 0)": strength,
    "LDS, alpha 0.5": long_dependency(0.5),
    "LDS, alpha 1": long_dependency(1.0),
    "DU alone": uniformity,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=12, help="per domain")
    parser.add_argument("--length", type=int, default=8192, help="tokens of a window")
    parser.add_argument("--processes", type=int, default=2, help="of one thread each")
    parser.add_argument(
        "--deep", type=int, default=4, help="half windows per domain, all layers and far gain"
    )
    parser.add_argument("--few", type=int, default=2, help="half windows per domain, for prolong")
    parser.add_argument("--pairs", type=int, default=32, help="of segments, for prolong")
    options = parser.parse_args()
    started = time.perf_counter()
    table, unseen, few, deep, far = scored(options)
    print(versions_used())
    for part in (
        corpus_table(table),
        first_look(table),
        settings_table(table),
        broken_table(table),
        planted_table(table),
        uniformity_table(table),
        unseen_table(unseen),
        refused_table(unseen),
        correlations(table),
        deep_table(deep),
        planted_heads_table(deep),
        truth_table(deep),
        ranks_table(deep, far),
        few_table(few, deep),
        cost(options.length),
    ):
        if lines := list(part):
            print("\n" + "\n".join(lines), flush=True)
    print(f"\n{(time.perf_counter() - started) / 60:.0f} minutes", file=sys.stderr)


def scored(options: argparse.Namespace) -> list[pd.DataFrame]:
    """Scores of the demo's windows, of unseen ones by cohesion, of a few by slow scorers.

    And of the first halves of a few: deeper layers, and what a model gains from their far context;
    that and cheap scorers of unseen ones too.
    """
    if not (SCORER / "scorer.json").exists():
        SCORER.parent.mkdir(exist_ok=True)
        build_scorer(str(CHECKPOINT), str(SCORER), LAYERS)
    tokenizer = Tokenizer.from_file(str(SCORER / "tokenizer.json"))
    vocabulary, rng = Vocabulary.of(tokenizer), np.random.default_rng(0)
    draw = partial(windows, length=options.length, rng=rng)
    documents = demo_documents(DATA / "demo", tokenizer)
    number = count()
    demo = {
        domain: [(next(number), w) for w in draw(domain, documents[domain], count=options.windows)]
        for domain in DOMAINS
    }
    unseen = {
        domain: [(next(number), w) for w in draw(domain, texts, count=UNSEEN_WINDOWS)]
        for domain, texts in unseen_documents(DATA / "packages", tokenizer).items()
    }
    every = runs(str(SCORER), options.length)
    broken = ("real", *BROKEN, *NOISE)
    counted = (*COHESION, *(band.scorer for band in BANDS))
    lexical = {name: replace(every[name], versions=broken) for name in counted}
    deep, few, far = halves(demo, options.deep), halves(demo, options.few), halves(unseen, FAR)
    asked = [
        (every, list(chain.from_iterable(demo.values()))),
        (lexical, list(chain.from_iterable(unseen.values()))),
        (slow_run(options.pairs), few),
        (deep_runs(str(SCORER), options.length // 2), deep),
        (cheap_runs(str(SCORER), ("real",)), far),
    ]
    gains = partial(gains_of_window, vocabulary=vocabulary, model=str(CHECKPOINT))
    with workers(options.processes) as pool:
        tables = [
            scores_of(pool.imap(partial(score_window, vocabulary=vocabulary, runs=some), chosen))
            for some, chosen in asked
        ]
        truth = [
            scores_of(pool.imap(partial(gains, names=names), chosen))
            for names, chosen in ((ORDER, deep), (("real",), far))
        ]
    with_truth = [
        pd.concat(both, ignore_index=True) for both in zip(tables[3:], truth, strict=True)
    ]
    return [*tables[:3], *with_truth]


def halves(windows: dict[str, list[Numbered]], count: int) -> list[Numbered]:
    """First halves of the first windows of each domain."""
    return [(i, first_half(w)) for some in windows.values() for i, w in some[:count]]


def slow_run(pairs: int) -> dict[str, Run]:
    spec = ScorerSpec(scorer="prolong", model=str(CHECKPOINT), pairs=pairs)
    return {f"prolong, {pairs} pairs of segments": Run(spec=spec, versions=ORDER)}


def scores_of(found: Iterable[list[dict[str, object]]]) -> pd.DataFrame:
    """One table of the rows of all windows; says on stderr how far it is."""
    rows: list[dict[str, object]] = []
    for number, of_window in enumerate(found, start=1):
        rows += of_window
        print(f"\r{number} windows", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return pd.DataFrame(rows)


def versions_used() -> str:
    return (
        f"SmolLM2-135M, CPU, float32; Python {platform.python_version()}, torch"
        f" {torch.__version__}, transformers {transformers.__version__}, tokenizers"
        f" {tokenizers.__version__}, numpy {np.__version__}."
    )


def corpus_table(table: pd.DataFrame) -> Iterator[str]:
    yield "### Corpus"
    yield from head("domain", "documents", "windows")
    real = table[(table.version == "real") & (table.scorer == "longattn")]
    for domain in DOMAINS:
        rows = real[real.domain == domain]
        yield row(domain, str(rows.document.nunique()), str(len(rows)))


def first_look(table: pd.DataFrame) -> Iterator[str]:
    """Mean DS +- sd over windows (mean Var), layer 0, k = L/4."""
    yield "### First look: DS +- sd (Var)"
    names = ("real", "shuffled", "tokens shuffled", "random tokens", "repeated")
    yield from head("domain", *names)
    for domain in DOMAINS:
        cells = []
        for version in names:
            rows = table[
                (table.domain == domain) & (table.scorer == "longattn") & (table.version == version)
            ]
            cells.append(f"{rows.ds.mean():.4f} +- {rows.ds.std():.4f} ({-rows.du.mean():.2e})")
        yield row(domain, *cells)


def settings_table(table: pd.DataFrame) -> Iterator[str]:
    """Every setting on real against shuffled."""
    yield "### AUC, real against the same tokens with paragraphs shuffled"
    table = pd.concat([table, over_null(table)], ignore_index=True)
    yield from head("scorer", *DOMAINS)
    rows: list[tuple[str, str, Measure]] = [
        *((f"longattn {name}", "longattn", measure) for name, measure in LDS.items()),
        ("longattn DS, k = L/8 (1/4 of the rows)", "k=L/8", strength),
        ("longattn DS, k = L/2 (1/4 of the rows)", "k=L/2", strength),
        ("longattn DS, 1/8 of the rows", "sampled", strength),
        ("longattn DS less that of the tokens shuffled", "over null", strength),
        ("longattn DS, layer 1 (1/4 of the rows)", "layers", of_layers(2, 0, 0)),
        ("longattn DS, layer 2 (1/4 of the rows)", "layers", of_layers(2, 1, 1)),
        ("cohesion (k = L/16)", "cohesion", strength),
        ("cohesion, k = L/8", "cohesion k=L/8", strength),
        ("cohesion, k = L/4", "cohesion k=L/4", strength),
        *((name, name, strength) for name in COUNTED),
        ("random", "random", strength),
    ]
    for name, scorer, measure in rows:
        yield row(name, *(interval(pairs(table, d, scorer, *ORDER), measure) for d in DOMAINS))
    chosen = {
        "layer 0": "longattn",
        "layer 0, less that of the tokens shuffled": "over null",
        "layers 1 and 2": "layers",
    }
    for name, scorer in chosen.items():
        elsewhere, _ = best_heads_elsewhere(table, scorer)
        cells = (interval(pairs(elsewhere, d, scorer, *ORDER), strength) for d in DOMAINS)
        yield row(f"longattn DS, best 3 heads of {name}, chosen on other documents", *cells)


def broken_table(table: pd.DataFrame) -> Iterator[str]:
    yield "### AUC, real against windows broken otherwise"
    yield from head("against", "scorer", *DOMAINS)
    for negative in (*BROKEN[1:], *NOISE):
        yield from measures(table, "real", negative)


def planted_table(table: pd.DataFrame) -> Iterator[str]:
    """A passage repeated half a window later, against a foreign passage in the same place."""
    yield "### AUC, far copy planted against a foreign passage planted"
    yield from head("against", "scorer", *DOMAINS)
    yield from measures(table, "copy", "foreign")
    yield from measures(table, "copy", "real")


def measures(table: pd.DataFrame, positive: str, negative: str) -> Iterator[str]:
    named = [(f"longattn {name}", "longattn", measure) for name, measure in LDS.items()]
    named += [("cohesion (k = L/16)", "cohesion", strength)]
    named += [("cohesion, k = L/4", "cohesion k=L/4", strength)]
    named += [("cohesion LDS, alpha 0.5", "cohesion", long_dependency(0.5))]
    named += [(name, name, strength) for name in COUNTED]
    for name, scorer, measure in named:
        found = (pairs(table, domain, scorer, positive, negative) for domain in DOMAINS)
        yield row(negative, name, *(interval(both, measure) for both in found))


def uniformity_table(table: pd.DataFrame) -> Iterator[str]:
    """LDS at the published alpha less DS alone, on the same resamples of documents."""
    yield "### What DU adds: AUC of LDS (alpha 0.5) less that of DS"
    yield from head("against", *DOMAINS)
    for negative in BROKEN:
        cells = []
        for domain in DOMAINS:
            both = pairs(table, domain, "longattn", "real", negative)
            gain = both.wins(long_dependency(0.5)) - both.wins(strength)
            cells.append(shown(*auc_interval((gain, both.documents)), signed=True))
        yield row(negative, *cells)


def unseen_table(table: pd.DataFrame) -> Iterator[str]:
    yield "### Cohesion on documents that no setting was chosen on: AUC"
    yield from head("real against", "domain", "windows", "documents", *COHESION.values())
    for negative in BROKEN:
        for domain, rows in table.groupby("domain", sort=False):
            found = (pairs(rows, str(domain), scorer, "real", negative) for scorer in COHESION)
            counts = (rows.window.nunique(), rows.document.nunique())
            cells = [interval(both, strength) for both in found]
            yield row(negative, str(domain), *map(str, counts), *cells)


def correlations(table: pd.DataFrame) -> Iterator[str]:
    """Of real windows, within a domain; then the mean over domains."""
    yield "### Agreement of scorers on real windows: Spearman, overlap of the top 1/8"
    yield from head("scorers", "rank correlation", "overlap")
    first: tuple[str, Measure] = ("longattn", strength)
    others: dict[str, tuple[str, Measure]] = {
        "layer 1": ("layers", of_layers(2, 0, 0)),
        "layer 2": ("layers", of_layers(2, 1, 1)),
        "k = L/8": ("k=L/8", strength),
        "k = L/2": ("k=L/2", strength),
        "1/8 of the rows": ("sampled", strength),
        "the window's halves, their mean": ("half", strength),
        "LDS, alpha 0.5": ("longattn", long_dependency(0.5)),
        "cohesion": ("cohesion", strength),
        **{name: (name, strength) for name in COUNTED},
        "random": ("random", strength),
    }
    for name, other in others.items():
        values = [
            (of_real(table, domain, *first), of_real(table, domain, *other)) for domain in DOMAINS
        ]
        rank = np.mean([spearman(*both) for both in values])
        top = np.mean([top_overlap(*both, TOP) for both in values])
        yield row(f"DS of layer 0, all rows, and: {name}", f"{rank:.2f}", f"{top:.2f}")


def deep_table(deep: pd.DataFrame) -> Iterator[str]:
    """DS of each layer: real against shuffled, and a copy planted against a foreign passage."""
    yield "### Deeper layers, half windows: AUC of DS, mean over the domains"
    yield from head("scorer", "real against shuffled", "copy against foreign")
    rows: list[tuple[str, str, Measure]] = [
        (f"longattn DS, layer {i}", "deep", of_layers(len(LAYERS), i, i)) for i in LAYERS
    ]
    rows += [(name, name, strength) for name in CHEAP]
    for name, scorer, measure in rows:
        yield row(name, *(over_domains(deep, scorer, sides, measure) for sides in (ORDER, PLANTED)))
    yield row("far gain", over_domains(deep, "far gain", ORDER, strength), "")


def over_domains(table: pd.DataFrame, scorer: str, sides: tuple[str, str], measure: Measure) -> str:
    """AUC within each domain, and their mean."""
    found = [pairs(table, domain, scorer, *sides) for domain in DOMAINS]
    return shown(*auc_interval(*((both.wins(measure), both.documents) for both in found)))


def planted_heads_table(deep: pd.DataFrame) -> Iterator[str]:
    """Heads chosen on planted copies in one half of the documents, tested on the other."""
    yield "### Heads chosen on planted copies in other documents"
    yield from head("DS of 3 heads", "heads (layer.head)", *DOMAINS)
    elsewhere, chosen = best_heads_elsewhere(deep, "deep", PLANTED)
    heads = len(deep[deep.scorer == "deep"].head_ds.iloc[0]) // len(LAYERS)
    names = "; ".join(", ".join(f"{h // heads}.{h % heads}" for h in side) for side in chosen)
    for sides in (PLANTED, ORDER, ("copy", "real")):
        cells = (interval(pairs(elsewhere, d, "deep", *sides), strength) for d in DOMAINS)
        yield row(" against ".join(sides), names, *cells)


def truth_table(deep: pd.DataFrame) -> Iterator[str]:
    """What the far context is worth to the model."""
    yield "### Far gain, nats a token: mean +- sd over windows"
    yield from head("domain", *ORDER)
    gains = deep[deep.scorer == "far gain"]
    for domain in DOMAINS:
        mine = gains[gains.domain == domain]
        sides = (mine[mine.version == version].ds for version in ORDER)
        yield row(domain, *(f"{side.mean():.3f} +- {side.std():.3f}" for side in sides))


def ranks_table(deep: pd.DataFrame, far: pd.DataFrame) -> Iterator[str]:
    """Which scorer ranks real windows as the far gain does, within a domain; then the mean."""
    yield "### Rank correlation with far gain, real windows, mean over the domains"
    yield from head("scorer", "the demo's documents", "unseen documents")
    planted = best_heads_elsewhere(deep, "deep", PLANTED)[0].assign(scorer="planted")
    deep = pd.concat([deep, planted], ignore_index=True)
    cheap: dict[str, tuple[str, Measure]] = {name: (name, strength) for name in CHEAP}
    cheap["longattn LDS, alpha 0.5"] = ("longattn", long_dependency(0.5))
    for name, which in cheap.items():
        yield row(name, agreement(deep, *which), agreement(far, *which))
    for first, last in ((1, 2), (3, 5), (6, 8), (9, 11)):
        measure = of_layers(len(LAYERS), first, last)
        yield row(f"longattn DS, layers {first} to {last}", agreement(deep, "deep", measure), "")
    heads_row = "longattn DS, the 3 heads chosen on planted copies"
    yield row(heads_row, agreement(deep, "planted", strength), "")


def agreement(table: pd.DataFrame, scorer: str, measure: Measure) -> str:
    ranks = [
        spearman(
            of_real(table, domain, scorer, measure), of_real(table, domain, "far gain", strength)
        )
        for domain in table.domain.unique()
    ]
    return f"{np.mean(ranks):.2f}"


def of_real(table: pd.DataFrame, domain: str, scorer: str, measure: Measure) -> Vector:
    chosen = (table.domain == domain) & (table.scorer == scorer) & (table.version == "real")
    return measure(table[chosen].sort_values("window").reset_index(drop=True))


def few_table(few: pd.DataFrame, deep: pd.DataFrame) -> Iterator[str]:
    """A slow scorer on few half windows, and the rank of its real ones by two others."""
    yield f"### ProLong on {few.window.nunique()} half windows"
    yield from head("scorer", "real against shuffled", "rank correlation with DS", "with far gain")
    for scorer in few.scorer.unique():
        real = few[(few.scorer == scorer) & (few.version == "real")]
        ranks = []
        for other in ("longattn", "far gain"):
            theirs = deep[(deep.scorer == other) & (deep.version == "real")]
            both = real.merge(theirs, on="window", suffixes=("", "_other"))
            ranks.append(spearman(strength(both), both.ds_other.to_numpy(float)))
        found = over_domains(few, scorer, ORDER, strength)
        yield row(scorer, found, *(f"{rank:.2f}" for rank in ranks))


def cost(length: int) -> Iterator[str]:
    """CPU seconds a window on one thread; the least of three runs."""
    one_thread()
    token_ids: Tokens = np.random.default_rng(0).integers(0, 40_000, length)
    yield "### Cost"
    yield from head("scorer", "CPU s a window")
    specs = {
        "longattn, layer 0": ScorerSpec(model=str(SCORER)),
        "cohesion": ScorerSpec(scorer="cohesion"),
        **{name: ScorerSpec(scorer=name) for name in COUNTED},
    }
    for name, spec in specs.items():
        scorer = load_scorer(spec)
        spent = []
        for _ in range(3):
            before = time.process_time()
            scorer.score([token_ids])
            spent.append(time.process_time() - before)
        yield row(name, f"{min(spent):.3f}")


def interval(both: Pairs, measure: Measure) -> str:
    return shown(*auc_interval((both.wins(measure), both.documents)))


def shown(value: float, low: float, high: float, signed: bool = False) -> str:
    form = "+.2f" if signed else ".2f"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


if __name__ == "__main__":
    main()
