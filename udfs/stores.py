"""Object stores: the settings that each needs, given once for Spark, deltalake and pyarrow alike.

Settings have the names of the environment, AWS_* and AZURE_*: what Spark's settings say of the same
is put over them, and all of it is put into Spark's.
"""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pyarrow.fs as pafs

Settings = Mapping[str, str]  # an environment variable's name -> its value
SAME_SCHEME = {"s3": "s3a", "s3n": "s3a", "abfs": "abfss"}  # of those that mean one place


class Store(ABC):
    """An object store, known by the schemes of its URIs."""

    scheme: re.Pattern[str]
    room: str  # its word for what holds the objects

    @abstractmethod
    def settings(self, conf: Settings, environ: Settings) -> dict[str, str]:
        """What the environment knows of it, and Spark's settings over that."""

    @abstractmethod
    def hadoop_conf(self, settings: Settings) -> dict[str, str]:
        """The same for Spark, with what a server of one's own needs."""

    @abstractmethod
    def open(self, uri: str, settings: Settings) -> tuple[pafs.FileSystem, str]:
        """pyarrow's file system of a URI, and the path in it, which begins with the room."""


class S3(Store):
    """S3, or any server that speaks it."""

    scheme = re.compile("^s3[an]?://")
    room = "bucket"
    prefix = "spark.hadoop.fs.s3a."
    names: ClassVar = {
        "access.key": "AWS_ACCESS_KEY_ID",
        "secret.key": "AWS_SECRET_ACCESS_KEY",
        "session.token": "AWS_SESSION_TOKEN",
        "endpoint": "AWS_ENDPOINT_URL",
        "endpoint.region": "AWS_REGION",
    }

    def settings(self, conf: Settings, environ: Settings) -> dict[str, str]:
        """
        >>> S3().settings({"spark.hadoop.fs.s3a.access.key": "me"}, {"AWS_REGION": "eu-west-1"})
        {'AWS_REGION': 'eu-west-1', 'AWS_ACCESS_KEY_ID': 'me'}
        """
        settings = {name: environ[name] for name in self.names.values() if environ.get(name)}
        if "AWS_REGION" not in settings and environ.get("AWS_DEFAULT_REGION"):
            settings["AWS_REGION"] = environ["AWS_DEFAULT_REGION"]
        for key, name in self.names.items():
            if value := conf.get(f"{self.prefix}{key}"):
                settings[name] = value
        if endpoint := settings.get("AWS_ENDPOINT_URL"):
            scheme = "" if "://" in endpoint else "https://"
            settings["AWS_ENDPOINT_URL"] = f"{scheme}{endpoint}"
            if endpoint.startswith("http://"):
                settings["AWS_ALLOW_HTTP"] = "true"  # deltalake's word; the others go by the URL
        return settings

    def hadoop_conf(self, settings: Settings) -> dict[str, str]:
        known = {key: name for key, name in self.names.items() if name in settings}
        conf = {f"{self.prefix}{key}": settings[name] for key, name in known.items()}
        if "AWS_ENDPOINT_URL" in settings:
            conf[f"{self.prefix}path.style.access"] = "true"
        return conf

    def open(self, uri: str, settings: Settings) -> tuple[pafs.FileSystem, str]:
        options: dict[str, Any] = {
            "access_key": settings.get("AWS_ACCESS_KEY_ID"),
            "secret_key": settings.get("AWS_SECRET_ACCESS_KEY"),
            "session_token": settings.get("AWS_SESSION_TOKEN"),
            "region": settings.get("AWS_REGION"),
            "endpoint_override": settings.get("AWS_ENDPOINT_URL"),
        }
        system = pafs.S3FileSystem(**{name: value for name, value in options.items() if value})
        return system, self.scheme.sub("", uri)


class Azure(Store):
    """Azure's blobs and data lakes: abfss://container@account.dfs.core.windows.net/path."""

    scheme = re.compile("^abfss?://")
    room = "container"
    prefix = "spark.hadoop.fs.azure."
    key = re.compile(r"^spark\.hadoop\.fs\.azure\.account\.key\.([^.]+)\.dfs\.core\.windows\.net$")
    names = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ENDPOINT")

    def settings(self, conf: Settings, environ: Settings) -> dict[str, str]:
        """
        >>> Azure().settings({"spark.hadoop.fs.azure.account.key.me.dfs.core.windows.net": "k"}, {})
        {'AZURE_STORAGE_ACCOUNT_NAME': 'me', 'AZURE_STORAGE_ACCOUNT_KEY': 'k'}
        """
        settings = {name: environ[name] for name in self.names if environ.get(name)}
        for name, value in conf.items():
            if key := self.key.match(name):
                settings |= dict(zip(self.names, (key[1], value), strict=False))
        if settings.get("AZURE_STORAGE_ENDPOINT", "").startswith("http://"):
            settings["AZURE_ALLOW_HTTP"] = "true"
        return settings

    def hadoop_conf(self, settings: Settings) -> dict[str, str]:
        account, key, endpoint = map(settings.get, self.names)
        conf = {}
        if account and key:
            conf[f"{self.prefix}account.key.{account}.dfs.core.windows.net"] = key
        if "AZURE_ALLOW_HTTP" in settings:
            conf |= self._emulator(urlsplit(endpoint or "").netloc)
        return conf

    def _emulator(self, host: str) -> dict[str, str]:
        """For Azurite, which speaks HTTP, and of Azure's two languages that of blobs only."""
        conf = {
            "abfs.endpoint": host,
            "always.use.https": "false",
            "account.hns.enabled": "false",
            "fns.account.service.type": "BLOB",
            "networking.library": "JDK_HTTP_URL_CONNECTION",  # Apache's refuses to speak HTTP here
        }
        return {f"{self.prefix}{name}": value for name, value in conf.items()}

    def open(self, uri: str, settings: Settings) -> tuple[pafs.FileSystem, str]:
        place = urlsplit(uri)
        key, endpoint = (settings.get(name) for name in self.names[1:])
        options = {"account_key": key} if key else {}
        if endpoint:
            scheme, host, *_ = urlsplit(endpoint)
            options |= {f"{api}_storage_authority": host for api in ("blob", "dfs")}
            options |= {f"{api}_storage_scheme": scheme for api in ("blob", "dfs")}
        account = (place.hostname or "").partition(".")[0]
        system = pafs.AzureFileSystem(account_name=account, **options)
        container = place.netloc.rpartition("@")[0]
        return system, f"{container}/{uri.split('/', 3)[3] if uri.count('/') > 2 else ''}"


STORES: tuple[Store, ...] = (S3(), Azure())


def store_of(uri: str) -> Store | None:
    """The object store that a URI's scheme stands for; None for folders and unknown schemes."""
    return next((store for store in STORES if store.scheme.match(uri)), None)


def known_settings(conf: Settings | None = None, environ: Settings | None = None) -> dict[str, str]:
    """All stores' settings: the environment's variables, which Spark's settings override."""
    given = os.environ if environ is None else environ
    return {k: v for store in STORES for k, v in store.settings(conf or {}, given).items()}


def hadoop_conf(settings: Settings) -> dict[str, str]:
    """Spark's settings for all stores."""
    return {k: v for store in STORES for k, v in store.hadoop_conf(settings).items()}


def delta_options(uri: str) -> dict[str, str] | None:
    """storage_options of the deltalake package; None for a folder."""
    store = store_of(uri)
    return store.settings({}, os.environ) if store else None
