"""A first config of a folder of files, with comments that say what was guessed."""

import statistics
from glob import escape
from pathlib import Path

import yaml

from longattn.etl.before.guess import Guess, Source, guess, shown
from longattn.etl.config import validate
from longattn.etl.ingest.own import OwnFiles
from longattn.udfs.errors import UserError
from longattn.udfs.hub import may_be_hub_id
from longattn.udfs.scorers.needs import SHARE
from longattn.udfs.storage import local_path
from longattn.udfs.text.tokens import load_tokenizer
from longattn.udfs.text.words import NAME as WORDS

ROOMY = 4096  # tokens of a window from which on recall's own k, 1,024, leaves most of it far


def write_draft(folder: str, out: str, tokenizer: str | None) -> list[str]:
    """Write a config for a folder's files; returns lines that say what it holds.

    Raises UserError where `out` is there already, ConfigError for a tokenizer that is none,
    SourceError where the folder has no documents.
    """
    path = Path(out)
    if path.exists():
        raise UserError(f"init: {out} is there already; name another with --out")
    if tokenizer:
        _refuse_no_tokenizer(tokenizer)
    corpus = guess(folder, OwnFiles(validate(yaml.safe_load(REST))))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(draft(corpus, tokenizer), encoding="utf-8")
    return [
        *(_guessed_line(source) for source in corpus.sources),
        *(f"left aside: {name}: {why}" for name, why in corpus.ignored.items()),
        *corpus.table(),
        f"windows of {corpus.window:,} tokens, {corpus.choice}; written: {out}",
        f"next: longattn check --config {out} && longattn run --config {out}",
    ]


def _refuse_no_tokenizer(tokenizer: str) -> None:
    """Raise ConfigError for a path without a tokenizer; names that may be of the hub pass."""
    path = validate({"tokenizer": tokenizer}).tokenizer_path
    if Path(path).exists() or path.startswith(".") or not may_be_hub_id(path):
        load_tokenizer(path)


def draft(corpus: Guess, tokenizer: str | None) -> str:
    """The config as YAML with comments."""
    parts = [
        _head(corpus),
        _sources(corpus),
        _tokenizer(tokenizer),
        _windows(corpus),
        _score(corpus),
        REST,
    ]
    return "\n".join(parts)


def _guessed_line(source: Source) -> str:
    field = f", text in `{source.text}`" if source.text else ""
    return f"{source.domain}: {_counted(len(source.files), f'{source.format} file')}{field}"


def _head(corpus: Guess) -> str:
    lines = [
        f"# Made by `longattn init {shown(corpus.folder)}`; guesses say so. Every other setting:",
        "# longattn config --explain",
    ]
    if corpus.ignored:
        lines += ["#", "# Left aside:"]
        lines += [f"# - {name}: {why}" for name, why in corpus.ignored.items()]
    return "\n".join(lines) + "\n"


def _sources(corpus: Guess) -> str:
    lines = ["sources: # a domain for every subfolder; windows compete within their domain"]
    for domain in corpus.domains:
        lines.append(f"  {domain}:")
        for source in corpus.sources:
            lines += _source(source) if source.domain == domain else []
    return "\n".join(lines) + "\n"


def _source(source: Source) -> list[str]:
    median = statistics.median(source.words)
    files, texts = _counted(len(source.files), "file"), _counted(len(source.words), "text")
    lines = [
        f"    # {files}; {texts} looked at: {median:,.0f} words (median)",
        *_place(source),
        f"      format: {source.format}",
    ]
    if source.text:
        lines.append(f"      text: {_scalar(source.text)} # guessed: the field with the document")
        known = f"id: {_scalar(source.id)} # guessed: the" if source.id else "# id: none found, a"
        lines.append(f"      {known} record's own id")
    if source.other:
        lines.append(f"      # meta: {_scalar(source.other)} # fields to keep with the document")
    return [*lines, "      # license: copied into the manifests of exports"]


def _place(source: Source) -> list[str]:
    """A folder and globs of names; where its subfolders are domains, globs of its own files."""
    folder = str(source.folder)
    if local_path(folder) != folder or folder.startswith("~"):  # read as a scheme, or as home
        folder = f"./{folder}"
    if source.below:
        lines = [f"    - path: {_scalar(folder)}"]
        names = {"include": source.include, "exclude": source.exclude}
        return lines + [f"      {key}: {_scalar(globs)}" for key, globs in names.items() if globs]
    globs = [f"{escape(folder)}/{glob}" for glob in source.include]
    return [f"    - path: {_scalar(globs)}"]


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _tokenizer(tokenizer: str | None) -> str:
    if tokenizer:
        return f"tokenizer: {_scalar(tokenizer)}\n"
    return (
        "# `words` splits into words and marks and needs no download. To export token ids that a\n"
        "# model knows, name its tokenizer: a folder, a tokenizer.json or a hub id.\n"
        f"tokenizer: {WORDS}\n"
    )


def _windows(corpus: Guess) -> str:
    lines = [
        "window:",
        f"  # guessed: {corpus.choice}. A length suits where a quarter of",
        "  # the texts fill such a window, and half of their tokens are in one:",
        *(f"  #   {line}" for line in corpus.table()),
        f"  length: {corpus.window} # tokens",
    ]
    return "\n".join(lines) + "\n"


def _score(corpus: Guess) -> str:
    lines = [
        "score:",
        "  scorer: recall # reads no model; longattn, fargain, ladm and prolong read one"
        " (docs/scorers.md)",
    ]
    if corpus.window < ROOMY:
        lines.append(
            f"  k: {corpus.window // SHARE} # tokens that count as near: its own 1,024 leave too"
            " little of such a window"
        )
    return "\n".join(lines) + "\n"


def _scalar(value: object) -> str:
    """A value as YAML writes it in one line."""
    text = _dumped(value)
    return text if text.isprintable() else _dumped(value, style='"')  # in which all is escaped


def _dumped(value: object, style: str | None = None) -> str:
    text: str = yaml.safe_dump(
        value, default_flow_style=True, default_style=style, width=1 << 20, allow_unicode=True
    )
    return text.removesuffix("...\n").strip()


REST = """\
select:
  fraction: 0.125 # of each domain's windows, the best by score.scorer

tables:
  root: out/tables

export:
  parquet: {path: out/parquet}
  jsonl: {path: out/jsonl}

report:
  path: out/report.html
"""
