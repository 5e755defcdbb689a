"""All that can be known of a config before the first job: in seconds, without a JVM, without torch
unless there is a GPU. Nothing is written but nameless files that are gone at once.
"""

from collections.abc import Sequence

from longattn.etl.before.findings import Finding, Findings, as_findings, fact, fault, note
from longattn.etl.before.outputs import connector_findings, disk_findings, output_findings
from longattn.etl.before.probe import Look, look_at, wrong_format
from longattn.etl.before.scoring import device_findings, scorer_findings, tokenizer_findings
from longattn.etl.config import Config, SourceConfig, of_domain
from longattn.etl.ingest.own import OwnFiles
from longattn.etl.ingest.sources import item_spec, limited, spec_of
from longattn.etl.run.jobs import JOBS
from longattn.etl.run.recipe import Recipe
from longattn.etl.run.show import human_bytes
from longattn.udfs.documents.formats import SourceSpec
from longattn.udfs.text.ngrams import distinct_ngrams

# Reasons for which records are refused whose fields are as they should be: others may pass.
BY_VALUE = ("filtered", "null_text", "empty_text", "too_short", "too_long")


def check(config: Config, jobs: Sequence[str] = tuple(JOBS)) -> list[Finding]:
    """What is there, what may surprise, and every fault, of what these jobs need."""
    looks: list[Look] = []
    findings = [*as_findings("domains", domain_findings(config, jobs))]
    if {"ingest", "windows"} & set(jobs):
        findings += as_findings("sources", source_findings(config, jobs, looks))
    if {"windows", "score"} & set(jobs):
        findings += as_findings("tokenizer", tokenizer_findings(config, looks))
    if "score" in jobs:
        findings += as_findings("score", scorer_findings(config))
        findings += as_findings("score.device", device_findings(config))
    findings += as_findings("outputs", output_findings(config, jobs))
    findings += as_findings("tables", connector_findings(config))
    if "ingest" in jobs:
        findings += as_findings("disk", disk_findings(config, looks))
    return list(dict.fromkeys(findings))  # two looks may meet the same fault


def domain_findings(config: Config, jobs: Sequence[str]) -> Findings:
    if not config.sources:
        if "ingest" in jobs:
            yield fault("sources", "none given; for example sources.book: [{path: books/*.jsonl}]")
        return
    if unmixed := set(config.sources) - set(config.mix.weights or config.sources):
        yield note("mix.weights", f"leaves out {', '.join(sorted(unmixed))}")
    if "select" in jobs:
        yield from _cuts(config)
        yield from _never_selected(config)
    if set(config.sources) <= set(config.pack.domains):
        scored = "scored by cross gain alone" if config.pack.score else "none is scored"
        yield note("pack.domains", f"every domain is packed: {scored}")


def _cuts(config: Config) -> Findings:
    """Domains that no cut is given for, and budgets of tokens that no window fits into."""
    select, whole = config.select, config.window.strategy == "whole"
    least = 1 if whole else config.lengths[0]  # documents as they are may be of any length
    packed = config.pack.domains if config.pack.score else []
    for domain in [*Recipe(config).scored_domains, *packed]:
        cuts = (select.threshold, select.percentile, select.tokens, select.fraction)
        if all(of_domain(domain, cut) is None for cut in cuts):
            yield fault("select.fraction", f"none for {domain}, and no other cut: give it one")
        budgets = {
            "select.tokens": of_domain(domain, select.tokens),
            "mix.tokens": config.mix.tokens,
        }
        for key, n_tokens in budgets.items():
            if n_tokens and n_tokens < least:
                yield fault(key, f"{n_tokens:,} hold no window of {least:,} tokens")


def _never_selected(config: Config) -> Findings:
    """Domains with a weight in the mix that nothing is selected of."""
    weighted = {domain for domain, weight in config.mix.weights.items() if weight}
    taken = {*Recipe(config).scored_domains, *config.pack.domains}
    for domain in sorted(weighted - taken):
        kind = fault if config.mix.short == "error" else note
        yield kind("mix.weights", f"{domain} is neither scored nor packed: the mix has none of it")


def source_findings(config: Config, jobs: Sequence[str], looks: list[Look]) -> Findings:
    """Each source's first records; evaluation sets are sources too. Fills `looks`."""
    own = OwnFiles(config)
    for domain, sources in config.sources.items() if "ingest" in jobs else ():
        if not sources:
            yield fault(f"sources.{domain}", "it names no source: give it a path, or leave it out")
        for number, source in enumerate(sources):
            label = f"sources.{domain}[{number}]" if len(sources) > 1 else f"sources.{domain}"
            spec = limited(spec_of(domain, source, config), config)
            yield from as_findings(label, _source(label, source, spec, own, looks))
    for number, source in enumerate(config.decontaminate.sources):
        label, spec = f"decontaminate.sources[{number}]", item_spec(source, config)
        yield from as_findings(
            label, _evaluation(label, source, spec, config.decontaminate.ngram, own, looks)
        )


def _evaluation(
    label: str, source: SourceConfig, spec: SourceSpec, n: int, own: OwnFiles, looks: list[Look]
) -> Findings:
    """An evaluation set, and how many of its items are shorter than n words, too short to find."""
    yield from _source(label, source, spec, own, looks)
    texts = looks[-1].texts
    if short := sum(not len(distinct_ngrams([text], n)) for text in texts):
        said = f"{short} of the first {len(texts)} items are shorter than {n} words"
        yield note(
            label, f"{said} and cannot be looked for; decontaminate.ngram sets another length"
        )


def _source(
    label: str, source: SourceConfig, spec: SourceSpec, own: OwnFiles, looks: list[Look]
) -> Findings:
    look = look_at(label, source, spec, own)
    looks.append(look)
    for path in look.unread:
        yield note(label, f"{path}: only Spark can read it: not looked at")
    if not look.files:
        return
    if not look.n_records:
        yield fault(label, f"no record in {len(look.files):,} files, {look.files[0].path} ...")
        return
    yield from _records(look)


def _records(look: Look) -> Findings:
    label, fields = look.label, ", ".join(look.fields)
    shown = f"fields: {fields}" if look.source.format != "text" else "a file is a document"
    yield fact(label, f"{len(look.files):,} files, {human_bytes(look.n_bytes)}; {shown}")
    for key in ("id", "meta"):
        for path in _as_list(getattr(look.source, key)):
            if look.lacks(path):
                yield fault(f"{label}.{key}", f"no field {path} (there are: {fields})")
    if other := wrong_format(look):
        yield fault(f"{label}.format", other)
        return
    if look.texts:
        for reason, count in look.refused.items():
            of_first = f"{count} of the first {look.n_records} records refused as {reason}"
            yield fact(label, f"{of_first}: {look.details[reason]}")
        return
    reason, _ = look.refused.most_common(1)[0]
    text = f"none of the first {look.n_records} records has a text: {look.details[reason]}"
    where = {"missing_text": ".text", "filtered": ".where"}.get(reason, "")
    later = reason in BY_VALUE and not look.whole and not any(map(look.lacks, look.source.where))
    yield (note if later else fault)(label + where, text)


def _as_list(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []
