"""What names things by their content: SHA-256, in hex digits, of which a name takes the first few.

Names of two versions of this package must agree, or work that was done is done again.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")


def hex_digest(*parts: str | bytes) -> str:
    """SHA-256 of the parts, one after the other, as 64 hex digits; text counts as its UTF-8.

    >>> hex_digest("ab", b"c") == hex_digest("abc")
    True
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


def json_digest(value: Any) -> str:
    """The digest of plain values, whatever the order of their keys.

    >>> json_digest({"a": 1, "b": [2]}) == json_digest({"b": [2], "a": 1})
    True
    """
    return hex_digest(json.dumps(value, sort_keys=True))


def fields_digest(**fields: Any) -> str:
    """The digest of fields by name; one that is None, False or empty is as if it were not named.

    So a setting that is new changes no digest where it is not set.

    >>> fields_digest(a=1, b=None, c=[]) == fields_digest(a=1) != fields_digest(a=0)
    True
    """
    return json_digest({name: value for name, value in fields.items() if is_set(value)})


def is_set(value: Any) -> bool:
    """Whether a value counts in an identity: not None, False or empty; a number does, 0 too."""
    return bool(value) or (isinstance(value, int | float) and value is not False)


def while_unchanged(
    paths_of: Callable[Given, Iterable[str]],
) -> Callable[[Callable[Given, Result]], Callable[Given, Result]]:
    """Decorate a function so that it is asked again only when the files that it reads change.

    `paths_of` gives their paths, or their folders', from the function's arguments. A notebook, a
    kept session and a worker that Spark uses again outlive the files that they have read.
    """

    def decorate(function: Callable[Given, Result]) -> Callable[Given, Result]:
        kept: dict[Any, tuple[Any, Result]] = {}

        @functools.wraps(function)
        def cached(*args: Given.args, **kwargs: Given.kwargs) -> Result:
            key = (args, *kwargs.items())
            now = [_state(path) for path in paths_of(*args, **kwargs)]
            if key not in kept or kept[key][0] != now:
                kept[key] = now, function(*args, **kwargs)
            return kept[key][1]

        return cached

    return decorate


def _state(path: str) -> list[tuple[str, int, int, int]]:
    """Name, size, time and inode of a file, or of each file of a folder; none elsewhere."""
    found = [path] if os.path.isfile(path) else []
    if os.path.isdir(path):
        found = [os.path.join(path, name) for name in sorted(os.listdir(path))]
    states = []
    for file in found:
        with suppress(FileNotFoundError):  # a folder is being replaced
            of = os.stat(file)
            states.append((file, of.st_size, of.st_mtime_ns, of.st_ino))
    return states
