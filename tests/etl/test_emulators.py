"""All jobs with sources, tables, exports and report on a server that stands for Azure's store."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow.fs as pafs
import pytest
from deltalake import DeltaTable

from longattn.etl.config import validate
from longattn.etl.console import run_jobs
from longattn.etl.export.files import MANIFEST
from longattn.etl.run.jobs import JOBS
from longattn.udfs import storage, stores
from longattn.udfs.errors import StorageError
from tests.etl import emulators
from tests.etl.test_everywhere import documents, settings
from tests.surfaces.test_submit import free_port

pytestmark = [pytest.mark.spark, pytest.mark.jars, pytest.mark.slow]

# The account that every Azurite has: Microsoft publishes its key.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@pytest.fixture(scope="module")
def azurite() -> Iterator[str]:
    program, port = emulators.azurite(), free_port()
    place = ("--blobHost", "127.0.0.1", "--blobPort", str(port))
    quiet = ("--silent", "--skipApiVersionCheck", "--inMemoryPersistence")
    with emulators.serving(str(program), *place, *quiet, port=port):
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"


@pytest.fixture
def azure(azurite: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A container of Azurite, whose settings are in the environment, once for all libraries."""
    for name, value in {"ACCOUNT_NAME": ACCOUNT, "ACCOUNT_KEY": KEY, "ENDPOINT": azurite}.items():
        monkeypatch.setenv(f"AZURE_STORAGE_{name}", value)
    root = f"abfs://lake@{ACCOUNT}.dfs.core.windows.net"
    storage.open_fs(root)[0].create_dir("lake")
    return root


def test_all_jobs_on_azure(azure: str, spark: Any) -> None:
    """With everything at one root, and a second run of two; pyarrow and deltalake look at it."""
    root = f"{azure}/lake"
    system, folder = storage.open_fs(root)
    with system.open_output_stream(f"{folder}/book/1.jsonl", compression=None) as file:
        file.write(documents("b", range(4)).encode())
    config = validate(settings(root, "delta-rs"))
    runs = {run.job: run.outcome for run in run_jobs(config, list(JOBS))}
    windows = runs["windows"].metrics["windows"]
    assert (runs["ingest"].rows_out, runs["score"].rows_out) == (4, windows)
    manifest = json.loads(read(system, f"{folder}/selected/{MANIFEST}"))
    assert manifest["samples"] == sum(file["samples"] for file in manifest["files"]) > 0
    for file in manifest["files"]:
        assert len(read(system, f"{folder}/selected/{file['name']}")) == file["bytes"]
    assert read(system, f"{folder}/report.html").startswith(b"<!")
    kept = DeltaTable(f"{root}/tables/documents", storage_options=stores.delta_options(root))
    assert sorted(kept.to_pandas()["source_id"]) == ["b-0", "b-1", "b-2", "b-3"]
    again = {run.job: run.outcome for run in run_jobs(config, ["ingest", "export"])}
    assert again["ingest"].rows_in == 0


def test_a_container_that_is_not_there_is_one_line(azure: str) -> None:
    place = f"abfs://nowhere@{ACCOUNT}.dfs.core.windows.net/x"
    with pytest.raises(StorageError, match=f"^{place}: there is no container nowhere$"):
        storage.refuse_unreachable(place)
    storage.refuse_unreachable(f"{azure}/not/yet")


def read(system: pafs.FileSystem, path: str) -> bytes:
    with system.open_input_stream(path, compression=None) as stream:
        data: bytes = stream.read()
        return data
