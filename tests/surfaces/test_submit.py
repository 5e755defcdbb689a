"""spark-submit, for real: every command of docs/cluster.md, with hosts and paths replaced."""

import json
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import venv
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from zipfile import ZipFile

import pyspark
import pytest
from delta import configure_spark_with_delta_pip
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from longattn.etl.session import DELTA_CONF
from tests.commands import fast_java
from tests.surfaces.corpus import REPO, SCORER, make_config

pytestmark = [pytest.mark.spark, pytest.mark.slow]
Submit = Callable[..., subprocess.CompletedProcess[str]]
SPARK_HOME = Path(pyspark.__file__).parent
N_TWINS = 8
PROBE = """
import json

from pyspark import TaskContext
from pyspark.sql import functions as F

from longattn.etl.config import SparkConfig
from longattn.etl.session import get_spark

spark = get_spark(SparkConfig())

@F.udf("string")
def seen(_):
    import longattn.etl as etl
    gpu = TaskContext.get().resources().get("gpu")
    return json.dumps({"gpu": gpu and gpu.addresses, "etl": etl.__file__})

rows = spark.range(0, 8, 1, 8).select(seen("id").alias("seen"))
for row in rows.distinct().collect():
    print("PROBE", row.seen)
"""


@pytest.fixture(scope="module")
def dist() -> Path:
    if not os.environ.get("DIST_IS_BUILT"):  # by bin/test.sh, for Airflow's tests too
        subprocess.run([REPO / "bin" / "dist.sh", sys.prefix], check=True, timeout=600)
    return REPO / "dist"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("submit")


