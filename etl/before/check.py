"""All that can be known of a config before the first job: in seconds, without a JVM, without torch
unless there is a GPU. Nothing is written but nameless files that are gone at once.
"""

from collections.abc import Sequence

from longattn.etl.before.findings import Finding, Findings, as_findings, fact, fault, note
from longattn.etl.before.outputs import connector_findings, disk_findings, output_findings
from longattn.etl.before.probe import Look, look_at, wrong_format
from longattn.etl.before.scoring import device_findings, scorer_findings, tokenizer_findings
from longattn.etl.config import Config, SourceConfig
from longattn.etl.run.jobs import JOBS
from longattn.etl.run.show import human_bytes


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
    if set(config.sources) <= set(config.pack.domains):
        scored = "scored by cross gain alone" if config.pack.score else "none is scored"
        yield note("pack.domains", f"every domain is packed: {scored}")


def source_findings(config: Config, jobs: Sequence[str], looks: list[Look]) -> Findings:
    """Each source's first records; evaluation sets are sources too. Fills `looks`."""
    wanted: list[tuple[str, str, SourceConfig]] = []
    if "ingest" in jobs:
        for domain, sources in config.sources.items():
            marks = [f"[{i}]" for i in range(len(sources))] if len(sources) > 1 else [""]
            wanted += [
                (f"sources.{domain}{mark}", domain, source)
                for mark, source in zip(marks, sources, strict=True)
            ]
    for number, source in enumerate(config.decontaminate.sources):
        wanted.append((f"decontaminate.sources[{number}]", "evaluation", source))
    for label, domain, source in wanted:
        yield from as_findings(label, _source(config, label, domain, source, looks))


def _source(
    config: Config, label: str, domain: str, source: SourceConfig, looks: list[Look]
) -> Findings:
    look = look_at(label, domain, source, config)
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
            if look.missing[path] == look.n_records:
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
    yield fault(label + where, text)


def _as_list(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []
