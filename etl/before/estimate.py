"""What a config will make and take: sizes from a sample, hours from a timing, money from a rate."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from longattn.etl.before.exports import sizes as export_sizes
from longattn.etl.before.sampling import (
    NOTHING,
    Copies,
    Document,
    Range,
    Sample,
    copies_in,
    product,
    samples,
    unread,
)
from longattn.etl.before.timing import BOUND, hours_of, variants
from longattn.etl.config import Config, MixConfig, SelectConfig, of_domain
from longattn.etl.run.recipe import Recipe
from longattn.etl.run.show import human_bytes, new_table
from longattn.etl.selection.mix import Supply, plan
from longattn.udfs.errors import ConfigError, SourceError, did_you_mean
from longattn.udfs.models.artefact import read_manifest
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.registry import load_scorer
from longattn.udfs.text.tokens import load_tokenizer

# CPU seconds per MB of text of the jobs around scoring: docs/performance.md, 2.0 GB.
JOBS_PER_MB = 1.0
START_SECONDS = 60.0  # CPU, of a session and its workers, whatever the size
BYTES_PER_HEAD = 13.0  # of a row of `scores`, S1 and S2 compressed
ROW_BYTES = 120.0  # of a row of `scores`, or of `windows` beside its tokens
TIMED_WINDOW = 4  # documents whose tokens make the window that is timed
# The share of windows that score.cascade scores exactly too: of sampled scores
# (docs/performance.md), and by its width of those of the scorer calibrated (docs/evidence.md).
NEAR_CUT = Range(0.14, 0.05, 0.3)
NEAR_CUT_OF_CALIBRATED = Range(0.4, 0.1, 0.6)


@dataclass(frozen=True)
class Estimate:
    """Figures with ranges; hours are of one core, or of one GPU."""

    documents: Range
    duplicates: Range  # share of documents that are copies, exact or near
    tokens: Range
    windows: Range  # to be scored
    packed_tokens: Range
    bytes: dict[str, Range]  # by table and export
    cpu_hours: dict[str, Range]  # by what takes them
    gpu_hours: dict[str, Range]  # likewise, on the GPU that was named
    device: str | None
    variants: dict[str, Range]  # hours of scoring otherwise
    sampled: float  # share of the sources' bytes that was read
    unread: list[str]  # paths of sources that only Spark can read: no figure has them
    config: Config

    def money(self, cpu: Range = NOTHING, gpu: Range = NOTHING) -> Range | None:
        """At the config's rates; None where it gives none for a part of what is asked."""
        rates = self.config.estimate
        asked = [(h, r) for h, r in ((cpu, rates.cpu_hour), (gpu, rates.gpu_hour)) if h.value]
        priced = [hours * rate for hours, rate in asked if rate is not None]
        return sum(priced, NOTHING) if asked and len(priced) == len(asked) else None

    @property
    def total_cpu(self) -> Range:
        return sum(self.cpu_hours.values(), NOTHING)

    @property
    def total_gpu(self) -> Range:
        return sum(self.gpu_hours.values(), NOTHING)

    def as_dict(self) -> dict[str, Any]:
        money = self.money(self.total_cpu, self.total_gpu)
        rates = self.config.estimate.model_dump()
        return {**asdict(self), "config": None, "money": money and asdict(money), "rates": rates}