@pytest.fixture(scope="module")
def env(folder: Path) -> dict[str, str]:
    """Workers and driver run a Python that has every package but this project's own.

    The venv of the tests has the project installed, which would hide what the zip lacks. A .pth
    file adds its packages, and not the .pth file among them that leads to the checkout.
    """
    java = fast_java()
    venv.create(folder / "python", with_pip=False, symlinks=True)
    (site,) = (folder / "python" / "lib").glob("python3*/site-packages")
    (site / "packages.pth").write_text(str(SPARK_HOME.parent) + "\n")
    return {
        **os.environ,
        "SPARK_HOME": str(SPARK_HOME),
        "PYSPARK_PYTHON": str(folder / "python" / "bin" / "python"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_SUBMIT_OPTS": java,
    }


@pytest.fixture(scope="module")
def config(folder: Path) -> Path:
    """Ranked by what reads no model; the task with a GPU scores by one."""
    return make_config(
        folder,
        sources={"book": [{"path": twins(folder), "id": "id"}]},
        tokenizer=str(SCORER),
        score={"scorer": "recall", "k": 32, "model": str(SCORER)},
    )


@pytest.fixture(scope="module")
def submit(dist: Path, folder: Path, env: dict[str, str]) -> Submit:
    """Run a command of docs/cluster.md, by name; `replaced` maps its words to this machine's."""

    def run(
        name: str,
        replaced: dict[str, str],
        *more: str,
        conf: tuple[str, ...] = (),
        timeout: int = 1200,
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        here = {**replaced, "dist/": f"{dist}/", "bin/": f"{REPO}/bin/"}
        words = command(name)[1:] + list(more)
        for old, new in here.items():
            words = [re.sub(rf"(?<![\w/]){re.escape(old)}", new, word) for word in words]
        settings = (
            "spark.ui.enabled=false",
            "spark.driver.memory=1g",
            f"spark.executor.extraJavaOptions={env['SPARK_SUBMIT_OPTS']}",
            *conf,
        )
        given = [word for setting in settings for word in ("--conf", setting)]
        return subprocess.run(
            [str(SPARK_HOME / "bin" / "spark-submit"), *given, *words],
            env={**env, **variables},
            cwd=folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="module")
def standalone(folder: Path, env: dict[str, str]) -> Iterator[str]:
    """A master and two workers with one invented GPU each, 3 and 5; yields the master's URL."""
    port, script = free_port(), REPO / "bin" / "gpu_discovery.sh"
    gpu = "-Dspark.worker.resource.gpu"
    options = f"{env['SPARK_SUBMIT_OPTS']} {gpu}.amount=1 {gpu}.discoveryScript={script}"
    master = ["master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"]
    url = f"spark://127.0.0.1:{port}"
    worker = ["worker.Worker", "--host", "127.0.0.1", "--cores", "1", "--memory", "2g"]
    started = [start(master, env, folder / "master.log")]
    try:
        wait_for(folder / "master.log", "I have been elected leader", started)
        for address in ("3", "5"):
            mine = {"LONGATTN_GPUS": address, "SPARK_WORKER_OPTS": options}
            room = ["--webui-port", "0", "--work-dir", str(folder / f"work{address}"), url]
            log = folder / f"worker{address}.log"
            started.append(start([*worker, *room], {**env, **mine}, log))
        for address in ("3", "5"):
            wait_for(folder / f"worker{address}.log", "Successfully registered", started)
        yield url
    finally:
        stop(started)


def command(name: str) -> list[str]:
    """The words of the block that docs/cluster.md marks `<!-- command: name -->`."""
    page = (REPO / "docs" / "cluster.md").read_text()
    found = re.search(rf"<!-- command: {name} -->\n```bash\n(.*?)```", page, re.DOTALL)
    assert found, name
    words = shlex.split(found[1].replace("\\\n", " "))
    assert words[0] == "spark-submit"
    return words


def test_the_zip_holds_every_module_and_resource(dist: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "etl", "udfs"], cwd=REPO, text=True, capture_output=True, check=True
    ).stdout.split()
    held = set(ZipFile(dist / "longattn.zip").namelist())
    assert {f"longattn/{path}" for path in tracked} - held == set()
    assert "tests/conftest.py" not in held


def test_one_machine_runs_the_command_of_the_page(submit: Submit, tmp_path: Path) -> None:
    """Up to windows: jobs after it differ from those of a cluster, below, in nothing."""
    config = make_config(tmp_path, tokenizer="words")
    made = submit("local", {"conf/demo.yaml": str(config)}, "--to", "windows")
    assert made.returncode == 0, made.stdout[-5000:]
    assert "windows  6 in, 6 out" in made.stdout
    assert len(DeltaTable(tmp_path / "tables" / "windows").to_pyarrow_table()) > 6


@pytest.mark.demo
def test_two_workers_run_every_job_from_the_zip_alone(
    submit: Submit, standalone: str, config: Path
) -> None:
    made = submit("standalone", {"spark://master:7077": standalone, "conf/demo.yaml": str(config)})
    assert made.returncode == 0, made.stdout[-5000:]
    score = next(line for line in made.stdout.splitlines() if line.startswith("score "))
    assert not score.split()[1].startswith("0"), score
    assert (config.parent / "selected" / "_manifest.json").exists()
    every_copy_is_removed(config.parent / "tables")


def every_copy_is_removed(root: Path) -> None:
    """Of each three twins one stays, and it is none of those that were removed."""
    documents = DeltaTable(root / "documents").to_pyarrow_table(columns=["doc_id", "source_id"])
    number = {row["doc_id"]: row["source_id"].split("-")[0] for row in documents.to_pylist()}
    removed = DeltaTable(root / "duplicates").to_pyarrow_table().to_pylist()
    assert len(set(number.values())) == N_TWINS
    assert all(number[row["doc_id"]] == number[row["kept_id"]] for row in removed)
    assert Counter(number[row["doc_id"]] for row in removed) == dict.fromkeys(number.values(), 2)
    assert {row["kept_id"] for row in removed}.isdisjoint(row["doc_id"] for row in removed)
    assert {row["method"] for row in removed} == {"exact", "near"}


def twins(folder: Path) -> str:
    """Texts of random words, each with a near copy and an exact one; the path of a JSONL file."""
    rng, lines = random.Random(0), []
    for number in range(N_TWINS):
        words = [f"w{rng.randrange(10**6)}" for _ in range(400)]
        edited = [*words[:200], "edited", *words[201:]]
        for name, text in (("first", words), ("edited", edited), ("again", words)):
            lines.append(json.dumps({"id": f"{number}-{name}", "text": " ".join(text)}) + "\n")
    path = folder / "twins.jsonl"
    path.write_text("".join(lines))
    return str(path)


@pytest.mark.demo
def test_standalone_gpu_tasks_score(submit: Submit, standalone: str, config: Path) -> None:
    here = {"spark://master:7077": standalone, "conf/demo.yaml": str(config)}
    by_a_model = ("score.scorer=longattn", "score.sample_rows=32", "score.device=cpu")
    made = submit("standalone-gpu", here, "--set", *by_a_model)
    assert made.returncode == 0, made.stdout[-5000:]
    scores = DeltaTable(config.parent / "tables" / "scores").to_pandas()
    assert len({name.split(":")[0] for name in scores["scorer"]}) == 2
    assert scores.groupby("scorer")["window_id"].nunique().nunique() == 1


def test_a_gpu_task_gets_the_address_its_worker_announced(
    submit: Submit, standalone: str, folder: Path
) -> None:
    (folder / "probe.py").write_text(PROBE)
    here = {"dist/submit.py": str(folder / "probe.py"), "spark://master:7077": standalone}
    made = submit("standalone-gpu", here)
    found = [json.loads(line) for line in re.findall("PROBE (.*)", made.stdout)]
    assert found, made.stdout[-5000:]
    assert {tuple(row["gpu"]) for row in found} <= {("3",), ("5",)}
    assert all("longattn.zip" in row["etl"] for row in found)


def test_gpu_settings_with_a_local_master_are_refused_in_a_sentence(
    submit: Submit, config: Path
) -> None:
    here = {"spark://master:7077": "local[2]", "conf/demo.yaml": str(config)}
    made = submit("standalone-gpu", here)
    assert made.returncode == 2
    assert "a local master never offers a GPU" in made.stdout


def test_yarn_takes_the_command_up_to_the_resource_manager(submit: Submit, folder: Path) -> None:
    closed = {
        "yarn.resourcemanager.address": f"127.0.0.1:{free_port()}",
        "yarn.resourcemanager.connect.max-wait.ms": "1000",
        "yarn.resourcemanager.connect.retry-interval.ms": "500",
        "ipc.client.connect.max.retries": "0",
    }
    pairs = (f"<name>{name}</name><value>{value}</value>" for name, value in closed.items())
    text = "".join(f"<property>{pair}</property>" for pair in pairs)
    (folder / "yarn-site.xml").write_text(f"<configuration>{text}</configuration>")
    made = submit("yarn", {"conf/": f"{REPO}/conf/"}, HADOOP_CONF_DIR=str(folder), timeout=300)
    assert "failed on connection exception" in made.stdout, made.stdout[-3000:]
    assert "getNewApplication" in made.stdout


def test_kubernetes_is_asked_for_the_drivers_pod(submit: Submit) -> None:
    with kubernetes_stand_in() as (url, made):
        done = submit(
            "kubernetes", {"k8s://https://kubernetes:6443": f"k8s://{url}"}, KUBECONFIG=os.devnull
        )
    assert done.returncode == 0, done.stdout[-3000:]
    (pod,) = (body for body in made if body["kind"] == "Pod")
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "longattn:cuda"
    main = "local:///opt/longattn/bin/submit.py"
    assert container["args"][-4:] == [main, "score", "--config", "/data/longattn.yaml"]
    (settings,) = (b["data"] for b in made if "spark.properties" in b.get("data", {}))
    properties = dict(re.findall(r"(?m)^([\w.]+)=(.*)$", settings["spark.properties"]))
    assert properties["spark.executor.instances"] == "4"
    assert properties["spark.executor.resource.gpu.vendor"] == "nvidia.com"
    assert properties["spark.task.resource.gpu.amount"] == "1"


def test_the_native_connectors_coordinates_are_delta_sparks_own() -> None:
    words = command("native")
    builder = configure_spark_with_delta_pip(SparkSession.builder)
    packages = builder._options["spark.jars.packages"]
    builder._options.pop("spark.jars.packages")  # options outlive a builder; other tests share it
    assert words[words.index("--packages") + 1] == packages
    assert {f"{key}={value}" for key, value in DELTA_CONF.items()} <= set(words)


def test_two_workers_keep_native_tables_with_delta_from_maven(
    submit: Submit, standalone: str, tmp_path: Path
) -> None:
    """The line of the page as it is: its --packages are fetched, and reach driver and workers."""
    tables = {"root": str(tmp_path / "tables"), "connector": "native"}
    config = make_config(
        tmp_path,
        tables=tables,
        sources={"book": [{"path": twins(tmp_path), "id": "id"}]},
        tokenizer="words",
        score={"scorer": "random"},
    )
    here = {"conf/demo.yaml": str(config), "spark://master:7077": standalone}
    made = submit("native", here, "--to", "ingest", conf=fetched_into(tmp_path / "ivy"))
    if "unresolved dependency" in made.stdout:
        pytest.skip("no Maven within reach")
    assert made.returncode == 0, made.stdout[-5000:]
    assert f"tables: {tables['root']}, connector native" in made.stdout
    documents = DeltaTable(tmp_path / "tables" / "documents")
    assert "Delta-Lake/" in documents.history()[0]["engineInfo"]  # Delta's JVM library signs so
    ids = documents.to_pyarrow_table(columns=["source_id"])["source_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 3 * N_TWINS


def fetched_into(cache: Path) -> tuple[str, ...]:
    """Settings of --packages: a cache of the test's own, and mirrors as for `make jars`."""
    mirrors = os.environ.get("LONGATTN_MAVEN")
    return (f"spark.jars.ivy={cache}", *([f"spark.jars.repositories={mirrors}"] if mirrors else []))


@pytest.mark.parametrize(
    ("gpus", "addresses"), [("0,1", ["0", "1"]), ("7", ["7"]), ("", [])], ids=repr
)
def test_the_discovery_script_speaks_sparks_json(gpus: str, addresses: list[str]) -> None:
    script = REPO / "bin" / "gpu_discovery.sh"
    variables = {**os.environ, "LONGATTN_GPUS": gpus}
    made = subprocess.run([script], env=variables, capture_output=True, text=True, check=True)
    assert json.loads(made.stdout) == {"name": "gpu", "addresses": addresses}


class kubernetes_stand_in:
    """As much of an API server as a submission talks to: what is made or applied is kept."""

    def __enter__(self) -> tuple[str, list[dict[str, Any]]]:
        made: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body.setdefault("metadata", {})["uid"] = "1"
                made.append(body)
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_PATCH = do_POST

            def log_message(self, *args: Any) -> None:
                """Keep the test's output readable."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_address[1]}", made

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def start(words: list[str], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """A Spark daemon at the head of a process group of its own."""
    command = [str(SPARK_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{words[0]}"]
    return subprocess.Popen(
        [*command, *words[1:]],
        env=env,
        stdout=log.open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def stop(started: list[subprocess.Popen[bytes]]) -> None:
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    for process in started:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def wait_for(log: Path, text: str, started: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + 60
    while text not in log.read_text(errors="replace"):
        alive = all(process.poll() is None for process in started)
        assert alive and time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
