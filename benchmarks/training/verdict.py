"""What counts as better, said before anything is trained."""

import pandas as pd

RULE = """A selection wins if, in most seeds, its far gain, its key tokens' loss or the likelihood
of copies or of pairs is better than that of the best of three random draws, and its loss on short
documents is less than 0.01 nats above that of the random draws' mean."""

FORGIVEN = 0.01  # nats of short loss
HIGHER = ("far_gain", "copy", "pair")
LOWER = ("key_loss",)


def verdicts(measured: pd.DataFrame) -> pd.DataFrame:
    """Per arm: seeds in which it wins by each measure, seeds, worst rise of short loss, and `wins`.

    `measured` has a row for each arm and seed: arm, seed, and the measures of `measures.judge`.
    """
    table = _with_means(measured)
    rows = [_verdict(name, mine, table) for name, mine in table.groupby("arm", sort=False)]
    return pd.DataFrame(rows)


def _verdict(name: object, mine: pd.DataFrame, table: pd.DataFrame) -> dict[str, object]:
    random = table[table["arm"].str.startswith("random")]
    wins = {
        **{m: _seeds_better(mine, random, m, sign=1) for m in HIGHER},
        **{m: _seeds_better(mine, random, m, sign=-1) for m in LOWER},
    }
    base = random.groupby("seed")["short_loss"].mean()
    rise = float((mine.set_index("seed")["short_loss"] - base).max())
    most = max(wins.values()) > len(mine) / 2
    better = bool(most and rise < FORGIVEN and not str(name).startswith("random"))
    return {"arm": name, **wins, "seeds": len(mine), "short_rise": rise, "wins": better}


def _seeds_better(mine: pd.DataFrame, random: pd.DataFrame, measure: str, sign: int) -> int:
    best = (sign * random[measure]).groupby(random["seed"]).max()
    ours = (sign * mine[measure]).set_axis(mine["seed"])
    return int((ours > best.reindex(ours.index)).sum())


def _with_means(measured: pd.DataFrame) -> pd.DataFrame:
    """Add `copy` and `pair`, the means over distances."""
    means = {
        kind: measured[[c for c in measured if str(c).startswith(f"{kind}_")]].mean(axis=1)
        for kind in ("copy", "pair")
    }
    return measured.assign(**means)