def estimate(config: Config, device: str | None = None) -> Estimate:
    """Estimate a whole run of the config; with a GPU of that name, scoring is on it.

    Raises SourceError where there is nothing to sample, ConfigError for a GPU that is not known.
    """
    if device is not None and device not in BOUND:
        raise ConfigError(
            f"--device {device}: no rate is known for it {did_you_mean(device, BOUND)}"
        )
    read = list(samples(config))
    if not any(sample.documents for sample in read):
        raise SourceError("sources: no document that Python can read; nothing to estimate from")
    copies = copies_in(read, config.dedup)
    scored = [sample for sample in read if _is_scored(sample, config)]
    windows = _kept(scored, copies, "n_windows")
    recipe = Recipe(config)
    specs, ids = recipe.specs, _ids(config, read)
    length = _timed_length(config, specs, scored)
    cpu, gpu = hours_of(specs, length, ids, windows, device)
    own = {**cpu, **gpu}[config.score.scorer]
    exact_cpu, exact_gpu = _near_cut(recipe, length, ids, windows, device)
    cpu, gpu = cpu | exact_cpu, gpu | exact_gpu
    packed_tokens = _kept([s for s in read if s.packed], copies, "n_tokens")
    packed = packed_tokens * (1 / config.window.length)
    if recipe.cross_gain:
        cpu |= hours_of([recipe.cross_gain], config.window.length, ids, packed, None)[0]
    return Estimate(
        documents=_sum(read, "n"),
        duplicates=copies.share("n"),
        tokens=_kept(read, copies, "n_tokens"),
        windows=windows,
        packed_tokens=packed_tokens,
        bytes=_bytes(config, specs, read, copies, windows, packed),
        cpu_hours={"all but scoring": _around(read), **_named(cpu)},
        gpu_hours=_named(gpu),
        device=device,
        variants=variants(specs[0], length, ids, windows, own),
        sampled=copies.seen,
        unread=unread(config),
        config=config,
    )


def _named(by_scorer: Mapping[str, Range]) -> dict[str, Range]:
    return {f"scoring, {scorer}": hours for scorer, hours in by_scorer.items()}


def _near_cut(
    recipe: Recipe, length: int, ids: Any, windows: Range, device: str | None
) -> tuple[dict[str, Range], dict[str, Range]]:
    """As hours_of, of the exact scores that score.cascade asks for; none without one."""
    if not recipe.config.score.cascade:
        return {}, {}
    near = product(windows, NEAR_CUT_OF_CALIBRATED if recipe.calibration else NEAR_CUT)
    cpu, gpu = hours_of([recipe.exact], length, ids, near, device)
    where = " near the cut"
    return {n + where: h for n, h in cpu.items()}, {n + where: h for n, h in gpu.items()}


def _around(read: Sequence[Sample]) -> Range:
    """Core hours of all jobs but score."""
    megabytes = _sum(read, "n_bytes") * 1e-6
    seconds = (megabytes * JOBS_PER_MB + Range(START_SECONDS, 20, 200)).widened(0.5)
    return seconds * (1 / 3600)


def _ids(config: Config, read: Sequence[Sample]) -> Any:
    """Tokens of real documents, to be timed."""
    texts = [d.text for sample in read for d in sample.documents[:TIMED_WINDOW]]
    encode = load_tokenizer(config.tokenizer_path).encode
    return np.concatenate([np.array(encode(text).ids, np.int64) for text in texts])


def _mean_length(config: Config, cut: Sequence[Sample]) -> int:
    """Tokens of a window; where they are of several lengths, on average."""
    windows, tokens = (_sum(cut, name).value for name in ("n_windows", "window_tokens"))
    return round(tokens / windows) if windows else config.window.length


def _timed_length(config: Config, specs: Sequence[ScorerSpec], scored: Sequence[Sample]) -> int:
    """Tokens of the windows that are timed: the mean; of documents as they are, which a scorer may
    refuse where they are short, so many that none does.
    """
    length, longest = _mean_length(config, scored), config.window.length
    for spec in specs if config.window.strategy == "whole" else ():
        scorer = load_scorer(replace(spec, device="cpu"))
        while length < longest and scorer.refusal(np.zeros(length, np.int64)):
            length = min(2 * length, longest)
    return length


def _is_scored(sample: Sample, config: Config) -> bool:
    wanted = config.score.domains
    return not sample.packed and (not wanted or sample.domain in wanted)


def _sum(read: Sequence[Sample], quantity: str) -> Range:
    return sum((sample.total(quantity) for sample in read), NOTHING)


def _kept(read: Sequence[Sample], copies: Copies, quantity: str) -> Range:
    """The sum over all documents but copies."""
    return product(_sum(read, quantity), copies.kept(quantity))


# --- bytes


