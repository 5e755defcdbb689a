"""All jobs on every connector and store."""

import json
import logging
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from deltalake import DeltaTable
from moto.server import ThreadedMotoServer

from longattn.etl.config import Config, validate
from longattn.etl.console import run_jobs
from longattn.etl.export.files import MANIFEST, Folder
from longattn.etl.run.jobs import JOBS, between
from longattn.etl.tables.delta_rs import DeltaRsTable
from longattn.etl.tables.lease import DeltaRegister, Holder, Lease, steady_clock
from longattn.etl.tables.schema import RUNS
from longattn.udfs import storage, stores
from longattn.udfs.errors import SourceError, StorageError

TEXT = "a quiet road went over the hill and down to the harbour where the boats were"


class Store:
    """A bucket of an S3 server on this machine; moto keeps its objects in memory."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
        self.client.create_bucket(Bucket="lake")

    def keys(self, prefix: str) -> list[str]:
        found = self.client.list_objects_v2(Bucket="lake", Prefix=prefix).get("Contents", [])
        return [entry["Key"] for entry in found]

    def read(self, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket="lake", Key=key)["Body"].read()
        return data

    def ask_for_keys(self, ask: bool) -> None:
        """From now on moto lets nobody in but the users it knows, which are none; or everybody."""
        requests.post(f"{self.url}/moto-api/reset-auth", data="0" if ask else "inf", timeout=9)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line a request, thousands of them
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(server: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Its settings are in the environment, once for Spark, deltalake and pyarrow."""
    given = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "REGION": "us-east-1"}
    for name, value in {**given, "ENDPOINT_URL": server, "ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    requests.post(f"{server}/moto-api/reset", timeout=9)
    return Store(server)


def documents(domain: str, numbers: range) -> str:
    def text(seed: int) -> str:
        words = TEXT.split()
        return " ".join(words[(i * i * (seed + 2) + i // 5) % len(words)] for i in range(200))

    return "\n".join(json.dumps({"id": f"{domain}-{n}", "text": text(n)}) for n in numbers)


def settings(root: str, connector: str, **more: Any) -> dict[str, Any]:
    return {
        "tables": {"root": f"{root}/tables", "connector": connector},
        "sources": {"book": [{"path": f"{root}/book", "id": "id"}]},
        "tokenizer": "words",
        "window": {"length": 64},
        "score": {"scorer": "random"},
        "select": {"fraction": 0.5},
        "export": {"parquet": {"path": f"{root}/selected/"}},
        "report": {"path": f"{root}/report.html"},
        **more,
    }


ODD = ["a/b c++ ", "日本 100% pure", "it's k=v", 'say "hi" {d}', "<b>&amp;", "_x"]


@pytest.mark.spark
def test_a_domain_may_be_called_anything(spark: Any, tmp_path: Path) -> None:
    """Names that are no path, URL, SQL or HTML as they stand; and two sources of one domain."""
    sources: dict[str, list[dict[str, str]]] = {domain: [] for domain in ODD}
    for n, domain in enumerate([*ODD, ODD[0]]):
        path, before = tmp_path / f"{n}.jsonl", len(sources[domain])
        path.write_text(documents(str(n), range(4 * before, 4 * before + 4)))
        sources[domain].append({"path": str(path), "id": "id", "name": f"{domain} {before}"})
    more = {
        "sources": sources,
        "mix": {"weights": dict.fromkeys(ODD, 1.0), "max_copies": 1},
        "export": {form: {"path": str(tmp_path / form)} for form in ("parquet", "jsonl")},
    }
    config = validate(settings(str(tmp_path), "delta-rs", **more))
    runs = {run.job: run.outcome for run in run_jobs(config, list(JOBS))}
    assert runs["ingest"].rows_out == 4 * len(ODD) + 4
    for table in ("documents", "scores", "selections"):
        kept = DeltaTable(str(tmp_path / "tables" / table)).to_pandas()
        assert set(kept["domain"]) == set(ODD)
    kept = DeltaTable(str(tmp_path / "tables" / "documents")).to_pandas()
    assert kept.groupby("domain").size().to_dict() == dict.fromkeys(ODD, 4) | {ODD[0]: 8}
    assert set(kept["source"]) == {*(f"{domain} 0" for domain in ODD), f"{ODD[0]} 1"}
    page = (tmp_path / "report.html").read_text()
    held = re.search(r'id="samples">(.*?)</script>', page, re.DOTALL)
    assert held and {sample["domain"] for sample in json.loads(held[1])} == set(ODD)
    assert "<b>&amp;" not in page and page.count("&lt;b&gt;&amp;amp;") > 0
    assert runs["report"].rows_out == runs["report"].rows_in > 0


@pytest.mark.spark
def test_all_jobs_on_s3(spark: Any, store: Store) -> None:
    """Whole shards as the manifest says, a page, and nothing left for a second run."""
    config, _ = run_on("s3://lake", "delta-rs", store, list(JOBS))
    manifest = json.loads(store.read(f"selected/{MANIFEST}"))
    assert manifest["samples"] == sum(file["samples"] for file in manifest["files"]) > 0
    sizes = {file["name"]: file["bytes"] for file in manifest["files"]}
    stored = {key.rpartition("/")[2]: key for key in store.keys("selected/train-")}
    assert {name: len(store.read(key)) for name, key in stored.items()} == sizes
    assert store.read("report.html").startswith(b"<!")
    again = {run.job: run.outcome for run in run_jobs(config, ["ingest", "export"])}
    assert again["ingest"].rows_in == 0
    source = {"path": "s3://lake/selected", "format": "parquet"}
    other = settings("s3://lake/other", "delta-rs", sources={"book": [source]})
    with pytest.raises(SourceError, match="files of s3://lake/selected, which a job has written"):
        run_jobs(validate(other), ["ingest"])


@pytest.mark.spark
@pytest.mark.jars
def test_all_jobs_that_write_tables_on_s3_with_the_native_connector(
    spark: Any, store: Store
) -> None:
    config, _ = run_on("s3a://lake", "native", store, between(None, "select"))
    assert 0 < len(table("s3a://lake", "selections")) < len(table("s3a://lake", "scores"))
    (again,) = run_jobs(config, ["ingest"])
    assert again.outcome and again.outcome.rows_in == 0


def run_on(root: str, connector: str, store: Store, jobs: list[str]) -> tuple[Config, dict]:
    """Run jobs with everything at one root: their config, and what came of each."""
    store.client.put_object(Bucket="lake", Key="book/1.jsonl", Body=documents("b", range(4)))
    config = validate(settings(root, connector))
    runs = {run.job: run.outcome for run in run_jobs(config, jobs)}
    assert runs["ingest"].rows_out == 4
    assert sorted(table(root, "documents")["source_id"]) == ["b-0", "b-1", "b-2", "b-3"]
    assert runs["score"].rows_out == runs["windows"].metrics["windows"] > 0
    assert store.keys("tables/_staging/x") == []
    return config, runs


def table(root: str, name: str) -> Any:
    """A table of a bucket, as pandas has it."""
    place = f"{root}/tables/{name}"
    return DeltaTable(place, storage_options=stores.delta_options(root)).to_pandas()


@pytest.mark.spark
def test_eight_writers_at_once_lose_nothing_on_s3(spark: Any, store: Store) -> None:
    """Each commits by a conditional put; so does whoever takes a root, with either connector."""
    runs = DeltaRsTable(spark, RUNS, "s3a://lake/tables/runs")
    rows = [dict.fromkeys(RUNS.columns) | {"run_id": f"r{n}", "job": "score"} for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        versions = [commit.version for commit in pool.map(runs.put, rows)]
    kept = table("s3a://lake", "runs")
    assert sorted(kept["run_id"]) == [f"r{n}" for n in range(8)] and len(set(versions)) == 8


def test_two_runs_cannot_hold_one_root_on_s3(store: Store) -> None:
    register = DeltaRegister("s3a://lake/tables/_lease")
    holders = [Holder(token=name, job=name, run_id=name, machine=name) for name in ("one", "two")]
    one, two = (Lease(register, holder, 60, steady_clock) for holder in holders)
    assert one.take() is None
    found = two.take()
    assert found and found.token == "one"
    one.release({})
    assert two.take() is None


def test_a_bucket_that_is_not_there_and_a_wrong_key_are_one_line(store: Store) -> None:
    with pytest.raises(StorageError, match=r"^s3a://nowhere/x: there is no bucket nowhere$"):
        storage.refuse_unreachable("s3a://nowhere/x")
    storage.refuse_unreachable("s3a://lake/not/yet")
    store.ask_for_keys(True)
    try:
        with pytest.raises(StorageError, match=r"^s3a://lake/x: .*ACCESS_DENIED[^\n]*$"):
            storage.refuse_unreachable("s3a://lake/x")
    finally:
        store.ask_for_keys(False)


def test_an_export_on_s3_replaces_the_one_before(store: Store) -> None:
    folder = Folder.at("s3a://lake/out/")
    for name, data in (("a.bin", b"abc"), ("book/b.bin", b"de")):
        folder.begin()
        staged, file = folder.new_file()
        file.write(data)
        file.close()
        manifest = {"longattn": name, "files": [{"name": name, "bytes": len(data)}]}
        folder.publish({staged: name}, {MANIFEST: json.dumps(manifest)})
    names = {key.removeprefix("out/") for key in store.keys("out/") if not key.endswith("/")}
    assert names == {"book/b.bin", MANIFEST} and store.read("out/book/b.bin") == b"de"
    assert store.keys("out.staging") == [] and folder.manifest() == manifest
    assert folder.faults(manifest["files"]) == [] and folder.strangers() == []


@pytest.mark.spark
def test_a_place_may_be_a_link_a_uri_or_end_in_a_slash(tmp_path: Path) -> None:
    target = tmp_path / "disk"
    target.mkdir()
    link = tmp_path / "link"
    link.symlink_to(target)
    manifest = {"longattn": "0", "files": [{"name": "a.bin"}]}
    for place in (f"{link}/", f"file://{link}", f"file:{link}"):
        folder = Folder.at(place)
        folder.begin()
        staged, file = folder.new_file()
        file.write(b"abc")
        file.close()
        folder.publish({staged: "a.bin"}, {MANIFEST: json.dumps(manifest)})
        assert link.is_symlink() and sorted(os.listdir(target)) == [MANIFEST, "a.bin"]
        assert sorted(os.listdir(tmp_path)) == ["disk", "link"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_an_export_fills_a_mount_point(tmp_path: Path) -> None:
    disk, place = tmp_path / "disk", tmp_path / "mounted"
    disk.mkdir(), place.mkdir()
    if os.system(f"mount --bind {disk} {place} 2>/dev/null"):
        pytest.skip("this machine lets nobody mount")
    try:
        for name in ("a.bin", "b.bin"):
            folder = Folder.at(str(place))
            folder.begin()
            staged, file = folder.new_file()
            file.write(b"abc")
            file.close()
            manifest = {"longattn": "0", "files": [{"name": name}]}
            folder.publish({staged: name}, {MANIFEST: json.dumps(manifest)})
            assert sorted(os.listdir(disk)) == [MANIFEST, name]
    finally:
        os.system(f"umount {place}")


def test_the_home_folder_is_expanded_wherever_a_place_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    given = settings("~/work", "auto", score={"scorer": "longattn", "model": "~/model"})
    config = validate(given)
    assert config.tables.root == "/home/anna/work/tables"
    assert config.sources["book"][0].path == ["/home/anna/work/book"]
    assert config.export.parquet.path == "/home/anna/work/selected"
    assert config.report.path == "/home/anna/work/report.html"
    assert config.score.model == "/home/anna/model"


def test_settings_of_s3_are_said_once_in_either_way() -> None:
    hadoop = {
        "spark.hadoop.fs.s3a.access.key": "A",
        "spark.hadoop.fs.s3a.secret.key": "B",
        "spark.hadoop.fs.s3a.endpoint": "http://127.0.0.1:9000",
        "spark.hadoop.fs.s3a.endpoint.region": "eu-west-1",
    }
    aws = {
        "AWS_ACCESS_KEY_ID": "A",
        "AWS_SECRET_ACCESS_KEY": "B",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
        "AWS_REGION": "eu-west-1",
    }
    for conf, environ in ((hadoop, {}), ({}, aws)):
        found = stores.known_settings(conf, environ)
        assert found == {**aws, "AWS_ALLOW_HTTP": "true"}
        assert stores.hadoop_conf(found) == {
            **hadoop,
            "spark.hadoop.fs.s3a.path.style.access": "true",
        }
