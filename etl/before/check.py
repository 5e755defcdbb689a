"""All that can be known of a config before the first job: in seconds, without a JVM, without torch
unless there is a GPU. Nothing is written but nameless files that are gone at once.
"""

from collections.abc import Sequence

from longattn.etl.before.findings import Finding, Findings, fault, note, told
from longattn.etl.before.look import Look
from longattn.etl.before.outputs import connector_findings, disk_findings, output_findings
from longattn.etl.before.scoring import device_findings, scorer_findings, tokenizer_findings
from longattn.etl.before.sources import source_findings
from longattn.etl.config import Config
from longattn.etl.run.jobs import JOBS


def check(config: Config, jobs: Sequence[str] = tuple(JOBS)) -> list[Finding]:
    """What is there, what may surprise, and every fault, of what these jobs need."""
    looks: list[Look] = []
    found = [*told("domains", domain_findings(config, jobs))]
    if {"ingest", "windows"} & set(jobs):
        found += told("sources", source_findings(config, jobs, looks))
    if {"windows", "score"} & set(jobs):
        found += told("tokenizer", tokenizer_findings(config, looks))
    if "score" in jobs:
        found += told("score", scorer_findings(config))
        found += told("score.device", device_findings(config))
    found += told("outputs", output_findings(config, jobs))
    found += told("tables", connector_findings(config))
    if "ingest" in jobs:
        found += told("disk", disk_findings(config, looks))
    return list(dict.fromkeys(found))  # two looks may meet the same fault


def domain_findings(config: Config, jobs: Sequence[str]) -> Findings:
    if not config.sources:
        if "ingest" in jobs:
            yield fault("sources", "none given; for example sources.book: [{path: books/*.jsonl}]")
        return
    if unmixed := set(config.sources) - set(config.mix.weights or config.sources):
        yield note("mix.weights", f"leaves out {', '.join(sorted(unmixed))}")
    if set(config.sources) <= set(config.pack.domains):
        yield note("pack.domains", "every domain is packed: none is scored")
