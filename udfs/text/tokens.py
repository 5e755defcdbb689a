"""Text to token ids with character positions, for documents of any length.

A long document is tokenised piece by piece, each piece starting where a token of the piece before
it started. A place to cut is taken only where the tokenizer, started afresh there, repeats the
tokens it gave when it came from the left. What is then assumed, and tested: no match of the
tokenizer depends on text more than MARGIN characters behind its end.

Strings such as <|endoftext|> in a document are text; no BOS, EOS or padding is added.
"""

import json
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longattn.udfs.digest import hex_digest, while_unchanged
from longattn.udfs.errors import ConfigError, first_line
from longattn.udfs.text import words
from longattn.udfs.text.conversion import PROBE, converted

MARGIN = 1024  # characters between a cut and the end of the piece that proposes it
CHUNK_CHARS = 1 << 18  # characters of a piece
TRIES = 3  # places tried of each kind before the next kind


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A document's tokens: ids and the character each starts at, both int32 [n_tokens].

    `soft_cuts` counts cuts inside one word of the pre-tokenizer, such as a megabyte of one letter:
    only there can ids differ from tokenising in one go.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int32]
    n_chars: int
    soft_cuts: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def char_at(self, boundary: int) -> int:
        """Character at a token boundary (0 to n_tokens), so that disjoint windows join up.

        A boundary inside a character (an emoji may be four tokens) counts as the character's start:
        the whole character is text of the later window.
        """
        if boundary == 0:
            return 0
        return self.n_chars if boundary == len(self) else int(self.starts[boundary])


