"""Whether tokenizer, scorer and device are there and fit together."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longattn.etl.before.findings import Finding, Findings, as_findings, fact, fault, note
from longattn.etl.before.guess import TOKENS_KEPT, tokens_kept
from longattn.etl.before.probe import Look
from longattn.etl.config import Config, of_domain
from longattn.etl.run.recipe import Recipe
from longattn.etl.session import launched
from longattn.udfs.scorers.needs import has_k, remedy, unfit
from longattn.udfs.scorers.registry import plugin, reads_model, scorer_version
from longattn.udfs.text.tokens import TextTokenizer, load_tokenizer, separator_id, tokenizer_name

SAMPLE_CHARS = 1 << 14  # of a document that are tokenised


def tokenizer_findings(config: Config, looks: Sequence[Look]) -> Findings:
    path = config.tokenizer_path
    tokenizer, name = load_tokenizer(path), tokenizer_name(path)
    size = tokenizer.vocabulary_size
    yield fact("tokenizer", f"{name}, {size:,} tokens" if size else f"{name}: ids of no model")
    if config.pack.domains:
        separator_id(path, config.pack.separator)
    for look in looks:
        if look.texts:
            counts = [estimated_tokens(tokenizer, text) for text in look.texts]
            yield _tokens(look, counts, config)


def estimated_tokens(tokenizer: TextTokenizer, text: str) -> int:
    """Tokens of a text; of a long one from its beginning."""
    sample = text[:SAMPLE_CHARS]
    return len(tokenizer.encode(sample)) * len(text) // max(len(sample), 1)


def _tokens(look: Look, counts: list[int], config: Config) -> Finding:
    """Tokens of the first documents, and whether they are long enough for a window."""
    text = f"some {sum(counts) / len(counts):,.0f} tokens a document in the first {len(counts)}"
    if look.domain in config.pack.domains or look.domain == "evaluation":
        return fact(look.label, text)
    if config.window.strategy == "whole":
        return fact(look.label, f"{text}; each is a window")
    shortest, *longer = config.lengths
    text += f", {_count(counts, shortest)} of them long enough for a window of {shortest:,}"
    text += "".join(f", {_count(counts, length)} of {length:,}" for length in longer)
    kept = tokens_kept(counts, shortest, config.window.strategy)
    if kept >= TOKENS_KEPT:
        return fact(look.label, text)
    remedies = f"shorter windows (window.length), or pack it (pack.domains: [{look.domain}])"
    return note(look.label, f"{text}; {1 - kept:.0%} of the tokens are in none: {remedies}")


def _count(counts: list[int], length: int) -> int:
    return sum(count >= length for count in counts)


def scorer_findings(config: Config) -> Findings:
    recipe = Recipe(config)
    spec, specs = recipe.spec(), recipe.specs
    for version in dict.fromkeys(map(scorer_version, (*specs, *recipe.asked))):
        yield fact("score", version)
    yield from _distances(recipe)
    yield from _ranking(recipe)
    folder = Path(spec.model)
    if reads_model(config.score.scorer) and (folder / "config.json").is_file():
        yield from as_findings("score.model", _model(config, folder))


def _distances(recipe: Recipe) -> Findings:
    """What window.k changes, and every scorer for which nothing in a window would be far."""
    config, specs = recipe.config, recipe.specs
    if config.window.k:
        changed = [spec.scorer for spec in specs if "k" in plugin(spec.scorer).settings]
        text = f"{config.window.k:,} for every scorer that has a k and is given none of its own"
        yield fact("window.k", f"{text}: {', '.join(changed)}")
    if config.window.strategy == "whole":
        yield from _shortest(recipe)
        return
    length = config.lengths[0]
    for spec in specs:
        if problem := unfit(spec, length):
            own = spec.scorer == config.score.scorer
            key = "score" if own else f"score.also.{spec.scorer}"
            text = f"{problem}: every window would be refused"
            where = f"{key}.k" if has_k(spec) else key
            yield fault(where, f"{text}; {remedy(spec, length, f'{key}.k: ')}")


def _shortest(recipe: Recipe) -> Findings:
    """Whether documents taken as they are may be too short for a scorer."""
    least = recipe.config.window.min_tokens
    each = (of_domain(domain, least) or 1 for domain in recipe.scored_domains)
    length = min(each, default=1)
    for spec in recipe.specs:
        if problem := unfit(spec, length):
            said = f"documents from {length:,} tokens on are windows, and {problem}"
            yield note("window.min_tokens", f"{said}: such windows are refused")


def _ranking(recipe: Recipe) -> Findings:
    """What select will rank by, in words."""
    recipe.refuse_other_distances()
    select, scorer = recipe.config.select, recipe.config.score.scorer
    said = f"windows are ranked by {recipe.ranking}"
    if select.by == "lds" and scorer != "longattn":
        yield note("select.by", f"{said}; left out, {scorer} itself ranks them")
    else:
        yield fact("select.by", f"{said}: {recipe.meaning.measures}")


def _model(config: Config, folder: Path) -> Findings:
    """Whether the model's files open, and its vocabulary and positions are enough."""
    model = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    yield from _weights(folder)
    known = model.get("vocab_size")
    tokenizer = load_tokenizer(config.tokenizer_path).tokenizer
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values())
    if known and highest >= known:
        yield fault(
            "tokenizer",
            f"{config.tokenizer_path} gives ids up to {highest:,}; the model {folder} knows"
            f" {known:,}: they do not belong together",
        )
    yield from _positions(config, folder, model)