def _bytes(
    config: Config,
    specs: Sequence[ScorerSpec],
    read: Sequence[Sample],
    copies: Copies,
    windows: Range,
    packed: Range,
) -> dict[str, Range]:
    text = _sum(read, "n_bytes") * _compressed_share([d for _, d in copies.marked])
    originals = [d for is_copy, d in copies.marked if not is_copy]  # copies compress to nothing
    of_scores = windows * (len(specs) * ROW_BYTES + _heads(specs) * BYTES_PER_HEAD)
    if config.pack.score:
        of_scores += packed * (ROW_BYTES + BYTES_PER_HEAD)
    sizes = {
        "documents": text.widened(0.1),
        "windows": _of_windows(config, originals, read, copies, packed).widened(0.1),
        "scores": of_scores.widened(0.3),
    }
    selected = product(_mixed(_selected_tokens(config, read), config.mix), copies.kept("n_tokens"))
    exports = export_sizes(config, originals)
    return sizes | {f"export.{name}": x.of(selected).widened(0.3) for name, x in exports.items()}


def _of_windows(
    config: Config,
    originals: Sequence[Document],
    read: Sequence[Sample],
    copies: Copies,
    packed: Range,
) -> Range:
    """Bytes of `windows`, which holds those that are cut, scored or not, and those packed."""
    per_token = _bytes_a_token(config, originals)
    cut = [sample for sample in read if not sample.packed]
    of_cut = _mean_length(config, cut) * per_token + ROW_BYTES
    of_packed = config.window.length * per_token + ROW_BYTES
    return _kept(cut, copies, "n_windows") * of_cut + packed * of_packed


def _mixed(selected: Mapping[str, Range], config: MixConfig) -> Range:
    """Tokens that the mix takes of those selected; a domain that is short stays short."""
    copies = config.max_copies if config.short == "repeat" else 1
    supply = {
        name: Supply(windows=0, tokens=round(tokens.value)) for name, tokens in selected.items()
    }
    if config.short == "error":  # which is for the run to say: these figures are about right
        config = config.model_copy(update={"short": "shortfall"})
    shares = {share.domain: share for share in plan(supply, config)}
    total = NOTHING
    for name, tokens in selected.items():
        there = max(1, supply[name].tokens)
        total += tokens * min(shares[name].planned / there, copies)
    return total


def _selected_tokens(config: Config, read: Sequence[Sample]) -> dict[str, Range]:
    """Tokens that the selection keeps of each domain, in windows of the config's lengths."""
    tokens = dict.fromkeys((sample.domain for sample in read), NOTHING)
    for sample in read:
        if sample.packed or _is_scored(sample, config):
            tokens[sample.domain] += sample.total("n_tokens" if sample.packed else "window_tokens")
    whole = [] if config.pack.score else config.pack.domains
    return {
        domain: of_all if domain in whole else _inside_cut(of_all, domain, config.select)
        for domain, of_all in tokens.items()
    }


def _inside_cut(tokens: Range, domain: str, select: SelectConfig) -> Range:
    """Tokens that a domain's cut keeps, by the first of its settings, as `select` takes them."""
    if of_domain(domain, select.threshold) is not None:
        return Range(tokens.value, 0.0, tokens.high)  # only scores tell how many: all, at most
    if (percentile := of_domain(domain, select.percentile)) is not None:
        low, high = percentile
        return tokens * ((high - low) / 100)
    if budget := of_domain(domain, select.tokens):
        return Range(*(min(budget, x) for x in (tokens.value, tokens.low, tokens.high)))
    return tokens * (of_domain(domain, select.fraction) or 0.0)


def _compressed_share(documents: Sequence[Document]) -> float:
    """Bytes that a byte of text takes in a table, by Parquet's own zstd."""
    texts = [d.text for d in documents[:200]]
    return _parquet_bytes(pa.table({"text": texts})) / max(1, sum(len(t.encode()) for t in texts))


def _bytes_a_token(config: Config, documents: Sequence[Document]) -> float:
    """Bytes that a token takes in `windows`."""
    encode = load_tokenizer(config.tokenizer_path).encode
    ids = [np.array(encode(d.text).ids, np.int32) for d in documents[:100]]
    column = pa.array(ids, pa.list_(pa.int32()))
    return _parquet_bytes(pa.table({"token_ids": column})) / max(1, sum(map(len, ids)))


