"""Every setting is explained, and the page says what the code says."""

from pathlib import Path

import jsonschema
import yaml

from longattn.etl import config
from longattn.etl.config import explain as settings
from longattn.etl.config.identity import DECIDES
from longattn.etl.run.jobs import JOBS
from tests.faults.changes import NOT_TRIED, VALUES

REPO = Path(__file__).parents[2]


def test_every_setting_is_explained() -> None:
    bare = [s.name for s in settings.settings() if not s.meaning]
    assert not bare, f"no docstring below {bare} in etl/config/sections.py"


def test_every_setting_is_listed_once() -> None:
    names = [s.name for s in settings.settings()]
    assert len(names) == len(set(names))
    assert {"window.length", "seed", "sources.<domain>[].path", "export.<format>.path"} <= set(
        names
    )


def test_the_help_of_a_job_lists_its_settings_and_all_sections_have_a_job() -> None:
    everybodys = {"tables", "spark", "seed", "estimate"}
    named = {section for sections in config.READ_BY.values() for section in sections}
    assert set(config.READ_BY) == set(JOBS)
    assert named | everybodys == set(config.Config.model_fields)
    text = settings.of_job("select")
    assert "select: name null, by null, " in text and "mix: tokens null" in text
    assert "select.where[]: scorer required" in text and "window" not in text
    # what moves the cut or the price of a job stands in its help, whatever the section is called
    for job, line in (
        ("windows", "buckets {}"),
        ("score", "window: length"),
        ("score", "pack: domains"),
        ("export", "attend_across false"),
        ("report", "estimate: cpu_hour null"),
    ):
        assert line in settings.of_job(job)


def test_changes_are_tried_of_every_setting_that_decides() -> None:
    """A new one joins the random sequences, or says why not."""
    sections = {"sources.web.0": "SourceConfig"}
    for name in DECIDES["Config"]:
        sections[name] = type(getattr(config.Config(), name)).__name__
    deciding = {f"{s}.{name}" for s, model in sections.items() for name in DECIDES.get(model, ())}
    deciding = {name for name in deciding if not name.startswith("export.")} | {"seed", "tokenizer"}
    left = {name for names in NOT_TRIED.values() for name in names}
    tried = {name for name in deciding if not left & {name, name.rpartition(".")[2]}}
    assert tried == set(VALUES)


def test_the_page_is_up_to_date() -> None:
    page = (REPO / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings.as_markdown(), "run `make docs`"


def test_the_schema_accepts_the_shipped_configs_and_refuses_a_misspelling() -> None:
    schema = settings.json_schema()
    for path in sorted((REPO / "conf").glob("*.yaml")):
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        if "jobs" not in found:
            config.validate(found)
    good = {"window": {"length": 4096}}
    jsonschema.validate(good, schema)
    bad = jsonschema.Draft202012Validator(schema).is_valid({"window": {"lenght": 4096}})
    assert not bad
    described = schema["$defs"]["WindowConfig"]["properties"]["length"]["description"]
    assert described.startswith("tokens;")