class TextTokenizer:
    """A `tokenizers.Tokenizer` set up for plain text; knows which boundaries no token can cross."""

    def __init__(self, tokenizer: Any) -> None:
        tokenizer.encode_special_tokens = True
        tokenizer.post_processor = None  # it would trim the spaces off the offsets
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if hasattr(tokenizer.model, "dropout"):  # BPE's, for training: it makes ids random
            tokenizer.model.dropout = None
        self._tokenizer = tokenizer
        self.splits_words = len(set(self.encode("one two, three\nfour").word_ids)) > 1
        self.pairs = set() if self.splits_words else _inner_pairs(tokenizer.get_vocab())

    @property
    def tokenizer(self) -> Any:
        """The `tokenizers.Tokenizer` itself."""
        return self._tokenizer

    @property
    def vocabulary_size(self) -> int | None:
        """How many tokens there are, added ones too; None where there is no vocabulary."""
        size: int = self.tokenizer.get_vocab_size()
        return size

    def encode(self, text: str) -> Any:
        """The `tokenizers.Encoding` of a text, in one go."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def never_merged(self, left_id: int, right_id: int) -> bool:
        """True when no token of the vocabulary holds the two characters where these tokens meet.

        BPE makes tokens only by joining neighbours, and Unigram only picks from the vocabulary, so
        neither can then cross the boundary, whatever stands around it.
        """
        token = self.tokenizer.id_to_token
        return token(left_id)[-1:] + token(right_id)[:1] not in self.pairs


class WordTokenizer(TextTokenizer):
    """The split of `longattn.udfs.text.words` as a tokenizer: it gives ids and decodes nothing."""

    def __init__(self) -> None:
        self.splits_words = True
        self.pairs = set()

    @property
    def tokenizer(self) -> Any:
        raise ConfigError(
            f"tokenizer {words.NAME}: it has no vocabulary to pack, decode or train with;"
            " name your model's tokenizer"
        )

    @property
    def vocabulary_size(self) -> None:
        return None

    def encode(self, text: str) -> "_Words":
        return _Words(words.split_words(text)[0].tolist())


@dataclass(frozen=True)
class _Words:
    """The part of an encoding that callers use, where there are ids alone."""

    ids: list[int]

    def __len__(self) -> int:
        return len(self.ids)


def encode_long(tokenizer: TextTokenizer, text: str, chunk_chars: int = CHUNK_CHARS) -> Tokens:
    """Tokenise a text in pieces of about `chunk_chars` characters, in time linear in its length.

    The ids are those of tokenising in one go unless `soft_cuts` is above 0.
    """
    ids, starts, soft = zip(*_encoded_pieces(tokenizer, text, chunk_chars), strict=True)
    return Tokens(
        ids=np.concatenate(ids),
        starts=np.concatenate(starts),
        n_chars=len(text),
        soft_cuts=sum(soft),
    )


def count_tokens(tokenizer: TextTokenizer, text: str, enough: int) -> int:
    """Tokens of a text; counting ends with the piece in which there are `enough`."""
    count = 0
    for ids, _, _ in _encoded_pieces(tokenizer, text, CHUNK_CHARS):
        count += len(ids)
        if count >= enough:
            break
    return count


def _encoded_pieces(
    tokenizer: TextTokenizer, text: str, chunk_chars: int
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32], bool]]:
    """Ids and starts of one piece after the other, and whether it ends in a soft cut."""
    if isinstance(tokenizer, WordTokenizer):
        yield *words.split_words(text), False
        return
    here = _Cut(token=0, char=0)
    while here.char + chunk_chars < len(text):
        end = here.char + chunk_chars
        piece = _encode_from(tokenizer, text, here, end)
        here = _find_cut(tokenizer, text, piece, end)
        yield piece.ids[: here.token], piece.starts[: here.token], here.soft
    piece = _encode_from(tokenizer, text, here, len(text))
    yield piece.ids, piece.starts, False


@while_unchanged(lambda path: [path])
def load_tokenizer(path: str) -> TextTokenizer:
    """Load a fast tokenizer once, with one thread: the task slot's own.

    `path` is a folder, a tokenizer.json or a hub id, or `words` for the split that needs no files.
    Raises ConfigError when it is none of them.
    """
    if path == words.NAME:
        return WordTokenizer()
    from tokenizers import Tokenizer

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    settings = _tokenizer_json(path)
    try:
        loaded = TextTokenizer(Tokenizer.from_str(settings))
    except Exception as error:  # the library raises nothing more precise
        raise ConfigError(f"tokenizer {path}: not a fast tokenizer: {error}") from None
    if not loaded.encode(PROBE).ids:
        n_tokens = loaded.tokenizer.get_vocab_size()
        raise ConfigError(f"tokenizer {path}: gives no tokens; its vocabulary has {n_tokens}")
    return loaded


@while_unchanged(lambda path: [path])
def tokenizer_name(path: str) -> str:
    """Name a tokenizer by its content, for example `SmolLM2@ab12cd34`; equal files hash equal."""
    if path == words.NAME:
        return f"{words.NAME}@{words.VERSION}"
    return f"{_display_name(path)}@{hex_digest(_tokenizer_json(path))[:8]}"


def vocabulary(path: str) -> dict[str, int]:
    """Id of every token of the tokenizer at `path`."""
    id_of: dict[str, int] = load_tokenizer(path).tokenizer.get_vocab()
    return id_of


def separator_id(path: str, token: str | None) -> int:
    """Id of a token named in the config, or of the tokenizer's EOS when none is.

    Raises ConfigError when the vocabulary lacks it, or the tokenizer's folder names no EOS.
    """
    name = token or _special_token(path, "eos_token")
    if name is None:
        raise ConfigError(f"pack.separator: {path} names no eos_token; give the separator's token")
    token_id: int | None = load_tokenizer(path).tokenizer.token_to_id(name)
    if token_id is None:
        raise ConfigError(f"pack.separator: {name!r} is not a token of {path}")
    return token_id


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """A place where tokenising can start afresh: the token and the character that come first.

    `shift` says where to start reading, seen from `char`: 0; 1 where the tokenizer puts in that
    space itself; negative to come in from the left and drop what lies before `char`.
    """

    token: int
    char: int
    shift: int = 0
    soft: bool = False


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """Tokens of a part of a text; `starts` are characters of the whole text."""

    ids: NDArray[np.int32]
    starts: NDArray[np.int32]
    encoding: Any
    dropped: int  # tokens of the encoding before the first of the piece

    def starts_word(self, token: int) -> bool:
        word_of, index = self.encoding.token_to_word, self.dropped + token
        return bool(word_of(index) != word_of(index - 1))


def _encode_from(tokenizer: TextTokenizer, text: str, cut: _Cut, end: int) -> _Piece:
    begin = max(0, cut.char + cut.shift)
    encoding = tokenizer.encode(text[begin:end])
    n_tokens = len(encoding)
    firsts = map(itemgetter(0), encoding.offsets)
    starts = np.fromiter(firsts, dtype=np.int32, count=n_tokens) + np.int32(begin)
    dropped = int(np.searchsorted(starts, cut.char)) if cut.shift < 0 else 0
    if cut.shift > 0:
        starts[:1] = cut.char
    ids = np.array(encoding.ids, dtype=np.int32)
    return _Piece(ids=ids[dropped:], starts=starts[dropped:], encoding=encoding, dropped=dropped)


def _find_cut(tokenizer: TextTokenizer, text: str, piece: _Piece, end: int) -> _Cut:
    """The best place near a piece's end at which a fresh start repeats the piece's tokens."""
    begin = piece.starts[0] if len(piece.starts) else end
    margin = min(MARGIN, (end - int(begin)) // 4)
    first, last = np.searchsorted(piece.starts, [end - 2 * margin, end - margin])
    places = [
        token
        for token in range(int(last), max(int(first), 1), -1)
        if token < len(piece.ids) and piece.starts[token - 1] < piece.starts[token]
    ]
    for cut in _candidates(tokenizer, text, piece, places, margin):
        again = _encode_from(tokenizer, text, cut, end)
        if np.array_equal(again.ids, piece.ids[cut.token :]):
            return cut
    if places:
        return _Cut(token=places[0], char=int(piece.starts[places[0]]), soft=True)
    return _Cut(token=len(piece.ids), char=end, soft=True)


def _candidates(
    tokenizer: TextTokenizer, text: str, piece: _Piece, places: list[int], margin: int
) -> Iterator[_Cut]:
    """Cuts to try, best first: before a space between words, between words, then anywhere."""

    def hard(token: int) -> bool:
        before = text[int(piece.starts[token]) - 1]
        if before.isspace():  # a run of spaces may be matched to its end, however far that is
            return False
        if tokenizer.splits_words:
            return piece.starts_word(token)
        return tokenizer.never_merged(int(piece.ids[token - 1]), int(piece.ids[token]))

    def at_space(token: int) -> bool:
        return text[piece.starts[token]] == " "

    def free(token: int) -> bool:
        return not unicodedata.combining(text[piece.starts[token]])

    kinds = (
        (False, lambda token: at_space(token) and hard(token)),
        (False, lambda token: free(token) and hard(token)),
        (True, free),
    )
    for soft, wanted in kinds:
        tokens = list(islice(filter(wanted, places), TRIES))
        for shift in (0, 1, -margin):
            for token in tokens:
                if shift != 1 or at_space(token):
                    yield _Cut(token=token, char=int(piece.starts[token]), shift=shift, soft=soft)


def _inner_pairs(vocabulary: dict[str, int]) -> set[str]:
    """All pairs of characters that stand side by side in some token."""
    return {a + b for token in vocabulary for a, b in pairwise(token)}


@while_unchanged(lambda path: [path])
def _tokenizer_json(path: str) -> str:
    """The text of tokenizer.json; for a folder without one, what its files are converted to."""
    folder = Path(path)
    file = folder if folder.is_file() else folder / "tokenizer.json"
    if not file.is_file():
        return converted(path) if folder.is_dir() else _from_hub(path)
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(
            f"tokenizer {path}: it holds no text, as a tokenizer.json does: name one, a folder with"
            " a tokenizer or a hub id"
        ) from None


def _from_hub(name: str) -> str:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, "tokenizer.json")).read_text(encoding="utf-8")
    except Exception as error:  # one class per way to miss a network
        reason = first_line(error)
        raise ConfigError(
            f"tokenizer {name}: no such file or folder, nor on the hub: {reason}"
        ) from None


def _display_name(path: str) -> str:
    """The model's name where the folder has it, else the folder's or the file's own."""
    folder = _folder(path)
    name = _settings(folder / "scorer.json").get("name")
    stem = Path(path).stem if Path(path).is_file() else Path(path).name
    return str(name or (folder.resolve().name if stem == "tokenizer" else stem))


def _special_token(path: str, kind: str) -> str | None:
    """A special token's text from tokenizer_config.json or special_tokens_map.json."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = _settings(_folder(path) / name).get(kind)
        if token:
            return str(token["content"] if isinstance(token, dict) else token)
    return None


def _folder(path: str) -> Path:
    return Path(path).parent if Path(path).is_file() else Path(path)


def _settings(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
