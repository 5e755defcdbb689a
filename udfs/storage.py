"""Where data lies: paths and schemes."""


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