def _weights(folder: Path) -> Findings:
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="np") as weights:
                weights.keys()
        except (SafetensorError, OSError) as error:
            yield fault("score.model", f"{file} does not open: {error}; build the scorer again")


def _positions(config: Config, folder: Path, model: dict[str, Any]) -> Findings:
    """Learned positions end; rotary ones do not, but mean little past those that were trained."""
    positions = model.get("max_position_embeddings")
    length = config.window.length
    if not positions or length <= positions:
        return
    text = f"{length:,} tokens; the model {folder} was trained for {positions:,} positions"
    rotary = model.get("rope_parameters") or model.get("rope_theta") or model.get("rope_scaling")
    if not rotary:
        yield fault("window.length", text)
    elif not config.score.rope_theta:
        yield note("window.length", f"{text}; score.rope_theta stretches them (ABF)")


def device_findings(config: Config) -> Findings:
    """The GPU of this machine; executors elsewhere may have others."""
    score = config.score
    if not reads_model(score.scorer):
        return
    here = config.spark.master is None or config.spark.master.startswith("local")
    if not has_nvidia():
        if score.device == "cuda" and here and not launched():
            yield fault(
                "score.device", "cuda, and this machine has no NVIDIA GPU; auto takes a CPU"
            )
        elif score.device != "cpu":
            yield fact("score.device", f"no GPU on this machine: {score.dtype} on the CPU here")
        return
    yield from _gpu(config)


def has_nvidia() -> bool:
    """Whether this machine shows an NVIDIA GPU; asks no library, which would take seconds."""
    return bool(shutil.which("nvidia-smi")) or Path("/dev/nvidia0").exists()


def _gpu(config: Config) -> Findings:
    import torch

    if not torch.cuda.is_available():
        made = f"torch {torch.__version__} finds none of this machine's GPUs"
        kind = fault if config.score.device == "cuda" else note
        yield kind("score.device", f"{made}: a CPU build, or a driver too old?")
        return
    name, major = torch.cuda.get_device_name(), torch.cuda.get_device_capability()[0]
    if config.score.dtype == "bfloat16" and major < 8:
        yield fault("score.dtype", f"bfloat16, which {name} lacks; float16 or float32")
    else:
        yield fact("score.device", f"{torch.cuda.device_count()} x {name}, {config.score.dtype}")
