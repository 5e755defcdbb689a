"""Secrets in settings and URIs are in nothing that is written or printed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import BaseModel

from longattn.etl import config as config_module
from longattn.etl.config import Config, ExportTarget, SourceConfig
from longattn.etl.console import run_jobs
from longattn.etl.run.jobs import JOBS
from longattn.etl.run.reasons import one_line
from longattn.udfs import stores
from longattn.udfs.errors import ConfigError
from longattn.udfs.redaction import HIDDEN, holds_secret, is_secret, redacted, redacted_text
from tests.commands import longattn

PLANT = "pl4nt"  # in every secret below
CONF = {
    "spark.hadoop.fs.s3a.access.key": PLANT,
    "spark.hadoop.fs.s3a.secret.key": PLANT,
    "spark.hadoop.fs.s3a.session.token": PLANT,
    "spark.hadoop.fs.azure.account.key.me.dfs.core.windows.net": PLANT,
    "spark.hadoop.fs.azure.account.oauth2.client.secret": PLANT,
    "spark.hadoop.fs.azure.sas.fixed.token.me.dfs.core.windows.net": f"sv=1&sig={PLANT}",
    "spark.hadoop.fs.ftp.password.host": PLANT,
    "spark.hadoop.javax.jdo.option.ConnectionPassword": PLANT,
    "spark.hadoop.any.keystorepassword": PLANT,
    "spark.es.net.http.auth.pass": PLANT,
    "spark.hadoop.any.url": f"https://me:{PLANT}@host/x?a=1&sig={PLANT}&b=2",
    "spark.hadoop.any.options": f"-Dtrust.password={PLANT} -Dx=1 Authorization: Bearer {PLANT}1234",
}
URIS = [
    f"s3a://id:{PLANT}@bucket/x",
    f"s3a://AKIA:ab/{PLANT}@bucket",
    f"s3://AKIA:80/{PLANT}@bucket",
    f"hdfs://me:{PLANT}@host:8020/x",
    f"wasbs://c@me.blob.core.windows.net/x?sv=1&sig={PLANT}",
    *(
        f"https://host/x?{name}={PLANT}"
        for name in ("token", "Signature", "sas", "X-Amz-Signature")
    ),
    f"https://host/x?a=b&X-Goog-Signature={PLANT}",
]
PLACES = [
    "tables.root",
    "tables.lease_folder",
    "sources.d",
    "decontaminate.sources",
    "tokenizer",
    "score.model",
    "export.parquet.path",
    "export.jsonl.path",
    "export.megatron.path",
    "export.mds.path",
    "report.path",
]
SECRET_NAMES = """
    secretkey accesskey keystorepassword clientsecret privatekey sastoken hftoken api_key apiKeys
    key openaiApiKey footerKey jwt Authorization Proxy-Authorization spark.redis.auth HF_TOKEN
    spark.es.net.http.auth.pass spark.ssl.keyPassword spark.authenticate.secret AWS_ACCESS_KEY_ID
    spark.hadoop.fs.s3a.bucket.b.access.key spark.hadoop.fs.s3a.server-side-encryption.key
    spark.hadoop.fs.azure.account.key.me.dfs.core.windows.net spark.hadoop.fs.azure.sas.c.me
    spark.sql.catalog.rest.credential spark.sql.catalog.rest.token parquet.encryption.key.list
"""
OTHER_NAMES = """
    tokens min_tokens tokenizer tokenization token_ids keyBy monkey passthrough signal author
    spark.sql.catalog.spark_catalog spark.sql.catalog.rest.uri spark.sql.catalog.rest.rest.auth.type
    spark.hadoop.fs.s3a.endpoint spark.hadoop.fs.s3a.aws.credentials.provider spark.redaction.regex
    spark.sql.mapKeyDedupPolicy spark.sql.requireAllClusterKeysForDistribution spark.authenticate
    spark.ssl.keyStore spark.kerberos.keytab spark.io.encryption.keySizeBits
    spark.hadoop.hadoop.security.authentication spark.hadoop.fs.gs.auth.type
    spark.hadoop.fs.gs.auth.service.account.json.keyfile spark.es.net.http.auth.user
