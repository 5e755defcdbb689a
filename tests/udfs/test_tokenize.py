"""Chunked tokenising against tokenising in one go, for each family of tokenizers."""

import base64
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from longattn.udfs.errors import ConfigError
from longattn.udfs.text.tokens import (
    TextTokenizer,
    Tokens,
    count_tokens,
    encode_long,
    load_tokenizer,
    separator_id,
    tokenizer_name,
)

SCORER = Path(__file__).resolve().parents[2] / "data" / "scorer"
EOS = "<|endoftext|>"
CORPUS = [Path(__file__).read_text(encoding="utf-8"), "naïve café 我们今天去北京。 1234567 " * 20]

PIECES = st.sampled_from(
    [" ", "  ", "\n", "\r\n", "\t", "word", "Word's", "café", "e\u0301", "x=1;", "12345", "我们",
     "。", "😀", "👍🏽", "\0", "\u3000", "\u2028", "----", "aaaa", EOS, "</s>", "\u2581"]
)  # fmt: skip
TEXTS = st.lists(st.tuples(PIECES, st.integers(1, 12)), max_size=150).map(
    lambda parts: "".join(piece * times for piece, times in parts)
)


def byte_level(prefix_space: bool = False) -> Tokenizer:
    """As GPT-2 and SmolLM2: a regex splits words, merges happen within them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=prefix_space),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer


def groups_of_three_digits() -> Tokenizer:
    """As Llama 3 and Qwen: digits split by three, so where a run starts matters; NFC."""
    tokenizer = byte_level()
    pattern = (
        r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def sentencepiece_bpe(legacy: bool) -> Tokenizer:
    """As Llama 2 (legacy: a normaliser prepends the space) and Mistral v3: no words at all."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<unk>", "</s>", *byte_tokens], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if legacy:
        tokenizer.pre_tokenizer = None
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return tokenizer


def unigram() -> Tokenizer:
    """As T5: words by Metaspace, the likeliest segmentation within them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


FAMILIES: dict[str, Any] = {
    "byte_level": byte_level(),
    "prefix_space": byte_level(prefix_space=True),
    "three_digits": groups_of_three_digits(),
    "llama2": sentencepiece_bpe(legacy=True),
    "mistral": sentencepiece_bpe(legacy=False),
    "unigram": unigram(),
}
TOKENIZERS = {name: TextTokenizer(tokenizer) for name, tokenizer in FAMILIES.items()}
every_family = pytest.mark.parametrize("family", FAMILIES)


def in_one_go(tokenizer: TextTokenizer, text: str) -> tuple[list[int], list[int]]:
    encoding = tokenizer.encode(text)
    return encoding.ids, [start for start, _ in encoding.offsets]


@every_family
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_ids_and_positions_are_those_of_one_go(family: str, text: str) -> None:
    tokens = encode_long(TOKENIZERS[family], text, chunk_chars=512)
    if not tokens.soft_cuts:
        assert (tokens.ids.tolist(), tokens.starts.tolist()) == in_one_go(TOKENIZERS[family], text)


def test_counting_ends_where_there_are_enough() -> None:
    tokenizer, text = TOKENIZERS["byte_level"], "ab \n" * 200_000
    whole = len(encode_long(tokenizer, text))
    assert count_tokens(tokenizer, text, enough=whole + 1) == whole
    assert 10 <= count_tokens(tokenizer, text, enough=10) < whole / 2


@every_family
def test_prose_and_code_need_no_soft_cut(family: str) -> None:
    tokens = encode_long(TOKENIZERS[family], CORPUS[0] * 3, chunk_chars=512)
    assert tokens.soft_cuts == 0
    assert tokens.ids.tolist() == in_one_go(TOKENIZERS[family], CORPUS[0] * 3)[0]


HOSTILE = {
    "one_letter": "a" * 60_000,
    "accents": "e\u0301" * 20_000,
    "spaces": " " * 60_000,
    "mixed_newlines": "\r\n\n\r \t\n" * 8_000,
    "base64": base64.b64encode(random.Random(0).randbytes(40_000)).decode(),
    "digits": "1234567890" * 5_000,
    "emoji": "😀👍🏽" * 8_000,
    "nul": "\0" * 40_000,
    "no_space": "我们今天去北京。" * 5_000,
}


@pytest.mark.parametrize("family", ["byte_level", "three_digits", "mistral"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_is_exact_or_flagged_and_never_lost(family: str, kind: str) -> None:
    text = HOSTILE[kind]
    tokenizer = TOKENIZERS[family]
    tokens = encode_long(tokenizer, text, chunk_chars=8_192)
    assert tokens.soft_cuts > 0 or tokens.ids.tolist() == in_one_go(tokenizer, text)[0]
    if family == "byte_level":
        assert tokenizer.tokenizer.decode(tokens.ids.tolist()) == text


@pytest.mark.parametrize("text", [" " * 9_000, "a b" + " " * 9_000 + "b a", " " * 9_000 + "a"])
def test_a_tokenizer_that_drops_spaces_meets_many(text: str) -> None:
    """As BERT's do: a piece of such a text may have no token at all."""
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokens = encode_long(TextTokenizer(tokenizer), text, chunk_chars=1_000)
    places = [i for i, letter in enumerate(text) if letter != " "]
    assert tokens.starts.tolist() == places
    assert tokens.ids.tolist() == ["ab".index(text[i]) for i in places]


