"""The tokenizer's files of a checkpoint, as a scorer keeps them."""

from pathlib import Path

from longattn.udfs.errors import ConfigError, first_line
from longattn.udfs.text.conversion import SENTENCEPIECE, converted

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    *SENTENCEPIECE,
    *("vocab.json", "merges.txt"),
    "chat_template.jinja",
)


def convert_tokenizer(folder: Path) -> str:
    """Make tokenizer.json of the other files that lie in the folder; it, or why there is none."""
    try:
        text = converted(str(folder))
    except ConfigError as error:
        return f"none: {error}"
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    return "tokenizer.json"


def convert_gguf_tokenizer(path: Path, pre: str | None, folder: Path) -> str:
    """Make the tokenizer's files of what a GGUF file says; the main file, or why there is none."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits
    from tokenizers.pre_tokenizers import Sequence as InOrder
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except Exception as error:  # each kind of vocabulary fails in a way of its own
        return f"none: the GGUF's vocabulary cannot be read: {first_line(error)}"
    backend = tokenizer.backend_tokenizer
    if pre == "smollm":
        # transformers 5.23 splits unknown tags as GPT-2 does; SmolLM also splits every digit
        backend.pre_tokenizer = InOrder([Digits(individual_digits=True), ByteLevel(False)])
    elif isinstance(backend.pre_tokenizer, ByteLevel) and pre not in (None, "default", "gpt-2"):
        return f"none: the GGUF's pre-tokenizer {pre!r} is not known"
    tokenizer.save_pretrained(folder)
    return "tokenizer.json"
