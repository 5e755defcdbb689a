"""Whether tokenizer, scorer and device are there and fit together."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longattn.etl.before.findings import Finding, Findings, as_findings, fact, fault, note
from longattn.etl.before.guess import TOKENS_KEPT, tokens_kept
from longattn.etl.before.probe import Look
from longattn.etl.config import RANKINGS, Config, of_domain
from longattn.etl.run.recipe import Recipe
from longattn.etl.session import launched
from longattn.etl.tables.locations import is_catalog_name, location
from longattn.udfs.errors import ModelError, first_line
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.identity import ScorerId
from longattn.udfs.scorers.needs import has_k, remedy, unfit
from longattn.udfs.scorers.registry import known_scorers, plugin, reads_model, scorer_version
from longattn.udfs.storage import local_path
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
    for version in dict.fromkeys(map(scorer_version, (*recipe.specs, *recipe.asked))):
        yield fact("score", version)
    yield from _distances(recipe)
    yield from _ranking(recipe)
    yield from _compared(recipe)
    for spec in recipe.specs:
        if reads_model(spec.scorer) and (Path(spec.model) / "config.json").is_file():
            key = recipe.key_of(spec.scorer) if recipe.settings_of(spec.scorer).model else "score"
            yield from as_findings(f"{key}.model", _model(spec, config, f"{key}.model"))


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
            key, text = recipe.key_of(spec.scorer), f"{problem}: every window would be refused"
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


def _compared(recipe: Recipe) -> Findings:
    """Scorers of select.compare that nothing scores; without their scores select ends."""
    config = recipe.config
    scored = [ScorerId.of(scorer_version(spec)) for spec in recipe.asked]
    for name in config.select.compare:
        scorer = ScorerId.of(name).name
        if name in RANKINGS or scorer not in known_scorers():
            continue
        if not any(one.is_meant_by(name) for one in scored):
            kind = note if _may_have_scores(config.tables.root) else fault
            said = f"nothing scores {name} here, and select ends where it has no scores"
            yield kind("select.compare", f"{said}: add {scorer} to score.also, or leave it out")


def _may_have_scores(root: str) -> bool:
    """Whether scores of before may be there; only a session can look into some roots."""
    local = None if is_catalog_name(root) else local_path(location(root, "scores"))
    return local is None or os.path.exists(local)


def model_config(folder: Path) -> dict[str, Any]:
    """What a model's config.json says; ModelError where it cannot be read."""
    file = folder / "config.json"
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {file}: it cannot be read: {first_line(error)}") from None
    if not isinstance(read, dict):
        raise ModelError(f"model {file}: it holds no mapping of settings")
    return read


def _model(spec: ScorerSpec, config: Config, key: str) -> Findings:
    """Whether the model's files open, and its vocabulary and positions are enough."""
    folder = Path(spec.model)
    yield from _weights(folder, key)
    model = model_config(folder)
    known = model.get("vocab_size")
    tokenizer = load_tokenizer(config.tokenizer_path).tokenizer
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values())
    if known and highest >= known:
        yield fault(
            "tokenizer",
            f"{config.tokenizer_path} gives ids up to {highest:,}; the model {folder} knows"
            f" {known:,}: they do not belong together",
        )
    if spec.scorer != "prolong":  # which reads pairs of segments, not windows
        yield from _positions(spec, config, model)


def _weights(folder: Path, key: str) -> Findings:
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="np") as weights:
                weights.keys()
        except (SafetensorError, OSError) as error:
            yield fault(key, f"{file} does not open: {error}; build the scorer again")


def _positions(spec: ScorerSpec, config: Config, model: dict[str, Any]) -> Findings:
    """Learned positions end; rotary ones do not, but mean little past those that were trained."""
    positions = model.get("max_position_embeddings")
    length = config.window.length
    if not positions or length <= positions:
        return
    text = f"{length:,} tokens; the model {spec.model} was trained for {positions:,} positions"
    rotary = model.get("rope_parameters") or model.get("rope_theta") or model.get("rope_scaling")
    if not rotary:
        yield fault("window.length", text)
    elif not spec.rope_theta:
        stretched = "; rope_theta stretches them (ABF)" if spec.scorer == "longattn" else ""
        yield note("window.length", text + stretched)


def device_findings(config: Config) -> Findings:
    """The GPU of this machine; executors elsewhere may have others."""
    score, recipe = config.score, Recipe(config)
    readers = [name for name in recipe.scorers if name in known_scorers() and reads_model(name)]
    if not readers:
        return
    dtypes = {recipe.key_of(name): recipe.settings_of(name).dtype for name in readers}
    named = ", ".join(dict.fromkeys(dtypes.values()))
    here = config.spark.master is None or config.spark.master.startswith("local")
    if not has_nvidia():
        if score.device == "cuda" and here and not launched():
            yield fault(
                "score.device", "cuda, and this machine has no NVIDIA GPU; auto takes a CPU"
            )
        elif score.device != "cpu":
            yield fact("score.device", f"no GPU on this machine: {named} on the CPU here")
        return
    yield from _gpu(score.device, dtypes, named)


def has_nvidia() -> bool:
    """Whether this machine shows an NVIDIA GPU; asks no library, which would take seconds."""
    return bool(shutil.which("nvidia-smi")) or Path("/dev/nvidia0").exists()


def _gpu(device: str, dtypes: Mapping[str, str], named: str) -> Findings:
    import torch

    if not torch.cuda.is_available():
        made = f"torch {torch.__version__} finds none of this machine's GPUs"
        kind = fault if device == "cuda" else note
        yield kind("score.device", f"{made}: a CPU build, or a driver too old?")
        return
    name, major = torch.cuda.get_device_name(), torch.cuda.get_device_capability()[0]
    lacking = [key for key, dtype in dtypes.items() if dtype == "bfloat16" and major < 8]
    for key in lacking:
        yield fault(f"{key}.dtype", f"bfloat16, which {name} lacks; float16 or float32")
    if not lacking:
        yield fact("score.device", f"{torch.cuda.device_count()} x {name}, {named}")