def test_one_long_word_is_a_soft_cut() -> None:
    assert encode_long(TOKENIZERS["byte_level"], "a" * 5_000, chunk_chars=1_000).soft_cuts > 0


def test_digit_groups_keep_the_phase_of_their_run() -> None:
    tokens = encode_long(TOKENIZERS["three_digits"], "7" * 5_000, chunk_chars=1_000)
    assert tokens.soft_cuts == 0
    assert np.unique(np.diff(tokens.starts[::3]))[0] >= 3
    assert tokens.ids.tolist() == in_one_go(TOKENIZERS["three_digits"], "7" * 5_000)[0]


@settings(max_examples=60, deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 5_000), max_size=6))
def test_texts_of_disjoint_spans_join_up_to_the_document(text: str, cuts: list[int]) -> None:
    tokens = encode_long(TOKENIZERS["byte_level"], text, chunk_chars=512)
    bounds = sorted({0, len(tokens), *(cut for cut in cuts if cut < len(tokens))})
    chars = [tokens.char_at(bound) for bound in bounds]
    assert "".join(text[start:end] for start, end in pairwise(chars)) == text


def test_offsets_decode_to_the_text_between_whole_characters() -> None:
    tokenizer, text = TOKENIZERS["byte_level"], CORPUS[0]
    tokens = encode_long(tokenizer, text, chunk_chars=512)
    for start, end in ((0, 50), (50, 200), (200, len(tokens))):
        decoded = tokenizer.tokenizer.decode(tokens.ids[start:end].tolist())
        assert decoded == text[tokens.char_at(start) : tokens.char_at(end)]


def test_a_boundary_inside_an_emoji_is_the_emoji_s_start() -> None:
    tokens = encode_long(TOKENIZERS["byte_level"], "ab😀c")
    inside = [i for i in range(1, len(tokens)) if tokens.starts[i] == tokens.starts[i - 1]]
    assert inside, "the emoji is several tokens"
    assert {tokens.char_at(i) for i in inside} == {2}


def test_special_strings_in_a_document_are_text() -> None:
    tokenizer = TOKENIZERS["byte_level"]
    tokens = encode_long(tokenizer, f"a{EOS}b")
    assert tokenizer.tokenizer.token_to_id(EOS) not in tokens.ids
    assert tokenizer.tokenizer.decode(tokens.ids.tolist()) == f"a{EOS}b"


def test_post_processor_truncation_and_padding_of_the_file_are_not_applied() -> None:
    tokenizer = byte_level()
    plain = tokenizer.encode("one two").ids
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{EOS} $A", special_tokens=[(EOS, tokenizer.token_to_id(EOS))]
    )
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=50)
    assert encode_long(TextTokenizer(tokenizer), "one two").ids.tolist() == plain


def test_an_empty_text_has_no_tokens() -> None:
    tokens = encode_long(TOKENIZERS["byte_level"], "")
    assert (len(tokens), tokens.char_at(0)) == (0, 0)
    assert tokens.ids.dtype == tokens.starts.dtype == np.int32


def test_a_boundary_at_the_end_is_the_end_of_the_text() -> None:
    tokens = Tokens(ids=np.array([5, 6], np.int32), starts=np.array([0, 3], np.int32), n_chars=9)
    assert [tokens.char_at(i) for i in range(3)] == [0, 3, 9]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "Tiny-BPE"
    folder.mkdir()
    FAMILIES["byte_level"].save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": EOS}}))
    return folder


def test_a_folder_and_its_file_are_the_same_tokenizer(folder: Path) -> None:
    name = tokenizer_name(str(folder))
    assert name == tokenizer_name(str(folder / "tokenizer.json"))
    assert name.startswith("Tiny-BPE@") and len(name) == len("Tiny-BPE@") + 8
    assert (
        load_tokenizer(str(folder)).encode("one").ids == TOKENIZERS["byte_level"].encode("one").ids
    )


