"""Does a language model gain of the documents packed before? SmolLM2-135M, beside the counts.

    python -m benchmarks.windows.judged [--windows 13] [--length 2048] [--minutes M] [--out FILE]

Windows as benchmarks.windows.similar builds them, so many of each corpus and order, drawn at
random. The judge reads the whole window, then every document after the first alone, restarted. Its
gain is the loss alone less the loss in the window, a mean over the tokens of documents after the
first, in nats; LongFilter's score weighs each token by the probability that it has in the window,
as `fargain` does. A document's first token has no loss alone and does not count.

Each window judged is a JSON line of FILE, so that a run that was stopped goes on where it was.
"""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.evidence.agreement import resampled
from benchmarks.evidence.corpus import Tokens
from benchmarks.evidence.gain import JUDGES, OUT, in_turns
from benchmarks.evidence.intervals import interval, redrawn
from benchmarks.evidence.markdown import head, row
from benchmarks.windows.similar import Window, built, ratios
from longattn.udfs.models.causal import CausalLM, load_causal_lm
from longattn.udfs.models.precision import dtype_of
from longattn.udfs.scorers.kinds.fargain import longfilter
from longattn.udfs.scorers.kinds.recall import cross_gain

JUDGE = JUDGES["SmolLM2-135M"]
POOL = 60  # windows that documents are packed into, of which some are judged
CONTROL = "own text"
MEASURES = {"gain": "judge's gain", "longfilter": "LongFilter's score", "counts": "cross gain"}

Losses = NDArray[np.float64]
Key = tuple[str, str, int]  # corpus, order, number of the window


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--windows", type=int, default=13, help="of each corpus and order")
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--minutes", type=float, default=np.inf, help="judge none after these")
    parser.add_argument("--out", type=Path, help="JSON lines of windows judged")
    given = parser.parse_args()
    out = given.out or OUT / f"packed-{given.length}.jsonl"
    if given.minutes > 0:
        windows = built(JUDGE.tokenizer, POOL, given.length, verify=False)
        judge(drawn(windows, given.windows), out, given.minutes)
    print(*tables(pd.DataFrame(read(out))), sep="\n")


def drawn(windows: dict[str, dict[str, list[Window]]], count: int) -> Iterable[tuple[Key, Window]]:
    """So many windows of each corpus and order, in turns."""
    rng = np.random.default_rng(0)
    return in_turns(
        [((corpus, order, int(n)), of[order][n]) for n in rng.permutation(len(of[order]))[:count]]
        for corpus, of in windows.items()
        for order in of
    )


def judge(windows: Iterable[tuple[Key, Window]], out: Path, minutes: float) -> None:
    """Add the windows that are not there yet, starting none after so many minutes."""
    torch.set_num_threads(1)
    lm = load_causal_lm(str(JUDGE.model), dtype_of("auto", "cpu"), "cpu", "fargain")
    out.parent.mkdir(parents=True, exist_ok=True)
    known = {(one["corpus"], one["order"], one["window"]) for one in read(out)}
    end = time.time() + 60 * minutes
    with out.open("a") as file:
        for key, window in windows:
            if key not in known and time.time() < end:
                file.write(json.dumps(judged(lm, key, window)) + "\n")
                file.flush()


def read(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def judged(lm: CausalLM, key: Key, window: Window) -> dict[str, object]:
    started = time.process_time()
    whole_L, own_L = losses(lm, *window)
    gain_L = (own_L - whole_L)[window[1][0] :]
    known = gain_L[~np.isnan(gain_L)]
    return {
        **dict(zip(("corpus", "order", "window"), key, strict=True)),
        "segments": len(window[1]),
        "gain": float(known.mean()) if len(known) else 0.0,
        "longfilter": longfilter(whole_L, own_L),
        "counts": float(cross_gain(*window).mean()),
        "seconds": time.process_time() - started,
    }


def losses(lm: CausalLM, token_ids: Tokens, n_tokens_S: NDArray[np.int64]) -> tuple[Losses, Losses]:
    """Of each token in nats [L]: given all of the window before it, and given its segment alone.

    The first segment's are the same; nan where nothing stands before the token.
    """
    whole_L = _losses(lm, token_ids)
    first, *others = np.split(token_ids, np.cumsum(n_tokens_S)[:-1])
    return whole_L, np.concatenate([whole_L[: len(first)], *(_losses(lm, ids) for ids in others)])


def _losses(lm: CausalLM, token_ids: Tokens) -> Losses:
    if len(token_ids) < 2:
        return np.full(len(token_ids), np.nan)
    with torch.inference_mode():
        losses_1L = lm.losses(torch.from_numpy(token_ids)[None], len(token_ids) - 1)
    return np.append(np.nan, losses_1L[0].double().numpy())


def tables(rows: pd.DataFrame) -> Iterator[str]:
    for measure, name in MEASURES.items():
        yield f"\n### {name}, nats a token, and as a multiple of random order's"
        yield from table(rows, measure)
    yield "\n### Spearman of windows, of the counts with the judge"
    yield from agreement(rows)


def table(rows: pd.DataFrame, measure: str) -> Iterator[str]:
    """A row for each corpus: windows, then means by order with 95 % intervals over windows."""
    orders = list(rows.order.unique())
    yield from head("documents", "windows", *orders, *(f"{o}, times" for o in orders[1:]))
    times: list[list[Losses]] = []
    for corpus, some in rows.groupby("corpus", sort=False):
        of = {order: some[some.order == order][measure].to_numpy() for order in orders}
        times.append([ratios(of[order], of["random"]) for order in orders[1:]])
        means = (interval(mean_drawn(values), 3) for values in of.values())
        yield row(str(corpus), str(len(some)), *means, *map(interval, times[-1]))
    every = [interval(np.mean(draws, axis=0)) for draws in zip(*times, strict=True)]
    yield row("all, the mean", str(len(rows)), *("" for _ in orders), *every)


def mean_drawn(values: Losses) -> Losses:
    """The mean, then that of each draw of windows with replacement."""
    return np.array([values[index].mean() for index in redrawn(np.arange(len(values)).astype(str))])


def agreement(rows: pd.DataFrame) -> Iterator[str]:
    """With the judge's gain and with LongFilter's score; without the control, and with it."""
    yield from head("windows", "number", "judge", "within corpora, the mean", "all together")
    packed = rows[rows.order != CONTROL]
    kinds = {"packed": packed, f"packed, and {CONTROL}": rows}
    for (kind, some), truth in product(kinds.items(), ("gain", "longfilter")):
        named = some.assign(ds=some.counts, truth=some[truth], document=some.index.astype(str))
        within = [resampled(each) for _, each in named.groupby("corpus")]
        cells = interval(np.mean(within, axis=0)), interval(resampled(named))
        yield row(kind, str(len(some)), MEASURES[truth], *cells)


if __name__ == "__main__":
    main()