"""
FORMS = [
    "-Dx.secretKey={}",
    "password: {}",
    "a password:{} and so on",
    '{{"password": "{}", "x": 1}}',
    "password='a {}'",
    "failed: token={}",
    "https://host/x?sas={}",
    "spark.hadoop.fs.s3a.secret.key: {}:def: x",
    "Authorization: Basic {}",
    "Cookie: sig={}",
    'curl -H "X-Api-Key: {}"',
    "https://me:{0}@host/a.jar,https://you:{0}@host/b.jar",
    "s3a://id:p@{}@bucket",
]
INNOCENT = [
    "hdfs://host:8020/a@b",
    "abfss://c@me.dfs.core.windows.net/x:y@z",
    "/data/Basic English/2024/key=1",
    "file:/lake/token=a/part-0.parquet (columns: a)",
    "**/pass=2/*",
    "config: export.jsonl.text_key: input should be 'text' or 'content', got 'x'",
    "config: spark.conf.spark.hadoop.fs.s3a.secret.key: input should be a valid string",
    "ExpiredToken: The provided token has expired",
    "com.amazonaws.InvalidTokenException: The token is malformed",
    "NoSuchKey: The specified key does not exist",
    "--set window.length: expected key=value, for example window.length=8192",
    "struct<token_ids:array<int>>",
]
# Settings that are null or empty where nothing is said.
SETTINGS: dict[str, Any] = {
    "tables": {"lease_folder": "/lease"},
    "sources": {
        "book": [
            {"path": ["/b/*.jsonl", "/c"], "id": "key", "meta": ["token", "repo"]}
            | {"name": "dolma", "license": "CC0", "where": {"api_key": ["a", "b"]}}
            | {"include": ["*.jsonl"], "exclude": ["*.txt"], "format": "jsonl"}
        ],
        "token": [{"path": ["/t"], "meta": ["repo", "path"]}],
    },
    "tokenizer": "/tok",
    "ingest": {"min_tokens": {"token": 8}, "max_tokens": 9_000_000},
    "window": {"k": 64, "min_tokens": {"book": 9}, "max_tokens": 8_000_000},
    "pack": {"domains": ["token"], "strategy": "concat", "order": "repository"}
    | {"repository": "repo", "path": "path", "separator": "</s>"},
    "decontaminate": {"sources": [{"path": ["/e"]}]},
    "score": {"scorer": "recall", "also": {"longattn": {"model": "/m", "layers": [1]}}}
    | {"sample_rows": 8, "k": 64, "stride": 2, "rope_theta": 2.5e6, "background": "none"}
    | {"commit": 9, "cascade": 2.0, "threads": 2, "domains": ["book"], "options": {"pin": 3}},
    "select": {"name": "mine", "distance": {"1024": 0.5}, "per_document": 2}
    | {"where": [{"scorer": "longattn", "measure": "ds", "percentile": [5.0, 95.0]}]}
    | {"fraction": {"book": 0.5, "token": 1.0}, "tokens": {"token": 9_000_000}}
    | {"percentile": {"book": [5.0, 95.0]}, "threshold": {"book": 0.5}},
    "mix": {"tokens": 9_000_000, "weights": {"token": 1.0, "book": 2.0}}
    | {"upsample_long": {"32768": 5.0}},
    "export": {
        name: {"path": f"/out/{name}", "text_key": "content", "token_column": "input_ids"}
        for name in ("parquet", "jsonl", "megatron", "megatron_bridge", "mds", "numpy")
    },
    "estimate": {"cpu_hour": 0.1, "gpu_hour": 2.0},
    "spark": {"master": "local[2]", "conf": {"spark.ui.enabled": "false"}},
}
# They go with no export of one length, with no cascade, and with no distance.
LEFT = {"mix.buckets", "select.heads", "select.column"}


def test_the_printed_config_is_the_config(tmp_path: Path) -> None:
    """Every setting is given; where there are secrets, they alone are others."""
    settings, path = every_setting(), tmp_path / "config.yaml"
    assert {name for name, value in leaves(settings) if value in (None, [], {})} == LEFT
    settings["spark"]["conf"] |= CONF
    settings["score"]["options"] |= {"api_key": PLANT, "deep_token": 4}
    path.write_text(yaml.safe_dump(settings))
    code, printed = longattn("config", "--config", str(path))
    assert code == 0 and PLANT not in printed
    path.write_text(printed)
    settings["spark"]["conf"] = redacted(settings["spark"]["conf"])
    settings["score"]["options"] |= {"api_key": HIDDEN, "deep_token": HIDDEN}
    assert config_module.load(path) == config_module.validate(settings)


def every_setting() -> dict[str, Any]:
    """SETTINGS, and all others as they are by default."""
    given = merged(Config().model_dump(mode="json"), SETTINGS)
    models: list[tuple[dict[str, Any], type[BaseModel]]] = [
        *((each, SourceConfig) for sources in given["sources"].values() for each in sources),
        *((each, SourceConfig) for each in given["decontaminate"]["sources"]),
        *((each, ExportTarget) for each in given["export"].values()),
    ]
    for each, model in models:
        defaults = {name: field.default for name, field in model.model_fields.items()}
        each |= defaults | each
    return given


def merged(default: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Settings over others, section by section."""
    both = default.keys() & given.keys()
    sections = {key for key in both if isinstance(default[key], dict) and default[key]}
    deeper = {key: merged(default[key], given[key]) for key in sections}
    return default | given | deeper


