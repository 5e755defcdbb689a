"""What a language makes likely before anything of a window is known: counts of other documents.

With n(g) for how many documents hold an n-gram besides one (longattn.udfs.text.counts), N for the
sum of n over the n-grams with the same beginning, V kinds of tokens and S_0, S_1, S_2 = STRENGTHS,
the probability of token t after tokens s and r is

    q_0 = (n(t) + S_0 / V) / (N() + S_0),   q_1 = (n(st) + S_1 q_0) / (N(s) + S_1),
    q_2 = (n(rst) + S_2 q_1) / (N(rs) + S_2)

the hierarchical Dirichlet model that `recall` is made of too. It counts documents and not
occurrences, so it says less than it could of what all documents have, and that is little known
from a window alone: q_2 is for tokens that a window has not shown yet.

A folder, memory-mapped by all workers of a machine:

background.json   Manifest
starts.npy        uint32 [2^B + 1]: where the keys begin whose first B bits are 0, 1, ...
prints.npy        uint16 [E]: the next 16 bits of each key, rising between two starts
levels.npy        uint8 [E]: the number, exact up to 31, and then to 6 %

That is 3.5 to 4 bytes an entry. A key that is not there is taken for another one of its bucket, of
4 to 8, at most once in 8,000 times.
"""

import atexit
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from longattn.udfs.digest import hex_digest
from longattn.udfs.errors import ConfigError, ModelError
from longattn.udfs.scorers.base import TokenIds
from longattn.udfs.text.counts import (
    MOST,
    Keys,
    Ngrams,
    Numbers,
    besides_one,
    held_by,
    placed,
    top_key,
    with_sums,
)

FORMAT = 1
SHIPPED, NONE = "shipped", "none"  # settings of `background` that are no folder's name
MANIFEST, STARTS, PRINTS, LEVELS = "background.json", "starts.npy", "prints.npy", "levels.npy"
STRENGTHS = (3.0, 200.0, 60.0)  # documents that outweigh what is known from a token less, by order
MANY, FEWEST = 100, 5  # boilerplate is what one document in so many has, and so many at least
BUCKET = 8  # entries of a bucket, at most on average

Vector = NDArray[np.float64]

# What a level stands for: every number to 31, then steps of 9 % up to some 10^10.
NUMBERS = np.append(np.arange(32), np.round(32 * 1.0917 ** np.arange(1, 225))).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What background.json says; the driver names a scorer's version by it."""

    hash: str  # SHA-256 of the arrays and of all that follows, hex
    documents: int
    kinds: int  # of tokens that two documents hold
    entries: int
    tokenizer: str
    format: int = FORMAT

    @property
    def name(self) -> str:
        return f"{self.documents}@{self.hash[:8]}"


