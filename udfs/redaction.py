"""What must not be written down: secrets, recognised by their names and their form."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
# Anywhere in a name, as in Spark's own rule, which has secret, password, token and access.key.
# Tokens that are counted, tokenizers and classes that provide credentials are no secrets.
_PARTS = re.compile(
    r"(?i)secret|passw(?:or)?d|passphrase|token(?!s(?![a-z])|_ids|i[sz])"
    r"|credential(?!s?[._-]?provider)|access[._-]?key"
    r"|(?:account|api|client|encryption|private|shared|storage)[._-]?keys?(?![a-z])"
)
# Words of a name, split at . - _ and capitals: anywhere, and as the last one.
_WORDS = frozenset(["sas", "sig", "signature", "jwt", "pwd"])
_LAST = frozenset(["auth", "authorization", "pass"])
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")

# A port is no password; a bucket has none, and secrets of AWS have slashes.
_PORT = r"(?![^\s/@:'\"]*:\d{1,5}[/,])"
_USER_INFO = re.compile(
    rf"(?:(?<=s3://)|(?<=s3[an]://)|(?<=://){_PORT})[^\s/@:'\"]*:(?:(?!://)[^\s'\"])*(?=@)"
)
_SCHEME = r"(?:[Bb]asic|[Bb]earer|[Dd]igest|[Tt]oken)\s"
# Sentences: a store's `ExpiredToken: The token has ...`, and pydantic's `key: input should ...`.
_ERROR = rf"(?!(?:\w+\.)*[A-Z]\w*:\s+(?!{_SCHEME})[A-Z][A-Za-z]* [A-Za-z])"
_ASSIGNED = re.compile(rf"(?<![\w.-]){_ERROR}([\w.-]+)[\\\"']*\s*(?:=|:(?!\s*input should))\s*")
_VALUE = re.compile(
    rf"(?s)(\\?[\"'])(?:\\.|.)*?(?:\1|\Z)|(?:{_SCHEME}\s*)?[^\s&;,'\"]+?(?=:?(?:[\s&;,'\"]|$))"
)
_BEARER = re.compile(r"(?i)\b(bearer)\s+(?=[a-z.~+=_-]*\d)[\w.~+/=-]{8,}")


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
    """A text without what looks like a secret: user:password@ and sig=... in URIs, password: ...

    >>> redacted_text("abfss://c@me.net/x?sv=1&sig=aB%3D: 403 for s3a://id:p/w@bucket/key=1")
    'abfss://c@me.net/x?sv=1&sig=***: 403 for s3a://***@bucket/key=1'
    """
    return _BEARER.sub(rf"\1 {HIDDEN}", _without_assigned(_USER_INFO.sub(HIDDEN, text)))


def is_secret(name: str) -> bool:
    """Whether a setting of this name holds a secret.

    >>> [is_secret(n) for n in ("spark.ssl.keyPassword", "hftoken", "tokenizer", "select.tokens")]
    [True, True, False, False]
    """
    return _is_named(name) or _words(name)[-1:] == ["key"]


def holds_secret(text: str) -> bool:
    """Whether `redacted_text` would hide something of a text.

    >>> holds_secret("abfss://container@account/x"), holds_secret("s3a://id:secret@bucket")
    (False, True)
    """
    return redacted_text(text) != text


def _is_named(name: str) -> bool:
    """Whether a name in any text is a secret's; there a last word `key` says too little."""
    words = _words(name)
    return bool(_PARTS.search(name) or _WORDS & {*words} or _LAST & {*words[-1:]})


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _without_assigned(text: str) -> str:
    """A text without the values of secrets that it names: `password=...`, `"token": "..."`."""
    parts, done = [], 0
    for found in _ASSIGNED.finditer(text):
        in_a_path = text[: found.start()].endswith("/")  # as /token=en/, which Hive writes
        secret = found.start() >= done and not in_a_path and _is_named(found[1])
        if secret and (value := _VALUE.match(text, found.end())):
            quote = value[1] or ""
            parts += [text[done : found.end()], quote, HIDDEN, quote]
            done = value.end()
    return "".join(parts) + text[done:]


def _below(name: str, key: str) -> str:
    """A secret's parts are secret; else a setting is known by its own name."""
    return f"{name}.{key}" if is_secret(name) else key
