"""Two thin DAGs: the whole chain, and one that selects again whenever scores arrive.

Every task runs one argv, `longattn JOB --config FILE [--set key=value ...]`. The jobs are
idempotent, so a retry, or a run repeated by hand, adds nothing twice.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, chain, task
from longattn_tasks import (
    MACROS,
    SETTINGS,
    domains_of,
    form,
    job,
    job_per_domain,
    requests_per_domain,
    tell_failure,
)

SCORES = Asset("longattn_scores")
EXPORTS = Asset("longattn_exports")  # for the DAGs that train on them
COMMON: dict[str, Any] = {
    "catchup": False,
    "max_active_runs": 1,
    "render_template_as_native_obj": True,  # lists and dicts reach the operators as such
    "user_defined_macros": MACROS,
    "tags": ["longattn"],
    "default_args": {
        "retries": SETTINGS["retries"],
        "retry_delay": timedelta(minutes=SETTINGS["retry_delay_minutes"]),
        "on_failure_callback": tell_failure,
        "execution_timeout": timedelta(minutes=SETTINGS["timeout_minutes"]["default"]),
    },
}


@task
def inputs(params: dict[str, Any], triggering_asset_events: Any = None) -> dict[str, Any]:
    """What this run works on: the form's values, laid over those of the run that scored."""
    events = [e for of_asset in (triggering_asset_events or {}).values() for e in of_asset]
    scored = dict(events[-1].extra) if events else {}
    overrides = [*scored.get("overrides", []), *params["overrides"]]
    given = {**params, **scored, "overrides": overrides}
    return {**given, "domains": given["domains"] or domains_of(given["config"])}


@task(outlets=[EXPORTS])
def publish_export(inputs: dict[str, Any], outlet_events: Any) -> None:
    """Say that an export is there, by which config and settings; its manifest says the rest."""
    outlet_events[EXPORTS].extra = inputs


with DAG("longattn_pipeline", schedule=None, params=form([]), doc_md=__doc__, **COMMON):

    @task
    def domains(inputs: dict[str, Any]) -> list[Any]:
        """One request a domain, for the mapped score task."""
        return requests_per_domain("score", inputs)

    @task(outlets=[SCORES])
    def publish(inputs: dict[str, Any], outlet_events: Any) -> None:
        """Say that scores have changed, of which domains, and under which settings."""
        outlet_events[SCORES].extra = inputs

    resolved = inputs()
    requests = domains(resolved)
    chain(
        resolved,
        *(job(name) for name in ("ingest", "dedup", "windows")),
        job_per_domain("score", requests),
        publish(resolved),
        job("select"),
        job("export"),
        publish_export(resolved),
        job("report"),
    )

with DAG(
    "longattn_reselect",
    schedule=[SCORES],
    params=form(SETTINGS["reselect"]),
    doc_md=__doc__,
    **COMMON,
):
    resolved = inputs()
    chain(resolved, job("select"), job("export"), publish_export(resolved), job("report"))
