"""Where data lies: paths and schemes."""

import os
from urllib.parse import unquote_to_bytes


def local_path(uri: str) -> str | None:
    """The path by which Python can open a uri; None where only Spark can.

    >>> local_path("file:/data/a.jsonl"), local_path("dbfs:/Volumes/c/s/v/a.jsonl")
    ('/data/a.jsonl', '/Volumes/c/s/v/a.jsonl')
    >>> local_path("s3a://bucket/a.jsonl")
    """
    scheme, colon, rest = uri.partition(":")
    if not colon or "/" in scheme:
        return uri
    path = "/" + rest.lstrip("/")
    if scheme == "file" or (scheme == "dbfs" and path.startswith("/Volumes/")):
        return path
    return None


def file_uri(path: bytes) -> str:
    """A path as a uri; bytes that are not UTF-8 become %XX, as tables hold nothing but text.

    >>> file_uri(b"/data/100%.txt"), file_uri(b"/data/b\\xfc 100%.txt")
    ('file:/data/100%.txt', 'file:/data/b%FC 100%25.txt')
    """
    text = path.decode(errors="surrogateescape")
    if any("\udc80" <= letter <= "\udcff" for letter in text):
        escaped = (f"%{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c for c in text)
        text = "".join("%25" if c == "%" else c for c in escaped)
    return f"file:{text}"


def file_name(uri: str) -> bytes | None:
    """What the system knows a file by, whatever the locale; None where only Spark can open it.

    A uri of `file_uri` whose path is not there as it stands has its %XX taken for bytes.
    """
    path = local_path(uri)
    if path is None:
        return None
    literal = path.encode(errors="surrogateescape")
    if b"%" not in literal or os.path.lexists(literal):
        return literal
    return unquote_to_bytes(literal)
