"""Where data lies: folders and schemes. One path means one place, whoever opens it: Spark,
deltalake or pyarrow.
"""

import os
import posixpath
import re
from contextlib import suppress
from urllib.parse import quote, unquote, unquote_to_bytes

import pyarrow as pa
import pyarrow.fs as pafs

from longattn.udfs.errors import StorageError, first_line
from longattn.udfs.stores import SAME_SCHEME, Settings, known_settings, store_of

VARIABLE = re.compile(r"\$\{([^}]*)\}")


def local_path(uri: str) -> str | None:
    """The path by which Python can open a uri; None where only Spark, or an object store, can.

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


def expanded(path: str) -> str:
    """A path as a person writes it: `~` is the home folder, `${VAR}` what the environment says.

    A slash at the end says nothing. Raises KeyError with the name of a variable that is not set, or
    is empty.

    >>> expanded("s3://bucket/lake/"), expanded("/")
    ('s3://bucket/lake', '/')
    """
    whole = VARIABLE.sub(lambda named: _value_of(named[1]), path)
    home = os.path.expanduser(whole) if whole.startswith("~") else whole
    return home.rstrip("/") or "/"


def _value_of(variable: str) -> str:
    if value := os.environ.get(variable):
        return value
    raise KeyError(variable)


def resolved(uri: str) -> str:
    """The one name of a place, to compare it by: links, `..` and schemes that mean the same.

    >>> resolved("s3://lake/a/../b/"), resolved("abfs://c@a/x"), resolved("file:///a//b")
    ('s3a://lake/b', 'abfss://c@a/x', '/a/b')
    """
    local = local_path(uri)
    if local is not None:
        return os.path.realpath(local)
    scheme, _, rest = uri.partition(":")
    room, _, path = rest[2:].partition("/") if rest.startswith("//") else ("", "", rest)
    whole = posixpath.normpath("/" + path.lstrip("/")).rstrip("/")
    return f"{SAME_SCHEME.get(scheme, scheme)}://{room}{whole}"


def open_fs(uri: str, settings: Settings | None = None) -> tuple[pafs.FileSystem, str]:
    """The file system of a folder or a URI, and the path in it.

    Raises StorageError for what pyarrow cannot open, such as dbfs:/ outside of Volumes.
    """
    path = local_path(uri)
    if path is not None:
        return pafs.LocalFileSystem(), os.path.abspath(path)
    if store := store_of(uri):
        return store.open(uri, known_settings() if settings is None else settings)
    try:
        system, root = pafs.FileSystem.from_uri(quote(uri, safe=":/@%?=&+~"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StorageError(f"{uri}: only Spark can open it ({first_line(error)})") from None
    return system, unquote(root)


def refuse_unreachable(uri: str) -> None:
    """Raise StorageError, in one line, for a bucket that is not there or not open to us."""
    store = store_of(uri)
    if store is None:
        return
    system, root = open_fs(uri)
    room = root.partition("/")[0]
    try:
        kinds = [system.get_file_info(path).type for path in (root, room)]
    except OSError as error:
        raise StorageError(f"{uri}: {first_line(error)}") from None
    if all(kind == pafs.FileType.NotFound for kind in kinds):
        raise StorageError(f"{uri}: there is no {store.room} {room}")


def delete(uri: str) -> None:
    """Delete a folder or a file; nothing where there is none."""
    system, root = open_fs(uri)
    kind = system.get_file_info(root).type
    if kind == pafs.FileType.Directory:
        with suppress(FileNotFoundError):  # another run has deleted it in this moment
            system.delete_dir(root)
    elif kind == pafs.FileType.File:
        system.delete_file(root)


def write_text(uri: str, text: str) -> int:
    """Write a file in one go, so that no reader sees half of it; returns its bytes."""
    system, root = open_fs(uri)
    data = text.encode()
    on_disk = isinstance(system, pafs.LocalFileSystem)
    part = f"{root}.part" if on_disk else root  # an object is there when it is whole
    if on_disk:
        system.create_dir(os.path.dirname(root))
    with system.open_output_stream(part, compression=None) as stream:
        stream.write(data)
    if on_disk:
        os.replace(part, root)
    return len(data)
