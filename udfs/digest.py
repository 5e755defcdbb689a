"""What names things by their content: SHA-256, in hex digits, of which a name takes the first few.

Names of two versions of this package must agree, or work that was done is done again.
"""

import hashlib
import json
from typing import Any


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
