"""Where tables live, told from their root alone: a folder, a URI or catalog.schema."""

import re


def location(root: str, table: str) -> str:
    """Where a table lives: root/table for paths, root.table for catalog names."""
    if is_catalog_name(root):
        return ".".join(_quoted(part) for part in [*root.split("."), table])
    return f"{root.rstrip('/')}/{table}"


def is_catalog_name(root: str) -> bool:
    """True for `catalog.schema`: two names of letters, digits, - and _ with a dot between."""
    return re.fullmatch(r"[\w-]*\w\.[\w-]+", root) is not None


def _quoted(name: str) -> str:
    return name if name.isidentifier() else f"`{name}`"