def test_another_content_is_another_name(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "Tiny-BPE"
    other.mkdir(parents=True)
    FAMILIES["unigram"].save(str(other / "tokenizer.json"))
    assert tokenizer_name(str(other)) != tokenizer_name(str(folder))


def test_the_separator_is_the_named_token_or_eos(folder: Path) -> None:
    assert separator_id(str(folder), None) == 0
    assert separator_id(str(folder), "a") == FAMILIES["byte_level"].token_to_id("a")
    with pytest.raises(ConfigError, match=r"pack\.separator.*'<sep>' is not a token"):
        separator_id(str(folder), "<sep>")


def test_a_tokenizer_without_eos_asks_for_a_separator(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ConfigError, match="names no eos_token"):
        separator_id(str(folder), None)


def test_a_file_that_is_no_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    with pytest.raises(ConfigError, match="not a fast tokenizer"):
        load_tokenizer(str(file))
    for name in ("tokenizer.model", "x.gguf"):
        (tmp_path / name).write_bytes(b"GGUF\xff")
        with pytest.raises(ConfigError, match=f"{name}: it holds no text, as a tok"):
            load_tokenizer(str(tmp_path / name))


@pytest.mark.demo
@pytest.mark.skipif(not (SCORER / "tokenizer.json").is_file(), reason="no demo tokenizer")
@pytest.mark.parametrize("kind", HOSTILE)
def test_the_demo_tokenizer_on_hostile_text(kind: str) -> None:
    tokenizer, text = load_tokenizer(str(SCORER)), HOSTILE[kind]
    tokens = encode_long(tokenizer, text, chunk_chars=8_192)
    expected = in_one_go(tokenizer, text)
    assert tokens.soft_cuts or (tokens.ids.tolist(), tokens.starts.tolist()) == expected
    assert tokenizer.tokenizer.decode(tokens.ids.tolist()) == text


# --- files that are no tokenizer.json

LINES = ["the quick brown fox jumps over 123 naïve café 我们", "hello world: x = 12 tokens\n"] * 40
HARD = ["The first  words", " leading", "12345 我们 🌾", "a\tb\n\nc", "naïve café", "x" * 50, "ﬁ ½"]


def byte_pairs(folder: Path) -> Any:
    """vocab.json and merges.txt in a folder; the tokenizer that they are of."""
    folder.mkdir()
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=350, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(LINES, trainer)
    made.model.save(str(folder))
    return made


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"config.json": {"model_type": "gpt2"}},
        {"config.json": {"model_type": "llama"}},
        {"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer"}},  # makes an empty one
        {"tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"}},
    ],
)
def test_vocabulary_and_merges_are_a_tokenizer(said: dict[str, Any], tmp_path: Path) -> None:
    made = byte_pairs(tmp_path / "bpe")
    for name, settings_ in said.items():
        (tmp_path / "bpe" / name).write_text(json.dumps(settings_))
    loaded = load_tokenizer(str(tmp_path / "bpe"))
    for text in HARD:
        assert loaded.encode(text).ids == made.encode(text, add_special_tokens=False).ids


def sentencepiece_model(folder: Path, kind: str, normaliser: str) -> Any:
    """tokenizer.model in a folder; SentencePiece's own processor of it."""
    import sentencepiece

    folder.mkdir()
    (folder / "corpus.txt").write_text("\n".join(LINES))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "tokenizer"),
        model_type=kind,
        vocab_size=320,
        byte_fallback=True,
        hard_vocab_limit=False,
        normalization_rule_name=normaliser,
        remove_extra_whitespaces=normaliser != "identity",
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


@pytest.mark.parametrize("said", [{}, {"model_type": "llama"}, {"model_type": "gemma"}])
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("normaliser", ["identity", "nmt_nfkc"])
def test_a_sentencepiece_model_gives_its_own_tokens(
    said: dict[str, str], kind: str, normaliser: str, tmp_path: Path
) -> None:
    processor = sentencepiece_model(tmp_path / "spm", kind, normaliser)
    if said:
        (tmp_path / "spm" / "config.json").write_text(json.dumps(said))
    loaded = load_tokenizer(str(tmp_path / "spm"))
    for text in HARD:
        assert loaded.encode(text).ids == processor.encode(text), text


def test_a_tiktoken_model_gives_its_own_tokens(tmp_path: Path) -> None:
    import tiktoken

    ranks = {bytes([i]): i for i in range(256)}
    ranks |= {token: 256 + i for i, token in enumerate((b"th", b"he", b" t", b"the", b" the"))}
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())
    (tmp_path / "tokenizer.model").write_text("".join(lines))
    from transformers.convert_slow_tokenizer import TikTokenConverter

    pattern = TikTokenConverter("").pattern
    own = tiktoken.Encoding("own", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    loaded = load_tokenizer(str(tmp_path))
    for text in HARD:
        assert loaded.encode(text).ids == own.encode(text)


def test_a_tokenizer_that_gives_no_tokens_is_refused(tmp_path: Path) -> None:
    def told() -> str:
        with pytest.raises(ConfigError) as caught:
            load_tokenizer(str(tmp_path))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no tokenizer in this folder" in told()
    (tmp_path / "vocab.json").write_text('{"a</w>": 0}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    assert "of a kind that is not known" in told()
    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    assert "gives no tokens; its vocabulary has 0" in told()