def leaves(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert is_secret(name) and redacted({name: PLANT}) == {name: HIDDEN}


@pytest.mark.parametrize("name", OTHER_NAMES.split())
def test_other_settings_are_shown(name: str) -> None:
    assert not is_secret(name) and redacted({name: "x"}) == {name: "x"}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_known_by_its_form(form: str) -> None:
    text = form.format(PLANT)
    assert PLANT not in redacted_text(text) and HIDDEN in redacted_text(text)


@pytest.mark.parametrize("text", INNOCENT)
def test_other_texts_are_shown(text: str) -> None:
    assert not holds_secret(text)


def test_options_of_other_scorers_may_hold_secrets() -> None:
    options = {"score": {"scorer": "cohesion", "options": {"api_key": PLANT, "pin": 3}}}
    assert json.loads(config_module.validate(options).to_json())["score"]["options"] == {
        "api_key": "***",
        "pin": 3,
    }


@pytest.mark.parametrize("key", PLACES)
@pytest.mark.parametrize("uri", URIS)
def test_a_path_with_a_password_is_refused_without_repeating_it(key: str, uri: str) -> None:
    """Paths are names of rows and files, in tables and logs that we do not write alone."""
    with pytest.raises(ConfigError, match="no user:password@") as error:
        config_module.validate(nested(key, [{"path": uri}] if "sources" in key else uri))
    assert PLANT not in str(error.value)


@pytest.mark.parametrize(
    "override",
    [
        *(f"sources.d=[{{path: a, {key}: VALUE}}]" for key in ("license", "name", "text", "id")),
        *(f"sources.d=[{{path: a, {key}: [VALUE]}}]" for key in ("meta", "include", "exclude")),
        "sources.d=[{path: a, where: {lang: [VALUE]}}]",
        "sources={VALUE: [{path: a}]}",
        *(f"{key}=VALUE" for key in ("select.name", "select.column", "spark.master")),
        *(f"{key}=VALUE" for key in ("pack.separator", "estimate.currency", "select.by")),
    ],
)
def test_no_other_setting_may_hold_a_secret(override: str) -> None:
    """Licences and names go into manifests and cards, and all settings into the ledger."""
    with pytest.raises(ConfigError, match="no user:password@") as error:
        config_module.load(None, [override.replace("VALUE", f'"https://me:{PLANT}@host/terms"')])
    assert PLANT not in str(error.value)
    assert str(error.value).startswith(f"config: {override.partition('=')[0]}")


def test_a_variable_is_expanded_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "/data/here")
    monkeypatch.delenv("NOWHERE", raising=False)
    source = {"path": "a/${PLACE}$b", "include": ["${PLACE}/*.txt"], "exclude": ["*~"]}
    settings = {"tables": {"root": "${PLACE}/t"}, "sources": {"d": [source]}}
    config = config_module.validate(settings)
    assert config.tables.root == "/data/here/t"
    (found,) = config.sources["d"]
    assert found.path == ["a//data/here$b"]
    assert (found.include, found.exclude) == (["/data/here/*.txt"], ["*~"])
    with pytest.raises(ConfigError, match=r"export\.jsonl\.path: .*NOWHERE is not set"):
        config_module.validate(nested("export.jsonl.path", "${NOWHERE}/x"))
    with pytest.raises(ConfigError, match=r"sources\.d\.0\.include\.0: .*NOWHERE is not set"):
        config_module.validate({"sources": {"d": [{"path": "a", "include": ["${NOWHERE}"]}]}})


