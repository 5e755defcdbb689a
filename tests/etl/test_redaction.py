"""Secrets in settings and URIs are in nothing that is written or printed."""

import json
from typing import Any

import pytest

from longattn.etl import config as config_module
from longattn.etl.config import Config
from longattn.etl.run.reasons import one_line
from longattn.udfs.errors import ConfigError
from longattn.udfs.redaction import redacted
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
    "spark.hadoop.any.url": f"https://me:{PLANT}@host/x?a=1&sig={PLANT}&b=2",
    "spark.hadoop.any.options": f"-Dtrust.password={PLANT} -Dx=1 Authorization: Bearer {PLANT}1234",
}
URIS = [
    f"s3a://id:{PLANT}@bucket/x",
    f"hdfs://me:{PLANT}@host:8020/x",
    f"wasbs://c@me.blob.core.windows.net/x?sv=1&sig={PLANT}",
    f"https://host/x?X-Amz-Signature={PLANT}",
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


def test_the_default_settings_hold_no_secret_and_options_may() -> None:
    default = Config().model_dump(mode="json")
    assert redacted(default) == default
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


def test_a_variable_in_a_path_is_expanded_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "/data/here")
    monkeypatch.delenv("NOWHERE", raising=False)
    settings = {"tables": {"root": "${PLACE}/t"}, "sources": {"d": [{"path": "a/${PLACE}$b"}]}}
    config = config_module.validate(settings)
    assert config.tables.root == "/data/here/t" and config.sources["d"][0].path == [
        "a//data/here$b"
    ]
    with pytest.raises(ConfigError, match=r"export\.jsonl\.path: .*NOWHERE is not set"):
        config_module.validate(nested("export.jsonl.path", "${NOWHERE}/x"))


@pytest.mark.parametrize("value", [*CONF.values(), *URIS])
def test_messages_hide_what_looks_like_a_secret(value: str) -> None:
    if value != PLANT:  # a secret without its name looks like any word
        assert PLANT not in one_line(OSError(f"cannot open {value}: 403"))
    code, out = longattn("config", "--set", f"window.lenght={value}", "--config", "x.yaml")
    assert code == 2 and (PLANT not in out or value == PLANT)


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    found: dict[str, Any] = value
    return found