def _parquet_bytes(table: pa.Table) -> int:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.tell()


def _heads(specs: Sequence[ScorerSpec]) -> int:
    """Heads whose sums the rows of one window in `scores` hold, a row for each scorer."""
    return sum(
        read_manifest(Path(spec.model)).heads * len(spec.layers) if spec.scorer == "longattn" else 1
        for spec in specs
    )


# --- tables for people


def sizes_table(estimate: Estimate) -> Table:
    """Documents, tokens, windows and bytes, each with its range."""
    table = new_table(
        f"Sizes, from {estimate.sampled:.0%} of the sources", "what", ">about", ">range"
    )
    for name in ("documents", "tokens", "windows", "packed_tokens"):
        value: Range = getattr(estimate, name)
        if value.value:
            table.add_row(name.replace("_", " "), _count(value.value), _range(value, _count))
    copies = estimate.duplicates
    table.add_row("copies, exact and near", f"{copies.value:.1%}", _range(copies, "{:.1%}".format))
    for name, size in estimate.bytes.items():
        table.add_row(f"bytes of {name}", human_bytes(size.value), _range(size, human_bytes))
    return table


def hours_table(estimate: Estimate) -> Table:
    """The time of one core or one GPU, and what they cost at the config's rates."""
    currency = estimate.config.estimate.currency
    table = new_table("Time of one core or GPU", "what", ">about", ">range", f">{currency}")
    for name, hours in estimate.cpu_hours.items():
        table.add_row(f"{name}, CPU", *_hours(hours), _money(estimate.money(cpu=hours)))
    for name, hours in estimate.gpu_hours.items():
        table.add_row(
            f"{name}, {estimate.device}", *_hours(hours), _money(estimate.money(gpu=hours))
        )
    if len(estimate.cpu_hours) > 2 or estimate.gpu_hours:
        total = _money(estimate.money(estimate.total_cpu, estimate.total_gpu))
        table.add_row("all of it, CPU", *_hours(estimate.total_cpu), total)
    for name, hours in estimate.variants.items():
        on_gpu = estimate.device is not None and "CPU" not in name
        cost = estimate.money(gpu=hours) if on_gpu else estimate.money(cpu=hours)
        table.add_row(f"instead: {name}", *_hours(hours), _money(cost))
    return table


def notes(estimate: Estimate) -> list[str]:
    """Where the figures come from."""
    lines = ["scoring: timed on one core of this machine with documents of the sample"]
    if estimate.gpu_hours:
        lines += [
            f"scoring on {estimate.device}: not measured; from the bound of its arithmetic for our"
            " kernel to the rate that the paper reports for its own code (docs/performance.md)"
        ]
    if estimate.unread:
        lines.append(f"left out, as only Spark can read them: {', '.join(estimate.unread)}")
    if estimate.config.score.cascade:
        lines.append(
            "score.cascade: how many windows are near the cut is not known before they are scored;"
            " shares that were measured are taken (docs/performance.md, docs/evidence.md)"
        )
    if estimate.sampled < 1:
        lines.append("copies: a sample shows few of them, and knows near ones by their beginning")
    if estimate.config.select.threshold is not None:
        lines.append(
            "exports: how much select.threshold keeps is not known before windows are scored; sizes"
            " are of all of them, which is the most that it can keep"
        )
    return lines


def _range(value: Range, shown: Callable[[float], str]) -> str:
    return f"{shown(value.low)} to {shown(value.high)}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _hours(hours: Range) -> tuple[str, str]:
    return _few(hours.value), _range(hours, _few)


def _few(hours: float) -> str:
    """A time in its unit, which is hours where it is long.

    >>> _few(12345.6), _few(2.5), _few(0.5), _few(0.00006)
    ('12,346 h', '2.5 h', '30.0 min', '0.2 s')
    """
    for unit, size in (("h", 1.0), ("min", 1 / 60)):
        if hours >= size:
            return f"{hours / size:,.{0 if hours >= 100 else 1}f} {unit}"
    return f"{3600 * hours:.1f} s"


def _money(cost: Range | None) -> str:
    return "" if cost is None else f"{cost.value:,.2f}"
