"""What a look at each source finds: files, fields, text, or none."""

from collections.abc import Sequence

from longattn.etl.before.findings import Findings, fact, fault, note, told
from longattn.etl.before.look import Look, look_at
from longattn.etl.config import Config, SourceConfig
from longattn.etl.run.show import human_bytes


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
        yield from told(label, _source(config, label, domain, source, looks))


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