class Background:
    """A background that was read; its arrays stay on disk until they are asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises ModelError, naming the folder, where it holds no background."""
        self.folder, self.manifest = folder, read_manifest(folder)
        try:
            self.starts, self.prints, self.levels = (
                np.load(folder / name, mmap_mode="r") for name in (STARTS, PRINTS, LEVELS)
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"background: {folder} is broken: {error}") from None
        if not len(self.prints) == len(self.levels) == self.manifest.entries:
            raise ModelError(f"background: {folder} is broken: arrays of other lengths")

    def known(self, token_ids: TokenIds) -> tuple[Vector, NDArray[np.bool_]]:
        """The probability of every token after the two before it [L], and whether it is widespread.

        That is whether it ends three tokens that one document in MANY holds, or more [L].
        """
        p_L = np.full(len(token_ids), 1 / max(self.manifest.kinds, 1))
        for (start, key_G, above_G), strength in zip(placed(token_ids), STRENGTHS, strict=True):
            n_G, total_G = self.numbers(key_G), self.numbers(above_G)
            p_L[start:] = (n_G + strength * p_L[start:]) / (total_G + strength)
        widespread_L = np.zeros(len(token_ids), bool)
        widespread_L[start:] = n_G >= max(self.manifest.documents / MANY, FEWEST)  # of the longest
        return p_L, widespread_L

    def rarity(self, token_ids: TokenIds) -> Vector:
        """log(documents / documents that hold the token, the one it is in not counted) [L]."""
        (_, key_L, _), *_ = placed(token_ids)
        rarity_L: Vector = np.log(self.manifest.documents / (1 + self.numbers(key_L)))
        return rarity_L

    def numbers(self, key_G: Keys) -> Numbers:
        """The number of each key, 0 where there is none [G]."""
        if not self.manifest.entries:
            return np.zeros(len(key_G), np.int64)
        at_G, there_G = self._places(key_G)
        numbers: Numbers = np.where(there_G, NUMBERS[self.levels[at_G]], 0)
        return numbers

    def _places(self, key_G: Keys) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where each key would stand, and whether it does; by bisection in its bucket."""
        bucket_G, print_G = _split(key_G, self._bits)
        low_G = self.starts[bucket_G].astype(np.int64)
        end_G = high_G = self.starts[bucket_G + 1].astype(np.int64)
        last = self.manifest.entries - 1
        for _ in range(self._steps):
            middle_G = np.minimum((low_G + high_G) // 2, last)
            below_G = (middle_G < high_G) & (self.prints[middle_G] < print_G)
            low_G = np.where(below_G, middle_G + 1, low_G)
            high_G = np.where(below_G, high_G, middle_G)
        at_G = np.minimum(low_G, last)
        return at_G, (low_G < end_G) & (self.prints[at_G] == print_G)

    @cached_property
    def _bits(self) -> int:
        return int(len(self.starts) - 1).bit_length() - 1

    @cached_property
    def _steps(self) -> int:
        """Halvings that leave nothing of the largest bucket."""
        return int(np.diff(self.starts).max()).bit_length()


def write_counted(
    parent: Path, documents: Iterable[TokenIds], *, tokenizer: str, most: int = MOST
) -> Path:
    """Count documents and write their background into a new folder of `parent`, named by content.

    `tokenizer` is the name of what made the ids; `most` n-grams are kept at most.
    """
    count = 0

    def each() -> Iterator[list[TokenIds]]:
        nonlocal count
        for token_ids in documents:
            count += 1
            yield [token_ids]

    ngrams = besides_one(held_by(each()), most)
    return write_ngrams(parent, ngrams, documents=count, tokenizer=tokenizer)


def write_ngrams(parent: Path, ngrams: Ngrams, *, documents: int, tokenizer: str) -> Path:
    """Write n-grams and their n, as `besides_one` gives them, and the sums above them."""
    kinds = int((ngrams.above_G == top_key()).sum())
    entries = with_sums(ngrams)
    return write(parent, *entries, documents=documents, kinds=kinds, tokenizer=tokenizer)


def write(
    parent: Path, key_E: Keys, number_E: Numbers, *, documents: int, kinds: int, tokenizer: str
) -> Path:
    """Write entries of any order; the folder, which is there already where the content was.

    Entries that fall on one place become one, with the largest of their numbers.
    """
    arrays = _arrays(key_E, number_E)
    facts = {"documents": documents, "kinds": kinds, "tokenizer": tokenizer, "format": FORMAT}
    digest = hex_digest(json.dumps(facts, sort_keys=True), *(a.tobytes() for a in arrays.values()))
    manifest = Manifest(
        hash=digest,
        documents=documents,
        kinds=kinds,
        entries=len(arrays[PRINTS]),
        tokenizer=tokenizer,
    )
    folder = parent / f"background-{digest[:12]}"
    if not (folder / MANIFEST).exists():
        _write_whole(folder, arrays, manifest)
    return folder


def background_folder(setting: str | None) -> Path | None:
    """What the setting `background` means: a folder, the one in this package, or none."""
    if setting in (None, NONE):
        return None
    return _shipped() if setting == SHIPPED else Path(setting)


@cache
def _shipped() -> Path:
    """The folder in this package; a copy of it where the package is imported from an archive."""
    source = resources.files(__package__.rpartition(".")[0]) / "resources" / "background-words"
    if isinstance(source, Path):
        return source
    folder = Path(tempfile.mkdtemp(prefix="longattn-background-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def open_background(setting: str | None) -> Background | None:
    folder = background_folder(setting)
    return Background(folder) if folder else None


def background_name(setting: str | None) -> str | None:
    """For example `1200@ab12cd34`: documents and hash; raises ModelError where there is none."""
    folder = background_folder(setting)
    return read_manifest(folder).name if folder else None


def refuse_other_ids(setting: str | None, tokenizer: str) -> None:
    """Raise ConfigError for a background that counts other ids than those of a tokenizer's name."""
    folder = background_folder(setting)
    counted = read_manifest(folder).tokenizer if folder else tokenizer
    if counted.split("@")[-1] != tokenizer.split("@")[-1]:
        raise ConfigError(
            f"score.background: {folder} counts tokens of {counted}, and windows are made of"
            f" {tokenizer}: count one with `longattn scorer background` and that tokenizer"
        )


def read_manifest(folder: Path) -> Manifest:
    """Raises ModelError where there is no background, a broken one, or one of another format."""
    try:
        fields = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        manifest = Manifest(**fields)
    except OSError:
        raise ModelError(f"background: no background in {folder}") from None
    except (ValueError, TypeError) as error:
        raise ModelError(f"background: {folder} is broken: {MANIFEST}: {error}") from None
    if manifest.format != FORMAT:
        raise ModelError(f"background: {folder} has format {manifest.format}, not {FORMAT}")
    return manifest


def _split(key_G: Keys, bits: int) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """The bucket of each key, its first bits, and its print, the 16 after them."""
    bucket_G = (key_G >> np.uint64(63 - bits) >> np.uint64(1)).astype(np.int64)
    return bucket_G, (key_G >> np.uint64(48 - bits)).astype(np.uint16)


def _arrays(key_E: Keys, number_E: Numbers) -> dict[str, NDArray[np.generic]]:
    """The three arrays by file name. Entries become 48 bits each and are sorted as numbers."""
    bits = (len(key_E) // BUCKET).bit_length()
    rank_E = np.uint64(255) - _levels(number_E)  # the largest of a place comes first
    packed_E = (key_E >> np.uint64(48 - bits)) << np.uint64(8) | rank_E
    packed_E.sort()
    place_E = (packed_E >> np.uint64(8)).astype(np.int64)
    first = np.diff(place_E, prepend=-1) != 0
    starts = np.searchsorted(place_E[first] >> 16, np.arange((1 << bits) + 1))
    return {
        STARTS: starts.astype(np.uint32),
        PRINTS: place_E[first].astype(np.uint16),
        LEVELS: (255 - packed_E[first].astype(np.uint8)),
    }


def _levels(number_E: Numbers) -> NDArray[np.uint8]:
    """The level nearest to each number."""
    between = (NUMBERS[1:] + NUMBERS[:-1] + 1) // 2
    return np.searchsorted(between, number_E, side="right").astype(np.uint8)


def _write_whole(folder: Path, arrays: dict[str, NDArray[np.generic]], manifest: Manifest) -> None:
    """Write beside it, and move: no reader sees a part, and of two writers one is enough."""
    unfinished = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    unfinished.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(unfinished / name, array)
    (unfinished / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n")
    try:
        unfinished.rename(folder)
    except OSError:
        shutil.rmtree(unfinished)
        read_manifest(folder)
