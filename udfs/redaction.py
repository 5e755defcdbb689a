"""What must not be written down: secrets, recognised by their names and their form."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
# Words of a name, split at . - _ and capitals: `fs.s3a.access.key`, `keyStorePassword`.
SECRET_WORDS = frozenset(
    [
        *("secret", "secrets", "password", "passwd", "passphrase", "pwd", "token", "credential"),
        *("credentials", "key", "apikey", "sas", "signature", "sig"),
    ]
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_NAME = (
    r"(?:secret|password|passwd|passphrase|pwd|credentials?|token|signature|sig"
    r"|(?:access|account|api|private|shared)[._-]?key)(?![A-Za-z])"
)
_VALUE = r"[^\s&;,'\"]+?(?=:?(?:[\s&;,'\"]|$))"
_ASSIGNED = re.compile(rf"(?i)((?<![A-Za-z]){_NAME}[\w.-]*|\w[\w.-]*{_NAME}[\w.-]*)={_VALUE}")
_USER_INFO = re.compile(r"(?<=://)[^\s/@:'\"]*:[^\s/'\"]*(?=@)")
_SIGNED = re.compile(r"(?i)[?&](?:sig|x-amz-signature)=")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")


def redacted(value: Any, name: str = "") -> Any:
    """The same settings, lists and texts with secrets hidden; numbers and None stay.

    >>> redacted({"fs.s3a.secret.key": "abc", "min_tokens": 5, "jars": "https://me:pw@host/x"})
    {'fs.s3a.secret.key': '***', 'min_tokens': 5, 'jars': 'https://***@host/x'}
    """
    if isinstance(value, Mapping):
        return {key: redacted(child, _below(name, str(key))) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(child, name) for child in value]
    if value is None or isinstance(value, bool):
        return value
    if is_secret(name):
        return HIDDEN
    return redacted_text(value) if isinstance(value, str) else value


def redacted_text(text: str) -> str:
    """A text without what looks like a secret: user:password@ and sig=... in URIs, password=...

    >>> redacted_text("abfss://c@me.net/x?sv=1&sig=aB%3D: 403 for s3a://id:pw@bucket/key=1")
    'abfss://c@me.net/x?sv=1&sig=***: 403 for s3a://***@bucket/key=1'
    """
    text = _USER_INFO.sub(HIDDEN, text)
    text = _ASSIGNED.sub(rf"\1={HIDDEN}", text)
    return _BEARER.sub(rf"\1 {HIDDEN}", text)


def is_secret(name: str) -> bool:
    """Whether a setting of this name holds a secret.

    >>> [is_secret(n) for n in ("spark.ssl.keyPassword", "hf_token", "tokenizer", "select.tokens")]
    [True, True, False, False]
    """
    return any(word.lower() in SECRET_WORDS for word in _WORD.findall(name))


def has_credentials(uri: str) -> bool:
    """Whether a URI carries user:password@ or a signature.

    >>> has_credentials("abfss://container@account/x"), has_credentials("s3a://id:secret@bucket")
    (False, True)
    """
    return bool(_USER_INFO.search(uri) or _SIGNED.search(uri))


def _below(name: str, key: str) -> str:
    """A secret's parts are secret; else a setting is known by its own name."""
    return f"{name}.{key}" if is_secret(name) else key
