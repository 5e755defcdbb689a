"""The sources of a config as executors take them, and what `listings` calls them; without Spark."""

import fnmatch
import json
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import unquote

from longattn.etl.config import Config, SourceConfig, of_domain
from longattn.etl.config.sections import HIVE_NULL
from longattn.etl.run.views import Inputs
from longattn.udfs.digest import json_digest
from longattn.udfs.documents.formats import SourceSpec

EVALUATION = "evaluation"  # in the place of a domain's name


def specs_of(config: Config) -> list[tuple[SourceSpec, SourceConfig]]:
    """Every source of the config with what executors need to know of it, in order."""
    return [
        (spec_of(domain, source, config), source)
        for domain, sources in config.sources.items()
        for source in sources
    ]


def spec_of(domain: str, source: SourceConfig, config: Config) -> SourceSpec:
    """What executors need to know of a source; limits in tokens are for later (`current`)."""
    published = source.format == "longattn" and "text" not in source.model_fields_set
    return SourceSpec(
        domain=domain,
        source=source.name or domain,
        format=source.format,
        text="content" if published else source.text,
        id=source.id,
        meta=tuple(source.meta),
        where={field: tuple(values) for field, values in source.where.items()},
        priority=source.priority,
        min_chars=config.ingest.min_chars,
        max_bytes=config.ingest.max_bytes,
    )


def item_spec(source: SourceConfig, config: Config) -> SourceSpec:
    """The same of an evaluation set, whose items may be as short as they are."""
    return replace(spec_of(EVALUATION, source, config), min_chars=1)


def limited(spec: SourceSpec, config: Config) -> SourceSpec:
    """The spec with the limits of `ingest` in tokens, for a look at records before any table."""
    least = of_domain(spec.domain, config.ingest.min_tokens)
    most = of_domain(spec.domain, config.ingest.max_tokens)
    tokenizer = config.tokenizer_path if least or most else None
    return replace(spec, tokenizer=tokenizer, min_tokens=least or 0, max_tokens=most)


def inputs_of(config: Config) -> Inputs:
    """The names change with what the sources list and with how records are read, and no other way.

    A source that is given another domain, priority or licence keeps its name.
    """
    sources = [(listing_id(spec, source), spec) for spec, source in specs_of(config)]
    names = sorted({name for name, _ in sources})
    return Inputs(name=json_digest(names)[:16], sources=sources)


def listed_inputs(config: Config, listed: bool) -> Inputs | None:
    """The inputs, of which `listings` says the files; None where nothing says what is current.

    That is with a config without sources, and where that table has not been made.
    """
    return inputs_of(config) if listed and any(config.sources.values()) else None


def listing_id(spec: SourceSpec, source: SourceConfig) -> str:
    """Names a source by the files that it asks for and how it reads them."""
    asked = [sorted(source.path), sorted(source.include), sorted(source.exclude)]
    return json_digest([spec.reading, *asked])[:16]


def partition_values(name: str, spec: SourceSpec) -> str | None:
    """What a Parquet file's folders say of its rows, as JSON: `lang=en/part.parquet`, as Hive does.

    Values are texts, of the fields that the source maps; None where no folder names one.
    """
    if spec.format != "parquet":
        return None
    named = dict(folder.split("=", 1) for folder in name.split("/")[:-1] if "=" in folder)
    wanted = {column: unquote(named[column]) for column in spec.columns_in(named)}
    values = {column: None if value == HIVE_NULL else value for column, value in wanted.items()}
    return json.dumps(values) if values else None


def wanted_by(source: SourceConfig, uri: str, name: str) -> bool:
    """Whether include and exclude leave a file: globs of its uri, its path or its name."""
    places = (uri, uri.removeprefix("file:"), name)

    def matches(globs: Sequence[str]) -> bool:
        return any(fnmatch.fnmatch(place, glob) for glob in globs for place in places)

    return (not source.include or matches(source.include)) and not matches(source.exclude)