@pytest.mark.parametrize(
    ("value", "said"), [("", "VARIABLE is not set, or is empty"), (URIS[0], "no user:password@")]
)
@pytest.mark.parametrize("path", ["${VARIABLE}", "${VARIABLE}/x"])
def test_what_a_variable_says_is_looked_at(
    value: str, said: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty one made the root of the disk of `${VARIABLE}`; a secret went into tables."""
    monkeypatch.setenv("VARIABLE", value)
    with pytest.raises(ConfigError, match=r"tables\.root: ") as error:
        config_module.validate({"tables": {"root": path}})
    assert said in str(error.value) and PLANT not in str(error.value)


@pytest.mark.parametrize("value", [*CONF.values(), *URIS])
def test_messages_hide_what_looks_like_a_secret(value: str) -> None:
    if value != PLANT:  # a secret without its name looks like any word
        assert PLANT not in one_line(OSError(f"cannot open {value}: 403"))
    code, out = longattn("config", "--set", f"window.lenght={value}", "--config", "x.yaml")
    assert code == 2 and (PLANT not in out or value == PLANT)


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("export.jsonl={path: a, text_key: oops}", "got 'oops'"),
        ("export.mds={path: a, token_column: oops}", "got 'oops'"),
        ("spark.conf={x.secret.key: 8375}", "input should be a valid string"),
        ("select.fraction=https://me:8375@host", "got 'https://***@host'"),
    ],
)
def test_a_bad_value_is_shown_where_it_is_no_secret(override: str, shown: str) -> None:
    with pytest.raises(ConfigError) as error:
        config_module.load(None, [override])
    assert str(error.value).endswith(shown) and "8375" not in str(error.value)


@pytest.mark.parametrize(
    "line", [f"secret.key: {PLANT}:def: x", f"password: *{PLANT}", f"key: !{PLANT}", f"a: [{PLANT}"]
)
def test_a_fault_of_yaml_is_told_by_its_line_alone(line: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"spark:\n  conf:\n    {line}\n")
    with pytest.raises(ConfigError, match=r"not YAML: .* in line [34], column") as error:
        config_module.load(path)
    assert PLANT not in str(error.value)
    key, _, value = line.partition(": ")
    with pytest.raises(ConfigError, match=r"not YAML|valid dict") as error:
        config_module.load(None, [f"spark.conf.{key}={value}: [", f"spark.conf.{key}={value}"])
    assert PLANT not in str(error.value) or key == "a"


@pytest.fixture
def planted(spark: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Spark's settings, and the environment's, with a secret in each; gone after the test."""
    conf = {key: value.replace(PLANT, f"{PLANT}{n}") for n, (key, value) in enumerate(CONF.items())}
    for name in (*stores.S3.names.values(), *stores.Azure.names, "HF_TOKEN", "MY_PASSWORD"):
        monkeypatch.setenv(name, f"{PLANT}-{name}")
    for name in ("AWS_ENDPOINT_URL", "AZURE_STORAGE_ENDPOINT", "AWS_REGION"):
        monkeypatch.delenv(name)  # these are no secrets
    yield conf
    for key in {*conf, *stores.hadoop_conf(stores.known_settings(conf))}:
        spark.conf.unset(key)
        spark.conf.unset(key.removeprefix("spark.hadoop."))


@pytest.mark.spark
def test_no_secret_is_in_anything_that_a_run_leaves(
    planted: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Tables, page, exports with manifests and cards, lineage, and all that was printed."""
    pytest.importorskip("openlineage.client")
    place, path = tmp_path / "run", tmp_path / "config.yaml"
    (place / "book").mkdir(parents=True)
    words = [f"word{i * i % 37}" for i in range(200)]
    texts = ({"text": " ".join([f"n{n}", *words[n:], *words[:n]])} for n in range(8))
    (place / "book" / "a.jsonl").write_text("\n".join(map(json.dumps, texts)))
    for name, value in {
        "TYPE": "file",
        "LOG_FILE_PATH": f"{place}/events",
        "APPEND": "true",
    }.items():
        monkeypatch.setenv(f"OPENLINEAGE__TRANSPORT__{name}", value)
    settings = {
        "tables": {"root": f"{place}/tables", "connector": "delta-rs"},
        "sources": {"book": [{"path": f"{place}/book", "license": "CC-shown-1.0"}]},
        "tokenizer": "words",
        "dedup": {"enabled": False},
        "window": {"length": 64},
        "score": {"scorer": "random"},
        "select": {"fraction": 0.5},
        "export": {
            "parquet": {"path": f"{place}/parquet"},
            "jsonl": {"path": f"{place}/jsonl", "compression": "none"},
        },
        "report": {"path": f"{place}/report.html"},
        "spark": {"conf": planted},
    }
    run_jobs(config_module.validate(settings), list(JOBS))
    path.write_text(yaml.safe_dump(settings))
    commands = (["config"], ["check"], ["status"], ["status", "--json"], ["status", "--check"])
    printed = [longattn(*command, "--config", str(path))[1] for command in commands]
    printed += capfd.readouterr()
    assert [text for text in printed if PLANT in text] == []
    assert holding(place, PLANT) == set()
    shown = {file.relative_to(place).parts[0] for file in holding(place, "CC-shown-1.0")}
    assert shown == {"tables", "parquet", "jsonl", "report.html"}  # it would have been found
    assert any("events" in file.name for file in place.iterdir())


def holding(place: Path, word: str) -> set[Path]:
    """Files with a word in their bytes, or in the rows of Parquet."""
    files = {file for file in place.rglob("*") if file.is_file()}
    held = {file for file in files if word.encode() in file.read_bytes()}
    tables = (file for file in files - held if file.suffix == ".parquet")
    return held | {f for f in tables if word in str(pq.ParquetFile(f).read().to_pylist())}


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    found: dict[str, Any] = value
    return found
