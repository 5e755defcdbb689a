"""Tokenizer files of other kinds as the JSON of a fast tokenizer: checked, or refused.

What transformers makes of a folder without tokenizer.json depends on what the folder says of its
class: of vocab.json alone it may make an empty tokenizer, of tokenizer.model alone one without the
space before the first word. So what is made is compared with what the files themselves say.
"""

import importlib
import json
from pathlib import Path
from typing import Any

from longattn.udfs.errors import ConfigError, whole_message

SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
PROBE = "The first words, then: naïve café 我们 x = 12345\n\tline  two 🌾 end"


def converted(folder: str) -> str:
    """The JSON of the tokenizer in a folder without tokenizer.json.

    Raises ConfigError where there is none, or one that gives other tokens than its files say.
    """
    files = Path(folder)
    known = [name for name in SENTENCEPIECE if (files / name).is_file()]
    model = files / known[0] if known else None
    try:
        if model and _is_sentencepiece(model):
            return _of_sentencepiece(folder, model)
        if (files / "vocab.json").is_file() and (files / "merges.txt").is_file():
            return _of_byte_pairs(folder)
        made = _of_transformers(folder)
        if not made.encode(PROBE, add_special_tokens=False).ids:
            names = sorted(file.name for file in files.iterdir())
            raise ValueError(f"what transformers makes of {names} gives no tokens")
        return str(made.to_str())
    except ConfigError:
        raise
    except Exception as error:  # each way to fail has a class of its own
        reason = whole_message(error)[:200]
        raise ConfigError(f"tokenizer {folder}: no tokenizer in this folder: {reason}") from None


def _of_transformers(folder: str) -> Any:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return loaded.backend_tokenizer


# --- vocab.json and merges.txt


def _of_byte_pairs(folder: str) -> str:
    """What the folder's class makes of them; GPT-2's, where it names none that reads them."""
    words = json.loads((Path(folder) / "vocab.json").read_text(encoding="utf-8"))
    for make in (_of_transformers, _gpt2):
        try:
            made = make(folder)
        except Exception:  # a class that wants other files
            continue
        ids = made.get_vocab()
        if all(ids.get(word) == number for word, number in words.items()):
            return str(made.to_str())
    raise ConfigError(
        f"tokenizer {folder}: vocab.json and merges.txt are of a kind that is not known: save it"
        " as tokenizer.json, or name its class in tokenizer_config.json"
    )


def _gpt2(folder: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    model = models.BPE.from_file(f"{folder}/vocab.json", f"{folder}/merges.txt")
    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    missing = set(pre_tokenizers.ByteLevel.alphabet()) - set(made.get_vocab())
    if missing:
        raise ValueError(f"{len(missing)} bytes have no token")
    return made


# --- SentencePiece


def _is_sentencepiece(model: Path) -> bool:
    """False for the other kind of file that is called tokenizer.model, tiktoken's."""
    try:
        return bool(_processor(model).get_piece_size())
    except RuntimeError:
        return False


def _processor(model: Path) -> Any:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise ConfigError(
            f"tokenizer {model}: SentencePiece models need the package sentencepiece:"
            " pip install longattn-spark[tokenizers]"
        ) from None
    return SentencePieceProcessor(model_file=str(model))


def _of_sentencepiece(folder: str, model: Path) -> str:
    """The model's own pieces and rules; a family that numbers pieces anew is left to its class."""
    processor = _processor(model)
    numbered = _numbered_anew(folder, processor)
    if numbered is not None:
        return numbered
    made = _from_pieces(model)
    want, got = processor.encode(PROBE), made.encode(PROBE, add_special_tokens=False).ids
    if want != got:
        raise ConfigError(
            f"tokenizer {folder}: {model.name} cannot be converted: it would give other tokens than"
            f" its own ({_first_difference(processor, want, got)}); save it as tokenizer.json"
        )
    return str(made.to_str())


def _numbered_anew(folder: str, processor: Any) -> str | None:
    """The tokenizer of the folder's class, where its ids are not the pieces' numbers (XGLM)."""
    if not any(
        (Path(folder) / name).is_file() for name in ("config.json", "tokenizer_config.json")
    ):
        return None
    try:
        made = _of_transformers(folder)
    except Exception:  # a class that wants other files
        return None
    ids = made.get_vocab()
    pieces = {processor.id_to_piece(i): i for i in range(processor.get_piece_size())}
    common = ids.keys() & pieces.keys()
    shifted = sum(ids[piece] != pieces[piece] for piece in common)
    return str(made.to_str()) if 2 * shifted > len(common) > len(pieces) // 2 else None


def _from_pieces(model: Path) -> Any:
    from tokenizers import AddedToken, Tokenizer

    made_of = importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    proto = made_of.ModelProto()
    proto.ParseFromString(model.read_bytes())
    made = Tokenizer(_bpe(proto) if proto.trainer_spec.model_type == 2 else _unigram(proto))
    made.normalizer = _normalizer(proto.normalizer_spec)
    made.decoder = _decoder()
    control, user_defined = 3, 4
    made.add_tokens(
        [
            AddedToken(piece.piece, normalized=False, special=piece.type == control)
            for piece in proto.pieces
            if piece.type in (control, user_defined)
        ]
    )
    return made


def _unigram(proto: Any) -> Any:
    from tokenizers.models import Unigram

    spec = proto.trainer_spec
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    return Unigram(pieces, unk_id=spec.unk_id, byte_fallback=spec.byte_fallback)


def _bpe(proto: Any) -> Any:
    """Merges are the ways to cut a piece into two others, those of the best piece first."""
    from tokenizers.models import BPE

    spec = proto.trainer_spec
    ids = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    merges = []
    for piece in proto.pieces:
        text = piece.piece
        cuts = ((text[:i], text[i:]) for i in range(1, len(text)))
        halves = sorted(cut for cut in cuts if cut[0] in ids and cut[1] in ids)
        merges += [(-piece.score, ids[a], ids[b], (a, b)) for a, b in halves]
    ordered = [pair for *_, pair in sorted(merges)]
    return BPE(
        ids, ordered, unk_token=spec.unk_piece, fuse_unk=True, byte_fallback=spec.byte_fallback
    )


def _normalizer(spec: Any) -> Any:
    """The steps that SentencePiece takes before it looks for pieces."""
    from tokenizers import Regex, normalizers

    steps: list[Any] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(" "))
    if spec.escape_whitespaces:
        steps.append(normalizers.Replace(" ", "▁"))
    return normalizers.Sequence(steps)


def _decoder() -> Any:
    from tokenizers import decoders

    return decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])


def _first_difference(processor: Any, want: list[int], got: list[int]) -> str:
    same = next((i for i, (a, b) in enumerate(zip(want, got, strict=False)) if a != b), len(got))
    piece = processor.id_to_piece(want[same]) if same < len(want) else "the end"
    return f"token {same}, {piece!r}"
